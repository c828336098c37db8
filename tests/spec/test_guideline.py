"""Guideline equations beside a risk: what is read of the records, what is too old or later, and what is named."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from riskpred.config.guideline import GuidelineConfig
from riskpred.config.model import parse
from riskpred.config.study import load_model_config
from riskpred.errors import ConfigError
from riskpred.guideline.beside import EQUATIONS, guideline_rows
from riskpred.guideline.inputs import InputReader, Person, iso, whole_years
from riskpred.records.chunk import SubjectChunk

Records, Moment = Callable[[str], SubjectChunk], Callable[[str], int]

CONFIG: dict[str, Any] = {
    "region": "low",
    "equations": {"heart": ["prevent_total_cvd_10", "score2"]},
    "inputs": {
        "sbp": {"codes": ["SBP"], "units": {"": 1}, "max_age_days": 365},
        "total_cholesterol": {"codes": ["CHOL"], "units": {"": 1}},
        "hdl": {"codes": ["HDL"], "units": {"": 1}},
        "creatinine": {"codes": ["CREA"], "units": {"": 0.01131}},
        "bmi": {"codes": ["BMI"], "units": {"": 1}},
        "smoking": {"codes": ["SMOKE"], "values": {"current": 1, "never": 0}},
        "diabetes": {"codes": ["DX//E11*"], "ever": True},
        "treated": {"codes": ["PILLS"], "at_least": 1},
        "statin": {"assume": 0, "because": "nobody had them"},
    },
}
RECORDS = """
    1 | -                | GENDER//F  |
    1 | 1970-06-02       | MEDS_BIRTH |
    1 | 2018-01-01       | SBP        | 100
    1 | 2020-03-01       | SBP        | 140
    1 | 2020-06-01       | SBP        | 160
    1 | 2010-01-01       | CHOL       | 6.3
    1 | 2020-01-01       | HDL        | 1.4
    1 | 2020-01-01       | CREA       | 70
    1 | 2019-01-01       | SMOKE      | "never"
    1 | 2020-01-01       | SMOKE      | "current"
    1 | 2020-01-01       | PILLS      | 0
    1 | 2021-01-01       | DX//E11.9  |
