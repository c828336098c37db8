"""True risks: closed form, Bayes over what is missing, calibrated against what happens; records determine latents."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from riskpred.config.model import parse
from riskpred.config.simulation import LATENTS, HospitalConfig
from riskpred.errors import ConfigError
from riskpred.records.simulate.draws import Draws
from riskpred.records.simulate.follow_up import FollowUp
from riskpred.records.simulate.hospital import eligible
from riskpred.records.simulate.population import Population
from riskpred.records.simulate.rates import cumulative_incidence, horizon_days, posterior, true_risks
from riskpred.records.simulate.vitals import vital_rows

Large = tuple[Population, FollowUp]
Risks = dict[str, NDArray[np.float64]]
OUTCOMES = ("cardiovascular", "cancer", "mental_health")


def first_event(config: HospitalConfig, ends: FollowUp, outcome: str) -> NDArray[np.float64]:
    """Time of the outcome where it comes before its rivals and death, else inf. Leaving is not looked at."""
    rivals = config.competing_set if outcome in config.competing_set else (outcome,)
    first = np.min([ends.times[cause] for cause in (*rivals, "death")], axis=0)
    return np.where(ends.times[outcome] == first, first, np.inf)


def harrell(risk: NDArray[np.float64], time: NDArray[np.float64], until: float) -> float:
    """Harrell's C without censoring: of pairs with an event and someone event-free for longer, ordered rightly."""
    cases = np.flatnonzero(time < until)
    later = time[None, :] > time[cases, None]
    above = risk[cases, None] > risk[None, :]
    ties = risk[cases, None] == risk[None, :]
    return float(((above + 0.5 * ties) * later).sum() / later.sum())


def test_incidence_is_the_limit_of_the_discrete_sum() -> None:
    rate, total = np.array([[0.02, 0.05, 0.01]]), np.array([[0.06, 0.09, 0.20]])
    step = 1e-4
    grid = np.arange(0, 10, step)
    interval = np.digitize(grid, [2.0, 5.0])
    free = np.exp(-np.concatenate([[0], np.cumsum(total[0, interval] * step)[:-1]]))
    expected = [(free * rate[0, interval] * step)[grid < horizon].sum() for horizon in (1, 4, 10)]
    got = cumulative_incidence(rate, total, (2.0, 5.0), np.array([1.0, 4.0, 10.0]))
    assert got[0] == pytest.approx(expected, rel=1e-4)


def test_risks_are_probabilities_that_never_fall(risks: Risks) -> None:
    for risk in risks.values():
        assert (risk > 0).all()
        assert (risk < 1).all()
        assert all((later >= earlier).all() for earlier, later in pairwise(risk.T))
    assert (risks["cardiovascular"] + risks["cancer"] <= 1).all()


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_truth_is_calibrated(large: Large, risks: Risks, config: HospitalConfig, outcome: str) -> None:
    """In everyone, and in each availability pattern: a wrong Bayes would show where something is missing."""
    population, ends = large
    risk, time = risks[outcome], first_event(config, ends, outcome)
    there = [population.recorded[modality] for modality in LATENTS]
    everyone = eligible(config, population, outcome)
    groups = [everyone] + [everyone & have for have in there] + [everyone & ~have for have in there]
    for number, days in enumerate(horizon_days(config)):
        for group in groups:
            expected, error = risk[group, number], np.sqrt((risk * (1 - risk))[group, number].sum()) / group.sum()
            assert abs((time[group] < days).mean() - expected.mean()) < 3.2 * error


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_truth_is_calibrated_across_its_range(large: Large, risks: Risks, config: HospitalConfig, outcome: str) -> None:
    population, ends = large
    group = eligible(config, population, outcome)
    risk, time = risks[outcome][group, -1], first_event(config, ends, outcome)[group]
    for bin_ in np.array_split(np.argsort(risk), 10):
        error = np.sqrt((risk[bin_] * (1 - risk[bin_])).sum()) / len(bin_)
        assert abs((time[bin_] < horizon_days(config)[-1]).mean() - risk[bin_].mean()) < 3.2 * error


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_oracle_ranks_well_and_no_modality_alone_comes_near(
    large: Large, risks: Risks, config: HospitalConfig, outcome: str
) -> None:
    population, ends = large
    until = horizon_days(config)[-1]
    group = eligible(config, population, outcome) & (np.arange(len(population)) < 10_000)  # pairs are quadratic
    truth, time = risks[outcome][group, -1], first_event(config, ends, outcome)[group]
    alone = {"tabular": true_risks(config, population, ("tabular",))[outcome][group, -1]}
    for number, modality in ((1, "series"), (2, "image")):
        # All that a series or an image tells is its latent, or that there is none: the mean risk of each is its oracle.
        told = np.where(population.recorded[modality], population.latent[:, number], 3)[group]
        alone[modality] = np.array([truth[told == state].mean() for state in range(4)])[told]
    oracle = harrell(truth, time, until)
    assert 0.72 < oracle < 0.85
    assert max(harrell(risk, time, until) for risk in alone.values()) < oracle - 0.03


