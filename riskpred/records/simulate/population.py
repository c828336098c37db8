"""Who comes to the simulated hospital: people, the latent of each modality, what of it is on record, histories.

Order of causes, which makes Bayes' rule over the 27 latent combinations exact: person -> latents (tabular, series,
image, each given those before) -> histories and what is recorded; laboratory values given person and latents.
"""

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from riskpred.config.simulation import LATENTS, HospitalConfig, Predictor
from riskpred.records.simulate.draws import Draws
from riskpred.records.simulate.labs import Labs, latest_labs

COMBINATIONS: Final = np.array(list(product(range(3), repeat=len(LATENTS))))
"""(27, 3): the state of each modality's latent, in the order of LATENTS."""

MODALITIES: Final = tuple(LATENTS)

Values = dict[str, NDArray[np.float64]]
"""term -> its value, broadcastable to (N, 27)."""


@dataclass(frozen=True)
class Population:
    """N simulated subjects.

    Shape:
        terms: each recorded term (N,).  latent: (N, 3) state per modality.  recorded: modality -> (N,) bool.
        prior: (N, 27) P(latent combination | person).
        age_days: (N,) at prediction_time.  origin_day: (N,) days from as_of to the subject's own day 0 (0 for all but
        those who enter later).  entry_day, gone_day: (N,) days from day 0; gone_day = last day at this hospital before
        day 0 for those who left or died before it, else a large number.
    """

    terms: dict[str, NDArray[np.float64]]
    latent: NDArray[np.int64]
    recorded: dict[str, NDArray[np.bool_]]
    prior: NDArray[np.float64]
    age_days: NDArray[np.int64]
    origin_day: NDArray[np.int64]
    entry_day: NDArray[np.int64]
    left_before: NDArray[np.bool_]
    died_before: NDArray[np.bool_]
    gone_day: NDArray[np.int64]
    labs: Labs

    def __len__(self) -> int:
        return len(self.latent)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(N,) entered, alive and under observation at as_of."""
        return np.asarray((self.origin_day == 0) & ~self.left_before & ~self.died_before)


def populate(config: HospitalConfig, subjects: int, draws: Draws) -> Population:
    """Draw N subjects."""
    people = config.people
    low, high = (round(years * 365.25) for years in people.age_years)
    age_days = low + np.floor(draws.uniform("age", subjects) * (high - low)).astype(np.int64)
    smoking = draws.uniform("smoking", subjects)
    decades = (age_days / 365.25 - 60) / 10
    terms = {
        "intercept": np.ones(subjects),
        "age": decades,
        "age_squared": decades**2,
        "male": (draws.uniform("sex", subjects) < people.male).astype(float),
        "current_smoker": (smoking < people.current_smoker).astype(float),
        "former_smoker": (
            (smoking >= people.current_smoker) & (smoking < people.current_smoker + people.former_smoker)
        ).astype(float),
    }
    on_grid = {**{name: value[:, None] for name, value in terms.items()}, **latent_terms()}
    prior = _prior(config, on_grid)
    drawn = (draws.uniform("latents", subjects)[:, None] >= prior.cumsum(axis=1)[:, :-1]).sum(axis=1)
    own = np.arange(subjects)

    def happens(name: str, predictor: Predictor) -> NDArray[np.bool_]:
        return draws.bernoulli(name, np.broadcast_to(expit(predict(predictor, on_grid)), prior.shape)[own, drawn])

    recorded = {modality: happens(f"recorded {modality}", config.recorded[modality]) for modality in MODALITIES}
    for name, predictor in config.histories.items():
        terms[name] = happens(f"history {name}", predictor).astype(float)
    latent = COMBINATIONS[drawn]
    measured = {name: happens(f"measured {name}", predictor) for name, predictor in config.measured.items()}
    labs = latest_labs(draws, terms, latent[:, 0], recorded["tabular"], measured)
    terms["ldl"] = np.nan_to_num(labs.value["ldl"] - 3.2)
    terms["creatinine"] = np.nan_to_num(np.log(labs.value["creatinine"] / 80))
    fate = draws.uniform("fate before", subjects)
    shares = np.cumsum([people.enters_later, people.left_before, people.died_before])
    first, last = people.entry_years_before
    entry = -np.floor((first + (last - first) * draws.uniform("entry", subjects)) * 365.25).astype(np.int64)
    gone = np.floor(draws.uniform("gone before", subjects) * -0.5 * entry).astype(np.int64)
    left, died = (fate >= shares[0]) & (fate < shares[1]), (fate >= shares[1]) & (fate < shares[2])
    return Population(
        terms=terms,
        latent=latent,
        recorded=recorded,
        prior=prior,
        age_days=age_days,
        origin_day=np.where(fate < shares[0], 1200, 0),
        entry_day=entry,
        left_before=left,
        died_before=died,
        gone_day=np.where(left | died, -1 - gone, 10**6),
        labs=labs,
    )


def latent_terms() -> Values:
    """Indicator of each latent state over the 27 combinations. Shape: each (1, 27)."""
    return {
        state: (COMBINATIONS[:, m] == number).astype(float)[None, :]
        for m, states in enumerate(LATENTS.values())
        for number, state in enumerate(states)
        if number
    }


def predict(predictor: Predictor, values: Values) -> NDArray[np.float64]:
    """Sum of coefficient x term; a product of terms is joined by *. Shape: broadcast of the values'."""
    total: NDArray[np.float64] = np.zeros((1, 1))
    for name, coefficient in predictor.items():
        term: NDArray[np.float64] | float = coefficient
        for factor in name.split("*"):
            term = term * values[factor]
        total = total + term
    return total


def _prior(config: HospitalConfig, on_grid: Values) -> NDArray[np.float64]:
    """P(latent combination | person), a chain of multinomial logits. Shape: (N, 27), rows sum to 1."""
    subjects = len(on_grid["age"])
    joint = np.ones((subjects, len(COMBINATIONS)))
    for m, (modality, states) in enumerate(LATENTS.items()):
        weights = [np.ones_like(joint)]
        weights += [
            np.exp(np.broadcast_to(predict(config.latents[modality][s], on_grid), joint.shape)) for s in states[1:]
        ]
        stacked = np.stack(weights)
        joint *= np.take_along_axis(stacked, COMBINATIONS[None, None, :, m], axis=0)[0] / stacked.sum(axis=0)
    return joint
