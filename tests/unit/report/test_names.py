import pytest

from riskpred.config.files import read_yaml, shipped
from riskpred.report.language import language
from riskpred.report.names import Names, feature_code
from riskpred.report.words import Words

names = Names(Words(language("en")))


@pytest.mark.parametrize(
    ("feature", "shown"),
    [
        ("LAB//HDL:last:1825d", "HDL cholesterol, latest"),
        ("LAB//HDL:mean:1825d", "HDL cholesterol, mean in 5 years"),
        ("LAB//HDL:slope", "HDL cholesterol, change a year"),
        ("LAB//HDL", "HDL cholesterol over time"),
        ("VITAL//SBP:max:90d", "Systolic pressure, highest in 3 months"),
        ("age_years", "Age"),
        ("GENDER//*:last", "Sex"),
        ("DIAGNOSIS//DIABETES:ever:3650d", "Diabetes, ever in 10 years"),
        ("SMOKING_STATUS:last", "Smoking status, latest"),
        ("LOINC//2093-3:last", "LOINC 2093-3, latest"),
        ("(other)", "Smaller facts"),
        ("", " over time"),
        ("//*", "//* over time"),
        (":last", ":last over time"),
    ],
)
def test_feature_names(feature: str, shown: str) -> None:
    assert names.feature(feature).replace("\u00a0", " ") == shown


@pytest.mark.parametrize(
    ("feature", "value", "text", "unit", "shown"),
    [
        ("GENDER//*:last", None, "F", None, "female"),
        ("GENDER//*:last", None, "GENDER//M", None, "male"),
        ("GENDER//*:last", None, "other", None, "other"),
        ("DX:ever", 1.0, None, None, "yes"),
        ("image", None, None, None, "see the picture"),
        ("LAB//HDL:last", None, None, "mg/dL", "missing"),
        ("DX:ever", 0.0, None, "events", "no"),
        ("SURVEY//SMOKING:last", 0.0, None, "0/1", "no"),
        ("SURVEY//SMOKING:mean", 0.5, None, "0/1", "yes in 50.0 % of entries"),
        ("LAB//HDL:slope", -0.25, None, "mmol/L per year", "−0.25 mmol/L per year"),
        ("DX:count", 1.0, None, "events", "1 event"),
        ("DX:count", 20.0, None, "events", "20 events"),
        ("LAB//HDL:last", None, None, "mmol/L", "missing"),
        ("LAB//HDL:last", 1.25, None, "mmol/L", "1.25 mmol/L"),
        ("LAB//INR", 1.0, None, None, "1"),
    ],
)
def test_facts_in_words(feature: str, value: float | None, text: str | None, unit: str | None, shown: str) -> None:
    assert names.fact(feature, value, text, unit).replace("\u00a0", " ") == shown


def test_what_has_no_words_is_shown_as_it_stands() -> None:
    assert names.reason("a new reason") == "a new reason"
    assert "a_new_flag" in names.flag("a_new_flag")
    assert names.status("odd") == "odd"
    assert names.outcome_name("mental_health") == "Mental health"


def test_code_of_a_feature() -> None:
    assert feature_code("LAB//HDL:last:1825d") == "LAB//HDL"
    assert feature_code("LAB//HDL") == "LAB//HDL"


def test_every_modality_of_a_packaged_study_has_a_name_in_chinese() -> None:
    chinese = Names(Words(language("zh")))
    files = (shipped("configs") / "studies").glob("*/features.yaml")
    modalities = {name for file in files for name in read_yaml(file)["modalities"]}
    assert {"findings", "radiomics", "omics"} <= modalities
    assert [name for name in sorted(modalities) if chinese.modality(name).isascii()] == []
