"""The card's words: those of the unit in which the plan reads a code."""

from riskpred.config.study import load_model_config
from riskpred.features.plan import FeatureColumn, FeaturePlan, SeriesChannel, SeriesPlan, TabularPlan
from riskpred.fit.words import card_words


def test_range_display_and_limit_are_those_of_the_plan_s_unit() -> None:
    def column(code: str, unit: str | None, vocabulary: tuple[str, ...] = ()) -> FeatureColumn:
        return FeatureColumn(f"{code}:last", code, "last", None, unit, code, False, vocabulary)

    plan = FeaturePlan(
        {
            "tabular": TabularPlan(
                (
                    column("LAB//LDL", "mmol/L"),
                    column("LAB//CREATININE", "umol/L"),
                    column("SMOKING", None, ("current", "never")),
                )
            ),
            "series": SeriesPlan((SeriesChannel("VITAL//SYSTOLIC", "mmHg", "SBP"),), None, 8, None),
        }
    )
    card = card_words(load_model_config("hospital").words, plan)
    words = card["words"]
    assert words["LAB//LDL"] == {
        "name": {"en": "LDL cholesterol", "zh": "低密度脂蛋白胆固醇"},
        "unit": "mmol/L",
        "direction": {"en": ["low", "high"], "zh": ["偏低", "偏高"]},
        "group": "lipids",
        "modifiable": True,
        "range": {"low": None, "high": 3.4},
        "improve": {"towards": "lower", "limit": 1.4},
    }
    assert words["LAB//CREATININE"]["range"]["female"] == {"low": 45.0, "high": 84.0}
    assert words["LAB//CREATININE"]["unit_display"]["en"] == "µmol/L"
    assert not words["LAB//CREATININE"]["modifiable"]
    assert words["SMOKING"]["unit"] is None
    assert words["SMOKING"]["values"]["never"]["zh"] == "从不吸烟"
    assert words["SMOKING"]["improve"]["values"]["current"] == "former"
    assert words["VITAL//SYSTOLIC"]["improve"]["limit"] == 110
    assert card["groups"]["lipids"] == {"en": "Blood fats", "zh": "血脂"}
    assert card["outcome_words"]["cancer"] == {"en": "Cancer", "zh": "癌症"}
