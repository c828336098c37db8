"""`riskpred card`: what a bundle is, as text, page and JSON; card.yaml goes with the fit."""

import json
import shutil
from pathlib import Path

import pytest

from riskpred.cli import main

pytestmark = pytest.mark.usefixtures("few_draws")


def test_the_card_of_a_bundle(tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny.bundle, bundle)
    (bundle / "evaluation.json").unlink(missing_ok=True)
    assert main(["evaluate", str(bundle), str(tiny.warehouse), "--json"]) == 0
    capsys.readouterr()
    assert main(["card", str(bundle), "--json", "--into", str(tmp_path / "model.html"), "--lang", "zh"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], len(shown["tripod_ai"]), len(shown["hti_1"])) == ("tiny", 52, 31)
    assert shown["evaluations"][0]["split"] == "held_out"
    assert shown["tripod_ai"]["funding"]["given"] == "Nobody paid for invented people."
    assert shown["tripod_ai"]["dates"]["text"]
    page = (tmp_path / "model.html").read_text()
    assert '<html lang="zh-Hans">' in page
    assert "Nobody paid for invented people." in page
    assert main(["card", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "18a      funding: Nobody paid for invented people." in out
    assert "ethical_approval: not provided" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{here}"], 12, "not a bundle"),
        (["{bundle}", "--into", "{here}/x.txt"], 15, "does not end in .html"),
        (["{bundle}", "--lang", "xx"], 2, "--lang is one of en, zh"),
    ],
)
def test_exit_codes(tiny, tmp_path: Path, capsys, arguments: list[str], code: int, said: str) -> None:
    given = [word.format(here=tmp_path, bundle=tiny.bundle) for word in arguments]
    assert main(["card", *given]) == code
    assert said in capsys.readouterr().err


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", "--help"]) == 0
    assert "riskpred card bundle/ --into model.html" in capsys.readouterr().out
