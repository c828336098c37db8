"""A population summary has the textbook numbers, and no cell that could point at a person."""

import json

import numpy as np
import pytest

from riskpred.evaluate.populations import FEW, Feature, compare, summarise_population

NOBODY = np.zeros(0, dtype=np.int8)


def feature(values, categories=(), name="LAB//X:last", modality="tabular") -> Feature:
    return Feature(modality, name, "X", "mmol/L", tuple(categories), np.asarray(values, dtype=np.float32))


def summary(features, subject_id=None, pattern=None, status=None, time_days=None, targets=()):
    size = len(features[0].values)
    return summarise_population(
        features,
        np.arange(size) if subject_id is None else subject_id,
        np.full(size, "tabular") if pattern is None else pattern,
        targets,
        status or {},
        time_days or {},
    )


def only(features, **more):
    return summary(features, **more)["features"][0]


def test_a_number_has_its_mean_sd_and_deciles():
    found = only([feature([*range(1, 101), *[np.nan] * 25])])
    assert (found["n"], found["missing"]) == (100, 0.2)
    assert (found["mean"], found["sd"]) == (50.5, pytest.approx(np.arange(100).std(), rel=1e-5))
    assert found["deciles"] == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert found["shares"] == [0.1] * 10


def test_a_heap_of_equal_values_makes_fewer_bins_each_with_ten_people():
    found = only([feature([0.0] * 150 + [1.0] * 30 + [2.0] * 20 + [3.0] * 4)])
    assert found["cuts"] == [0.0, 1.0]
    assert found["shares"] == pytest.approx([150 / 204, 30 / 204, 24 / 204], rel=1e-5)
    assert min(found["shares"]) * 204 >= 10


@pytest.mark.parametrize(
    ("values", "null"),
    [
        ([*range(9), *[np.nan] * 91], ("n", "missing", "mean", "sd", "deciles")),  # few have it
        ([*range(91), *[np.nan] * 9], ("n", "missing")),  # few lack it
        ([*[0.0] * 95, *range(1, 6)], ("mean", "sd", "deciles", "cuts")),  # few differ
        ([*range(50)], ("deciles", "cuts")),  # a decile would be five people
    ],
)
def test_numbers_behind_which_few_people_stand_are_null(values, null):
    found = only([feature(values)])
    assert {name for name in null if found[name] is not None} == set()


def test_people_are_counted_not_rows():
    nine = np.repeat(np.arange(9), 30)
    assert only([feature(np.arange(270))], subject_id=nine)["mean"] is None
    ten = np.repeat(np.arange(10), 27)
    assert only([feature(np.arange(270))], subject_id=ten)["mean"] == 134.5


def test_small_categories_are_pooled_and_never_told_by_subtraction():
    kinds = ("a", "b", "c", "d")
    found = only([feature([0] * 60 + [1] * 30 + [2] * 6 + [3] * 4, kinds)])
    assert found["categories"] == {"a": 0.6, "b": 0.3, FEW: 0.1}
    alone = only([feature([0] * 60 + [1] * 37 + [2] * 3, kinds[:3])])
    assert alone["categories"] == {"a": 0.6, FEW: 0.4}  # 3 are hidden among the 37
    assert only([feature([0] * 5, kinds)])["categories"] is None


def test_age_and_sex_are_told_apart_and_no_one_is_the_oldest():
    ages = np.r_[np.arange(40, 90), [17.0, 107.0]]
    sex = feature(np.arange(52) % 2, ("F", "M"), "GENDER//*:last")
    found = summary([feature(ages, name="age_years"), sex])
    assert (found["age"]["low"], found["age"]["high"]) == (48.0, 81.0)  # 9 people lie beyond either end
    assert found["sex"] == {"F": 0.5, "M": 0.5}
    assert summary([feature(ages)])["age"] is None
    assert summary([feature(ages)])["sex"] is None


def test_incidence_is_aalen_johansen_and_null_where_few_people_or_nobody_followed():
    # Textbook: of 40, ten have the outcome at day 100, ten die at 200, ten leave at 300, ten have the outcome at 400.
    time_days = np.repeat([100.0, 200.0, 300.0, 400.0], 10)
    status = np.repeat([1, 2, 0, 1], 10).astype(np.int8)
    found = summary(
        [feature(np.zeros(40))],
        status={"heart": status, "now": np.where(np.arange(40) < 15, 1, 0).astype(np.int8)},
        time_days={"heart": time_days, "now": np.zeros(40)},
        targets=[("heart", 0.1), ("heart", 0.5), ("heart", 1.05), ("heart", 2.0), ("now", 0.0)],
    )["outcomes"]
    values = dict(map(tuple, found["heart"]["horizons"]))
    assert values[0.1] == 0.0
    assert values[0.5] == 0.25
    assert values[1.05] == 0.25  # the second ten come at day 400, after 383
    assert values[2.0] == pytest.approx(0.75)  # nobody is left then, and everyone's fate but the leavers' is known
    assert found["now"]["horizons"] == [[0.0, 0.375]]
    few = summary(
        [feature(np.zeros(40))],
        status={"heart": np.where(np.arange(40) < 9, 1, 0).astype(np.int8)},
        time_days={"heart": np.full(40, 500.0)},
        targets=[("heart", 2.0)],
    )
    assert few["outcomes"]["heart"]["horizons"] == [[2.0, None]]


def test_smd_and_psi_are_those_of_the_books():
    generator = np.random.default_rng(1)
    before, after = generator.normal(5.0, 1.0, 4_000), generator.normal(5.5, 1.0, 4_000)
    then, now = feature(before), feature(after)
    one = compare(summary([then]), summary([now]), [now])[0]
    pooled = np.sqrt((before.var() + after.var()) / 2)
    assert one["smd"] == pytest.approx((after.mean() - before.mean()) / pooled, rel=1e-4)
    # Two normals half an SD apart: 0.5^2 = .25 with infinitely fine bins, a little less with ten.
    assert one["psi"] == pytest.approx(0.24, abs=0.03)
    same = compare(summary([then]), summary([then]), [then])[0]
    assert (same["smd"], same["psi"]) == (0.0, pytest.approx(0.0, abs=1e-6))


def test_categories_compare_by_share():
    then = feature([0] * 500 + [1] * 500, ("F", "M"), "GENDER//*:last")
    now = feature([0] * 700 + [1] * 300, ("F", "M"), "GENDER//*:last")
    one = compare(summary([then]), summary([now]), [now])[0]
    assert abs(one["smd"]) == pytest.approx(0.2 / np.sqrt((0.25 + 0.21) / 2), rel=1e-5)
    assert one["psi"] == pytest.approx(0.2 * np.log(0.7 / 0.5) + -0.2 * np.log(0.3 / 0.5), rel=1e-6)


def test_a_category_that_is_gone_gives_a_finite_index():
    then = feature([0] * 500 + [1] * 500, ("F", "M"))
    now = feature([0] * 1000, ("F", "M"))
    one = compare(summary([then]), summary([now]), [now])[0]
    assert 1 < one["psi"] < 10


def test_it_is_plain_json_without_not_a_number():
    features = [feature(np.full(30, np.nan)), feature(np.ones(30), name="Y"), feature(np.zeros(30), ("a", "b"), "Z")]
    found = summary(features, pattern=np.array(["tabular"] * 25 + ["nothing"] * 5))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["patterns"] == {FEW: 1.0}
    assert [row["psi"] for row in compare(found, found, features)] == [None, None, 0.0]
