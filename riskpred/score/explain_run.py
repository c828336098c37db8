"""Later reasons: adds feature reasons and evidence of some subjects to the latest published run, by atomic swap.

They are added to the rows on which a subject stands in that run: an earlier night of the same rows shows them, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from riskpred.config.night import NightConfig
from riskpred.errors import BundleError, InputError
from riskpred.explain.findings import finding_evidence
from riskpred.explain.subjects import explain_batch
from riskpred.features.fits import check_fits
from riskpred.model.bundle import load_bundle
from riskpred.model.paths import FP32, MOST_DIFFERENCE
from riskpred.model.threads import one_thread
from riskpred.progress import Progress, Silent
from riskpred.records.digest import subject_digests
from riskpred.records.publish import locked, staged
from riskpred.records.warehouse import Warehouse
from riskpred.score.beside import beside_reasons
from riskpred.score.chunk import EXPLAINED_AT_ONCE, Judged, judge_chunk
from riskpred.score.contributions import of_run
from riskpred.score.layout import SCHEMA, STANDING
from riskpred.score.published import Published, read_published
from riskpred.score.shortage import said_when_short_of_memory
from riskpred.score.store import Store
from riskpred.score.timing import Stopwatch
from riskpred.score.verify import verify_rows
from riskpred.score.views import create_views

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

_SAME_RISK = 1e-6
"""How far a risk recomputed in fp32 may lie from the published one, which its reasons are to explain; on another
numeric path `MOST_DIFFERENCE` more."""


@dataclass(frozen=True)
class ExplainSummary:
    """What was added, to which run.

    subjects, rows: how many subjects, how many reasons within a modality (features, moments, regions).
    replaced: subjects that had theirs before.
    flagged: subjects with too large a remainder.
    """

    run_id: str
    subjects: int
    replaced: int
    rows: int
    flagged: int
    total_seconds: float
    seconds: dict[str, float] = field(default_factory=dict)


def explain(
    scores: Path,
    warehouse: Path,
    model: Path,
    subject: int | None = None,
    top: int | None = None,
    image_root: Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> ExplainSummary:
    """Explain one subject, or the top N, of the latest published run, each at its row's prediction_time.

    Args: say: receives what an operator should know, in sentences.
    Raises: InputError: no scores file, no published run, a subject without a risk there, or one whose events or images
        are no longer those it was scored from. BundleError: not the run's bundle. OutputError: scores locked.
    """
    assert (subject is None) != (top is None), "exactly one of subject, top"
    progress = progress or Silent()
    watch = Stopwatch()
    if not scores.is_file():
        raise InputError(f"{scores}: no such file.", wanted="a scores file", do="check the path, or score first")
    with said_when_short_of_memory(scores), one_thread(), Warehouse.open(warehouse, image_root) as source:
        bundle = load_bundle(model)
        check_fits(bundle.plan, source)
        with (
            locked(scores, "riskpred explain", say) as held,
            staged(scores, NightConfig().duckdb_memory, held=held, from_published=True) as connection,
        ):
            store = Store(connection, scores)
            published = read_published(connection, scores, subject, top)
            if published.bundle_sha256 != bundle.sha256:
                raise BundleError(
                    f"{model}: not the bundle of the run {published.run_id}.",
                    wanted=f"the bundle whose manifest has SHA-256 {published.bundle_sha256[:12]}...",
                    got=f"SHA-256 {bundle.sha256[:12]}...",
                    do="name the bundle that scored the run, or score again with this one",
                )
            subjects = np.array(sorted(published.digest), dtype=np.int64)
            replaced = _explained_before(store, published.run_id, subjects)
            _remove_reasons(store, published.run_id, subjects)
            rows, flagged = _add_reasons(store, bundle, source, published, subjects, watch, progress)
            with watch("verify and publish"):
                progress.step("verify", 0, 1)
                verify_rows(connection, published.run_id)
                create_views(connection)
                progress.step("publish", 0, 1)
                store.commit()
        progress.step("publish", 1, 1)
    return ExplainSummary(published.run_id, len(subjects), replaced, rows, flagged, watch.total, watch.seconds)


def _explained_before(store: Store, run_id: str, subjects: NDArray[np.int64]) -> int:
    """How many of the subjects have feature reasons in this run already."""
    (count,) = store.connection.sql(
        "SELECT count(DISTINCT subject_id) FROM explanations "
        "WHERE run_id = $run AND level = 'feature' AND subject_id IN (SELECT unnest($subjects::BIGINT[]))",
        params={"run": run_id, "subjects": subjects.tolist()},
    ).fetchall()[0]
    return int(count)


def _remove_reasons(store: Store, run_id: str, subjects: NDArray[np.int64]) -> None:
    """Delete what is about to be written anew."""
    for table, kind in (
        ("explanations", "level <> 'modality'"),
        ("evidence", "kind IN ('series', 'image', 'finding', 'guideline')"),
        ("missing_impact", "true"),
        ("changes", "true"),
    ):
        store.connection.execute(
            f"DELETE FROM {SCHEMA}.{table} r USING {STANDING} n WHERE {kind} AND n.run_id = $run "
            "AND n.subject_id IN (SELECT unnest($subjects::BIGINT[])) "
            "AND r.subject_id = n.subject_id AND r.computation = n.computation",
            {"run": run_id, "subjects": subjects.tolist()},
        )


def _add_reasons(
    store: Store,
    bundle: "Bundle",
    source: Warehouse,
    published: Published,
    subjects: NDArray[np.int64],
    watch: Stopwatch,
    progress: Progress,
) -> tuple[int, int]:
    """Write reasons and evidence of the subjects; how many rows of reasons, how many subjects flagged."""
    rows = flagged = without = done = 0
    contribution = of_run(store.connection, published.run_id, subjects, bundle.model.targets, bundle.model.modalities)
    progress.step("explain", 0, len(subjects))
    for judged in _judged(bundle, source, published, subjects, watch):
        _refuse_other_risks(bundle, judged, published)
        assert judged.batch is not None
        with watch("explain"):
            told = explain_batch(
                bundle,
                judged.batch,
                judged.scored,
                judged.top_target,
                contribution[np.searchsorted(subjects, judged.batch.subject_id)],
                published.numeric_path,
            )
        store.append_reasons("explanations", told.explanations, published.run_id)
        store.append_reasons("evidence", told.evidence, published.run_id)
        if bundle.finder is not None:
            drawn = finding_evidence(judged.looked, bundle.finder, source.image_root)
            store.append_reasons("evidence", drawn, published.run_id)
        for table, told_beside in beside_reasons(bundle, judged):
            store.append_reasons(table, told_beside, published.run_id)
        rows, flagged, done = rows + told.explanations.num_rows, flagged + told.flagged, done + len(judged.batch)
        without += told.without
        progress.step("explain", done, len(subjects))
    _refuse_changed(without, len(subjects))
    return rows, flagged


def _judged(
    bundle: "Bundle", source: Warehouse, published: Published, subjects: NDArray[np.int64], watch: Stopwatch
) -> Iterator[Judged]:
    """The subjects judged again, each at the prediction_time of its published row."""
    moments = np.array([published.prediction_time[subject] for subject in subjects.tolist()], dtype=np.int64)
    read = 0
    for moment in np.unique(moments).tolist():
        for chunk in source.chunks(EXPLAINED_AT_ONCE, subjects[moments == moment]):
            read += len(chunk)
            digests = zip(chunk.subject_id.tolist(), subject_digests(chunk), strict=True)
            _refuse_changed(sum(published.digest[subject] != digest for subject, digest in digests), len(subjects))
            yield judge_chunk(bundle, source, chunk, moment, moment, watch, FP32)
    _refuse_changed(len(subjects) - read, len(subjects))


def _refuse_changed(changed: int, asked: int) -> None:
    if changed:
        raise InputError(
            f"events or images of {changed:,} or more of {asked:,} subjects changed since the night: nothing added.",
            wanted="the inputs that the published risks were computed from (eligibility.subject_digest)",
            do="score again, then explain",
        )


def _refuse_other_risks(bundle: "Bundle", judged: Judged, published: Published) -> None:
    assert judged.batch is not None, "only scored subjects are explained"
    assert judged.assessed is not None, "only scored subjects are explained"
    subject, target = np.nonzero(judged.scored)
    allowed = _SAME_RISK if published.numeric_path == FP32 else _SAME_RISK + MOST_DIFFERENCE
    wrong = {
        int(judged.batch.subject_id[row])
        for row, q in zip(subject.tolist(), target.tolist(), strict=True)
        if not abs(
            published.risk.get((int(judged.batch.subject_id[row]), *bundle.model.targets[q]), np.nan)
            - judged.assessed.risk[row, q]
        )
        <= allowed
    }
    if wrong:
        raise InputError(
            f"the published risks of {len(wrong):,} subjects are not those computed now; nothing was added.",
            wanted=f"the same risks within {allowed:g} (the night's numeric path: {published.numeric_path})",
            do="score again with this version of riskpred, then explain",
        )