"""


def person(records: Records, table: str, when: int, **change: object) -> Person:
    config = parse(GuidelineConfig, CONFIG | change, "guideline.yaml")
    chunk = records(table)
    return InputReader(config, chunk.codes).person(chunk, 0, when)


def test_the_latest_value_by_then_is_read_and_nothing_later(records: Records, moment: Moment) -> None:
    found = person(records, RECORDS, moment("2020-06-01"))
    assert found.given == {
        "region": "low",
        "sex": "female",
        "age": 49.0,
        "sbp": 160.0,
        "total_cholesterol": 6.3,
        "hdl": 1.4,
        "creatinine": pytest.approx(0.7917),
        "egfr": pytest.approx(91.4, abs=0.05),
        "smoking": 1.0,
        "diabetes": 0.0,
        "treated": 0.0,
        "statin": 0.0,
    }
    assert found.shown["creatinine"].value == 70.0
    assert person(records, RECORDS, moment("2020-06-01") - 1).given["sbp"] == 140.0
    assert person(records, RECORDS, moment("2021-01-01")).given["diabetes"] == 1.0
    assert person(records, RECORDS, moment("2021-01-01")).given["diabetes_age"] == 50.0


def test_what_is_old_or_in_another_unit_is_not_used_and_named(records: Records, moment: Moment) -> None:
    found = person(records, RECORDS, moment("2021-06-02"))
    assert "sbp" not in found.given
    assert found.too_old == ("sbp",)
    other = {**CONFIG["inputs"], "hdl": {"codes": ["HDL"], "units": {"mg/dL": 0.02586}}}
    refused = person(records, RECORDS, moment("2020-06-01"), inputs=other)
    assert "hdl" not in refused.given
    assert refused.refused == {"hdl": "no unit"}


def test_ages_are_those_of_the_calendar(moment: Moment) -> None:
    assert whole_years(moment("1970-06-02"), moment("2020-06-01")) == 49
    assert whole_years(moment("1970-06-02"), moment("2020-06-02")) == 50
    assert whole_years(moment("1972-02-29"), moment("2021-02-28")) == 48


def rows(records: Records, table: str, when: int, scored: bool = True) -> list[dict[str, Any]]:
    chunk = records(table)
    found = guideline_rows(
        parse(GuidelineConfig, CONFIG, "guideline.yaml"),
        chunk,
        np.array([0]),
        np.array([when]),
        {"heart": np.array([scored])},
    )
    return [{**row, "note": json.loads(row["note"])} for row in found.to_pylist()]


def test_a_row_has_the_risk_or_says_what_is_missing(records: Records, moment: Moment) -> None:
    prevent, score2 = rows(records, RECORDS, moment("2020-06-01"))
    assert (prevent["kind"], prevent["name"], prevent["unit"]) == (
        "guideline",
        "PREVENT total CVD, 10 years",
        "probability",
    )
    assert 0.02 < prevent["value"] < 0.10
    assert prevent["note"]["applies"]
    assert prevent["note"]["equation"] == "PREVENT total CVD, 10 years (base model)"
    assert prevent["note"]["inputs"]["hdl"] == {
        "value": 1.4,
        "unit": None,
        "time": "2020-01-01T00:00:00Z",
        "label": {"en": "HDL cholesterol", "zh": "高密度脂蛋白胆固醇"},
    }
    assert prevent["note"]["problems"] == []
    assert score2["name"] == "SCORE2, 10 years"
    assert score2["note"]["region"] == "low"
    assert round(100 * score2["value"], 1) == 5.3

    without = "\n".join(line for line in RECORDS.splitlines() if "HDL" not in line and "PILLS" not in line)
    prevent, score2 = rows(records, without, moment("2020-06-01"))
    assert prevent["value"] is None
    assert not prevent["note"]["applies"]
    assert prevent["note"]["missing"] == ["treated", "hdl"]
    assert prevent["note"]["problems"] == ["blood pressure treatment is missing", "HDL cholesterol is missing"]
    assert prevent["note"]["problems_zh"] == ["缺少降压治疗", "缺少高密度脂蛋白胆固醇"]
    assert score2["note"]["problems"] == ["HDL cholesterol is missing"]


def test_an_old_value_is_said_to_be_old(records: Records, moment: Moment) -> None:
    prevent, _ = rows(records, RECORDS, moment("2021-06-02"))
    assert prevent["note"]["problems"] == [
        "systolic blood pressure is missing",
        "systolic blood pressure was last measured too long ago",
    ]


def test_events_after_prediction_time_change_no_row(records: Records, moment: Moment) -> None:
    later = "\n".join(
        f"1 | 2020-06-01 00:01 | {code} | {value}"
        for code, value in (("SBP", 199), ("CHOL", 8), ("HDL", 0.6), ("CREA", 500), ("PILLS", 1), ("SMOKE", '"never"'))
    )
    when = moment("2020-06-01")
    assert rows(records, RECORDS + later + "\n1 | 2020-06-02 | GENDER//M |", when) == rows(records, RECORDS, when)


def test_who_is_not_scored_for_the_outcome_gets_no_row(records: Records, moment: Moment) -> None:
    assert rows(records, RECORDS, moment("2020-06-01"), scored=False) == []
    chunk = records(RECORDS)
    assert guideline_rows(None, chunk, np.array([0]), np.array([0]), {}).num_rows == 0


def test_wrong_rules_are_a_config_error() -> None:
    def given(**rule: object) -> dict[str, Any]:
        return {**CONFIG, "inputs": {"sbp": rule}}

    for wrong, said in (
        (given(codes=["X"]), "exactly one of"),
        (given(assume=1), "because"),
        (given(units={"mmHg": 1}), "codes"),
        ({**CONFIG, "inputs": {"pulse": {"codes": ["X"], "ever": True}}}, "pulse"),
        ({**CONFIG, "equations": {"heart": ["qrisk3"]}}, "qrisk3"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse(GuidelineConfig, wrong, "guideline.yaml")
        assert said in str(caught.value.got) or "equations" in str(caught.value.got)


def test_packaged_guidelines_name_what_their_study_lacks(records: Records, moment: Moment) -> None:
    config = load_model_config("hospital").guideline
    assert config is not None
    empty = records("1 | 1970-06-02 | MEDS_BIRTH |")
    found = guideline_rows(config, empty, np.array([0]), np.array([moment("2015-01-01")]), {
        name: np.array([True]) for name in load_model_config("hospital").outcomes.outcomes
    })  # fmt: skip
    note = json.loads(found.column("note").to_pylist()[0])
    assert {"total_cholesterol", "hdl", "treated", "statin"} <= set(note["missing"])
    from typing import get_args

    from riskpred.config.guideline import EquationKey

    assert set(get_args(EquationKey)) == set(EQUATIONS)


def test_a_birth_before_the_year_one_is_out_of_range_and_stops_no_night() -> None:
    before_christ = -63_500_000_000_000_000
    assert whole_years(before_christ, 1_577_836_800_000_000) == 2062
    assert iso(before_christ) is None, "a page has no way to write it"
    assert iso(1_577_836_800_000_000) == "2020-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("codes", "sex"),
    [
        ("GENDER//F", "female"),
        ("GENDER//W", "female"),
        ("GENDER//Woman", "female"),
        ("GENDER//male", "male"),
        ("GENDER//X", None),
    ],
)
def test_sex_is_read_as_the_reference_group_reads_it(
    records: Records, moment: Moment, codes: str, sex: str | None
) -> None:
    found = person(records, f"1 | 2019-01-01 | {codes} |", moment("2020-06-01"))
    assert found.given.get("sex") == sex


def test_the_latest_sex_counts_though_it_is_neither_and_none_of_later(records: Records, moment: Moment) -> None:
    told = """
        1 | -          | GENDER//F |
        1 | 2019-01-01 | GENDER//X |
        1 | 2021-01-01 | GENDER//M |
    """
    assert person(records, told, moment("2018-06-01")).given.get("sex") == "female"
    assert "sex" not in person(records, told, moment("2020-06-01")).given
    assert "sex" not in person(records, told, moment("2020-06-01")).shown
    assert person(records, told, moment("2022-06-01")).given.get("sex") == "male"
