"""A small scores file with believable rows of simulated people, made from schemas/ alone (no model, no night).

Three outcomes, four horizons, three modalities, two runs; feature, moment and region reasons, evidence and a published
equation for the first `explained` people of the latest run; contributions sum to risk - reference_risk at every level.
"""

import hashlib
import io
import json
import math
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from PIL import Image, ImageDraw

from riskpred.records.schema import table_schema, tables

OUTCOMES = {"cardiovascular": 0.085, "cancer": 0.05, "mental_health": 0.03}
HORIZONS = (1.0, 3.0, 5.0, 10.0)
LABS = {"LAB//HDL": ("mmol/L", 1.3), "LAB//LDL": ("mmol/L", 3.4), "LAB//HBA1C": ("mmol/mol", 41.0)}
VITALS = {"VITAL//SBP": ("mmHg", 138.0), "VITAL//HR": ("/min", 72.0)}
RUNS = (("run-of-20-november", datetime(2026, 11, 20)), ("run-of-21-november", datetime(2026, 11, 21)))
WORDS = {
    "age_years": {"name": {"en": "Age", "zh": "年龄"}, "unit": "years", "unit_display": {"en": "years", "zh": "岁"},
                  "group": "person"},
    "GENDER//*": {"name": {"en": "Sex", "zh": "性别"}, "unit": None, "group": "person"},
    "LAB//HDL": {"name": {"en": "HDL cholesterol", "zh": "高密度脂蛋白胆固醇"}, "unit": "mmol/L", "group": "lipids",
                 "range": {"female": {"low": 1.3, "high": None}, "male": {"low": 1.0, "high": None}},
                 "direction": {"en": ["low", "high"], "zh": ["偏低", "偏高"]}},
    "LAB//LDL": {"name": {"en": "LDL cholesterol", "zh": "低密度脂蛋白胆固醇"}, "unit": "mmol/L", "group": "lipids",
                 "range": {"low": None, "high": 3.4}, "direction": {"en": ["low", "high"], "zh": ["偏低", "偏高"]}},
    "VITAL//SBP": {"name": {"en": "Systolic pressure", "zh": "收缩压"}, "unit": "mmHg", "group": "blood_pressure",
                   "range": {"low": 90, "high": 140}, "direction": {"en": ["low", "high"], "zh": ["偏低", "偏高"]}},
    "SMOKING_STATUS": {"name": {"en": "Smoking", "zh": "吸烟"}, "unit": None, "group": "smoking", "modifiable": True,
                       "values": {"current": {"en": "smokes now", "zh": "目前吸烟"},
                                  "former": {"en": "has stopped", "zh": "已戒烟"}}},
}  # fmt: skip
"""As WORDS of a bundle's card are, for some codes: the others have none, as a site's own may have."""


