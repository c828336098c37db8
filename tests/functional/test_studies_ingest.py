"""The packaged studies on their real data: every fact accounted for, and the counts known from elsewhere."""

from collections.abc import Callable
from pathlib import Path

import pytest

from riskpred.records.ingest import IngestSummary, run_ingest
from riskpred.records.warehouse import Warehouse

pytestmark = pytest.mark.real_data

Ingested = Callable[[str], tuple[IngestSummary, Path]]


@pytest.fixture(scope="module")
def ingested(real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    folder = tmp_path_factory.mktemp("studies")
    made: dict[str, IngestSummary] = {}

    def find(study: str) -> tuple[IngestSummary, Path]:
        into = folder / f"{study}.duckdb"
        if study not in made:
            made[study] = run_ingest(study, real_data(study), into)
        return made[study], into

    return find


def one(warehouse: Warehouse, sql: str) -> object:
    return warehouse.query(sql)[0][0]


@pytest.mark.parametrize("study", ["nafld", "nhanes_mortality", "nhanes_phq9", "hannover_cxr"])
def test_every_fact_is_accounted_for_and_nothing_is_wrong(ingested: Ingested, study: str) -> None:
    summary, path = ingested(study)
    for count in summary.sources:
        assert count.facts == (
            count.events + count.images + count.rejects + count.missing + count.repeats + count.ignored
        )
    with Warehouse.open(path) as warehouse:
        assert warehouse.problems == {}
        assert all(len(units) <= 1 for units in warehouse.code_units.values())
        assert None not in {unit for units in warehouse.code_units.values() for unit in units}, "a value without a unit"


def test_nafld(ingested: Ingested) -> None:
    summary, path = ingested("nafld")
    assert [(count.source, count.rows) for count in summary.sources] == [
        ("nafld1.parquet", 17_549),
        ("nafld2.parquet", 400_123),
        ("nafld3.parquet", 34_327),
    ]
    assert summary.subjects == 17_549
    assert summary.sources[1].ignored == 161_258 + 33_430  # chol and dbp
    assert summary.sources[1].rejects == summary.sources[1].reasons["out_of_range"] == 7
    assert summary.sources[2].events == 34_327
    with Warehouse.open(path) as warehouse:
        counts = warehouse.code_counts
        assert counts["DX//MI"] == 1_199
        assert counts["STUDY_ENTRY"] == counts["MEDS_DEATH"] + counts["STUDY_LEAVE"] == 17_549
        assert warehouse.as_of is not None
        entry = one(warehouse, "SELECT epoch_us(time) FROM events WHERE code = 'STUDY_ENTRY' LIMIT 1")
        assert warehouse.as_of - int(str(entry)) == 730 * 86_400_000_000
        assert one(warehouse, "SELECT max(numeric_value) FROM events WHERE code = 'VITAL//SBP'") == 259.0
        # Static facts first, then by time: the file is sorted as the schema says.
        assert warehouse.clustered


def test_nafld_keeps_matched_sets_together(ingested: Ingested, real_data: Callable[[str], Path]) -> None:
    _, path = ingested("nafld")
    people = str(real_data("nafld") / "nafld1.parquet").replace("'", "''")
    with Warehouse.open(path) as warehouse:
        torn = f"""
            SELECT count(*) FROM (
                SELECT "case.id" FROM read_parquet('{people}') JOIN subject_splits ON subject_id = id
                WHERE "case.id" IS NOT NULL GROUP BY 1 HAVING count(DISTINCT split) > 1)"""
        assert one(warehouse, torn) == 0
        assert set(warehouse.splits().values()) == {"train", "tuning", "held_out"}


def test_nhanes_mortality(ingested: Ingested) -> None:
    _, path = ingested("nhanes_mortality")
    # Adults of 20 and over with a linked exam: 9,503. Deaths by follow-up month 120: day 3,653.
    entered = """
        SELECT count(DISTINCT e.subject_id) FROM events e JOIN events b USING (subject_id)
        JOIN events o USING (subject_id)
        WHERE e.code = 'STUDY_ENTRY' AND b.code = 'MEDS_BIRTH' AND b.time <= TIMESTAMP '1985-01-01'
        AND o.code = '{code}' AND o.time < TIMESTAMP '2005-01-01' + INTERVAL 3654 DAY"""
    with Warehouse.open(path) as warehouse:
        assert one(warehouse, entered.format(code="STUDY_ENTRY")) == 9_503
        assert one(warehouse, entered.format(code="CAUSE_OF_DEATH//HEART")) == 301
        assert one(warehouse, entered.format(code="CAUSE_OF_DEATH//CANCER")) == 317
        counts = warehouse.code_counts
        assert counts["ACTIVITY//TLAC"] == 12 * 2_978
        causes = [counts[f"CAUSE_OF_DEATH//{cause}"] for cause in ("HEART", "CANCER", "OTHER")]
        assert counts["MEDS_DEATH"] == sum(causes) + 1  # one death has no cause
        bins = "SELECT count(DISTINCT time) FROM events WHERE code = 'ACTIVITY//TLAC' AND time <= '2005-01-01'"
        assert one(warehouse, bins) == 12


def test_nhanes_phq9(ingested: Ingested) -> None:
    summary, path = ingested("nhanes_phq9")
    assert summary.subjects == 39_156
    assert summary.splits["held_out"] == 9_254  # 2017-2018
    with Warehouse.open(path) as warehouse:
        adults = """
            SELECT count(*), count(*) FILTER (s.numeric_value >= 10) FROM events s JOIN events b USING (subject_id)
            WHERE s.code = 'SCORE//PHQ9' AND b.code = 'MEDS_BIRTH' AND b.time <= TIMESTAMP '1995-01-01'"""
        assert warehouse.query(adults) == [(19_406, 1_747)]
        codes = " ".join(warehouse.codes)
        assert "DPQ" not in codes
        assert "HSQ" not in codes


def test_hannover_cxr(ingested: Ingested) -> None:
    summary, path = ingested("hannover_cxr")
    assert (summary.subjects, summary.images, summary.splits) == (71, 243, {"train": 71})
    with Warehouse.open(path) as warehouse:
        first = "SELECT count(DISTINCT subject_id) FROM images WHERE time = TIMESTAMP '2020-04-01'"
        assert one(warehouse, first) == 71
        assert one(warehouse, "SELECT count(*) FROM images WHERE time < TIMESTAMP '2020-04-01'") == 0
        care = "SELECT count(DISTINCT subject_id) FROM events WHERE code = 'ADMIT//ICU'"
        assert one(warehouse, care) == 29
        assert one(warehouse, f"{care} AND time <= TIMESTAMP '2020-04-01'") == 23
        assert one(warehouse, "SELECT count(*) FROM images WHERE length(sha256) = 64") == 243
        assert one(warehouse, "SELECT count(*) FROM subject_map") == 69  # two identifiers look like whole numbers
