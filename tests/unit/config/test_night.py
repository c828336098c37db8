"""night.yaml: defaults, the commented shipped file, what is refused, and options before the file."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from riskpred.config.files import read_yaml, shipped
from riskpred.config.night import NightConfig, load_night
from riskpred.errors import ConfigError

SHIPPED = shipped("configs") / "night.yaml"


def fields(kind: type[BaseModel], prefix: str = "") -> set[str]:
    """Dotted names of all fields, those of blocks included."""
    found = set()
    for name, field in kind.model_fields.items():
        found.add(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= fields(field.annotation, f"{prefix}{name}.")
    return found


def dotted(data: dict[str, object], prefix: str = "") -> set[str]:
    found = set()
    for name, value in data.items():
        found.add(prefix + name)
        if isinstance(value, dict):
            found |= dotted(value, f"{prefix}{name}.")
    return found


def write(folder: Path, text: str) -> Path:
    path = folder / "night.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_file_is_the_defaults() -> None:
    assert load_night(SHIPPED) == NightConfig() == load_night(None)


def test_the_shipped_file_names_every_setting() -> None:
    assert dotted(read_yaml(SHIPPED)) == fields(NightConfig)


def test_every_setting_of_the_shipped_file_is_commented_with_its_default() -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    settings = 0
    for number, line in enumerate(lines):
        key = re.fullmatch(r"\s*([a-z_]+): \S.*", line)
        if not key:
            continue
        settings += 1
        comment, above = [], number - 1
        while lines[above].lstrip().startswith("#"):
            comment.append(lines[above].strip("# "))
            above -= 1
        said = " ".join(reversed(comment))
        assert len(said) > 40, key.group(1)
        assert re.search(r"\bDefault\b", said), key.group(1)
    blocks = {name.partition(".")[0] for name in fields(NightConfig) if "." in name}
    assert settings == len(fields(NightConfig)) - len(blocks)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("keep_run: 3\n", "keep_run"),
        ("gates: {max_rejected: .1}\n", r"gates\.max_rejected"),
        ("keep_runs: 0\n", "keep_runs"),
        ("keep_runs: '3'\n", "keep_runs"),
        ("explain: -1\n", "explain"),
        ("gates: {max_rejected_share: 5}\n", r"gates\.max_rejected_share"),
        ("drift: {psi_watch: .3}\n", "psi_watch must lie below psi_alarm"),
        ("promotion: {observed_over_expected: [1.2, 2.0]}\n", "1 between them"),
        ("numeric_path: fp16\n", "numeric_path"),
        ("duckdb_memory: lots\n", "duckdb_memory"),
        ("logs: {metrics_file: night.txt}\n", r"must end in \.prom"),
        ("max_score_age_days: .inf\n", "max_score_age_days"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        load_night(write(tmp_path, text))
    assert caught.value.exit_code == 10


def test_a_missing_file_says_what_may_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave it out"):
        load_night(tmp_path / "absent.yaml")


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_night(write(tmp_path, "# nothing\n")) == NightConfig()


def test_options_go_before_the_file_and_are_checked(tmp_path: Path) -> None:
    settings = load_night(write(tmp_path, "keep_runs: 3\nexplain: 5\nlogs: {log_file: night.log}\n"))
    changed = settings.overridden(explain=0, keep_runs=None)
    assert (changed.explain, changed.keep_runs) == (0, 3)
    assert changed.logs == settings.logs
    logs = settings.overridden(logs={"metrics_file": "night.prom"}).logs
    assert (logs.log_file, logs.metrics_file) == (settings.logs.log_file, Path("night.prom"))
    with pytest.raises(ConfigError, match="keep_runs"):
        settings.overridden(keep_runs=0)
    with pytest.raises(ConfigError, match="keeep_runs"):
        settings.overridden(keeep_runs=1)


def test_paths_count_from_the_files_folder(tmp_path: Path) -> None:
    settings = load_night(write(tmp_path, "logs: {log_file: logs/night.jsonl, metrics_file: /var/riskpred.prom}\n"))
    assert settings.logs.log_file == tmp_path / "logs" / "night.jsonl"
    assert settings.logs.metrics_file == Path("/var/riskpred.prom")


def test_workers_default_to_the_cores_we_may_use() -> None:
    assert NightConfig().worker_count >= 1
    assert NightConfig(workers=3).worker_count == NightConfig(workers=3).decode_worker_count == 3
    assert NightConfig().overridden(images={"decode_workers": 0}).decode_worker_count == 0