def _figure(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def _evaluated(years: float, n: int, events: int, share: float, **whose: Any) -> dict[str, Any]:
    figures = {
        "observed": _figure(share, share * 0.8, share * 1.2),
        "expected": {"value": share * 1.05, "low": None, "high": None},
        "uno_c": _figure(0.78, 0.74, 0.82),
    }
    return {"horizon_years": years, "n": n, "events": events, "figures": figures} | whose


CARD = {
    "name": "hospital",
    "created_at": "2026-11-01T09:30:00+00:00",
    "outcomes": {"cancer": "Cancer", "cardiovascular": "Cardiovascular disease", "mental_health": "Mental illness"},
    "targets": [["cancer", 10.0]],
    "trained_on": {"site": "hospital", "subjects": 14000, "outcomes": {"cancer": {"events": 520, "rows": 14000}}},
    "method": "Cause-specific piecewise exponential rates.",
    "intended_use": "To inform people who know the patient. It does not diagnose.",
    "limits": ["Risks are associations, not causes.", "A missing modality counts as an absent term."],
    "words": WORDS,
    "groups": {"person": {"en": "The person", "zh": "个人情况"}, "lipids": {"en": "Blood fats", "zh": "血脂"}},
    "outcome_words": {name: {"en": en, "zh": zh} for name, en, zh in (
        ("cancer", "Cancer", "癌症"), ("cardiovascular", "Cardiovascular disease", "心血管疾病"),
        ("mental_health", "Mental illness", "精神疾病"))},
    "unit_displays": {"/min": {"en": "a minute", "zh": "次/分"}},
    "evaluation": {
        "evaluated_at": "2026-11-02T08:00:00+00:00", "site": "hospital", "split": "held_out", "rows": 3000,
        "outcomes": {
            name: {
                "horizons": [_evaluated(years, 3000, 40, share * years / 10) for years in HORIZONS],
                "subgroups": [
                    _evaluated(10.0, 700, 30, share * 0.6, subgroup="age under 60", age_from=None, age_below=60),
                    _evaluated(10.0, 900, 60, share * 1.4, subgroup="age 60 or over", age_from=60, age_below=None),
                    _evaluated(10.0, 1500, 70, share * 0.9, subgroup="sex female", sex="female"),
                    _evaluated(10.0, 1500, 80, share * 1.1, subgroup="sex male", sex="male"),
                ],
            }
            for name, share in OUTCOMES.items()
        },
    },
}  # fmt: skip


def write_scores(path: Path, subjects: int = 24, explained: int = 12, seed: int = 7) -> Path:
    """Write the file; the same arguments give the same rows."""
    chance = random.Random(seed)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in tables("scores")}
    rows["secrets"].append({"name": "pseudonym_salt", "secret": b"s" * 32})
    people = [_person(910000 + number, chance) for number in range(subjects)]
    for night, (run_id, as_of) in enumerate(RUNS):
        for number, person in enumerate(people):
            _score(rows, run_id, as_of, person, night, number < explained and night == 1, chance)
        _ledger(rows, run_id, as_of)
    with duckdb.connect(str(path)) as connection:
        for name in tables("scores"):
            schema = table_schema("scores", name)
            connection.execute(schema.ddl())
            table = pa.Table.from_pylist(rows[name], schema=schema.arrow())
            connection.register("new_rows", table)
            connection.execute(f'INSERT INTO "{name}" SELECT * FROM new_rows')
            connection.unregister("new_rows")
    return path


def _person(subject_id: int, chance: random.Random) -> dict[str, Any]:
    return {
        "subject_id": subject_id,
        "pseudonym": hashlib.sha256(str(subject_id).encode()).hexdigest()[:12],
        "age": chance.uniform(38, 84),
        "sex": chance.choice("MF"),
        "has": {"tabular": True, "series": chance.random() < 0.8, "image": chance.random() < 0.6},
        "push": {name: chance.gauss(0, 0.7) for name in OUTCOMES},
        "prevalent": "cardiovascular" if chance.random() < 0.12 else None,
        "seen": chance.random() < 0.2,
    }


def _score(
    rows: dict[str, list[dict[str, Any]]],
    run_id: str,
    as_of: datetime,
    person: dict[str, Any],
    night: int,
    explained: bool,
    chance: random.Random,
) -> None:
    subject = {"run_id": run_id, "subject_id": person["subject_id"]}
    rows["pseudonyms"].append(subject | {"pseudonym": person["pseudonym"]})
    for outcome, usual in OUTCOMES.items():
        prevalent = outcome == person["prevalent"]
        rows["eligibility"].append(
            subject
            | {
                "outcome": outcome,
                "status": "out_of_scope" if prevalent else "scored",
                "reason": "prevalent" if prevalent else None,
                "prediction_time": as_of,
                "subject_digest": "0" * 32,
                "valid_until": as_of + timedelta(days=90),
            }
        )
        if prevalent:
            continue
        push = person["push"][outcome] + 0.05 * (person["age"] - 60) / 2 + 0.02 * night * chance.gauss(0, 1)
        shares = [0.55 * push, 0.4 * push if person["has"]["series"] else 0.0, 0.05 * push + 0.02]
        if not person["has"]["image"]:
            shares[2] = 0.0
        for years in HORIZONS:
            usual_here = 1 - (1 - usual) ** (years / 10)
            risk = _shifted(usual_here, sum(shares))
            spread = 0.12 + 0.1 * (not person["has"]["series"])
            rows["risk_scores"].append(
                subject
                | {
                    "outcome": outcome,
                    "horizon_years": years,
                    "prediction_time": as_of,
                    "risk": risk,
                    "risk_low": _shifted(risk, -spread),
                    "risk_high": _shifted(risk, spread),
                    "reference_risk": usual_here,
                    "reference_group": _reference_group(person),
                    "percentile": min(0.999, max(0.0, 0.5 + 0.28 * push)),
                    "scored_at": as_of + timedelta(hours=3),
                    "carried": False,
                    "scope_flags": ["seen_in_training"] if person["seen"] else [],
                }
            )
            _explain(rows, subject, outcome, years, shares, 100 * (risk - usual_here), explained, person, as_of, chance)
    _receipts(rows, subject, person, as_of)
    if explained:
        _evidence(rows, subject, person, as_of, chance)
        _what_if(rows, subject)


