"""Up to so many images a row: which ones, in what order, what an unreadable one costs, and when the row changes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from riskpred.config.features import ImageModality
from riskpred.features.batch import EncodedImages
from riskpred.features.build import build
from riskpred.features.change import next_change
from riskpred.features.image import EncodedImage, image
from riskpred.features.join import concat, take
from riskpred.features.learn import image_plan
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.features.receipts import input_hashes, pixels_hash
from riskpred.records.chunk import DAY_US, STATIC, ImageRow, SubjectChunk
from riskpred.records.cohort import CohortRows

NOW = 100
PLAN = ImagePlan(("DX",), window_days=None, stale_after_days=None, size=16, most_images=3)


@pytest.fixture
def root(tmp_path):
    """a.png to f.png, each with its own pixels; broken.png is cut off."""
    rng = np.random.default_rng(0)
    for name in "abcdef":
        Image.fromarray(rng.integers(0, 255, (16, 16)).astype(np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    return tmp_path


def chunk_of(*people):
    """Each person: (day or None, file without its ending), sorted as a warehouse has them."""
    rows = tuple(
        tuple(
            ImageRow(f"{s}-{day}-{name}", 10 + s, STATIC if day is None else day * DAY_US, "DX", f"{name}.png", None)
            for day, name in given
        )
        for s, given in enumerate(people)
    )
    none = np.zeros(0)
    return SubjectChunk(
        subject_id=np.arange(10, 10 + len(people)), start=np.zeros(len(people) + 1, np.int64),
        time=none.astype(np.int64), code=none.astype(np.int32), numeric_value=none, text=none.astype(np.int32),
        codes=(), texts=(), units=(), images=rows,
    )  # fmt: skip


def rows_of(subjects, days):
    never = np.full(len(days), STATIC)
    return CohortRows(np.array(subjects), np.array(days) * DAY_US, never, {}, {}, {}, {}, never)


def names(given):
    return [
        "".join(name.split("-")[2] for name in given.image_id[begin:end])
        for begin, end in zip(given.start[:-1], given.start[1:], strict=True)
    ]


def test_the_latest_ones_oldest_first_and_the_next_older_in_the_place_of_an_unreadable_one(root):
    chunk = chunk_of(
        [(None, "f"), (10, "a"), (20, "b"), (30, "c"), (40, "d"), (101, "e")],
        [(10, "a"), (20, "broken"), (30, "c"), (40, "broken"), (50, "e")],
        [(None, "f"), (10, "a")],
        [(10, "broken")],
        [],
    )
    got, receipt, rejects = image(chunk, rows_of(range(5), [NOW] * 5), PLAN, root)
    assert names(got) == ["bcd", "ace", "fa", "", ""]
    assert got.count.tolist() == [3, 3, 2, 0, 0]
    assert receipt.status == ("used", "used", "used", "rejected", "missing")
    assert receipt.n.tolist() == [5, 5, 2, 1, 0]
    assert (receipt.latest_time // DAY_US).tolist()[:4] == [40, 50, 10, 10]
    assert [reject.row_key for reject in rejects] == ["1-40-broken", "1-20-broken", "3-10-broken"]
    assert got.pixels.shape == (8, 1, 16, 16)
    assert got.image_number.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_each_is_in_the_window_and_none_is_stale(root):
    plan = ImagePlan(("DX",), window_days=60, stale_after_days=50, size=16, most_images=3)
    chunk = chunk_of([(30, "a"), (45, "b"), (55, "c"), (90, "d")], [(45, "a")])
    got, receipt, _ = image(chunk, rows_of([0, 1], [NOW, NOW]), plan, root)
    assert names(got) == ["cd", ""]
    assert receipt.status == ("used", "stale")
    assert receipt.n.tolist() == [3, 1]
    # What is visible is counted: an image that is too old to be used leaves the window, and changes the row, first.
    assert next_change(chunk, rows_of([0], [NOW]), FeaturePlan({"x": plan})).tolist() == [105 * DAY_US]
    # Without a window it is the older of the two that are used that changes the row, when it turns stale.
    only = ImagePlan(("DX",), window_days=None, stale_after_days=50, size=16, most_images=3)
    moment = next_change(chunk, rows_of([0], [NOW]), FeaturePlan({"x": only})).tolist()
    assert moment == [105 * DAY_US + 1]


def test_an_image_of_tomorrow_changes_nothing(root):
    plan = FeaturePlan({"x": PLAN})
    today = [(10, "a"), (20, "b")]
    one, other = (
        build(chunk_of(today + later), rows_of([0], [NOW]), plan, root) for later in ([], [(101, "c"), (102, "d")])
    )
    np.testing.assert_array_equal(one.inputs["x"].pixels, other.inputs["x"].pixels)
    assert one.inputs["x"].image_id == other.inputs["x"].image_id
    assert input_hashes(one)["x"].tolist() == input_hashes(other)["x"].tolist()


def test_the_digest_is_of_all_pictures_and_their_ages(root):
    plan = FeaturePlan({"x": PLAN})
    rows = rows_of(range(5), [NOW] * 5)
    people = [
        [(10, "a"), (20, "b")],
        [(10, "b"), (20, "a")],
        [(11, "a"), (20, "b")],
        [(20, "b")],
        [(None, "a"), (20, "b")],
    ]
    batch = build(chunk_of(*people), rows, plan, root)
    digests = input_hashes(batch)["x"].tolist()
    assert len(set(digests)) == 5
    # A picture alone is told by its pixels, whatever its age.
    assert digests[3].decode() == pixels_hash(batch.inputs["x"].pixels[batch.inputs["x"].start[3]])
    moved = build(chunk_of([(11, "a"), (21, "b")]), rows_of([0], [NOW + 1]), plan, root)
    assert input_hashes(moved)["x"].tolist() == digests[:1], "what counts is how long before prediction_time"


def test_rows_are_taken_and_put_together_with_their_pictures(root):
    plan = FeaturePlan({"x": PLAN})
    chunk = chunk_of([(10, "a"), (20, "b"), (30, "c")], [], [(5, "d")])
    batch = build(chunk, rows_of([0, 0, 1, 2], [15, 35, 35, 35]), plan, root)
    assert names(batch.inputs["x"]) == ["a", "abc", "", "d"]
    parts = [take(batch, np.array([3, 1])), take(batch, np.array([True, False, True, False]))]
    assert [names(part.inputs["x"]) for part in parts] == [["d", "abc"], ["a", ""]]
    whole = concat(parts)
    assert names(whole.inputs["x"]) == ["d", "abc", "a", ""]
    back = take(whole, np.array([2, 1, 3, 0])).inputs["x"]
    np.testing.assert_array_equal(back.pixels, batch.inputs["x"].pixels)
    np.testing.assert_array_equal(back.time, batch.inputs["x"].time)
    # Rows that follow one another are no copy.
    assert np.shares_memory(take(batch, np.array([1, 2, 3])).inputs["x"].pixels, batch.inputs["x"].pixels)


class Encoders:
    """Says of each image the mean of its file's name; counts what it was asked."""

    shape = (2, 4)

    def __init__(self):
        self.asked = []

    def open(self, chunk):
        pass

    def encoded(self, images, image_root: Path):
        self.asked += [row.image_id for row in images]
        return [
            EncodedImage(np.full((1, 2, 4), ord(row.path[0]), np.float32), np.ones((1, 2)), np.ones(3), ("0" * 32,))
            for row in images
        ]


