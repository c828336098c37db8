"""External validation in words: what the two populations share, and tables that say what the numbers say."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from riskpred.errors import InputError
from riskpred.evaluate.metrics import metrics
from riskpred.evaluate.page import page
from riskpred.evaluate.populations import Feature, compare, summarise_population
from riskpred.evaluate.summary import number
from riskpred.evaluate.transport import calibration_rows, compare_site, is_external, membership, text_of, view
from riskpred.model.predictions import Predictions


class Model:
    modalities = ("tabular", "series")


class Bundle:
    """What these functions read of a bundle: 600 people whose risks are those of `evaluated`, moved by `shift`."""

    def __init__(self, evaluated, shift=0.0, site="here"):
        self.card = {"trained_on": {"site": site}}
        self.model = Model()
        rows = len(evaluated)
        risk = evaluated.risks["riskpred"][0]
        nothing = np.zeros(rows, np.int64)
        self.out_of_fold = Predictions(
            row=np.arange(rows),
            repeat=nothing,
            fold=nothing,
            subject=evaluated.subject_id,
            risk=-np.expm1(np.log1p(-risk) * np.exp(shift)),
            peer_risk=np.full_like(risk, np.nan),
            cause=np.zeros((rows, 2), np.int8),
            duration_days=np.zeros((rows, 2)),
            present=np.stack([evaluated.pattern != "nothing", evaluated.pattern == "tabular+series"], axis=1),
        )


def test_another_site_is_one_with_another_name(made_up):
    bundle = Bundle(made_up(50))

    class Warehouse:
        site = "here"

    assert not is_external(bundle, Warehouse())  # type: ignore[arg-type]
    Warehouse.site = "there"
    assert is_external(bundle, Warehouse())  # type: ignore[arg-type]
    bundle.card = {}
    assert not is_external(bundle, Warehouse())  # type: ignore[arg-type]


def test_people_alike_cannot_be_told_apart_and_others_can(made_up):
    here, there = made_up(1_200, seed=1), made_up(1_200, seed=2)
    assert membership(Bundle(there), here)["auc"] == pytest.approx(0.5, abs=0.04)
    assert membership(Bundle(there, shift=1.0), here)["auc"] > 0.65
    images = replace(here, pattern=np.full(len(here), "tabular+series"))
    assert membership(Bundle(there), images)["auc"] > 0.7
    assert membership(Bundle(there, shift=1.0), here) == membership(Bundle(there, shift=1.0), here)


def test_too_few_people_have_no_membership_model(made_up):
    found = membership(Bundle(made_up(60)), made_up(1_200))
    assert found == {"auc": None, "reason": "30 people of one site, at least 50 needed"}


def test_own_predictions_are_refused(made_up):
    class Warehouse:
        path, site = "w.duckdb", "there"

    with pytest.raises(InputError, match="no external validation"):
        compare_site(Bundle(made_up(50)), replace(made_up(50), prediction_time=None), Warehouse())  # type: ignore[arg-type]


def halves(risk: np.ndarray, splits: int = 3) -> list[np.ndarray]:
    """The risks of another half of the rows in each split, NaN for the others."""
    found = []
    for split in range(splits):
        measured = np.random.default_rng(split).random(len(risk)) < 0.5
        found.append(np.where(measured[:, None], risk, np.nan))
    return found


def test_calibration_before_and_after_is_measured_on_the_rows_of_each_split(made_up):
    evaluated = made_up(1_500)
    right = evaluated.risks["riskpred"][0]
    doubled = -np.expm1(2 * np.log1p(-right))
    rows = calibration_rows(evaluated, doubled, halves(right), seed=1)
    values = {(row["model"], row["outcome"], row["horizon_years"], row["metric"]): row for row in rows}
    before, after = (values[model, "heart", 5.0, "citl"] for model in ("as it is", "recalibrated"))
    assert before["value"] == pytest.approx(after["value"] - np.log(2), abs=0.05)
    assert before["low"] <= before["value"] <= before["high"]
    assert before["n"] == pytest.approx(750, abs=40)
    ici = [values[model, "heart", 5.0, "ici"]["value"] for model in ("as it is", "recalibrated")]
    assert ici[1] < 0.5 * ici[0]
    assert {row["metric"] for row in rows} == {"citl", "slope", "ici", "ici_floor", "brier"}


def test_a_horizon_that_some_splits_cannot_judge_has_a_reason_and_no_mean(made_up):
    evaluated = made_up(120)
    risk = evaluated.risks["riskpred"][0]
    rows = calibration_rows(evaluated, risk, halves(risk), seed=1)
    one = [row for row in rows if (row["outcome"], row["horizon_years"]) == ("heart", 1.0)]
    assert len(one) == 1
    assert one[0]["value"] is None
    assert "in a half on average, at least 10 needed in each" in one[0]["reason"]


@pytest.fixture(scope="module")
def site(made_up):
    """compare_site's answer, made by hand for 1,500 and 750 rows."""
    generator = np.random.default_rng(1)

    def features(mean: float, size: int) -> list[Feature]:
        values = generator.normal(mean, 10.0, size).astype(np.float32)
        return [
            Feature("tabular", "age_years", "Age", "years", (), values),
            Feature("tabular", "SEX", "Sex <b>", None, ("F", "M"), (values > 60).astype(np.float32)),
            Feature("series", "HR:last", "Heart rate", None, (), np.full(size, np.nan, np.float32)),
        ]

    def summary(evaluated, given):
        return summarise_population(
            given,
            evaluated.subject_id,
            evaluated.pattern,
            evaluated.targets,
            evaluated.status,
            evaluated.time_days,
        )

    ours, theirs = made_up(1_500), made_up(600, seed=3)
    then, now = features(60.0, 1_500), features(65.0, 600)
    training, here = summary(ours, then), summary(theirs, now)
    risk = theirs.risks["riskpred"][0]
    return theirs, {
        "training_site": "north",
        "site": "south",
        "reason": None,
        "display": {"heart": "Heart <disease>", "low": "Low mood"},
        "training": training,
        "here": here,
        "features": compare(training, here, now),
        "membership": {"auc": 0.6543, "reason": None},
        "recalibration": {
            "splits": 3,
            "metrics": calibration_rows(theirs, risk, halves(risk), seed=1),
            "notes": ["heart: intercept 0.00, slope 1.00 on 90 events (weight 0.90)"],
        },
    }


