"""What a population is like, in numbers that point at nobody: kept in the bundle, and set beside another site's.

Every cell of fewer than 10 people is suppressed: pooled with its like, or null.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from riskpred.config.outcomes import OutcomesConfig
from riskpred.evaluate.censoring import DAYS_PER_YEAR, OUTCOME, Floats, Undefined, aalen_johansen, at_horizon
from riskpred.evaluate.gather import outcome_status, pattern_of
from riskpred.features.batch import FeatureBatch, SeriesInput, TabularInput
from riskpred.features.plan import FeaturePlan, SeriesPlan, TabularPlan

FEWEST: Final = 10
"""People in a cell that is shown."""

FEW: Final = "(fewer than 10 each)"
"""Name of the cell that holds the small ones."""

AGE: Final = "age_years"
SEX: Final = "GENDER//"
_FOR_DECILES: Final = 10 * FEWEST
_LEAST_SHARE: Final = 1e-4
"""An empty bin counts as this share in the stability index, which would be infinite."""
_YES_NO: Final = ("no", "yes")


@dataclass(frozen=True)
class Feature:
    """One input over N rows. categories: () = a number. values: (N,) float32, NaN = missing; a category is its index.

    A channel of a series stands for its last value.
    """

    modality: str
    name: str
    display: str
    unit: str | None
    categories: tuple[str, ...]
    values: NDArray[np.float32]


def features_of(plan: FeaturePlan, batch: FeatureBatch) -> list[Feature]:
    """The tabular columns and series channels of a batch, in the plan's order; images have no numbers to compare."""
    found: list[Feature] = []
    for modality, part in plan.modalities.items():
        given = batch.inputs.get(modality)
        if isinstance(part, TabularPlan) and isinstance(given, TabularInput):
            for f, column in enumerate(part.columns):
                kinds = _YES_NO if column.aggregate == "ever" else column.vocabulary
                found.append(
                    Feature(modality, column.name, column.display, column.unit, kinds, given.values[:, f].copy())
                )
        elif isinstance(part, SeriesPlan) and isinstance(given, SeriesInput):
            last = _last_values(given)
            for c, channel in enumerate(part.channels):
                found.append(Feature(modality, f"{channel.code}:last", channel.display, channel.unit, (), last[:, c]))
    return found


def population_of(
    plan: FeaturePlan,
    outcomes: OutcomesConfig,
    batch: FeatureBatch,
    cause: Mapping[str, NDArray[np.int8]],
    duration_days: Mapping[str, Floats],
) -> dict[str, Any]:
    """`summarise_population` of rows as `fit` has them. Shape: cause, duration_days: risk group -> (N,)."""
    return summarise_population(
        features_of(plan, batch),
        batch.subject_id,
        pattern_of(batch.present, len(batch)),
        [(name, h) for group in outcomes.groups for name in group.outcomes for h in group.horizons_years],
        outcome_status(outcomes, cause),
        {name: duration_days[group.name] for group in outcomes.groups for name in group.outcomes},
    )


def summarise_population(
    features: Sequence[Feature],
    subject_id: NDArray[np.int64],
    pattern: NDArray[np.str_],
    targets: Sequence[tuple[str, float]],
    status: Mapping[str, NDArray[np.int8]],
    time_days: Mapping[str, Floats],
) -> dict[str, Any]:
    """A population as plain data, for JSON: rows, subjects, age, sex, patterns, outcomes and features.

    features: each {modality, name, display, unit, n, missing (share), mean, sd, deciles, cuts, shares} or, for a
        category, {..., n, missing, categories (name -> share)}. cuts and shares: bins of the deciles, with at least 10
        people in each; a value on a cut lies in the bin below it. Null where too few people stand behind a number.
    outcomes: name -> {rows, horizons: [[horizon_years, incidence or null], ...]}: Aalen-Johansen, or the share with an
        outcome known at once.
    age: mean, sd, low, high: of the 10th youngest and the 10th oldest, outward to whole years. sex: category -> share.

    Shape: subject_id, pattern, and each status and time_days (as in `Evaluated`) (N,).
    """
    cells = _Cells(subject_id)
    summaries = [_summary(feature, cells) for feature in features]
    age = next((feature for feature in features if feature.name == AGE), None)
    sex = next((i for i, feature in enumerate(features) if feature.categories and feature.name.startswith(SEX)), None)
    return {
        "rows": len(subject_id),
        "subjects": len(np.unique(subject_id)),
        "age": None if age is None else _age(age.values, subject_id, summaries[features.index(age)]),
        "sex": None if sex is None else summaries[sex]["categories"],
        "patterns": _shares(pattern, [str(one) for one in np.unique(pattern)], cells, np.ones(len(pattern), np.bool_)),
        "outcomes": {
            name: {
                "rows": int((status[name] >= 0).sum()),
                "horizons": [
                    [years, _incidence(years, status[name], time_days[name], cells)]
                    for outcome, years in targets
                    if outcome == name
                ],
            }
            for name in dict.fromkeys(outcome for outcome, _ in targets)
        },
        "features": summaries,
    }


