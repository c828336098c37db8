"""Integrated gradients within a modality: completeness, the baseline, and Captum as the reference implementation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from riskpred.explain.attribution import (
    ModalityWorth,
    attribution_baseline,
    integrated_gradients,
    rows_of,
    within_modality,
)
from riskpred.explain.coalitions import modality_reasons
from riskpred.explain.subjects import explain_batch
from riskpred.model.tensors import TabularTensors, column_owner


def _parts(bundle: Any, batch: Any, name: str) -> tuple[Any, Any, Any, Any]:
    """W of a modality, its inputs, the owner of each column and the rows: of the subjects that have it."""
    inputs = bundle.model.tensors(batch)
    rows = torch.from_numpy(np.flatnonzero(batch.present[name]))
    sent = {other: rows_of(one, rows) for other, one in bundle.model.encode(inputs).items()}
    profile = torch.from_numpy(bundle.profiles.places(batch))[rows]
    worth = ModalityWorth(
        bundle.model,
        sent,
        {other: rows_of(one, profile) for other, one in bundle.profiles.sent.items()},
        {other: given.present[rows] for other, given in inputs.items()},
        name,
    )
    owner = torch.tensor(column_owner(bundle.plan.modalities[name].columns)) if name == "tabular" else None
    return worth, inputs[name].take(rows), owner, rows


@pytest.mark.parametrize("name", ["tabular", "series", "image"])
def test_rows_of_a_modality_sum_to_its_contribution(
    random_bundle: Callable[[int], Any], small_batch: Any, name: str
) -> None:
    bundle, (_, batch) = random_bundle(2), small_batch
    worth, given, owner, rows = _parts(bundle, batch, name)
    nobody = np.zeros(len(rows), dtype=np.int64)
    profile = bundle.profiles.places(batch)
    baseline = bundle.profiles.baseline[name][profile[rows.numpy()]]
    within = within_modality(worth, given, baseline, owner, nobody)
    inputs = bundle.model.tensors(batch)
    present = {other: one.present for other, one in inputs.items()}
    sent = bundle.model.encode(inputs)
    reasons = modality_reasons(bundle.model, sent, bundle.profiles.sent, present, profile)
    phi = reasons.contribution[rows.numpy(), :, bundle.model.modalities.index(name)]
    assert np.abs(within.total - phi).max() < 1e-4, "W(subject) is the modality's Shapley value"
    assert np.abs(within.feature).max() > 0.5, "features that say nothing test nothing"
    assert within.within_tolerance.mean() >= 0.995
    if name == "series":
        assert within.moment.sum(axis=2) == pytest.approx(within.feature, abs=1e-9)
        assert not within.moment[:, :, ~given.observed.any(dim=0).numpy()].any(), "nothing measured, nothing said"
    if name == "image":
        picture = within.picture
        assert picture.region.sum(axis=-1) == pytest.approx(within.feature[..., 0], abs=0.01, rel=0.005)
        assert picture.map.sum(axis=(1, 2)) == pytest.approx(within.feature[:, 0, 0], abs=0.05, rel=0.02)
        assert (picture.mask.sum(axis=1) <= 1).all(), "regions are disjoint"
        assert picture.mask[:, 1].any(axis=(1, 2)).any(), "pictures with several regions"
        found = (picture.map[:, None] * picture.mask).sum(axis=(2, 3))
        assert picture.region[:, 0, :-1] == pytest.approx(found, abs=0.05, rel=0.02), "sums of the map's own target"


def test_captum_gives_the_same_gradients(random_bundle: Callable[[int], Any], small_batch: Any) -> None:
    from captum.attr import IntegratedGradients

    bundle, (_, batch) = random_bundle(3), small_batch
    for name in ("tabular", "series"):
        worth, given, owner, rows = _parts(bundle, batch, name)
        everyone = torch.arange(len(rows))
        start = attribution_baseline(given, bundle.profiles.baseline[name][0], owner)
        ours = integrated_gradients(worth, given, start, everyone, 8, lambda a: a)

        def forward(
            values: torch.Tensor, given: Any = given, worth: Any = worth, everyone: torch.Tensor = everyone
        ) -> torch.Tensor:
            index = everyone.repeat(len(values) // len(everyone))
            return worth(given.take(index).with_values(values), index)

        captum = IntegratedGradients(forward)
        for target in range(len(bundle.model.targets)):
            theirs = captum.attribute(given.values, start, target=target, n_steps=8, method="gausslegendre")
            assert torch.allclose(ours[:, target].to(theirs.dtype), theirs, atol=1e-4), (name, target)


def test_a_linear_worth_is_attributed_exactly() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    seen = torch.ones(2, 2, dtype=torch.bool)
    given, weight = TabularTensors(values, seen, seen[:, 0]), torch.tensor([[2.0, -1.0], [0.5, 4.0]])
    found = integrated_gradients(
        lambda inputs, _: (inputs.values @ weight).double(),
        given,
        torch.zeros(2, 2),
        torch.arange(2),
        4,
        lambda a: a,
    )
    assert torch.allclose(found, (values[:, None] * weight.T[None]).double())


def test_baseline_keeps_what_is_missing_missing(random_bundle: Callable[[int], Any], small_batch: Any) -> None:
    bundle, (_, batch) = random_bundle(1), small_batch
    worth, given, owner, rows = _parts(bundle, batch, "tabular")
    del worth, rows
    start = attribution_baseline(given, torch.full((given.values.shape[1],), 7.0), owner)
    seen = given.observed[:, owner]
    assert not seen.all()
    assert (start[seen] == 7).all()
    assert (start[~seen] == 0).all()
    _, series, _, _ = _parts(bundle, batch, "series")
    start = attribution_baseline(series, torch.tensor([130.0, 75.0]))
    assert (start[~series.observed] == 0).all()
    assert set(start[series.observed].unique().tolist()) == {130.0, 75.0}


def test_too_large_a_remainder_stays_in_sight(
    random_bundle: Callable[[int], Any], small_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worth that no number of steps integrates ends at the last step, with the remainder told."""
    monkeypatch.setattr("riskpred.explain.attribution.LAST_STEPS", 64)
    bundle, (_, batch) = random_bundle(1), small_batch
    worth, given, owner, rows = _parts(bundle, batch, "tabular")
    calls: list[int] = []

    class Jump(ModalityWorth):
        def __init__(self) -> None:
            pass

        def trees(self, inputs: Any, baseline: torch.Tensor) -> None:
            return None

        def held(self, inputs: Any, owner: Any) -> Any:
            return inputs

        def __call__(self, inputs: Any, subject: torch.Tensor) -> torch.Tensor:
            calls.append(len(subject))
            return worth(inputs, subject) + 5.0 * (inputs.values[:, :1] > baseline[0] + 2).double()

    baseline = bundle.profiles.baseline["tabular"][0]
    within = within_modality(Jump(), given, baseline, owner, np.zeros(len(rows), dtype=np.int64))
    assert not within.within_tolerance.all()
    assert np.abs(within.unexplained).max() > 1
    assert max(calls) >= 64


