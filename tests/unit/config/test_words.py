"""Words: both languages for every code of every packaged study, and an error for what stands twice or is unknown."""

import shutil
from pathlib import Path

import pytest

from riskpred.config.study import load_model_config, packaged_studies, study_folder
from riskpred.config.words import Usual, without_words
from riskpred.errors import ConfigError


@pytest.mark.parametrize("study", packaged_studies())
def test_every_code_of_a_packaged_study_has_both_languages(study: str) -> None:
    config = load_model_config(study)
    assert without_words(config.features, config.words) == ()
    for code, words in config.words.codes.items():
        assert words.name.en.strip(), code
        assert any("\u4e00" <= letter <= "\u9fff" for letter in words.name.zh), f"{code} has no Chinese name"
        assert words.group in config.words.groups, code
    for name, outcome in config.outcomes.outcomes.items():
        said = config.words.outcomes[name]
        assert said.en == outcome.display
        assert any("\u4e00" <= letter <= "\u9fff" for letter in said.zh), f"{name} has no Chinese name"


def test_what_nobody_can_change_is_never_modifiable() -> None:
    for study in packaged_studies():
        codes = load_model_config(study).words.codes
        modifiable = {code for code, words in codes.items() if words.improve is not None}
        never = [
            c for c in codes if c.startswith(("GENDER", "DX//", "HISTORY//", "GENE//", "OMICS//", "age_", "TUMOUR"))
        ]
        assert modifiable.isdisjoint(never), study


def test_a_code_is_found_by_itself_before_its_longest_prefix() -> None:
    codes = load_model_config("nhanes_mortality").words.codes
    assert codes["ACTIVITY//TLAC//03"].name.en == "Activity, 4 to 6 o'clock"
    assert codes["ACTIVITY//TLAC//*"].name.en == "Activity over the day"
    assert load_model_config("hospital").words.codes["DX//diabetes//*"].name.zh == "糖尿病"


@pytest.fixture
def own_study(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    shutil.copytree(study_folder("hospital"), folder)
    return folder


def test_a_study_replaces_a_concept_and_names_its_own_codes(own_study: Path) -> None:
    features = own_study / "features.yaml"
    features.write_text(features.read_text().replace("LAB//CRP]", "LAB//CRP, MINE//X]"))
    config = load_model_config(str(own_study))
    assert without_words(config.features, config.words) == ("MINE//X",)
    (own_study / "words.yaml").write_text(
        "concepts:\n"
        "  x: {codes: [MINE//*], name: {en: Mine, zh: 我的}, group: own}\n"
        "  crp: {codes: [LAB//CRP], name: {en: CRP, zh: CRP}, units: {mg/L: {range: {high: 3}}}}\n"
        "groups:\n  own: {en: Own, zh: 自有}\n"
        "phrases:\n  - {en: Cancer, zh: 恶性肿瘤}\n"
    )
    words = load_model_config(str(own_study)).words
    assert (words.codes["MINE//X"].name.en, words.groups["own"].zh) == ("Mine", "自有")
    assert words.codes["LAB//CRP"].units["mg/L"].range == Usual(high=3)
    assert words.outcomes["cancer"].zh == "恶性肿瘤"
    assert load_model_config("hospital").words.codes["LAB//CRP"].name.en == "C-reactive protein"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("concepts:\n  a: {codes: [X], name: {en: a, zh: 甲}, unit: mmHg}\n", "unit"),
        ("concepts:\n  a: {codes: [X], name: {en: a}}\n", "zh"),
        ("concepts:\n  a: {codes: [X, X], name: {en: a, zh: 甲}}\n", "X is claimed twice"),
        (
            "concepts:\n  a: {codes: [X], name: {en: a, zh: 甲}}\n  b: {codes: [X], name: {en: b, zh: 乙}}\n",
            "X is claimed twice, by a and by b",
        ),
        ("concepts:\n  a: {codes: [X], name: {en: a, zh: 甲}, group: nobody}\n", "nobody"),
        (
            "concepts:\n  a: {codes: [X], name: {en: a, zh: 甲}, units: {m: {range: {low: 2, high: 1}}}}\n",
            "low must be",
        ),
    ],
)
def test_wrong_words_are_a_config_error(own_study: Path, text: str, said: str) -> None:
    (own_study / "words.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_model_config(str(own_study))
    assert said in f"{caught.value.message} {caught.value.got}"
    assert caught.value.exit_code == 10
