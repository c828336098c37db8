"""What a night knows of findings: kept exactly, handed to another process, brought back, counted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from riskpred.config.model import parse
from riskpred.config.segmentation import ImagingConfig
from riskpred.features.findings import LookedAt, measures
from riskpred.features.looked import FoundLesion, Looked
from riskpred.imaging.decode import DecodePool
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.segment import Segmenter, new_network
from riskpred.records.chunk import ImageRow, SubjectChunk
from riskpred.score.findings import NightFindings, StageFindings, finding_rows
from riskpred.score.image_cache import ImageCache, cache_path

CONFIG = parse(
    ImagingConfig,
    {"segmentation": {"spots": {
        "image_types": ["DX"], "labels": {1: "spot"}, "size": 16, "network": {"widths": [4, 4]}, "steps": [],
        "lesions": {"threshold": 0.05},
    }}},
    "imaging.yaml",
)  # fmt: skip
STAGE = CONFIG.segmentation["spots"]


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """Untrained: it finds whatever it finds, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Segmenter(STAGE, (new_network(STAGE).eval().requires_grad_(False),))


@pytest.fixture
def images(tmp_path: Path) -> list[ImageRow]:
    draw = np.random.default_rng(0)
    rows = []
    for number in range(3):
        Image.fromarray(draw.integers(0, 255, (16, 16), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(ImageRow(f"i{number}", 7 + number, number, "DX", f"{number}.png", None, f"stamp {number}"))
    (tmp_path / "2.png").write_bytes(b"no picture")
    return rows


def chunk_of(images: list[ImageRow]) -> SubjectChunk:
    none = np.zeros(0, np.int64)
    return SubjectChunk(
        np.array([row.subject_id for row in images]), np.zeros(len(images) + 1, np.int64), none, none.astype(np.int32),
        np.zeros(0), none.astype(np.int32), (), (), (), tuple((row,) for row in images),
    )  # fmt: skip


def test_known_findings_are_those_that_were_found(segmenter: Segmenter, images: list[ImageRow], tmp_path: Path) -> None:
    scores = tmp_path / "scores.duckdb"
    with DecodePool(workers=0) as pool:
        first = StageFindings(segmenter, pool, ImageCache(cache_path(scores)))
        night = NightFindings(CONFIG, {"spots": first})
        night.open(chunk_of(images))
        found = night.looked("spots", images, tmp_path)
        assert isinstance(found[0], Looked)
        assert found[0].lesions, "else nothing is shown by this test"
        assert isinstance(found[2], ImageProblem)
        assert (first.counts.cached, first.counts.decoded, first.counts.rejected) == (0, 3, 1)
        first._cache.close()  # type: ignore[union-attr]
        again = StageFindings(segmenter, pool, ImageCache(cache_path(scores)))
        again.open(chunk_of(images))
        known = again.answers(images, tmp_path)
        assert known[:2] == found[:2], "number by number, line by line"
        assert isinstance(known[2], ImageProblem)
        assert (known[2].reason, known[2].wanted) == (found[2].reason, found[2].wanted)
        assert (again.counts.cached, again.counts.decoded) == (3, 0)


def test_another_network_knows_nothing_of_them(segmenter: Segmenter, images: list[ImageRow], tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        other = Segmenter(STAGE, (new_network(STAGE).eval(),))
    cache = ImageCache(cache_path(tmp_path / "scores.duckdb"))
    with DecodePool(workers=0) as pool:
        StageFindings(segmenter, pool, cache).answers(images, tmp_path)
        mine = StageFindings(other, pool, cache)
        mine.open(chunk_of(images))
        mine.answers(images, tmp_path)
        assert mine.counts.cached == 0


@pytest.mark.parametrize("by", ["stamp", "content"])
def test_a_corrected_image_type_is_looked_at_anew(
    segmenter: Segmenter, images: list[ImageRow], tmp_path: Path, by: str
) -> None:
    """The type decides the preparation, so what the same bytes showed as another type says nothing."""
    stage = STAGE.model_copy(update={"image_types": ("DX", "MG"), "steps": None})
    both = Segmenter(stage, segmenter.networks)
    corrected = [replace(row, image_type="MG", stamp=row.stamp if by == "stamp" else "touched") for row in images[:2]]
    cache = ImageCache(cache_path(tmp_path / "scores.duckdb"))
    with DecodePool(workers=0) as pool:
        plain = StageFindings(both, pool, None).answers(corrected, tmp_path)
        StageFindings(both, pool, cache).answers(images[:2], tmp_path)
        later = StageFindings(both, pool, cache)
        later.open(chunk_of(corrected))
        assert later.answers(corrected, tmp_path) == plain
        assert (later.counts.cached, later.counts.decoded) == (0, 2)


def test_another_process_is_told_and_brings_back(segmenter: Segmenter, images: list[ImageRow], tmp_path: Path) -> None:
    cache = ImageCache(cache_path(tmp_path / "scores.duckdb"))
    subjects = np.array([row.subject_id for row in images])
    with DecodePool(workers=0) as pool:
        here = StageFindings(segmenter, pool, cache)
        here.answers(images[:1], tmp_path)
        luggage = here.packed(subjects)
        assert luggage is not None
        there = StageFindings(segmenter, pool, None).carrying(luggage)
        there.open(chunk_of(images))
        there.answers(images, tmp_path)
        assert (there.counts.cached, there.counts.decoded) == (1, 2)
        here.take_in(luggage.news, there.counts)
        assert (here.counts.cached, here.counts.decoded) == (1, 3)
        here.open(chunk_of(images))
        here.answers(images, tmp_path)
        assert here.counts.cached == 4, "what came back is known"


def lesion(label: str = "spot", **more: float) -> FoundLesion:
    columns = (
        "area_px",
        "area_mm2",
        "volume_mm3",
        "longest_diameter_mm",
        "row",
        "col",
        "slice",
        "x_mm",
        "y_mm",
        "z_mm",
    )
    return FoundLesion(label, 0.8, **{**dict.fromkeys(columns), "mean_intensity": None, **more})  # type: ignore[arg-type]


def test_measures_say_0_missing_and_sums_apart() -> None:
    nothing = measures(Looked((), has_mm=True, has_volume=False, drawn=0), "spot")
    assert nothing == {
        "count": 0, "largest_diameter_mm": 0, "largest_area_px": 0, "total_area_px": 0, "total_area_mm2": 0,
        "confidence": 0,
    }, "no volume of a picture"  # fmt: skip
    without_mm = Looked((lesion(area_px=4.0), lesion(area_px=9.0)), has_mm=False, has_volume=False, drawn=0)
    assert measures(without_mm, "spot") == {
        "count": 2, "largest_area_px": 9, "total_area_px": 13, "confidence": 0.8,
    }  # fmt: skip
    assert measures(without_mm, "other")["count"] == 0


def test_lesions_of_one_image_are_numbered_over_stages() -> None:
    def looked(image: str, count: int, subject: int = 1) -> LookedAt:
        row = ImageRow(image, subject, 0, "DX", "p", None)
        return LookedAt("spots", row, Looked((lesion(),) * count, False, False, 0))

    rows = finding_rows([looked("a", 2), looked("a", 1), looked("b", 1), looked("a", 1, subject=2)]).to_pylist()
    told = [(row["subject_id"], row["image_id"], row["lesion"]) for row in rows]
    assert told == [(1, "a", 1), (1, "a", 2), (1, "a", 3), (1, "b", 1), (2, "a", 1)]
