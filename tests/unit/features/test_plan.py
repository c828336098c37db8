"""The plan: columns from features.yaml, categories of training subjects, units; and whether a warehouse fits it."""

import json
from pathlib import Path

import numpy as np
import pytest

from riskpred.config.features import FeaturesConfig
from riskpred.config.model import parse
from riskpred.errors import BundleError, ConfigError, InputError
from riskpred.features.fits import check_fits
from riskpred.features.learn import NEVER_SEEN, learn_plan
from riskpred.features.plan import FeatureColumn, FeaturePlan, ImagePlan, SeriesChannel
from riskpred.records.chunk import STATIC, SubjectChunk


class Records:
    """As much of a Warehouse as learn_plan and check_fits read: subject -> [(code, value, text)]."""

    path = Path("w.duckdb")

    def __init__(self, subjects, units=None):
        self.subjects = subjects
        events = [event for found in subjects.values() for event in found]
        self.codes = tuple(sorted({code for code, _, _ in events}))
        self.code_counts = {code: sum(event[0] == code for event in events) for code in self.codes}
        self.code_units = {
            code: (units or {}).get(code, (None,) if any(e[0] == code and e[1] is not None for e in events) else ())
            for code in self.codes
        }

    def chunks(self, size=2048, subjects=None):
        for subject in sorted(self.subjects if subjects is None else subjects.tolist()):
            events = self.subjects[subject]
            texts = tuple(sorted({text for _, _, text in events if text is not None}))
            yield SubjectChunk(
                subject_id=np.array([subject]),
                start=np.array([0, len(events)]),
                time=np.full(len(events), STATIC),
                code=np.array([self.codes.index(code) for code, _, _ in events], dtype=np.int32),
                numeric_value=np.array([np.nan if value is None else value for _, value, _ in events]),
                text=np.array([-1 if text is None else texts.index(text) for _, _, text in events], dtype=np.int32),
                codes=self.codes,
                texts=texts,
                units=(None,) * len(self.codes),
                images=((),),
            )


def tabular(*features):
    return parse(FeaturesConfig, {"modalities": {"tabular": {"kind": "tabular", "features": list(features)}}}, "f.yaml")


def learn(config, records, train=None):
    return learn_plan(config, records, np.array(sorted(records.subjects) if train is None else train))


HOSPITAL = Records(
    {
        1: [("GENDER//F", None, None), ("HDL", 50.0, None), ("SMOKING", None, "never")],
        2: [("GENDER//M", None, None), ("HDL", 40.0, None), ("SMOKING", None, "daily"), ("SMOKING", None, "")],
        3: [("GENDER//X", None, None), ("HR", 70.0, None), ("SMOKING", None, "pipe")],
    },
    {"HDL": ("mg/dL",), "HR": ("/min",)},
)


def test_blocks_become_columns():
    config = tabular(
        {"builtin": "age_years"},
        {"codes": ["HDL"], "aggregates": ["last", "slope", "count"], "windows_days": [None, 365], "display": "HDL-C"},
        {"codes": ["GENDER//*", "SMOKING"], "category": True},
    )
    columns = learn(config, HOSPITAL, [1, 2]).modalities["tabular"].columns
    assert [(c.name, c.unit, c.display, c.vocabulary) for c in columns] == [
        ("age_years", "years", "Age", ()),
        ("HDL:last", "mg/dL", "HDL-C", ()),
        ("HDL:last:365d", "mg/dL", "HDL-C (365 days)", ()),
        ("HDL:slope", "mg/dL per year", "HDL-C (slope)", ()),
        ("HDL:slope:365d", "mg/dL per year", "HDL-C (slope, 365 days)", ()),
        ("HDL:count", "events", "HDL-C (count)", ()),
        ("HDL:count:365d", "events", "HDL-C (count, 365 days)", ()),
        ("GENDER//*:last", None, "GENDER", ("F", "M")),
        ("SMOKING:last", None, "SMOKING", ("daily", "never")),
    ]


def test_series_and_images_keep_their_settings_and_json_gives_the_plan_back():
    config = parse(
        FeaturesConfig,
        {
            "modalities": {
                "vitals": {"kind": "series", "codes": ["HR", "HDL"], "max_steps": 8, "stale_after_days": 30},
                "film": {"kind": "image", "image_types": ["DX", "CR"], "window_days": 90, "size": 32},
                "tabular": {"kind": "tabular", "features": [{"codes": ["SMOKING"], "category": True}]},
            }
        },
        "f.yaml",
    )
    plan = learn(config, HOSPITAL)
    assert list(plan.modalities) == ["vitals", "film", "tabular"]
    assert plan.modalities["vitals"].channels == (
        SeriesChannel("HR", "/min", "HR"),
        SeriesChannel("HDL", "mg/dL", "HDL"),
    )
    assert plan.modalities["film"] == ImagePlan(("DX", "CR"), 90, None, 32)
    assert plan.units == (("HDL", "mg/dL"), ("HR", "/min"))
    assert FeaturePlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize("data", [{}, {"modalities": [{"name": "x", "kind": "sound"}], "units": []}])
