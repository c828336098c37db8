"""Plants faults in the tables of a warehouse that another tool wrote: no ingest stood before them, the night is alone.

Such a file has events, images and subject_splits and nothing else, and what is planted lies at its end, unsorted. Where
a fault must show is said per kind in WHERE; a unit that the bundle was not trained on refuses the whole file (exit 12),
as the contract says, and is tried on its own.
"""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from tests.benchmarks.night import nights
from tests.benchmarks.night.command import Run, cold
from tests.benchmarks.night.faults import Clean, chosen, hurt, night, subject_ids
from tests.benchmarks.night.planting import SEEN, Planter

_AT: Final = "2014-12-30 08:05:00"

_EVENTS: Final = {
    "not a number (NaN)": f"(TIMESTAMP '{_AT}', 'VITAL//SYSTOLIC', 'nan'::FLOAT, NULL, 'mmHg')",
    "infinity": f"(TIMESTAMP '{_AT}', 'VITAL//SYSTOLIC', '-inf'::FLOAT, NULL, 'mmHg')",
    "text for a number": f"(TIMESTAMP '{_AT}', 'VITAL//SYSTOLIC', NULL, 'refused', NULL)",
    "future date": "(TIMESTAMP '2094-05-01', 'LAB//LDL', 3.1::FLOAT, NULL, 'mmol/L')",
    "absurd value": f"(TIMESTAMP '{_AT}', 'LAB//LDL', 1e30::FLOAT, NULL, 'mmol/L')",
    "unknown code": f"(TIMESTAMP '{_AT}', 'ZZ//NEVER_SEEN', 3.1::FLOAT, NULL, 'furlong')",
}
_IMAGES: Final = {
    "missing file": ("images/ABSENT0.dcm", "file_missing"),
    "path escape": ("../outside.dcm", "path_refused"),
    "truncated or bomb image": ("", ""),
}
WHERE: Final = {
    "not a number (NaN)": "check: non_finite_values; receipt of the series: not numeric",
    "infinity": "check: non_finite_values; receipt of the series: not numeric",
    "text for a number": "receipt of the series: not numeric",
    "future date": "check: future_times; nothing of it is read",
    "duplicate row": "check: duplicate_events; the risk is what it was",
    "absurd value": "a scope flag on every risk of the subject, or no risk with a reason",
    "missing file": "rejects: file_missing",
    "path escape": "rejects: path_refused",
    "truncated or bomb image": "rejects: the reason of the picture",
    "unknown code": "check: listed among the codes; nothing of it is read",
    "empty subject": "eligibility: out_of_scope with a reason",
    "wrong unit": "the night is refused (exit 12), the code and both units named",
}


@dataclass(frozen=True)
class Outcome:
    """What came of the faults: as `faults.Outcome`; `changed`: kind -> subjects with another risk than before.

    wrong_unit: exit code and the last lines of stderr of the night over a file with one unit too many.
    """

    planted: dict[str, int]
    accounted: dict[str, int]
    rows_alone: int
    most_apart: float
    changed: dict[str, int]
    code: int
    wrong_unit: tuple[int, str]


