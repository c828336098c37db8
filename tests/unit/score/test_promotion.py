"""Who may publish: the evaluation that decides, what is said when it does not do, and what the ledger gets."""

from dataclasses import replace
from pathlib import Path

import pytest

from riskpred.config.night import PromotionRules
from riskpred.errors import BundleError
from riskpred.model.evaluation import EVALUATION, Evaluation, Figure, OutcomeFigures, keep_evaluation
from riskpred.score.promotion import Promotion, judge_promotion

RULES = PromotionRules()


@pytest.fixture
def bundle(random_bundle, tmp_path: Path):
    return replace(random_bundle(1), path=tmp_path)


def evaluation(bundle, site: str = "batch", low: float = 0.7, day: str = "2026-11-27") -> Evaluation:
    figures = {
        "observed_over_expected": Figure(value=1.0, low=0.9, high=1.1),
        "ipa": Figure(value=0.1, low=0.0, high=0.2),
    }

    def one(outcome: str, rank: str) -> OutcomeFigures:
        ranked = {rank: Figure(value=0.75, low=low, high=0.8)}
        return OutcomeFigures(outcome=outcome, horizon_years=5.0, n=300, events=40, figures=figures | ranked)

    return Evaluation(
        bundle_sha256=bundle.sha256,
        riskpred_version="1",
        evaluated_at=f"{day}T00:00:00+00:00",
        site=site,
        split="held_out",
        rows=300,
        outcomes=(one("cardio", "uno_c"), one("cancer", "uno_c"), one("low_mood", "auc")),
    )


def test_a_passed_evaluation_lets_it_publish(bundle) -> None:
    keep_evaluation(bundle.path, evaluation(bundle))
    passed = Promotion(True, False, "passed 2026-11-27 at batch, held_out")
    assert judge_promotion(bundle, RULES, site="batch") == passed
    # --force on a bundle that passed forces nothing.
    assert judge_promotion(bundle, RULES, force=True, site="batch") == passed


def test_without_one_it_is_refused_with_what_to_do(bundle) -> None:
    with pytest.raises(BundleError, match="may not publish risks") as caught:
        judge_promotion(bundle, RULES, site="batch")
    assert caught.value.exit_code == 12
    assert caught.value.got == "not evaluated"
    assert f"riskpred evaluate {bundle.path} WAREHOUSE" in (caught.value.do or "")
    assert "--force" in (caught.value.do or "")


def test_forced_is_said(bundle) -> None:
    assert judge_promotion(bundle, RULES, force=True, site="batch") == Promotion(False, True, "forced: not evaluated")
    keep_evaluation(bundle.path, evaluation(bundle, low=0.4))
    told = judge_promotion(bundle, RULES, force=True, site="batch")
    assert told.forced
    assert told.text.startswith("forced: failed 2026-11-27 at batch, held_out: cardio: uno_c")


def test_a_failed_one_names_every_outcome_that_fails(bundle) -> None:
    keep_evaluation(bundle.path, evaluation(bundle, low=0.5))
    with pytest.raises(BundleError) as caught:
        judge_promotion(bundle, RULES, site="batch")
    for outcome in ("cardio", "cancer", "low_mood"):
        assert f"{outcome}: " in (caught.value.got or "")


def test_the_sites_own_evaluation_decides_else_the_newest(bundle) -> None:
    keep_evaluation(bundle.path, evaluation(bundle, site="batch", low=0.4, day="2026-01-01"))
    keep_evaluation(bundle.path, evaluation(bundle, site="elsewhere", day="2026-02-01"))
    with pytest.raises(BundleError, match="at batch"):
        judge_promotion(bundle, RULES, site="batch")
    assert judge_promotion(bundle, RULES, site="third").text == "passed 2026-02-01 at elsewhere, held_out"
    assert judge_promotion(bundle, RULES).passed


def test_that_of_another_bundle_counts_for_nothing(bundle) -> None:
    keep_evaluation(bundle.path, evaluation(replace(bundle, sha256="f" * 64)))
    with pytest.raises(BundleError, match="of another bundle"):
        judge_promotion(bundle, RULES, site="batch")


def test_a_damaged_file_is_no_pass_and_can_be_forced(bundle) -> None:
    (bundle.path / EVALUATION).write_text("{}")
    with pytest.raises(BundleError, match="not an evaluation that this release wrote"):
        judge_promotion(bundle, RULES, site="batch")
    assert judge_promotion(bundle, RULES, force=True, site="batch").forced


def test_rules_may_ask_for_none(bundle) -> None:
    told = judge_promotion(bundle, PromotionRules(require_evaluation=False), site="batch")
    assert told == Promotion(False, False, "not required: not evaluated")
