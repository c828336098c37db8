from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from riskpred.config.network import NetworkConfig
from riskpred.config.outcomes import OutcomesConfig
from riskpred.features.plan import FeaturePlan
from riskpred.fit.data import Rows, stratified_folds
from riskpred.fit.grid import learn_layout
from riskpred.fit.members import Fitted, fit_members, stopping_rows, training_data
from riskpred.fit.train import drop_modalities

Make = Callable[..., Rows]


@pytest.fixture(scope="module")
def rows(make_rows: Make) -> Rows:
    return make_rows(400)


@pytest.fixture(scope="module")
def fitted(rows: Rows, plan: FeaturePlan, outcomes: OutcomesConfig, quick: NetworkConfig) -> Fitted:
    return fit_members(quick, plan, learn_layout(outcomes, rows, quick.intervals), rows, seed=1)


def concordance(risk: np.ndarray, duration: np.ndarray, event: np.ndarray) -> float:
    """Harrell's C, by definition."""
    inside = ~np.isnan(duration)
    risk, duration, event = risk[inside], duration[inside], event[inside]
    right = pairs = 0.0
    for i in np.flatnonzero(event):
        later = duration > duration[i]
        pairs += later.sum()
        right += (risk[i] > risk[later]).sum() + 0.5 * (risk[i] == risk[later]).sum()
    return right / pairs


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    fitted: Fitted, rows: Rows, plan: FeaturePlan, outcomes: OutcomesConfig, quick: NetworkConfig
) -> None:
    layout = learn_layout(outcomes, rows, quick.intervals)
    torch.manual_seed(12345)
    before = torch.random.get_rng_state()
    again = fit_members(quick, plan, layout, rows, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before), "torch's global random state is left alone"
    other = fit_members(quick, plan, layout, rows, seed=2)
    first, second, third = (one.model.state_dict() for one in (fitted, again, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], third[name]) for name in first)


def test_it_learns_what_is_there_and_nothing_that_is_not(
    make_rows: Make, plan: FeaturePlan, outcomes: OutcomesConfig, quick: NetworkConfig
) -> None:
    rows = make_rows(1500)
    fitted = fit_members(quick, plan, learn_layout(outcomes, rows, quick.intervals), rows, seed=1)
    event = rows.cause["both"] == 1
    assert concordance(fitted.out_of_fold[:, 1], rows.duration_days["both"], event) > 0.65
    order = np.random.default_rng(0).permutation(len(rows))
    permuted = replace(
        rows,
        cause={name: cause[order] for name, cause in rows.cause.items()},
        duration_days={name: days[order] for name, days in rows.duration_days.items()},
    )
    noise = fit_members(quick, plan, learn_layout(outcomes, permuted, quick.intervals), permuted, seed=1)
    event = permuted.cause["both"] == 1
    found = concordance(noise.out_of_fold[:, 1], permuted.duration_days["both"], event)
    assert found == pytest.approx(0.5, abs=0.05)


def test_out_of_fold_risks_are_those_of_the_member_that_left_the_row_out(fitted: Fitted, rows: Rows) -> None:
    member = fitted.model.predict(rows.batch).member
    for r in range(2):
        # One cause, one interval, one availability: calibrated for one member or for the mean, the order is the same.
        here = (fitted.fold == r) & np.all(list(rows.batch.present.values()), axis=0)
        assert spearmanr(member[r, here, 2], fitted.out_of_fold[here, 2]).statistic == pytest.approx(1.0)
        assert spearmanr(member[1 - r, here, 2], fitted.out_of_fold[here, 2]).statistic < 0.999


def test_calibrated_out_of_fold_risks_expect_about_the_events_there_were(fitted: Fitted, rows: Rows) -> None:
    labelled = rows.cause["now"] >= 0
    expected = fitted.out_of_fold[labelled, 2].sum()
    assert expected == pytest.approx((rows.cause["now"] == 1).sum(), rel=0.05)


def test_folds_keep_subjects_whole_and_spread_events() -> None:
    subject = np.repeat(np.arange(50), 3)
    labels = np.where(subject < 10, 1, 0)
    fold = stratified_folds(subject, labels, 5, seed=4)
    assert all(len(np.unique(fold[subject == s])) == 1 for s in range(50))
    assert [len(np.unique(subject[(fold == f) & (labels == 1)])) for f in range(5)] == [2] * 5
    order = np.random.default_rng(0).permutation(150)
    assert (stratified_folds(subject[order], labels[order], 5, seed=4) == fold[order]).all()
    assert (stratified_folds(subject, labels, 5, seed=5) != fold).any()


def test_no_fold_parts_a_group(make_rows, quick, plan, outcomes) -> None:
    rows = make_rows(400)
    pairs = replace(rows, together=np.unique(rows.subject_id, return_inverse=True)[1] // 2)
    fitted = fit_members(quick, plan, learn_layout(outcomes, pairs, quick.intervals), pairs, seed=1)
    stops = stopping_rows(training_data(fitted.model, pairs), 0.15, seed=3)
    for dealt in (fitted.fold, stops):
        low = {pair: dealt[pairs.together == pair].min() for pair in pairs.together}
        assert all(dealt[i] == low[pair] for i, pair in enumerate(pairs.together))
    alone = fit_members(quick, plan, learn_layout(outcomes, rows, quick.intervals), rows, seed=1)
    assert any(len(set(alone.fold[pairs.together == pair])) > 1 for pair in np.unique(pairs.together))


def test_stopping_rows_hold_about_their_share_of_subjects_and_events(fitted: Fitted, rows: Rows) -> None:
    data = training_data(fitted.model, rows)
    stops = stopping_rows(data, 0.15, seed=3)
    assert stops.mean() == pytest.approx(0.15, abs=0.03)
    assert (rows.cause["both"][stops] == 1).any()


def test_modality_dropout_leaves_out_its_share_but_never_all() -> None:
    present = {"a": torch.ones(4000, dtype=torch.bool), "b": torch.arange(4000) < 2000}
    kept = drop_modalities(present, 0.3, torch.Generator().manual_seed(0))
    assert bool((kept["a"] | kept["b"]).all())
    assert bool(kept["a"][2000:].all()), "a row's only modality is never dropped"
    assert not bool(kept["b"][2000:].any()), "an absent modality stays absent"
    assert float(kept["b"][:2000].double().mean()) == pytest.approx(0.7 + 0.3 * 0.3, abs=0.04)


def test_progress_is_told_after_each_epoch_and_an_interruption_comes_through(
    rows: Rows, plan: FeaturePlan, outcomes: OutcomesConfig, quick: NetworkConfig
) -> None:
    told: list[int] = []

    def stop(over: int) -> None:
        told.append(over)
        if over == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_members(quick, plan, learn_layout(outcomes, rows, 4), rows, seed=1, on_epoch=stop)
    assert told == [0, 1]
