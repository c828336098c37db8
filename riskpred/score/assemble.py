"""Puts a night together in the staging file: loads parts, carries, asks the gate, retires old nights, verifies."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from duckdb import DuckDBPyConnection

from riskpred.config.night import NightConfig
from riskpred.model.drift_reference import drift_reference_of
from riskpred.records.schema import tables
from riskpred.score.carry import carry_over
from riskpred.score.compute import REASONS, RISKS, joined_content
from riskpred.score.drift import drift_rows, drift_said
from riskpred.score.drift_statistics import DriftLimits
from riskpred.score.gate import refusals
from riskpred.score.layout import BY_SUBJECT
from riskpred.score.ledger import Ledger, add_row, ledger_row, read_back
from riskpred.score.parts import Parts
from riskpred.score.plan import iso
from riskpred.score.prepare import Prepared
from riskpred.score.pseudonyms import keep_salt
from riskpred.score.rows import incomplete_image_rows
from riskpred.score.store import REPLACED, Store
from riskpred.score.timing import Stopwatch
from riskpred.score.verify import verify_night
from riskpred.score.views import create_views

_PARTS_AT_ONCE = 4
"""Parts mapped into memory and inserted by one statement: enough for two threads, little enough for memory."""


@dataclass(frozen=True)
class Assembled:
    """A night in the staging file. refused: why it must not be published; () = it may."""

    ledger: Ledger
    refused: tuple[str, ...]
    pairs: dict[str, dict[str, int]]
    scope_flags: dict[str, int]
    rejects: dict[str, int]
    explained: int
    flagged: int
    drift: str
    drift_flags: dict[str, int]
    reason_checks: dict[str, int]


def assemble(
    connection: DuckDBPyConnection,
    scores: Path,
    prepared: Prepared,
    parts: Parts,
    site: str,
    incomplete_images: Sequence[tuple[str, int | None, str]],
    settings: NightConfig,
    watch: Stopwatch,
    checks: pa.Table | None = None,
) -> Assembled:
    """Write the night into the staging copy of the published file, and check it.

    Args: checks: rows of reason_checks.
    Raises: AssertionError, when a stored row breaks a promise.
    """
    night, found = prepared.night, prepared.standing
    reference = drift_reference_of(prepared.bundle)
    store = Store(connection, scores)
    again = found.run_id == night.run_id
    if again:
        store.set_aside(night.run_id)
    else:
        store.forget_run(night.run_id)
    source = REPLACED if again else found.run_id
    keep_salt(connection, parts.salt)
    with watch("write"):
        made, told = parts.finished(RISKS), parts.finished(REASONS)
        computation = _write_computed(store, parts, sorted(made), night.run_id, prepared.bundle.model.modalities)
        # Once a night: such a row may belong to nobody, so no part would bring it.
        store.append("rejects", incomplete_image_rows(night, incomplete_images))
        if checks is not None:
            store.append("reason_checks", checks)
    with watch("carry"):
        if source is not None:
            carry_over(connection, source, night.run_id, found.subject_id)
        for rows, table in _loaded(parts, REASONS, sorted(told)):
            store.append_reasons(table, rows, night.run_id)
    with watch("verify"):
        refused = refusals(connection, night.run_id, source, settings.gates)
    with watch("retire old nights"):
        if again:
            if len(found.subject_id) and (checks is None or not checks.num_rows):
                # No reason is new tonight: those that stand are those that were checked when they were told.
                store.keep_checks(REPLACED, night.run_id)
            store.forget_run(REPLACED)
        store.retire(_retired(connection, night.as_of, settings.keep_runs))
    with watch("verify"):
        drift = drift_rows(
            connection,
            night.run_id,
            reference,
            as_of=night.as_of,
            bundle_sha256=night.bundle_sha256,
            site=site,
            limits=DriftLimits(psi_watch=settings.drift.psi_watch, psi_alarm=settings.drift.psi_alarm),
        )
        store.append("drift", drift)
        store.commit()
        stored = verify_night(connection, night.run_id, computation, joined_content(list(made.values())), found.content)
        row = ledger_row(connection, prepared, stored.digest)
        add_row(connection, row)
        create_views(connection)
        store.commit()
        ledger = read_back(connection, night.run_id)
    return Assembled(
        ledger,
        tuple(refused),
        _pairs(connection, night.run_id),
        _flagged_pairs(connection, night.run_id),
        _rejects(connection, night.run_id),
        _explained(connection, night.run_id),
        sum(about["flagged"] for about in told.values()),
        drift_said(drift, reference),
        dict(Counter(flag for flag in drift.column("flag").to_pylist() if flag)),
        {}
        if checks is None
        else dict(Counter("passed" if passed else "failed" for passed in checks.column("passed").to_pylist())),
    )


def write_refusal(connection: DuckDBPyConnection, scores: Path, ledger: Ledger, salt: bytes) -> None:
    """Add the ledger row of a night that was refused, and nothing else of it.

    Where the same night stands published already, it stays: one row a night.
    """
    store = Store(connection, scores)
    keep_salt(connection, salt)
    run_id = ledger["run_id"]
    connection.execute("DELETE FROM runs WHERE run_id = $run AND status = 'refused'", {"run": run_id})
    if not connection.execute("SELECT 1 FROM runs WHERE run_id = $run", {"run": run_id}).fetchall():
        add_row(connection, ledger | {"status": "refused"})
    create_views(connection)
    store.commit()


def _write_computed(
    store: Store, parts: Parts, numbers: list[int], run_id: str, modalities: Sequence[str]
) -> int | None:
    """Store what was computed tonight, and let the night stand on it; the computation's number, None without any."""
    if not numbers:
        return None
    computation = store.new_computation(run_id, modalities)
    for rows, table in _loaded(parts, RISKS, numbers):
        if table in BY_SUBJECT:
            store.append_computed(table, rows, computation)
        else:
            store.append(table, rows)
    store.stand_on(run_id, computation)
    return computation


