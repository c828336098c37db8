"""Simulated training rows with three modalities, two competing outcomes, death, and one outcome known at once."""

from collections.abc import Callable

import numpy as np
import pytest

from riskpred.config.network import ImageEncoder, NetworkConfig, SeriesEncoder, TabularEncoder, Training
from riskpred.config.outcomes import Outcome, OutcomesConfig, PredictionTimes, Rule
from riskpred.features.batch import FeatureBatch, ImageInput, Receipt, SeriesInput, TabularInput
from riskpred.features.join import starts
from riskpred.features.plan import FeatureColumn, FeaturePlan, ImagePlan, SeriesChannel, SeriesPlan, TabularPlan
from riskpred.fit.data import Rows
from riskpred.records.chunk import DAY_US

NOW = 1_600_000_000_000_000


@pytest.fixture(scope="session")
def plan() -> FeaturePlan:
    def column(name: str, vocabulary: tuple[str, ...] = ()) -> FeatureColumn:
        return FeatureColumn(name, name, "last", None, None, name, False, vocabulary)

    return FeaturePlan(
        {
            "tabular": TabularPlan((column("age"), column("lab"), column("noise"), column("sex", ("F", "M")))),
            "series": SeriesPlan((SeriesChannel("X", None, "X"), SeriesChannel("Y", None, "Y")), None, 8, None),
            "image": ImagePlan(("CR",), None, None, 16),
        }
    )


@pytest.fixture(scope="session")
def outcomes() -> OutcomesConfig:
    def outcome(**more: object) -> Outcome:
        return Outcome(display="x", rule=Rule(codes=("X",)), **more)

    return OutcomesConfig(
        prediction_times=PredictionTimes(days_after_entry=(0,)),
        horizons_years=(1.0, 3.0),
        outcomes={
            "heart": outcome(competing_set="both"),
            "now": outcome(known_at_once=True),
            "cancer": outcome(competing_set="both"),
        },
    )


@pytest.fixture(scope="session")
def quick() -> NetworkConfig:
    return NetworkConfig(
        encoders={
            "tabular": TabularEncoder(members=2, width=8, depth=1),
            "series": SeriesEncoder(width=4),
            "image": ImageEncoder(channels=(4, 8)),
        },
        embedding=4,
        intervals=4,
        members=2,
        training=Training(epochs=2, batch_size=128, ridge_grid=(1.0, 10.0)),
    )


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., Rows]:
    """rows(n, seed, effect): n subjects; `effect` is the log hazard ratio of age, the lab and the series' last step."""

    def make(n: int = 300, seed: int = 0, effect: float = 0.8) -> Rows:
        rng = np.random.default_rng(seed)
        age, lab, noise = rng.normal(size=(3, n))
        sex = rng.integers(0, 2, n).astype(float)
        values = np.stack([age, lab, noise, sex], axis=1)
        values[rng.random((n, 4)) < 0.1] = np.nan
        values[:, 0] = age
        steps = rng.integers(0, 6, n)
        start = np.concatenate([[0], np.cumsum(steps)])
        series = rng.normal(size=(start[-1], 2))
        last = np.where(steps > 0, series[np.maximum(start[1:] - 1, 0), 0] if len(series) else 0.0, 0.0)
        series[rng.random(series.shape) < 0.3] = np.nan
        step = np.arange(start[-1]) - np.repeat(start[:-1], steps)
        pixels = rng.random((n, 1, 16, 16))
        has_image = rng.random(n) < 0.7

        linear = effect * (age + 0.5 * np.nan_to_num(values[:, 1]) + 0.5 * last)
        times = rng.exponential(1.0 / (np.array([[0.10], [0.05], [0.05]]) * np.exp([linear, -linear, 0 * linear])))
        left = rng.uniform(1.0, 8.0, n)
        first = times.argmin(axis=0)
        seen = times.min(axis=0) < left
        duration = np.minimum(times.min(axis=0), left) * 365.25
        cause = np.where(seen, first + 1, 0).astype(np.int8)
        out = rng.random(n) < 0.1
        cause[out], duration[out] = -1, np.nan
        now = (rng.random(n) < 1 / (1 + np.exp(1.5 - linear))).astype(np.int8)
        now[rng.random(n) < 0.2] = -1

        present = {"tabular": np.ones(n, bool), "series": steps > 0, "image": has_image}
        time = np.full(n, NOW, np.int64)
        receipt = Receipt(np.zeros(n, np.int8), np.ones(n, np.int64), time, np.zeros((n, 0), bool), ())
        batch = FeatureBatch(
            subject_id=np.arange(n, dtype=np.int64) * 7 + 1,
            prediction_time=time,
            inputs={
                "tabular": TabularInput(values.astype(np.float32), np.repeat(time[:, None], 4, 1)),
                "series": SeriesInput(
                    start.astype(np.int64),
                    NOW - (np.repeat(steps, steps) - step) * 30 * DAY_US,
                    series.astype(np.float32),
                ),
                "image": ImageInput(
                    starts(has_image.astype(np.int64)),
                    pixels[has_image].astype(np.float32),
                    ("",) * int(has_image.sum()),
                    time[has_image],
                    np.ones((int(has_image.sum()), 3)),
                    np.zeros((int(has_image.sum()), 2)),
                ),
            },
            present=present,
            receipts={name: receipt for name in present},
            rejects=(),
        )
        durations = {"both": duration, "now": np.where(now < 0, np.nan, 0.0)}
        eligible = {"heart": ~out, "cancer": ~out, "now": np.ones(n, bool)}
        return Rows(batch, {"both": cause, "now": now}, durations, eligible, batch.subject_id, 60.0 + 10.0 * age)

    return make