def _reference_group(person: dict[str, Any]) -> str:
    low = 10 * int(person["age"] // 10)
    return f"{'women' if person['sex'] == 'F' else 'men'} aged {low} to {low + 9}"


def _what_if(rows: dict[str, list[dict[str, Any]]], subject: dict[str, Any]) -> None:
    """A missing value that would matter and two ways to a lower risk, for every outcome's longest horizon."""
    longest = max(HORIZONS)
    for row in [
        row for row in rows["risk_scores"] if row["horizon_years"] == longest and subject.items() <= row.items()
    ]:
        key = {name: row[name] for name in ("run_id", "subject_id", "outcome", "horizon_years")}
        rows["missing_impact"].append(
            key
            | {"modality": "tabular", "feature": "LAB//LDL:last:1825d", "unit": "mmol/L", "low_value": 1.9}
            | {"high_value": 4.6, "risk_low": _shifted(row["risk"], -0.2), "risk_high": _shifted(row["risk"], 0.3)}
            | {"rank": 1}
        )
        blank = {"value": None, "text_value": None, "to_value": None, "to_text_value": None, "unit": None}
        pressure = {"feature": "VITAL//SBP:last:1825d", "unit": "mmHg", "value": 162.0, "to_value": 128.0}
        smoking = {"feature": "SMOKING_STATUS:last", "text_value": "current", "to_text_value": "former"}
        for scenario, steps in ((1, [pressure]), (2, [pressure, smoking])):
            for step, change in enumerate(steps, start=1):
                rows["changes"].append(
                    key
                    | blank
                    | {"threshold": row["reference_risk"], "scenario": scenario, "step": step}
                    | change
                    | {"risk": _shifted(row["risk"], -0.3 * step)}
                )


def _shifted(risk: float, by: float) -> float:
    return 1 - math.exp(-math.exp(math.log(-math.log(1 - risk)) + by))


def _explain(
    rows: dict[str, list[dict[str, Any]]],
    subject: dict[str, Any],
    outcome: str,
    years: float,
    shares: list[float],
    points: float,
    explained: bool,
    person: dict[str, Any],
    as_of: datetime,
    chance: random.Random,
) -> None:
    key = subject | {"outcome": outcome, "horizon_years": years}
    whole = sum(shares) or 1.0
    phi = {name: points * share / whole for name, share in zip(person["has"], shares, strict=True)}
    for rank, (modality, contribution) in enumerate(sorted(phi.items(), key=lambda item: -abs(item[1])), start=1):
        rows["explanations"].append(
            key
            | {
                "level": "modality",
                "modality": modality,
                "feature": "",
                "value": None,
                "text_value": None,
                "unit": None,
                "time": None,
                "contribution": contribution,
                "rank": rank,
                "remainder": False,
            }
        )
    if not explained:
        return
    told: dict[str, float] = {}
    for modality, facts in _facts(person, as_of, chance).items():
        if not person["has"][modality]:
            continue
        weights = [chance.gauss(1.0, 1.3) for _ in facts]
        norm = max(abs(sum(weights)), 2.0) / 0.9
        parts = [phi[modality] * weight / norm for weight in weights]
        small = {"(presence)": 0.06 * phi[modality], "(other)": 0.03 * phi[modality]}
        small["(unexplained)"] = phi[modality] - sum(parts) - sum(small.values())
        told[modality] = sum(parts) + (small["(other)"] if modality == "series" else 0.0)
        named = [(*fact, part, False) for fact, part in zip(facts, parts, strict=True)]
        named += [(name, None, None, None, part, name != "(presence)") for name, part in small.items()]
        named.sort(key=lambda fact: -abs(fact[4]))
        for rank, (feature, value, unit, time, contribution, remainder) in enumerate(named, start=1):
            rows["explanations"].append(
                key
                | {
                    "level": "feature",
                    "modality": modality,
                    "feature": feature,
                    "unit": unit,
                    "value": value if isinstance(value, float) else None,
                    "text_value": value if isinstance(value, str) else None,
                    "time": time,
                    "contribution": contribution,
                    "rank": rank,
                    "remainder": remainder,
                }
            )
    _explain_parts(rows, key, told, person, as_of)


def _explain_parts(
    rows: dict[str, list[dict[str, Any]]],
    key: dict[str, Any],
    told: dict[str, float],
    person: dict[str, Any],
    as_of: datetime,
) -> None:
    """Moments of the systolic pressure and regions of the image, each with a row for the rest.

    told: what they sum to: the feature rows of the series but (presence) and (unexplained), the row `image`.
    """
    blank = {"value": None, "text_value": None, "unit": None, "time": None, "remainder": False}
    parts: list[dict[str, Any]] = []
    if person["has"]["series"]:
        for day, value, share in ((20, 162.0, 0.5), (90, 158.0, 0.2), (400, 128.0, -0.1)):
            when = {"time": as_of - timedelta(days=day), "value": value, "unit": "mmHg"}
            moment = {"level": "moment", "modality": "series", "feature": "VITAL//SBP"}
            parts.append(blank | when | moment | {"contribution": share * told["series"]})
        rest = {"level": "moment", "modality": "series", "feature": "(other)", "remainder": True}
        parts.append(blank | rest | {"contribution": 0.4 * told["series"]})
    if person["has"]["image"]:
        for feature, share in (("region 1", 0.7), ("region 2", -0.2), ("(other)", 0.45), ("(unexplained)", 0.05)):
            region = {"level": "region", "modality": "image", "feature": feature, "remainder": feature.startswith("(")}
            parts.append(blank | region | {"contribution": share * told["image"]})
    parts.sort(key=lambda part: (part["level"], -abs(part["contribution"])))
    for rank, part in enumerate(parts, start=1):
        rows["explanations"].append(key | part | {"rank": rank})


def _facts(
    person: dict[str, Any], as_of: datetime, chance: random.Random
) -> dict[str, list[tuple[str, float | str | None, str | None, datetime | None]]]:
    facts: dict[str, list[tuple[str, float | str | None, str | None, datetime | None]]] = {
        "tabular": [
            ("age_years", round(person["age"], 2), "years", as_of),
            ("GENDER//*:last", person["sex"], None, None),
            ("DIAGNOSIS//DIABETES:ever:3650d", 1.0, None, as_of - timedelta(days=411)),
            ("SMOKING_STATUS:last", None, None, None),
        ],
        "series": [],
        "image": [("image", f"IMG{person['subject_id']}", None, as_of - timedelta(days=29))],
    }
    for code, (unit, usual) in LABS.items():
        when = as_of - timedelta(days=chance.randrange(5, 300))
        facts["tabular"].append((f"{code}:last:1825d", round(usual * chance.uniform(0.7, 1.4), 2), unit, when))
        facts["tabular"].append((f"{code}:mean:1825d", round(usual * chance.uniform(0.8, 1.3), 3), unit, when))
    for code, (unit, usual) in (LABS | VITALS).items():
        when = as_of - timedelta(days=chance.randrange(1, 60))
        facts["series"].append((code, round(usual * chance.uniform(0.7, 1.4), 1), unit, when))
    return facts


def _receipts(
    rows: dict[str, list[dict[str, Any]]], subject: dict[str, Any], person: dict[str, Any], as_of: datetime
) -> None:
    days = {
        name: usual * (0.4 + person["age"] % 3) for name, usual in (("tabular", 12), ("series", 3.5), ("image", 29))
    }
    for modality, there in person["has"].items():
        missing = {"tabular": ["SMOKING_STATUS:last"], "series": [], "image": []} if there else {modality: [modality]}
        rows["input_receipts"].append(
            subject
            | {
                "modality": modality,
                "status": "used" if there else "missing",
                "n": {"tabular": 31, "series": 118, "image": 1}[modality] if there else 0,
                "latest_time": as_of - timedelta(days=days[modality]) if there else None,
                "age_days": days[modality] if there else None,
                "missing_features": missing[modality],
                "input_hash": "0" * 32,
            }
        )


def _evidence(
    rows: dict[str, list[dict[str, Any]]],
    subject: dict[str, Any],
    person: dict[str, Any],
    as_of: datetime,
    chance: random.Random,
) -> None:
    blank = subject | {"time": None, "value": None, "unit": None, "picture": None, "outline": None, "note": None}
    if person["has"]["series"]:
        for code, (unit, usual) in (LABS | VITALS).items():
            level = usual * chance.uniform(0.85, 1.2)
            for day in sorted(chance.sample(range(1, 700), 14), reverse=True):
                level += usual * chance.gauss(0, 0.04)
                when = as_of - timedelta(days=day)
                rows["evidence"].append(
                    blank | {"kind": "series", "name": code, "time": when, "value": round(level, 2), "unit": unit}
                )
    if person["has"]["series"]:  # the moments that `_explain_parts` names are values of the series
        for day, level in ((20, 162.0), (90, 158.0), (400, 128.0)):
            moment = {"kind": "series", "name": "VITAL//SBP", "time": as_of - timedelta(days=day), "value": level}
            rows["evidence"].append(blank | moment | {"unit": "mmHg"})
    if person["has"]["image"]:
        rows["evidence"].append(
            blank
            | {
                "kind": "image",
                "name": f"IMG{subject['subject_id']}",
                "time": as_of - timedelta(days=29),
                "picture": chest_picture(),
                "outline": json.dumps([_region(1, 30, 66), _region(2, 70, 20)]),
                "note": json.dumps(_picture_note(spaced=person["subject_id"] % 2 == 0)),
            }
        )
    _equation(rows, blank, person)


def _region(number: int, row: float, col: float) -> dict[str, Any]:
    polygon = [[row + 9 * math.sin(turn / 2), col + 11 * math.cos(turn / 2)] for turn in range(13)]
    return {"region": f"region {number}", "polygon": polygon}


def _picture_note(spaced: bool) -> dict[str, Any]:
    """What a night notes of a picture, with or without a known size of its pixels."""
    regions = [
        {"region": "region 1", "row": 30, "col": 66, "area_px": 310, "longest_diameter_px": 22},
        {"region": "region 2", "row": 70, "col": 20, "area_px": 310, "longest_diameter_px": 22},
    ]
    for one in regions:
        places = {"x_mm": 2.5 * one["col"], "y_mm": 2.5 * one["row"], "area_mm2": 1937.5, "longest_diameter_mm": 55.0}
        one |= places if spaced else dict.fromkeys(places)
    return {"height_px": 96, "width_px": 96, "spacing_mm": [2.5, 2.5] if spaced else None, "regions": regions}


def _equation(rows: dict[str, list[dict[str, Any]]], blank: dict[str, Any], person: dict[str, Any]) -> None:
    """A published equation beside the cardiovascular risk: computed for men, an input missing for women."""
    computed = person["sex"] == "M"
    note = {
        "equation": "PREVENT total CVD, 10 years",
        "outcome": "cardiovascular",
        "horizon_years": 10.0,
        "source": "Khan et al. 2024, Circulation 149:430",
        "applies": True,
        "inputs": {"VITAL//SBP": {"value": 162.0, "unit": "mmHg", "time": "2026-11-01T00:00:00Z"}},
        "problems": [] if computed else ["total cholesterol is missing"],
    }
    row = {"kind": "guideline", "name": note["equation"], "value": 0.118 if computed else None, "unit": "probability"}
    rows["evidence"].append(blank | row | {"note": json.dumps(note)})


def chest_picture() -> bytes:
    """A drawing that stands for a chest image: two dark fields and a bright spot."""
    image = Image.new("L", (96, 96), 120)
    draw = ImageDraw.Draw(image)
    draw.ellipse((10, 14, 44, 84), fill=40)
    draw.ellipse((52, 14, 86, 84), fill=40)
    draw.ellipse((58, 22, 74, 38), fill=190)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _ledger(rows: dict[str, list[dict[str, Any]]], run_id: str, as_of: datetime) -> None:
    pairs = [row for row in rows["eligibility"] if row["run_id"] == run_id]
    scored = sum(row["status"] == "scored" for row in pairs)
    rows["runs"].append(
        {
            "run_id": run_id,
            "as_of": as_of,
            "started_at": as_of + timedelta(hours=2, minutes=50),
            "finished_at": as_of + timedelta(hours=3, minutes=5),
            "status": "published",
            "numeric_path": "fp32",
            "bundle_name": "hospital",
            "bundle_version": "1",
            "bundle_sha256": hashlib.sha256(b"bundle").hexdigest(),
            "promotion": "passed 2026-11-02 at hospital, held_out",
            "code_version": "0.1.0",
            "schema_version": "0" * 12,
            "warehouse_digest": "0" * 32,
            "subjects": len({row["subject_id"] for row in pairs}),
            "considered_pairs": len(pairs),
            "eligible_pairs": scored,
            "scored_pairs": scored,
            "carried_pairs": 0,
            "rejected_pairs": 0,
            "out_of_scope_pairs": len(pairs) - scored,
            "risk_rows": sum(row["run_id"] == run_id for row in rows["risk_scores"]),
            "content_digest": "0" * 32,
            "forgotten": 0,
            "model_card": json.dumps(CARD),
        }
    )
