"""Two series in one folder, read by everyone who reads images: features, a night, fit, findings and the contact sheet.

Who forgot which series is meant would get several_series in place of pixels.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom.uid import generate_uid

from riskpred.cli import main
from riskpred.config.model import parse
from riskpred.config.network import ImageEncoder, NetworkConfig
from riskpred.config.segmentation import SegmentationStage
from riskpred.features.build import build
from riskpred.features.look import look, wanted
from riskpred.features.looked import Looked
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.fit.pictures import training_pictures
from riskpred.imaging.decode import decode_one
from riskpred.imaging.prepare import Prepared
from riskpred.model.layout import GroupGrid, Layout
from riskpred.model.risk import RiskModel
from riskpred.records.chunk import STATIC
from riskpred.records.cohort import CohortRows
from riskpred.records.warehouse import Warehouse
from riskpred.score.images import NightImages
from tests.phantoms.export import write_series

INGEST = """
study: pacs
folders:
  - name: export
    path: export
    subject: PatientID
    subject_map: {file: people.csv, identifier: pacs, subject: person}
"""
PLAN = FeaturePlan({"image": ImagePlan(("CT",), None, None, 16, most_images=2)})


@pytest.fixture
def warehouse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    for slices in (3, 5):
        write_series(tmp_path / "source" / "export" / "study", generate_uid(), slices, f"{slices} {{}}.dcm", slices)
    (tmp_path / "source" / "people.csv").write_text("pacs,person\nSECRET-7,7\n")
    (tmp_path / "ingest.yaml").write_text(INGEST)
    call = ["ingest", str(tmp_path), "--from", str(tmp_path / "source"), "--into", str(tmp_path / "w.duckdb")]
    assert main(call) == 0
    capsys.readouterr()
    return tmp_path / "w.duckdb"


def test_features_and_a_night_read_each_series(warehouse: Path) -> None:
    grid = GroupGrid("one", ("heart",), ("heart", "death"), False, (1.0, 3.0), (0.0, 1.0, 3.0))
    config = NetworkConfig(encoders={"image": ImageEncoder(channels=(4, 8))}, embedding=4, members=2)
    torch.manual_seed(0)
    model = RiskModel(config, PLAN, Layout((grid,), ("heart",))).requires_grad_(False)
    never = np.array([STATIC])
    now = np.array([np.datetime64("2025-01-01", "us").astype(np.int64)])
    rows = CohortRows(np.zeros(1, np.int64), now, never, {}, {}, {}, {}, never)
    with Warehouse.open(warehouse) as source:
        (chunk,) = source.chunks()
        plain = build(chunk, rows, PLAN, source.image_root)
        decoded = []
        for _ in range(2):
            with NightImages(model, warehouse.parent / "s.duckdb", path="fp32", engine="torch", workers=0) as night:
                tonight = build(chunk, rows, PLAN, source.image_root, night.sources)
                decoded.append(night.counts.decoded)
            assert tonight.rejects == ()
            assert len(set(tonight.inputs["image"].image_id)) == 2
    assert plain.rejects == ()
    first, second = plain.inputs["image"].pixels
    assert not np.array_equal(first, second)
    assert decoded == [2, 0], "the next night finds each series by its digest"


def test_fit_reads_each_series(warehouse: Path) -> None:
    with Warehouse.open(warehouse) as source:
        found = training_pictures(PLAN, source, np.array([7]))["image"]
    assert (len(found.pixels), found.left_out) == (2, {})


class Sure:
    """A network that sees one lesion in the middle."""

    stage = parse(
        SegmentationStage, {"image_types": ["CT"], "labels": {1: "lump"}, "size": [4, 16, 16], "volume": "whole"}, "s"
    )

    def probabilities(self, prepared: Prepared) -> np.ndarray:
        found = np.zeros((1, *prepared.pixels.shape[2:]), np.float32)
        found[:, 1:3, 6:10, 6:10] = 0.99
        return found


def test_findings_read_each_series(warehouse: Path) -> None:
    looker = Sure()
    with Warehouse.open(warehouse) as source:
        (chunk,) = source.chunks()
        for row in chunk.images[0]:
            prepared = decode_one(wanted(looker.stage, row, source.image_root)).result
            assert isinstance(prepared, Prepared)
            found = look(looker, prepared, row, source.image_root)  # type: ignore[arg-type]
            assert isinstance(found, Looked)
            assert len(found.lesions) == 1


def test_the_contact_sheet_shows_each_series(warehouse: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into = warehouse.parent / "page.html"
    assert main(["check", str(warehouse), "--images", "--into", str(into), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["readings"]
    assert told == {"reading": "defaults, CT", "images": 2, "tried": 2, "shown": 2, "problems": {}}
