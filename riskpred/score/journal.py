"""The night's log: JSON lines of counts, seconds and codes, written as they happen; nothing a patient's row said."""

import json
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import structlog

from riskpred.errors import OutputError, RiskpredError

EVENTS: Final[Mapping[str, frozenset[str]]] = {
    event: frozenset(f"{fields} {more}".split())
    for event, fields, more in (
        (
            "night_planned",
            "as_of numeric_path bundle_name bundle_version bundle_sha256 warehouse_digest promoted rescore",
            "subjects to_compute carried parts resumed engine workers took_over",
        ),
        ("part_done", "kind part parts subjects rejects", "seconds subjects_per_second"),
        ("gate", "gate passed limit", "rejected_share shifted_share subjects"),
        (
            "published",
            "subjects considered_pairs eligible_pairs scored_pairs carried_pairs rejected_pairs out_of_scope_pairs "
            "risk_rows content_digest pairs rejects scope_flags drift_flags",
            "computed carried explained flagged stages seconds exit_code",
        ),
        (
            "refused",
            "subjects considered_pairs eligible_pairs scored_pairs carried_pairs rejected_pairs out_of_scope_pairs",
            "gates rejects stages seconds exit_code",
        ),
        ("failed", "error exit_code", "stage stages seconds"),
        ("note", "code", "count"),
    )
}
"""event -> the fields it may have. Every value is a number, a truth value, a code, or a map of codes to these."""

# A code: an outcome, a reason, a stage, a digest, a time, a code of the site's dictionary. No sentence, no name.
_CODE: Final = re.compile(r"[A-Za-z0-9_.:/+*()\- ]{0,80}")
_FEW_WORDS: Final = 5


class Journal:
    """Appends one JSON object a line to a file, each flushed as it is written. A context manager.

    Only the process that made it writes: workers report to it. A field that EVENTS does not name, or a value that
    could be a sentence, is our bug and an assertion. When writing fails in the middle of a night (a full disk) the
    night goes on without its log, and `problem` says why.

    Args: path: the file; None = no log is wanted, and nothing is written.
    Raises: OutputError, when the file cannot be opened for appending.
    """

    def __init__(self, path: Path | None) -> None:
        self.problem: str | None = None
        self._path, self._pid, self._lock = path, os.getpid(), threading.Lock()
        self._file = None
        if path is None:
            return
        try:
            # Unbuffered: a line is in the file, or refused by the disk, before the night goes on.
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise OutputError(
                f"{path}: the log file cannot be written ({error.strerror or type(error).__name__}).",
                wanted="a file in a folder that exists and is writable (night.yaml, logs.log_file)",
                do="make the folder, correct its permissions, or leave log_file out",
            ) from None
        self._log: Any = structlog.wrap_logger(
            structlog.BytesLogger(self._file),
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
                structlog.processors.JSONRenderer(serializer=_line),
            ],
            wrapper_class=structlog.BoundLogger,
            context_class=dict,
            pid=self._pid,
        )

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def bind(self, run_id: str) -> None:
        """Every later line names this night."""
        _refuse_sentence("run_id", run_id)
        if self._file is not None:
            self._log = self._log.bind(run_id=run_id)

    def __call__(self, event: str, **fields: object) -> None:
        """Write one line.

        Args: event: of EVENTS.   fields: of that event; a map's keys are codes; None is left out.
        """
        assert event in EVENTS, f"{event}: not an event of the journal"
        unknown = set(fields) - EVENTS[event]
        assert not unknown, f"{event}: no such fields: {', '.join(sorted(unknown))}"
        given = {name: _plain(name, value) for name, value in fields.items() if value is not None}
        if self._file is None or self.problem is not None:
            return
        assert os.getpid() == self._pid, "only the process that made the journal writes to it"
        try:
            with self._lock:
                self._log.info(event, **given)
        except OSError as error:
            self.problem = f"{self._path}: the log ends early ({error.strerror or type(error).__name__})"

    def failed(self, error: BaseException, **fields: object) -> None:
        """Write `failed` with the class and the exit code of an error; never its text, which may hold row values."""
        code = error.exit_code if isinstance(error, RiskpredError) else None
        self("failed", error=type(error).__name__, exit_code=code, **fields)


def _line(fields: dict[str, Any], **_: object) -> bytes:
    return json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()


def ledger_fields(event: str, ledger: Mapping[str, object]) -> dict[str, object]:
    """What an event says of a row of `runs`: the columns that are among its fields."""
    return {name: value for name, value in ledger.items() if name in EVENTS[event]}


def _plain(name: str, value: object) -> object:
    if isinstance(value, Mapping):
        return {_refuse_sentence(name, str(key)): _plain(name, inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, frozenset, set)):
        return [_plain(name, inner) for inner in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return round(value, 6)
    return _refuse_sentence(name, str(value))


def _refuse_sentence(name: str, text: str) -> str:
    # The text itself is not repeated: it is what must not be shown.
    assert _CODE.fullmatch(text), f"{name}: not a code"
    assert len(text.split(" ")) <= _FEW_WORDS, f"{name}: a sentence, not a code"
    return text
