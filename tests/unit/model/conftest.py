"""A small untrained model with random weights everywhere, three modalities, two competing outcomes and one at once."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from riskpred.config.network import ImageEncoder, NetworkConfig, SeriesEncoder, TabularEncoder
from riskpred.features.batch import FeatureBatch, ImageInput, Receipt, SeriesInput, TabularInput
from riskpred.features.plan import FeatureColumn, FeaturePlan, ImagePlan, SeriesChannel, SeriesPlan, TabularPlan
from riskpred.model.layout import GroupGrid, Layout
from riskpred.model.risk import RiskModel
from riskpred.records.chunk import DAY_US

NOW = 1_600_000_000_000_000


@pytest.fixture(scope="session")
def plan() -> FeaturePlan:
    def column(name: str, vocabulary: tuple[str, ...] = ()) -> FeatureColumn:
        return FeatureColumn(name, name, "last", None, None, name, False, vocabulary)

    return FeaturePlan(
        {
            "tabular": TabularPlan((column("age"), column("lab"), column("sex", ("F", "M", "X")))),
            "series": SeriesPlan((SeriesChannel("X", None, "X"), SeriesChannel("Y", None, "Y")), None, 8, None),
            "image": ImagePlan(("CR",), None, None, 16),
        }
    )


@pytest.fixture(scope="session")
def layout() -> Layout:
    timed = GroupGrid(
        "both", ("heart", "cancer"), ("heart", "cancer", "death"), False, (1.0, 3.0), (0.0, 0.4, 1.0, 3.0)
    )
    at_once = GroupGrid("now", ("now",), ("now",), True, (0.0,), (0.0, 1.0))
    return Layout((timed, at_once), ("heart", "now", "cancer"))


@pytest.fixture(scope="session")
def network() -> NetworkConfig:
    return NetworkConfig(
        encoders={
            "tabular": TabularEncoder(members=2, width=8, depth=1),
            "series": SeriesEncoder(width=4),
            "image": ImageEncoder(channels=(4, 8)),
        },
        embedding=4,
        members=3,
    )


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., FeatureBatch]:
    """batch(n): n rows; row 0 lacks the series, row 1 the image, row 2 both, row 3 everything; `many` images a row."""

    def make(n: int = 40, seed: int = 0, many: int = 1) -> FeatureBatch:
        rng = np.random.default_rng(seed)
        values = np.stack([rng.normal(60, 10, n), rng.normal(5, 2, n), rng.integers(0, 3, n)], axis=1)
        values[rng.random((n, 3)) < 0.15] = np.nan
        steps = rng.integers(1, 7, n)
        steps[[0, 2, 3]] = 0
        start = np.concatenate([[0], np.cumsum(steps)])
        series = rng.normal(2, 3, size=(start[-1], 2))
        series[rng.random(series.shape) < 0.3] = np.nan
        back = np.repeat(steps, steps) - (np.arange(start[-1]) - np.repeat(start[:-1], steps))
        pixels, time = rng.random((n, 1, 16, 16)), np.full(n, NOW, np.int64)
        present = {"tabular": np.ones(n, bool), "series": steps > 0, "image": np.ones(n, bool)}
        present["image"][[1, 2, 3]] = False
        present["tabular"][3] = False
        pictures = np.repeat(np.arange(n), present["image"] * many)
        start_of_images = np.concatenate([[0], np.cumsum(present["image"] * many)]).astype(np.int64)
        if many > 1:
            pixels = rng.random((len(pictures), 1, 16, 16))[np.argsort(pictures, kind="stable")]
            age = rng.integers(0, 900, len(pictures))
        else:
            pixels, age = pixels[pictures], np.zeros(len(pictures), np.int64)
        films = ImageInput(
            start_of_images,
            pixels.astype(np.float32),
            tuple(f"i{at}" for at in range(len(pictures))),
            NOW - np.sort(age)[::-1] * DAY_US,
            np.ones((len(pictures), 3)),
            np.zeros((len(pictures), 2)),
        )
        receipt = Receipt(np.zeros(n, np.int8), np.ones(n, np.int64), time, np.zeros((n, 0), bool), ())
        return FeatureBatch(
            subject_id=np.arange(n, dtype=np.int64),
            prediction_time=time,
            inputs={
                "tabular": TabularInput(values.astype(np.float32), np.repeat(time[:, None], 3, 1)),
                "series": SeriesInput(start.astype(np.int64), NOW - back * 30 * DAY_US, series.astype(np.float32)),
                "image": films,
            },
            present=present,
            receipts={name: receipt for name in present},
            rejects=(),
        )

    return make


@pytest.fixture
def model(
    network: NetworkConfig, plan: FeaturePlan, layout: Layout, make_batch: Callable[..., FeatureBatch]
) -> RiskModel:
    """Preprocessing learned on a batch, every weight random (nothing is left at zero)."""
    torch.manual_seed(5)
    model = RiskModel(network, plan, layout)
    inputs = model.tensors(make_batch(200, seed=9))
    for r in range(model.members):
        member = model.member(r)
        for name, given in inputs.items():
            member.encoders[name].learn(given.take(given.present.nonzero()[:, 0]))
        member.encoders["tabular"].spline_weight.normal_(0, 0.1)
        member.baseline(0).copy_(torch.full((3, 3), -2.0) + 0.1 * torch.randn(3, 3))
        member.baseline(1).fill_(-1.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    for calibration in model.calibrations:
        calibration.intercept.normal_(0, 0.1)
        calibration.log_slope.normal_(0, 0.1)
        calibration.bend.normal_(0, 0.3)
        calibration.knot.fill_(-2.0)
        calibration.width.fill_(0.5)
    return model.eval().requires_grad_(False)