def test_a_plan_that_cannot_be_read_is_a_bundle_error(data):
    with pytest.raises(BundleError, match="feature plan is not readable"):
        FeaturePlan.from_json(data)


def test_a_category_that_no_training_subject_has_stays_as_a_missing_column():
    columns = learn(tabular({"codes": ["ALCOHOL"], "category": True}), HOSPITAL).modalities["tabular"].columns
    assert columns[0] == FeatureColumn("ALCOHOL:last", "ALCOHOL", "last", None, None, "ALCOHOL", False, NEVER_SEEN)


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([{"codes": ["HDL"]}, {"codes": ["HDL"]}], "features that stand twice: HDL:last"),
        ([{"codes": ["SMOKING"], "aggregates": ["mean"], "category": True}], "mean of a category"),
    ],
)
def test_senseless_features_are_refused(blocks, text):
    with pytest.raises(ConfigError, match=text):
        learn(tabular(*blocks), HOSPITAL)


def test_free_text_is_no_category():
    records = Records({s: [("NOTE", None, f"text {s}")] for s in range(101)})
    with pytest.raises(ConfigError, match="more than 100 different texts") as caught:
        learn(tabular({"codes": ["NOTE"], "category": True}), records)
    assert "text 5" not in caught.value.message


def test_values_in_two_units_are_refused_but_may_be_counted():
    records = Records({1: [("HDL", 50.0, None)]}, {"HDL": ("mg/dL", "mmol/L")})
    with pytest.raises(InputError, match="HDL is recorded in 2 units") as caught:
        learn(tabular({"codes": ["HDL"]}), records)
    assert caught.value.exit_code == 11
    assert "mg/dL, mmol/L" in caught.value.message
    assert learn(tabular({"codes": ["HDL"], "aggregates": ["count", "ever"]}), records).units == ()


def test_a_required_code_that_never_occurs_is_refused():
    config = tabular({"codes": ["HDL", "LDL"], "required": True}, {"builtin": "age_years", "required": True})
    with pytest.raises(BundleError, match="2 required codes never recorded: LDL, MEDS_BIRTH") as caught:
        learn(config, HOSPITAL)
    assert caught.value.exit_code == 12
    assert learn(tabular({"codes": ["GENDER//*"], "required": True}), HOSPITAL)


@pytest.mark.parametrize(
    ("units", "got"),
    [
        ({"HDL": ("mmol/L",)}, "HDL: mmol/L (trained on mg/dL)"),
        ({"HDL": (None,)}, "HDL: no unit (trained on mg/dL)"),
        ({"HDL": ("mg/dL", "mmol/L")}, "HDL: mg/dL and mmol/L (trained on mg/dL)"),
    ],
)
def test_another_unit_does_not_fit(units, got):
    plan = learn(tabular({"codes": ["HDL"]}, {"codes": ["HR"], "aggregates": ["count"]}), HOSPITAL)
    check_fits(plan, HOSPITAL)
    here = Records(HOSPITAL.subjects, {**units, "HR": ("Hz",)})  # HR is only counted: any unit will do
    with pytest.raises(BundleError, match="unit of 1 code not the one") as caught:
        check_fits(plan, here)
    assert got in caught.value.message
    assert "convert at the source, or give events a `unit` column" in caught.value.message


def test_an_optional_code_may_be_absent_and_a_prefix_may_bring_new_codes_in_the_same_unit():
    plan = learn(tabular({"codes": ["HDL"]}, {"codes": ["H*"], "aggregates": ["count", "ever"]}), HOSPITAL)
    check_fits(plan, Records({1: [("LDL", 3.0, None)]}))
    plan = learn(tabular({"codes": ["HD*"]}), HOSPITAL)
    check_fits(plan, Records({1: [("HDL2", 3.0, None)]}, {"HDL2": ("mg/dL",)}))
    with pytest.raises(BundleError, match="HDL2: mmol/L"):
        check_fits(plan, Records({1: [("HDL2", 3.0, None)]}, {"HDL2": ("mmol/L",)}))
