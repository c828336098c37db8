"""The packaged studies on their real data: every fact accounted for, and the counts known from elsewhere."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.sparse.csgraph import connected_components

from riskpred.config.study import load_model_config, packaged_studies
from riskpred.imaging.inspect import FileLook
from riskpred.imaging.read import read_picture
from riskpred.records.cohort import cohort
from riskpred.records.ingest import IngestSummary, run_ingest
from riskpred.records.inspection import inspect, missed_by
from riskpred.records.warehouse import Warehouse

pytestmark = pytest.mark.real_data

FOLDERS = {
    "framingham_exams": "framingham",
    **dict.fromkeys(("metabric", "support", "gbsg"), "deepsurv_benchmarks"),
}
"""Folder of the real data, where it has not the study's name."""

PHANTOMS = ("aptos", "brats", "brats_survival", "cbis_ddsm", "coca", "fracatlas", "lidc", "luna16", "messidor2")
"""Studies of image sets that only their owners give: test_image_studies.py writes phantoms in their layouts."""

SLOW = ("physionet2012",)
"""Studies whose ingest takes half a minute."""

Ingested = Callable[[str], tuple[IngestSummary, Path]]


@dataclass(frozen=True)
class Counts:
    """What `fit` would learn from. events: of the outcome within each horizon; at the end, over all follow-up.

    The numbers expected below were counted in the source files by other code: an event of day d, known at its end, is
    within h years where d + 1 <= 365.25 h.
    """

    rows: int
    people: int
    events: list[int]
    deaths: int


@pytest.fixture(scope="module")
def ingested(real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    folder = tmp_path_factory.mktemp("studies")
    made: dict[str, IngestSummary] = {}

    def find(study: str) -> tuple[IngestSummary, Path]:
        into = folder / f"{study}.duckdb"
        if study not in made:
            with FileLook(workers=1) as look:
                made[study] = run_ingest(study, real_data(FOLDERS.get(study, study)), into, look=look)
        return made[study], into

    return find


def one(warehouse: Warehouse, sql: str) -> object:
    return warehouse.query(sql)[0][0]


def counted(path: Path, study: str, outcome: str) -> Counts:
    """Rows at the study's prediction times: eligible ones, their people, events and competing deaths."""
    config = load_model_config(study).outcomes
    [group] = [group for group in config.groups if outcome in group.outcomes]
    people: set[int] = set()
    days, causes = [], []
    with Warehouse.open(path) as warehouse:
        for chunk in warehouse.chunks():
            part = cohort(chunk, config, warehouse.data_until)
            eligible = part.eligible[outcome]
            people |= set(chunk.subject_id[part.subject[eligible]].tolist())
            days.append(part.duration_days[group.name][eligible])
            causes.append(part.cause[group.name][eligible])
    duration, cause = np.concatenate(days), np.concatenate(causes)
    event = cause == group.outcomes.index(outcome) + 1
    within = [int((event & (duration <= years * 365.25)).sum()) for years in group.horizons_years]
    return Counts(len(cause), len(people), [*within, int(event.sum())], int((cause == len(group.outcomes) + 1).sum()))


def studies() -> list[object]:
    """Every packaged study but the simulated one, which other tests ingest."""
    names = [name for name in packaged_studies() if name != "hospital" and name not in PHANTOMS]
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in names]


