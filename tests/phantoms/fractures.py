"""Long-bone phantoms in the layout of FracAtlas."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.phantoms.bones import SIDE, bone
from tests.phantoms.drawing import Floats

COLUMNS = ("hand", "leg", "hip", "shoulder", "mixed", "hardware", "multiscan", "fractured", "fracture_count")
VIEWS = ("frontal", "lateral", "oblique")


def outline(crack: Floats, side: int, margin: float = 4.0) -> Floats:
    """A polygon a few pixels around the line of a crack, as readers draw one. Shape: (N, 2) -> (2 N, 2), row, col."""
    along = np.gradient(crack, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    across = margin * along[:, ::-1] * (1.0, -1.0)
    ends = crack + margin * along * np.linspace(-1, 1, len(crack)).round()[:, None]
    return np.clip(np.concatenate([ends + across, (ends - across)[::-1]]), 0.0, side - 1.0)


def write_fracatlas(folder: Path, images: int, seed: int, side: int = SIDE, share: float = 0.4) -> NDArray[np.int64]:
    """images/, dataset.csv and the COCO file; whether each image has a crack, in the order of the table."""
    rng = np.random.default_rng(seed)
    answers = rng.permutation((np.arange(images) < max(2, round(share * images))).astype(np.int64))
    for name in ("Fractured", "Non_fractured"):
        (folder / "images" / name).mkdir(parents=True)
    coco: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "fractured"}],
    }
    with (folder / "dataset.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_id", *COLUMNS, *VIEWS])
        for number, answer in enumerate(answers.tolist()):
            name, made = f"IMG{number:07d}.jpg", bone(bool(answer), rng, side)
            hardware = int(rng.random() < 0.05)
            table.writerow([name, 0, 1, 0, 0, 0, hardware, 0, answer, answer, 1, 0, 0])
            where = folder / "images" / ("Fractured" if answer else "Non_fractured") / name
            Image.fromarray(made.pixels).save(where, quality=95)
            if answer:
                coco["images"].append({"id": number, "file_name": name, "height": side, "width": side})
                row, col, height, width = made.box()
                around = [[x, y] for y, x in outline(made.crack, side)]
                coco["annotations"].append(
                    {
                        "id": len(coco["annotations"]) + 1,
                        "image_id": number,
                        "category_id": 1,
                        "segmentation": [[value for point in around for value in point]],
                        "bbox": [col, row, width, height],
                        "area": width * height,
                        "iscrowd": 0,
                    }
                )
    (folder / "Annotations" / "COCO JSON").mkdir(parents=True)
    (folder / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json").write_text(json.dumps(coco))
    return answers
