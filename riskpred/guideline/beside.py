"""Rows of `evidence` of kind guideline: the published equations beside each outcome, or what they lack, per person."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.config.guideline import INPUT_UNITS, GuidelineConfig
from riskpred.guideline.equation import INPUT_NAMES, Equation, Given, Outside
from riskpred.guideline.inputs import InputReader, Person, shown_json
from riskpred.guideline.pooled_cohort import POOLED_COHORT
from riskpred.guideline.prevent import OUTCOMES, model_of, prevent
from riskpred.guideline.score2 import score2_for
from riskpred.records.chunk import SubjectChunk
from riskpred.records.schema import table_schema

_NAMES_ZH: Final = {
    "age": "年龄", "sex": "性别", "sbp": "收缩压", "total_cholesterol": "总胆固醇", "hdl": "高密度脂蛋白胆固醇",
    "bmi": "体重指数", "egfr": "估算肾小球滤过率（或肌酐）", "hba1c": "糖化血红蛋白", "uacr": "尿白蛋白肌酐比",
    "sdi": "社会剥夺指数", "smoking": "吸烟", "diabetes": "糖尿病", "diabetes_age": "确诊糖尿病年龄",
    "treated": "降压治疗", "statin": "他汀治疗", "race": "种族", "region": "风险地区", "creatinine": "肌酐",
}  # fmt: skip
_OUTCOMES_ZH: Final = {
    "heart attack, stroke or heart failure": "心肌梗死、卒中或心力衰竭",
    "heart attack, death of coronary disease, or stroke": "心肌梗死、冠心病死亡或卒中",
    "heart failure": "心力衰竭",
    "heart attack or death of coronary disease": "心肌梗死或冠心病死亡",
    "stroke": "卒中",
    "heart attack, stroke or death of cardiovascular disease": "心肌梗死、卒中或心血管病死亡",
}
_NOT_FOR_ZH: Final = {
    "SCORE2 is not meant for people with diabetes": "SCORE2 不适用于糖尿病患者",
    "SCORE2-Diabetes is only for people with diabetes": "SCORE2-Diabetes 仅适用于糖尿病患者",
}

EQUATIONS: Final[dict[str, Callable[[Given], Equation]]] = {
    **{f"prevent_{o}_{years}": (lambda _, o=o, years=years: prevent(o, years)) for o in OUTCOMES for years in (10, 30)},  # type: ignore[misc]
    "score2": score2_for,
    "pooled_cohort": lambda _: POOLED_COHORT,
}
"""Key of guideline.yaml -> the equation meant for a person with these inputs."""


def guideline_rows(
    config: GuidelineConfig | None,
    chunk: SubjectChunk,
    places: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
    outcomes: Mapping[str, NDArray[np.bool_]],
) -> pa.Table:
    """One row per subject, scored outcome and equation; columns of `evidence` without run_id.

    Nothing later than a subject's prediction_time is read.

    Args:
        config: None = none.   places: of the subjects in the chunk.
        outcomes: outcome -> which of the subjects have a risk of it.
    Shape: places, prediction_time and each of outcomes: (B,).
    """
    schema = table_schema("scores", "evidence").arrow()
    schema = schema.remove(schema.get_field_index("run_id"))
    rows: dict[str, list[object]] = {name: [] for name in schema.names}
    if config is not None:
        reader = InputReader(config, chunk.codes)
        for b, place in enumerate(places.tolist()):
            moment = int(prediction_time[b])
            person = reader.person(chunk, place, moment)
            for outcome, keys in config.equations.items():
                for key in keys if outcomes[outcome][b] else ():
                    name, value, note = beside(key, outcome, person)
                    row = {
                        "subject_id": int(chunk.subject_id[place]),
                        "kind": "guideline",
                        "name": name,
                        "time": moment,
                    }
                    row |= {"value": value, "unit": "probability", "note": json.dumps(note, ensure_ascii=False)}
                    for column, held in rows.items():
                        held.append(row.get(column))
    return pa.table([pa.array(rows[f.name], type=f.type) for f in schema], schema=schema)


def beside(key: str, outcome: str, person: Person) -> tuple[str, float | None, dict[str, Any]]:
    """Name of the equation meant for a person, its risk (None where it does not apply), and the note.

    note: equation (with PREVENT's model), outcome (of the study), risk_of (both languages), horizon_years, source,
    applies, inputs (name -> value, unit and time as recorded, and label in both languages), problems, problems_zh,
    missing (names), region (of SCORE2, else left out).
    """
    given = person.given
    equation = EQUATIONS[key](given)
    problems = equation.problems(given)
    risk = None if problems else equation.risk(given)
    read = {one.name for one in (*equation.inputs, *equation.optional)} | {"creatinine"}
    shown = {name: one for name, one in person.shown.items() if name in read and name != "region"}
    if "egfr" not in read:
        shown.pop("creatinine", None)
    note: dict[str, Any] = {
        "equation": _with_model(key, equation, given),
        "outcome": outcome,
        "risk_of": {"en": equation.outcome, "zh": _OUTCOMES_ZH[equation.outcome]},
        "horizon_years": equation.horizon_years,
        "source": equation.source,
        "applies": risk is not None,
        "inputs": {
            name: {**one, "label": {"en": INPUT_NAMES.get(name, name), "zh": _NAMES_ZH[name]}}
            for name, one in shown_json(shown).items()
        },
        "problems": [*problems, *_unusable(equation, person, zh=False)],
        "problems_zh": [*_problems_zh(equation, given), *_unusable(equation, person, zh=True)],
        "missing": list(equation.missing(given)),
    }
    if any(one.name == "region" for one in equation.inputs):
        note["region"] = given["region"]
    return equation.name, risk, note


def _with_model(key: str, equation: Equation, given: Given) -> str:
    if not key.startswith("prevent_") or equation.problems(given):
        return equation.name
    outcome = key.removeprefix("prevent_").rpartition("_")[0]
    model = model_of(equation.used(given), outcome)  # type: ignore[arg-type]
    return f"{equation.name} ({model} model)"


def _unusable(equation: Equation, person: Person, zh: bool) -> list[str]:
    """Why an input that is missing could not be had, though the record has something."""
    wanted = set(equation.missing(person.given))
    wanted |= {"creatinine"} if "egfr" in wanted else set()
    names = _NAMES_ZH if zh else {**INPUT_NAMES, "creatinine": "creatinine"}
    told = []
    for name, unit in person.refused.items():
        if name in wanted:
            told.append(
                f"{names[name]}的单位 {unit} 无法换算为 {INPUT_UNITS[name]}"
                if zh
                else f"{names[name]} is recorded in {unit}, which guideline.yaml does not turn into {INPUT_UNITS[name]}"
            )
    for name in person.too_old:
        if name in wanted:
            told.append(f"{names[name]}的数值过旧" if zh else f"{names[name]} was last measured too long ago")
    return told


def _problems_zh(equation: Equation, given: Given) -> list[str]:
    told = [f"缺少{_NAMES_ZH[name]}" for name in equation.missing(given)]
    told += [_outside_zh(one) for one in equation.outside(given)]
    if not told:
        why = equation.not_for(given)
        told += [_NOT_FOR_ZH[why]] if why else []
    return told


def _outside_zh(one: Outside) -> str:
    value = one.value if isinstance(one.value, str) else f"{one.value:.4g}"
    unit = {"years": "岁"}.get(one.unit or "", one.unit or "")
    if one.low is None or one.high is None:
        return f"{_NAMES_ZH[one.name]} {value} 不适用"
    return f"{_NAMES_ZH[one.name]} {value} {unit} 超出 {one.low:.4g} 至 {one.high:.4g}"
