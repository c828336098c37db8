"""The images of a night: the same rows, receipts, rejects and risks with a cache, without one, and as pixels."""

import os
from dataclasses import replace

import duckdb
import numpy as np
import pytest
import torch
from PIL import Image

from riskpred.config.imaging import Recipe
from riskpred.config.network import ImageEncoder, NetworkConfig
from riskpred.features.build import build
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.features.receipts import input_hashes
from riskpred.imaging.decode import Wanted, decode_one
from riskpred.model.layout import GroupGrid, Layout
from riskpred.model.risk import RiskModel
from riskpred.records.chunk import DAY_US, STATIC, ImageRow, SubjectChunk
from riskpred.records.cohort import CohortRows
from riskpred.score.image_cache import cache_path
from riskpred.score.images import NightImages

SIZE, NOW = 16, 100


@pytest.fixture(scope="module")
def model():
    plan = FeaturePlan({"image": ImagePlan(("DX",), None, None, SIZE)})
    grid = GroupGrid("one", ("heart",), ("heart", "death"), False, (1.0, 3.0), (0.0, 1.0, 3.0))
    config = NetworkConfig(encoders={"image": ImageEncoder(channels=(4, 8))}, embedding=4, members=3)
    torch.manual_seed(3)
    model = RiskModel(config, plan, Layout((grid,), ("heart",)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for r in range(model.members):
        model.member(r).baseline(0).fill_(-2.0)
    return model.requires_grad_(False)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(70):
        array = rng.integers(0, 255, (24, 20)).astype(np.uint8)
        Image.fromarray(array).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:60])
    return folder


def stamped(root, path):
    try:
        state = os.stat(root / path)
    except OSError:
        return "file_missing"
    return f"{state.st_size} {state.st_mtime_ns}"


def chunk_of(root, *subjects, sha256=None):
    """Each subject: its images' paths, one a day, the latest last."""
    rows = tuple(
        tuple(
            ImageRow(
                f"{s}-{at}", 10 + s, (at + 1) * DAY_US, "DX", path, sha256, None if sha256 else stamped(root, path)
            )
            for at, path in enumerate(paths)
        )
        for s, paths in enumerate(subjects)
    )
    n, none = len(subjects), np.zeros(0)
    whole = {"time": none.astype(np.int64), "code": none.astype(np.int32), "text": none.astype(np.int32)}
    return SubjectChunk(
        subject_id=np.arange(10, 10 + n), start=np.zeros(n + 1, dtype=np.int64), numeric_value=none,
        codes=(), texts=(), units=(), images=rows, **whole,
    )  # fmt: skip


def subjects(extra=()):
    """60 people with one image; one whose latest is broken, missing and outside; one with a broken one only."""
    return [
        *([f"{i}.png"] for i in range(60)),
        ["60.png", "broken.png", "none.png", "../0.png"],
        ["broken.png"],
        *extra,
    ]


def receive(model, root, chunk, night=None):
    count = len(chunk)
    never = np.full(count, STATIC)
    now = np.full(count, NOW * DAY_US)
    rows = CohortRows(np.arange(count), now, never, {}, {}, {}, {}, never)
    return build(chunk, rows, model.plan, root, None if night is None else night.sources)


def night(model, scores, **more):
    return NightImages(model, scores, **{"path": "fp32", "engine": "torch", "workers": 0, **more})


