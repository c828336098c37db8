"""What a night would do and how long it would take, without writing anything (`riskpred score --dry-run`)."""

import time
from dataclasses import dataclass

from riskpred.model.ageing import ageing_said
from riskpred.model.threads import one_thread
from riskpred.records.warehouse import Warehouse
from riskpred.score.chunk import judge_chunk
from riskpred.score.compute import CHUNK_SIZE, LOOKED_AT_ONCE, RISKS, affordable, tasks_of
from riskpred.score.local import WORTH_SECONDS
from riskpred.score.plan import iso, latest_valid
from riskpred.score.prepare import Prepared, Request, prepare
from riskpred.score.ray_engine import workers_of
from riskpred.score.timing import Stopwatch

_MEASURED = 4
"""Chunks that are judged to measure the rate; the first one, which warms up, does not count."""

_COPIED_PER_SECOND = 500e6
"""Bytes of the published file copied a second: a plain disk; a faster one is better news."""

_WRITTEN_PER_SECOND = 0.8e6
"""Risks a second that are inserted, with what is written beside them (tests/benchmarks/night)."""

_VERIFIED_PER_SECOND = 2e6
"""Risks a second that are read again and checked, carried ones too."""


@dataclass(frozen=True)
class Forecast:
    """A night as planned.

    to_compute, to_carry: subjects.   model_seconds: wall, on `workers` processes, from a rate measured now on some of
    the subjects; copy_seconds: to copy the published file, write rows and verify, from usual rates.   promotion: what
    the ledger would say.   ageing: how far 30 days alone move a risk (the model card).   notes: what `score` would say
    before it starts.
    """

    run_id: str
    as_of: str
    subjects: int
    to_compute: int
    to_carry: int
    carried_from: str | None
    workers: int
    subjects_per_second: float | None
    model_seconds: float
    copy_seconds: float
    promotion: str
    ageing: str
    notes: tuple[str, ...]


def forecast(request: Request) -> Forecast:
    """Plan the night that `score` would run with the same request. Raises: as `prepare`."""
    notes: list[str] = []
    with one_thread(), Warehouse.open(request.warehouse, request.image_root) as source:
        prepared = prepare(source, request, notes.append)
        rate = _rate(source, prepared)
    size = request.into.stat().st_size if request.into.exists() else 0
    risks = len(prepared.bundle.model.targets)
    written, verified = len(prepared.to_compute) * risks, prepared.everyone * risks
    size_of_part, moment = request.settings.part_size, prepared.night.as_of
    tasks = len(tasks_of(RISKS, prepared.to_compute, size_of_part, moment, prepared.shards))
    there = request.settings.worker_count
    if request.engine == "ray" and request.ray_address is not None and tasks:
        there = workers_of(request.ray_address, request.settings.workers)
    workers = max(1, min(there, tasks))
    alone = 0.0 if rate is None else len(prepared.to_compute) / rate
    if request.engine == "local" and request.settings.workers is None and alone <= WORTH_SECONDS:
        workers = 1
    return Forecast(
        run_id=prepared.night.run_id,
        as_of=iso(prepared.night.as_of),
        subjects=prepared.everyone,
        to_compute=len(prepared.to_compute),
        to_carry=len(prepared.standing.subject_id),
        carried_from=prepared.standing.run_id,
        workers=workers,
        subjects_per_second=None if rate is None else round(rate, 1),
        model_seconds=round(alone / workers, 1),
        copy_seconds=round(
            size / _COPIED_PER_SECOND + written / _WRITTEN_PER_SECOND + verified / _VERIFIED_PER_SECOND, 1
        ),
        promotion=prepared.promotion.text,
        ageing=ageing_said(prepared.bundle.card),
        notes=tuple(notes),
    )


def _rate(source: Warehouse, prepared: Prepared) -> float | None:
    """Subjects a second that one process reads and judges; None where there are none to compute."""
    size = affordable(prepared.bundle.plan, CHUNK_SIZE if prepared.bundle.finder is None else LOOKED_AT_ONCE)
    some = prepared.to_compute[: size * _MEASURED]
    done, began = 0, time.monotonic()
    for at, chunk in enumerate(source.chunks(size, some)):
        judge_chunk(
            prepared.bundle,
            source,
            chunk,
            prepared.night.as_of,
            latest_valid(prepared.night, chunk.subject_id),
            Stopwatch(),
            prepared.night.numeric_path,
        )
        if at == 0 and len(some) > size:
            done, began = 0, time.monotonic()
            continue
        done += len(chunk)
    return done / (time.monotonic() - began) if done else None
