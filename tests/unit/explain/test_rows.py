"""Rows of reasons from made-up attributions: what is kept, summed up, ranked; and how a picture is shrunk."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from riskpred.explain.attribution import Within
from riskpred.explain.evidence import LARGEST_PICTURE, png
from riskpred.explain.picture import Picture
from riskpred.explain.reasons import FEATURES_KEPT, MOMENTS_KEPT, Described, ModalityPart, Moments, decimal, reason_rows
from riskpred.records.chunk import STATIC

TARGETS = (("stroke", 1.0), ("stroke", 5.0))


def _part(features: int) -> ModalityPart:
    """Two of three subjects have the modality; feature f contributes +-(f + 1) / 100 points, feature 0 nothing."""
    size = np.arange(features) / 100 * np.where(np.arange(features) % 2, -1, 1)
    feature = np.broadcast_to(size, (2, 2, features)).copy()
    presence = np.full((2, 2), 0.5)
    total = presence + feature.sum(axis=-1) + 0.002
    return ModalityPart(
        "tabular",
        np.array([0, 2]),
        Within(total, presence, feature),
        Described(
            tuple(f"f{i}" for i in range(features)),
            ("mmol/L",) * features,
            np.full((2, features), 7.2),
            np.full((2, features), None, dtype=object),
            np.full((2, features), STATIC),
        ),
    )


def test_the_largest_features_are_named_and_the_rest_summed() -> None:
    part = _part(20)
    wanted = np.array([[True, True], [True, True], [False, True]])
    rows = reason_rows(TARGETS, np.array([11, 12, 13]), [part], wanted).to_pylist()
    groups = {(row["subject_id"], row["horizon_years"]) for row in rows}
    assert groups == {(11, 1.0), (11, 5.0), (13, 5.0)}, "12 lacks the modality, 13's first risk was not wanted"
    for subject, horizon in groups:
        mine = [row for row in rows if (row["subject_id"], row["horizon_years"]) == (subject, horizon)]
        named = [row["feature"] for row in mine if row["feature"].startswith("f")]
        assert named == [f"f{i}" for i in range(19, 19 - FEATURES_KEPT, -1)]
        assert [row["rank"] for row in mine] == list(range(1, len(mine) + 1))
        assert sum(row["contribution"] for row in mine) == pytest.approx(part.within.total[0, 0])
        by_name = {row["feature"]: row for row in mine}
        assert by_name["(other)"]["contribution"] == pytest.approx(sum(part.within.feature[0, 0, :5]))
        assert by_name["(unexplained)"]["contribution"] == pytest.approx(0.002)
        assert [by_name[name]["remainder"] for name in ("(presence)", "(other)", "(unexplained)", "f19")] == [
            False,
            True,
            True,
            False,
        ]
        assert (by_name["f19"]["value"], by_name["f19"]["unit"], by_name["f19"]["time"]) == (7.2, "mmol/L", None)


def test_float32_values_are_shown_as_they_were_recorded() -> None:
    assert decimal(np.array([7.2, 1e-7, 13682.0], dtype=np.float32)).tolist() == [7.2, 1e-7, 13682.0]
    assert np.isnan(decimal(np.array([np.nan], dtype=np.float32))[0])


def test_the_largest_moments_are_told_with_their_time_and_sum_to_the_features() -> None:
    steps, channels = 7, 2
    draw = np.random.default_rng(4)
    seen = draw.random((1, steps, channels)) < 0.8
    moment = draw.normal(size=(1, 2, steps, channels)) * seen[:, None]
    feature = moment.sum(axis=2)
    time = np.arange(steps)[None] * 60_000_000
    time[0, 0] = STATIC
    told = Described(
        ("SBP", "HR"), ("mm[Hg]", "/min"), np.ones((1, 2)), np.full((1, 2), None, dtype=object), np.full((1, 2), STATIC)
    )
    value = np.where(seen, 100.0 + np.arange(steps)[None, :, None], np.nan)
    within = Within(feature.sum(axis=-1) + 0.5, np.full((1, 2), 0.5), feature, moment)
    part = ModalityPart("series", np.array([0]), within, told, Moments(value, time))
    rows = reason_rows(TARGETS, np.array([11]), [part], np.ones((1, 2), dtype=bool)).to_pylist()
    for q, (_, horizon) in enumerate(TARGETS):
        mine = [row for row in rows if row["level"] == "moment" and row["horizon_years"] == horizon]
        assert [row["rank"] for row in mine] == list(range(1, MOMENTS_KEPT + 2))
        assert sum(row["contribution"] for row in mine) == pytest.approx(feature[0, q].sum(), abs=1e-12)
        (other,) = [row for row in mine if row["feature"] == "(other)"]
        assert other["remainder"]
        named = [row for row in mine if not row["remainder"]]
        wanted = sorted(np.abs(moment[0, q]).ravel(), reverse=True)[:MOMENTS_KEPT]
        assert [abs(row["contribution"]) for row in named] == pytest.approx(wanted)
        for row in named:
            step = int(row["value"] - 100)
            assert row["contribution"] == moment[0, q, step, told.names.index(row["feature"])]
            assert (row["time"] is None) == (step == 0)
            assert row["time"] is None or row["time"].minute == step
            assert row["unit"] == told.units[told.names.index(row["feature"])]


def _one_each(mask: Any, region: Any) -> Picture:
    """One picture a subject."""
    rows, none = np.arange(len(mask)), np.zeros(len(mask), dtype=np.int64)
    return Picture(rows, rows, none, none, none, np.zeros((len(mask), *mask.shape[2:])), mask, region)


def test_regions_and_the_rest_of_a_picture_sum_to_the_image() -> None:
    mask = np.zeros((2, 3, 8, 8), dtype=bool)
    mask[0, 0, :2], mask[0, 1, 4:5] = True, True
    region = np.zeros((2, 2, 4))
    region[0] = [[3.0, -1.0, 0.0, 0.25], [2.0, 0.5, 0.0, -0.25]]
    region[1, :, 3] = 0.75
    feature = region.sum(axis=-1)[..., None] + 0.01
    told = Described(
        ("image",), (None,), np.full((2, 1), np.nan), np.full((2, 1), None, dtype=object), np.full((2, 1), 60_000_000)
    )
    within = Within(feature[..., 0], np.zeros((2, 2)), feature, picture=_one_each(mask, region))
    part = ModalityPart("image", np.array([0, 1]), within, told, picture_time=np.full(2, 60_000_000))
    rows = reason_rows(TARGETS, np.array([11, 12]), [part], np.ones((2, 2), dtype=bool)).to_pylist()
    found = {
        (row["subject_id"], row["horizon_years"], row["feature"]): row["contribution"]
        for row in rows
        if row["level"] == "region"
    }
    assert {feature for subject, _, feature in found if subject == 12} == {"(other)", "(unexplained)"}
    assert {feature for subject, _, feature in found if subject == 11} == {
        "region 1", "region 2", "(other)", "(unexplained)",
    }  # fmt: skip
    assert (found[11, 5.0, "region 1"], found[11, 5.0, "region 2"], found[11, 5.0, "(other)"]) == (2.0, 0.5, -0.25)
    for at, subject in enumerate((11, 12)):
        for q, (_, horizon) in enumerate(TARGETS):
            total = sum(one for key, one in found.items() if key[:2] == (subject, horizon))
            assert total == pytest.approx(feature[at, q, 0])
            assert found[subject, horizon, "(unexplained)"] == pytest.approx(0.01)
    assert all(row["remainder"] == row["feature"].startswith("(") for row in rows if row["level"] == "region")


def test_an_image_that_says_nothing_has_no_parts_either() -> None:
    told = Described(
        ("image",), (None,), np.full((1, 1), np.nan), np.full((1, 1), None, dtype=object), np.full((1, 1), 60_000_000)
    )
    picture = _one_each(np.zeros((1, 3, 8, 8), dtype=bool), np.zeros((1, 2, 4)))
    within = Within(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 2, 1)), picture=picture)
    rows = reason_rows(
        TARGETS,
        np.array([11]),
        [ModalityPart("image", np.array([0]), within, told, picture_time=np.full(1, 60_000_000))],
        np.ones((1, 2)) > 0,
    )
    assert {(row["level"], row["feature"]) for row in rows.to_pylist()} == {
        ("feature", "(presence)"), ("feature", "(unexplained)"),
    }  # fmt: skip


def test_a_picture_is_made_smaller_until_it_fits() -> None:
    noise = np.random.default_rng(1).random((700, 500)).astype(np.float32)
    data, factor = png(noise)
    assert len(data) <= LARGEST_PICTURE
    assert factor < 1
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (round(500 * factor), round(700 * factor))
    small, whole = png(noise[:64, :64])
    assert whole == 1
    with Image.open(io.BytesIO(small)) as picture:
        assert np.abs(np.asarray(picture) - noise[:64, :64] * 255).max() <= 0.51
