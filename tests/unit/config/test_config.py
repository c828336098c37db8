"""Configuration is strict: every mistake is refused with the file, the key and what to do."""

import json
from pathlib import Path

import pytest

from riskpred.config.features import FeaturesConfig
from riskpred.config.files import read_yaml, shipped
from riskpred.config.ingest import Splits, TimeSpec
from riskpred.config.model import load, parse
from riskpred.config.network import ImageEncoder, NetworkConfig
from riskpred.config.outcomes import DEATH, Outcome, OutcomesConfig, Rule
from riskpred.config.study import (
    ModelConfig,
    code_matches,
    load_about,
    load_ingest,
    load_model_config,
    packaged_studies,
    portable,
)
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


def named(**sets: str | None) -> dict[str, object]:
    """outcomes.yaml with these outcomes, each in its competing set."""
    rule = {"codes": ["X"]}
    outcomes = {name: {"display": name, "rule": rule, "competing_set": group} for name, group in sets.items()}
    return {**OUTCOMES, "outcomes": outcomes}


@pytest.mark.parametrize(
    "sets",
    [
        {"heart": None, "stroke": "heart", "cancer": "heart"},
        {"heart": "heart", "stroke": "heart"},
        {"heart": None, "stroke": "heart"},
        {"stroke": "heart", "heart": "other", "cancer": "heart"},
    ],
)
def test_a_competing_set_of_others_never_has_an_outcomes_name(sets: dict[str, str | None]) -> None:
    with pytest.raises(ConfigError, match="heart is the name of an outcome and of a competing set"):
        parse(OutcomesConfig, named(**sets), "outcomes.yaml")


@pytest.mark.parametrize(
    ("sets", "names"),
    [
        ({"heart": "heart", "cancer": None}, ["heart", "cancer"]),
        ({"heart": "one", "stroke": "one", "cancer": "two"}, ["one", "cancer"]),
        ({"heart": None, "stroke": "heart alone", "cancer": "heart alone"}, ["heart", "heart alone"]),
    ],
)
def test_every_group_has_a_name_of_its_own(sets: dict[str, str | None], names: list[str]) -> None:
    assert [group.name for group in parse(OutcomesConfig, named(**sets), "outcomes.yaml").groups] == names


MOOD = {"display": "m", "rule": {"codes": ["M"]}}


@pytest.mark.parametrize("given", [{"lookback_days": 30}, {"lookback_days": 0}, {"absent": "no"}])
def test_what_only_an_outcome_known_at_once_has_is_refused_elsewhere(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(given))}: only for an outcome with known_at_once"):
        parse(Outcome, MOOD | given, "outcomes.yaml")
    parse(Outcome, MOOD | given | {"known_at_once": True}, "outcomes.yaml")


def test_a_blanking_window_is_the_studys_unless_the_outcome_has_its_own() -> None:
    given = named(heart="vessels", stroke="vessels", cancer=None) | {"blanking_days": 30}
    given["outcomes"] |= {"mood": MOOD | {"known_at_once": True}}
    given["outcomes"]["cancer"]["blanking_days"] = 0
    config = parse(OutcomesConfig, given, "outcomes.yaml")
    assert [(group.name, group.blanking_days) for group in config.groups] == [
        ("vessels", 30),
        ("cancer", 0),
        ("mood", 0),
    ]
    assert {group.blanking_days for group in config.without_blanking().groups} == {0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"outcomes": {"x": MOOD | {"known_at_once": True, "blanking_days": 0}}}, "not for an outcome known at once"),
        (
            {
                "outcomes": {
                    "x": MOOD | {"competing_set": "s", "blanking_days": 9},
                    "y": MOOD | {"competing_set": "s"},
                }
            },
            "x, y share a risk set",
        ),
        ({"outcomes": {"x": MOOD}, "blanking_days": 366}, "shorter than the first horizon, 1 years"),
        ({"outcomes": {"x": MOOD}, "blanking_days": -1}, "greater than or equal to 0"),
    ],
)
def test_a_blanking_window_that_cannot_be_is_refused(given: dict[str, object], message: str) -> None:
    rest = {"prediction_times": {"days_after_entry": [0]}, "horizons_years": [1, 5]}
    with pytest.raises(ConfigError, match=message):
        parse(OutcomesConfig, rest | given, "outcomes.yaml")


def test_a_rule_that_no_value_meets_is_refused() -> None:
    with pytest.raises(ConfigError, match="no value meets both"):
        parse(Rule, {"codes": ["X"], "at_least": 10, "at_most": 9}, "outcomes.yaml")
    parse(Rule, {"codes": ["X"], "at_least": 10, "at_most": 10}, "outcomes.yaml")