def same(batch, other):
    assert batch.receipts["image"].status == other.receipts["image"].status
    np.testing.assert_array_equal(batch.receipts["image"].n, other.receipts["image"].n)
    np.testing.assert_array_equal(batch.receipts["image"].latest_time, other.receipts["image"].latest_time)
    assert batch.rejects == other.rejects
    one, two = batch.inputs["image"], other.inputs["image"]
    assert one.image_id == two.image_id
    np.testing.assert_array_equal(one.time, two.time)
    np.testing.assert_array_equal(one.spacing_mm, two.spacing_mm)
    np.testing.assert_array_equal(input_hashes(batch)["image"], input_hashes(other)["image"])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_as_pixels_give_and_nothing_is_read_twice(model, root, tmp_path, workers):
    chunk = chunk_of(root, *subjects())
    plain = receive(model, root, chunk)
    assert [reject.reason for reject in plain.rejects] == ["path_refused", "file_missing", "unreadable", "unreadable"]
    scores = tmp_path / "scores.duckdb"
    with night(model, scores, workers=workers) as first:
        cold = receive(model, root, chunk, first)
    with night(model, scores, workers=workers) as second:
        warm = receive(model, root, chunk, second)
    same(plain, cold)
    same(plain, warm)
    np.testing.assert_allclose(model.predict(cold).risk, model.predict(plain).risk, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(warm.inputs["image"].encoded.sent, cold.inputs["image"].encoded.sent)
    np.testing.assert_array_equal(warm.inputs["image"].encoded.moments, cold.inputs["image"].encoded.moments)
    # 61 good files, one broken one that two people have, one missing, one outside.
    assert (first.counts.cached, first.counts.decoded, first.counts.rejected) == (0, 65, 4)
    # What is no matter of the bytes is looked at again.
    assert (second.counts.cached, second.counts.decoded, second.counts.rejected) == (63, 2, 2)


def test_one_changed_file_is_read_and_a_touched_one_is_not_decoded(model, root, tmp_path):
    scores = tmp_path / "scores.duckdb"
    people = subjects()
    with night(model, scores) as first:
        receive(model, root, chunk_of(root, *people), first)
    os.utime(root / "5.png", ns=(1, 1))
    (root / "6.png").write_bytes((root / "65.png").read_bytes())
    chunk = chunk_of(root, *people)
    for decoded in (3, 2):  # the changed one, and the two that are not there; then only those
        with night(model, scores) as later:
            same(receive(model, root, chunk), receive(model, root, chunk, later))
        assert later.counts.decoded == decoded


def test_an_image_is_known_by_the_hash_its_row_gives_only_if_that_is_the_files(model, root, tmp_path):
    scores = tmp_path / "scores.duckdb"
    right, other = (decode_one(Wanted(root, name, Recipe.of(size=SIZE))).content for name in ("7.png", "8.png"))

    def entries():
        with duckdb.connect(str(cache_path(scores)), read_only=True) as connection:
            return connection.execute("SELECT content FROM entries").fetchall()

    # The row of 7.png first names the bytes of 8.png: what is kept is kept as what it is.
    for sha256, decoded in ((other, 1), (other, 0), (right, 0), (right.upper(), 0)):
        chunk = chunk_of(root, ["7.png"], sha256=sha256)
        with night(model, scores) as later:
            same(receive(model, root, chunk), receive(model, root, chunk, later))
        assert later.counts.decoded == decoded
        assert entries() == [(right,)]
    # So a file that has the bytes of 8.png is not taken for it.
    with night(model, scores) as later:
        chunk = chunk_of(root, ["8.png"], sha256=other)
        same(receive(model, root, chunk), receive(model, root, chunk, later))
    assert later.counts.decoded == 1


def test_what_was_never_read_is_looked_at_again(model, root, tmp_path):
    scores = tmp_path / "scores.duckdb"
    chunk = chunk_of(root, ["later.png"], sha256="a" * 64)
    with night(model, scores) as first:
        assert [r.reason for r in receive(model, root, chunk, first).rejects] == ["file_missing"]
    (root / "later.png").write_bytes((root / "9.png").read_bytes())
    with night(model, scores) as second:
        same(receive(model, root, chunk), receive(model, root, chunk, second))
    assert second.counts.decoded == 1
    assert second.counts.rejected == 0


def test_another_model_shares_nothing(model, root, tmp_path):
    scores = tmp_path / "scores.duckdb"
    chunk = chunk_of(root, *subjects())
    with night(model, scores) as first:
        receive(model, root, chunk, first)
    with torch.no_grad():
        model.member(0).encoders["image"].to_coefficients.bias.add_(0.3)
    with night(model, scores) as second:
        batch = receive(model, root, chunk, second)
    assert second.counts.cached == 0
    np.testing.assert_allclose(model.predict(batch).risk, model.predict(receive(model, root, chunk)).risk, atol=1e-6)


def test_no_scores_file_no_cache(model, root):
    chunk = chunk_of(root, *subjects())
    for _ in range(2):
        with night(model, None) as one:
            receive(model, root, chunk, one)
        assert one.counts.cached == 0


def test_notes_say_what_it_runs_on(model, root, tmp_path):
    some = chunk_of(root, ["1.png"], ["broken.png"])
    for said in ("Images are encoded by torch, channels last, fp32.",), ():
        with night(model, tmp_path / "scores.duckdb") as one:
            assert one.notes == ()
            receive(model, root, some, one)
        assert one.notes == said, "the second time nothing is encoded"


def test_a_plan_without_images_opens_nothing(model, tmp_path):
    bare = replace_plan(model)
    with NightImages(bare, tmp_path / "scores.duckdb") as one:
        assert (one.sources, one.notes) == ({}, ())
        assert one.counts.decoded == 0
    assert not list(tmp_path.iterdir())


def replace_plan(model):
    class Bare:
        plan = replace(model.plan, modalities={})

    return Bare()
