"""Whole sets of outcomes: kappa and accuracy against scikit-learn, and what the tables say of too few people."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score

from riskpred.evaluate.censoring import Undefined
from riskpred.evaluate.gather import MODEL, Evaluated, OutcomeSet
from riskpred.evaluate.sets import Answers, quadratic_kappa, set_metrics, text_of, view

GRADES = OutcomeSet("dr", ("g1", "g2", "g3"), True)
CLASSES = OutcomeSet("kind", ("cyst", "cancer"), False)


def evaluated(one: OutcomeSet, n: int = 300, noise: float = 0.6, seed: int = 0) -> tuple[Evaluated, np.ndarray]:
    """A split on which one model says more than chance, another nothing; and the true answers."""
    rng = np.random.default_rng(seed)
    answer = rng.integers(0, len(one.outcomes) + 1, n)
    score = np.eye(len(one.outcomes) + 1)[answer] * 1.5 + noise * rng.normal(size=(n, len(one.outcomes) + 1))
    chance = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    even = np.full_like(chance, 1 / chance.shape[1])

    def risks(chances: np.ndarray) -> np.ndarray:
        return chances[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] if one.ordered else chances[:, 1:]

    status = {
        name: (answer >= j if one.ordered else answer == j).astype(np.int8)
        for j, name in enumerate(one.outcomes, start=1)
    }
    return Evaluated(
        split="held_out",
        targets=tuple((name, 0.0) for name in one.outcomes),
        known_at_once=frozenset(one.outcomes),
        subject_id=np.arange(n),
        prediction_time=np.zeros(n, np.int64),
        risks={MODEL: risks(chance)[None], "even": risks(even)[None]},
        time_days={name: np.zeros(n) for name in one.outcomes},
        status=status,
        pattern=np.full(n, "image"),
        display={name: name.upper() for name in one.outcomes},
        sets=(one,),
    ), answer


def row(rows: list, model: str, metric: str):  # type: ignore[no-untyped-def,type-arg]
    return next(r for r in rows if (r["model"], r["metric"]) == (model, metric))


def test_grades_are_judged_as_scikit_learn_judges_them() -> None:
    given, answer = evaluated(GRADES)
    chances = Answers.of(given, GRADES).chances[MODEL][0]
    assert chances.sum(axis=1) == pytest.approx(1.0)
    named = np.rint(chances @ np.arange(4)).astype(int)
    rows = set_metrics(given, resamples=50)
    kappa = row(rows, MODEL, "quadratic_kappa")
    assert kappa["value"] == pytest.approx(cohen_kappa_score(answer, named, weights="quadratic"))
    assert kappa["low"] < kappa["value"] < kappa["high"]
    assert row(rows, MODEL, "accuracy")["value"] == pytest.approx(accuracy_score(answer, chances.argmax(axis=1)))
    aucs = [roc_auc_score(answer > j, given.risks[MODEL][0][:, j]) for j in range(3)]
    assert row(rows, MODEL, "macro_auc")["value"] == pytest.approx(np.mean(aucs))
    assert row(rows, "even", "macro_auc")["value"] == pytest.approx(0.5)
    assert {r["outcome"] for r in rows} == {"dr"}


def test_classes_have_no_kappa_and_the_auc_of_each_against_the_rest() -> None:
    given, answer = evaluated(CLASSES)
    rows = set_metrics(given, resamples=50)
    assert {r["metric"] for r in rows} == {"accuracy", "macro_auc"}
    chances = Answers.of(given, CLASSES).chances[MODEL][0]
    aucs = [roc_auc_score(answer == j, chances[:, j]) for j in range(3)]
    assert row(rows, MODEL, "macro_auc")["value"] == pytest.approx(np.mean(aucs))


def test_kappa_of_perfect_and_of_one_grade() -> None:
    truth = np.array([0, 1, 2, 3, 3])
    assert quadratic_kappa(truth, truth, 4, np.ones(5)) == 1.0
    with pytest.raises(Undefined, match="one grade"):
        quadratic_kappa(np.ones(5, int), np.ones(5, int), 4, np.ones(5))


def test_rows_without_an_answer_are_left_out_and_few_people_are_hidden() -> None:
    given, answer = evaluated(GRADES)
    rare = np.flatnonzero(answer == 3)[5:]
    for status in given.status.values():
        status[rare] = -1
    (shown,) = view(given, set_metrics(given, resamples=20))
    assert shown["n"] == 300 - len(rare)
    assert shown["lines"][3]["cells"] == ["hidden"] * 4, "5 people"
    assert "hidden" not in shown["lines"][0]["cells"]
    assert "Quadratic weighted kappa" in text_of([shown])
    few = replace(given, status={name: np.where(np.arange(300) < 12, s, -1) for name, s in given.status.items()})
    assert all(r["value"] is None and r["reason"] for r in set_metrics(few))