def attack(given: Clean, folder: Path, faults: int, run: Run, seed: int = 2) -> Outcome:
    """Plant, score, look. `folder`: scratch, emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    warehouse, scores, root = folder / "foreign.duckdb", folder / "scores.duckdb", folder / "pictures"
    names, spare = chosen(given, faults, seed)
    ids = subject_ids(given.warehouse)
    subjects, measured = [ids[name] for name in names], [ids[name] for name in spare]
    root.mkdir()
    shutil.copytree(given.source / "images", root / "images", copy_function=os.link)
    (folder / "outside.dcm").write_bytes(b"not for us")
    broken = Planter(root)
    planted = _write(given.warehouse, warehouse, subjects, measured, broken)
    ran = night(run, warehouse, given.bundle, scores, "--image-root", root).expect(0, 14)
    checked = run(["check", warehouse, "--image-root", root, "--json"]).expect(0).json
    touched = [subject for found in planted.values() for subject in found]
    alone, most = nights.apart(given.scores, scores, touched)
    accounted = {kind: _accounted(kind, planted, scores, checked) for kind in planted}
    return Outcome(
        planted={kind: len(found) for kind, found in planted.items()},
        accounted=accounted,
        rows_alone=alone,
        most_apart=most,
        changed={kind: n for kind, found in planted.items() if (n := hurt(given.scores, scores, found))},
        code=ran.code,
        wrong_unit=_wrong_unit(given, folder, subjects[0], run),
    )


def _write(clean: Path, into: Path, subjects: list[int], measured: list[int], broken: Planter) -> dict[str, list[int]]:
    """The three required tables of the clean warehouse with faulty rows at their end. Returns kind -> subjects."""
    kinds = [kind for kind in WHERE if kind != "wrong unit"]
    planted: dict[str, list[int]] = {kind: subjects[number :: len(kinds)] for number, kind in enumerate(kinds)}
    planted["duplicate row"] = measured[: len(planted["duplicate row"])]
    planted["empty subject"] = [2**62 + number for number in range(len(planted["empty subject"]))]
    with duckdb.connect(str(into)) as connection:
        connection.execute(f"ATTACH '{clean}' AS clean (READ_ONLY)")
        for table in ("events", "images", "subject_splits"):
            connection.execute(f"CREATE TABLE {table} AS SELECT * FROM clean.{table}")
        for column, kind in connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'events' AND database_name ="
            " current_database() AND data_type LIKE 'ENUM%'"
        ).fetchall():
            # Another tool's codes are plain text, and new ones come.
            assert kind.startswith("ENUM")
            connection.execute(f"ALTER TABLE events ALTER {column} TYPE VARCHAR")
        for kind, values in _EVENTS.items():
            connection.execute(
                "INSERT INTO events BY NAME SELECT subject_id, v.* FROM (SELECT unnest($ids::BIGINT[]) AS subject_id),"
                f" (VALUES {values}) AS v(time, code, numeric_value, text_value, unit)",
                {"ids": planted[kind]},
            )
        connection.execute(
            "INSERT INTO events SELECT * FROM clean.events WHERE subject_id IN (SELECT unnest($ids::BIGINT[]))"
            " AND code = 'VITAL//SYSTOLIC' QUALIFY row_number() OVER (PARTITION BY subject_id ORDER BY time) = 1",
            {"ids": planted["duplicate row"]},
        )
        connection.execute(
            "INSERT INTO events BY NAME SELECT unnest($ids::BIGINT[]) AS subject_id, 'GENDER//F' AS code",
            {"ids": planted["empty subject"]},
        )
        for kind, (path, _) in _IMAGES.items():
            for number, subject in enumerate(planted[kind]):
                here = path or broken.broken_file(number)[0]
                connection.execute(
                    "INSERT INTO images BY NAME SELECT ? AS image_id, ? AS subject_id, ?::TIMESTAMP AS time,"
                    " 'CR' AS image_type, ? AS path",
                    [f"{kind} {number}", subject, f"{SEEN} 23:00:00", here],
                )
        connection.execute("DETACH clean")
    return planted


def _accounted(kind: str, planted: dict[str, list[int]], scores: Path, checked: dict[str, Any]) -> int:
    """How many of the faults of a kind show where WHERE says."""
    subjects, problems = planted[kind], checked["problems"]
    asked, not_finite = {"ids": subjects}, ("not a number (NaN)", "infinity")
    among = "subject_id IN (SELECT unnest($ids::BIGINT[]))"
    with duckdb.connect(str(scores), read_only=True) as connection:

        def count(sql: str) -> int:
            return int(connection.execute(sql, asked).fetchall()[0][0])

        if kind in not_finite and problems.get("non_finite_values") != sum(len(planted[one]) for one in not_finite):
            return 0
        if kind in (*not_finite, "text for a number"):
            return count(
                f"SELECT count(DISTINCT subject_id) FROM input_receipts WHERE {among} AND modality = 'series'"
                " AND list_contains(missing_features, 'VITAL//SYSTOLIC: 1 not numeric')"
            )
        if kind == "future date":
            return len(subjects) if problems.get("future_times") == len(subjects) else 0
        if kind == "duplicate row":
            return len(subjects) if problems.get("duplicate_events") == len(subjects) else 0
        if kind == "absurd value":
            flagged = count(
                "SELECT count(*) FROM (SELECT subject_id FROM risk_scores WHERE"
                f" {among} GROUP BY 1 HAVING bool_and(list_contains(scope_flags, 'unlike_training')))"
            )
            without = count(f"SELECT count(DISTINCT subject_id) FROM eligibility WHERE {among} AND status = 'rejected'")
            return flagged + without
        if kind in _IMAGES:
            reasons = f"SELECT count(DISTINCT row_key) FROM rejects WHERE {among} AND row_key LIKE '{kind} %'"
            wanted = _IMAGES[kind][1]
            return count(reasons + (f" AND reason = '{wanted}'" if wanted else " AND reason IS NOT NULL"))
        if kind == "unknown code":
            return sum(one["events"] for one in checked["codes"] if one["code"] == "ZZ//NEVER_SEEN")
        assert kind == "empty subject"
        return count(
            f"SELECT count(DISTINCT subject_id) FROM eligibility WHERE {among} AND status = 'out_of_scope'"
            " AND reason IS NOT NULL"
        )


def _wrong_unit(given: Clean, folder: Path, subject: int, run: Run) -> tuple[int, str]:
    warehouse, scores = folder / "unit.duckdb", folder / "unit_scores.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(f"ATTACH '{given.warehouse}' AS clean (READ_ONLY)")
        for table in ("events", "images", "subject_splits"):
            connection.execute(f"CREATE TABLE {table} AS SELECT * FROM clean.{table}")
        connection.execute("ALTER TABLE events ALTER unit TYPE VARCHAR")
        connection.execute(
            f"INSERT INTO events BY NAME SELECT {subject} AS subject_id, TIMESTAMP '{_AT}' AS time, 'LAB//LDL' AS code,"
            " 120::FLOAT AS numeric_value, 'mg/dL' AS unit"
        )
        connection.execute("DETACH clean")
    ran = night(run, warehouse, given.bundle, scores)
    assert not scores.exists() or ran.code in (0, 14), "a refused night leaves no scores"
    return ran.code, "\n".join(ran.err.splitlines()[-5:])


def summary(outcome: Outcome) -> dict[str, object]:
    """Figures for the report."""
    return {
        "planted": outcome.planted,
        "accounted": outcome.accounted,
        "planted_in_all": sum(outcome.planted.values()),
        "accounted_in_all": sum(outcome.accounted.values()),
        "where": {kind: WHERE[kind] for kind in outcome.planted},
        "rows_of_others_in_one_night_only": outcome.rows_alone,
        "others_most_apart": outcome.most_apart,
        "subjects_with_another_risk": outcome.changed,
        "exit_code": outcome.code,
        "wrong_unit": {"exit_code": outcome.wrong_unit[0], "says": outcome.wrong_unit[1]},
    }


def measure(given: Clean, work: Path, faults: int = 10_000) -> dict[str, object]:
    """The part `foreign` of the benchmark."""
    began = time.monotonic()
    outcome = attack(given, work / "foreign", faults, cold(work))
    shutil.rmtree(work / "foreign")
    return {**summary(outcome), "seconds": round(time.monotonic() - began, 1)}
