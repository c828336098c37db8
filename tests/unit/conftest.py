"""A small hospital (warehouse and image files) and a bundle with random weights that fits it: score and explain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from riskpred.config.study import ModelConfig
    from riskpred.features.batch import FeatureBatch
    from riskpred.fit.data import Rows
    from riskpred.model.bundle import Bundle
    from riskpred.model.network import Sent
    from riskpred.model.risk import RiskModel
    from riskpred.model.scope import Scope

AS_OF = datetime(2026, 1, 1)
EPOCH = datetime(1970, 1, 1)

Event = tuple[int, datetime | None, str, float | None, str | None]
Image = tuple[str, int, datetime, str, str]

EMPTY, UNBORN, DEAD, ILL = 199, 198, 197, 196
"""Subjects: nothing but an entry; entered after AS_OF; dead before it; with the outcome cardio before it."""


@dataclass
class SmallHospital:
    """Events and images as rows; `write` makes a warehouse of them, in the order given."""

    folder: Path
    events: list[Event]
    images: list[Image]

    def write(self, name: str, events: list[Event] | None = None, images: list[Image] | None = None) -> Path:
        import duckdb
        import pyarrow as pa

        from riskpred.records.schema import table_schema

        path = self.folder / name
        path.unlink(missing_ok=True)
        units = {"CHOL": "mmol/L", "SBP": "mm[Hg]", "HR": "/min"}
        with duckdb.connect(str(path)) as connection:
            for table in ("events", "images", "subject_splits", "ingests"):
                connection.execute(table_schema("warehouse", table).ddl())
            events = self.events if events is None else events
            columns = [list(column) for column in zip(*events, strict=True)]
            columns.append([units.get(code) for code in columns[2]])
            schema = table_schema("warehouse", "events").arrow()
            rows = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
            connection.register("rows", rows)
            connection.execute("INSERT INTO events SELECT * FROM rows")
            for image in self.images if images is None else images:
                connection.execute(
                    "INSERT INTO images (image_id, subject_id, time, image_type, path, sha256)"
                    " VALUES (?, ?, ?, ?, ?, NULL)",
                    list(image),
                )
        return path


@pytest.fixture(scope="session")
def small_hospital(tmp_path_factory: pytest.TempPathFactory) -> SmallHospital:
    """64 subjects: labs, two series, chest images for half of them; 101 to 160 are eligible for something."""
    from PIL import Image as Picture

    folder = tmp_path_factory.mktemp("small_hospital")
    draw = np.random.default_rng(7)
    events: list[Event] = []
    images: list[Image] = []
    for subject in range(101, 161):
        entry = AS_OF - timedelta(days=int(draw.integers(200, 900)))
        birth = AS_OF - timedelta(days=int(draw.integers(30, 80) * 365))
        known = subject % 9 > 0  # every ninth has no tabular data at all
        if known:
            events.append((subject, None, "GENDER//F" if draw.random() < 0.5 else "GENDER//M", None, None))
            events.append((subject, birth, "MEDS_BIRTH", None, None))
        events.append((subject, entry, "ENTRY", None, None))
        if known and draw.random() < 0.8:
            events.append((subject, entry + timedelta(days=3), "CHOL", round(float(draw.normal(5.2, 1)), 2), None))
        for step in range(int(draw.integers(0 if known else 1, 6))):
            time = AS_OF - timedelta(days=int(draw.integers(1, 180)), hours=step)
            events.append((subject, time, "SBP", round(float(draw.normal(135, 18))), None))
            if draw.random() < 0.6:
                events.append((subject, time, "HR", round(float(draw.normal(75, 10))), None))
        if draw.random() < 0.5:
            pixels = (draw.random((24, 24)) * 90).astype(np.uint8)
            pixels[6:12, 10:17] += 120
            Picture.fromarray(pixels).save(folder / f"{subject}.png")
            images.append((f"x{subject}", subject, AS_OF - timedelta(days=9), "DX", f"{subject}.png"))
    events.append((EMPTY, AS_OF - timedelta(days=9), "ENTRY", None, None))
    events.append((UNBORN, AS_OF + timedelta(days=9), "ENTRY", None, None))
    events.append((DEAD, AS_OF - timedelta(days=90), "ENTRY", None, None))
    events.append((DEAD, AS_OF - timedelta(days=9), "MEDS_DEATH", None, None))
    events.append((ILL, AS_OF - timedelta(days=90), "ENTRY", None, None))
    events.append((ILL, AS_OF - timedelta(days=80), "SBP", 150.0, None))
    events.append((ILL, AS_OF - timedelta(days=9), "HEART", None, None))
    events.sort(key=lambda e: (e[0], e[1] or datetime.min, e[2]))
    return SmallHospital(folder, events, images)


@pytest.fixture(scope="session")
def as_of_us() -> int:
    return (AS_OF.replace(tzinfo=UTC) - EPOCH.replace(tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.fixture(scope="session")
def small_config() -> ModelConfig:
    """Two competing outcomes over 1 and 5 years, one known at once; three modalities."""
    from riskpred.config.model import parse
    from riskpred.config.study import ModelConfig

    return parse(
        ModelConfig,
        {
            "name": "small",
            "outcomes": {
                "entry_codes": ["ENTRY"],
                "prediction_times": {"days_after_entry": [30]},
                "horizons_years": [1.0, 5.0],
                "outcomes": {
                    "cardio": {"display": "Heart disease", "rule": {"codes": ["HEART"]}, "competing_set": "major"},
                    "cancer": {"display": "Cancer", "rule": {"codes": ["TUMOUR"]}, "competing_set": "major"},
                    "low_mood": {
                        "display": "Low mood",
                        "rule": {"codes": ["PHQ9"], "at_least": 10},
                        "known_at_once": True,
                    },
                },
            },
            "features": {
                "modalities": {
                    "tabular": {
                        "kind": "tabular",
                        "features": [
                            {"builtin": "age_years"},
                            {"codes": ["GENDER//*"], "category": True},
                            {"codes": ["CHOL"], "aggregates": ["last"]},
                        ],
                    },
                    "series": {"kind": "series", "codes": ["SBP", "HR"], "window_days": 365},
                    "image": {"kind": "image", "image_types": ["DX"], "size": 16},
                }
            },
            "network": {
                "members": 2,
                "embedding": 4,
                "encoders": {
                    "tabular": {"kind": "tabular", "members": 2, "width": 16, "depth": 1},
                    "series": {"kind": "series", "width": 8},
                    "image": {"kind": "image", "channels": [4, 8]},
                },
            },
        },
        "small",
    )


@pytest.fixture(scope="session")
def small_batch(small_hospital: SmallHospital, small_config: ModelConfig, as_of_us: int) -> tuple[Any, FeatureBatch]:
    """The plan, and the features of everyone with any input."""
    from riskpred.features.build import build
    from riskpred.features.join import take
    from riskpred.features.learn import learn_plan
    from riskpred.records.cohort import cohort
    from riskpred.records.warehouse import Warehouse

    with Warehouse.open(small_hospital.write("batch.duckdb")) as warehouse:
        plan = learn_plan(small_config.features, warehouse, np.arange(101, 161))
        (chunk,) = warehouse.chunks()
        rows = cohort(chunk, small_config.outcomes, warehouse.data_until, as_of_us)
        batch = build(chunk, rows, plan, warehouse.image_root)
    return plan, take(batch, np.any(list(batch.present.values()), axis=0))


@pytest.fixture(scope="session")
def scope_of() -> Callable[..., Scope]:
    """scope_of(model, batch, reference): as if the rows of a batch had been trained on, each pattern often enough."""
    return _scope


@pytest.fixture(scope="session")
def random_bundle(small_config: ModelConfig, small_batch: tuple[Any, FeatureBatch]) -> Callable[[int], Bundle]:
    """Seed -> a bundle whose weights are random, so that every modality and the joint term speak; made once a seed."""
    return cache(lambda seed: _bundle(small_config, *small_batch, seed))


@pytest.fixture(scope="session")
def bundle_of(small_batch: tuple[Any, FeatureBatch]) -> Callable[[ModelConfig], Bundle]:
    """The same for a configuration that reads what `small_config` reads, or less of it; seed 1."""
    return lambda config: _bundle(config, *small_batch, 1)


def _scope(model: RiskModel, batch: FeatureBatch, reference: Sent) -> Scope:
    from riskpred.fit.members import training_data
    from riskpred.fit.scope import learn_scope
    from riskpred.model.scope import LEAST_PEOPLE

    rows = _rows(model, batch)
    scope = learn_scope(model, training_data(model, rows), rows, reference, seed=1)
    return replace(scope, people=np.maximum(scope.people, LEAST_PEOPLE))


def _rows(model: RiskModel, batch: FeatureBatch) -> Rows:
    from riskpred.fit.data import Rows

    count, groups = len(batch), model.layout.groups
    ages = np.linspace(18.0, 100.0, count)
    ages[::9] = np.nan
    return Rows(
        batch,
        {group.name: np.zeros(count, np.int8) for group in groups},
        {group.name: np.full(count, 0.0 if group.known_at_once else 3650.0) for group in groups},
        {},
        batch.subject_id,
        ages,
    )


def _bundle(config: ModelConfig, plan: Any, batch: FeatureBatch, seed: int) -> Bundle:
    import torch

    from riskpred.fit.members import training_data
    from riskpred.fit.profile import learn_profiles
    from riskpred.model.bundle import Bundle, subject_hashes
    from riskpred.model.layout import GroupGrid, Layout
    from riskpred.model.predictions import Predictions
    from riskpred.model.risk import RiskModel

    layout = Layout(
        (
            GroupGrid("major", ("cardio", "cancer"), ("cardio", "cancer", "death"), False, (1.0, 5.0), (0.0, 1, 2, 5)),
            GroupGrid("low_mood", ("low_mood",), ("low_mood",), True, (0.0,), (0.0, 1.0)),
        ),
        ("cardio", "cancer", "low_mood"),
    )
    plan = replace(plan, modalities={name: plan.modalities[name] for name in config.network.encoders})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = RiskModel(config.network, plan, layout)
    inputs = model.tensors(batch)
    assert inputs.keys() == config.network.encoders.keys()
    random = torch.Generator().manual_seed(seed)

    def normal(tensor: torch.Tensor, scale: float) -> None:
        tensor.copy_(scale * torch.randn(tensor.shape, generator=random, dtype=tensor.dtype))

    with torch.no_grad():
        for r in range(model.members):
            member = model.member(r)
            for name, given in inputs.items():
                encoder = member.encoders[name]
                encoder.learn(given.take(given.present.nonzero()[:, 0]))
                normal(encoder.to_coefficients.weight, 0.3)
                if name == "tabular":
                    normal(encoder.spline_weight, 0.2)
            if member.joint is not None:
                normal(member.joint.outer.weight, 0.3)
            member.baseline(0).fill_(-3.0)
            member.baseline(1).fill_(-2.0)
    model.eval().requires_grad_(False)
    risk, rows = model.predict(batch).risk, len(batch)
    # So few of each group that some have a profile of their own here and others do not.
    profiles = learn_profiles(model, training_data(model, _rows(model, batch)), batch.group, fewest=3).profiles
    assert 2 < len(profiles.names) < len(set(batch.group.tolist())) + 1
    salt = b"salt"
    nothing = np.zeros(rows, dtype=np.int64)
    return Bundle(
        path=Path("small"),
        sha256=f"{seed:064x}",
        name="small",
        version="1",
        created_at="2026-01-01T00:00:00Z",
        seed=seed,
        counts={},
        config=config,
        plan=plan,
        model=model,
        card={"name": "small"},
        profiles=profiles,
        peer=None,  # type: ignore[arg-type]  (neither score nor explain reads it)
        out_of_fold=Predictions(
            row=np.arange(rows),
            repeat=nothing,
            fold=nothing,
            subject=np.arange(rows),
            risk=risk,
            peer_risk=risk,
            cause=np.zeros((rows, 2), dtype=np.int8),
            duration_days=np.zeros((rows, 2)),
            present=np.ones((rows, 3), dtype=bool),
        ),
        cross_validation=None,
        salt=salt,
        trained_on=subject_hashes(salt, "batch", [101, 102]),
        scope=_scope(model, batch, profiles.everyone),
    )
