"""Average people of the simulated hospital: whom each subject is compared with, and what such a person sends.

The groups are those of the product's reasons: sex and ten-year age band, people of that age where such a group is
small, and everyone where that is small, too.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.config.simulation import LATENTS, HospitalConfig
from riskpred.records.reference_group import BAND_STARTS, EVERYONE, GROUPS, WIDER
from riskpred.records.simulate.population import COMBINATIONS, MODALITIES, Population, Values
from riskpred.records.simulate.rates import posterior

FEWEST: Final = 60
"""Fewer people with a modality, and a group takes a wider one's reference: about 50 of these train a model."""

_BLOCK: Final = 4096


@dataclass(frozen=True)
class Reference:
    """What an average person of one group sends, and the typical values from which features are attributed.

    mean: term -> mean over the group's people.   state: modality -> (3,) mean share of each latent state, over those of
    the group who have the modality (tabular: everyone; where the panel was not taken, P(state | all on record)).
    typical: term or test -> median of those who have it; of sex, smoking and histories the mode.
    """

    name: str
    mean: dict[str, float]
    state: dict[str, NDArray[np.float64]]
    typical: dict[str, float]


def group_names(population: Population) -> NDArray[np.str_]:
    """Each subject's group: women (or men) aged 50 to 59, say; a wider one where it has too few people. Shape: (N,)."""
    own = _own_names(population)
    there, place = np.unique(own, return_inverse=True)
    chosen = []
    for name in there.tolist():
        while name != EVERYONE and _people(population, own, name) < FEWEST:
            name = WIDER[name]
        chosen.append(name)
    assert set(chosen) <= set(GROUPS), "groups as the product words them"
    return np.array(chosen)[place].astype(np.str_)


def _own_names(population: Population) -> NDArray[np.str_]:
    """The group that sex and age alone say. Shape: (N,)."""
    band = (np.floor(population.age_days / 365.25 / 10) * 10).astype(np.int64).clip(max=BAND_STARTS[-1])
    words = {low: f"aged {low} to {low + 9}" for low in BAND_STARTS[:-1]} | {BAND_STARTS[-1]: "aged 80 and over"}
    sex = np.where(population.terms["male"] == 1, "men", "women").tolist()
    return np.array([f"{who} {words[low]}" for who, low in zip(sex, band.tolist(), strict=True)], dtype=np.str_)


def _inside(own: NDArray[np.str_], name: str) -> NDArray[np.bool_]:
    """Whose people a group is made of. Shape: (N,)."""
    mine = [WIDER[one] == name or one == name for one in own.tolist()]
    return np.ones(len(own), dtype=np.bool_) if name == EVERYONE else np.array(mine, dtype=np.bool_)


def _people(population: Population, own: NDArray[np.str_], name: str) -> int:
    """Fewest people of a group who have a modality that anybody has."""
    inside = _inside(own, name) & population.present
    recorded = [population.recorded[m] for m in MODALITIES if m != "tabular" and population.recorded[m].any()]
    return int(min((inside & have).sum() for have in [inside, *recorded]))


def references(config: HospitalConfig, population: Population, groups: NDArray[np.str_]) -> dict[str, Reference]:
    """Group -> its average person, from those who are at the hospital on day 0."""
    found = {}
    told = _told_states(config, population)
    own = _own_names(population)
    for name in np.unique(groups).tolist():
        rows = np.flatnonzero(population.present & _inside(own, name))
        found[name] = _reference(name, population, told, rows)
    return found


def _reference(
    name: str, population: Population, told: dict[str, NDArray[np.float64]], rows: NDArray[np.int64]
) -> Reference:
    terms: Values = {term: value[rows] for term, value in population.terms.items()}
    measured = {test: value[rows] for test, value in population.labs.value.items()}
    typical = {test: float(np.nanmedian(value)) for test, value in measured.items()}
    typical["age"] = float(np.median(terms["age"]))
    smoking = {"never": 1 - terms["current_smoker"] - terms["former_smoker"]}
    smoking |= {kind: terms[kind] for kind in ("former_smoker", "current_smoker")}
    usual = max(smoking, key=lambda kind: float(smoking[kind].sum()))
    typical |= {kind: float(kind == usual) for kind in ("former_smoker", "current_smoker")}
    histories = ("diabetes", "hypertension", "prior_cardiovascular", "prior_cancer", "prior_depression")
    typical |= {term: float(terms[term].mean() > 0.5) for term in ("male", *histories)}
    state = {}
    for modality in MODALITIES:
        have = rows if modality == "tabular" else rows[population.recorded[modality][rows]]
        state[modality] = told[modality][have].mean(axis=0) if len(have) else np.array([1.0, 0.0, 0.0])
    return Reference(name, {term: float(value.mean()) for term, value in terms.items()}, state, typical)


def _told_states(config: HospitalConfig, population: Population) -> dict[str, NDArray[np.float64]]:
    """Share of each state of each latent given all that is on record: one-hot where it is. Shape: each (N, 3)."""
    found = {modality: np.empty((len(population), len(LATENTS[modality]))) for modality in MODALITIES}
    for first in range(0, len(population), _BLOCK):
        rows = slice(first, min(first + _BLOCK, len(population)))
        weight = posterior(config, population, rows)
        for m, modality in enumerate(MODALITIES):
            for s in range(len(LATENTS[modality])):
                found[modality][rows, s] = weight[:, COMBINATIONS[:, m] == s].sum(axis=1)
    return found