def _loaded(parts: Parts, kind: str, numbers: list[int]) -> Iterator[tuple[pa.Table, str]]:
    """Rows of some parts, with the table they belong to."""
    for table in tables("scores"):
        for at in range(0, len(numbers), _PARTS_AT_ONCE):
            rows = list(parts.rows(kind, numbers[at : at + _PARTS_AT_ONCE], table))
            if rows:
                yield pa.concat_tables(rows), table


def _retired(connection: DuckDBPyConnection, as_of: int, keep_runs: int) -> list[str]:
    """Published nights that are more than `keep_runs` with tonight's, whose row of `runs` is not there yet.

    The latest night stays even if tonight's, of the past, is the only other one to keep: analysts' views read it.
    """
    rows = connection.execute(
        "SELECT run_id, as_of > $as_of::TIMESTAMP FROM runs WHERE status = 'published' "
        "ORDER BY as_of DESC, finished_at DESC, run_id",
        {"as_of": iso(as_of)},
    ).fetchall()
    kept = keep_runs - 1
    if rows and rows[0][1]:
        kept = max(kept, 1)
    return [run_id for run_id, _ in rows[kept:]]


def _pairs(connection: DuckDBPyConnection, run_id: str) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for outcome, status, count in connection.execute(
        "SELECT outcome, status, count(*) FROM eligibility WHERE run_id = $run GROUP BY ALL ORDER BY ALL",
        {"run": run_id},
    ).fetchall():
        counts.setdefault(outcome, {})[status] = count
    return counts


def _flagged_pairs(connection: DuckDBPyConnection, run_id: str) -> dict[str, int]:
    found = connection.execute(
        "SELECT flag, count(DISTINCT (subject_id, outcome)) FROM "
        "(SELECT * FROM risk_scores WHERE run_id = $run AND len(scope_flags) > 0), unnest(scope_flags) AS f(flag) "
        "GROUP BY flag ORDER BY 2 DESC, 1",
        {"run": run_id},
    ).fetchall()
    return dict(found)


def _rejects(connection: DuckDBPyConnection, run_id: str) -> dict[str, int]:
    return dict(
        connection.execute(
            "SELECT reason, count(*) FROM rejects WHERE run_id = $run GROUP BY reason ORDER BY 2 DESC, 1",
            {"run": run_id},
        ).fetchall()
    )


def _explained(connection: DuckDBPyConnection, run_id: str) -> int:
    (count,) = connection.execute(
        "SELECT count(DISTINCT subject_id) FROM explanations WHERE run_id = $run AND level = 'feature'",
        {"run": run_id},
    ).fetchall()[0]
    return int(count)
