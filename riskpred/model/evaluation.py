"""evaluation.json of a bundle: what it was worth on people it never saw, and what that lacks before it may publish.

The file is written by `evaluate` into a bundle that is otherwise left as it is: it names the bundle's SHA-256, and the
manifest does not name it.
"""

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import Field

from riskpred.config.model import Strict, parse
from riskpred.config.night import PromotionRules
from riskpred.errors import BundleError, ConfigError, OutputError

EVALUATION: Final = "evaluation.json"
_WRITING: Final = re.compile(rf"\.{re.escape(EVALUATION)}\.[a-z0-9_]{{8}}")


class Figure(Strict):
    """One metric with its 90 % interval, or the reason why there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


class OutcomeFigures(Strict):
    """One outcome at its longest horizon; 0 years = known at once. n: rows judged; events: seen to have the outcome."""

    outcome: str
    horizon_years: float
    n: int
    events: int
    figures: dict[str, Figure] = Field(
        description="uno_c (auc: known at once), brier, ipa, ici, ici_floor, citl, slope, observed_over_expected"
    )


class GroupFigures(Strict):
    """One outcome at one horizon, for everyone or one subgroup. n, events: None where they could point at a person."""

    outcome: str
    horizon_years: float
    subgroup: str | None = Field(description='None = everyone; else "sex female", "age 60-69" (evaluate.subgroups)')
    n: int | None
    events: int | None
    figures: dict[str, Figure] = Field(
        description="those of OutcomeFigures, and observed (incidence by the horizon), expected (mean risk)"
    )


class Evaluation(Strict):
    """One evaluation of one bundle, by this release, on one split of one site."""

    bundle_sha256: str
    riskpred_version: str
    evaluated_at: str = Field(description="ISO 8601, UTC")
    site: str
    split: str
    rows: int
    outcomes: tuple[OutcomeFigures, ...]
    groups: tuple[GroupFigures, ...] = Field(
        default=(),
        description="everyone at every horizon, then sexes and age bands at the longest; () in a file of a release "
        "that did not keep them",
    )

    @property
    def where(self) -> str:
        """When and on whom, as the ledger says it: "2026-11-27 at hospital, held_out"."""
        return f"{self.evaluated_at[:10]} at {self.site}, {self.split}"


class _File(Strict):
    evaluations: tuple[Evaluation, ...] = Field(description="newest last, one per site and split")


def is_evaluation(name: str) -> bool:
    """Whether a bundle's folder may hold a file of this name beside those of the manifest."""
    return name == EVALUATION or _WRITING.fullmatch(name) is not None


def read_evaluations(folder: Path) -> tuple[Evaluation, ...]:
    """The evaluations kept in a bundle's folder, newest last; none where there is no file.

    Raises: BundleError, when the file is not one that this release writes.
    """
    path = folder / EVALUATION
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return parse(_File, data, str(path)).evaluations
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, ConfigError) as error:
        raise BundleError(
            f"{path}: not an evaluation that this release wrote.",
            wanted="the file that `riskpred evaluate` leaves in the bundle",
            got=type(error).__name__,
            do="remove the file and evaluate again",
        ) from None


def keep_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Add an evaluation to the bundle's folder, in place of an earlier one of its site and split, in one rename.

    Those of another bundle (a manifest that was replaced) are dropped.
    Raises: OutputError, when the folder cannot be written. BundleError: as `read_evaluations`.
    """
    try:
        # Two evaluations at once: the second one adds to what the first one wrote.
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            kept = [
                one
                for one in read_evaluations(folder)
                if one.bundle_sha256 == evaluation.bundle_sha256
                and (one.site, one.split) != (evaluation.site, evaluation.split)
            ]
            _replace(folder, _File(evaluations=(*kept, evaluation)))
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise OutputError(
            f"{folder}: the evaluation cannot be kept with the bundle ({error.strerror or type(error).__name__}).",
            wanted="a bundle folder that the evaluating user may write",
            do="correct its permissions and evaluate again; or score with --force, which the ledger then says",
        ) from None


def _replace(folder: Path, file: _File) -> None:
    for path in folder.iterdir():
        if _WRITING.fullmatch(path.name):  # of an evaluation that was killed
            path.unlink()
    # Inside the folder, where a bundle that is being loaded allows it: beside it may not be writable.
    handle, name = tempfile.mkstemp(prefix=f".{EVALUATION}.", dir=folder)
    try:
        with open(handle, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(file.model_dump(mode="json"), indent=2, allow_nan=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, folder / EVALUATION)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def shortcomings(evaluation: Evaluation, outcomes: Sequence[str], rules: PromotionRules) -> list[str]:
    """What an evaluation lacks of the rules, one sentence each; empty = passed.

    Args:
        outcomes: the outcomes that a night would publish: each must have been evaluated.
    """
    judged = {one.outcome: one for one in evaluation.outcomes}
    found = []
    for name in outcomes:
        if name not in judged:
            found.append(f"{name}: not evaluated")
        else:
            found += [f"{name}: {lack}" for lack in _lacks(judged[name], rules)]
    return found


def _lacks(one: OutcomeFigures, rules: PromotionRules) -> list[str]:
    if one.events < rules.min_events:
        return [f"{one.events} people with the outcome, at least {rules.min_events} wanted (min_events)"]
    found = []
    rank = "uno_c" if "uno_c" in one.figures else "auc"
    discrimination, ratio, ipa = (
        one.figures.get(name, Figure(reason="not measured")) for name in (rank, "observed_over_expected", "ipa")
    )
    if discrimination.low is None:
        found.append(f"no interval of {rank}: {discrimination.reason or 'it cannot be estimated'}")
    elif discrimination.low <= rules.discrimination_above:
        found.append(
            f"{rank} {discrimination.value:.3f}, interval from {discrimination.low:.3f}, which must lie above "
            f"{rules.discrimination_above:g} (discrimination_above)"
        )
    low, high = rules.observed_over_expected
    if ratio.value is None:
        found.append(f"no observed over expected: {ratio.reason or 'it cannot be estimated'}")
    elif not low <= ratio.value <= high:
        found.append(
            f"observed over expected {ratio.value:.2f}, wanted {low:g} to {high:g} (observed_over_expected): "
            f"risks are too {'low' if ratio.value > high else 'high'}"
        )
    if ipa.high is None:
        found.append(f"no interval of ipa: {ipa.reason or 'it cannot be estimated'}")
    elif ipa.high < rules.ipa_reaches:
        found.append(f"ipa at most {ipa.high:.3f}, wanted {rules.ipa_reaches:g} or more (ipa_reaches)")
    return found
