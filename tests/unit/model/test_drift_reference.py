"""The training reference of drift: cells of at least 10 people, counts that point at nobody, bytes that name it."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from riskpred.features.batch import FeatureBatch, ImageInput, Receipt, SeriesInput, TabularInput
from riskpred.features.join import starts
from riskpred.features.plan import FeatureColumn, FeaturePlan, ImagePlan, SeriesChannel, SeriesPlan, TabularPlan
from riskpred.model.drift_reference import (
    OTHER,
    DriftReference,
    cells_of,
    drift_reference_of,
    learn_drift_reference,
)
from riskpred.records.chunk import DAY_US, STATIC

NOW = 20_000 * DAY_US


def plan_of(*vocabularies: tuple[str, ...]) -> FeaturePlan:
    columns = [
        FeatureColumn(f"c{i}", f"c{i}", "last", None, "mg", f"C{i}", False, v) for i, v in enumerate(vocabularies)
    ]
    return FeaturePlan({"tabular": TabularPlan(tuple(columns))})


def batch_of(values: Any, subject_id: Any = None) -> FeatureBatch:
    """One tabular modality. Shape: values (B, F)."""
    values = np.asarray(values, dtype=np.float32)
    rows = len(values)
    subjects = np.arange(rows) if subject_id is None else np.asarray(subject_id)
    receipt = Receipt(
        np.zeros(rows, np.int8), np.ones(rows, np.int64), np.full(rows, NOW), np.zeros((rows, 0), np.bool_), ()
    )
    there = {"tabular": np.ones(rows, np.bool_)}
    given = TabularInput(values, np.zeros(values.shape, np.int64))
    return FeatureBatch(subjects, np.full(rows, NOW), {"tabular": given}, there, {"tabular": receipt}, ())


def test_a_number_has_tenths_and_a_missing_cell() -> None:
    values = np.append(np.arange(1000.0), [np.nan] * 200)[:, None]
    (feature,) = learn_drift_reference(plan_of(()), batch_of(values)).features
    assert feature.counts == (*(100,) * 10, 200)
    reference = DriftReference((feature,), {})
    cell = cells_of(reference, batch_of([[0.0], [feature.cuts[0]], [feature.cuts[0] + 1], [1e9], [-np.inf], [np.nan]]))
    assert cell[:, 0].tolist() == [0, 0, 1, 9, 0, 10], "a value on a cut lies in the cell below it"


def test_a_constant_keeps_a_cell_on_either_side() -> None:
    (feature,) = learn_drift_reference(plan_of(()), batch_of(np.full((50, 1), 5.0))).features
    cell = cells_of(DriftReference((feature,), {}), batch_of([[4.0], [5.0], [6.0]]))[:, 0]
    assert len(set(cell.tolist())) == 3
    assert feature.counts[cell[1]] == 50


@pytest.mark.parametrize("values", [[np.nan] * 40, [1.0] * 9 + [np.nan] * 31])
def test_too_few_values_make_one_cell(values: list[float]) -> None:
    (feature,) = learn_drift_reference(plan_of(()), batch_of(np.array(values)[:, None])).features
    assert feature.cuts == ()
    assert cells_of(DriftReference((feature,), {}), batch_of([[7.0], [np.nan]]))[:, 0].tolist() == [0, 1]


def test_a_cell_counts_people_not_rows() -> None:
    values = np.repeat(np.arange(40.0), 5)[:, None]  # 40 people, five rows each: a tenth would hold four people
    (feature,) = learn_drift_reference(plan_of(()), batch_of(values, np.repeat(np.arange(40), 5))).features
    inside = np.searchsorted(np.array(feature.cuts), values[:, 0], side="left")
    held = [len(np.unique(values[inside == cell])) for cell in range(len(feature.cuts))]
    assert min(held) >= 10
    assert len(feature.cuts) == 3


def test_counts_are_to_the_nearest_five_and_none_tells_of_few_people() -> None:
    values = np.array([0.0] * 61 + [1.0] * 33 + [2.0] * 3)[:, None]
    (feature,) = learn_drift_reference(plan_of(("a", "b", "c")), batch_of(values)).features
    assert feature.names == ("a", "b", OTHER)
    assert feature.counts == (60, 35, 5, 0)


def test_a_rare_category_lies_with_the_others_and_a_new_one_is_missing() -> None:
    values = np.array([0.0] * 20 + [1.0] * 3 + [2.0] * 40)[:, None]
    (feature,) = learn_drift_reference(plan_of(("a", "rare", "c")), batch_of(values)).features
    assert feature.names == ("c", "a", OTHER)
    cell = cells_of(DriftReference((feature,), {}), batch_of([[0.0], [1.0], [2.0], [np.nan]]))[:, 0]
    assert cell.tolist() == [1, 2, 0, 3]


def test_series_and_images_are_watched_by_latest_value_and_age() -> None:
    plan = FeaturePlan(
        {
            "series": SeriesPlan((SeriesChannel("A", None, "A"), SeriesChannel("B", None, "B")), None, 8, None),
            "image": ImagePlan(("DX",), None, None, 4),
        }
    )
    rows, draw = 40, np.random.default_rng(1)
    start = np.arange(rows + 1) * 2
    steps = draw.normal(size=(2 * rows, 2)).astype(np.float32)
    steps[1::2, 1] = np.nan  # B is never measured last: its latest value is the step before
    steps[4:6] = np.nan
    time = np.array([NOW - 3 * DAY_US] * 38 + [STATIC] * 2)
    there = np.array([True] * 20 + [False] * 18 + [True] * 2)
    receipt = Receipt(
        np.zeros(rows, np.int8), np.ones(rows, np.int64), np.full(rows, NOW), np.zeros((rows, 0), np.bool_), ()
    )
    batch = FeatureBatch(
        np.arange(rows),
        np.full(rows, NOW),
        {
            "series": SeriesInput(start, np.zeros(2 * rows, np.int64), steps),
            "image": ImageInput(
                starts(there.astype(np.int64)),
                np.zeros((22, 1, 4, 4), np.float32),
                ("x",) * 22,
                time[there],
                np.ones((22, 3)),
                np.zeros((22, 2)),
            ),
        },
        {"series": np.ones(rows, np.bool_), "image": there},
        {"series": receipt, "image": receipt},
        (),
    )
    reference = learn_drift_reference(plan, batch)
    assert [feature.name for feature in reference.features] == ["A:last", "B:last", "age_days"]
    cells = cells_of(reference, batch)
    first, second, image = reference.features
    expected = np.searchsorted(np.array(second.cuts), steps[0::2, 1], side="left")
    expected[2] = second.cells - 1
    assert cells[:, 1].tolist() == expected.tolist()
    assert cells[2, 0] == first.cells - 1
    dated = cells[:, 2] < image.cells - 1
    assert dated.tolist() == [True] * 20 + [False] * 20, "no image, and an image of no date, have no age"


def test_json_gives_the_same_reference_back() -> None:
    values = np.random.default_rng(2).normal(size=(300, 2))
    values[:, 1] = np.arange(300) % 3
    reference = learn_drift_reference(plan_of((), ("a", "b", "c")), batch_of(values))
    again = DriftReference.from_json(json.loads(json.dumps(reference.to_json())))
    assert again == reference
    assert (cells_of(again, batch_of(values)) == cells_of(reference, batch_of(values))).all()


def test_an_older_bundle_still_has_its_risks(random_bundle: Callable[[int], Any], small_batch: Any) -> None:
    bundle = random_bundle(1)
    reference = drift_reference_of(bundle)
    assert reference.features == ()
    assert [(one.outcome, one.horizon_years) for one in reference.risks] == list(bundle.model.targets)
    assert all(sum(one.counts) == len(bundle.out_of_fold) for one in reference.risks)
    fitted = replace(bundle, card={**bundle.card, "drift": learn_drift_reference(*small_batch).to_json()})
    assert [one.name for one in drift_reference_of(fitted).features] == [
        *("age_years", "GENDER//*:last", "CHOL:last", "SBP:last", "HR:last", "age_days"),
    ]
