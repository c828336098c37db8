"""Feature reasons are told in fp32 and add up to the risk that was published, whatever path that took, and when."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from riskpred.config.network import ImageEncoder
from riskpred.errors import InputError
from riskpred.model import image_fast
from riskpred.score.explain_run import explain

Night = Callable[..., Any]
Rows = Callable[..., list[tuple[Any, ...]]]

WORST = """
    SELECT max(abs(total - 100 * (risk - reference_risk))), count(*) FROM risk_scores JOIN (
        SELECT subject_id, outcome, horizon_years, sum(contribution) AS total
        FROM explanations WHERE level = 'feature' GROUP BY ALL
    ) USING (subject_id, outcome, horizon_years)
"""
KEY = "subject_id, outcome, horizon_years, modality, feature"
FEATURES = f"SELECT {KEY}, contribution FROM explanations WHERE level = 'feature' ORDER BY ALL"
IMAGE = """
    SELECT contribution FROM explanations WHERE modality = 'image' AND level = 'modality' AND contribution <> 0
    ORDER BY subject_id, outcome, horizon_years
"""
LEFT = """
    SELECT contribution FROM explanations WHERE modality = 'image' AND level = 'feature' AND feature = '(unexplained)'
    ORDER BY subject_id, outcome, horizon_years
"""


def moved_by(shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the image encoders of a night run in a "bf16" of which every coefficient is `shift` too large."""
    encode = image_fast.FastImages.encode
    monkeypatch.setattr(image_fast, "_precision", lambda *_: ("bf16", ""))
    monkeypatch.setattr(image_fast.FastImages, "encode", lambda self, pixels: encode(self, pixels) + np.float32(shift))


@pytest.fixture
def permitted(small_config: Any, bundle_of: Night) -> Any:
    """A bundle that may take bf16, with image encoders wide enough to gain by it."""
    encoders = {**small_config.network.encoders, "image": ImageEncoder(channels=(4, 64))}
    network = small_config.network.model_copy(update={"encoders": encoders})
    bundle = bundle_of(small_config.model_copy(update={"network": network}))
    with torch.no_grad():  # of random weights bf16 would move risks too far to be permitted
        for r in range(bundle.model.members):
            encoder = bundle.model.member(r).encoders["image"]
            encoder.to_coefficients.weight.mul_(0.1)
            encoder.to_embedding.weight.mul_(0.3)
            bundle.model.member(r).encoders["tabular"].to_coefficients.weight.mul_(0.1)
    measured = {
        "encoders": {"tabular": "bf16", "series": "fp32", "image": "bf16"},
        "largest_difference": 0.0005,
        "rows": 60,
        "permitted": True,
    }
    return replace(bundle, card={**bundle.card, "numeric_paths": {"bf16": measured}})


