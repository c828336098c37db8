"""What radiomics measure becomes events of the chunk, is kept by the bytes, and is refused where nobody makes it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from riskpred.config.findings import radiomics_code
from riskpred.config.model import parse
from riskpred.config.segmentation import ImagingConfig
from riskpred.config.study import load_model_config
from riskpred.errors import ConfigError
from riskpred.features.findings import with_findings
from riskpred.features.look import Finder, lookers, signature
from riskpred.features.looked import Looked
from riskpred.features.plan import FeatureColumn, FeaturePlan, TabularPlan
from riskpred.imaging.decode import DecodePool
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.radiomics import Radiomics
from riskpred.records.chunk import ImageRow, SubjectChunk
from riskpred.score.findings import StageFindings
from riskpred.score.image_cache import ImageCache, cache_path

CONFIG = parse(
    ImagingConfig,
    {"radiomics": {"skin": {"image_types": ["OP"], "steps": [], "size": 32, "families": ["brightness", "layout"]}}},
    "imaging.yaml",
)
MEAN = radiomics_code("skin", "brightness_mean")
PLAN = FeaturePlan({"tabular": TabularPlan((FeatureColumn(f"{MEAN}:last:2d", MEAN, "last", 2, None, "Mean", False),))})
DAY = 86_400_000_000


@pytest.fixture
def images(tmp_path: Path) -> list[ImageRow]:
    """Three of one subject on days 1 to 3, a quarter, half and three quarters of white; the second cannot be read."""
    rows = []
    for day in (1, 2, 3):
        picture = np.zeros((32, 32), np.uint8)
        picture[:, : 8 * day] = 255
        Image.fromarray(picture).save(tmp_path / f"{day}.png")
        rows.append(ImageRow(f"i{day}", 7, day * DAY, "OP", f"{day}.png", None, f"stamp {day}"))
    (tmp_path / "2.png").write_bytes(b"no picture")
    return rows


def chunk_of(images: list[ImageRow], finder: object | None = None) -> SubjectChunk:
    none = np.zeros(0, np.int64)
    return SubjectChunk(
        np.array([7]), np.zeros(2, np.int64), none, none.astype(np.int32), np.zeros(0), none.astype(np.int32),
        (), (), (), (tuple(images),), finder=finder,
    )  # fmt: skip


def test_each_image_gives_events_at_its_time_and_none_where_it_cannot_be_read(
    images: list[ImageRow], tmp_path: Path
) -> None:
    chunk = chunk_of(images, Finder(CONFIG, {}))
    found = with_findings(chunk, np.array([0, 0]), np.array([2 * DAY, 4 * DAY]), PLAN, tmp_path)
    here = found.chunk.code == found.chunk.codes.index(MEAN)
    assert found.chunk.time[here].tolist() == [DAY, 3 * DAY]
    assert found.chunk.numeric_value[here] == pytest.approx([0.25, 0.75])
    assert [(one.row_key, one.subject_id) for one in found.rejects] == [("i2", 7)]


def test_an_image_after_every_moment_is_not_looked_at(images: list[ImageRow], tmp_path: Path) -> None:
    found = with_findings(chunk_of(images, Finder(CONFIG, {})), np.array([0]), np.array([2 * DAY]), PLAN, tmp_path)
    assert [one.image.image_id for one in found.images] == ["i1"]


def test_what_was_measured_is_kept_by_the_bytes(images: list[ImageRow], tmp_path: Path) -> None:
    scores = tmp_path / "scores.duckdb"
    (looker,) = lookers(CONFIG, {}).values()
    with DecodePool(workers=0) as pool:
        first = StageFindings(looker, pool, ImageCache(cache_path(scores)))
        found = first.answers(images, tmp_path)
        first._cache.close()  # type: ignore[union-attr]
        again = StageFindings(looker, pool, ImageCache(cache_path(scores)))
        again.open(chunk_of(images))
        known = again.answers(images, tmp_path)
    assert isinstance(found[0], Looked)
    assert isinstance(known[1], ImageProblem)
    assert known[0] == found[0], "number by number"
    assert known[2] == found[2]
    assert dict(found[0].values)["brightness_mean"] == pytest.approx(0.25)
    assert (again.counts.cached, again.counts.decoded) == (3, 0)


def test_other_settings_or_another_decoder_know_nothing_of_it() -> None:
    stage = CONFIG.radiomics["skin"]
    other = stage.model_copy(update={"families": ("brightness",)})
    known = {signature(Radiomics(stage), "a"), signature(Radiomics(other), "a"), signature(Radiomics(stage), "b")}
    assert len(known) == 3
    assert signature(Radiomics(stage), "a") in known


def test_a_measure_that_no_stage_makes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outcomes.yaml").write_text(
        "entry_codes: [E]\nprediction_times: {days_after_entry: [0]}\n"
        "outcomes:\n  ill: {display: Ill, rule: {codes: [D]}, known_at_once: true}\n"
    )
    (tmp_path / "imaging.yaml").write_text("radiomics: {skin: {image_types: [OP], families: [brightness]}}\n")
    features = "modalities: {tabular: {kind: tabular, features: [{codes: ['%s']}]}}\n"
    (tmp_path / "features.yaml").write_text(features % MEAN)
    assert load_model_config(str(tmp_path)).imaging.radiomics["skin"].families == ("brightness",)
    for wrong in ("IMAGE//skin//mass_area", "IMAGE//hair//brightness_mean", "IMAGE//skin//*"):
        (tmp_path / "features.yaml").write_text(features % wrong)
        with pytest.raises(ConfigError, match="findings that cannot be read so"):
            load_model_config(str(tmp_path))


def test_one_name_for_two_stages_is_refused() -> None:
    both = {
        "segmentation": {"skin": {"image_types": ["OP"], "labels": {"1": "mole"}}},
        "radiomics": {"skin": {"image_types": ["OP"]}},
    }
    with pytest.raises(ConfigError, match="with one name: skin"):
        parse(ImagingConfig, both, "imaging.yaml")
