"""Evaluated people whose true risks are known: one outcome with death competing, one known at once."""

from collections.abc import Callable

import numpy as np
import pytest

from riskpred.evaluate.gather import Evaluated

HORIZONS = (1.0, 5.0)


def simulated(size: int = 1_500, seed: int = 1, repeats: int = 1) -> Evaluated:
    """The model knows the true risks with some noise; the peer half of what there is to know."""
    generator = np.random.default_rng(seed)
    score = generator.normal(0.0, 1.0, size)
    own, death = np.exp(score - 3.0), np.full(size, 0.03)
    event = generator.exponential(1.0, size) / (own + death)
    cause = np.where(generator.random(size) < own / (own + death), 1, 2)
    leave = generator.uniform(3.0, 12.0, size)
    status = np.where(event <= leave, cause, 0).astype(np.int8)
    low = (generator.random(size) < 1.0 / (1.0 + np.exp(1.5 - score))).astype(np.int8)
    low[::50] = -1

    def risks(known: np.ndarray) -> np.ndarray:
        rate = np.exp(known - 3.0)
        timed = [rate / (rate + death) * -np.expm1(-h * (rate + death)) for h in HORIZONS]
        return np.stack([*timed, 1.0 / (1.0 + np.exp(1.5 - known))], axis=1)

    noisy = [score + generator.normal(0.0, 0.2, size) for _ in range(repeats)]
    member = np.stack([risks(score + generator.normal(0.0, 0.3, size)) for _ in range(5)])
    half = risks(0.5 * score + 0.3 + generator.normal(0.0, 0.8, size))
    cox, logistic = half.copy(), np.full_like(half, np.nan)
    cox[:, 2], logistic[:, 2] = np.nan, half[:, 2]
    model = np.stack([risks(one) for one in noisy])
    return Evaluated(
        split="held_out",
        targets=(("heart", 1.0), ("heart", 5.0), ("low", 0.0)),
        known_at_once=frozenset({"low"}),
        subject_id=np.arange(size, dtype=np.int64) // 2,  # two rows each
        prediction_time=np.arange(size, dtype=np.int64) % 2,
        risks={
            "riskpred": model,
            "spline_cox": np.repeat(cox[None], repeats, axis=0),
            "spline_logistic": np.repeat(logistic[None], repeats, axis=0),
        },
        time_days={"heart": np.minimum(event, leave) * 365.25, "low": np.zeros(size)},
        status={"heart": status, "low": low},
        pattern=np.where(np.arange(size) < size - 8, np.where(score > 0.5, "tabular", "tabular+series"), "nothing"),
        age_years=np.where(np.arange(size) % 97 == 0, np.nan, 45.0 + 12.0 * score + generator.normal(0.0, 8.0, size)),
        sex=np.where(generator.random(size) < 0.5, "female", "male"),
        low=model[0] * 0.7,
        high=np.minimum(model[0] * 1.4, 1.0),
        member=member,
        display={"heart": "Heart <disease>", "low": "Low mood"},
        left_out={"heart": {"prevalent": 12}, "low": {}},
        about={"bundle": "made up", "site": "nowhere"},
    )


@pytest.fixture(scope="session")
def made_up() -> Callable[..., Evaluated]:
    return simulated
