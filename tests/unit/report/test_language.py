"""Every text of a report in every language: none missing, none left over, placeholders kept; local dates."""

import gettext
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import normalize, read_po
from jinja2.ext import babel_extract

from riskpred.records.reference_group import GROUPS
from riskpred.report.language import CATALOGUES, LANGUAGES, catalogue, language
from riskpred.report.names import Names
from riskpred.report.words import Words

REPORT = CATALOGUES.parent
KEYWORDS = {"say": None, "say_count": (1, 2), "text": None, "gettext": None, "ngettext": (1, 2)}
OTHERS = sorted(set(LANGUAGES) - {"en"})
PLACEHOLDER = re.compile(r"%\((\w+)\)s")


def _texts(path: Path) -> Iterator[Any]:
    """Message ids of a module or template: a text, or (one, many)."""
    template = path.suffix == ".j2"
    options = {"newstyle_gettext": "true", "trimmed": "true"} if template else {}
    with path.open("rb") as stream:
        for _, message, _, _ in extract(babel_extract if template else "python", stream, KEYWORDS, options=options):
            yield message


def _wanted() -> dict[Any, str]:
    """Every text of the code and the templates -> a file that has it."""
    sources = [*REPORT.rglob("*.py"), *REPORT.rglob("*.j2")]
    return {message: path.name for path in sorted(sources) for message in _texts(path)}


def _untranslated(wanted: dict[Any, str], code: str) -> list[str]:
    found = catalogue(code)
    missing = []
    for message, source in wanted.items():
        entry = found.get(message if isinstance(message, str) else message[0])
        strings = (
            [] if entry is None or entry.fuzzy else [entry.string] if isinstance(entry.string, str) else entry.string
        )
        if not strings or not all(strings):
            ids = (message,) if isinstance(message, str) else message
            missing.append("\n".join([f"#: {source}", *(f"msgid {normalize(one)}" for one in ids), 'msgstr ""']))
    return missing


@pytest.mark.parametrize("code", OTHERS)
def test_every_text_is_translated(code: str) -> None:
    wanted = _wanted()
    assert len(wanted) > 100
    missing = _untranslated(wanted, code)
    assert not missing, f"no translation; add to a file of locale/{code}:\n\n" + "\n\n".join(missing)


def test_a_new_text_would_be_missed(tmp_path: Path) -> None:
    (tmp_path / "new.html.j2").write_text("<p>{% trans %}A text of 90 % nobody translated{% endtrans %}</p>")
    (tmp_path / "new.py").write_text('self.say(\n    "Another "\n    "of them"\n)\nTABLE = {"a": text("third")}\n')
    wanted = {message: path.name for path in tmp_path.iterdir() for message in _texts(path)}
    assert set(wanted) == {"A text of 90 %% nobody translated", "Another of them", "third"}
    assert len(_untranslated(wanted, "zh")) == 3


@pytest.mark.parametrize("code", OTHERS)
def test_no_translation_is_left_over_and_placeholders_are_kept(code: str) -> None:
    wanted = {message if isinstance(message, str) else message[0] for message in _wanted()}
    for path in sorted((CATALOGUES / code).glob("*.po")):
        with path.open("rb") as stream:
            parsed = read_po(stream, locale=code, abort_invalid=True)
        assert not parsed.obsolete
        for message in parsed:
            if not message.id:
                continue
            ids = (message.id,) if isinstance(message.id, str) else message.id
            strings = (message.string,) if isinstance(message.string, str) else message.string
            assert ids[0] in wanted, f"{path.name}: no text reads {ids[0]!r}"
            for string in strings:
                assert set(PLACEHOLDER.findall(string)) <= set(PLACEHOLDER.findall(ids[-1])) | {"n"}, ids[0]
                assert set(PLACEHOLDER.findall(ids[-1])) <= set(PLACEHOLDER.findall(string)), ids[0]
                assert not re.search(r"(?<!%)%(?![(%])", string.replace("%%", "")), ids[0]


def test_the_catalogues_are_read_not_compiled() -> None:
    assert not list(CATALOGUES.rglob("*.mo"))
    assert isinstance(language("zh").translations, gettext.GNUTranslations)


def test_chinese_is_written_as_chinese_clinicians_write_it() -> None:
    words = Words(language("zh"))
    assert words.percent(0.0912) == "9.1%"
    assert words.percent_range(0.063, 0.125) == "6.3%～12.5%"
    assert words.date("2026-11-03T06:30:00Z") == "2026年11月3日"
    assert words.within(10.0).replace("\u00a0", " ") == "10 年内"
    assert words.within(0.5).replace("\u00a0", " ") == "6 个月内"
    assert words.age(43.0).replace("\u00a0", " ") == "43 天前"
    assert words.people(0.004, 100) == ("不到 1", "超过 99")
    assert words.integer(14000) == "14,000"


def test_reference_groups_in_chinese() -> None:
    names = Names(Words(language("zh")))
    assert names.reference_group("women aged 50 to 59") == "50～59 岁女性"
    assert names.reference_group("men, age not known") == "男性（年龄不详）"
    assert names.reference_group("everyone") == "所有人"
    assert names.reference_group("a group of the study") == "a group of the study"
    assert names.measured(0.25, "mmol/L per year").replace("\u00a0", " ") == "0.25 mmol/L/年"
    assert names.reference_group("women under 30") == "30 岁以下女性"
    assert names.reference_group("people aged 80 and over") == "80 岁及以上人群"
    english = [group for group in GROUPS if re.search("[a-z]", names.reference_group(group))]
    assert not english, "every group that a night may name"
    same = Names(Words(language("en")), {})
    assert [same.reference_group(group) for group in GROUPS] == list(GROUPS)


def test_equations_in_chinese() -> None:
    names = Names(Words(language("zh")))
    assert names.equation("PREVENT total CVD, 10 years") == "PREVENT 总心血管病，10\u00a0年"
    assert names.equation("SCORE2-OP, 10 years") == "SCORE2-OP，10\u00a0年"
    assert names.equation("a site's own, someday") == "a site's own, someday"


def test_texts_of_the_data_are_never_taken_for_formats() -> None:
    zh = language("zh")
    assert zh.known("100 %(of) them %s") == "100 %(of) them %s"
    assert zh.known("") == ""
    assert zh.known("Cancer") == "癌症"
