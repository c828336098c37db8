"""The quality gate: a night with too many rejects or shifts leaves yesterday's tables and one row that says refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from riskpred.errors import GateError
from riskpred.records.chunk import DAY_US
from riskpred.records.schema import tables

Night = Callable[..., Any]
Rows = Callable[..., list[tuple[Any, ...]]]

RUNS = "SELECT run_id, status FROM runs ORDER BY started_at"


def _others(rows: Rows, scores: Path) -> dict[str, list[tuple[Any, ...]]]:
    return {table: rows(scores, f"SELECT * FROM {table} ORDER BY ALL") for table in tables("scores") if table != "runs"}


def test_too_many_rejects_refuse_the_night_and_say_so(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, as_of_us: int
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    first = night(warehouse, into).ledger["run_id"]
    before, latest = _others(rows, into), rows(into, "SELECT * FROM latest_risk_scores ORDER BY ALL")
    strict = {"gates": {"max_rejected_share": 0.0}, "as_of": as_of_us + DAY_US}
    with pytest.raises(GateError, match=r"of \d+ eligible pairs got no risk \(\d\.\d%, allowed 0\.0%\)") as refused:
        night(warehouse, into, **strict)
    assert refused.value.exit_code == 13
    assert _others(rows, into) == before
    assert rows(into, "SELECT * FROM latest_risk_scores ORDER BY ALL") == latest
    (kept, said), (second, status) = rows(into, RUNS)
    assert (kept, said, status) == (first, "published", "refused")
    counts = rows(
        into, f"SELECT rejected_pairs > 0, scored_pairs + carried_pairs > 100 FROM runs WHERE run_id='{second}'"
    )
    assert counts == [(True, True)]
    # The same night with the gate open goes on from the finished parts and takes the place of the refused row.
    again = night(warehouse, into, as_of=as_of_us + DAY_US)
    assert again.resumed == again.computed
    assert rows(into, RUNS) == [(first, "published"), (second, "published")]


def test_a_first_night_that_is_refused_leaves_its_row_alone(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    with pytest.raises(GateError):
        night(warehouse, into, gates={"max_rejected_share": 0.0})
    assert [status for _, status in rows(into, RUNS)] == ["refused"]
    assert rows(into, "SELECT count(*) FROM risk_scores") == [(0,)]
    assert night(warehouse, into).ledger["status"] == "published"


def test_a_shift_of_many_risks_refuses_the_night(tmp_path: Path, small_hospital: Any, night: Night, rows: Rows) -> None:
    into = tmp_path / "scores.duckdb"
    night(small_hospital.write("w.duckdb"), into)
    # The laboratory began to send mg/dL: all of one test's values are 38.67 times as large.
    moved = [(s, t, code, v if code != "CHOL" else v * 38.67, x) for s, t, code, v, x in small_hospital.events]
    changed = small_hospital.write("changed.duckdb", events=moved)
    gates = {"shifted_by_points": 0.1}
    with pytest.raises(GateError, match=r"subjects scored on both nights moved by more than 0\.1 risk points"):
        night(changed, into, gates=gates)
    assert [status for _, status in rows(into, RUNS)] == ["published", "refused"]
    assert night(changed, into, gates=gates | {"max_shifted_share": 1.0}).ledger["status"] == "published"


def test_another_bundle_may_shift_everything(tmp_path: Path, small_hospital: Any, night: Night) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    night(warehouse, into)
    assert night(warehouse, into, seed=2, gates={"shifted_by_points": 0.001, "max_shifted_share": 0.0}).carried == 0
