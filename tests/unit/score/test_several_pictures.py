"""Volumes and several images of a person, the whole way: read, encoded, kept, weighed, explained and drawn."""

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from riskpred.config.network import ImageEncoder, NetworkConfig
from riskpred.explain.attribution import (
    ModalityWorth,
    attribution_baseline,
    integrated_gradients,
    within_modality,
)
from riskpred.explain.evidence import image_rows
from riskpred.explain.reasons import ModalityPart, described, reason_rows
from riskpred.explain.regions import REGIONS
from riskpred.features.batch import FeatureBatch, ImageInput
from riskpred.features.build import build
from riskpred.features.join import take
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.features.receipts import input_hashes
from riskpred.model.layout import GroupGrid, Layout
from riskpred.model.network import SentOne
from riskpred.model.risk import RiskModel
from riskpred.model.tensors import ImageTensors
from riskpred.records.chunk import DAY_US, STATIC, ImageRow, SubjectChunk
from riskpred.records.cohort import CohortRows
from riskpred.score.images import NightImages

NOW, SUBJECTS = 100, 6
PLANS = {
    "views": ImagePlan(("DX",), None, None, 16, most_images=3),
    "slices": ImagePlan(("DX",), None, None, 16, most_images=2, volume="slices", slices=3),
    "whole": ImagePlan(("DX",), None, None, (8, 16, 16), most_images=2, volume="whole"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 volumes of 9 slices (1 x 2 x 3 mm a voxel), each with a bright block on its own slice; 12 flat pictures."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    for at in range(12):
        volume = rng.normal(100, 10, (20, 20, 9)).astype(np.float32)
        volume[4:12, 6:14, 1 + at % 7] += 200
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([3.0, 2.0, 1.0, 1.0])), folder / f"{at}.nii")  # type: ignore[no-untyped-call, attr-defined]
        flat = rng.integers(0, 255, (16, 16)).astype(np.uint8)
        Image.fromarray(flat).save(folder / f"{at}.png")
    return folder


def chunk_of(root: Path, ending: str) -> SubjectChunk:
    """Six people with 0 to 3 images; the one of four of person 5 cannot be read."""
    rows = []
    for s in range(SUBJECTS):
        names = [f"{(2 * s + at) % 12}{ending}" for at in range(s % 4)] + (["broken" + ending] if s == 5 else [])
        rows.append(
            tuple(
                ImageRow(f"{s}-{at}", 10 + s, (20 * at + s) * DAY_US, "DX", name, None, _stamp(root / name))
                for at, name in enumerate(names)
            )
        )
    (root / f"broken{ending}").write_bytes(b"none of these")
    none = np.zeros(0)
    return SubjectChunk(
        subject_id=np.arange(10, 10 + SUBJECTS), start=np.zeros(SUBJECTS + 1, np.int64), time=none.astype(np.int64),
        code=none.astype(np.int32), numeric_value=none, text=none.astype(np.int32), codes=(), texts=(), units=(),
        images=tuple(rows),
    )  # fmt: skip


def _stamp(path: Path) -> str:
    return str(os.stat(path).st_size) if path.exists() else "file_missing"


