"""The night beside what a user would write and what a good engineer would, in subjects per second and output risk."""

import sys
from pathlib import Path
from typing import Any, Final

import duckdb

from tests.benchmarks.night import command, cost
from tests.benchmarks.night.data import Hospital, multiplied

RISKS_EACH: Final = 12
_ABSENT: Final = 3


def measure(hospital: Hospital, work: Path, subjects: int, python: str, by_pandas: int = 20_000) -> dict[str, Any]:
    """The part `peers`, everything on one core, one after the other.

    Args:
        python: interpreter that has lightgbm.   by_pandas: subjects that the pandas way is timed on (it is slow).
    """
    warehouse = multiplied(hospital.warehouse, work / f"{subjects}.duckdb", subjects)
    scores, pandas, lightgbm = (work / f"peers-{name}.duckdb" for name in ("riskpred", "pandas", "lightgbm"))
    ours = cost.full_night(warehouse, hospital.bundle, scores, work, 1)
    found: dict[str, Any] = {"riskpred": _rates(subjects, ours["wall_s"], ours["cpu_s"])}
    ran = _program("pandas_way", sys.executable, [warehouse, hospital.bundle, pandas], by_pandas, work)
    found["pandas"] = _rates(ran.expect(0).json["people"], ran.json["seconds"], ran.cpu_s)
    found["pandas"]["most_apart"] = _apart(pandas, scores)
    ran = _program("lightgbm_way", python, [warehouse, hospital.warehouse, lightgbm], subjects, work)
    if ran.expect(0, _ABSENT).code == _ABSENT:
        found["lightgbm"] = None
    else:
        found["lightgbm"] = _rates(ran.json["people"], ran.json["seconds"], ran.json["cpu_s"])
        found["times_lightgbm"] = _times(found, "lightgbm")
    found["times_pandas"] = _times(found, "pandas")
    for path in (scores, pandas, lightgbm):
        path.unlink(missing_ok=True)
    return {"subjects": subjects, "risks_each": RISKS_EACH, **found}


def _program(name: str, python: str, paths: list[Path], subjects: int, work: Path) -> command.Ran:
    words = [python, "-m", f"tests.benchmarks.night.{name}", *map(str, paths), "--subjects", str(subjects)]
    return command.run_program(words, (name,), work, cores=1)


def _rates(people: int, wall_s: float, cpu_s: float) -> dict[str, Any]:
    return {
        "people": people,
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "people_per_s": round(people / wall_s, 1),
        "risks_per_s": round(RISKS_EACH * people / wall_s),
        "risks_per_cpu_s": round(RISKS_EACH * people / cpu_s),
    }


def _times(found: dict[str, Any], peer: str) -> float:
    return round(float(found["riskpred"]["people_per_s"] / found[peer]["people_per_s"]), 3)


def _apart(peer: Path, scores: Path) -> float | None:
    """Largest difference of a risk that both have: the peer must have computed the same."""
    with duckdb.connect() as connection:
        for name, path in (("peer", peer), ("ours", scores)):
            connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
        found = connection.execute(
            "SELECT max(abs(a.risk - b.risk)) FROM peer.risks a"
            " JOIN ours.risk_scores b USING (subject_id, outcome, horizon_years)"
        ).fetchall()[0][0]
    return None if found is None else float(found)
