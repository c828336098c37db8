import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from riskpred.config.network import NetworkConfig
from riskpred.config.outcomes import Outcome, OutcomesConfig, PredictionTimes, Rule
from riskpred.config.study import FeaturesConfig, ModelConfig
from riskpred.errors import BundleError, OutputError
from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import FeaturePlan
from riskpred.model.bundle import FILES, Contents, load_bundle, subject_hashes, write_bundle
from riskpred.model.manifest import FORMAT, new_folder, verify
from riskpred.model.network import SentOne
from riskpred.model.peer import CoxPart, LogisticPart, Peer, PeerDesign
from riskpred.model.predictions import Predictions
from riskpred.model.profiles import Profiles
from riskpred.model.risk import RiskModel
from riskpred.model.scope import Scope

SALT = b"0123456789abcdef"


def predictions(rows: int) -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(
        row=np.arange(rows),
        repeat=np.zeros(rows, np.int64),
        fold=np.arange(rows) % 3,
        subject=np.arange(rows) // 2,
        risk=rng.random((rows, 5)),
        peer_risk=np.full((rows, 5), np.nan),
        cause=np.where(np.arange(rows)[:, None] == rows - 1, -1, 1).astype(np.int8).repeat(2, 1),
        duration_days=np.full((rows, 2), 100.0),
        present=np.ones((rows, 3), bool),
    )


@pytest.fixture
def contents(
    model: RiskModel,
    plan: FeaturePlan,
    network: NetworkConfig,
    make_batch: Callable[..., FeatureBatch],
    scope_of: Callable[..., Scope],
) -> Contents:
    def outcome(**more: object) -> Outcome:
        return Outcome(display="x", rule=Rule(codes=("X",)), **more)

    config = ModelConfig(
        name="study",
        outcomes=OutcomesConfig(
            prediction_times=PredictionTimes(days_after_entry=(0,)),
            horizons_years=(1.0, 3.0),
            outcomes={
                "heart": outcome(competing_set="both"),
                "now": outcome(known_at_once=True),
                "cancer": outcome(competing_set="both"),
            },
        ),
        features=FeaturesConfig.model_validate_json(
            json.dumps({"modalities": {"image": {"kind": "image", "image_types": ["CR"]}}})
        ),
        network=network,
    )
    cox = CoxPart(("heart", "cancer"), (1.0, 3.0), np.zeros((0, 3)), np.full((2, 3), 0.1), (1, 2))
    sent = model.encode(model.tensors(make_batch()))
    profiles = Profiles(
        ("everyone", "women under 30"),
        {name: SentOne(one.coefficients[:, 5:7], one.embedding[:, 5:7]) for name, one in sent.items()},
        {"tabular": torch.zeros(2, 5), "series": torch.zeros(2, 2), "image": torch.zeros(2, 16, 16)},
    )
    return Contents(
        name="study",
        version="1",
        created_at="2026-11-22T00:00:00+00:00",
        seed=3,
        counts={"rows": 40, "subjects": 20},
        config=config,
        plan=plan,
        model=model,
        card={"name": "study"},
        profiles=profiles,
        peer=Peer(model.targets, PeerDesign(()), (cox, LogisticPart("now", -1.0, np.zeros(0)))),
        out_of_fold=predictions(40),
        cross_validation=None,
        salt=SALT,
        trained_on=subject_hashes(SALT, "here", [3, 5, 8]),
        scope=scope_of(model, make_batch(), profiles.everyone),
    )


def test_a_bundle_predicts_after_loading_as_it_did_before(
    contents: Contents, tmp_path: Path, make_batch: Callable[..., FeatureBatch]
) -> None:
    write_bundle(tmp_path / "b", contents)
    bundle = load_bundle(tmp_path / "b")
    before, after = contents.model.predict(make_batch()), bundle.model.predict(make_batch())
    assert np.array_equal(before.member, after.member)
    assert np.array_equal(contents.peer.predict(make_batch()), bundle.peer.predict(make_batch()))
    assert bundle.config == contents.config
    assert bundle.plan == contents.plan
    assert bundle.model.layout == contents.model.layout
    assert bundle.profiles.names == contents.profiles.names
    for part in ("coefficients", "embedding"):
        before_, after_ = (getattr(one.profiles.sent["series"], part) for one in (contents, bundle))
        assert torch.equal(after_, before_)
    assert not torch.equal(after_[:, 0], after_[:, 1]), "groups that are alike test nothing"
    assert torch.equal(bundle.reference["series"].embedding, after_[:, :1])
    assert torch.equal(bundle.profiles.baseline["image"], contents.profiles.baseline["image"])
    assert bundle.cross_validation is None
    assert np.array_equal(bundle.out_of_fold.risk, contents.out_of_fold.risk)
    assert not bundle.model.training
    assert len(bundle.sha256) == 64