def model_of(plan: ImagePlan) -> RiskModel:
    grid = GroupGrid("one", ("heart",), ("heart", "death"), False, (1.0, 3.0), (0.0, 1.0, 3.0))
    config = NetworkConfig(encoders={"x": ImageEncoder(channels=(4, 8))}, embedding=4, members=2)
    torch.manual_seed(3)
    model = RiskModel(config, FeaturePlan({"x": plan}), Layout((grid,), ("heart",)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    for r in range(model.members):
        model.member(r).baseline(0).fill_(-2.0)
    return model.requires_grad_(False).eval()


def received(model: RiskModel, root: Path, chunk: SubjectChunk, night: NightImages | None = None) -> FeatureBatch:
    never = np.full(SUBJECTS, STATIC)
    rows = CohortRows(np.arange(SUBJECTS), np.full(SUBJECTS, NOW * DAY_US), never, {}, {}, {}, {}, never)
    return build(chunk, rows, model.plan, root, None if night is None else night.sources)


def films_of(batch: FeatureBatch) -> ImageInput:
    given = batch.inputs["x"]
    assert isinstance(given, ImageInput)
    return given


@pytest.fixture(params=PLANS)
def case(request: pytest.FixtureRequest, root: Path) -> tuple[str, RiskModel, SubjectChunk]:
    name: str = request.param
    return name, model_of(PLANS[name]), chunk_of(root, ".png" if name == "views" else ".nii")


def test_a_night_says_what_pixels_say_and_remembers_it(
    case: tuple[str, RiskModel, SubjectChunk], root: Path, tmp_path: Path
) -> None:
    name, model, chunk = case
    plain = received(model, root, chunk)
    images = np.array([0, 1, 2, 3, 0, 1]) if name == "views" else np.array([0, 1, 2, 2, 0, 1])
    films = films_of(plain)
    assert films.count.tolist() == (images * (3 if name == "slices" else 1)).tolist()
    assert plain.receipts["x"].status == ("missing", "used", "used", "used", "missing", "used")
    assert [(reject.row_key, reject.subject_id) for reject in plain.rejects] == [("5-1", 15)]
    for warm in (False, True):
        with NightImages(model, tmp_path / "scores.duckdb", path="fp32", engine="torch", workers=0) as night:
            batch = received(model, root, chunk, night)
        assert night.counts.decoded == (0 if warm else images.sum() + 1)
        assert films_of(batch).image_id == films.image_id
        assert input_hashes(batch)["x"].tolist() == input_hashes(plain)["x"].tolist()
        usable = plain.usable
        np.testing.assert_allclose(model.predict(batch).risk[usable], model.predict(plain).risk[usable], atol=1e-6)
        np.testing.assert_allclose(model.tensors(batch)["x"].moments, model.tensors(plain)["x"].moments, atol=1e-6)
    # Without its older image a person's risk is another.
    fewer = received(model, root, _without_older(chunk))
    assert np.abs(model.predict(fewer).risk[2] - model.predict(plain).risk[2]).max() > 1e-6
    np.testing.assert_allclose(model.predict(fewer).risk[1], model.predict(plain).risk[1], atol=1e-9)


def _without_older(chunk: SubjectChunk) -> SubjectChunk:
    return replace(chunk, images=tuple(rows[-1:] if s < 5 else rows for s, rows in enumerate(chunk.images)))


def test_reasons_add_up_and_each_image_is_drawn_with_its_date_and_weight(
    case: tuple[str, RiskModel, SubjectChunk], root: Path
) -> None:
    name, model, chunk = case
    batch = received(model, root, chunk)
    rows = np.flatnonzero(batch.present["x"])
    whole = model.tensors(batch)
    inputs = whole["x"].take(torch.from_numpy(rows))
    assert isinstance(inputs, ImageTensors)
    sent, present = model.encode({"x": inputs}), {"x": inputs.present}
    reference = {"x": SentOne(torch.zeros_like(sent["x"].coefficients), torch.zeros_like(sent["x"].embedding))}
    worth = ModalityWorth(model, sent, reference, present, "x")
    some = take(batch, rows)
    films = films_of(some)
    mean = torch.full(model_shape(model), 0.4)
    within = within_modality(worth, inputs, mean, None, np.ones(len(rows), np.int64), films.image_number)
    picture = within.picture
    assert picture is not None
    np.testing.assert_allclose(within.unexplained, 0, atol=1e-9)
    regions = np.abs(within.feature[..., 0] - picture.region.sum(axis=-1))
    assert (regions <= np.maximum(0.01, 0.005 * np.abs(within.feature[..., 0]))).all()
    # Each region is the sum of its own pixels, whichever picture of the person it lies on.
    start = attribution_baseline(inputs, mean)
    pixels = integrated_gradients(
        worth, inputs, start, torch.arange(len(rows)), 32, lambda attribution: attribution[None]
    )
    every = pixels[0].sum(dim=2).numpy()  # (Q, T, ...)
    for p, at in enumerate(picture.at.tolist()):
        flat = every[:, at, picture.slice[p]] if name == "whole" else every[:, at]
        for k, mask in enumerate(picture.mask[p]):
            told = picture.region[picture.row[p], :, picture.place[p] * REGIONS + k]
            np.testing.assert_allclose(told, flat[:, mask].sum(axis=1), atol=0.02)
    share = model.shares("x", inputs).numpy()
    table = image_rows(films, PLANS[name], "x", some.subject_id, picture, share).to_pylist()
    used = [(10 + s, row.image_id) for s in range(SUBJECTS) for row in _used(name, chunk, s)]
    assert [(row["subject_id"], row["name"]) for row in table] == used
    notes = [json.loads(row["note"]) for row in table]
    for subject in {row["subject_id"] for row in table}:
        mine = [note["weight"] for note, row in zip(notes, table, strict=True) if row["subject_id"] == subject]
        assert sum(mine) == pytest.approx(1, abs=1e-3)
        times = [row["time"] for row in table if row["subject_id"] == subject]
        assert times == sorted(times, reverse=True)
    assert all((note["slice"] is None) == (name == "views") for note in notes)
    for row in table:
        with Image.open(io.BytesIO(row["picture"])) as drawn:
            assert drawn.size == (16, 16)
    # The rows of explanations have the names that the outlines have, and the time of their image.
    part = ModalityPart("x", rows, within, described(batch, model.plan, "x", rows), picture_time=films.time)
    told = reason_rows(model.targets, batch.subject_id, [part], np.ones((len(batch), 2), dtype=bool)).to_pylist()
    named = {
        (row["subject_id"], row["feature"], row["time"])
        for row in told
        if row["level"] == "region" and not row["remainder"]
    }
    outlined = {
        (row["subject_id"], one["region"], row["time"]) for row in table for one in json.loads(row["outline"] or "[]")
    }
    assert named == outlined
    assert len(named) > 2


def model_shape(model: RiskModel) -> tuple[int, ...]:
    plan = model.plan.modalities["x"]
    assert isinstance(plan, ImagePlan)
    return plan.pixel_shape


def _used(name: str, chunk: SubjectChunk, s: int) -> list[Any]:
    good = [row for row in reversed(chunk.images[s]) if not row.path.startswith("broken")]
    return good[: PLANS[name].most_images]