@pytest.mark.parametrize("study", studies())
def test_every_fact_is_accounted_for_and_nothing_is_wrong(ingested: Ingested, study: str) -> None:
    summary, path = ingested(study)
    for count in summary.sources:
        assert count.facts == (
            count.events
            + count.images
            + count.annotations
            + count.rejects
            + count.missing
            + count.repeats
            + count.ignored
        )
    with Warehouse.open(path) as warehouse:
        assert warehouse.problems == {}
        assert all(len(units) <= 1 for units in warehouse.code_units.values())
        assert None not in {unit for units in warehouse.code_units.values() for unit in units}, "a value without a unit"
        assert inspect(warehouse)["problems"] == {}
        missed = missed_by(load_model_config(study), warehouse)
        assert [missed[what] for what in ("required", "optional", "cohort", "images")] == [[], [], [], []]
        assert all(found["eligible"] and found["events"] for found in missed["outcomes"].values())


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
        bins = [code for code in counts if code.startswith("ACTIVITY//TLAC//")]
        assert [counts[code] for code in bins] == [2_978] * 12
        causes = [counts[f"CAUSE_OF_DEATH//{cause}"] for cause in ("HEART", "CANCER", "OTHER")]
        assert counts["MEDS_DEATH"] == sum(causes) + 1  # one death has no cause
        day = "SELECT count(DISTINCT time) FROM events WHERE code LIKE 'ACTIVITY//TLAC//%' AND time <= '2005-01-01'"
        assert one(warehouse, day) == 12
        readings = "SELECT count(*) FROM events WHERE code = 'VITAL//SBP' GROUP BY subject_id, time ORDER BY 1 DESC"
        assert one(warehouse, readings) == 1  # a minute apart


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


def test_framingham(ingested: Ingested) -> None:
    """People free of coronary disease, angina and stroke: accuracy.md counts 4,215 and 369 events in ten years."""
    _, path = ingested("framingham")
    found = counted(path, "framingham", "cardiovascular")
    assert (found.rows, found.people) == (4_215, 4_215)
    assert found.events == [65, 128, 209, 278, 369, 996]
    with Warehouse.open(path) as warehouse:
        assert warehouse.code_counts["STUDY_ENTRY"] == 4_434
        after = "SELECT count(*) FROM events WHERE code LIKE 'VITAL//%' AND time <> TIMESTAMP '1956-01-01'"
        assert one(warehouse, after) == 0  # nothing of exams 2 and 3


def test_framingham_exams(ingested: Ingested) -> None:
    """Exams 2 and 3. accuracy.md has 6,452 rows of 3,646 people and the same 805 events within ten years: it leaves out
    the one person whose surveillance ends on the day of an exam, who by our rule for days leaves at that day's end."""
    _, path = ingested("framingham_exams")
    found = counted(path, "framingham_exams", "cardiovascular")
    assert (found.rows, found.people) == (6_453, 3_647)
    assert found.events == [128, 296, 465, 615, 805, 1_200]
    with Warehouse.open(path) as warehouse:
        assert warehouse.code_counts["EXAM"] == 11_627
        times = warehouse.query(
            "SELECT min(n), max(n) FROM (SELECT count(*) FILTER (e.time <= l.time) AS n FROM events l JOIN events e"
            " USING (subject_id) WHERE l.code = 'LANDMARK' AND e.code = 'EXAM' GROUP BY l.subject_id, l.time)"
        )
        assert times == [(2, 3)]


@pytest.mark.parametrize(
    ("study", "outcome", "rows", "events"),
    [
        ("metabric", "death_any", 1_904, [117, 326, 475, 613, 740, 1_103]),
        ("support", "death_any", 8_873, [4_171, 4_909, 5_319, 5_543, 5_707, 6_036]),
        ("gbsg", "recurrence_or_death", 2_232, [260, 630, 874, 1_038, 1_148, 1_267]),
        ("lgg_mri", "death_any", 105, [8, 16, 20, 25, 31]),
    ],
)
def test_an_outcome_with_which_nothing_competes(
    ingested: Ingested, study: str, outcome: str, rows: int, events: list[int]
) -> None:
    _, path = ingested(study)
    found = counted(path, study, outcome)
    assert (found.rows, found.people, found.deaths) == (rows, rows, 0)
    assert found.events == events


@pytest.mark.parametrize(("study", "held_out"), [("metabric", 381), ("support", 1_775), ("gbsg", 686)])
def test_the_division_of_the_source_stands(ingested: Ingested, study: str, held_out: int) -> None:
    summary, path = ingested(study)
    assert summary.splits["held_out"] == held_out
    assert set(summary.splits) == {"train", "tuning", "held_out"}
    with Warehouse.open(path) as warehouse:
        assert one(warehouse, "SELECT max(subject_id) FROM subject_splits") == summary.subjects


