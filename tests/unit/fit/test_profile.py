"""Profiles of groups by sex and age band: means of what is sent, medians, and which groups have one."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from riskpred.config.network import NetworkConfig
from riskpred.config.outcomes import OutcomesConfig
from riskpred.features.join import take
from riskpred.features.plan import FeaturePlan
from riskpred.fit.data import Rows
from riskpred.fit.grid import learn_layout
from riskpred.fit.members import training_data
from riskpred.fit.profile import learn_profiles
from riskpred.model.risk import RiskModel
from riskpred.records.reference_group import GROUPS

Make = Callable[..., Rows]


@pytest.fixture(scope="module")
def rows(make_rows: Make) -> Rows:
    return make_rows(400)


@pytest.fixture(scope="module")
def model(rows: Rows, plan: FeaturePlan, outcomes: OutcomesConfig, quick: NetworkConfig) -> RiskModel:
    """As drawn, with encoders that say something."""
    found = RiskModel(quick, plan, learn_layout(outcomes, rows, quick.intervals))
    for name, given in found.tensors(rows.batch).items():
        for r in range(found.members):
            encoder = found.member(r).encoders[name]
            encoder.learn(given.take(given.present.nonzero()[:, 0]))
            torch.nn.init.normal_(encoder.to_coefficients.weight, generator=torch.Generator().manual_seed(r))
    return found.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def group(rows: Rows) -> np.ndarray:
    """100 women and 120 men of their fifties; of people of their sixties too few of either sex."""
    names = ["women aged 50 to 59"] * 100 + ["men aged 50 to 59"] * 120
    names += ["women aged 60 to 69"] * 40 + ["men aged 60 to 69"] * 40 + ["people aged 60 to 69"] * 70
    names += ["women under 30"] * 10 + ["everyone"] * 20
    place = np.array([GROUPS.index(name) for name in names])
    return np.random.default_rng(0).permutation(place)


def test_a_profile_is_the_mean_of_what_is_sent_by_those_of_the_group_who_have_it(
    model: RiskModel, rows: Rows, group: np.ndarray
) -> None:
    data = training_data(model, rows)
    learned = learn_profiles(model, data, group)
    names = learned.profiles.names
    assert dict(zip(names, learned.rows, strict=True)) == {
        "everyone": 400, "women aged 50 to 59": 100, "men aged 50 to 59": 120, "people aged 60 to 69": 150,
    }  # fmt: skip
    assert learned.card_entry()["training_rows"]["men aged 50 to 59"] == 120
    sixties = [GROUPS.index(f"{who} aged 60 to 69") for who in ("women", "men", "people")]
    inside = {
        "everyone": np.ones(400, dtype=bool),
        "women aged 50 to 59": group == GROUPS.index("women aged 50 to 59"),
        "men aged 50 to 59": group == GROUPS.index("men aged 50 to 59"),
        "people aged 60 to 69": np.isin(group, sixties),  # of either sex
    }
    places = learned.profiles.places(replace(rows.batch, group=group))
    explained = {GROUPS[place]: names[own] for place, own in zip(group.tolist(), places.tolist(), strict=True)}
    assert explained == {
        "everyone": "everyone",
        "women under 30": "everyone",
        "women aged 50 to 59": "women aged 50 to 59",
        "men aged 50 to 59": "men aged 50 to 59",
        "women aged 60 to 69": "people aged 60 to 69",
        "men aged 60 to 69": "people aged 60 to 69",
        "people aged 60 to 69": "people aged 60 to 69",
    }
    with torch.no_grad():
        sent = model.encode(data.inputs)
    for name in model.modalities:
        for place, known in enumerate(names):
            here = data.inputs[name].present & torch.from_numpy(inside[known])
            for part in ("coefficients", "embedding"):
                wanted = getattr(sent[name], part)[:, here].mean(1)
                assert torch.allclose(getattr(learned.profiles.sent[name], part)[:, place], wanted)
        means = learned.profiles.sent[name].coefficients[0]
        assert float((means[1] - means[2]).abs().max()) > 1e-3, "groups that are alike test nothing"


def test_baselines_are_medians_modes_and_the_mean_image_of_the_group(
    model: RiskModel, rows: Rows, group: np.ndarray
) -> None:
    profiles = learn_profiles(model, training_data(model, rows), group).profiles
    values = rows.batch.inputs["tabular"].values
    for name in ("everyone", "women aged 50 to 59"):
        inside = np.ones(400, dtype=bool) if name == "everyone" else group == GROUPS.index(name)
        found = {modality: part[profiles.names.index(name)] for modality, part in profiles.baseline.items()}
        assert found["tabular"].shape == (5,), "three numbers and a one-hot of two"
        known = np.sort(values[inside, 0][~np.isnan(values[inside, 0])])
        assert found["tabular"][0].item() == known[(len(known) - 1) // 2]
        mode = np.bincount(values[inside & ~np.isnan(values[:, 3]), 3].astype(int)).argmax()
        assert found["tabular"][3:].tolist() == [float(mode == 0), float(mode == 1)]
        assert found["series"].shape == (2,)
        pixels = take(rows.batch, rows.batch.present["image"] & inside).inputs["image"].pixels
        assert found["image"].numpy() == pytest.approx(pixels.mean(axis=0), abs=1e-5)


def test_a_group_with_too_few_rows_of_any_modality_is_explained_by_people_of_its_age(
    model: RiskModel, rows: Rows, group: np.ndarray
) -> None:
    women = np.flatnonzero(group == GROUPS.index("women aged 50 to 59"))
    image = rows.batch.present["image"].copy()
    image[women] = False
    image[women[:49]] = True
    fewer = replace(rows, batch=replace(rows.batch, present={**rows.batch.present, "image": image}))
    series = fewer.batch.present["series"][women].sum()
    assert series >= 50, "the image alone is what is rare"
    profiles = learn_profiles(model, training_data(model, fewer), group).profiles
    assert sorted(profiles.names) == ["everyone", "men aged 50 to 59", "people aged 50 to 59", "people aged 60 to 69"]
    places = profiles.places(replace(fewer.batch, group=group))
    assert {profiles.names[place] for place in places[women]} == {"people aged 50 to 59"}
    assert profiles.places(fewer.batch).tolist() == [0] * 400, "rows that do not say belong to everyone"
    assert learn_profiles(model, training_data(model, rows), None).profiles.names == ("everyone",)