def compare(training: Mapping[str, Any], here: Mapping[str, Any], features: Sequence[Feature]) -> list[dict[str, Any]]:
    """How each feature differs: {modality, name, display, unit, training, here, smd, psi}, in the plan's order.

    training, here: the summaries. smd: standardised mean difference, here less training, over the root of the mean
    variance; of a category the largest of its categories'. psi: population stability index over the training bins or
    categories. Null where a summary is.

    Args: features: those summarised in `here`; their values fill the training bins.
    Source: Austin 2009, Stat Med 28:3083-3107 (smd); Siddiqi 2006, Credit Risk Scorecards, ch. 7 (psi).
    """
    before = {(one["modality"], one["name"]): one for one in training["features"]}
    rows = []
    for feature, now in zip(features, here["features"], strict=True):
        then = before.get((feature.modality, feature.name))
        if then is not None:
            rows.append(
                {
                    **{key: now[key] for key in ("modality", "name", "display", "unit")},
                    "training": then,
                    "here": now,
                    "smd": _smd(then, now),
                    "psi": _psi(then, feature),
                }
            )
    return rows


class _Cells:
    """Counts people, of whom each may have several rows."""

    def __init__(self, subject_id: NDArray[np.int64]) -> None:
        self._subject_id = subject_id
        self._one_row_each = len(np.unique(subject_id)) == len(subject_id)

    def people(self, inside: NDArray[np.bool_]) -> int:
        return int(inside.sum()) if self._one_row_each else len(np.unique(self._subject_id[inside]))

    def small(self, inside: NDArray[np.bool_]) -> bool:
        """Some people, but fewer than may be shown."""
        return bool(inside.any()) and self.people(inside) < FEWEST


def _summary(feature: Feature, cells: _Cells) -> dict[str, Any]:
    there = ~np.isnan(feature.values)
    hidden = cells.small(there) or cells.small(~there)
    found: dict[str, Any] = {
        "modality": feature.modality,
        "name": feature.name,
        "display": feature.display,
        "unit": feature.unit,
        "n": None if hidden else int(there.sum()),
        "missing": None if hidden or not len(there) else _rounded(1.0 - float(there.mean())),
    }
    enough = cells.people(there) >= FEWEST
    if feature.categories:
        index = np.where(there, feature.values, -1).astype(np.int64)
        names = np.array([*feature.categories, ""])[index]
        return {**found, "categories": _shares(names, feature.categories, cells, there) if enough else None}
    return {**found, **(_numbers(feature.values, there, cells) if enough else _NO_NUMBERS)}


_NO_NUMBERS: Final = {"mean": None, "sd": None, "deciles": None, "cuts": None, "shares": None}


def _numbers(values: NDArray[np.float32], there: NDArray[np.bool_], cells: _Cells) -> dict[str, Any]:
    """Mean, SD, deciles and bins of a number; null where few people differ from what nearly everyone has."""
    known = values[there].astype(np.float64)
    levels, counts = np.unique(known, return_counts=True)
    if cells.small(there & (values != levels[int(counts.argmax())])):
        return dict(_NO_NUMBERS)
    found = {**_NO_NUMBERS, "mean": _rounded(float(known.mean())), "sd": _rounded(float(known.std()))}
    if cells.people(there) < _FOR_DECILES:
        return found
    deciles = np.quantile(known, np.arange(1, 10) / 10, method="inverted_cdf")
    cuts: list[float] = []
    low = -np.inf
    for cut in np.unique(deciles).tolist():  # a bin that is too small is joined to the next
        if cells.people(there & (values > low) & (values <= cut)) >= FEWEST:
            cuts.append(cut)
            low = cut
    while cuts and cells.people(there & (values > cuts[-1])) < FEWEST:
        cuts.pop()
    return {
        **found,
        "deciles": [_rounded(value) for value in deciles.tolist()],
        "cuts": cuts,
        "shares": [_rounded(share) for share in _in_bins(known, cuts).tolist()],
    }


def _in_bins(values: Floats, cuts: Sequence[float]) -> Floats:
    """Share of values in each bin; a value on a cut lies in the bin below it. Shape: (V,) -> (cuts + 1,)."""
    place = np.searchsorted(np.asarray(cuts, np.float64), values, side="left")
    return np.bincount(place, minlength=len(cuts) + 1) / max(1, len(values))


