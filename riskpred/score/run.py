"""The night: stream the warehouse, compute, write one staging file, verify it, publish it by an atomic swap."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from riskpred.errors import OutputError
from riskpred.explain.reasons import modality_rows
from riskpred.explain.subjects import explain_batch
from riskpred.features.fits import check_fits
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.model.bundle import load_bundle
from riskpred.model.threads import one_thread
from riskpred.progress import Progress, Silent
from riskpred.records.publish import staged
from riskpred.records.schema import table_schema, tables
from riskpred.records.warehouse import Warehouse
from riskpred.score.assess import BATCH_SIZE
from riskpred.score.chunk import EXPLAINED_AT_ONCE, Judged, judge_chunk
from riskpred.score.ledger import Ledger, read_back, write_ledger
from riskpred.score.plan import Night, now_us, plan_night
from riskpred.score.pseudonyms import kept_salt, pseudonyms
from riskpred.score.rows import (
    eligibility_rows,
    incomplete_image_rows,
    pseudonym_rows,
    receipt_rows,
    reject_rows,
    risk_rows,
)
from riskpred.score.select import TopSubjects
from riskpred.score.store import Store
from riskpred.score.timing import Stopwatch
from riskpred.score.verify import verify_rows
from riskpred.score.views import create_views

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

CHUNK_SIZE = 2048
"""Subjects held in memory at a time; fewer where their images are large."""

MEMORY_LIMIT = "2GB"
"""What DuckDB may hold of the file it writes; the rest goes to disk, so memory does not grow with the archive."""

_CHUNK_PIXELS = 64 * 1024 * 1024


@dataclass(frozen=True)
class NightSummary:
    """What a night did.

    ledger: the row of `runs`.   pairs: outcome -> status -> pairs.   explained: subjects with feature reasons.
    flagged: of them, those with an (unexplained) row above the promised size.   seconds: by stage, and total.
    scope_flags: flag -> pairs with a risk that carries it, most frequent first.
    """

    ledger: Ledger
    pairs: dict[str, dict[str, int]]
    explained: int
    flagged: int
    total_seconds: float
    seconds: dict[str, float] = field(default_factory=dict)
    scope_flags: dict[str, int] = field(default_factory=dict)


def score(
    warehouse: Path,
    model: Path,
    into: Path,
    as_of: int | None = None,
    explain: int = 1000,
    image_root: Path | None = None,
    progress: Progress | None = None,
    batch_size: int = BATCH_SIZE,
    chunk_size: int = CHUNK_SIZE,
) -> NightSummary:
    """Score everyone eligible and publish the night into a scores file, keeping its earlier nights.

    Args:
        as_of: prediction_time in UTC microseconds; None = the warehouse's own, else today 00:00 UTC.
        explain: how many subjects get feature reasons and evidence.
        batch_size, chunk_size: subjects in the network and in memory at a time; they change no risk beyond 1e-6.

    Raises: InputError (warehouse), BundleError (bundle, or it does not fit), OutputError (into). Whatever is raised,
        the published file is untouched and no staging file is left.
    """
    progress = progress or Silent()
    watch = Stopwatch()
    _refuse_overwriting(into, warehouse)
    with one_thread(), Warehouse.open(warehouse, image_root) as source:
        bundle = load_bundle(model)
        check_fits(bundle.plan, source)
        chunk_size = affordable(bundle.plan, chunk_size)
        batch_size = affordable(bundle.plan, batch_size)
        with watch("digest"):
            night = plan_night(source, bundle, as_of)
        with staged(into, MEMORY_LIMIT) as connection:
            store = Store(connection, into)
            with watch("keep earlier nights"):
                _keep_other_runs(store, night)
            writer = _Writer(bundle, source, store, night, watch, progress, batch_size, chunk_size)
            top = writer.everyone(explain)
            flagged = writer.reasons(top) if len(top) else 0
            with watch("verify and publish"):
                progress.step("verify", 0, 1)
                verify_rows(connection, night.run_id)
                write_ledger(connection, night, bundle)
                create_views(connection)
                progress.step("publish", 0, 1)
                store.commit()
                ledger = read_back(connection, night.run_id)
                pairs, flags = _pairs(store, night), _flagged_pairs(store, night)
        progress.step("publish", 1, 1)
    return NightSummary(ledger, pairs, len(top), flagged, watch.total, watch.seconds, flags)


def affordable(plan: FeaturePlan, subjects: int) -> int:
    """How many subjects to hold at a time, at most `subjects`, so that their pixels take 256 MiB at most.

    Example:
        >>> affordable(FeaturePlan({"image": ImagePlan(("DX",), None, None, size=1024)}), 2048)
        64
    """
    pixels = sum(spec.size**2 for spec in plan.modalities.values() if isinstance(spec, ImagePlan))
    return min(subjects, max(1, _CHUNK_PIXELS // pixels)) if pixels else subjects


def _refuse_overwriting(into: Path, warehouse: Path) -> None:
    if into.resolve() == warehouse.resolve():
        raise OutputError(
            f"{into}: is the warehouse itself.", wanted="another file for the scores", do="give another --into"
        )


def _keep_other_runs(store: Store, night: Night) -> None:
    for table in tables("scores"):
        ours = "run_id" in table_schema("scores", table).names
        store.keep(table, unless=f"run_id = '{night.run_id}'" if ours else "false")


def _pairs(store: Store, night: Night) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for outcome, status, count in store.connection.execute(
        "SELECT outcome, status, count(*) FROM eligibility WHERE run_id = ? GROUP BY ALL ORDER BY ALL", [night.run_id]
    ).fetchall():
        counts.setdefault(outcome, {})[status] = count
    return counts


def _flagged_pairs(store: Store, night: Night) -> dict[str, int]:
    found = store.connection.execute(
        "SELECT flag, count(DISTINCT (subject_id, outcome)) FROM risk_scores, unnest(scope_flags) AS f(flag) "
        "WHERE run_id = ? GROUP BY flag ORDER BY 2 DESC, 1",
        [night.run_id],
    ).fetchall()
    return dict(found)


class _Writer:
    """The two passes over the warehouse: everyone, then the few whose reasons are told feature by feature."""

    def __init__(
        self,
        bundle: "Bundle",
        source: Warehouse,
        store: Store,
        night: Night,
        watch: Stopwatch,
        progress: Progress,
        batch_size: int,
        chunk_size: int,
    ) -> None:
        self._bundle, self._source, self._store, self._night = bundle, source, store, night
        self._watch, self._progress = watch, progress
        self._batch_size, self._chunk_size = batch_size, chunk_size

    def everyone(self, explain: int) -> NDArray[np.int64]:
        """First pass: every row but feature reasons and evidence. Returns the subjects to explain."""
        salt = kept_salt(self._store.connection)
        top, scored_at = TopSubjects(explain), now_us()
        with self._watch("write"):
            # Once a night: such a row may belong to nobody, so no chunk would bring it.
            self._store.append("rejects", incomplete_image_rows(self._night, self._source.incomplete_images()))
        done, total = 0, self._source.subject_count
        self._progress.step("score", done, total)
        for judged in self._judged(None):
            with self._watch("write"):
                self._write(judged, salt, scored_at)
            if judged.batch is not None:
                top.offer(judged.batch.subject_id, judged.top_score)
            done += len(judged.subject_id)
            self._progress.step("score", done, total)
        return top.subjects()

    def reasons(self, subjects: NDArray[np.int64]) -> int:
        """Second pass, over these subjects only. Returns how many kept too large a remainder."""
        flagged = done = 0
        self._progress.step("explain", 0, len(subjects))
        for judged in self._judged(subjects):
            assert judged.batch is not None, "only scored subjects are explained"
            with self._watch("explain"):
                told = explain_batch(self._bundle, judged.batch, self._night.run_id, judged.scored, judged.top_target)
            with self._watch("write"):
                self._store.append("explanations", told.explanations)
                self._store.append("evidence", told.evidence)
            flagged += told.flagged
            done += len(judged.subject_id)
            self._progress.step("explain", done, len(subjects))
        return flagged

    def _judged(self, subjects: NDArray[np.int64] | None) -> Iterator[Judged]:
        chunks = self._source.chunks(self._chunk_size if subjects is None else EXPLAINED_AT_ONCE, subjects)
        while True:
            with self._watch("read"):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield judge_chunk(
                self._bundle,
                self._source,
                chunk,
                self._night.as_of,
                self._night.valid_until,
                self._watch,
                self._batch_size,
            )

    def _write(self, judged: Judged, salt: bytes, scored_at: int) -> None:
        night, store, bundle = self._night, self._store, self._bundle
        store.append(
            "eligibility",
            eligibility_rows(
                night,
                list(bundle.config.outcomes.outcomes),
                judged.subject_id,
                judged.prediction_time,
                judged.digest,
                judged.valid_until,
                judged.status,
                judged.reason,
            ),
        )
        store.append("pseudonyms", pseudonym_rows(night, judged.subject_id, pseudonyms(salt, judged.subject_id)))
        if judged.batch is None or judged.assessed is None:
            return
        batch, targets = judged.batch, bundle.model.targets
        store.append(
            "risk_scores",
            risk_rows(
                night,
                targets,
                batch,
                judged.assessed,
                judged.scored,
                judged.scope_flags,
                scored_at,
                bundle.reference_group,
            ),
        )
        store.append("input_receipts", receipt_rows(night, batch))
        store.append("rejects", reject_rows(night, batch.rejects))
        store.append(
            "explanations",
            modality_rows(
                night.run_id,
                targets,
                bundle.model.modalities,
                batch.subject_id,
                judged.assessed.contribution,
                judged.scored,
            ),
        )
