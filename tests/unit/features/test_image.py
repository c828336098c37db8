"""Which image of a patient is read, and what an unreadable one costs."""

import math

import numpy as np
import pytest
from PIL import Image

from riskpred.features.build import build
from riskpred.features.change import next_change
from riskpred.features.image import image
from riskpred.features.join import concat, take
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.records.chunk import DAY_US, STATIC, ImageRow, SubjectChunk
from riskpred.records.cohort import CohortRows

NOW = 100
PLAN = ImagePlan(("DX", "CR"), window_days=None, stale_after_days=None, size=16)


@pytest.fixture
def root(tmp_path):
    """dark.png is dark on the left, bright.png on the right; broken.png is cut off."""
    half = np.zeros((20, 20), dtype=np.uint8)
    half[:, 10:] = 200
    Image.fromarray(half).save(tmp_path / "dark.png")
    Image.fromarray(half[:, ::-1].copy()).save(tmp_path / "bright.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "dark.png").read_bytes()[:60])
    return tmp_path


def patients(*images):
    """Each patient: list of (image_id, day or None, path[, type])."""
    n = len(images)
    rows = tuple(
        tuple(
            ImageRow(image_id, 10 + s, STATIC if day is None else round(day * DAY_US), *(kind or ["DX"]), path, None)
            for image_id, day, path, *kind in given
        )
        for s, given in enumerate(images)
    )
    empty = np.zeros(0)
    return SubjectChunk(
        subject_id=np.arange(10, 10 + n),
        start=np.zeros(n + 1, dtype=np.int64),
        time=empty.astype(np.int64),
        code=empty.astype(np.int32),
        numeric_value=empty,
        text=empty.astype(np.int32),
        codes=(),
        texts=(),
        units=(),
        images=rows,
    )


def rows_of(subjects, days):
    time = np.array(days, dtype=np.int64) * DAY_US
    none = np.full(len(days), STATIC)
    return CohortRows(np.array(subjects, dtype=np.int64), time, none, {}, {}, {}, {}, none)


def receive(chunk, root, plan=PLAN, days=None):
    return image(chunk, rows_of(range(len(chunk)), days or [NOW] * len(chunk)), plan, root)


def test_the_latest_image_of_its_types_at_or_before_prediction_time(root):
    chunk = patients(
        [("a", 50, "dark.png"), ("b", 100, "bright.png"), ("c", 101, "dark.png"), ("d", 100, "dark.png", "CT")],
        [("e", None, "dark.png")],
        [("f", None, "bright.png"), ("g", 1, "dark.png")],
        [("h", 101, "dark.png")],
        [],
    )
    got, receipt, rejects = receive(chunk, root)
    assert got.image_id == ("b", "e", "g")
    assert got.start.tolist() == [0, 1, 2, 3, 3, 3]
    assert got.time.tolist() == [100 * DAY_US, STATIC, 1 * DAY_US]
    assert got.latest_time.tolist() == [100 * DAY_US, STATIC, 1 * DAY_US, STATIC, STATIC]
    assert receipt.status == ("used", "used", "used", "missing", "missing")
    assert receipt.n.tolist() == [2, 1, 2, 0, 0]
    assert receipt.missing_features == ((), (), (), ("image",), ("image",))
    assert rejects == ()
    assert got.pixels.shape == (3, 1, 16, 16)
    assert (got.pixels[0, 0, :, 0] == 1).all()
    assert (got.pixels[1, 0, :, 0] == 0).all()
    assert np.isnan(got.spacing_mm).all()


def test_an_unreadable_image_costs_that_image_and_the_next_older_one_is_read(root):
    chunk = patients(
        [("a", 50, "dark.png"), ("b", 60, "broken.png"), ("c", 70, "../dark.png"), ("d", 80, "none.png")],
        [("e", 50, "broken.png")],
    )
    got, receipt, rejects = receive(chunk, root)
    assert got.image_id == ("a",)
    assert got.count.tolist() == [1, 0]
    assert receipt.status == ("used", "rejected")
    assert receipt.latest_time.tolist() == [50 * DAY_US, 50 * DAY_US]
    assert [(r.source, r.row_key, r.subject_id, r.reason, r.field) for r in rejects] == [
        ("images", "d", 10, "file_missing", "path"),
        ("images", "c", 10, "path_refused", "path"),
        ("images", "b", 10, "unreadable", "path"),
        ("images", "e", 11, "unreadable", "path"),
    ]
    assert all(reject.wanted for reject in rejects)


def test_windows_and_stale_images(root):
    plan = ImagePlan(("DX",), window_days=50, stale_after_days=30, size=16)
    chunk = patients(
        [("a", 50, "dark.png")],
        [("b", 51, "dark.png")],
        [("c", 70, "dark.png")],
        [("d", 60, "dark.png"), ("e", 90, "broken.png")],
        [("f", None, "dark.png"), ("g", 51, "dark.png")],
        [("h", None, "dark.png")],
    )
    got, receipt, rejects = receive(chunk, root, plan)
    # The window is (50, 100]. An undated image is never out of it, and never stale.
    assert receipt.status == ("missing", "stale", "used", "rejected", "stale", "used")
    assert got.image_id == ("c", "h")
    assert got.count.tolist() == [0, 0, 1, 0, 0, 1]
    assert [reject.row_key for reject in rejects] == ["e"]


def test_rows_of_one_patient_share_a_read_and_a_reject(root):
    chunk = patients([("a", 10, "dark.png"), ("b", 20, "broken.png")], [("c", 10, "bright.png")])
    rows = rows_of([0, 0, 0, 1, 1], [5, 15, 25, 9, 30])
    batch = build(chunk, rows, FeaturePlan({"film": PLAN}), root)
    assert batch.inputs["film"].image_id == ("a", "a", "c")
    assert [reject.row_key for reject in batch.rejects] == ["b"]
    assert batch.present["film"].tolist() == [False, True, True, False, True]
    # Rows taken out and put together again are the same images, and keep the rejects of their patients.
    parts = [take(batch, np.array([3, 4])), take(batch, np.array([True, True, True, False, False]))]
    assert [len(part.rejects) for part in parts] == [0, 1]
    whole = concat([parts[1], parts[0]])
    assert whole.inputs["film"].image_id == batch.inputs["film"].image_id
    np.testing.assert_array_equal(whole.inputs["film"].pixels, batch.inputs["film"].pixels)
    assert whole.subject_id.tolist() == [10, 10, 10, 11, 11]


@pytest.mark.parametrize(
    ("images", "window", "stale", "change"),
    [
        ([("a", 90, "x")], None, None, None),
        ([("a", 90, "x"), ("b", 107, "x")], None, None, 107 * DAY_US),
        ([("a", 90, "x"), ("b", 107, "x", "CT")], None, None, None),
        ([("a", 90, "x"), ("b", 95, "x")], 50, None, 140 * DAY_US),
        ([("a", 90, "x")], None, 30, 120 * DAY_US + 1),
        ([("a", 90, "x")], 50, 30, 120 * DAY_US + 1),
        ([("a", None, "x")], 50, 30, None),
    ],
)
def test_when_images_change_without_new_data(images, window, stale, change):
    plan = FeaturePlan({"film": ImagePlan(("DX",), window, stale, 16)})
    got = next_change(patients(images), rows_of([0], [NOW]), plan)
    assert got.tolist() == [STATIC if change is None else change]


def test_a_whole_day_off_is_a_reject_never_an_exception(root):
    """A folder, a text, an empty file: each is one reject."""
    (root / "folder").mkdir()
    (root / "text.png").write_text("no picture")
    (root / "empty.png").write_bytes(b"")
    names = ("folder", "text.png", "empty.png", "", "x" * 5000)
    got, receipt, rejects = receive(patients(*[[(f"i{i}", 1, name)] for i, name in enumerate(names)]), root)
    assert receipt.status == ("rejected",) * len(names)
    assert len(rejects) == len(names)
    assert math.isclose(got.pixels.sum(), 0)
