"""The true risk of the simulated hospital at any stand-in for what was recorded: what v(S) of the truth asks.

`rates.true_risks` knows what is on record. Here a modality may instead be what an average person sends: each term of
the log-rate and each indicator of a latent is a mean, so a product of terms is the product of means. That is how the
product fuses its reference (the mean of what a modality sends, joined to the others by the joint term), and with
nothing replaced it is the true risk itself. Every formula of the simulation is continued to such fractions as it is
written: a sum of terms stays a sum, and what happened in a share x of people has the log-likelihood
x log(p) + (1 - x) log(1 - p).
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from riskpred.config.simulation import LATENTS, HospitalConfig, Predictor
from riskpred.records.simulate.population import MODALITIES, Values, predict
from riskpred.records.simulate.rates import YEAR_DAYS, cumulative_incidence, horizon_days

STATES: Final = 3
"""Of each latent; the first is the reference."""


@dataclass(frozen=True)
class Told:
    """What is told of n subjects who have the same modalities on record.

    Shape:
        terms: each recorded term (n,), or a mean of it.
        state: modality -> (n, 3) share of each latent state, one-hot where it is a person's own; not read if unknown.
    known: whether each modality's latent is told; if not it is summed out, given all else.
    recorded: whether each modality is on record; that is the subject's own whatever is told.
    """

    terms: Values
    state: dict[str, NDArray[np.float64]]
    known: dict[str, bool]
    recorded: dict[str, bool]

    def __len__(self) -> int:
        return len(self.terms["age"])

    def take(self, index: NDArray[np.int64] | slice) -> "Told":
        return replace(
            self,
            terms={name: value[index] for name, value in self.terms.items()},
            state={name: value[index] for name, value in self.state.items()},
        )


def risks_told(config: HospitalConfig, told: Told) -> NDArray[np.float64]:
    """P(event by each horizon), by outcome and horizon as the configuration lists them. Shape: (n, Q)."""
    combinations = np.array(list(product(*([0] if told.known[m] else range(STATES) for m in MODALITIES))))
    grid: Values = {name: value[:, None] for name, value in told.terms.items()}
    for m, modality in enumerate(MODALITIES):
        for s, state in enumerate(LATENTS[modality]):
            if s:
                grid[state] = (
                    told.state[modality][:, s, None]
                    if told.known[modality]
                    else (combinations[:, m] == s).astype(np.float64)[None, :]
                )
    shape = (len(told), len(combinations))
    weight = _weight(config, told, grid, combinations, shape)
    rate = {cause: _rates(config, grid, cause, shape) for cause in config.rates}
    years, found = horizon_days(config) / YEAR_DAYS, []
    for outcome in config.outcomes:
        rivals = config.competing_set if outcome in config.competing_set else (outcome,)
        total = sum((rate[cause] for cause in rivals), start=rate["death"])
        incidence = cumulative_incidence(rate[outcome], total, config.rate_cuts_years, years)
        found.append(np.einsum("nc,nch->nh", weight, incidence))
    return np.concatenate(found, axis=1)


def _rates(config: HospitalConfig, grid: Values, cause: str, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Rate per year and interval of one cause. Shape: (n, combinations, intervals)."""
    spec = config.rates[cause]
    eta, early = predict(spec.terms, grid), predict(spec.first_interval, grid) if spec.first_interval else 0.0
    rates = [per_year * np.exp(eta + (early if at == 0 else 0.0)) for at, per_year in enumerate(spec.per_year)]
    return np.stack([np.broadcast_to(rate, shape) for rate in rates], axis=-1)


def _weight(
    config: HospitalConfig, told: Told, grid: Values, combinations: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """P(states of the latents that are not told | all that is). Shape: (n, combinations), rows sum to 1."""
    if shape[1] == 1:
        return np.ones(shape)
    log_weight = np.zeros(shape)
    for m, modality in enumerate(MODALITIES):
        logits = [np.zeros(shape)]
        logits += [
            np.broadcast_to(predict(config.latents[modality][state], grid), shape) for state in LATENTS[modality][1:]
        ]
        stacked = np.stack(logits, axis=-1)
        share = stacked - np.log(np.exp(stacked).sum(axis=-1, keepdims=True))
        if told.known[modality]:
            log_weight += np.einsum("ncs,ns->nc", share, told.state[modality])
        else:
            log_weight += share[:, np.arange(shape[1]), combinations[:, m]]
        log_weight += _log_likelihood(config.recorded[modality], grid, float(told.recorded[modality]))
    for name, predictor in config.histories.items():
        log_weight += _log_likelihood(predictor, grid, told.terms[name][:, None])
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def _log_likelihood(predictor: Predictor, grid: Values, happened: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Of what happened in this share. Shape: broadcast of the grid's values."""
    chance = expit(predict(predictor, grid))
    return np.asarray(happened * np.log(chance) + (1.0 - happened) * np.log1p(-chance))
