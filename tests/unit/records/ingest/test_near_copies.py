"""Copies of an image stay together in every split; copies that contradict one another are refused."""

from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from riskpred.errors import InputError
from riskpred.imaging.inspect import FileLook
from riskpred.records.ingest import run_ingest
from riskpred.records.ingest.near_copies import correlated

CONFIG = """
study: copies
as_of: 2020-01-01T00:00:00
anchor: {date: 2020-01-01T00:00:00}
tables:
  - name: images
    file: images.csv
    subject: image
    time: {offset: [0]}
    events: [{code: LABEL, column: label, store: text}]
    images:
      - {image_id: image, path: "{image}.png", image_type: US, label: label, burned_in: allow}
splits: {SPLITS}
"""


def ingested(
    tmp_path: Path, labels: dict[str, str], splits: str = "near_copies: 0.93", unlabelled: bool = False
) -> tuple[set[str], dict, dict]:
    """Images kept, rejects by image, and group by image. a, a2, a3 are a chain of copies; b and c stand alone."""
    source, study = tmp_path / "source", tmp_path / "study"
    source.mkdir()
    study.mkdir()
    rng = np.random.default_rng(1)
    coarse = {name: np.kron(rng.uniform(50, 200, (16, 16)), np.ones((8, 8))) for name in "abc"}
    pictures = {
        "a": coarse["a"],
        "a2": coarse["a"] * 0.8 + 10 + rng.normal(0, 10, (128, 128)),  # darker, with noise: a screenshot of it
        "a3": np.kron(coarse["a"][::2, ::2], np.ones((1, 1))),  # half its size
        "b": coarse["b"],
        "c": coarse["c"],
    }
    for name, pixels in pictures.items():
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(source / f"{name}.png")
    (source / "images.csv").write_text("image,label\n" + "".join(f"{name},{labels[name]}\n" for name in pictures))
    config = CONFIG.replace("SPLITS", splits)
    (study / "ingest.yaml").write_text(config.replace("label: label, burned_in", "burned_in") if unlabelled else config)
    with FileLook(workers=0) as look:
        run_ingest(str(study), source, tmp_path / "w.duckdb", look=look)
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as connection:
        kept = {name for (name,) in connection.execute("SELECT image_id FROM images").fetchall()}
        rejects = dict(connection.execute("SELECT row_key, reason FROM rejects WHERE field = 'image'").fetchall())
        groups = dict(
            connection.execute(
                "SELECT image_id, group_id FROM images JOIN subject_groups USING (subject_id)"
            ).fetchall()
        )
    return kept, rejects, groups


LABELS = dict.fromkeys(("a", "a2", "a3", "b", "c"), "benign")


def test_copies_are_one_group_and_others_are_none(tmp_path: Path) -> None:
    kept, _, groups = ingested(tmp_path, LABELS)
    assert kept == set(LABELS)
    assert groups["a"] == groups["a2"] == groups["a3"]
    assert "b" not in groups
    assert "c" not in groups


def test_copies_that_contradict_one_another_are_refused(tmp_path: Path) -> None:
    kept, _, groups = ingested(tmp_path, {**LABELS, "a2": "malignant"})
    assert kept == {"b", "c"}
    assert not groups
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as connection:
        reasons = connection.execute("SELECT reason, count(*) FROM rejects GROUP BY 1").fetchall()
        left = connection.execute("SELECT count(*) FROM events").fetchone()
    assert dict(reasons)["contradictory_copy"] >= 3
    assert left == (2,), "what a refused image said of its person goes with it"


def test_a_stated_split_may_not_part_copies(tmp_path: Path) -> None:
    splits = "near_copies: 0.93, table: images, column: label, values: {benign: train, malignant: held_out}"
    with pytest.raises(InputError, match="near-copies lie in different splits"):
        ingested(tmp_path, {**LABELS, "a2": "malignant"}, splits, unlabelled=True)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    some = rng.normal(size=(40, 16)).astype(np.float32)
    some[20:] = some[:20] + rng.normal(0, 0.1, (20, 16)).astype(np.float32)
    some -= some.mean(axis=1, keepdims=True)
    some /= np.linalg.norm(some, axis=1, keepdims=True)
    whole = set(correlated(some, 0.93))
    monkeypatch.setattr("riskpred.records.ingest.near_copies._BLOCK", 7)
    assert set(correlated(some, 0.93)) == whole
    assert {(k, k + 20) for k in range(20)} <= whole
