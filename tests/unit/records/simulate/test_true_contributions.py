"""True contributions: sums, null players, the symmetry of Shapley, and what the written tables hold."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from riskpred.config.simulation import HospitalConfig
from riskpred.records.reference_group import EVERYONE
from riskpred.records.schema import table_schema
from riskpred.records.simulate.contributions import PRESENCE, TABULAR, Contributions, _shapley, true_contributions
from riskpred.records.simulate.draws import Draws
from riskpred.records.simulate.hospital import Simulated, write_truth
from riskpred.records.simulate.population import MODALITIES, Population, populate
from riskpred.records.simulate.rates import true_risks
from riskpred.records.simulate.reference import group_names, references
from riskpred.records.simulate.true_tables import write_contributions, write_findings
from riskpred.records.simulate.true_value import Told, risks_told


@pytest.fixture(scope="module")
def people(config: HospitalConfig) -> Population:
    return populate(config, 1000, Draws(3))


@pytest.fixture(scope="module")
def found(config: HospitalConfig, people: Population) -> Contributions:
    return true_contributions(config, people)


def all_risks(config: HospitalConfig, people: Population) -> np.ndarray:
    risks = true_risks(config, people)
    return np.concatenate([risks[outcome] for outcome in config.outcomes], axis=1)


def test_modalities_sum_to_the_true_risk_less_the_reference(
    config: HospitalConfig, people: Population, found: Contributions
) -> None:
    total = 100 * found.reference + sum(np.nan_to_num(value) for value in found.modality.values())
    assert np.abs(total - 100 * all_risks(config, people)).max() < 1e-9
    for m in MODALITIES:
        there = np.isfinite(found.modality[m]).all(axis=1)
        assert np.array_equal(there, people.recorded[m] | (m == "tabular"))


def test_features_sum_to_their_modality(found: Contributions) -> None:
    for m, features in found.feature.items():
        assert np.nanmax(np.abs(sum(features.values()) - found.modality[m])) < 1e-9
        assert np.nanmax(np.abs(found.modality[m])) > 5, "contributions of nothing test nothing"


def test_what_changes_nothing_contributes_nothing(people: Population, found: Contributions) -> None:
    tabular = found.feature["tabular"]
    unmeasured = np.isnan(people.labs.value["ldl"])
    assert (tabular["LAB//LDL"][unmeasured] == 0).all()
    assert (tabular["LAB//LDL"][~unmeasured] != 0).any(axis=1).mean() > 0.9
    assert (tabular["LAB//CRP"][people.latent[:, 0] != 2] == 0).all()
    in_a_group = np.char.startswith(found.group, "men ") | np.char.startswith(found.group, "women ")
    assert in_a_group.any()
    assert (tabular["GENDER//*"][in_a_group] == 0).all(), "within a group of one sex, sex is what is typical"


def test_who_is_like_nobody_else_is_told_by_the_one_thing_that_differs(
    config: HospitalConfig, people: Population, found: Contributions
) -> None:
    """One active feature: its Shapley value is the whole difference, computed here from v alone."""
    steady = people.recorded["series"] & (people.latent[:, 1] == 0)
    assert np.abs(found.feature["series"]["VITAL//SYSTOLIC"][steady]).max() < 1e-12
    rising = people.recorded["series"] & (people.latent[:, 1] == 1)
    assert (found.feature["series"]["VITAL//SYSTOLIC"][rising, 3] > 0.3).all()


def test_an_average_person_is_worth_nothing(config: HospitalConfig, people: Population) -> None:
    """v(S) is the same for every S when what is told inside is what stands outside."""
    groups = group_names(people)
    name = str(groups[0])
    average = references(config, people, groups)[name]
    told = Told(
        {term: np.array([value]) for term, value in average.mean.items()},
        {m: state[None] for m, state in average.state.items()},
        dict.fromkeys(MODALITIES, True),
        dict.fromkeys(MODALITIES, True),
    )
    risk = risks_told(config, told)
    rows = np.flatnonzero((groups == name) & np.logical_and.reduce(list(people.recorded.values())))
    mine = true_contributions(config, people).reference[rows]
    assert np.abs(mine - risk).max() < 1e-12


def test_with_all_on_record_a_told_risk_is_the_true_risk(config: HospitalConfig, people: Population) -> None:
    there = dict.fromkeys(MODALITIES, False)
    rows = np.flatnonzero(~np.logical_or.reduce(list(people.recorded.values())))
    told = Told(
        {term: value[rows] for term, value in people.terms.items()},
        {m: np.zeros((len(rows), 3)) for m in MODALITIES},
        there,
        there,
    )
    assert np.abs(risks_told(config, told) - all_risks(config, people)[rows]).max() < 1e-12


def test_shapley_matrix_is_the_mean_over_orders() -> None:
    worth = np.random.default_rng(1).normal(size=8)
    expected = np.zeros(3)
    for order in permutations(range(3)):
        inside = 0
        for player in order:
            with_it = inside | 1 << (2 - player)  # product((False, True)) counts the first player highest
            expected[player] += (worth[with_it] - worth[inside]) / 6
            inside = with_it
    assert _shapley(3) @ worth == pytest.approx(expected)


def test_a_small_group_takes_a_wider_ones_reference(people: Population) -> None:
    old = people.age_days > 70 * 365.25
    gone = replace(people, died_before=people.age_days > 60 * 365)
    assert set(group_names(gone)[old]) == {EVERYONE}
    # So few are left of each sex in their sixties that only both together are enough.
    sixty = (people.age_days > 60 * 365.25) & (people.age_days < 70 * 365.25)
    few = replace(people, recorded={m: np.ones(len(people), dtype=bool) for m in MODALITIES})
    assert set(group_names(few)[sixty]) == {"men aged 60 to 69", "women aged 60 to 69"}
    seldom = replace(few, recorded={**few.recorded, "image": np.arange(len(people)) % 2 == 0})
    assert set(group_names(seldom)[sixty]) == {"people aged 60 to 69"}


def test_written_contributions_are_those_of_the_true_risks(
    small: tuple[Path, Simulated], config: HospitalConfig, tmp_path: Path
) -> None:
    population = small[1].population
    write_truth(tmp_path / "truth.parquet", config, population)
    write_contributions(tmp_path / "c.parquet", config, population)
    schema = table_schema(".", "true_contributions")
    table = pl.read_parquet(tmp_path / "c.parquet")
    assert table.columns == schema.names
    assert not table.select(schema.key).is_duplicated().any()
    assert set(table["modality"]) == set(MODALITIES)
    assert {*TABULAR.values(), PRESENCE} - set(table["feature"]) == {"GENDER//*"} - set(table["feature"])
    (worst, pairs, risks) = duckdb.execute(
        f"""
        WITH sums AS (
            SELECT subject_id, outcome, horizon_years, prediction_time,
                sum(contribution) FILTER (level = 'modality') - sum(contribution) FILTER (level = 'feature') AS off
            FROM '{tmp_path}/c.parquet' GROUP BY ALL
        )
        SELECT max(abs(off)), count(*), (SELECT count(*) FROM '{tmp_path}/truth.parquet')
        FROM sums JOIN '{tmp_path}/truth.parquet' USING (subject_id, outcome, horizon_years, prediction_time)
        """
    ).fetchall()[0]
    assert worst < 1e-9
    assert pairs == risks > 0


def test_written_findings_are_where_the_plan_says(small: tuple[Path, Simulated], tmp_path: Path) -> None:
    write_findings(tmp_path / "f.parquet", small[1])
    table = pl.read_parquet(tmp_path / "f.parquet")
    assert table.columns == table_schema(".", "true_findings").names
    joined = table.join(small[1].radiographs, on="image_id", suffix="_plan")
    assert len(joined) == len(table) == len(small[1].radiographs)
    with_one = joined.filter(pl.col("label") != "no_nodule")
    assert with_one.select("row", "col", "radius").equals(
        with_one.select(pl.col(f"{name}_plan").alias(name) for name in ("row", "col", "radius"))
    )
    assert (
        joined.filter(pl.col("label") == "no_nodule").select("row", "col", "radius").null_count().row(0)
        == ((joined["nodule"] == 0).sum(),) * 3
    )
    sides = set(zip(table["height_px"], table["width_px"], strict=True))
    assert sides == {(96, 96), (112, 112)}
    assert ((with_one["row"] > 0) & (with_one["row"] < with_one["height_px"])).all()
