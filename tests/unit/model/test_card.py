"""What a night keeps of a bundle's card: how it was evaluated, whole or told so, and who trained it."""

import json

import pytest

from riskpred.model.card import card_of_night
from riskpred.model.evaluation import Evaluation, Figure, GroupFigures, OutcomeFigures

FIGURES = {"uno_c": Figure(value=0.7512345, low=0.7, high=0.8), "citl": Figure(reason="nobody")}


def group(subgroup: str | None, years: float = 5.0, events: int | None = 40) -> GroupFigures:
    return GroupFigures(outcome="heart", horizon_years=years, subgroup=subgroup, n=400, events=events, figures=FIGURES)


def evaluation(*groups: GroupFigures) -> Evaluation:
    return Evaluation(
        bundle_sha256="a" * 64,
        riskpred_version="1",
        evaluated_at="2026-11-27T01:02:03+00:00",
        site="here",
        split="held_out",
        rows=400,
        outcomes=(OutcomeFigures(outcome="heart", horizon_years=5.0, n=400, events=40, figures=FIGURES),),
        groups=groups,
    )


def test_everyone_and_subgroups_stand_apart() -> None:
    found = card_of_night({}, evaluation(group(None, 1.0), group(None), group("age 60-69"), group("sex female")))
    entry = found["evaluation"]
    assert (entry["site"], entry["split"], entry["rows"]) == ("here", "held_out", 400)
    heart = entry["outcomes"]["heart"]
    assert [one["horizon_years"] for one in heart["horizons"]] == [1.0, 5.0]
    assert [one["subgroup"] for one in heart["subgroups"]] == ["age 60-69", "sex female"]
    assert heart["horizons"][1]["figures"] == {
        "uno_c": {"value": 0.7512, "low": 0.7, "high": 0.8},
        "citl": {"value": None, "low": None, "high": None, "reason": "nobody"},
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("age under 40", {"age_from": None, "age_below": 40}),
        ("age 60-69", {"age_from": 60, "age_below": 70}),
        ("age 80 or over", {"age_from": 80, "age_below": None}),
        ("age unknown", {}),
        ("sex male", {"sex": "male"}),
        ("sex unknown", {"sex": "unknown"}),
    ],
)
def test_a_group_says_whom_it_holds(label: str, said: dict[str, object]) -> None:
    (one,) = card_of_night({}, evaluation(group(label)))["evaluation"]["outcomes"]["heart"]["subgroups"]
    assert {key: one[key] for key in one if key in ("age_from", "age_below", "sex")} == said
    assert one["subgroup"] == label


def test_a_file_of_an_earlier_release_has_everyone_at_the_longest_horizon() -> None:
    heart = card_of_night({}, evaluation())["evaluation"]["outcomes"]["heart"]
    assert heart["subgroups"] == []
    (one,) = heart["horizons"]
    assert (one["horizon_years"], one["n"], one["events"]) == (5.0, 400, 40)


def test_no_evaluation_is_said_and_what_sums_up_people_is_short() -> None:
    feature = {"modality": "tabular", "name": "age_years", "display": "Age", "unit": "years", "missing": 0.0, "n": 9}
    population = {
        "age": {"mean": 60.0, "sd": 9.0, "low": 40.0, "high": 80.0},
        "sex": {"F": 0.5, "M": 0.5},
        "patterns": {"tabular": 1.0},
        "outcomes": {"heart": {"rows": 400, "horizons": [[5.0, 0.1]]}},
        "features": [feature | {"cuts": list(range(1000))}],
    }
    found = card_of_night({"name": "x", "population": population, "drift": {"y": 1}}, None)
    assert found["evaluation"] is None
    assert found["name"] == "x"
    assert not {"population", "drift"} & found.keys()
    assert found["participants"]["outcomes"] == {"heart": [[5.0, 0.1]]}
    assert found["participants"]["features"] == [{key: feature[key] for key in feature if key != "n"}]
    assert card_of_night({}, None)["participants"] is None
