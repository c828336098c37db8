"""Configuration is strict: every mistake is refused with the file, the key and what to do."""

from pathlib import Path

import pytest

from riskpred.config.features import FeaturesConfig
from riskpred.config.files import read_yaml, shipped
from riskpred.config.model import load, parse
from riskpred.config.network import NetworkConfig
from riskpred.config.outcomes import DEATH, OutcomesConfig
from riskpred.config.study import code_matches, load_about, load_ingest, load_model_config, packaged_studies
from riskpred.errors import ConfigError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 2: the key 'a' stands twice"):
        read_yaml(write(tmp_path, "x.yaml", "a: 1\na: 2\n"))


def test_codes_keep_their_spelling(tmp_path: Path) -> None:
    read = read_yaml(write(tmp_path, "x.yaml", "[no, on, 012, 1_0, yes, true, 12, -3, 1.5]"))
    assert read == ["no", "on", "012", "1_0", "yes", True, 12, -3, 1.5]


def test_broken_yaml_says_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        read_yaml(write(tmp_path, "x.yaml", "a: [1\nb: 2\n"))


def test_unknown_key_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(NetworkConfig, write(tmp_path, "network.yaml", "membres: 5\n"))
    assert caught.value.exit_code == 10
    assert "membres" in caught.value.message
    assert "members" in (caught.value.wanted or "")


def test_a_number_written_as_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.learning_rate"):
        load(NetworkConfig, write(tmp_path, "network.yaml", "training: {learning_rate: 1e-3}\n"))


OUTCOMES = {
    "prediction_times": {"days_after_entry": [0]},
    "horizons_years": [1, 5],
    "outcomes": {
        "heart": {"display": "h", "rule": {"codes": ["H"]}, "competing_set": "cause"},
        "mind": {"display": "m", "rule": {"codes": ["M"]}, "known_at_once": True},
        "cancer": {"display": "c", "rule": {"codes": ["C"]}, "competing_set": "cause"},
    },
}


def test_groups_follow_competing_sets() -> None:
    groups = parse(OutcomesConfig, OUTCOMES, "outcomes.yaml").groups
    assert [(g.name, g.causes, g.horizons_years) for g in groups] == [
        ("cause", ("heart", "cancer", DEATH), (1.0, 5.0)),
        ("mind", ("mind",), (0.0,)),
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"horizons_years": [5, 1]}, "rising"),
        ({"horizons_years": []}, "horizons_years is needed"),
        ({"prediction_times": {"days_after_entry": [0], "every_days": 3}}, "exactly one"),
        ({"prediction_times": {"days_after_entry": [-1]}}, "0 or more"),
        ({"outcomes": {"death": {"display": "d", "rule": {"codes": ["D"]}}}}, "call the outcome otherwise"),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(OutcomesConfig, {**OUTCOMES, **change}, "outcomes.yaml")


def study(folder: Path, label: str, feature: str) -> Path:
    write(
        folder, "outcomes.yaml",
        "prediction_times: {days_after_entry: [0]}\n"
        f"outcomes: {{x: {{display: x, known_at_once: true, rule: {{codes: ['{label}']}}}}}}\n",
    )  # fmt: skip
    write(
        folder, "features.yaml",
        f"modalities: {{tabular: {{kind: tabular, features: [{{codes: ['{feature}']}}]}}}}\n",
    )  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("label", "feature"), [("SCORE//PHQ9", "SCORE//PHQ9"), ("SCORE//*", "SCORE//PHQ9"), ("SCORE//PHQ9", "SCORE//*")]
)
def test_a_label_known_at_once_is_never_a_feature(tmp_path: Path, label: str, feature: str) -> None:
    with pytest.raises(ConfigError, match="would read the answer"):
        load_model_config(str(study(tmp_path, label, feature)))
    assert load_model_config(str(study(tmp_path, label, "LAB//X"))).name == tmp_path.name


def test_an_encoder_needs_a_modality_of_its_kind(tmp_path: Path) -> None:
    study(tmp_path, "Y", "X")
    write(tmp_path, "network.yaml", "encoders: {tabular: {kind: series}}\n")
    with pytest.raises(ConfigError, match=r"tabular \(tabular\)"):
        load_model_config(str(tmp_path))


def test_an_unknown_study_names_the_packaged_ones() -> None:
    with pytest.raises(ConfigError, match="nafld"):
        load_model_config("nowhere")


@pytest.mark.parametrize("name", packaged_studies())
def test_packaged_studies_load(name: str) -> None:
    assert load_ingest(name).study == name
    assert load_model_config(name).name == name
    assert load_about(name).source


def test_prefix_codes_match() -> None:
    assert code_matches("GENDER//F", ("GENDER//*",))
    assert not code_matches("GENDER", ("GENDER//*", "GENDER//F"))


def test_feature_blocks_are_checked() -> None:
    with pytest.raises(ConfigError, match="exactly one of builtin, codes"):
        parse(FeaturesConfig, {"modalities": {"t": {"kind": "tabular", "features": [{}]}}}, "features.yaml")


def test_shipped_folders_are_found() -> None:
    assert (shipped("schemas") / "warehouse" / "events.yaml").is_file()
