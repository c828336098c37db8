"""Whether a bundle may publish risks: evaluated on people it never saw, and good enough; or forced, and said so."""

from dataclasses import dataclass, field

from riskpred.config.night import PromotionRules
from riskpred.errors import BundleError
from riskpred.model.bundle import Bundle
from riskpred.model.evaluation import EVALUATION, Evaluation, read_evaluations, shortcomings


@dataclass(frozen=True)
class Promotion:
    """passed: its evaluation meets the rules.   forced: it does not, and --force was given.   text: for `runs`.

    evaluation: the one that decided; None where there is none, or none that can be read.
    """

    passed: bool
    forced: bool
    text: str
    evaluation: Evaluation | None = field(default=None, compare=False)


def judge_promotion(bundle: Bundle, rules: PromotionRules, force: bool = False, site: str | None = None) -> Promotion:
    """Judge a bundle by the evaluations kept with it, before any work is done.

    The newest evaluation at the site that is scored decides; where there is none, the newest one at any site: a bundle
    that came from elsewhere may start on that, and is judged at home from then on.

    Args:
        force: the operator's --force.   site: the warehouse's; None = the newest evaluation at any site decides.

    Raises: BundleError (exit 12), unless it passed, is forced, or the rules require no evaluation.
    """
    try:
        evaluation = _deciding(bundle, site)
        lacking = _lacking(bundle, evaluation, rules)
    except BundleError as error:  # the file is damaged: --force must still help
        evaluation, lacking = None, [error.what]
    if evaluation is not None and not lacking:
        return Promotion(True, False, f"passed {evaluation.where}", evaluation)
    where = f"failed {evaluation.where}: " if evaluation else ""
    why = where + "; ".join(lacking)
    if not rules.require_evaluation:
        return Promotion(False, False, f"not required: {why}", evaluation)
    if force:
        return Promotion(False, True, f"forced: {why}", evaluation)
    raise BundleError(
        f"{bundle.path}: this bundle may not publish risks.",
        wanted="an evaluation on people it never saw that meets `promotion` of night.yaml",
        got=why,
        do=f"run `riskpred evaluate {bundle.path} WAREHOUSE` (on held_out, or on another site's people)"
        + (", or fit or recalibrate a better one" if evaluation else "")
        + "; or score with --force, which the ledger then says",
    )


def _deciding(bundle: Bundle, site: str | None) -> Evaluation | None:
    kept = [one for one in read_evaluations(bundle.path) if one.bundle_sha256 == bundle.sha256]
    here = [one for one in kept if one.site == site]
    found = here or kept
    return found[-1] if found else None


def _lacking(bundle: Bundle, evaluation: Evaluation | None, rules: PromotionRules) -> list[str]:
    if evaluation is not None:
        return shortcomings(evaluation, list(bundle.config.outcomes.outcomes), rules)
    if read_evaluations(bundle.path):
        return [f"not evaluated ({EVALUATION} is of another bundle)"]
    return ["not evaluated"]