@pytest.mark.parametrize("name", ["tabular", "series"])
def test_a_value_far_beyond_what_encoders_read_costs_no_step(
    random_bundle: Callable[[int], Any], small_batch: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records hold pressures of 13,682: nearly all of a straight path there is where nothing changes."""
    bundle, (_, batch) = random_bundle(2), small_batch
    worth, given, owner, rows = _parts(bundle, batch, name)
    values = given.values.clone()
    seen = given.observed[:, owner] if owner is not None else given.observed
    column = values[..., 0]
    column[seen[..., 0]] *= 1000
    far, everyone = given.with_values(values), torch.arange(len(rows))
    held = worth.held(far, owner)
    assert float(held.values.abs().max()) < 1000 < float(values.abs().max())
    assert torch.equal(held.values[~seen], far.values[~seen]), "what is missing stays missing"
    with torch.no_grad():
        assert torch.allclose(worth(held, everyone), worth(far, everyone), atol=1e-9)
    baseline, nobody = bundle.profiles.baseline[name][0], np.zeros(len(rows), dtype=np.int64)
    within = within_modality(worth, far, baseline, owner, nobody)
    assert within.within_tolerance.all()
    monkeypatch.setattr(ModalityWorth, "held", lambda self, inputs, owner: inputs)
    straight = within_modality(worth, far, baseline, owner, nobody)
    assert np.abs(straight.unexplained).max() > 10 * np.abs(within.unexplained).max()


def test_moments_lie_at_their_steps_however_rows_are_put_together(
    random_bundle: Callable[[int], Any], small_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, (_, batch) = random_bundle(2), small_batch
    worth, given, _, rows = _parts(bundle, batch, "series")
    assert len(set(given.length.tolist())) > 2, "rows of several lengths"
    baseline, nobody = bundle.profiles.baseline["series"][0], np.zeros(len(rows), dtype=np.int64)
    together = within_modality(worth, given, baseline, None, nobody)
    monkeypatch.setattr("riskpred.explain.attribution._PATH_ROWS", 1)
    alone = within_modality(worth, given, baseline, None, nobody)
    assert alone.moment == pytest.approx(together.moment, abs=1e-4)
    beyond = np.arange(given.values.shape[1])[None] >= given.length.numpy()[:, None]
    assert beyond.any()
    assert not alone.moment.transpose(0, 2, 1, 3)[beyond].any(), "nothing is said of steps that are not there"


def test_each_subject_starts_from_the_medians_of_its_own_group(
    random_bundle: Callable[[int], Any], small_batch: Any
) -> None:
    bundle, (_, batch) = random_bundle(1), small_batch
    inputs = bundle.model.tensors(batch)
    present, profile = {name: given.present for name, given in inputs.items()}, bundle.profiles.places(batch)
    sent = bundle.model.encode(inputs)
    contribution = modality_reasons(bundle.model, sent, bundle.profiles.sent, present, profile).contribution
    wanted = np.zeros(contribution.shape[:2], dtype=bool)
    wanted[:, 1] = True

    def presence(of: Any) -> dict[tuple[int, str], float]:
        top = np.ones(len(batch), dtype=np.int64)
        rows = explain_batch(of, batch, wanted, top, contribution, "fp32").explanations.to_pylist()
        return {
            (row["subject_id"], row["modality"]): row["contribution"] for row in rows if row["feature"] == "(presence)"
        }

    same = {name: part[:1].expand_as(part) for name, part in bundle.profiles.baseline.items()}
    own, others = presence(bundle), presence(replace(bundle, profiles=replace(bundle.profiles, baseline=same)))
    moved = {key: abs(own[key] - others[key]) for key in own}
    place = dict(zip(batch.subject_id.tolist(), profile.tolist(), strict=True))
    assert max(moved[key] for key in own if place[key[0]] == 0) == 0
    assert np.median([moved[key] for key in own if place[key[0]] > 0]) > 1e-3
