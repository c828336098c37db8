"""A night computes everything on the numeric path that its ledger names, takes the one asked for, or says why not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from riskpred.config.network import ImageEncoder
from riskpred.errors import BundleError
from riskpred.model import image_fast
from riskpred.model.image_fast import image_encoders
from riskpred.model.paths import BF16, FP32, numeric_paths
from riskpred.score.assess import assess

Night = Callable[..., Any]
Rows = Callable[..., list[tuple[Any, ...]]]

RISKS = "SELECT subject_id, outcome, horizon_years, risk FROM risk_scores ORDER BY ALL"
SPOKEN = """
    SELECT contribution FROM explanations WHERE level = 'modality' AND modality = $modality AND contribution <> 0
    AND (modality = 'image' OR subject_id NOT IN (
        SELECT subject_id FROM input_receipts WHERE modality = 'image' AND status = 'used'
    )) ORDER BY subject_id, outcome, horizon_years
"""
"""Contributions of images, or of another modality where no image's precision can have moved them."""
ADD_UP = """
    SELECT max(abs(total - 100 * (risk - reference_risk))), count(*) FROM risk_scores JOIN (
        SELECT subject_id, outcome, horizon_years, sum(contribution) AS total
        FROM explanations WHERE level = 'feature' GROUP BY ALL
    ) USING (subject_id, outcome, horizon_years)
"""


@pytest.fixture
def measured(small_config: Any, small_batch: Any, bundle_of: Night) -> Callable[..., Any]:
    """measured(encoders): a bundle with these encoders, whose card says what `fit` measures of its paths."""

    def make(*encoders: str, channels: tuple[int, ...] = (4, 8)) -> Any:
        network = small_config.network
        kept = {name: network.encoders[name] for name in encoders}
        if "image" in kept:
            kept["image"] = ImageEncoder(channels=channels)
        bundle = bundle_of(small_config.model_copy(update={"network": network.model_copy(update={"encoders": kept})}))
        with torch.no_grad():  # of random weights bf16 would move risks too far to be permitted
            for r in range(bundle.model.members):
                for name in {"tabular", "image"} & kept.keys():
                    bundle.model.member(r).encoders[name].to_coefficients.weight.mul_(0.1)
                    bundle.model.member(r).encoders[name].to_embedding.weight.mul_(0.3)
        found = numeric_paths(bundle.model, bundle.model.tensors(small_batch[1]), image_encoders)
        assert found[BF16]["permitted"], found
        return replace(bundle, card={**bundle.card, "numeric_paths": found})

    return make


def risks(rows: Rows, file: Path) -> np.ndarray[Any, Any]:
    return np.array([row[-1] for row in rows(file, RISKS)])


def spoken(file: Path, modality: str) -> np.ndarray[Any, Any]:
    import duckdb

    with duckdb.connect(str(file), read_only=True) as connection:
        return np.array(connection.execute(SPOKEN, {"modality": modality}).fetchall())[:, 0]


def test_tables_run_in_bf16_where_it_is_asked_for_and_nowhere_else(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, measured: Night, small_batch: Any
) -> None:
    bundle, warehouse = measured("tabular", "series"), small_hospital.write("w.duckdb")
    files = {path: tmp_path / f"{path}.duckdb" for path in ("auto", FP32, BF16)}
    told = {
        path: night(warehouse, into, bundle=bundle, numeric_path=path, explain=1000) for path, into in files.items()
    }
    assert [told[path].ledger["numeric_path"] for path in files] == [FP32, FP32, BF16]
    assert len({told[path].ledger["run_id"] for path in files}) == 2
    assert any(note.startswith("numeric path bf16: tabular in bf16, series in fp32") for note in told[BF16].notes)
    assert not any("numeric path" in note for path in ("auto", FP32) for note in told[path].notes)
    found = {path: risks(rows, into) for path, into in files.items()}
    assert np.array_equal(found["auto"], found[FP32])
    assert 1e-6 < np.abs(found[BF16] - found[FP32]).max() <= 0.001
    batch = small_batch[1]
    wanted = {
        (int(subject), *target): risk
        for subject, row in zip(batch.subject_id, assess(bundle, batch, numeric_path=BF16).risk, strict=True)
        for target, risk in zip(bundle.model.targets, row, strict=True)
    }
    assert all(abs(row[-1] - wanted[row[:-1]]) < 1e-9 for row in rows(files[BF16], RISKS))
    assert np.abs(spoken(files[BF16], "tabular") - spoken(files[FP32], "tabular")).max() > 1e-4
    worst, explained = rows(files[BF16], ADD_UP)[0]
    assert worst < 1e-6, "reasons, told in fp32, add up to the risks in bf16"
    assert explained == len(found[BF16])


def test_all_encoders_that_were_measured_in_bf16_run_in_it(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows, measured: Night
) -> None:
    bundle, warehouse = measured("tabular", "series", "image", channels=(4, 64)), small_hospital.write("w.duckdb")
    if bundle.card["numeric_paths"][BF16]["encoders"]["image"] == FP32:
        pytest.skip("this processor has no bf16")
    exact, auto = tmp_path / "exact.duckdb", tmp_path / "auto.duckdb"
    night(warehouse, exact, bundle=bundle, numeric_path=FP32)
    told = night(warehouse, auto, bundle=bundle)
    assert told.ledger["numeric_path"] == BF16
    assert any("tabular and image in bf16, series in fp32" in note for note in told.notes)
    for modality, least in (("tabular", 1e-4), ("image", 1e-5)):
        assert np.abs(spoken(auto, modality) - spoken(exact, modality)).max() > least, modality
    assert np.abs(risks(rows, auto) - risks(rows, exact)).max() <= 0.001


def test_images_too_narrow_for_bf16_leave_it_to_tables(
    tmp_path: Path, small_hospital: Any, night: Night, measured: Night
) -> None:
    bundle, warehouse = measured("tabular", "series", "image"), small_hospital.write("w.duckdb")
    exact, asked = tmp_path / "exact.duckdb", tmp_path / "asked.duckdb"
    assert night(warehouse, exact, bundle=bundle).ledger["numeric_path"] == FP32
    told = night(warehouse, asked, bundle=bundle, numeric_path=BF16)
    assert told.ledger["numeric_path"] == BF16
    assert any("image in fp32 (" in note for note in told.notes)
    assert np.abs(spoken(asked, "tabular") - spoken(exact, "tabular")).max() > 1e-4


def test_what_cannot_be_had_as_asked_is_said(
    tmp_path: Path, small_hospital: Any, night: Night, measured: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    wide = {"max_rejected_share": 1, "max_shifted_share": 1}
    told = night(warehouse, into, bundle=measured("series"), numeric_path=BF16, gates=wide)
    assert told.ledger["numeric_path"] == FP32
    assert any("fp32, though bf16 was asked for" in note for note in told.notes)
    bundle = measured("tabular", "series")
    with pytest.raises(BundleError, match="no such measurement"):
        night(warehouse, into, bundle=replace(bundle, card={"name": "small"}), numeric_path=BF16)
    pictures = measured("tabular", "series", "image", channels=(4, 64))
    pictures.card["numeric_paths"][BF16]["encoders"]["image"] = BF16
    monkeypatch.setattr(image_fast, "_openvino_has_bf16", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    told = night(warehouse, into, bundle=pictures, numeric_path=BF16, gates=wide)
    assert told.ledger["numeric_path"] == FP32
    assert any("fp32, not bf16: image runs in fp32 here (the processor has no bf16)" in note for note in told.notes)
