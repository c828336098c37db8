"""Annotated images for training and measuring: what cannot be used costs its image, and is counted by reason."""

from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from PIL import Image

from riskpred.config.model import parse
from riskpred.config.segmentation import SegmentationStage
from riskpred.evaluate.marked import marked_images
from riskpred.records.annotations import annotations
from riskpred.records.ingest import run_ingest
from riskpred.records.warehouse import Warehouse

INGEST = """
study: masks
tables:
  - name: images
    file: images.csv
    subject: person
    time: {static: true}
    images: [{image_id: image, path: "{image}.png", image_type: US}]
    annotations: [{image_id: image, label: lump, mask: {path: "{image}_mask.png"}}]
"""


def test_a_mask_of_another_size_costs_its_image(tmp_path: Path) -> None:
    rng, sides = np.random.default_rng(0), {"a": (32, 32), "b": (16, 16), "c": (32, 33)}
    for name, shape in sides.items():
        Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(tmp_path / f"{name}.png")
        Image.fromarray(np.full(shape, 255, np.uint8)).save(tmp_path / f"{name}_mask.png")
    (tmp_path / "images.csv").write_text("person,image\n1,a\n2,b\n3,c\n")
    (tmp_path / "ingest.yaml").write_text(INGEST)
    run_ingest(str(tmp_path), tmp_path, tmp_path / "w.duckdb")
    stage = parse(SegmentationStage, {"image_types": ["US"], "labels": {1: "lump"}, "size": [16, 16]}, "stage")
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse, TemporaryFile() as pixels:
        found = marked_images(stage, warehouse, np.array([1, 2, 3]), annotations(warehouse), pixels)
    assert [row.image_id for row in found.rows] == ["a"]
    assert found.left_out == {"mask_size": 2}
    assert (found.pairs[0][1] == 1).all()
