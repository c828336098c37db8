"""Tells the operator's monitoring how a night went: its log as it happens, its metrics file however it ends."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from riskpred.errors import GateError, NotAllScored, OutputError, RiskpredError
from riskpred.score.journal import Journal, ledger_fields
from riskpred.score.metrics_file import NightFigures, refuse_metrics_place, write_metrics
from riskpred.score.timing import Stopwatch

if TYPE_CHECKING:
    from riskpred.score.assemble import Assembled
    from riskpred.score.prepare import Prepared, Request
    from riskpred.score.run import NightSummary

_BUG, _STOPPED = 1, 130


class Teller:
    """Log and metrics of one night. problems: sentences on what could not be told."""

    def __init__(self, request: "Request", watch: Stopwatch, journal: Journal) -> None:
        self.journal, self.problems = journal, list[str]()
        self._request, self._watch = request, watch
        self._info: dict[str, str] = {}
        self._as_of: float | None = None
        self._refused: Assembled | None = None

    def planned(self, prepared: "Prepared", parts: int, resumed: int) -> None:
        night, bundle = prepared.night, prepared.bundle
        promoted, settings = prepared.promotion, self._request.settings
        self.journal.bind(night.run_id)
        self._as_of = night.as_of / 1e6
        self._info = {
            "run_id": night.run_id,
            "bundle": bundle.name,
            "bundle_version": bundle.version,
            "numeric_path": night.numeric_path,
        }
        self.journal(
            "night_planned",
            as_of=night.as_of,
            numeric_path=night.numeric_path,
            bundle_name=bundle.name,
            bundle_version=bundle.version,
            bundle_sha256=bundle.sha256,
            warehouse_digest=night.warehouse_digest,
            promoted="passed" if promoted.passed else "forced" if promoted.forced else "not_required",
            rescore=self._request.rescore,
            subjects=prepared.everyone,
            to_compute=len(prepared.to_compute),
            carried=len(prepared.standing.subject_id),
            parts=parts,
            resumed=resumed,
            engine=self._request.engine,
            # How many a cluster has room for is known when the first part is asked for.
            workers=settings.worker_count if self._request.engine == "local" else settings.workers,
        )

    def part_done(self, kind: str, done: int, parts: int, subjects: int) -> None:
        self.journal("part_done", kind=kind, part=done, parts=parts, subjects=subjects, seconds=self._watch.total)

    def refused(self, found: "Assembled") -> None:
        self._refused = found
        self.journal(
            "refused",
            **ledger_fields("refused", found.ledger),
            gates=len(found.refused),
            rejects=found.rejects,
            stages=self._watch.seconds,
            seconds=self._watch.total,
            exit_code=GateError.exit_code,
        )

    def published(self, summary: "NightSummary") -> None:
        """Log a night that stands, and write its metrics: what fails here is said, and no longer changes the night."""
        code = NotAllScored.exit_code if summary.rejected_pairs else 0
        self.journal(
            "published",
            **ledger_fields("published", summary.ledger),
            pairs=summary.pairs,
            rejects=summary.rejects,
            scope_flags=summary.scope_flags,
            drift_flags=summary.drift_flags,
            computed=summary.computed,
            carried=summary.carried,
            explained=summary.explained,
            flagged=summary.flagged,
            stages=summary.seconds,
            seconds=summary.total_seconds,
            exit_code=code,
        )
        self._metrics(
            "published",
            code,
            pairs=summary.pairs,
            rejects=summary.rejects,
            risk_rows=int(str(summary.ledger["risk_rows"])),
            subjects={"computed": summary.computed, "carried": summary.carried},
            drift_flags=summary.drift_flags,
            scope_flags=summary.scope_flags,
        )

    def failed(self, error: BaseException) -> None:
        code = (
            error.exit_code if isinstance(error, RiskpredError) else _BUG if isinstance(error, Exception) else _STOPPED
        )
        if self._refused is None:
            self.journal.failed(error, stages=self._watch.seconds, seconds=self._watch.total)
            self._metrics("failed", code)
        else:
            self._metrics("refused", code, pairs=self._refused.pairs, rejects=self._refused.rejects)

    def _metrics(
        self,
        status: str,
        exit_code: int,
        *,
        pairs: Mapping[str, Mapping[str, int]] | None = None,
        rejects: Mapping[str, int] | None = None,
        risk_rows: int | None = None,
        subjects: Mapping[str, int] | None = None,
        drift_flags: Mapping[str, int] | None = None,
        scope_flags: Mapping[str, int] | None = None,
    ) -> None:
        file = self._request.settings.logs.metrics_file
        if file is None:
            return
        figures = NightFigures(
            scores=self._request.into.name,
            status=status,
            exit_code=exit_code,
            finished=time.time(),
            as_of=self._as_of,
            total_seconds=self._watch.total,
            risk_rows=risk_rows,
            info=self._info,
            pairs=pairs or {},
            subjects=subjects or {},
            rejects=rejects or {},
            seconds=dict(self._watch.seconds),
            drift_flags=drift_flags or {},
            scope_flags=scope_flags or {},
        )
        try:
            write_metrics(file, figures)
        except OutputError as error:
            self.problems.append(error.what)


@contextmanager
def told(request: "Request", watch: Stopwatch) -> Iterator[Teller]:
    """Open the night's log and see that its end is told, whatever it is.

    Raises: OutputError, before anything is done, when the log or the metrics file cannot be written.
    """
    logs = request.settings.logs
    if logs.metrics_file is not None:
        refuse_metrics_place(logs.metrics_file)
    with Journal(logs.log_file) as journal:
        teller = Teller(request, watch, journal)
        try:
            yield teller
        except BaseException as error:
            teller.failed(error)
            raise
        finally:
            if journal.problem:
                teller.problems.append(journal.problem)
