"""A night where there is a CUDA device: its risks are those without one, and its text says who encoded what."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from riskpred.score.run import NightSummary
from tests.benchmarks.night.card import apart


@pytest.mark.parametrize("device", ["stand-in", "cuda"])
def test_a_night_uses_the_card_and_says_so(
    device: str,
    night: Callable[..., NightSummary],
    small_hospital: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    warehouse = small_hospital.write("card.duckdb")
    users = [f"riskpred.{room}" for room in ("model.paths", "model.image_fast", "score.run")]
    with monkeypatch.context() as patched:
        for user in users:
            patched.setattr(f"{user}.cuda", lambda: None)
        without = night(warehouse, tmp_path / "without.duckdb")
    assert not any("CUDA" in said for said in without.notes)
    name = torch.cuda.get_device_name(0) if device == "cuda" else "stand-in"
    if device == "stand-in":
        for user in users:
            monkeypatch.setattr(f"{user}.cuda", lambda: torch.device("cpu"))
            monkeypatch.setattr(f"{user}.cuda_name", lambda _: "stand-in")
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    with_card = night(warehouse, tmp_path / "with.duckdb")
    assert f"CUDA ({name}) encodes tabular, series, image, in fp32" in with_card.notes
    assert any(said.startswith(f"Images are encoded by torch on CUDA ({name})") for said in with_card.notes)
    found = apart(tmp_path / "without.duckdb", tmp_path / "with.duckdb")
    assert found["rows"] > 100
    assert found["rows_in_one_only"] == 0
    # Not percentiles: they are ranks, and step.
    assert max(found[name] for name in ("risk", "risk_low", "risk_high", "reference_risk")) < 1e-6