def test_the_same_contents_give_the_same_bytes(contents: Contents, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_bundle(tmp_path / name, contents)
    assert load_bundle(tmp_path / "a").sha256 == load_bundle(tmp_path / "b").sha256


def test_who_may_read_a_bundle_is_for_the_umask_to_say(contents: Contents, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bundle(tmp_path / "b", contents)
    finally:
        os.umask(before)
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "b").iterdir()} == {0o640}


def test_a_changed_byte_in_any_file_is_refused_by_name(contents: Contents, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", contents)
    files = list((tmp_path / "b").iterdir())
    assert {path.name for path in files} == {*FILES, "manifest.json"}
    for path in files:
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        path.write_bytes(bytes(changed))
        with pytest.raises(BundleError, match=r"not the file that was written|damaged") as caught:
            load_bundle(tmp_path / "b")
        if path.name != "manifest.json":  # There the byte may be of an entry, which then names the error.
            assert path.name in caught.value.what
            assert (caught.value.wanted or "").startswith("SHA-256 ")
        assert caught.value.exit_code == 12
        path.write_bytes(whole)
    load_bundle(tmp_path / "b")


def test_an_evaluation_may_lie_in_a_bundle_and_changes_it_not(contents: Contents, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", contents)
    before = load_bundle(tmp_path / "b").sha256
    for name in ("evaluation.json", ".evaluation.json.ab12cd_4"):
        (tmp_path / "b" / name).write_text("{}")
    assert load_bundle(tmp_path / "b").sha256 == before
    for name in ("evaluation.html", ".evaluation.json.tmp"):
        (tmp_path / "b" / name).write_text("{}")
        with pytest.raises(BundleError, match=name):
            load_bundle(tmp_path / "b")
        (tmp_path / "b" / name).unlink()
    (tmp_path / "b" / "evaluation.json").unlink()
    (tmp_path / "b" / "evaluation.json").mkdir()
    with pytest.raises(BundleError, match=r"evaluation\.json"):
        load_bundle(tmp_path / "b")


def test_every_byte_of_the_manifest_is_protected(contents: Contents, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", contents)
    path = tmp_path / "b" / "manifest.json"
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        with pytest.raises(BundleError):
            verify(tmp_path / "b", FILES)
    for same in (whole + b"\n", json.dumps(json.loads(whole)).encode(), whole.replace(b"{", b'{"seed": 3,', 1)):
        path.write_bytes(same)
        with pytest.raises(BundleError, match=r"manifest\.json: not the file that was written") as caught:
            verify(tmp_path / "b", FILES)
        assert caught.value.got == "the same content in other bytes"


def edit(folder: Path, change: Callable[[dict[str, Any]], object], sealed: bool) -> None:
    """Change the manifest; `sealed`: with a digest that fits, as a tool that rewrites the whole would leave it."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    if sealed:
        del manifest["digest"]
        plain = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
        manifest["digest"] = hashlib.sha256(plain.encode()).hexdigest()
    path.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


@pytest.mark.parametrize(("key", "value"), [("name", "other"), ("seed", 4), ("counts", {}), ("digest", None)])
def test_an_edited_manifest_is_refused(contents: Contents, tmp_path: Path, key: str, value: object) -> None:
    write_bundle(tmp_path / "b", contents)
    edit(tmp_path / "b", lambda manifest: manifest.update({key: value}), sealed=False)
    with pytest.raises(BundleError, match=r"manifest\.json: not the file that was written") as caught:
        load_bundle(tmp_path / "b")
    assert caught.value.exit_code == 12


@pytest.mark.parametrize("sealed", [False, True])
def test_a_file_without_entry_or_beyond_those_of_a_bundle_is_named(
    contents: Contents, tmp_path: Path, sealed: bool
) -> None:
    folder = tmp_path / "b"
    write_bundle(folder, contents)
    edit(folder, lambda manifest: manifest["files"].pop("card.json"), sealed)
    with pytest.raises(BundleError, match=r"card\.json: not the file") as caught:
        load_bundle(folder)
    assert caught.value.got == "no entry"
    (folder / "card.json").unlink()
    with pytest.raises(BundleError, match=r"card\.json: not the file") as caught:
        load_bundle(folder)
    assert caught.value.got == "no such file"

    write_bundle(folder, contents)
    edit(folder, lambda manifest: manifest["files"].update({"notes.txt": hashlib.sha256(b"x").hexdigest()}), sealed)
    with pytest.raises(BundleError, match=r"notes\.txt") as caught:
        load_bundle(folder)
    assert caught.value.got == "an extra entry of manifest.json"
    (folder / "notes.txt").write_text("x")
    with pytest.raises(BundleError, match=r"notes\.txt"):
        load_bundle(folder)


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_an_extra_file_or_folder_is_named(contents: Contents, tmp_path: Path, make: Callable[[Path], None]) -> None:
    write_bundle(tmp_path / "b", contents)
    make(tmp_path / "b" / "extra")
    with pytest.raises(BundleError, match="extra: not the file") as caught:
        load_bundle(tmp_path / "b")
    assert caught.value.exit_code == 12


def test_a_missing_file_a_damaged_manifest_and_no_bundle_are_refused(contents: Contents, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        load_bundle(tmp_path / "nowhere")
    write_bundle(tmp_path / "b", contents)
    (tmp_path / "b" / "card.json").unlink()
    with pytest.raises(BundleError, match=r"card\.json") as caught:
        load_bundle(tmp_path / "b")
    assert caught.value.got == "no such file"
    (tmp_path / "b" / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="damaged"):
        load_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    ("key", "value", "said"), [("format", 1, f"format {FORMAT}"), ("schema_version", "x", "schema")]
)
def test_another_format_or_schema_is_refused(
    contents: Contents, tmp_path: Path, key: str, value: object, said: str
) -> None:
    write_bundle(tmp_path / "b", contents)
    edit(tmp_path / "b", lambda manifest: manifest.update({key: value}), sealed=True)
    with pytest.raises(BundleError, match=said):
        load_bundle(tmp_path / "b")


def test_a_bundle_is_replaced_whole_or_not_at_all(contents: Contents, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", contents)
    first = load_bundle(tmp_path / "b").sha256

    def interrupted() -> None:
        with new_folder(tmp_path / "b") as folder:
            (folder / "weights.safetensors").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert load_bundle(tmp_path / "b").sha256 == first
    write_bundle(tmp_path / "b", dataclasses.replace(contents, version="2"))
    assert load_bundle(tmp_path / "b").version == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["b"], "nothing is left beside it"


def test_what_a_killed_write_left_is_removed_once_a_new_bundle_stands(contents: Contents, tmp_path: Path) -> None:
    ours = [".b.abcd_123.writing", ".b.abcd_123.replaced"]
    others = [".c.abcd_123.writing", ".b.abcd_123.kept", ".b.thesis.replaced", ".b.x.abcd_123.writing", "b.replaced"]
    for name in ours + others:
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.safetensors").write_bytes(b"half")
    (tmp_path / ".b.abcd_124.writing").write_text("a file")

    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "b"):
        raise KeyboardInterrupt
    assert all((tmp_path / name).is_dir() for name in ours), "the only whole bundle may be among them"
    write_bundle(tmp_path / "b", contents)
    assert {path.name for path in tmp_path.iterdir()} == {"b", ".b.abcd_124.writing", *others}
    load_bundle(tmp_path / "b")


def test_only_a_bundle_is_ever_replaced(contents: Contents, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("x")
    with pytest.raises(OutputError, match="is not a bundle"):
        write_bundle(tmp_path / "precious", contents)
    with pytest.raises(OutputError, match="its folder does not exist"):
        write_bundle(tmp_path / "no" / "b", contents)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "x"


def test_seen_in_training_is_by_site_and_subject(contents: Contents, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", contents)
    bundle = load_bundle(tmp_path / "b")
    subjects = np.array([8, 3, 4])
    assert bundle.seen_in_training("here", subjects).tolist() == [True, True, False]
    assert bundle.seen_in_training("elsewhere", subjects).tolist() == [False, False, False]
    stored = (tmp_path / "b" / "subjects.safetensors").read_bytes()
    assert np.array([8], "<i8").tobytes() not in stored[-24:], "hashes, not identifiers"


def test_a_percentile_counts_each_subjects_last_row_in_the_risk_set(contents: Contents, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", contents)
    bundle = load_bundle(tmp_path / "b")
    # Rows 2s and 2s + 1 are subject s; the last row is outside the risk set, so subject 19 counts with row 38.
    kept = contents.out_of_fold.risk[[*range(1, 39, 2), 38]]
    risk = np.random.default_rng(2).random((7, 5))
    assert np.allclose(bundle.percentile(risk), (kept[None] < risk[:, None]).mean(axis=1))
