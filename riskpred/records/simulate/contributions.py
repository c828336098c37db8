"""True contributions of the simulated hospital: Shapley values of the true risk, in risk points, exact.

Modality level. v(S) is the true risk (`true_value.risks_told`) with what is on record of the modalities in S; of a
modality on record outside S, what an average person of the subject's group sends (`reference.Reference`: mean terms,
mean latent indicators); a latent not on record is summed out in every S, given what S tells. So v(everything) is the
true risk, v(nothing) that of the average person with the subject's own missing pattern, and phi_m the Shapley value.
This is the product's v(S), with the true function in place of the network.

Feature level. Within modality m, W(x) = sum over S of weight(S) (v(S with m at x) - v(S)). Row (presence) is W at the
group's typical values (medians, modes; a steady pressure; no nodule), what is not measured staying not measured. The
rest, phi_m - (presence), is shared by the Shapley values of W over the features that differ from those; in a series and
in an image one thing alone tells the latent. Integrated gradients, the product's way, would not do for the truth: HbA1c
and CRP act through thresholds.

Source: Shapley 1953, Contributions to the Theory of Games II, 307-317.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, product
from math import factorial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.config.simulation import LATENTS, HospitalConfig
from riskpred.records.simulate.labs import CRP_INFLAMED, HBA1C_RESISTANT
from riskpred.records.simulate.population import MODALITIES, Population, Values
from riskpred.records.simulate.reference import Reference, group_names, references
from riskpred.records.simulate.true_value import STATES, Told, risks_told

POINTS: Final = 100.0
PRESENCE: Final = "(presence)"

TABULAR: Final = {
    "age": "age_years",
    "male": "GENDER//*",
    "smoking": "SMOKING",
    "hba1c": "LAB//HBA1C",
    "crp": "LAB//CRP",
    "ldl": "LAB//LDL",
    "creatinine": "LAB//CREATININE",
    "diabetes": "DX//diabetes//*",
    "hypertension": "DX//hypertension//*",
    "prior_cardiovascular": "DX//cardiovascular//*",
    "prior_cancer": "DX//cancer//*",
    "prior_depression": "DX//mental_health//*",
}
"""What of a person's record tells the risk -> its code in the packaged study."""

SOLE_FEATURE: Final = {"series": "VITAL//SYSTOLIC", "image": "image"}

_LARGEST: Final = 60_000
"""Subjects x coalitions x latent combinations evaluated at once."""


@dataclass(frozen=True)
class Contributions:
    """Of N subjects and Q targets (outcome by outcome, horizons rising), in risk points.

    Shape:
        group: (N,).   reference: (N, Q) v(nothing), 0 to 1.
        modality: modality -> (N, Q), NaN where not on record.
        feature: modality -> name -> (N, Q), (presence) among them; NaN where the modality is not on record.
    """

    group: NDArray[np.str_]
    reference: NDArray[np.float64]
    modality: dict[str, NDArray[np.float64]]
    feature: dict[str, dict[str, NDArray[np.float64]]]


def true_contributions(config: HospitalConfig, population: Population) -> Contributions:
    """Of everyone, whoever is eligible."""
    number, targets = len(population), len(config.outcomes) * len(config.horizons_years)
    group = group_names(population)
    found = Contributions(
        group=group,
        reference=np.full((number, targets), np.nan),
        modality={m: np.full((number, targets), np.nan) for m in MODALITIES},
        feature={
            m: {f: np.full((number, targets), np.nan) for f in (*names, PRESENCE)}
            for m, names in (
                ("tabular", TABULAR.values()),
                *((m, (SOLE_FEATURE[m],)) for m in MODALITIES if m != "tabular"),
            )
        },
    )
    known = references(config, population, group)
    for name, reference in known.items():
        for recorded in product((False, True), repeat=len(MODALITIES)):
            there = dict(zip(MODALITIES, recorded, strict=True))
            alike = np.logical_and.reduce([population.recorded[m] == flag for m, flag in there.items()])
            rows = np.flatnonzero((group == name) & alike)
            if len(rows):
                _Same(config, population, rows, there, reference).into(found)
    return found


