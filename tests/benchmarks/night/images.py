"""Images at night: the fast path against eager fp32 torch with the same decode, 1 % new images against none known.

The legs run one after the other on the same simulated pictures; one that was measured before a run was cut off is not
measured again. A few hundred distinct files are written and linked under every subject's own path, so they come from
memory: the processor is measured, not the disk. The part `images` of the benchmark is JPEG files and the network of
study hospital; this prints every combination of PLANS and TYPES:

    python -m tests.benchmarks.night.images [SUBJECTS]
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from scipy import ndimage

from riskpred.config.imaging import Recipe
from riskpred.config.network import ImageEncoder, NetworkConfig
from riskpred.features.build import build
from riskpred.features.image import image
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.imaging.decode import Wanted, decode_one
from riskpred.imaging.prepare import prepare
from riskpred.imaging.read import read_image
from riskpred.model.image_fast import agreement, fast_images
from riskpred.model.layout import GroupGrid, Layout
from riskpred.model.risk import RiskModel
from riskpred.model.tensors import ImageTensors
from riskpred.model.threads import one_thread
from riskpred.records.chunk import DAY_US, STATIC, ImageRow, SubjectChunk
from riskpred.records.cohort import CohortRows
from riskpred.score.image_cache import cache_path
from riskpred.score.images import NightImages
from tests.benchmarks.night import results

SIDE: Final = 1024
DISTINCT: Final = 200
CHUNK: Final = 2048
TYPES: Final = {"jpeg": "jpg", "dicom": "dcm"}
PLANS: Final = {"hospital": (64, (8, 16, 32, 32)), "large": (224, (32, 64, 128, 256))}
"""Side of the prepared square and channels: study hospital's image encoder, and one of the size others use."""


WHOLE: Final = "whole decode, eager fp32"
EAGER: Final = "same decode, eager fp32"
COLD: Final = "fast, none known"
NEWS: Final = "fast, 1 % new"
KNOWN: Final = "fast, all known"
_ENCODERS: Final = "encoders"