def test_encoded_images_come_in_the_same_rows_and_each_is_asked_for_once(root):
    chunk = chunk_of([(10, "a"), (20, "b"), (30, "c"), (40, "d")], [], [(5, "d")])
    source = Encoders()
    got, _, _ = image(chunk, rows_of([0, 0, 1, 2], [25, 45, 45, 45]), PLAN, root, source)
    assert names(got) == ["ab", "bcd", "", "d"]
    assert isinstance(got.encoded, EncodedImages)
    assert got.encoded.sent[:, 0, 0].tolist() == [ord(letter) for letter in "abbcdd"]
    assert len(source.asked) == len(set(source.asked)) == 5
    assert len(got.pixels) == 0


def test_a_plan_keeps_what_becomes_of_each_image_type():
    config = ImageModality(kind="image", image_types=("DX", "MG", "OP"), size=(32, 16), most_images=2, channels="rgb")
    plan = image_plan(config)
    assert plan.pixel_shape == (3, 32, 16)
    assert plan.recipe_of("DX").steps == ()
    assert [step.step for step in plan.recipe_of("MG").steps] == ["crop_body", "flip_breast", "percentiles"]
    assert [step.step for step in plan.recipe_of("OP").steps] == ["crop_circle"]
    whole = FeaturePlan({"x": plan})
    assert FeaturePlan.from_json(whole.to_json()) == whole
    no_steps = image_plan(config.model_copy(update={"steps": ()}))
    assert no_steps.recipe_of("MG").steps == ()
    volume = image_plan(ImageModality(kind="image", image_types=("CT",), size=16, volume="whole"))
    assert volume.pixel_shape == (1, 16, 16, 16)
    with pytest.raises(ValueError, match="slices"):
        ImageModality(kind="image", image_types=("CT",), slices=4)
    with pytest.raises(ValueError, match="size"):
        ImageModality(kind="image", image_types=("CT",), size=(16, 16, 16))
