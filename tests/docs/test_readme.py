"""README says what is so: its tables are made from schemas/, its verbs and exit codes are the program's."""

import os
import re
from pathlib import Path

import duckdb
import pytest
from typer.main import get_command

from riskpred.cli.app import app
from riskpred.config.night import NightConfig
from riskpred.records.schema import Where, markdown, table_schema, tables
from riskpred.score.image_cache import cache_path
from riskpred.score.layout import create_tables
from riskpred.score.parts import parts_folder
from riskpred.score.views import create_views

README = Path(__file__).resolve().parents[2] / "README.md"
SECTIONS: dict[str, Where] = {"warehouse tables": "warehouse", "scores tables": "scores"}


def section(mark: str) -> tuple[int, int, str]:
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"<!-- {mark} -->\n(.*?)\n<!-- end -->", text, re.S)
    assert found, f"README has no section <!-- {mark} --> ... <!-- end -->"
    return found.start(1), found.end(1), found.group(1)


@pytest.mark.parametrize("mark", SECTIONS)
def test_tables_are_made_from_schemas(mark: str) -> None:
    where = SECTIONS[mark]
    made = "\n\n".join(markdown(table_schema(where, name)) for name in tables(where))
    start, end, shown = section(mark)
    if os.environ.get("RISKPRED_UPDATE_README") == "1":
        text = README.read_text(encoding="utf-8")
        README.write_text(text[:start] + made + text[end:], encoding="utf-8")
        return
    assert shown == made, "run RISKPRED_UPDATE_README=1 pytest tests/docs/test_readme.py"


def test_every_verb_and_exit_code_is_named() -> None:
    text = README.read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert command.callback
        assert f"riskpred {command.name or command.callback.__name__}" in text
    for code in (0, 1, 2, 10, 11, 12, 13, 14, 15, 130):
        assert re.search(rf"^\| {code} \|", text, re.M), code


def test_every_option_named_is_an_option_of_a_verb() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README.read_text(encoding="utf-8")))
    verbs = [get_command(app), *get_command(app).commands.values()]  # type: ignore[attr-defined]
    known = {option for verb in verbs for parameter in verb.params for option in parameter.opts}
    assert named - known == {"--help", "--check"}, "every verb has the first; the other is ruff's"


def test_the_night_is_described_with_its_defaults() -> None:
    text, night = " ".join(README.read_text(encoding="utf-8").split()), NightConfig()
    gates = night.gates
    for said in (
        f"`max_score_age_days` ({night.max_score_age_days},",
        f"`--keep-runs` ({night.keep_runs})",
        f"more than {gates.max_rejected_share:.0%} of the eligible pairs".replace("%", " %"),
        f"more than {gates.max_shifted_share:.0%} of the people scored on both nights".replace("%", " %"),
        f"by more than {gates.shifted_by_points:g} points",
        f"{cache_path(Path('scores.duckdb')).name}` beside SCORES",
        f"`{parts_folder(Path('scores.duckdb')).name}`",
    ):
        assert said in text, said


def test_the_two_commands_are_on_the_first_screen() -> None:
    first = README.read_text(encoding="utf-8").splitlines()[:40]
    assert sum(line.startswith("<!-- command: ") for line in first) == 2


def test_the_query_runs_and_has_the_columns_shown() -> None:
    found = re.search(r"```sql\n(.*?)```\n+```\n.*?\n│(.*?)│\n", README.read_text(encoding="utf-8"), re.S)
    assert found
    with duckdb.connect() as scores:
        create_tables(scores)
        create_views(scores)
        columns = scores.sql(found.group(1)).columns
    assert columns == [name.strip() for name in found.group(2).split("│")]


def test_every_query_runs() -> None:
    queries = re.findall(r"```sql\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert len(queries) >= 2
    with duckdb.connect() as scores:
        create_tables(scores)
        create_views(scores)
        for query in queries:
            assert scores.sql(query).columns


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in README.read_text(encoding="utf-8")


def test_its_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    assert pictures
    assert all((README.parent / picture).is_file() for picture in pictures)
