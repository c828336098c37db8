"""What the operator's monitoring reads of a night: a file in Prometheus text format, replaced whole."""

import math
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from riskpred.errors import OutputError

STATUSES: Final = ("published", "refused", "failed")

_LAST_SUCCESS: Final = "riskpred_night_last_success_timestamp_seconds"

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class NightFigures:
    """One night, however it ended. Times are seconds since 1970 UTC; what is not known is left out.

    scores: name of the scores file; a label of every sample, so that several nights may share a monitoring folder.
    status: published, refused (by the gate) or failed.   exit_code: of the verb.   finished: when it ended.
    as_of: prediction_time.   info: run_id, bundle and the like, as labels of one sample.
    pairs: outcome -> status -> pairs.   subjects: computed, carried -> subjects.   rejects: reason -> rows.
    seconds: stage -> seconds.   drift_flags, scope_flags: flag -> how many features or pairs have it.
    """

    scores: str
    status: str
    exit_code: int
    finished: float
    as_of: float | None = None
    total_seconds: float | None = None
    risk_rows: int | None = None
    info: Mapping[str, str] = field(default_factory=dict)
    pairs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    subjects: Mapping[str, int] = field(default_factory=dict)
    rejects: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    drift_flags: Mapping[str, int] = field(default_factory=dict)
    scope_flags: Mapping[str, int] = field(default_factory=dict)


def refuse_metrics_place(path: Path) -> None:
    """Check, before the night, that the file can be put there. Raises: OutputError."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"{path}: the metrics file cannot be written.",
            wanted="a file in a folder that exists and is writable (night.yaml, logs.metrics_file)",
            got="a folder" if path.is_dir() else f"{path.parent}, which is no writable folder",
            do="make the folder, correct its permissions, or leave metrics_file out",
        )


def write_metrics(path: Path, figures: NightFigures) -> None:
    """Replace the file by tonight's figures, in one rename, readable by everyone.

    After a night that was not published the time of the last success is that of the file before.
    Raises: OutputError, when it cannot be written; the old file stays.
    """
    assert figures.status in STATUSES, "published, refused or failed"
    succeeded = figures.finished if figures.status == "published" else last_success(path)
    text = render(figures, succeeded)
    try:
        # A name that the collector does not read, in the same folder so that the rename is one.
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with open(handle, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(
            f"{path}: the metrics file cannot be written ({error.strerror or type(error).__name__}).",
            do="make room, correct its permissions, or leave metrics_file out of night.yaml",
        ) from None


def last_success(path: Path) -> float | None:
    """When a night was last published, from the file of an earlier night; None where none says so."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^{_LAST_SUCCESS}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    try:
        value = float(found[1]) if found else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def render(figures: NightFigures, succeeded: float | None) -> str:
    """The file's text.

    Source: Prometheus, "Exposition formats", text-based format 0.0.4.
    """
    pairs: dict[Labels, float] = {
        (("outcome", outcome), ("status", status)): count
        for outcome, by_status in figures.pairs.items()
        for status, count in by_status.items()
    }
    info: dict[Labels, float] = {tuple(figures.info.items()): 1} if figures.info else {}
    metrics: list[tuple[str, str, Mapping[Labels, float]]] = [
        ("riskpred_night_info", "What the last night was made with; always 1.", info),
        (
            "riskpred_night_status",
            "1 for how the last night ended: published, refused by a gate, or failed.",
            {(("status", status),): int(status == figures.status) for status in STATUSES},
        ),
        ("riskpred_night_exit_code", "Exit code of the last night; 0 = done.", _one(figures.exit_code)),
        ("riskpred_night_end_timestamp_seconds", "When the last night ended.", _one(figures.finished)),
        (_LAST_SUCCESS, "When a night was last published.", _one(succeeded)),
        ("riskpred_night_as_of_timestamp_seconds", "prediction_time of the last night.", _one(figures.as_of)),
        ("riskpred_night_total_duration_seconds", "Wall time of the last night.", _one(figures.total_seconds)),
        (
            "riskpred_night_duration_seconds",
            "Time of the last night by stage, added up over processes.",
            _by("stage", figures.seconds),
        ),
        ("riskpred_night_subjects", "Subjects of the last night, computed or carried.", _by("state", figures.subjects)),
        ("riskpred_night_pairs", "Pairs of subject and outcome of the last night, by what became of them.", pairs),
        ("riskpred_night_risk_rows", "Rows of risk_scores of the last night.", _one(figures.risk_rows)),
        ("riskpred_night_rejects", "Inputs refused in the last night, by reason.", _by("reason", figures.rejects)),
        ("riskpred_night_drift_flags", "Features and scores that drifted, by flag.", _by("flag", figures.drift_flags)),
        ("riskpred_night_scope_flags", "Pairs with a risk, by scope flag.", _by("flag", figures.scope_flags)),
    ]
    lines: list[str] = []
    for name, meaning, samples in metrics:
        if not samples:
            continue
        lines += [f"# HELP {name} {_escaped(meaning, quotes=False)}", f"# TYPE {name} gauge"]
        for labels, value in sorted(samples.items()):
            written = ",".join(
                f'{label}="{_escaped(text, quotes=True)}"' for label, text in (("scores", figures.scores), *labels)
            )
            lines.append(f"{name}{{{written}}} {_number(value)}")
    return "\n".join(lines) + "\n"


def _one(value: float | None) -> dict[Labels, float]:
    return {} if value is None else {(): value}


def _by(label: str, counts: Mapping[str, float]) -> dict[Labels, float]:
    return {((label, name),): count for name, count in counts.items()}


def _escaped(text: str, *, quotes: bool) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(value) if isinstance(value, int) else repr(float(value))
