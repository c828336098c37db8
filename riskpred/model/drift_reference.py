"""What the training rows looked like, in cells that point at nobody, and the cells into which later rows fall."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from riskpred.features.batch import FeatureBatch, ImageInput, SeriesInput, TabularInput
from riskpred.features.plan import FeaturePlan, SeriesPlan, TabularPlan
from riskpred.model.bundle import Bundle
from riskpred.records.chunk import DAY_US, STATIC
from riskpred.records.compiled import compiled

CARD_KEY: Final = "drift"
"""Entry of the bundle's card that holds `DriftReference.to_json`."""

OTHER: Final = "(other)"
"""Last cell of a category: all that fewer than FEWEST people had in training, or that came after the first MOST."""

IMAGE_AGE: Final = "age_days"

FEWEST: Final = 10
"""People in a cell before a cut is made, or a category named."""

MOST: Final = 20
"""Categories with a cell of their own, the most frequent first."""

RISK_CELLS: Final = 10
_BASE: Final = 5


@dataclass(frozen=True)
class Watched:
    """One input: a tabular column, the last value of a series' channel (CODE:last), or the age of the latest
    image (age_days).

    cuts: of a number: cell i holds what is above cuts[i - 1], up to and with cuts[i].   names: of a category's cells.
    cell_of: of a category, the cell of each index of the plan's vocabulary.
    counts: training rows in each cell, the missing ones last; to the nearest 5, and 5 where it is 1 to 7.
    A category that training never saw is missing to the model, and so it is here.
    """

    modality: str
    name: str
    display: str
    unit: str | None
    cuts: tuple[float, ...]
    names: tuple[str, ...]
    cell_of: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def cells(self) -> int:
        """Cells, that of missing values with them: the last."""
        return (len(self.names) if self.names else len(self.cuts) + 1) + 1


@dataclass(frozen=True)
class RiskCells:
    """Out-of-fold risks of a target, one per subject: how many fall into each tenth of their own order; their mean."""

    outcome: str
    horizon_years: float
    counts: tuple[int, ...]
    mean: float


