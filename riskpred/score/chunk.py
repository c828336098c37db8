"""One chunk of subjects, judged: who is eligible, what was computed for whom, and what became of each pair."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from riskpred.features.batch import NO_USABLE_INPUT, FeatureBatch, InputReject
from riskpred.features.build import build
from riskpred.features.change import earlier, valid_until
from riskpred.features.findings import FindingSource, LookedAt, next_image, with_findings
from riskpred.features.image import ImageSource
from riskpred.model.scope import FLAGS
from riskpred.records.chunk import STATIC, SubjectChunk
from riskpred.records.cohort import REASONS, CohortRows, ages_years, cohort, rows_at
from riskpred.records.digest import subject_digests
from riskpred.records.warehouse import Warehouse
from riskpred.score.assess import BATCH_SIZE, Assessed, assess
from riskpred.score.select import longest_horizon
from riskpred.score.timing import Stopwatch

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

EXPLAINED_AT_ONCE = 128
"""Subjects whose feature reasons are held until written."""

NOT_FINITE = "non_finite_risk"

PAIR_STATUSES: Final = ("scored", "rejected", "out_of_scope")
PAIR_REASONS: Final = (*REASONS, NO_USABLE_INPUT, NOT_FINITE)
"""Why a pair has no risk: not eligible, or rejected; None = it has one."""

_SCORED, _REJECTED, _OUT_OF_SCOPE = range(3)


@dataclass(frozen=True)
class Judged:
    """S subjects of a chunk, O outcomes; of them B subjects eligible for something, Q targets.

    Shape:
        subject_id, prediction_time, valid_until: (S,); digest: S texts.
        status, reason: (S, O) int8, places in PAIR_STATUSES and PAIR_REASONS.
        looked: images of the B subjects in which a segmentation looked for lesions.
        chunk: what they were judged by, with findings of the B subjects; cohort: its B rows, None where B = 0.
        rows: (B,) place in the chunk; batch: B rows; assessed: None where B = 0; scored: (B, Q) risks to write.
        scope_flags: (B, Q, flags) which of `scope.FLAGS` hold.
        top_score: (B,) highest percentile at the longest horizons, NaN where nothing is scored.
        top_target: (B,) the target that has it.
    """

    subject_id: NDArray[np.int64]
    prediction_time: NDArray[np.int64]
    valid_until: NDArray[np.int64]
    digest: list[str]
    status: NDArray[np.int8]
    reason: NDArray[np.int8]
    rows: NDArray[np.int64]
    batch: FeatureBatch | None
    assessed: Assessed | None
    scored: NDArray[np.bool_]
    scope_flags: NDArray[np.bool_]
    top_score: NDArray[np.float64]
    top_target: NDArray[np.int64]
    chunk: SubjectChunk
    cohort: CohortRows | None
    looked: tuple[LookedAt, ...] = ()


def judge_chunk(
    bundle: "Bundle",
    warehouse: Warehouse,
    chunk: SubjectChunk,
    as_of: int,
    latest_valid: int | NDArray[np.int64],
    watch: Stopwatch,
    numeric_path: str,
    batch_size: int = BATCH_SIZE,
    images: Mapping[str, ImageSource] | None = None,
    findings: FindingSource | None = None,
) -> Judged:
    """Cohort, features and risks of one chunk at `as_of`; `latest_valid` bounds valid_until (UTC microseconds,
    of everyone or of each subject). `numeric_path`: of the encoders. `images`: who encodes images as they are read, on
    that path; None = they come as pixels. `findings`: who finds what images show; None = the bundle's own finder."""
    outcomes = bundle.config.outcomes
    names = list(outcomes.outcomes)
    with watch("cohort"):
        rows = cohort(chunk, outcomes, warehouse.data_until, as_of)
        digest = subject_digests(chunk)
    eligible = np.stack([rows.eligible[name] for name in names], axis=1)
    status = np.where(eligible, _REJECTED, _OUT_OF_SCOPE).astype(np.int8)
    reason = np.stack([rows.reason[name] for name in names], axis=1).astype(np.int8)
    some = np.flatnonzero(eligible.any(axis=1))
    change = rows.valid_until.copy()
    targets = bundle.model.targets
    batch, assessed, eligible_rows = None, None, None
    looked: tuple[LookedAt, ...] = ()
    scored = np.zeros((len(some), len(targets)), dtype=bool)
    scope_flags = np.zeros((*scored.shape, len(FLAGS)), dtype=bool)
    top_score, top_target = np.full(len(some), np.nan), np.zeros(len(some), dtype=np.int64)
    if len(some):
        eligible_rows = rows_at(rows, some)
        unread: tuple[InputReject, ...] = ()
        if (finder := findings or bundle.finder) is not None:
            with watch("findings"):
                moments = eligible_rows.subject, eligible_rows.prediction_time
                next_one = next_image(chunk, *moments, finder.config)
                found = with_findings(replace(chunk, finder=finder), *moments, bundle.plan, warehouse.image_root)
                chunk, looked, unread = found.chunk, found.images, found.rejects
        with watch("features"):
            batch = build(chunk, eligible_rows, bundle.plan, warehouse.image_root, images)
            change[some] = valid_until(chunk, eligible_rows, bundle.plan)
            if finder is not None:
                batch = replace(batch, rejects=tuple(dict.fromkeys((*batch.rejects, *unread))))
                change[some] = earlier(change[some], next_one)
        with watch("model"):
            assessed = assess(bundle, batch, batch_size, numeric_path)
            ages = ages_years(chunk, eligible_rows)
            scope_flags = bundle.scope_flags(warehouse.site, batch.subject_id, assessed.measured, ages)
        outcome_of = np.array([names.index(outcome) for outcome, _ in targets])
        finite = np.stack([assessed.finite[:, outcome_of == o].all(axis=1) for o in range(len(names))], axis=1)
        usable = batch.usable
        why = np.zeros(finite.shape, dtype=np.int8)
        why[~finite] = PAIR_REASONS.index(NOT_FINITE)
        why[~usable] = PAIR_REASONS.index(NO_USABLE_INPUT)
        pairs = eligible[some] & usable[:, None] & finite
        status[some] = np.where(pairs, _SCORED, status[some])
        reason[some] = np.where(eligible[some], why, reason[some])
        scored = pairs[:, outcome_of]
        at_longest = np.where(scored & longest_horizon(targets, outcomes), assessed.percentile, -np.inf)
        top_target = at_longest.argmax(axis=1)
        top_score = np.where(scored.any(axis=1), at_longest.max(axis=1), np.nan)
    return Judged(
        subject_id=chunk.subject_id,
        prediction_time=rows.prediction_time,
        valid_until=np.where(change == STATIC, latest_valid, np.minimum(change, latest_valid)),
        digest=digest,
        status=status,
        reason=reason,
        rows=some,
        batch=batch,
        assessed=assessed,
        scored=scored,
        scope_flags=scope_flags,
        top_score=top_score,
        top_target=top_target,
        chunk=chunk,
        cohort=eligible_rows,
        looked=looked,
    )
