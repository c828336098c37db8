import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import FeaturePlan
from riskpred.model.likeness import Cloud
from riskpred.model.risk import RiskModel
from riskpred.model.scope import FLAGS, LEAST_PEOPLE, Measured, Scope, count_inputs
from riskpred.records.schema import table_schema
from riskpred.report.language import language
from riskpred.report.names import Names
from riskpred.report.words import Words

README = Path(__file__).resolve().parents[3] / "README.md"


@pytest.fixture
def scope() -> Scope:
    """Two targets of one risk set and one of another, which knows no ages; patterns 1 and 3 of two modalities."""
    rng = np.random.default_rng(0)
    clouds = [Cloud.stacked([Cloud.learn(rng.normal(size=(500, 4))) for _ in range(2)]) for _ in range(2)]
    return Scope(
        age_low=np.array([40.0, 40.0, np.nan]),
        age_high=np.array([80.0, 80.0, np.nan]),
        age_missing=np.asarray(0.01),
        beyond_follow_up=np.array([False, True, False]),
        least_inputs=np.asarray(3),
        pattern=np.array([1, 3]),
        people=np.array([LEAST_PEOPLE - 1, 400]),
        limit=np.array([1.5, 1.2, 1.3]),
        own=np.array([0, 1, 0]),
        embedding=Cloud.stacked(clouds),
        inputs=Cloud.learn(rng.normal(size=(500, 6))),
        units=np.array([3.0, 4.0]),
    )


def flagged(
    scope: Scope, pattern: int = 3, inputs: int = 9, unlikeness: float = 1.0, age: float = 60.0, seen: bool = False
) -> list[set[str]]:
    """Flags of one row, by target."""
    measured = Measured(np.array([pattern]), np.array([inputs]), np.array([unlikeness]))
    (row,) = scope.flags(measured, np.array([age]), np.array([seen]))
    return [{flag for flag, holds in zip(FLAGS, target, strict=True) if holds} for target in row]


def test_someone_like_the_people_trained_on_has_no_flag_but_the_horizons(scope: Scope) -> None:
    assert flagged(scope) == [set(), {"horizon_beyond_follow_up"}, set()]


@pytest.mark.parametrize(
    ("row", "flag"),
    [
        ({"seen": True}, "seen_in_training"),
        ({"unlikeness": 1.21}, "unlike_training"),
        ({"unlikeness": np.nan}, "unlike_training"),
        ({"unlikeness": np.inf}, "unlike_training"),
        ({"pattern": 1}, "availability_unseen"),
        ({"pattern": 2}, "availability_unseen"),
        ({"pattern": 0}, "availability_unseen"),
        ({"inputs": 2}, "too_few_inputs"),
    ],
)
def test_a_flag_of_the_person_is_on_every_risk(scope: Scope, row: dict[str, float], flag: str) -> None:
    expected = [{flag}, {flag, "horizon_beyond_follow_up"}, {flag}]
    assert flagged(scope, **row) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "row", [{"unlikeness": 1.2}, {"inputs": 3}, {"age": 40.0}, {"age": 80.0}, {"pattern": 3, "unlikeness": 0.0}]
)
def test_a_limit_itself_is_inside(scope: Scope, row: dict[str, float]) -> None:
    assert flagged(scope, **row) == flagged(scope)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("age", "flag"),
    [(39.99, "age_outside_training"), (130.0, "age_outside_training"), (np.nan, "age_unknown")],
)
def test_ages_count_where_training_knew_any(scope: Scope, age: float, flag: str) -> None:
    assert flagged(scope, age=age) == [{flag}, {flag, "horizon_beyond_follow_up"}, set()]


def test_an_unknown_age_is_nothing_special_where_many_in_training_had_none(scope: Scope) -> None:
    usual = dataclasses.replace(scope, age_missing=np.asarray(0.05))
    assert flagged(usual, age=np.nan) == flagged(usual)


def test_each_pattern_has_its_limit_and_an_unseen_one_that_of_all(scope: Scope) -> None:
    for pattern, limit in ((1, 1.5), (3, 1.2), (2, 1.3), (7, 1.3)):
        inside, beyond = (flagged(scope, pattern=pattern, unlikeness=limit + more)[0] for more in (0.0, 1e-9))
        assert beyond - inside == {"unlike_training"}, pattern


def test_unlikeness_is_the_larger_of_both_views_and_of_each_row_alone(scope: Scope) -> None:
    rng = np.random.default_rng(3)
    embedding, profile = rng.normal(size=(2, 50, 4)), rng.normal(size=(50, 6))
    pattern = rng.integers(0, 4, 50)
    found = scope.unlikeness(embedding, profile, pattern)
    for b in range(50):
        cloud = scope.embedding[1 if pattern[b] == 3 else 0]
        views = [cloud.distance(embedding[:, b : b + 1]).mean() / 3.0, scope.inputs.distance(profile[b : b + 1])[0] / 4]
        assert found[b] == pytest.approx(max(views))


def test_a_scope_is_the_same_after_its_tensors(scope: Scope) -> None:
    again = Scope.from_state({name: tensor.clone() for name, tensor in scope.state().items()})
    for field in dataclasses.fields(scope):
        one, other = getattr(scope, field.name), getattr(again, field.name)
        if isinstance(one, Cloud):
            one, other = one.whitening, other.whitening
        assert np.array_equal(one, other, equal_nan=True), field.name
        assert one.shape == other.shape, field.name


def test_inputs_counted_are_those_that_can_be_missing(
    model: RiskModel, plan: FeaturePlan, make_batch: Callable[..., FeatureBatch]
) -> None:
    batch = make_batch()
    tabular, series = batch.inputs["tabular"], batch.inputs["series"]
    count = count_inputs(plan, model.tensors(batch))
    assert count[3] == 0, "row 3 lacks every modality"
    for b in range(40):
        steps = series.values[series.start[b] : series.start[b + 1]]
        expected = (~np.isnan(tabular.values[b])).sum() * batch.present["tabular"][b]
        expected += (~np.isnan(steps)).any(axis=0).sum() + batch.present["image"][b]
        assert count[b] == expected
    columns = [dataclasses.replace(column, aggregate="count") for column in plan.modalities["tabular"].columns]
    counts = dataclasses.replace(
        plan, modalities=plan.modalities | {"tabular": type(plan.modalities["tabular"])(tuple(columns))}
    )
    fewer = count_inputs(counts, model.tensors(batch))
    assert (fewer <= count).all()
    assert fewer[1] == count[1] - (~np.isnan(tabular.values[1])).sum(), "a count is there for everyone"


def test_schema_readme_and_report_know_every_flag() -> None:
    (meaning,) = [
        column.meaning for column in table_schema("scores", "risk_scores").columns if column.name == "scope_flags"
    ]
    readme = README.read_text(encoding="utf-8")
    for flag in FLAGS:
        assert flag in meaning
        assert f"\n| {flag} | " in readme
        assert flag not in Names(Words(language("en"))).flag(flag), "a sentence for people"
