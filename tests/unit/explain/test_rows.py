"""Rows of reasons and evidence from made-up attributions: what is kept, summed up, outlined, shrunk."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from riskpred.explain.attribution import Within
from riskpred.explain.evidence import LARGEST_PICTURE, outline_of, png
from riskpred.explain.reasons import FEATURES_KEPT, Described, ModalityPart, decimal, feature_rows
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
    rows = feature_rows("run", TARGETS, np.array([11, 12, 13]), [part], wanted).to_pylist()
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


def test_the_outline_goes_around_what_raises_the_risk() -> None:
    attribution = np.zeros((64, 64))
    attribution[40:50, 10:22] = 0.01
    attribution[5:15, 40:60] = -0.05
    corners = outline_of(attribution)
    assert corners is not None
    drawn = Image.new("1", (64, 64))
    ImageDraw.Draw(drawn).polygon([(column, row) for row, column in corners], fill=1)
    inside = np.asarray(drawn)
    assert inside[42:48, 13:19].all()
    assert not inside[:35].any()
    assert not inside[:, 30:].any()
    assert outline_of(-np.abs(attribution)) is None
    assert outline_of(attribution / 100) is None, "too little to be worth a line"


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
