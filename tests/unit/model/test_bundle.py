import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from riskpred.config.network import NetworkConfig
from riskpred.config.outcomes import Outcome, OutcomesConfig, PredictionTimes, Rule
from riskpred.config.study import FeaturesConfig, ModelConfig
from riskpred.errors import BundleError, OutputError
from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import FeaturePlan
from riskpred.model.bundle import Contents, load_bundle, subject_hashes, write_bundle
from riskpred.model.manifest import new_folder
from riskpred.model.peer import CoxPart, LogisticPart, Peer, PeerDesign
from riskpred.model.predictions import Predictions
from riskpred.model.risk import RiskModel

SALT = b"0123456789abcdef"


def predictions(rows: int) -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(
        row=np.arange(rows),
        repeat=np.zeros(rows, np.int64),
        fold=np.arange(rows) % 3,
        subject=np.arange(rows) // 2,
        risk=rng.random((rows, 5)),
        base_risk=rng.random((rows, 5)),
        peer_risk=np.full((rows, 5), np.nan),
        cause=np.where(np.arange(rows)[:, None] == rows - 1, -1, 1).astype(np.int8).repeat(2, 1),
        duration_days=np.full((rows, 2), 100.0),
        present=np.ones((rows, 3), bool),
    )


@pytest.fixture
def contents(
    model: RiskModel, plan: FeaturePlan, network: NetworkConfig, make_batch: Callable[..., FeatureBatch]
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
    reference = {
        name: dataclasses.replace(one, coefficients=one.coefficients[:, 5:6], embedding=one.embedding[:, 5:6])
        for name, one in sent.items()
    }
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
        reference=reference,
        baseline={"tabular": torch.zeros(5), "series": torch.zeros(2), "image": torch.zeros(16, 16)},
        peer=Peer(model.targets, PeerDesign(()), (cox, LogisticPart("now", -1.0, np.zeros(0)))),
        out_of_fold=predictions(40),
        cross_validation=None,
        salt=SALT,
        trained_on=subject_hashes(SALT, "here", [3, 5, 8]),
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
    assert torch.equal(bundle.reference["series"].embedding, contents.reference["series"].embedding)
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
    files = [path for path in (tmp_path / "b").iterdir() if path.name != "manifest.json"]
    assert len(files) >= 9
    for path in files:
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        path.write_bytes(bytes(changed))
        with pytest.raises(BundleError, match="not the file that was written") as caught:
            load_bundle(tmp_path / "b")
        assert path.name in caught.value.what
        assert (caught.value.wanted or "").startswith("SHA-256 ")
        assert caught.value.exit_code == 12
        path.write_bytes(whole)
    load_bundle(tmp_path / "b")


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


@pytest.mark.parametrize(("key", "value", "said"), [("format", 2, "format 1"), ("schema_version", "x", "schema")])
def test_another_format_or_schema_is_refused(
    contents: Contents, tmp_path: Path, key: str, value: object, said: str
) -> None:
    write_bundle(tmp_path / "b", contents)
    path = tmp_path / "b" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
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