@pytest.mark.parametrize("how", ["bf16 of this processor", "a larger difference"])
def test_they_add_up_to_the_published_risk(
    tmp_path: Path,
    small_hospital: Any,
    night: Night,
    rows: Rows,
    permitted: Any,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    warehouse = small_hospital.write("w.duckdb")
    exact, other, later = (tmp_path / f"{name}.duckdb" for name in ("exact", "other", "later"))
    options = {"bundle": permitted, "part_size": 16}
    night(warehouse, exact, explain=60, numeric_path="fp32", **options)
    if how == "a larger difference":
        moved_by(5e-4, monkeypatch)
    told = night(warehouse, other, explain=60, **options)
    if told.ledger["numeric_path"] == "fp32":
        pytest.skip("this processor has no bf16")
    assert told.ledger["numeric_path"] == "bf16"
    assert told.explained == 60
    worst, risks = rows(other, WORST)[0]
    assert worst < 1e-6
    assert risks == 60 * 5
    moved = np.array(rows(other, IMAGE)) - np.array(rows(exact, IMAGE))
    assert (0.002 if how == "a larger difference" else 1e-5) < np.abs(moved).max() < 0.1
    left = np.array(rows(other, LEFT)) - np.array(rows(exact, LEFT))
    assert left == pytest.approx(moved, abs=1e-9), "(unexplained) holds what the path moved, and nothing else does"
    others = {row[:-1]: row[-1] for row in rows(other, FEATURES) if row[4] != "(unexplained)"}
    assert others == {row[:-1]: row[-1] for row in rows(exact, FEATURES) if row[4] != "(unexplained)"}
    night(warehouse, later, explain=0, **options)
    assert explain(later, warehouse, Path("bundle"), top=60).flagged == told.flagged
    assert rows(later, FEATURES) == rows(other, FEATURES), "reasons added later are those of the night"


def test_carried_risks_keep_their_path_difference(
    tmp_path: Path,
    small_hospital: Any,
    night: Night,
    rows: Rows,
    permitted: Any,
    monkeypatch: pytest.MonkeyPatch,
    as_of_us: int,
) -> None:
    """They were published by another engine's bf16 than tonight's, and are explained tonight for the first time."""
    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    with monkeypatch.context() as before:
        moved_by(5e-4, before)
        night(warehouse, into, bundle=permitted, explain=0)
    moved_by(-5e-4, monkeypatch)
    later = night(warehouse, into, bundle=permitted, explain=60, as_of=as_of_us + 1, keep_runs=1)
    assert later.carried > 50
    assert later.explained == 60
    assert rows(into, WORST)[0][0] < 1e-6


@pytest.mark.parametrize(
    ("path", "off", "refused"), [("fp32", 1e-5, True), ("bf16", 5e-4, False), ("bf16", 4e-3, True)]
)
def test_a_published_risk_may_be_off_by_its_path_alone(
    tmp_path: Path,
    small_hospital: Any,
    night: Night,
    rows: Rows,
    permitted: Any,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    off: float,
    refused: bool,
) -> None:
    import duckdb

    warehouse, into = small_hospital.write("w.duckdb"), tmp_path / "scores.duckdb"
    if path == "bf16":
        moved_by(0.0, monkeypatch)
    night(warehouse, into, bundle=permitted, explain=0, numeric_path=path)
    subject = rows(
        into,
        "SELECT subject_id FROM risk_scores GROUP BY 1 HAVING max(risk_high) < 0.9 AND subject_id IN "
        "(SELECT subject_id FROM input_receipts WHERE modality = 'tabular' AND status = 'used') ORDER BY 1",
    )[0][0]
    with duckdb.connect(str(into)) as connection:
        connection.execute(
            "UPDATE stored.risk_scores SET risk = risk + $off, risk_high = risk_high + $off, "
            "contributions = list_concat([contributions[1] + 100 * $off], contributions[2:]) "
            "WHERE subject_id = $subject",
            {"off": off, "subject": subject},
        )
        assert connection.execute("SELECT DISTINCT modalities[1] FROM stored.computations").fetchall() == [("tabular",)]
    if refused:
        with pytest.raises(InputError, match=f"numeric path: {path}"):
            explain(into, warehouse, Path("bundle"), subject=subject)
    else:
        explain(into, warehouse, Path("bundle"), subject=subject)
        assert rows(into, WORST)[0][0] < 1e-6


def test_an_image_that_is_gone_when_reasons_are_told_costs_its_subject_those_alone(
    tmp_path: Path, small_hospital: Any, night: Night, rows: Rows
) -> None:
    root = tmp_path / "images"
    shutil.copytree(small_hospital.folder, root)
    _, subject, _, _, path = small_hospital.images[0]

    class Loses:
        """The image is there while risks are computed, and gone before their reasons."""

        def step(self, stage: str, done: int, total: int | None = None) -> None:
            if stage == "explain":
                (root / path).unlink(missing_ok=True)

    into = tmp_path / "scores.duckdb"
    told = night(small_hospital.write("w.duckdb"), into, explain=60, image_root=root, progress=Loses())
    assert told.explained == 59
    assert "1 subjects got no feature reasons: an input they were scored from is not there now" in told.notes
    assert rows(into, f"SELECT count(*) FROM risk_scores WHERE subject_id = {subject}")[0][0] == 5
    assert rows(into, f"SELECT DISTINCT level FROM explanations WHERE subject_id = {subject}") == [("modality",)]
    assert rows(into, WORST)[0][0] < 1e-6
