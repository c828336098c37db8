"""Which evaluations are kept with a bundle, and the one figure made for it: observed over expected."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from riskpred.evaluate.gather import MODEL, Evaluated
from riskpred.evaluate.measure import People
from riskpred.evaluate.metrics import metrics
from riskpred.evaluate.record import observed_and_expected, record
from riskpred.model.evaluation import EVALUATION, read_evaluations


@pytest.fixture(scope="module")
def evaluated(made_up) -> Evaluated:
    return made_up()


@pytest.fixture(scope="module")
def rows(evaluated: Evaluated):
    return metrics(evaluated, resamples=50)


@pytest.fixture
def bundle(tmp_path: Path):
    """What `record` reads of a bundle."""
    outcomes = SimpleNamespace(outcomes={"heart": None, "low": None})
    return SimpleNamespace(path=tmp_path, sha256="a" * 64, config=SimpleNamespace(outcomes=outcomes))


def test_the_figures_are_those_of_the_longest_horizon(bundle, evaluated, rows) -> None:
    said = record(bundle, evaluated, rows, "hospital")
    assert said == f"{bundle.path / EVALUATION}: kept; for publishing risks the bundle passes."
    (kept,) = read_evaluations(bundle.path)
    assert (kept.site, kept.split, kept.rows) == ("hospital", "held_out", len(evaluated))
    heart, low = kept.outcomes
    assert (heart.horizon_years, low.horizon_years) == (5.0, 0.0)
    (row,) = [
        row
        for row in rows
        if (row["model"], row["outcome"], row["horizon_years"], row["metric"]) == ("riskpred", "heart", 5.0, "uno_c")
        and row["subgroup"] is None
        and row["blanking_days"] == 0
    ]
    assert (heart.figures["uno_c"].value, heart.figures["uno_c"].low) == (row["value"], row["low"])
    assert (heart.n, heart.events) == (row["n"], row["events"])
    assert {"uno_c", "auc", "brier", "ipa", "ici", "ici_floor", "citl", "slope"} <= set(heart.figures)
    assert {"auc", "brier", "ipa", "ici", "ici_floor", "citl", "slope"} <= set(low.figures)
    assert "uno_c" not in low.figures


def test_every_horizon_and_each_sex_and_age_band_are_kept(bundle, evaluated, rows) -> None:
    record(bundle, evaluated, rows, "hospital")
    groups = read_evaluations(bundle.path)[0].groups
    heart = [one for one in groups if one.outcome == "heart"]
    assert [one.horizon_years for one in heart if one.subgroup is None] == [1.0, 5.0]
    by_name = {one.subgroup: one for one in heart if one.subgroup}
    assert {"sex female", "sex male", "age 40-49", "age unknown"} <= by_name.keys()
    assert not any(name.startswith("with") for name in by_name)
    for label, one in by_name.items():
        of = {
            row["metric"]: row
            for row in rows
            if (row["model"], row["outcome"], row["horizon_years"], row["subgroup"]) == (MODEL, "heart", 5.0, label)
        }
        assert (one.n, one.events) == (of["ici"]["n"], of["ici"]["events"])
        assert one.figures["slope"].value == of["slope"]["value"]
        assert (one.figures["observed"].value is None) == (one.events is None)
    assert by_name["age unknown"].events is None, "fewer than ten: nothing may tell how many"
    assert "not shown" in by_name["age unknown"].figures["observed_over_expected"].reason
    female = by_name["sex female"].figures
    assert female["observed"].value / female["expected"].value == female["observed_over_expected"].value


def test_true_risks_are_observed_as_expected(bundle, evaluated, rows) -> None:
    record(bundle, evaluated, rows, "hospital")
    for outcome in read_evaluations(bundle.path)[0].outcomes:
        ratio = outcome.figures["observed_over_expected"]
        assert ratio.low < ratio.value < ratio.high
        assert 0.85 < ratio.value < 1.15


def test_the_ratio_of_halved_risks_is_two_and_of_censored_people_that_of_all() -> None:
    draw = np.random.default_rng(3)
    size = 6000
    event = draw.exponential(10.0, size) * 365.25
    leave = draw.uniform(0.0, 8.0, size) * 365.25
    risk = np.full(size, 1.0 - np.exp(-0.5))
    status = (event <= leave).astype(np.int8)
    people = People((5.0,), False, np.arange(size), np.minimum(event, leave), status)
    whole, half = observed_and_expected(people, risk, 5.0), observed_and_expected(people, risk / 2, 5.0)
    assert whole["observed_over_expected"].value == pytest.approx(1.0, abs=0.06)
    assert half["observed_over_expected"].value == pytest.approx(2.0, abs=0.12)
    assert half["expected"].value == pytest.approx(risk[0] / 2)
    assert whole["observed"].low < whole["observed"].value < whole["observed"].high
    assert whole["observed"].value == pytest.approx(risk[0], abs=0.03)
    # Counting only those seen to fall ill would say .6: leaving must be weighed.
    assert status[event <= 5 * 365.25].mean() < 0.75


def test_too_few_events_give_the_reason_instead_of_a_figure(bundle, evaluated, rows) -> None:
    few = replace(evaluated, status={**evaluated.status, "heart": np.zeros(len(evaluated), dtype=np.int8)})
    said = record(bundle, few, metrics(few, resamples=50), "hospital")
    assert "heart: 0 people with the outcome, at least 20 wanted" in said
    heart = read_evaluations(bundle.path)[0].outcomes[0]
    assert heart.figures["observed_over_expected"].value is None
    assert "0 with the outcome" in (heart.figures["observed_over_expected"].reason or "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"split": "train"}, "the split train is for fitting"),
        ({"split": "tuning"}, "the split tuning is for fitting"),
        ({"prediction_time": None, "split": "cross_validation"}, "of other fits than the one that would score"),
    ],
)
def test_people_to_fit_on_are_no_evidence(bundle, evaluated, rows, change, why) -> None:
    said = record(bundle, replace(evaluated, **change), rows, "hospital")
    assert said.startswith(f"{bundle.path}: evaluation not kept with the bundle: ")
    assert why in said
    assert not (bundle.path / EVALUATION).exists()


def test_rows_that_another_model_left_out_are_no_full_evaluation(bundle, evaluated) -> None:
    other = evaluated.risks["riskpred"].copy()
    other[:, :700] = np.nan
    beside = replace(evaluated, risks={**evaluated.risks, "other": other})
    said = record(bundle, evaluated, metrics(beside, resamples=50), "hospital")
    assert "because another model lacks some; leave out --against" in said
    assert not (bundle.path / EVALUATION).exists()


def test_a_folder_that_cannot_be_written_is_said_and_not_fatal(bundle, evaluated, rows, monkeypatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("riskpred.model.evaluation.tempfile.mkstemp", refused)
    said = record(bundle, evaluated, rows, "hospital")
    assert "cannot be kept with the bundle (Permission denied)" in said
    assert "--force" in said
