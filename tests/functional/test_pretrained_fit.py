"""`riskpred fit --pretrain`: who is read, what the card says, and that another study starts from the file it leaves."""

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
import torch
from safetensors.torch import load_file

from riskpred.cli import main
from riskpred.config.network import ImageEncoder
from riskpred.fit.data import Rows
from riskpred.fit.pictures import Pictures
from riskpred.fit.pretrain_choice import Start
from riskpred.fit.run import fit
from riskpred.model.backbones import backbone
from riskpred.model.bundle import load_bundle


@pytest.fixture
def study(tiny: Any, tmp_path: Path) -> Path:
    """The tiny study with one epoch of pre-training where it is asked for."""
    folder = tmp_path / "tiny"
    shutil.copytree(tiny.study, folder)
    network = folder / "network.yaml"
    network.write_text(network.read_text().replace("epochs: 2", "epochs: 1"))
    return folder


@pytest.fixture
def warehouse(tiny: Any, tmp_path: Path) -> Path:
    """Held-out people's images cannot be read; somebody of train has images, and nothing that makes her eligible."""
    path = tmp_path / "w.duckdb"
    shutil.copy(tiny.warehouse, path)
    with duckdb.connect(str(path)) as connection:
        split = "(SELECT subject_id FROM subject_splits WHERE split {} 'held_out')"
        connection.execute(f"UPDATE images SET path = 'gone.png' WHERE subject_id IN {split.format('=')}")
        assert connection.execute("SELECT count(*) FROM images WHERE path = 'gone.png'").fetchall()[0][0] > 10
        one = f"(SELECT min(subject_id) FROM images WHERE subject_id IN {split.format('<>')})"
        connection.execute(f"DELETE FROM events WHERE subject_id = {one} AND code <> 'MEDS_BIRTH'")
    return path


def of_training(warehouse: Path) -> int:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        found = connection.sql(
            "SELECT count(*) FROM images JOIN subject_splits USING (subject_id) WHERE split <> 'held_out'"
        ).fetchall()
    return int(found[0][0])


def test_it_learns_from_all_training_pictures_and_no_held_out_one(
    study: Path, warehouse: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = study / "network.yaml"
    network.write_text(network.read_text() + "pretrain: {epochs: 1, folds: 2, batch_size: 32}\n")
    given = ["fit", str(study), str(warehouse), "--into", str(tmp_path / "b")]
    assert main([*given, "--pretrain-weights", str(tmp_path / "site.safetensors"), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    bundle = load_bundle(tmp_path / "b")
    card = bundle.card["pretraining"]
    assert done["pretraining"] == card
    # Had one held-out picture been asked for, it would be among those that could not be read.
    assert card["left_out"] == {"image": {}}
    assert card["images"] == {"image": of_training(warehouse)}
    assert card["taken"] == (card["with"] < card["without"])
    assert card["said"] in bundle.card["method"]

    # The file is one that a study starts from, found beside its network.yaml whoever's working folder it is.
    own = dict(bundle.model.member(0).encoders["image"].backbone.state_dict())
    state = load_file(tmp_path / "site.safetensors")
    assert {name: one.shape for name, one in state.items()} == {name: one.shape for name, one in own.items()}
    (study / "weights").mkdir()
    shutil.move(tmp_path / "site.safetensors", study / "weights" / "site.safetensors")
    lines = network.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip().startswith("image:"))
    lines[at] = (
        "  image: {kind: image, channels: [4, 4], freeze: 2, "
        "weights: {file: weights/site.safetensors, layout: riskpred}}"
    )
    network.write_text("\n".join(line for line in lines if not line.startswith("pretrain")))
    assert main(given) == 0
    capsys.readouterr()
    again = load_bundle(tmp_path / "b")
    said = again.card["image_weights"]["image"]
    assert (said["matched"], said["missing"], said["layout"]) == (len(state), [], "riskpred")
    assert said["said"].startswith(f"{len(state)} tensors of layout riskpred taken")
    assert "pretraining" not in again.card
    for r in range(again.model.members):
        kept = again.model.member(r).encoders["image"].backbone.state_dict()
        assert all(torch.equal(kept[name], state[name]) for name in state), "both stages are kept as loaded"
    # The bundle names the file, not the place where it lay.
    assert again.config.network.encoders["image"].weights.file == "site.safetensors"  # type: ignore[union-attr]
    assert str(tmp_path) not in (tmp_path / "b" / "config.json").read_text()


def test_what_cannot_be_is_refused_before_any_work(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["fit", str(study), str(tmp_path / "none.duckdb"), "--into", str(tmp_path / "b")]
    assert main([*given, "--pretrain-weights", str(tmp_path / "x.safetensors")]) == 2
    assert "add --pretrain" in capsys.readouterr().err
    assert main([*given, "--pretrain", "--pretrain-weights", str(tmp_path / "x.pth")]) == 2
    assert "FILE.safetensors" in capsys.readouterr().err
    assert main([*given, "--pretrain", "--pretrain-weights", str(tmp_path / "no" / "x.safetensors")]) == 15
    assert "no folder for it" in capsys.readouterr().err
    assert main(["fit", "--recalibrate", "old", "w.duckdb", "--into", "new", "--pretrain"]) == 2
    assert "trains no network" in capsys.readouterr().err


def test_every_member_starts_from_what_is_taken_and_a_tested_fold_shows_no_picture(
    study: Path, warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = study / "network.yaml"
    still = network.read_text().replace("ridge_grid", "learning_rate: 0.0, ridge_grid")
    network.write_text(still + "pretrain: {epochs: 1}\ncross_validation: {folds: 2, repeats: 1}\n")
    torch.manual_seed(3)
    state = backbone(ImageEncoder(channels=(4, 4)), 1, 2).state_dict()
    shown: list[tuple[set[int], set[int]]] = []

    def chosen(
        _: object, plan: object, layout: object, rows: Rows, pictures: dict[str, Pictures], *more: object
    ) -> Start:
        some = pictures["image"]
        shown.append((set(rows.together.tolist()), set(some.together[some.index].tolist())))
        return Start({"image": state}, {"image": state}, {"said": "Said.", "taken": True})

    monkeypatch.setattr("riskpred.fit.run.choose_start", chosen)
    model = fit(str(study), warehouse, tmp_path / "b").model
    for r in range(model.members):
        own = model.member(r).encoders["image"].get_submodule("backbone").state_dict()
        assert all(torch.equal(own[name], state[name]) for name in state), "nothing was learned on top"
    (everyone, pictured), *folds = shown
    assert len(folds) == 2
    assert pictured - everyone, "somebody without a row is learned from"
    for inner, mine in folds:
        assert mine
        assert not mine & (everyone - inner), "whom the fold tests"
        assert mine >= pictured - everyone
