"""The metrics file: valid by the published grammar, swapped in whole, and faithful to the last success."""

import os
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from riskpred.errors import OutputError
from riskpred.score.metrics_file import NightFigures, last_success, refuse_metrics_place, render, write_metrics

AWKWARD = 'a "quoted" \\ name\nof two lines {x="1"}'

FIGURES = NightFigures(
    scores="scores.duckdb",
    status="published",
    exit_code=0,
    finished=1_800_000_000.5,
    as_of=1_799_971_200.0,
    total_seconds=12.25,
    risk_rows=310,
    info={"run_id": "0123", "bundle": AWKWARD, "numeric_path": "fp32"},
    pairs={"cardio": {"scored": 60, "carried": 0}, AWKWARD: {"rejected": 1}},
    subjects={"computed": 62, "carried": 2},
    rejects={"not_a_number": 3},
    seconds={"model": 4.5, "verify and publish": 0.125},
    drift_flags={"watch": 2, "alarm": 0},
    scope_flags={"age_unknown": 5},
)

Sample = tuple[str, tuple[tuple[str, str], ...]]

_SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? "
    r"(?P<value>NaN|[+-]Inf|-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)"
)
_LABEL = re.compile(r'(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)="(?P<value>(?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def parse(text: str) -> dict[Sample, float]:
    """Strict reader of text format 0.0.4: HELP and TYPE once and first, samples of a metric together, none twice."""
    assert text.endswith("\n")
    assert "\n\n" not in text
    assert "\r" not in text
    found: dict[Sample, float] = {}
    current, done = None, set()
    lines = text.split("\n")[:-1]
    for number, line in enumerate(lines):
        if line.startswith("#"):
            kind, name, rest = re.fullmatch(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)", line).groups()  # type: ignore[union-attr]
            if kind == "HELP":
                assert name not in done, "a metric in two places"
                assert lines[number + 1].startswith(f"# TYPE {name} ")
                done.add(name)
                current = name
                assert not re.search(r"\\[^\\n]", rest)
            else:
                assert name == current
                assert rest in ("gauge", "counter", "untyped")
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, f"line {number + 1} is no sample"
        assert match["name"] == current, "a sample outside its metric"
        labels, at = [], 0
        while match["labels"] and at < len(match["labels"]):
            label = _LABEL.match(match["labels"], at)
            assert label, f"line {number + 1}: no label at {at}"
            value = re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), label["value"])
            labels.append((label["name"], value))
            at = label.end()
        assert len({name for name, _ in labels}) == len(labels), "a label twice"
        key = match["name"], tuple(sorted(labels))
        assert key not in found, "a sample twice"
        found[key] = float(match["value"].replace("Inf", "inf"))
    return found


def value(samples: dict[Sample, float], name: str, **labels: str) -> float:
    return samples[name, tuple(sorted({"scores": "scores.duckdb", **labels}.items()))]


def test_every_figure_can_be_read_back() -> None:
    samples = parse(render(FIGURES, FIGURES.finished))
    assert value(samples, "riskpred_night_info", run_id="0123", bundle=AWKWARD, numeric_path="fp32") == 1
    assert value(samples, "riskpred_night_status", status="published") == 1
    assert value(samples, "riskpred_night_status", status="failed") == 0
    assert value(samples, "riskpred_night_last_success_timestamp_seconds") == 1_800_000_000.5
    assert value(samples, "riskpred_night_pairs", outcome="cardio", status="scored") == 60
    assert value(samples, "riskpred_night_pairs", outcome=AWKWARD, status="rejected") == 1
    assert value(samples, "riskpred_night_subjects", state="carried") == 2
    assert value(samples, "riskpred_night_rejects", reason="not_a_number") == 3
    assert value(samples, "riskpred_night_duration_seconds", stage="verify and publish") == 0.125
    assert value(samples, "riskpred_night_drift_flags", flag="alarm") == 0
    assert value(samples, "riskpred_night_exit_code") == 0
    assert value(samples, "riskpred_night_risk_rows") == 310
    assert len(samples) == 21


def test_a_failed_night_says_so_and_keeps_the_last_success(tmp_path: Path) -> None:
    path = tmp_path / "riskpred.prom"
    write_metrics(path, FIGURES)
    failed = NightFigures("scores.duckdb", "failed", 11, FIGURES.finished + 86_400)
    for _ in range(2):  # two bad nights in a row
        write_metrics(path, failed)
        samples = parse(path.read_text())
        assert value(samples, "riskpred_night_last_success_timestamp_seconds") == FIGURES.finished
        assert value(samples, "riskpred_night_status", status="failed") == 1
        assert value(samples, "riskpred_night_exit_code") == 11
    write_metrics(path, replace(FIGURES, finished=FIGURES.finished + 172_800))
    assert last_success(path) == FIGURES.finished + 172_800


@pytest.mark.parametrize("before", [None, "", "nonsense", "riskpred_night_last_success_timestamp_seconds{} x\n"])
def test_without_an_earlier_success_there_is_none(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "riskpred.prom"
    if before is not None:
        path.write_text(before)
    write_metrics(path, replace(FIGURES, status="refused", exit_code=13))
    assert "last_success" not in path.read_text()
    parse(path.read_text())


def test_numbers_that_are_none_of_the_usual() -> None:
    strange = {"a": float("nan"), "b": float("inf"), "c": float("-inf"), "d": 1e-9, "e": 1e22}
    samples = parse(render(replace(FIGURES, seconds=strange), None))
    assert value(samples, "riskpred_night_duration_seconds", stage="b") == float("inf")
    assert value(samples, "riskpred_night_duration_seconds", stage="d") == 1e-9
    assert value(samples, "riskpred_night_duration_seconds", stage="e") == 1e22


def test_the_file_is_swapped_in_whole_and_readable_by_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "riskpred.prom"
    before = os.umask(0o077)
    try:
        write_metrics(path, FIGURES)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    first = path.read_bytes()

    def full(*_: object) -> None:
        assert [left.suffix for left in tmp_path.iterdir() if left != path] == [".tmp"]  # which no collector reads
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("riskpred.score.metrics_file.os.replace", full)
    with pytest.raises(OutputError, match="No space left") as caught:
        write_metrics(path, replace(FIGURES, exit_code=14))
    assert caught.value.exit_code == 15
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_refused_before_the_night(tmp_path: Path) -> None:
    refuse_metrics_place(tmp_path / "riskpred.prom")
    for path in (tmp_path, tmp_path / "absent" / "riskpred.prom"):
        with pytest.raises(OutputError, match="metrics file cannot be written"):
            refuse_metrics_place(path)