@pytest.mark.parametrize("name", packaged_studies())
def test_what_is_written_of_a_configuration_reads_back(name: str) -> None:
    config = load_model_config(name)
    assert ModelConfig.model_validate_json(json.dumps(config.model_dump(mode="json"))) == config
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


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


def test_weights_are_looked_for_beside_network_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = study(tmp_path, "Y", "X")
    features = "modalities: {image: {kind: image, image_types: [CR], size: 16}}\n"
    write(folder, "features.yaml", features)
    network = "encoders: {image: {kind: image, weights: {file: own/start.safetensors, layout: riskpred}}}\n"
    write(folder, "network.yaml", network)
    elsewhere = tmp_path / "elsewhere" / "own"
    elsewhere.mkdir(parents=True)
    write(elsewhere, "start.safetensors", "")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"are not there: own/start\.safetensors") as caught:
        load_model_config(str(folder))
    assert "starts at the study's folder" in (caught.value.wanted or "")
    (folder / "own").mkdir()
    write(folder / "own", "start.safetensors", "")

    def file(config: ModelConfig) -> str:
        image = config.network.encoders["image"]
        assert isinstance(image, ImageEncoder)
        assert image.weights is not None
        return image.weights.file

    config = load_model_config(str(folder))
    assert file(config) == str(folder / "own" / "start.safetensors")
    assert file(portable(config)) == "start.safetensors"


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


@pytest.mark.parametrize(
    "given", [{"codes": []}, {"aggregates": ["last"]}, {"windows_days": [None]}, {"category": False}]
)
def test_a_builtin_feature_takes_nothing_of_codes(given: dict[str, object]) -> None:
    def features(block: dict[str, object]) -> dict[str, object]:
        return {"modalities": {"t": {"kind": "tabular", "features": [block]}}}

    with pytest.raises(ConfigError, match=f"{next(iter(given))}: only for codes"):
        parse(FeaturesConfig, features({"builtin": "age_years", **given}), "features.yaml")
    plain = {"builtin": "age_years", "required": True, "display": "Age"}
    parse(FeaturesConfig, features(plain), "features.yaml")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"column": "at", "unit": "days"}, "unit: only for offset"),
        ({"static": True, "unit": "years"}, "unit: only for offset"),
        ({"offset": [1], "format": "%Y"}, "format: only for column"),
        ({"static": True, "format": "%Y"}, "format: only for column"),
    ],
)
def test_a_time_takes_nothing_that_it_ignores(given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(TimeSpec, given, "ingest.yaml")
    parse(TimeSpec, {"column": "at", "format": "%Y"}, "ingest.yaml")
    parse(TimeSpec, {"offset": [1], "unit": "years"}, "ingest.yaml")


CYCLE = {"table": "t", "column": "c", "values": {"7": "train", "8": "held_out"}}
DRAWN = {**CYCLE, "values": {"7": "train_or_tuning", "8": "held_out"}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"table": "t", "column": "c"}, "column and values together"),
        ({"table": "t", "values": {"7": "train"}}, "column and values together"),
        ({"column": "c", "values": {"7": "train"}}, "a table together with column or group"),
        ({"group": "g"}, "a table together with column or group"),
        ({"table": "t"}, "a table together with column or group"),
        ({"everyone": "train", "table": "t", "group": "g"}, "group, table: of no use beside everyone"),
        ({"everyone": "train", "shares": [0.7, 0.15, 0.15]}, "shares: of no use beside everyone"),
        ({"everyone": "train", **CYCLE}, "column, table, values: of no use beside everyone"),
        ({**CYCLE, "shares": [0.8, 0.1, 0.1]}, "shares: of no use where"),
        ({**CYCLE, "group": "g"}, "group: of no use where"),
    ],
)
def test_splits_take_nothing_that_they_ignore(given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(Splits, given, "ingest.yaml")


@pytest.mark.parametrize(
    "given",
    [
        {}, {"seed": 3, "shares": [0.8, 0.1, 0.1]}, {"table": "t", "group": "g"}, CYCLE, DRAWN,
        {**DRAWN, "group": "g", "shares": [0.8, 0.1, 0.1]}, {"everyone": "train"},
    ],
)  # fmt: skip
def test_splits_that_say_what_they_use(given: dict[str, object]) -> None:
    parse(Splits, given, "ingest.yaml")


def test_shipped_folders_are_found() -> None:
    assert (shipped("schemas") / "warehouse" / "events.yaml").is_file()