def test_text_says_the_numbers(site):
    _, found = site
    above, below = text_of(view(found))
    assert above.startswith(
        "another site: 300 people (600 rows) of south, beside 750 people (1,500 rows) in training (north)"
    )
    assert "AUC .654" in above
    incidence = dict(map(tuple, found["here"]["outcomes"]["heart"]["horizons"]))[5.0]
    line = next(line for line in above.splitlines() if "Heart <disease>, within 5 years" in line)
    assert line.rstrip().endswith(f"{100 * incidence:.1f} %")
    assert "2 of 3 features differ by more than 0.1" in above
    age = next(line for line in above.splitlines() if "Age, years" in line)
    assert number(found["features"][0]["smd"], 2) in age.split()
    rate = next(line for line in above.splitlines() if "Heart rate" in line)
    assert rate.split()[2:] == ["—", "—", "-", "-", "100.0", "%", "100.0", "%"]
    assert "what recalibration would change" in below
    assert below.endswith("(weight 0.90)")


def test_the_page_escapes_names_and_shows_the_same_tables(site):
    evaluated, found = site
    html = page(evaluated, metrics(evaluated, resamples=5), extra={"site": view(found)})
    assert "Sex &lt;b&gt;" in html
    assert "<b>" not in html
    for table in [*view(found)["before"], *view(found)["after"]]:
        for row in table["rows"]:
            assert all(cell.replace("<", "&lt;").replace(">", "&gt;") in html for cell in row), row


def test_without_a_summary_there_is_still_a_word(site):
    _, found = site
    bare = copy.deepcopy(found) | {"training": None, "features": [], "reason": "the bundle keeps no summary"}
    del bare["recalibration"]
    above, below = text_of(view(bare))
    assert above.splitlines()[:2] == ["another site: 300 people (600 rows) of south", "the bundle keeps no summary"]
    assert below == ""
