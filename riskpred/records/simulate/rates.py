"""Rates and true risks of the simulated hospital, in closed form.

Given the recorded terms and the latent combination, each cause has a piecewise-constant rate, and a cumulative
incidence is a finite sum. The true risk is the mean of those cumulative incidences over the latent combinations,
weighted by P(combination | everything recorded, the missing pattern included): a mixture by Bayes' rule, exact.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from riskpred.config.simulation import HospitalConfig, Predictor
from riskpred.records.simulate.population import COMBINATIONS, MODALITIES, Population, Values, latent_terms, predict

YEAR_DAYS: Final = 365.25
_BLOCK: Final = 4096


def horizon_days(config: HospitalConfig) -> NDArray[np.float64]:
    """Days within which an event counts for each horizon.

    An event at t days is on record at the end of day floor(t), that is floor(t) + 1 days after prediction_time: it
    lies within h years exactly if t < floor(365.25 h).
    """
    return np.floor(np.array(config.horizons_years) * YEAR_DAYS)


def rates_per_year(config: HospitalConfig, population: Population, rows: slice, cause: str) -> NDArray[np.float64]:
    """Rate of one cause per interval, for each latent combination. Shape: (n, 27, intervals)."""
    spec, grid = config.rates[cause], _on_grid(population, rows)
    eta = predict(spec.terms, grid)
    early = predict(spec.first_interval, grid) if spec.first_interval else np.zeros((1, 1))
    log_rates = [np.log(rate) + eta + (early if interval == 0 else 0.0) for interval, rate in enumerate(spec.per_year)]
    subjects = len(grid["age"])
    stacked = np.stack([np.broadcast_to(rate, (subjects, len(COMBINATIONS))) for rate in log_rates], axis=-1)
    return np.asarray(np.exp(stacked))


def posterior(
    config: HospitalConfig, population: Population, rows: slice, modalities: tuple[str, ...] = MODALITIES
) -> NDArray[np.float64]:
    """P(latent combination | person, histories, and the records of `modalities` or that they are missing).

    Modalities not listed are not looked at: neither their record nor whether there is one. Shape: (n, 27).
    """
    grid = _on_grid(population, rows)
    weight = population.prior[rows].copy()
    for name, predictor in config.histories.items():
        weight *= _likelihood(predictor, grid, population.terms[name][rows] == 1)
    for m, modality in enumerate(MODALITIES):
        if modality not in modalities:
            continue
        there = population.recorded[modality][rows]
        weight *= _likelihood(config.recorded[modality], grid, there)
        own = population.latent[rows, m][:, None] == COMBINATIONS[None, :, m]
        weight *= np.where(there[:, None], own, True)
    normalised: NDArray[np.float64] = weight / weight.sum(axis=1, keepdims=True)
    return normalised


def true_risks(
    config: HospitalConfig, population: Population, modalities: tuple[str, ...] = MODALITIES
) -> dict[str, NDArray[np.float64]]:
    """Per outcome P(event by each horizon | what is recorded of `modalities`), death (and the set) competing.

    Person and histories are always known. Shape: each (N, horizons).
    """
    days = horizon_days(config)
    risks = {outcome: np.empty((len(population), len(days))) for outcome in config.outcomes}
    for first in range(0, len(population), _BLOCK):
        rows = slice(first, min(first + _BLOCK, len(population)))
        weight = posterior(config, population, rows, modalities)
        rate = {cause: rates_per_year(config, population, rows, cause) for cause in config.rates}
        for outcome in config.outcomes:
            rivals = config.competing_set if outcome in config.competing_set else (outcome,)
            total = sum((rate[cause] for cause in rivals), start=rate["death"])
            incidence = cumulative_incidence(rate[outcome], total, config.rate_cuts_years, days / YEAR_DAYS)
            risks[outcome][rows] = np.einsum("nc,nch->nh", weight, incidence)
    return risks


def cumulative_incidence(
    rate: NDArray[np.float64],
    total: NDArray[np.float64],
    cuts_years: tuple[float, ...],
    horizons_years: NDArray[np.float64],
) -> NDArray[np.float64]:
    """P(the event comes first, by each horizon) under piecewise-constant rates.

    In an interval of length d the event takes rate / total x (1 - exp(-total d)) of those still free at its start.

    Args:
        rate: of the event, per year; total: of it and all that competes, per year.
        cuts_years: where the rates change; the last interval is open.

    Shape: rate, total (..., intervals); result (..., horizons).
    """
    starts, ends = np.array([0.0, *cuts_years]), np.array([*cuts_years, np.inf])
    result = np.zeros((*rate.shape[:-1], len(horizons_years)))
    for h, horizon in enumerate(horizons_years):
        length = np.clip(np.minimum(ends, horizon) - starts, 0, None)
        spent = total * length
        free_at_start = np.exp(-(np.cumsum(spent, axis=-1) - spent))
        result[..., h] = (free_at_start * rate / total * -np.expm1(-spent)).sum(axis=-1)
    return result


def event_days(
    config: HospitalConfig, population: Population, cause: str, uniform: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Latent time of one cause in days after day 0, from the subject's own latents, by inverting its hazard.

    Given person and latents the causes are independent, so that the first of them follows `true_risks`.

    Args:
        uniform: (N,) on [0, 1).

    Shape: (N,).
    """
    target = -np.log1p(-uniform)
    starts, ends = np.array([0.0, *config.rate_cuts_years]), np.array([*config.rate_cuts_years, np.inf])
    own = (population.latent * np.array([9, 3, 1])).sum(axis=1)
    years = np.empty(len(population))
    for first in range(0, len(population), _BLOCK):
        rows = slice(first, min(first + _BLOCK, len(population)))
        grid = rates_per_year(config, population, rows, cause)
        rate = grid[np.arange(len(grid)), own[rows]]
        before = np.concatenate(
            [np.zeros((len(rate), 1)), np.cumsum(rate[:, :-1] * (ends - starts)[:-1], axis=1)], axis=1
        )
        interval = (target[rows, None] >= before[:, 1:]).sum(axis=1)
        pick = np.arange(len(rate))
        years[rows] = starts[interval] + (target[rows] - before[pick, interval]) / rate[pick, interval]
    return years * YEAR_DAYS


def _on_grid(population: Population, rows: slice) -> Values:
    return {**{name: value[rows, None] for name, value in population.terms.items()}, **latent_terms()}


def _likelihood(predictor: Predictor, grid: Values, happened: NDArray[np.bool_]) -> NDArray[np.float64]:
    chance = expit(predict(predictor, grid))
    return np.where(happened[:, None], chance, 1 - chance)
