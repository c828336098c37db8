"""The night: plan, make the parts that are missing, then assemble, verify, and publish by an atomic swap."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from riskpred.config.night import NightConfig
from riskpred.errors import GateError
from riskpred.features.image import ImageSource
from riskpred.model.device import cuda, cuda_name
from riskpred.model.threads import one_thread
from riskpred.progress import Progress, Silent
from riskpred.records.publish import Held, locked, said_when_full, staged
from riskpred.records.warehouse import Warehouse
from riskpred.score.assemble import Assembled, assemble, write_refusal
from riskpred.score.assess import BATCH_SIZE
from riskpred.score.compute import CHUNK_SIZE, REASONS, RISKS, Common, Task, tasks_of
from riskpred.score.findings import NightFindings, NightPictures, StageFindings
from riskpred.score.ledger import Ledger
from riskpred.score.local import hand_back_memory, make_parts
from riskpred.score.parts import Parts, parts_folder
from riskpred.score.plan import iso
from riskpred.score.prepare import Engine, Prepared, Request, prepare
from riskpred.score.pseudonyms import new_salt, published_salt
from riskpred.score.ray_engine import ray_engine
from riskpred.score.reason_checks import reason_checks
from riskpred.score.shortage import said_when_short_of_memory
from riskpred.score.tell import Teller, told
from riskpred.score.timing import Stopwatch
from riskpred.score.top import top_tasks
from riskpred.score.worker import MakeParts, Place

Say = Callable[[str], None]


@dataclass(frozen=True)
class NightSummary:
    """What a night did.

    ledger: the row of `runs`.   pairs: outcome -> status -> pairs.   explained: subjects with feature reasons.
    flagged: of them, those told tonight with an (unexplained) row above the promised size.
    computed, carried: subjects.   resumed: subjects whose part an earlier, interrupted run had finished.
    seconds: by stage, added up over processes; total_seconds: on the wall.   rejects: reason -> rows.
    scope_flags: flag -> pairs with a risk that carries it, most frequent first.   drift: one sentence.
    drift_flags: flag -> rows of drift.   reason_checks: passed, failed -> checks of tonight's reasons.
    notes: what else was said.
    """

    ledger: Ledger
    pairs: dict[str, dict[str, int]]
    explained: int
    flagged: int
    computed: int
    carried: int
    resumed: int
    total_seconds: float
    seconds: dict[str, float] = field(default_factory=dict)
    scope_flags: dict[str, int] = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)
    drift: str = ""
    drift_flags: dict[str, int] = field(default_factory=dict)
    reason_checks: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def rejected_pairs(self) -> int:
        """Eligible pairs that got no risk."""
        return sum(by_status.get("rejected", 0) for by_status in self.pairs.values())


class _Refused(Exception):
    """The gate said no: leaves the block of the staging file, so that it is thrown away."""

    def __init__(self, found: Assembled) -> None:
        self.found = found
        super().__init__()


def score(
    warehouse: Path,
    model: Path,
    into: Path,
    as_of: int | None = None,
    settings: NightConfig | None = None,
    *,
    image_root: Path | None = None,
    rescore: bool = False,
    force: bool = False,
    engine: Engine = "local",
    ray_address: str | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
    batch_size: int = BATCH_SIZE,
    chunk_size: int = CHUNK_SIZE,
) -> NightSummary:
    """Score everyone eligible and publish the night into a scores file.

    Args:
        as_of: prediction_time in UTC microseconds; None = the warehouse's own, else today 00:00 UTC.
        settings: of night.yaml; None = every default.
        rescore: compute everyone, carry nobody.   force: use a bundle that no evaluation has passed.
        engine: who computes: processes of this machine, or those of a ray cluster (extra `cluster`), for which the
            warehouse is a folder of shards, and the folder of `into` is shared by all machines.
        ray_address: of that cluster; None = one is started on this machine.
        batch_size, chunk_size: subjects in the network and in memory at a time; they change no risk beyond 1e-6.

    Raises: InputError (warehouse), BundleError (bundle: does not fit, not promoted), OutputError (into), GateError (not
        published), UsageError (engine). Whatever is raised, the published risks are untouched; finished parts are kept
        for the next run.
    """
    asked = settings or NightConfig()
    request = Request(warehouse, model, into, as_of, asked, image_root, rescore, force, engine, ray_address)
    watch, notes = Stopwatch(), _Notes(say)
    with told(request, watch) as teller:
        with (
            said_when_short_of_memory(into),
            locked(into, "riskpred score", notes) as held,
            said_when_full(into),
            one_thread(),
        ):
            if held.took_over:
                teller.journal("note", code="lock_taken_over")
            with Warehouse.open(warehouse, image_root) as source:
                with watch("plan"):
                    prepared = prepare(source, request, notes)
                night = _Night(request, prepared, source, watch, notes, progress or Silent(), teller)
                summary = night.run(held, batch_size, chunk_size)
        teller.published(summary)
    return replace(summary, notes=(*notes.kept, *teller.problems))


class _Notes:
    """Passes sentences on as they come, and keeps them for the summary."""

    def __init__(self, say: Say | None) -> None:
        self._say, self.kept = say, list[str]()

    def __call__(self, text: str) -> None:
        self.kept.append(text)
        if self._say is not None:
            self._say(text)


class _Night:
    """One planned night on its way from parts to a published file."""

    def __init__(
        self,
        request: Request,
        prepared: Prepared,
        source: Warehouse,
        watch: Stopwatch,
        notes: _Notes,
        progress: Progress,
        teller: Teller,
    ) -> None:
        self._teller = teller
        self._request, self._prepared, self._source = request, prepared, source
        self._watch, self._notes, self._progress = watch, notes, progress
        self._resumed = 0
        self._found: Assembled | None = None
        self._checks: pa.Table | None = None

    def run(self, held: Held, batch_size: int, chunk_size: int) -> NightSummary:
        into = self._request.into
        plan = self._prepared.parts_plan(self._request.settings, batch_size)
        parts = Parts(parts_folder(into), plan, published_salt(into) or new_salt())
        if parts.removed:
            self._notes(f"{parts.removed:,} parts of another, unfinished night were removed")
        before = _identity(into)
        try:
            self._run(held, parts, batch_size, chunk_size)
        except BaseException as error:
            # Asked to stop after the swap, what is left to do is less than to explain why it was not done.
            if not isinstance(error, KeyboardInterrupt) or self._found is None or _identity(into) == before:
                self._say_what_is_kept(parts)
                raise
            self._notes("asked to stop when the night was published already")
            if parts.folder.is_dir():
                parts.remove()
        return self._summary()

    def _summary(self) -> NightSummary:
        found, prepared = self._found, self._prepared
        assert found is not None, "published"
        return NightSummary(
            ledger=found.ledger,
            pairs=found.pairs,
            explained=found.explained,
            flagged=found.flagged,
            computed=len(prepared.to_compute),
            carried=len(prepared.standing.subject_id),
            resumed=self._resumed,
            total_seconds=self._watch.total,
            seconds=self._watch.seconds,
            scope_flags=found.scope_flags,
            rejects=found.rejects,
            drift=found.drift,
            drift_flags=found.drift_flags,
            reason_checks=found.reason_checks,
        )

    def _run(self, held: Held, parts: Parts, batch_size: int, chunk_size: int) -> None:
        request, prepared, settings = self._request, self._prepared, self._request.settings
        into, night = request.into, prepared.night
        common = Common(night, parts.folder, parts.salt, settings.explain, batch_size, chunk_size)
        tasks = tasks_of(RISKS, prepared.to_compute, settings.part_size, night.as_of, prepared.shards)
        self._keep(parts, RISKS, tasks)
        self._teller.planned(prepared, len(tasks), len(parts.finished(RISKS)))
        model = prepared.bundle.model
        if request.engine == "local" and (card := cuda()) is not None:
            self._notes(f"CUDA ({cuda_name(card)}) encodes {', '.join(model.modalities)}, in {night.numeric_path}")
        with ExitStack() as opened, self._engine() as make:
            images = opened.enter_context(self._images())
            self._resumed = self._make(make, parts, common, tasks, "score", images.everything)
            if not images.findings:
                images.close()
            for said in images.notes:
                self._notes(said)
            seen = images.counts
            if seen.cached or seen.decoded:
                self._notes(f"images: {seen.cached:,} known from earlier nights, {seen.decoded:,} read")
            reasons = top_tasks(
                into,
                prepared.standing,
                parts,
                model.targets,
                model.modalities,
                settings.explain,
                night.as_of,
                prepared.shards,
            )
            self._keep(parts, REASONS, reasons)
            # What images show is known by now; pixels that an encoder reads are read anew.
            self._make(make, parts, common, reasons, "explain", images.findings)
            if images.findings:
                self._source.finder = NightFindings(prepared.bundle.config.imaging, images.findings)
            with self._watch("check reasons"):
                self._checks, failed = reason_checks(prepared.bundle, self._source, night, parts, reasons)
        if failed:
            self._notes(failed)
        told = parts.finished(REASONS).values()
        if without := sum(about["without"] for about in told):
            self._notes(f"{without:,} subjects got no feature reasons: an input they were scored from is not there now")
        for about in (*parts.finished(RISKS).values(), *told):
            self._watch.add(about["seconds"])
        hand_back_memory()
        self._publish(held, parts)

    def _say_what_is_kept(self, parts: Parts) -> None:
        kept = sum(len(parts.finished(kind)) for kind in (RISKS, REASONS))
        if kept:
            self._notes(
                f"{kept:,} finished parts are kept: the same night (--as-of {iso(self._prepared.night.as_of)}), run "
                "again, goes on from there"
            )

    def _engine(self) -> AbstractContextManager[MakeParts]:
        if self._request.engine == "local":
            return nullcontext(make_parts)
        # One beside each worker: a decoder that dies must not end the worker.
        decoders = min(1, self._request.settings.decode_worker_count)
        return ray_engine(self._request.ray_address, decoders)

    def _images(self) -> NightPictures:
        request, settings = self._request, self._request.settings
        return NightPictures(
            self._prepared.bundle,
            request.into if settings.images.cache else None,
            "bf16" if self._prepared.night.numeric_path == "bf16" else "fp32",
            settings.decode_worker_count,
            cache_days=settings.images.cache_days,
        )

    def _keep(self, parts: Parts, kind: str, tasks: Sequence[Task]) -> None:
        removed = parts.keep(kind, {task.number: task.content for task in tasks})
        if removed:
            self._notes(f"{removed:,} finished parts of an interrupted run were removed: they are of other subjects")

    def _make(
        self,
        make: MakeParts,
        parts: Parts,
        common: Common,
        tasks: Sequence[Task],
        stage: str,
        images: Mapping[str, ImageSource | StageFindings],
    ) -> int:
        """Make the parts that are not there; how many subjects were there already."""
        finished = parts.finished(tasks[0].kind) if tasks else {}
        missing = [task for task in tasks if task.number not in finished]
        total = sum(len(task.subjects) for task in tasks)
        if not total:
            return 0
        there = total - sum(len(task.subjects) for task in missing)
        if there:
            self._notes(f"{stage}: {there:,} of {total:,} subjects are in finished parts of an interrupted run")
        done, made = there, len(tasks) - len(missing)
        self._progress.step(stage, done, total)

        def on_done(more: int, part: bool) -> None:
            nonlocal done, made
            done, made = done + more, made + part
            if more:
                self._progress.step(stage, done, total)
            if part:
                self._teller.part_done(tasks[0].kind, made, len(tasks), done)

        request = self._request
        make(
            self._prepared.bundle,
            self._source,
            Place(request.warehouse, request.model, request.image_root, self._source.state),
            common,
            images,
            missing,
            request.settings.workers,
            on_done,
            self._notes,
        )
        return there

    def _publish(self, held: Held, parts: Parts) -> None:
        request, settings = self._request, self._request.settings
        try:
            with (
                self._watch("publish"),
                staged(request.into, settings.duckdb_memory, held=held, from_published=True) as connection,
            ):
                self._progress.step("verify", 0, 1)
                found = self._found = assemble(
                    connection,
                    request.into,
                    self._prepared,
                    parts,
                    self._source.site,
                    self._source.incomplete_images(),
                    settings,
                    self._watch,
                    self._checks,
                )
                self._teller.journal("gate", gate="all", passed=not found.refused)
                if found.refused:
                    raise _Refused(found)
                self._progress.step("verify", 1, 1)
                self._progress.step("publish", 0, 1)
        except AssertionError:
            parts.remove()  # what breaks a promise must not be used again
            raise
        except _Refused as no:
            self._found = None
            self._teller.refused(no.found)
            with staged(request.into, settings.duckdb_memory, held=held, from_published=True) as connection:
                write_refusal(connection, request.into, no.found.ledger, parts.salt)
            raise GateError(
                f"{request.into}: the night was not published: {'; '.join(no.found.refused)}.",
                wanted="a night within `gates` of night.yaml",
                do="look at tonight's data (riskpred check WAREHOUSE), mend it or set the gate, then run again: "
                "yesterday's tables stand, and `runs` has a row that says refused",
            ) from None
        parts.remove()
        self._progress.step("publish", 1, 1)


def _identity(file: Path) -> tuple[int, int] | None:
    """Which file has that name: another one after a swap. None = no file."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