def _shares(names: NDArray[np.str_], kinds: Sequence[str], cells: _Cells, there: NDArray[np.bool_]) -> dict[str, float]:
    """Share of each kind among the rows that are there; small cells are pooled, with the next larger if need be."""
    count = {kind: cells.people(there & (names == kind)) for kind in kinds}
    pooled = [kind for kind in kinds if 0 < count[kind] < FEWEST]
    inside = there & np.isin(names, pooled)
    if pooled and cells.people(inside) < FEWEST:  # else it could be told by subtraction
        rest = sorted((kind for kind in kinds if count[kind] >= FEWEST), key=lambda kind: (count[kind], kind))
        pooled += rest[:1]
        inside = there & np.isin(names, pooled)
    rows = max(1, int(there.sum()))
    found = {kind: _rounded(int((there & (names == kind)).sum()) / rows) for kind in kinds if kind not in pooled}
    return found | ({FEW: _rounded(int(inside.sum()) / rows)} if pooled else {})


def _incidence(years: float, status: NDArray[np.int8], time_days: Floats, cells: _Cells) -> float | None:
    """Share with the outcome by the horizon; None with fewer than 10 people, or too few followed so far."""
    at_risk = status >= 0
    if years == 0:
        came, free = status == OUTCOME, at_risk & (status != OUTCOME)
        if cells.small(came) or cells.small(free) or not at_risk.any():
            return None
        return _rounded(float(came.sum() / at_risk.sum()))
    days = years * DAYS_PER_YEAR
    came = (status == OUTCOME) & (time_days <= days)
    if cells.small(came) or not at_risk.any():
        return None
    try:
        at_horizon(time_days[at_risk], status[at_risk], days)
    except Undefined:
        return None
    return _rounded(float(aalen_johansen(time_days[at_risk], status[at_risk], np.array([days]))[0]))


def _age(values: NDArray[np.float32], subject_id: NDArray[np.int64], summary: Mapping[str, Any]) -> dict[str, Any]:
    there = ~np.isnan(values)
    subjects, place = np.unique(subject_id[there], return_inverse=True)
    low, high = None, None
    if len(subjects) >= FEWEST:
        youngest, oldest = np.full(len(subjects), np.inf), np.full(len(subjects), -np.inf)
        np.minimum.at(youngest, place, values[there])
        np.maximum.at(oldest, place, values[there])
        low = float(np.floor(np.sort(youngest)[FEWEST - 1]))
        high = float(np.ceil(np.sort(oldest)[-FEWEST]))
    return {"mean": summary["mean"], "sd": summary["sd"], "low": low, "high": high}


def _last_values(given: SeriesInput) -> NDArray[np.float32]:
    """Last value of each channel in each row's steps, NaN where there is none. Shape: (B, C)."""
    rows = len(given.start) - 1
    found = np.full((rows, given.values.shape[1]), np.nan, dtype=np.float32)
    row = np.repeat(np.arange(rows), np.diff(given.start))
    for c in range(given.values.shape[1]):
        seen = ~np.isnan(given.values[:, c])
        found[row[seen], c] = given.values[seen, c]  # steps go oldest first: the last one written stays
    return found


def _smd(then: Mapping[str, Any], now: Mapping[str, Any]) -> float | None:
    if "categories" in then:
        if then["categories"] is None or now.get("categories") is None:
            return None
        both = [kind for kind in then["categories"] if kind in now["categories"] and kind != FEW]
        each = [_of_shares(then["categories"][kind], now["categories"][kind]) for kind in both]
        known = [value for value in each if value is not None]
        return max(known, key=abs) if known else None
    if then["mean"] is None or now["mean"] is None:
        return None
    return _standardised(now["mean"] - then["mean"], then["sd"] ** 2, now["sd"] ** 2)


def _of_shares(then: float, now: float) -> float | None:
    return _standardised(now - then, then * (1.0 - then), now * (1.0 - now))


def _standardised(difference: float, variance: float, other: float) -> float | None:
    spread = float(np.sqrt((variance + other) / 2.0))
    if spread > 0:
        return difference / spread
    return 0.0 if difference == 0 else None


def _psi(then: Mapping[str, Any], feature: Feature) -> float | None:
    values = feature.values[~np.isnan(feature.values)].astype(np.float64)
    if len(values) < FEWEST:
        return None
    if feature.categories:
        if then["categories"] is None:
            return None
        index = np.bincount(values.astype(np.int64), minlength=len(feature.categories)) / len(values)
        here = dict(zip(feature.categories, index.tolist(), strict=True))
        kept = [kind for kind in then["categories"] if kind != FEW]
        expected = [then["categories"][kind] for kind in kept] + [then["categories"].get(FEW, 0.0)]
        got = [here.get(kind, 0.0) for kind in kept]
        got.append(max(0.0, 1.0 - sum(got)))
    else:
        if then["cuts"] is None:
            return None
        expected, got = then["shares"], _in_bins(values, then["cuts"]).tolist()
    pairs = [(e, g) for e, g in zip(expected, got, strict=True) if e > 0 or g > 0]
    before, after = np.maximum(np.array(pairs, np.float64).T, _LEAST_SHARE)
    return float(np.sum((after - before) * np.log(after / before)))


def _rounded(value: float) -> float:
    """Six significant digits: more would tell single people apart, and fills the card."""
    return float(f"{value:.6g}")