def test_lgg_mri_has_one_head_a_person(ingested: Ingested, real_data: Callable[[str], Path]) -> None:
    summary, path = ingested("lgg_mri")
    assert (summary.subjects, summary.images, summary.splits) == (110, 110, {"train": 110})
    with Warehouse.open(path) as warehouse:
        assert one(warehouse, "SELECT count(*) FROM images WHERE frames = 20 AND time = '2005-01-01'") == 110
        assert one(warehouse, "SELECT count(DISTINCT pixel_digest) FROM images") == 110
        assert one(warehouse, "SELECT count(*) FROM annotations WHERE kind = 'mask'") == 110
        assert not any("death" in code.lower() for code in warehouse.codes if code != "MEDS_DEATH")
        row = next(iter(warehouse.chunks())).images[0][0]
    slices = real_data("lgg_mri") / "slices"
    files = sorted(slices.glob(f"{row.image_id}_*.png"))
    found = read_picture(slices, "rgb", row.series)
    wanted = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    np.testing.assert_array_equal(found.array, wanted.transpose(3, 0, 1, 2))


@pytest.mark.slow
def test_physionet2012(ingested: Ingested) -> None:
    summary, path = ingested("physionet2012")
    assert summary.sources[1].rows == 3_512_515
    assert set(summary.sources[1].reasons) == {"out_of_range"}
    assert summary.splits["held_out"] == 4_000
    found = counted(path, "physionet2012", "hospital_death")
    assert (found.rows, found.events, found.deaths) == (8_000, [1_122, 1_122], 0)
    with Warehouse.open(path) as warehouse:
        held_out = """
            SELECT count(*) FROM events JOIN subject_splits USING (subject_id)
            WHERE code = 'HOSPITAL//DEATH' AND split = 'held_out'"""
        assert one(warehouse, held_out) == 568
        # 48 hours are the last moment of any measurement, and the label is later.
        last = "SELECT max(time) FROM events WHERE code NOT LIKE 'HOSPITAL//%'"
        assert str(one(warehouse, last)) == "2012-01-03 00:00:00"
        assert one(warehouse, "SELECT min(time) > TIMESTAMP '2012-01-03' FROM events WHERE code = 'HOSPITAL//DEATH'")
        assert not any(word in code for code in warehouse.codes for word in ("SAPS", "SOFA", "STAY", "SURVIVAL"))
        zeros = """
            SELECT count(*) FROM events WHERE numeric_value <= 0
            AND code LIKE 'VITAL//%' AND code <> 'VITAL//URINE'"""
        assert one(warehouse, zeros) == 0
        cold = "SELECT min(numeric_value) FROM events WHERE code = 'VITAL//TEMPERATURE'"
        assert float(str(one(warehouse, cold))) >= 25


def test_busi_keeps_copies_together_and_drops_contradictory_ones(ingested: Ingested, real_data) -> None:
    """598 sets of near-copies, counted by other code here; 15 images in sets that say both malignant and not."""
    folder = real_data("busi")
    named = [line.split(",") for line in (folder / "images.csv").read_text().splitlines()[1:]]
    small = []
    for name, _ in named:
        with Image.open(folder / name) as picture:
            small.append(np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.BOX), float).ravel())
    _, sets = connected_components(np.corrcoef(small) > 0.93)
    says = defaultdict(set)
    for one, (_, label) in zip(sets, named, strict=True):
        says[one].add(label == "malignant")
    doubtful = {one for one, said in says.items() if len(said) > 1}
    assert (len(says), sum(one in doubtful for one in sets)) == (598, 15)

    summary, path = ingested("busi")
    assert summary.images == 780 - 15
    assert summary.sources[0].reasons["contradictory_copy"] == 3 * 15
    with Warehouse.open(path) as warehouse:
        groups = warehouse.groups()
        rows = warehouse.query("SELECT path, subject_id FROM images")
    wanted = {name: one for one, (name, _) in zip(sets, named, strict=True) if one not in doubtful}
    assert {name for name, _ in rows} == set(wanted)
    pairs = {(wanted[name], groups.get(subject, subject)) for name, subject in rows}
    assert len(pairs) == len({one for one, _ in pairs}) == len({group for _, group in pairs}) == 598 - len(doubtful)
