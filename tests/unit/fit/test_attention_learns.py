"""Of several pictures of a person only the latest says anything: attention learns it, the mean of all cannot."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from riskpred.config.network import ImageEncoder, NetworkConfig, Training
from riskpred.config.outcomes import Outcome, OutcomesConfig, PredictionTimes, Rule
from riskpred.features.batch import FeatureBatch, ImageInput, Receipt
from riskpred.features.join import starts
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.fit.data import Rows
from riskpred.fit.grid import learn_layout
from riskpred.fit.members import training_data
from riskpred.fit.train import train_member
from riskpred.model import attention
from riskpred.model.risk import RiskModel
from riskpred.records.chunk import DAY_US

NOW = 1_600_000_000_000_000


def people(n: int, seed: int) -> Rows:
    """Two to four pictures each, up to four years old, half of them bright; a yes follows the latest one."""
    rng = np.random.default_rng(seed)
    count = rng.integers(2, 5, n)
    start, pictures = starts(count), int(count.sum())
    bright = rng.integers(0, 2, pictures)
    pixels = 0.2 * rng.random((pictures, 1, 16, 16)) + 0.1
    pixels[bright == 1, :, 4:12, 4:12] += 0.6
    row, age = np.repeat(np.arange(n), count), rng.uniform(0, 1500, pictures)
    age = age[np.lexsort((-age, row))]
    yes = (rng.random(n) < np.where(bright[start[1:] - 1] == 1, 0.85, 0.15)).astype(np.int8)
    time = np.full(n, NOW)
    films = ImageInput(
        start,
        pixels.astype(np.float32),
        ("",) * pictures,
        NOW - (age * DAY_US).astype(np.int64),
        np.ones((pictures, 3)),
        np.zeros((pictures, 2)),
    )
    receipt = Receipt(np.zeros(n, np.int8), count, time, np.zeros((n, 0), bool), ())
    everyone = np.ones(n, bool)
    batch = FeatureBatch(np.arange(n) * 7 + 1, time, {"x": films}, {"x": everyone}, {"x": receipt}, ())
    return Rows(batch, {"now": yes}, {"now": np.zeros(n)}, {"now": everyone}, batch.subject_id, np.full(n, 60.0))


def auc(judge: Callable[..., torch.Tensor] | None, monkeypatch: pytest.MonkeyPatch) -> float:
    """AUC among other people of what was learned; judge: stands in for the weights of pictures."""
    outcomes = OutcomesConfig(
        prediction_times=PredictionTimes(days_after_entry=(0,)),
        outcomes={"now": Outcome(display="x", rule=Rule(codes=("X",)), known_at_once=True)},
    )
    plan = FeaturePlan({"x": ImagePlan(("DX",), None, None, 16, most_images=4)})
    config = NetworkConfig(
        encoders={"x": ImageEncoder(channels=(4, 8), dropout=0.0)},
        embedding=4,
        members=2,
        training=Training(epochs=20, batch_size=64),
    )
    rows, others = people(500, 1), people(600, 2)
    layout = learn_layout(outcomes, rows, config.intervals)
    model = RiskModel(config, plan, layout)
    test = training_data(model, others)
    with monkeypatch.context() as patched:
        if judge is not None:
            patched.setattr(attention, "attention", judge)
        stops = np.arange(500) % 5 == 0
        member, _ = train_member(config, plan, layout, training_data(model, rows), stops, 1, lambda: None)
        with torch.no_grad():
            log_rate = member.log_rates(member.encode(test.inputs), test.present)[0][:, 0, 0]
    return float(roc_auc_score(others.cause["now"], log_rate.numpy()))


def test_attention_finds_the_picture_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    weigh = attention.attention

    def alike(logit: torch.Tensor, start: torch.Tensor, terms: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return weigh(0 * logit, start, 0 * terms, weight)

    learned, mean = auc(None, monkeypatch), auc(alike, monkeypatch)
    assert mean < 0.78
    assert learned > mean + 0.05