@dataclass(frozen=True)
class DriftReference:
    """What nights are compared with. features: in the order of the bytes of `cells_of`.

    modalities: modality -> receipt status -> training rows (to the nearest 5).
    risks: of the bundle's out-of-fold predictions; not in `to_json`, since recalibration moves those.
    """

    features: tuple[Watched, ...]
    modalities: Mapping[str, Mapping[str, int]]
    risks: tuple[RiskCells, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data for the bundle's card."""
        return {
            "features": [asdict(feature) for feature in self.features],
            "modalities": {name: dict(counts) for name, counts in self.modalities.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DriftReference":
        listed = ("cuts", "names", "cell_of", "counts")
        return cls(
            tuple(Watched(**{**one, **{key: tuple(one[key]) for key in listed}}) for one in data["features"]),
            {name: dict(counts) for name, counts in data["modalities"].items()},
        )


def learn_drift_reference(plan: FeaturePlan, batch: FeatureBatch) -> DriftReference:
    """Cells of every input over the training rows: tenths of a number, categories, closed at 10 people or more."""
    people = _People(batch.subject_id)
    features: list[Watched] = []
    for modality, values in _values(plan, batch).items():
        for column, (name, display, unit, vocabulary) in enumerate(_named(plan, modality)):
            features.append(_learned(modality, name, display, unit, vocabulary, values[:, column], people))
    modalities = {}
    for modality, receipt in batch.receipts.items():
        status, count = np.unique(np.array(receipt.status, dtype=np.str_), return_counts=True)
        modalities[modality] = dict(zip(status.tolist(), _to_fives(count), strict=True))
    return DriftReference(tuple(features), modalities)


def drift_reference_of(bundle: Bundle) -> DriftReference:
    """The bundle's reference; without features and modalities where an older release fitted it (see `learned`)."""
    written = bundle.card.get(CARD_KEY)
    found = DriftReference((), {}) if written is None else DriftReference.from_json(written)
    risk, targets = bundle.out_of_fold.risk, bundle.model.targets
    share = bundle.percentile(risk)
    risks = []
    for q, (group, _, _) in enumerate(bundle.model.layout.where):
        rows = bundle.out_of_fold.one_per_subject(group)
        cell = np.minimum(share[rows, q] * RISK_CELLS, RISK_CELLS - 1).astype(np.int64)
        counts = np.bincount(cell, minlength=RISK_CELLS).tolist()
        risks.append(RiskCells(*targets[q], tuple(counts), float(risk[rows, q].mean())))
    return replace(found, risks=tuple(risks))


def cells_of(reference: DriftReference, batch: FeatureBatch) -> NDArray[np.uint8]:
    """The cell of every watched input of every row. Shape: (B, features)."""
    cells = np.empty((len(batch), len(reference.features)), dtype=np.uint8)
    by_modality: dict[str, list[int]] = {}
    for place, feature in enumerate(reference.features):
        by_modality.setdefault(feature.modality, []).append(place)
    for modality, places in by_modality.items():
        watched = [reference.features[place] for place in places]
        values = _of_modality(batch, modality)
        assert values.shape[1] == len(watched), "a reference watches every input of a modality, in the plan's order"
        tables = [feature.cell_of if feature.names else feature.cuts for feature in watched]
        _fill_cells(
            values,
            np.array([bool(feature.names) for feature in watched]),
            np.cumsum([0, *(len(table) for table in tables)]).astype(np.int64),
            np.array([entry for table in tables for entry in table], dtype=np.float64),
            np.array([feature.cells - 1 for feature in watched], dtype=np.int64),
            np.array(places, dtype=np.int64),
            cells,
        )
    return cells


def _values(plan: FeaturePlan, batch: FeatureBatch) -> dict[str, NDArray[np.float32]]:
    return {modality: _of_modality(batch, modality) for modality in plan.modalities}


def _of_modality(batch: FeatureBatch, modality: str) -> NDArray[np.float32]:
    """What is watched of one modality, NaN = missing. Shape: (B, columns)."""
    given = batch.inputs[modality]
    if isinstance(given, TabularInput):
        return given.values
    if isinstance(given, SeriesInput):
        return last_values(given.start, given.values)
    assert isinstance(given, ImageInput)
    latest = given.latest_time
    dated = batch.present[modality] & (latest != STATIC)
    age = (batch.prediction_time - np.where(dated, latest, 0)) / DAY_US
    return np.where(dated, age, np.nan).astype(np.float32)[:, None]


def _named(plan: FeaturePlan, modality: str) -> list[tuple[str, str, str | None, tuple[str, ...]]]:
    """(name, display, unit, vocabulary) of each column of `_of_modality`."""
    part = plan.modalities[modality]
    if isinstance(part, TabularPlan):
        return [(column.name, column.display, column.unit, column.vocabulary) for column in part.columns]
    if isinstance(part, SeriesPlan):
        return [(f"{channel.code}:last", channel.display, channel.unit, ()) for channel in part.channels]
    return [(IMAGE_AGE, "age of the image", "days", ())]


class _People:
    """Counts people, of whom each may have several rows."""

    def __init__(self, subject_id: NDArray[np.int64]) -> None:
        self._place = np.unique(subject_id, return_inverse=True)[1].reshape(-1)

    def per_cell(self, cell: NDArray[np.int64], rows: NDArray[np.int64], cells: int) -> NDArray[np.int64]:
        """People with a row in each cell. Shape: cell, rows (n,), the rows' positions; the result (cells,)."""
        pairs = np.unique(self._place[rows] * cells + cell)
        return np.bincount(pairs % cells, minlength=cells).astype(np.int64)

    def count(self, rows: NDArray[np.int64]) -> int:
        """People with one of these rows."""
        return len(np.unique(self._place[rows]))


def _learned(
    modality: str,
    name: str,
    display: str,
    unit: str | None,
    vocabulary: tuple[str, ...],
    values: NDArray[np.float32],
    people: _People,
) -> Watched:
    rows = np.flatnonzero(~np.isnan(values))
    known = values[rows].astype(np.float64)
    cuts: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    cell_of: tuple[int, ...] = ()
    if vocabulary:
        held = people.per_cell(known.astype(np.int64), rows, len(vocabulary))
        own = [int(v) for v in np.argsort(-held, kind="stable")[:MOST] if held[v] >= FEWEST]
        names = (*(vocabulary[v] for v in own), OTHER)
        cell_of = tuple(own.index(v) if v in own else len(own) for v in range(len(vocabulary)))
        cell = np.array(cell_of, dtype=np.int64)[known.astype(np.int64)]
    else:
        cuts = _cuts(known, rows, people)
        cell = np.searchsorted(np.array(cuts), known, side="left").astype(np.int64)
    cells = len(names) if names else len(cuts) + 1
    counts = np.append(np.bincount(cell, minlength=cells), len(values) - len(rows))
    return Watched(modality, name, display, unit, cuts, names, cell_of, tuple(_to_fives(counts)))


def _cuts(known: NDArray[np.float64], rows: NDArray[np.int64], people: _People) -> tuple[float, ...]:
    """Deciles that each close a cell of at least 10 people; () where fewer have a value."""
    if not len(known):
        return ()
    deciles = np.unique(np.quantile(known, np.arange(1, 10) / 10, method="inverted_cdf"))
    cuts: list[float] = []
    low = -np.inf
    for cut in deciles.tolist():
        if people.count(rows[(known > low) & (known <= cut)]) >= FEWEST:
            cuts.append(cut)
            low = cut
    if cuts and cuts[0] == known.min():  # what lies below a heap that is the least was never seen: a cell of its own
        cuts.insert(0, float(np.nextafter(np.float32(cuts[0]), np.float32(-np.inf))))
    return tuple(cuts)


def _to_fives(counts: NDArray[np.int64] | Sequence[int]) -> list[int]:
    """To the nearest 5, and 5 for 1 to 7: no count of few people can be read from it, or from a difference of two.

    Source: NHS Digital, Disclosure control methodology for Hospital Episode Statistics.
    """
    given = np.asarray(counts, dtype=np.int64)
    rounded = (given + _BASE // 2) // _BASE * _BASE
    return [int(count) for count in np.where(given > 0, np.maximum(rounded, _BASE), 0)]


@compiled
def last_values(start: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Last value of each channel in each row's steps, NaN where there is none. Shape: (B + 1,), (T, C) -> (B, C)."""
    rows, channels = len(start) - 1, values.shape[1]
    found = np.full((rows, channels), np.float32(np.nan), dtype=np.float32)
    for b in range(rows):
        for c in range(channels):
            for step in range(start[b + 1] - 1, start[b] - 1, -1):
                if not np.isnan(values[step, c]):
                    found[b, c] = values[step, c]
                    break
    return found


@compiled
def _fill_cells(
    values: NDArray[np.float32],
    is_category: NDArray[np.bool_],
    table_start: NDArray[np.int64],
    table: NDArray[np.float64],
    missing: NDArray[np.int64],
    place: NDArray[np.int64],
    cells: NDArray[np.uint8],
) -> None:
    """Writes the cell of each value into its place. A column's table holds its cuts, or the cell of each category."""
    rows, columns = values.shape
    for b in range(rows):
        for c in range(columns):
            value, first, end = values[b, c], table_start[c], table_start[c + 1]
            if np.isnan(value):
                cells[b, place[c]] = missing[c]
            elif is_category[c]:
                cells[b, place[c]] = np.int64(table[first + np.int64(value)])
            else:
                cell = 0
                for i in range(first, end):
                    cell += value > table[i]
                cells[b, place[c]] = cell
