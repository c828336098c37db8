"""What ingest makes of a hospital's tables: small tables in, events out, readable by a clinician.

Each case shows the rows of one file, what ingest.yaml says about them, and the events that follow. A time is written as
in the warehouse, UTC; `-` is nothing; `static` is known always.
"""

from pathlib import Path

import duckdb
import pytest

from riskpred.records.ingest import run_ingest

CASES = {
    "a value measured on a day is known from that day's start": (
        "person  drawn       value\n7       2020-03-01  5.2",
        "{code: LAB//HBA1C, column: value, unit: '%', time: {column: drawn}}",
        "7  2020-03-01 00:00:00  LAB//HBA1C  5.2  %",
    ),
    "a diagnosis of a day is known only at its end": (
        "person  day\n7       2020-03-01",
        "{code: DX//STROKE, kind: diagnosis, time: {column: day}}",
        "7  2020-03-01 23:59:59  DX//STROKE  -  -",
    ),
    "a diagnosis with a time of day is known at that time": (
        "person  at\n7       2020-03-01T08:30",
        "{code: DX//STROKE, kind: diagnosis, time: {column: at}}",
        "7  2020-03-01 08:30:00  DX//STROKE  -  -",
    ),
    "an offset in days counts from the anchor, 2020-01-01": (
        "person  day  value\n7       3    140\n7       -1   150",
        "{code: VITAL//SBP, column: value, unit: mmHg, time: {offset: [day]}}",
        "7  2019-12-31 00:00:00  VITAL//SBP  150.0  mmHg\n7  2020-01-04 00:00:00  VITAL//SBP  140.0  mmHg",
    ),
    "age in years at the anchor gives the birth": (
        "person  age\n7       20",
        "{code: MEDS_BIRTH, time: {offset: [-age], unit: years}}",
        "7  2000-01-01 00:00:00  MEDS_BIRTH  -  -",
    ),
    "milligrams become millimoles": (
        "person  on          value  unit\n7       2020-03-01  200    mg/dL\n7       2020-03-02  5      mmol/L",
        "{code: LAB//CHOL, column: value, unit: mmol/L, unit_column: unit, units: {mg/dL: 0.025}, time: {column: on}}",
        "7  2020-03-01 00:00:00  LAB//CHOL  5.0  mmol/L\n7  2020-03-02 00:00:00  LAB//CHOL  5.0  mmol/L",
    ),
    "a code of the questionnaire that means refused is missing": (
        "person  drinks\n7       2\n8       777",
        "{code: SURVEY//DRINKS, column: drinks, unit: drinks/d, missing: [777], time: {static: true}}",
        "7  static  SURVEY//DRINKS  2.0  drinks/d",
    ),
    "sex is a fact without a date": (
        "person  sex\n7       1\n8       2",
        "{code: GENDER, column: sex, store: code, values: {1: M, 2: F}, time: {static: true}}",
        "7  static  GENDER//M  -  -\n8  static  GENDER//F  -  -",
    ),
    "the same measurement written twice is one": (
        "person  drawn       value\n7       2020-03-01  5.2\n7       2020-03-01  5.20",
        "{code: LAB//HBA1C, column: value, unit: '%', time: {column: drawn}}",
        "7  2020-03-01 00:00:00  LAB//HBA1C  5.2  %",
    ),
    "only the rows that are meant": (
        "person  left        dead\n7       2020-03-01  yes\n8       2020-03-02  no",
        "{code: MEDS_DEATH, kind: death, when: {dead: ['yes']}, time: {column: left}}",
        "7  2020-03-01 23:59:59  MEDS_DEATH  -  -",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_in_events_out(case: str, tmp_path: Path) -> None:
    table, mapping, expected = CASES[case]
    (tmp_path / "rows.csv").write_text("\n".join(",".join(line.split()) for line in table.splitlines()) + "\n")
    (tmp_path / "ingest.yaml").write_text(
        "study: spec\nanchor: {date: 2020-01-01T00:00:00}\ntables:\n"
        f"  - name: rows\n    file: rows.csv\n    subject: person\n    events:\n      - {mapping}\n"
    )
    run_ingest(str(tmp_path), tmp_path, tmp_path / "w.duckdb")
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as connection:
        found = connection.execute(
            "SELECT subject_id, coalesce(strftime(time, '%Y-%m-%d %H:%M:%S'), 'static'), code,"
            " coalesce(numeric_value::VARCHAR, '-'), coalesce(unit, '-') FROM events"
        ).fetchall()
    assert ["  ".join(map(str, row)) for row in found] == expected.splitlines()
