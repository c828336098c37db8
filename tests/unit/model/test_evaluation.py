"""evaluation.json: what may lie in a bundle, how it is written, and what an evaluation lacks."""

import json
import re
from pathlib import Path

import pytest

from riskpred.config.night import PromotionRules
from riskpred.errors import BundleError, OutputError
from riskpred.model.evaluation import (
    EVALUATION,
    Evaluation,
    Figure,
    OutcomeFigures,
    is_evaluation,
    keep_evaluation,
    read_evaluations,
    shortcomings,
)

GOOD = {
    "uno_c": Figure(value=0.75, low=0.7, high=0.8),
    "observed_over_expected": Figure(value=1.1, low=0.9, high=1.3),
    "ipa": Figure(value=0.08, low=0.02, high=0.13),
}


def evaluation(sha: str = "a" * 64, site: str = "here", split: str = "held_out", events: int = 50, **figures: Figure):
    one = OutcomeFigures(outcome="heart", horizon_years=5.0, n=400, events=events, figures={**GOOD, **figures})
    return Evaluation(
        bundle_sha256=sha,
        riskpred_version="1",
        evaluated_at="2026-11-27T01:02:03+00:00",
        site=site,
        split=split,
        rows=400,
        outcomes=(one,),
    )


def test_one_per_site_and_split_newest_last(tmp_path: Path) -> None:
    assert read_evaluations(tmp_path) == ()
    first, elsewhere, again = evaluation(), evaluation(site="there"), evaluation(events=60)
    for one in (first, elsewhere, again):
        keep_evaluation(tmp_path, one)
    assert read_evaluations(tmp_path) == (elsewhere, again)
    assert [path.name for path in tmp_path.iterdir()] == [EVALUATION]


def test_those_of_another_bundle_are_dropped(tmp_path: Path) -> None:
    keep_evaluation(tmp_path, evaluation(sha="a" * 64))
    keep_evaluation(tmp_path, evaluation(sha="b" * 64, site="there"))
    assert [one.bundle_sha256[0] for one in read_evaluations(tmp_path)] == ["b"]


def test_what_a_killed_evaluation_left_is_removed_and_meanwhile_allowed(tmp_path: Path) -> None:
    left = tmp_path / f".{EVALUATION}.abcd_123"
    left.write_text("half")
    assert is_evaluation(left.name)
    assert is_evaluation(EVALUATION)
    assert not is_evaluation(f"x{EVALUATION}")
    assert not is_evaluation(f".{EVALUATION}.abc/../x")
    keep_evaluation(tmp_path, evaluation())
    assert not left.exists()


def test_a_failed_write_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_evaluation(tmp_path, evaluation())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("riskpred.model.evaluation.os.replace", full)
    with pytest.raises(OutputError, match="cannot be kept with the bundle") as caught:
        keep_evaluation(tmp_path, evaluation(site="there"))
    assert caught.value.exit_code == 15
    assert len(read_evaluations(tmp_path)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [EVALUATION]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"evaluations": [{}]}', '{"evaluations": [], "more": 1}', "\xff"])
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / EVALUATION).write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match="remove the file and evaluate again"):
        read_evaluations(tmp_path)


def test_the_file_can_be_read_by_people(tmp_path: Path) -> None:
    keep_evaluation(tmp_path, evaluation())
    (one,) = json.loads((tmp_path / EVALUATION).read_text())["evaluations"]
    assert one["outcomes"][0]["figures"]["uno_c"] == {"value": 0.75, "low": 0.7, "high": 0.8, "reason": None}


def test_a_good_evaluation_lacks_nothing() -> None:
    assert shortcomings(evaluation(), ["heart"], PromotionRules()) == []
    assert evaluation().where == "2026-11-27 at here, held_out"


@pytest.mark.parametrize(
    ("changed", "lack"),
    [
        ({"uno_c": Figure(value=0.55, low=0.49, high=0.6)}, r"uno_c 0\.550, interval from 0\.490"),
        ({"uno_c": Figure(reason="no two people can be compared")}, "no interval of uno_c: no two people"),
        ({"observed_over_expected": Figure(value=2.4, low=1.5, high=3)}, r"expected 2\.40.*risks are too low"),
        ({"observed_over_expected": Figure(value=0.4, low=0.3, high=0.6)}, r"expected 0\.40.*risks are too high"),
        ({"observed_over_expected": Figure(reason="nobody")}, "no observed over expected: nobody"),
        ({"ipa": Figure(value=-0.1, low=-0.2, high=-0.01)}, r"ipa at most -0\.010"),
        ({"ipa": Figure(value=0.1)}, "no interval of ipa"),
        ({"events": 19}, "19 people with the outcome, at least 20"),
    ],
)
def test_each_rule_is_kept(changed: dict[str, object], lack: str) -> None:
    (found,) = shortcomings(evaluation(**changed), ["heart"], PromotionRules())  # type: ignore[arg-type]
    assert found.startswith("heart: ")
    assert re.search(lack, found)


def test_rules_can_be_changed() -> None:
    few = evaluation(events=12)
    assert shortcomings(few, ["heart"], PromotionRules(min_events=10)) == []
    assert shortcomings(evaluation(), ["heart"], PromotionRules(discrimination_above=0.72)) != []
    assert shortcomings(evaluation(), ["heart"], PromotionRules(observed_over_expected=(0.95, 1.05))) != []
    assert shortcomings(evaluation(), ["heart"], PromotionRules(ipa_reaches=0.2)) != []


def test_an_outcome_that_was_not_evaluated_is_named() -> None:
    assert shortcomings(evaluation(), ["heart", "cancer"], PromotionRules()) == ["cancer: not evaluated"]
