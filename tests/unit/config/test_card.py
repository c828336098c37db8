"""card.yaml: texts by item; a name that is no item is an error that names the nearest one."""

from pathlib import Path

import pytest

from riskpred.config.card import HTI_1, TRIPOD_AI, load_card_texts
from riskpred.errors import ConfigError


def _study(folder: Path, text: str) -> str:
    (folder / "card.yaml").write_text(text)
    return str(folder)


def test_the_lists_are_whole() -> None:
    assert len(TRIPOD_AI) == 52
    assert {number.rstrip("abcdefg") for number in TRIPOD_AI.values()} == {str(n) for n in range(1, 28)}
    assert len(set(TRIPOD_AI.values())) == 52
    # 45 CFR 170.315(b)(11)(iv)(B) has nine paragraphs with so many attributes each, 31 in all.
    by_paragraph = [sum(place.startswith(f"({n})") for place in HTI_1.values()) for n in range(1, 10)]
    assert by_paragraph == [4, 4, 2, 4, 2, 4, 5, 4, 2]
    assert len(set(HTI_1.values())) == 31


def test_texts_are_read(tmp_path: Path) -> None:
    found = load_card_texts(
        _study(tmp_path, "tripod_ai: {funding: Nobody.}\nhti_1: {developer: 'Team, a@b.example'}\n")
    )
    assert found.tripod_ai == {"funding": "Nobody."}
    assert found.hti_1 == {"developer": "Team, a@b.example"}


def test_without_a_file_nothing_is_said(tmp_path: Path) -> None:
    assert load_card_texts(str(tmp_path)).model_dump() == {"tripod_ai": {}, "hti_1": {}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tripod_ai: {fundng: x}", r"no item of the card: fundng \(funding\?\)"),
        ("hti_1: {ethical_approval: x}", "no item of the card: ethical_approval"),
        ("tripod_ai: {funding: ' '}", "no text: funding; leave out what is not known"),
        ("tripod: {funding: x}", "keys of CardTexts: tripod_ai, hti_1"),
        ("tripod_ai: {funding: 3}", "valid string"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_card_texts(_study(tmp_path, text))
    assert caught.value.exit_code == 10