def test_event_rates_are_plausible(large: Large, risks: Risks, config: HospitalConfig) -> None:
    mean = {o: risks[o][eligible(config, large[0], o), -1].mean() for o in OUTCOMES}
    assert 0.10 < mean["cardiovascular"] < 0.15
    assert 0.08 < mean["cancer"] < 0.10
    assert 0.09 < mean["mental_health"] < 0.13


def test_posterior_knows_a_recorded_latent_and_spreads_over_a_missing_one(large: Large, config: HospitalConfig) -> None:
    population = large[0]
    weight = posterior(config, population, slice(0, 2000)).reshape(-1, 3, 3, 3)
    assert weight.sum(axis=(1, 2, 3)) == pytest.approx(1)
    by_image = weight.sum(axis=(1, 2))
    have = population.recorded["image"][:2000]
    own = by_image[np.arange(2000), population.latent[:2000, 2]]
    assert own[have] == pytest.approx(1)
    # A nodule makes a radiograph likelier, so its absence speaks against one.
    assert by_image[~have, 2].mean() < population.prior[:2000].reshape(-1, 3, 3, 3).sum(axis=(1, 2))[~have, 2].mean()
    observed = np.bincount(population.latent[~population.recorded["image"], 2], minlength=3)
    assert by_image[~have].mean(axis=0) == pytest.approx(observed / observed.sum(), abs=0.02)


def test_the_series_determines_its_latent(large: Large) -> None:
    population = large[0]
    rows = vital_rows(
        population.latent[:2000, 1],
        population.recorded["series"][:2000],
        population.terms["male"][:2000],
        population.entry_day[:2000],
        Draws(1),
    ).filter(pl.col("name") == "systolic")
    wrong = 0
    means: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for (subject,), of_one in rows.group_by("index"):
        day, value = of_one["day"].to_numpy().astype(float), of_one["value"].to_numpy()
        slope, intercept = np.polyfit(day, value, 1)
        spread = np.std(value - intercept - slope * day)
        found = 2 if spread > 9 else 1 if slope * (day.max() - day.min()) > 20 else 0
        wrong += found != population.latent[subject, 1]
        means[population.latent[subject, 1]].append(value.mean())
    assert wrong == 0
    assert abs(np.mean(means[0]) - np.mean(means[2])) < 2  # the level tells nothing


def test_the_panel_determines_its_latent(large: Large) -> None:
    population = large[0]
    have = population.recorded["tabular"]
    hba1c, crp = population.labs.value["hba1c"][have], population.labs.value["crp"][have]
    found = np.where(hba1c > 6.1, 1, np.where(crp > 6, 2, 0))
    assert (found == population.latent[have, 0]).all()


def test_a_term_that_bayes_could_not_undo_is_refused(config: HospitalConfig) -> None:
    data = config.model_dump(mode="json")
    data["recorded"]["image"]["ldl"] = 0.5
    with pytest.raises(ConfigError, match=r"recorded\.image: terms not allowed here: ldl"):
        parse(HospitalConfig, data, "hospital.yaml")
    data = config.model_dump(mode="json")
    data["latents"]["series"]["rising"]["large_nodule"] = 0.5
    with pytest.raises(ConfigError, match=r"latents\.series\.rising: terms not allowed here: large_nodule"):
        parse(HospitalConfig, data, "hospital.yaml")