def measure(
    work: Path,
    attempts: results.Attempts,
    subjects: int = 20_000,
    kind: str = "jpeg",
    network: str = "hospital",
    workers: int | None = None,
) -> results.Figures:
    """The part `images` of the benchmark: seconds and processor seconds of every leg, and their ratios.

    Args:
        work: the pictures and the cache lie below it until all is measured.   attempts: legs that have been measured.
        kind: jpeg (8 bits, quality 90) or dicom (uncompressed, 12 of 16 bits).
        network: a name of PLANS.
        workers: processes that decode on the fast path; None = one per core.
    """
    size, channels = PLANS[network]
    model = _model(size, channels)
    place = work / f"images-{subjects}-{kind}-{network}"
    root, scores, known = place / "files", place / "scores.duckdb", place / "known"
    written = place / "written"
    if not written.is_file() or not attempts.made:
        attempts.clear()
        shutil.rmtree(place, ignore_errors=True)
        root.mkdir(parents=True)
        _write(root, subjects, kind)
        written.touch()
    about = {"subjects": subjects, "kind": kind, "network": network}

    def keep(name: str, found: results.Figures) -> None:
        attempts.add(name, found, {**about, **_figures({**attempts.made, name: found})})

    def leg(name: str, run: Callable[[], None], **more: int) -> None:
        wall, own = time.perf_counter(), _processor()
        run()
        took = {"seconds": time.perf_counter() - wall, "processor_seconds": _processor() - own}
        keep(name, {"subjects": subjects, **took, **more})

    with one_thread():
        rows = _rows(root, subjects, kind)
        some = rows[: max(1, subjects // 10)]
        if WHOLE not in attempts.made:
            leg(WHOLE, lambda: _whole(model, root, some), subjects=len(some))
        if EAGER not in attempts.made:
            leg(EAGER, lambda: _eager(model, root, rows))
        if COLD not in attempts.made or not known.is_file():
            cache_path(scores).unlink(missing_ok=True)
            leg(COLD, lambda: _night(model, root, scores, rows, workers))
            shutil.copy(cache_path(scores), place / "known.tmp")
            (place / "known.tmp").rename(known)
        if NEWS not in attempts.made:
            # What a leg that was cut off has learnt is not to help this one.
            shutil.copy(known, cache_path(scores))
            new = _renew(root, subjects, kind)
            rows = _rows(root, subjects, kind)
            leg(NEWS, lambda: _night(model, root, scores, rows, workers), new_images=new)
        if KNOWN not in attempts.made:
            leg(KNOWN, lambda: _night(model, root, scores, rows, workers))
        if _ENCODERS not in attempts.made:
            keep(_ENCODERS, {**_encoders(model, root, rows, size), "cache_bytes": cache_path(scores).stat().st_size})
    shutil.rmtree(place)
    return {**about, **_figures(attempts.made)}


def _figures(made: dict[str, results.Figures]) -> results.Figures:
    """What the legs that have been measured say together."""
    found: results.Figures = {"legs": {name: one for name, one in made.items() if name != _ENCODERS}}
    found |= made.get(_ENCODERS, {})

    def over(name: str, slow: str, fast: str, unit: str = "seconds") -> None:
        if slow in made and fast in made:
            each = [made[leg][unit] / made[leg]["subjects"] for leg in (slow, fast)]
            found[name] = each[0] / each[1]

    over("eager_over_fast", EAGER, COLD)
    over("eager_over_fast_processor", EAGER, COLD, "processor_seconds")
    over("whole_decode_eager_over_fast", WHOLE, COLD)
    over("none_known_over_1_percent_new", COLD, NEWS)
    if NEWS in made:
        found["new_images"] = made[NEWS]["new_images"]
    return found


def _model(size: int, channels: tuple[int, ...]) -> RiskModel:
    """An untrained model of study hospital's shape: two competing outcomes, one at once, five members."""
    plan = FeaturePlan({"image": ImagePlan(("DX",), None, None, size)})
    timed = GroupGrid("both", ("a", "b"), ("a", "b", "death"), False, (1.0, 5.0), (0.0, 0.5, 1.0, 2.0, 3.0, 5.0))
    once = GroupGrid("now", ("c",), ("c",), True, (0.0,), (0.0, 1.0))
    torch.manual_seed(0)
    model = RiskModel(
        NetworkConfig(encoders={"image": ImageEncoder(channels=channels)}), plan, Layout((timed, once), ("a", "b", "c"))
    )
    for r in range(model.members):
        encoder = model.member(r).encoders["image"]
        assert isinstance(encoder.location, torch.Tensor)
        encoder.location.fill_(0.45)
        encoder.scale.fill_(0.22)
        with torch.no_grad():
            encoder.to_coefficients.weight.normal_(0, 0.1)
            model.member(r).baseline(0).fill_(-3.0)
    return model.requires_grad_(False)


def _write(root: Path, subjects: int, kind: str, distinct: int = DISTINCT) -> None:
    for at in range(min(distinct, subjects)):
        _picture(root / f"{at}.{TYPES[kind]}", at, kind)
    for subject in range(subjects):
        (root / str(subject)).mkdir()
        (root / str(subject) / "image").hardlink_to(root / f"{subject % distinct}.{TYPES[kind]}")


def _picture(file: Path, seed: int, kind: str) -> None:
    """A smooth ground with a bright spot and the grain of a detector."""
    rng = np.random.default_rng(seed)
    ground = ndimage.zoom(ndimage.gaussian_filter(rng.standard_normal((SIDE // 8, SIDE // 8)), 3), 8, order=1)
    ground = (ground - ground.min()) / np.ptp(ground)
    row, column = np.ogrid[:SIDE, :SIDE]
    at = rng.uniform(0.3, 0.7, 2) * SIDE
    spot = np.exp(-((row - at[0]) ** 2 + (column - at[1]) ** 2) / (2 * (SIDE / 30) ** 2))
    values = 20 + 150 * ground + 60 * spot + rng.standard_normal((SIDE, SIDE)) * 4
    if kind == "jpeg":
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(file, quality=90)
        return
    meta, data = FileMetaDataset(), Dataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", f"1.2.{seed}"
    data.file_meta, data.Modality, data.PhotometricInterpretation = meta, "DX", "MONOCHROME2"
    data.Rows = data.Columns = SIDE
    data.SamplesPerPixel, data.PixelRepresentation, data.PixelSpacing = 1, 0, [0.2, 0.2]
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelData = (values.clip(0, 255) * 16).astype(np.uint16).tobytes()
    data.save_as(file, enforce_file_format=True)


def _renew(root: Path, subjects: int, kind: str) -> int:
    """Every hundredth subject gets another picture."""
    renewed = range(0, subjects, 100)
    for subject in renewed:
        file = root / str(subject) / "image"
        file.unlink()
        source = root / f"{(subject + 1) % DISTINCT}.{TYPES[kind]}"
        file.write_bytes(source.read_bytes())
    return len(renewed)


def _rows(root: Path, subjects: int, kind: str) -> list[tuple[ImageRow, ...]]:
    """As a warehouse gives them: stamped by size and time, the files unread."""
    rows = []
    for subject in range(subjects):
        path = f"{subject}/image"
        state = (root / path).stat()
        stamp = f"{state.st_size} {state.st_mtime_ns}"
        rows.append((ImageRow(str(subject), subject, DAY_US, "DX", path, None, stamp),))
    return rows


def _chunks(rows: list[tuple[ImageRow, ...]]) -> list[tuple[SubjectChunk, CohortRows]]:
    found = []
    for start in range(0, len(rows), CHUNK):
        part, none = tuple(rows[start : start + CHUNK]), np.zeros(0)
        count = len(part)
        chunk = SubjectChunk(
            subject_id=np.arange(start, start + count),
            start=np.zeros(count + 1, np.int64),
            time=none.astype(np.int64),
            code=none.astype(np.int32),
            numeric_value=none,
            text=none.astype(np.int32),
            codes=(),
            texts=(),
            units=(),
            images=part,
        )
        never = np.full(count, STATIC)
        found.append((chunk, CohortRows(np.arange(count), np.full(count, 2 * DAY_US), never, {}, {}, {}, {}, never)))
    return found


def _whole(model: RiskModel, root: Path, rows: list[tuple[ImageRow, ...]]) -> None:
    """Every pixel decoded in this process, eager fp32: what a night did before there was a fast path."""
    part = model.plan.modalities["image"]
    assert isinstance(part, ImagePlan)
    for start in range(0, len(rows), 512):
        some = rows[start : start + 512]
        pixels = np.stack([prepare(read_image(root / row.path), part.size).pixels[0] for (row,) in some])
        _encode(model, pixels)


def _eager(model: RiskModel, root: Path, rows: list[tuple[ImageRow, ...]]) -> None:
    """The same decode in this process, eager fp32."""
    part = model.plan.modalities["image"]
    assert isinstance(part, ImagePlan)
    for chunk, of_chunk in _chunks(rows):
        given, _, rejects = image(chunk, of_chunk, part, root)
        assert not rejects
        for start in range(0, len(chunk), 512):
            _encode(model, given.pixels[start : start + 512])


def _night(model: RiskModel, root: Path, scores: Path, rows: list[tuple[ImageRow, ...]], workers: int | None) -> None:
    with NightImages(model, scores, workers=workers) as night:
        for chunk, of_chunk in _chunks(rows):
            batch = build(chunk, of_chunk, model.plan, root, night.sources)
            assert not batch.rejects
            with torch.no_grad():
                model.encode(model.tensors(batch))


def _encode(model: RiskModel, pixels: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    given = ImageTensors.alone(torch.from_numpy(pixels))
    with torch.no_grad():
        model.encode({"image": given})


def _encoders(model: RiskModel, root: Path, rows: list[tuple[ImageRow, ...]], size: int) -> dict[str, Any]:
    """The networks alone, on pixels in memory, and how far the fast path and the reduced decode move a risk."""
    count = min(256, len(rows))
    chunk, of_chunk = _chunks(rows[:count])[0]
    batch = build(chunk, of_chunk, model.plan, root)
    pixels = batch.inputs["image"].pixels  # type: ignore[union-attr]
    fast = fast_images(model, "image")
    seconds = {"eager": min(_seconds(lambda: _encode(model, pixels)) for _ in range(5))}
    seconds["fast"] = min(_seconds(lambda: fast.encode(pixels)) for _ in range(5))
    whole = np.stack([prepare(read_image(root / row.path), size).pixels[0] for (row,) in rows[:count]])
    wanted = [Wanted(root, row.path, Recipe.of(size=size)) for (row,) in rows[:count]]
    reduced = np.stack([decode_one(one).result.pixels[0] for one in wanted])  # type: ignore[union-attr]
    precise = fast_images(model, "image", "fp32", "torch")
    present = {"image": torch.ones(count, dtype=torch.bool)}
    risks = [model.member_risks({"image": precise.sent(p)}, present).mean(dim=0) for p in (whole, reduced)]
    gap = agreement(model, batch, {"image": fast})
    return {
        "encoder_note": fast.note,
        "encoder_ms_per_image": {name: 1000 * took / count for name, took in seconds.items()},
        "encoder_eager_over_fast": seconds["eager"] / seconds["fast"],
        "risk_moved_by_fast_path": gap.risk,
        "pixels_moved_by_reduced_decode": float(abs(whole - reduced).max()),
        "risk_moved_by_reduced_decode": float((risks[0] - risks[1]).abs().max()),
    }


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _processor() -> float:
    """Processor seconds of this process and of its children that ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def main() -> None:
    """Every combination of PLANS and TYPES, printed; nothing is kept."""
    subjects = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    for kind in TYPES:
        for network in PLANS:
            with tempfile.TemporaryDirectory() as folder:
                work = Path(folder)
                attempts = results.Attempts(work, "images", {})
                print(json.dumps(measure(work, attempts, subjects, kind, network), indent=2), flush=True)


if __name__ == "__main__":
    main()