class _Same:
    """Subjects of one group with the same modalities on record. `recorded`: of tabular, whether the panel is."""

    def __init__(
        self,
        config: HospitalConfig,
        population: Population,
        rows: NDArray[np.int64],
        recorded: dict[str, bool],
        reference: Reference,
    ) -> None:
        self.config, self.rows, self.recorded, self.reference = config, rows, recorded, reference
        self.terms: Values = {name: value[rows] for name, value in population.terms.items()}
        self.labs = {test: value[rows] for test, value in population.labs.value.items()}
        self.own = {m: np.eye(STATES)[population.latent[rows, at]] for at, m in enumerate(MODALITIES)}
        self.players = tuple(m for m in MODALITIES if m == "tabular" or recorded[m])
        self.value = {inside: risks_told(config, self.told(inside)) for inside in _subsets(self.players)}

    def told(self, inside: tuple[str, ...]) -> Told:
        """The subjects' own record inside the coalition, the average person's outside it."""
        known = {m: self.recorded[m] or (m == "tabular" and m not in inside) for m in MODALITIES}
        state = {
            m: self.own[m] if m in inside else np.broadcast_to(self.reference.state[m], self.own[m].shape)
            for m in MODALITIES
        }
        terms = self.terms
        if "tabular" not in inside:
            terms = {name: np.full(len(self.rows), self.reference.mean[name]) for name in self.terms}
        return Told(terms, state, known, self.recorded)

    def into(self, found: Contributions) -> None:
        found.reference[self.rows] = self.value[()]
        for m in self.players:
            found.modality[m][self.rows] = self._worth(m, self.value)
            typical = self._typical(m)
            presence = self._worth(m, self._with(m, typical))
            found.feature[m][PRESENCE][self.rows] = presence
            if m == "tabular":
                for name, value in self._tabular(typical).items():
                    found.feature[m][TABULAR[name]][self.rows] = value
            else:
                found.feature[m][SOLE_FEATURE[m]][self.rows] = found.modality[m][self.rows] - presence

    def _worth(self, m: str, with_m: dict[tuple[str, ...], NDArray[np.float64]]) -> NDArray[np.float64]:
        """W of one modality, given the risks of every coalition that holds it. Shape: (n, Q) risk points."""
        total = np.zeros_like(self.value[()])
        for others in _subsets(tuple(other for other in self.players if other != m)):
            weight = _weight(len(others), len(self.players))
            total += weight * (with_m[self._joined(others, m)] - self.value[others])
        return POINTS * total

    def _joined(self, others: tuple[str, ...], m: str) -> tuple[str, ...]:
        return tuple(player for player in self.players if player in (*others, m))

    def _with(self, m: str, told: Callable[[Told], Told]) -> dict[tuple[str, ...], NDArray[np.float64]]:
        """Risks of every coalition that holds m, with something else in place of what m tells."""
        return {
            inside: risks_told(self.config, told(self.told(inside))) for inside in _subsets(self.players) if m in inside
        }

    def _typical(self, m: str) -> Callable[[Told], Told]:
        """Puts the group's typical values of a modality in place of a subject's own."""
        if m == "tabular":
            nobody = np.zeros((len(self.rows), len(TABULAR)), dtype=np.bool_)
            return lambda told: self._at(told, nobody, np.arange(len(self.rows)))
        first = np.broadcast_to(np.eye(STATES)[0], (len(self.rows), STATES))
        return lambda told: replace(told, state={**told.state, m: first})

    def _at(self, told: Told, own: NDArray[np.bool_], subject: NDArray[np.int64]) -> Told:
        """Rows of `told` with the subject's own value of the features in `own`, the typical one of the others.

        Shape: own (r, features of TABULAR), subject (r,); told has r rows.
        """
        typical, mine = self.reference.typical, dict(zip(TABULAR, own.T, strict=True))
        terms = dict(told.terms)

        def put(term: str, by: str, value: float) -> None:
            terms[term] = np.where(mine[by], self.terms[term][subject], value)

        put("age", "age", typical["age"])
        put("age_squared", "age", typical["age"] ** 2)
        put("male", "male", typical["male"])
        for kind in ("former_smoker", "current_smoker"):
            put(kind, "smoking", typical[kind])
        for test, term in (("ldl", typical["ldl"] - 3.2), ("creatinine", float(np.log(typical["creatinine"] / 80)))):
            put(test, test, term)
            terms[test] = np.where(np.isnan(self.labs[test][subject]), 0.0, terms[test])
        for history in tuple(TABULAR)[-5:]:
            put(history, history, typical[history])
        state = told.state
        if self.recorded["tabular"]:
            lab = {test: np.where(mine[test], self.labs[test][subject], typical[test]) for test in ("hba1c", "crp")}
            which = np.where(lab["hba1c"] > HBA1C_RESISTANT, 1, np.where(lab["crp"] > CRP_INFLAMED, 2, 0))
            state = {**state, "tabular": np.eye(STATES)[which]}
        return replace(told, terms=terms, state=state)

    def _active(self) -> NDArray[np.bool_]:
        """Which features change what the true risk reads, against the typical person. Shape: (n, features)."""
        typical = self.reference.typical
        differs = {name: np.zeros(len(self.rows), dtype=np.bool_) for name in TABULAR}
        for name in ("age", "male", *tuple(TABULAR)[-5:]):
            differs[name] = self.terms[name] != typical[name]
        differs["smoking"] = (self.terms["former_smoker"] != typical["former_smoker"]) | (
            self.terms["current_smoker"] != typical["current_smoker"]
        )
        for test in ("ldl", "creatinine"):
            differs[test] = np.isfinite(self.labs[test]) & (self.labs[test] != typical[test])
        if self.recorded["tabular"]:
            for test, limit in (("hba1c", HBA1C_RESISTANT), ("crp", CRP_INFLAMED)):
                differs[test] = (self.labs[test] > limit) != (typical[test] > limit)
        return np.stack(list(differs.values()), axis=1)

    def _tabular(self, typical: Callable[[Told], Told]) -> dict[str, NDArray[np.float64]]:
        """Shapley value of W over the features of TABULAR. Shape: each (n, Q)."""
        active = self._active()
        found = {name: np.zeros_like(self.value[()]) for name in TABULAR}
        names = tuple(TABULAR)
        others = list(_subsets(tuple(other for other in self.players if other != "tabular")))
        for count in np.unique(active.sum(axis=1)).tolist():
            table, matrix = np.array(list(product((False, True), repeat=count)), dtype=np.bool_), _shapley(count)
            rows = np.flatnonzero(active.sum(axis=1) == count)
            most = max(1, _LARGEST // (2**count * STATES ** sum(not flag for flag in self.recorded.values())))
            for block in np.array_split(rows, -(-len(rows) // most)):
                which = np.nonzero(active[block])[1].reshape(len(block), count)
                own = np.zeros((len(block), len(table), len(names)), dtype=np.bool_)
                for player in range(count):
                    own[np.arange(len(block)), :, which[:, player]] = table[:, player]
                subject = np.repeat(block, len(table))
                worth = np.zeros((len(block), len(table), self.value[()].shape[1]))
                for some in others:
                    told = self.told(self._joined(some, "tabular")).take(subject)
                    risk = risks_told(self.config, self._at(told, own.reshape(-1, len(names)), subject))
                    worth += POINTS * _weight(len(some), len(self.players)) * risk.reshape(worth.shape)
                share = np.einsum("pt,ntq->npq", matrix, worth)
                for player in range(count):
                    for f in np.unique(which[:, player]).tolist():
                        here = which[:, player] == f
                        found[names[f]][block[here]] = share[here, player]
        return found


def _subsets(players: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for size in range(len(players) + 1):
        yield from combinations(players, size)


def _weight(size: int, players: int) -> float:
    return factorial(size) * factorial(players - size - 1) / factorial(players)


@cache
def _shapley(players: int) -> NDArray[np.float64]:
    """Turns the worth of all 2^p coalitions, in the order of product((False, True)), into Shapley values.

    Shape: (p, 2^p).
    """
    table = np.array(list(product((0, 1), repeat=players)), dtype=np.int64).reshape(2**players, players)
    size = table.sum(axis=1)
    matrix = np.zeros((players, 2**players))
    for player in range(players):
        for at, (row, inside) in enumerate(zip(table, size.tolist(), strict=True)):
            matrix[player, at] = _weight(inside - 1, players) if row[player] else -_weight(inside, players)
    return matrix


assert set(SOLE_FEATURE) | {"tabular"} == set(LATENTS), "every modality has its features"
