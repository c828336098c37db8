import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from riskpred.errors import ShapeMismatch
from riskpred.model.incidence import cumulative_incidence


def test_one_cause_is_one_minus_exp_of_the_cumulative_rate() -> None:
    rate = torch.tensor([[0.1, 0.3]], dtype=torch.float64)
    risk = cumulative_incidence(rate.log(), torch.tensor([2.0, 0.5], dtype=torch.float64))
    assert risk.tolist() == [pytest.approx([1 - math.exp(-0.2), 1 - math.exp(-0.35)])]


def test_two_causes_share_the_interval_by_their_rates() -> None:
    # 1 - exp(-.4) = .32968 of people have an event; a quarter of them by the first cause (.1 of .4).
    rate = torch.tensor([[0.1], [0.3]], dtype=torch.float64)
    risk = cumulative_incidence(rate.log(), torch.ones(1, dtype=torch.float64))
    assert risk[:, 0].tolist() == pytest.approx([0.25 * 0.3296799539643607, 0.75 * 0.3296799539643607])


def test_second_interval_counts_only_those_still_free() -> None:
    rate = torch.tensor([[0.2, 0.2], [0.5, 0.0]], dtype=torch.float64)
    risk = cumulative_incidence(rate.log(), torch.ones(2, dtype=torch.float64))
    first = 0.2 / 0.7 * (1 - math.exp(-0.7))
    assert risk[0].tolist() == pytest.approx([first, first + math.exp(-0.7) * (1 - math.exp(-0.2))])


def test_numbers_of_intervals_must_agree() -> None:
    with pytest.raises(ShapeMismatch, match="one entry per interval, 3; got 2"):
        cumulative_incidence(torch.zeros(1, 2), torch.ones(3))


@given(st.lists(st.floats(-800, 60), min_size=6, max_size=6), st.floats(1e-3, 30))
def test_risks_are_probabilities_that_never_fall(log_rates: list[float], width: float) -> None:
    eta = torch.tensor(log_rates, dtype=torch.float64).reshape(2, 3)
    risk = cumulative_incidence(eta, torch.full((3,), width, dtype=torch.float64))
    assert bool(torch.isfinite(risk).all())
    assert bool((risk >= 0).all())
    assert bool((risk.diff(dim=1) >= 0).all())
    assert float(risk[:, -1].sum()) <= 1 + 1e-12
