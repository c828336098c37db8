"""The table of metrics: what is in it, what is hidden, and what is said where there is no number."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from riskpred.evaluate.metrics import Metric, metrics
from riskpred.evaluate.summary import number, summarise, text_table


def pick(rows, **wanted):
    wanted = {"blanking_days": 0, **wanted}
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


@pytest.fixture(scope="module")
def evaluated(made_up):
    return made_up()


@pytest.fixture(scope="module")
def rows(evaluated):
    return metrics(evaluated, resamples=30)


def test_a_row_has_the_fields_of_the_contract(rows):
    fields = [
        *("model", "split", "outcome", "horizon_years", "subgroup", "blanking_days", "metric"),
        *("value", "low", "high", "n", "events", "reason", "threshold"),
    ]
    assert list(Metric.__annotations__) == fields
    assert all(list(row) == fields for row in rows)
    json.dumps({"metrics": rows}, allow_nan=False)


def test_models_stand_side_by_side_with_an_interval_and_their_difference(rows):
    at = {"outcome": "heart", "horizon_years": 5.0, "subgroup": None, "metric": "uno_c"}
    own, peer = pick(rows, model="riskpred", **at), pick(rows, model="spline_cox", **at)
    assert own["low"] < own["value"] < own["high"]
    assert own["value"] > peer["value"] + 0.05
    both = pick(rows, model="riskpred - spline_cox", **at)
    assert both["value"] == pytest.approx(own["value"] - peer["value"])
    # Paired on the same people, a difference is known better than either value.
    assert both["high"] - both["low"] < (own["high"] - own["low"]) + (peer["high"] - peer["low"])
    assert own["n"] == 1_500


def test_each_outcome_has_its_own_metrics(rows):
    def named(**wanted):
        wanted = {"blanking_days": 0, **wanted}
        chosen = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
        return {row["metric"] for row in chosen}

    timed = {"uno_c", "harrell_c", "auc", "ibs", "ipa", "brier", "citl", "slope", "ici", "ici_floor", "net_benefit"}
    assert named(model="riskpred", outcome="heart", horizon_years=5.0, subgroup=None) == timed | {"coverage"}
    assert named(model="spline_cox", outcome="heart", horizon_years=5.0, subgroup=None) == timed
    at_once = {"auc", "ipa", "brier", "citl", "slope", "ici", "ici_floor", "net_benefit"}
    assert named(model="spline_logistic", outcome="low", subgroup=None) == at_once
    assert named(model="spline_cox", outcome="low") == set()


def test_unlabelled_rows_are_left_out(rows):
    assert pick(rows, model="riskpred", outcome="low", subgroup=None, metric="auc")["n"] == 1_500 - 30


def test_patterns_are_subgroups_and_small_ones_are_not_counted_out(rows):
    groups = {row["subgroup"] for row in rows}
    assert {name for name in groups if name and name.startswith("with")} == {
        *("with tabular", "with tabular+series", "with nothing"),
    }
    assert {"age under 40", "age 40-49", "age unknown", "sex female", "sex male", None} <= groups
    small = [row for row in rows if row["subgroup"] == "with nothing"]
    assert small
    for row in small:
        assert row["value"] is None
        assert row["events"] is None
        assert row["n"] is None
        assert "not shown" in row["reason"]


def test_too_few_events_give_a_reason_and_no_number(evaluated):
    rare = replace(evaluated, status={**evaluated.status, "heart": evaluated.status["heart"].copy()})
    outcome = np.flatnonzero(rare.status["heart"] == 1)
    rare.status["heart"][outcome[7:]] = 0
    for row in metrics(rare, resamples=5):
        if row["outcome"] == "heart" and row["subgroup"] is None:
            assert row["value"] is None
            reached = row["blanking_days"] == 365 and row["horizon_years"] == 1.0
            assert ("reaches the horizon" if reached else "at least 10 needed") in row["reason"]
    text = text_table(summarise(rare, metrics(rare, resamples=5)))
    assert re.search(r"no metrics: \d with the outcome, at least 10 needed", text)


def test_a_horizon_beyond_follow_up_is_refused_with_a_reason(evaluated):
    far = replace(evaluated, targets=(("heart", 1.0), ("heart", 40.0), ("low", 0.0)))
    row = pick(
        metrics(far, resamples=5), model="riskpred", outcome="heart", horizon_years=40.0, subgroup=None, metric="auc"
    )
    assert row["value"] is None
    assert "followed to the horizon" in row["reason"]


def test_repeats_of_a_cross_validation_are_averaged(made_up):
    three = made_up(400, repeats=3)
    each = [
        metrics(replace(three, risks={name: risk[r : r + 1] for name, risk in three.risks.items()}), resamples=5)
        for r in range(3)
    ]
    at = {"model": "riskpred", "outcome": "low", "subgroup": None, "metric": "auc"}
    wanted = np.mean([pick(one, **at)["value"] for one in each])
    assert pick(metrics(three, resamples=5), **at)["value"] == pytest.approx(wanted)


def test_the_same_seed_gives_the_same_table(made_up):
    few = made_up(300)
    assert metrics(few, resamples=5, seed=3) == metrics(few, resamples=5, seed=3)
    assert metrics(few, resamples=5, seed=3) != metrics(few, resamples=5, seed=4)


def test_true_risks_are_judged_beside_the_model(evaluated):
    truth = np.median(evaluated.member, axis=0)
    rows = metrics(replace(evaluated, truth=truth), resamples=5)
    at = {"outcome": "heart", "horizon_years": 5.0, "subgroup": None}
    assert pick(rows, model="riskpred", metric="rank_agreement", **at)["value"] > 0.9
    share = pick(rows, model="riskpred", metric="share_of_oracle", **at)["value"]
    own, best = (pick(rows, model=model, metric="uno_c", **at)["value"] for model in ("riskpred", "truth"))
    assert share == pytest.approx((own - 0.5) / (best - 0.5))
    inside = (evaluated.low <= truth) & (truth <= evaluated.high)
    assert pick(rows, model="riskpred", metric="coverage", **at)["value"] == pytest.approx(inside[:, 1].mean())
    grouped = pick(rows, model="riskpred", metric="coverage_grouped", **at)["value"]
    assert grouped == pick(metrics(evaluated, resamples=5), model="riskpred", metric="coverage", **at)["value"]


def test_the_text_says_everything_once(evaluated, rows):
    text = text_table(summarise(evaluated, rows))
    assert "split held_out: 1,500 rows of 750 people" in text
    assert "Heart <disease>, within 5 years: n 1,500, events " in text
    line = next(line for line in text.splitlines() if line.strip().startswith("riskpred  "))
    own = pick(rows, model="riskpred", outcome="heart", horizon_years=1.0, subgroup=None, metric="uno_c")
    assert number(own["value"]) in line
    assert all(len(line) <= 130 for line in text.splitlines())


def test_numbers_print_like_in_a_paper():
    given = (0.7581, -0.0212, -0.0001, 1.0, 10.5, None)
    assert [number(value) for value in given] == [".758", "-.021", ".000", "1.000", "10.500", "-"]


def test_a_permuted_label_ranks_like_a_coin_and_gains_nothing(made_up):
    evaluated = made_up(3_000)
    order = np.random.default_rng(9).permutation(3_000)
    permuted = replace(
        evaluated,
        time_days={name: values[order] for name, values in evaluated.time_days.items()},
        status={name: values[order] for name, values in evaluated.status.items()},
    )
    rows = [row for row in metrics(permuted, resamples=40) if row["model"] == "riskpred" and row["subgroup"] is None]
    ranks = [row for row in rows if row["metric"] in ("uno_c", "harrell_c", "auc") and row["value"] is not None]
    assert len(ranks) > 5
    for row in ranks:
        # Within five of the bootstrap's standard errors.
        assert row["value"] == pytest.approx(0.5, abs=5 * (row["high"] - row["low"]) / 3.29)
    assert all(row["value"] < 0.01 for row in rows if row["metric"] == "ipa")


def test_planted_miscalibration_shows_in_the_table(evaluated, rows):
    doubled = evaluated.risks["riskpred"].copy()
    doubled[..., 1] = -np.expm1(2.0 * np.log1p(-doubled[..., 1]))  # twice the cumulated hazard
    doubled[..., 0] = np.minimum(doubled[..., 0], doubled[..., 1])
    planted = metrics(replace(evaluated, risks={**evaluated.risks, "riskpred": doubled}), resamples=30)
    at = {"model": "riskpred", "outcome": "heart", "horizon_years": 5.0, "subgroup": None}
    right, wrong = (
        {metric: pick(table, metric=metric, **at) for metric in ("citl", "slope", "ici")} for table in (rows, planted)
    )
    assert wrong["citl"]["value"] == pytest.approx(right["citl"]["value"] - np.log(2.0), abs=0.02)
    assert wrong["citl"]["high"] < 0
    assert wrong["slope"]["value"] == pytest.approx(right["slope"]["value"], abs=0.1)
    assert wrong["ici"]["value"] > 3 * right["ici"]["value"]
    assert pick(planted, metric="uno_c", **at)["value"] == pick(rows, metric="uno_c", **at)["value"]


def test_every_metric_of_a_model_lies_in_its_interval(rows):
    own = [row for row in rows if row["model"] in ("riskpred", "spline_cox") and row["low"] is not None]
    assert {row["metric"] for row in own} >= {
        *("uno_c", "harrell_c", "auc", "ibs", "ipa", "brier", "citl", "slope", "ici", "ici_floor", "net_benefit"),
    }
    for row in own:
        if row["subgroup"] is None:
            assert row["low"] <= row["value"] <= row["high"], row


def test_nobody_at_risk_of_an_outcome_gives_reasons_not_an_error(made_up):
    evaluated = made_up(300)
    nobody = replace(evaluated, status={**evaluated.status, "heart": np.full(300, -1, dtype=np.int8)})
    rows = [row for row in metrics(nobody, resamples=3) if row["outcome"] == "heart"]
    assert rows
    assert all(row["value"] is None and row["reason"] for row in rows)
    assert "Heart" in text_table(summarise(nobody, metrics(nobody, resamples=3)))
