"""What came true of published risks: collects the kept nights' risks and what today's warehouse knows of after them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from riskpred.config.model import parse
from riskpred.config.outcomes import OutcomesConfig
from riskpred.errors import BundleError, InputError
from riskpred.evaluate.gather import outcome_status
from riskpred.model.bundle import DEFINITIONS, load_bundle
from riskpred.model.scope import SEEN_IN_TRAINING
from riskpred.progress import Progress, Silent
from riskpred.records.chunk import DAY_US, STATIC
from riskpred.records.cohort import REASONS, YEAR_DAYS, cohort_at
from riskpred.records.connection import connect_readonly
from riskpred.records.schema import check_columns, table_schema
from riskpred.records.warehouse import Warehouse
from riskpred.score.views import nights

A_SCORES_FILE: Final = "a scores file published by `riskpred score`"

GONE: Final = "no longer in the warehouse"
UNLABELLED: Final = "not measured"
TODAY: Final = "not at risk then, by today's records: "
"""Begins why a prediction is not judged whose subject was found not eligible; the cohort's reason follows."""

Floats = NDArray[np.float64]
Target = tuple[str, float]


@dataclass(frozen=True)
class Immature:
    """Predictions of one target whose horizon the warehouse does not reach yet.

    first_until, last_until: the data_until at which the first and the last of them are mature (UTC microseconds).
    """

    outcome: str
    horizon_years: float
    rows: int
    first_until: int
    last_until: int


@dataclass(frozen=True)
class Followed:
    """N published predictions of one bundle, each (subject, prediction_time) once, and what followed.

    Shape:
        subject_id, prediction_time: (N,), sorted by both.
        risk: (N, Q), NaN where none was published, or the horizon is not mature.
        seen: (N,) whether the subject trained the bundle, at the site that was scored.
        time_days, status: outcome -> (N,) as in evaluate: status -1 = by today's data not at risk then, or unlabelled.
    outcomes: with each outcome's blanking window as the study has it.
    left_out: outcome -> reason -> predictions with a mature horizon that cannot be judged.
    """

    bundle_name: str
    bundle_version: str
    bundle_sha256: str
    runs: int
    outcomes: OutcomesConfig
    targets: tuple[Target, ...]
    subject_id: NDArray[np.int64]
    prediction_time: NDArray[np.int64]
    risk: Floats
    seen: NDArray[np.bool_]
    time_days: dict[str, Floats]
    status: dict[str, NDArray[np.int8]]
    immature: tuple[Immature, ...]
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Model:
    """One bundle that kept runs were scored with."""

    name: str
    version: str
    sha256: str
    runs: tuple[str, ...]
    outcomes: OutcomesConfig


def open_scores(scores: Path) -> DuckDBPyConnection:
    """A read-only connection to a scores file. Raises: InputError: missing, locked, or of another version's shape."""
    connection = connect_readonly(scores, A_SCORES_FILE)
    try:
        found: dict[str, dict[str, str]] = {}
        for table, column, kind in connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE database_name = current_database() AND schema_name = 'main'"
        ).fetchall():
            found.setdefault(table, {})[column] = kind
        for table in ("runs", "risk_scores", "drift"):
            if table not in found:
                raise InputError(
                    f"{scores}: no table {table}.", wanted=A_SCORES_FILE, do="name the file that `riskpred score` wrote"
                )
            try:
                check_columns(table_schema("scores", table), found[table], str(scores))
            except InputError as error:
                raise InputError(
                    error.what,
                    wanted=error.wanted,
                    got=error.got,
                    do="use the version of riskpred that wrote it, or score into a new file",
                ) from None
    except BaseException:
        connection.close()
        raise
    return connection


def follow(
    connection: DuckDBPyConnection,
    scores: Path,
    warehouse: Warehouse,
    model: Path | None = None,
    progress: Progress | None = None,
) -> list[Followed]:
    """Every kept run's predictions with what followed, by bundle, the newest first.

    A row carried through several nights is one prediction, made at its prediction_time. Of two risks for one subject
    and moment (a night scored anew) the newest night's counts. What an outcome is, is what outcomes.yaml said when the
    bundle was fitted; the ledger keeps it.

    Args: model: the bundle of nights whose ledger does not (scored by an older release).
    Raises: InputError: no published run. BundleError: the ledger has no definitions, and `model` is not that bundle.
    """
    progress = progress or Silent()
    if warehouse.data_until == STATIC:
        raise InputError(
            f"{warehouse.path}: no event is dated, so nothing can have followed.",
            wanted="events with a time, or data_until",
            do="name the warehouse that the hospital's records are ingested into",
        )
    return [_followed(connection, warehouse, one, progress) for one in _models(connection, scores, model)]


def _models(connection: DuckDBPyConnection, scores: Path, model: Path | None) -> list[_Model]:
    found: dict[str, list[Any]] = {}
    if not connection.execute(f"SELECT 1 FROM {nights()} LIMIT 1").fetchall():
        raise InputError(f"{scores}: no published run.", wanted="at least one", do="run `riskpred score` first")
    for run_id, name, version, sha256, card in connection.execute(
        "SELECT run_id, bundle_name, bundle_version, bundle_sha256, model_card "
        f"FROM runs JOIN {nights()} USING (run_id) "
        # The ledger of a night outlives its rows.
        "WHERE run_id IN (SELECT DISTINCT run_id FROM risk_scores) ORDER BY age"
    ).fetchall():
        about = found.setdefault(sha256, [name, version, None, []])
        about[2] = about[2] or json.loads(card).get(DEFINITIONS)
        about[3].append(run_id)
    without = [sha256 for sha256, about in found.items() if about[2] is None]
    if without:
        given = None if model is None else load_bundle(model)
        if given is None or set(without) != {given.sha256}:
            raise BundleError(
                f"{scores}: the ledger of {sum(len(found[one][3]) for one in without):,} runs does not say what their "
                "outcomes are.",
                wanted=f"the bundle that scored them, SHA-256 {', '.join(one[:12] + '...' for one in without)}",
                got="none" if given is None else f"SHA-256 {given.sha256[:12]}...",
                do="name it with --model, or score with a bundle fitted by this release",
            )
        found[given.sha256][2] = given.config.outcomes.model_dump(mode="json")
    return [
        _Model(name, version, sha256, tuple(runs), parse(OutcomesConfig, definitions, f"outcomes of {name} {version}"))
        for sha256, (name, version, definitions, runs) in found.items()
    ]


def _followed(connection: DuckDBPyConnection, warehouse: Warehouse, model: _Model, progress: Progress) -> Followed:
    groups = model.outcomes.groups
    targets = tuple(
        (name, years)
        for name in model.outcomes.outcomes
        for group in groups
        if name in group.outcomes
        for years in group.horizons_years
    )
    latest = [mature_up_to(warehouse.data_until, years) for _, years in targets]
    subject, moment, seen, risk = _published(connection, model, targets, max(latest))
    for q, last in enumerate(latest):
        risk[moment > last, q] = np.nan
    some = np.isfinite(risk).any(axis=1)
    subject, moment, seen, risk = subject[some], moment[some], seen[some], risk[some]
    cause, duration, why = _since(warehouse, model.outcomes.without_blanking(), subject, moment, progress)
    status = outcome_status(model.outcomes, cause)
    left_out: dict[str, dict[str, int]] = {}
    for name in model.outcomes.outcomes:
        mature = np.isfinite(risk[:, [target[0] == name for target in targets]]).any(axis=1)
        left_out[name] = dict(Counter(why[name][mature & (status[name] < 0)].tolist()))
    return Followed(
        bundle_name=model.name,
        bundle_version=model.version,
        bundle_sha256=model.sha256,
        runs=len(model.runs),
        outcomes=model.outcomes,
        targets=targets,
        subject_id=subject,
        prediction_time=moment,
        risk=risk,
        seen=seen,
        time_days={name: duration[group.name] for group in groups for name in group.outcomes},
        status=status,
        immature=tuple(
            found
            for (name, years), last in zip(targets, latest, strict=True)
            if (found := _immature(connection, model.runs, name, years, last)) is not None
        ),
        left_out=left_out,
    )


def _since(
    warehouse: Warehouse,
    outcomes: OutcomesConfig,
    subject: NDArray[np.int64],
    moment: NDArray[np.int64],
    progress: Progress,
) -> tuple[dict[str, NDArray[np.int8]], dict[str, Floats], dict[str, NDArray[np.object_]]]:
    """Cause and days by risk group, as in CohortRows; by outcome, why a row without a cause has none."""
    cause = {group.name: np.full(len(subject), -1, dtype=np.int8) for group in outcomes.groups}
    days = {group.name: np.full(len(subject), np.nan) for group in outcomes.groups}
    why = {name: np.full(len(subject), GONE, dtype=object) for name in outcomes.outcomes}
    wanted, done = np.unique(subject), 0
    for chunk in warehouse.chunks(subjects=wanted):
        first = int(np.searchsorted(subject, chunk.subject_id[0], side="left"))
        end = int(np.searchsorted(subject, chunk.subject_id[-1], side="right"))
        rows = first + np.flatnonzero(np.isin(subject[first:end], chunk.subject_id))
        place = np.searchsorted(chunk.subject_id, subject[rows]).astype(np.int64)
        found = cohort_at(chunk, outcomes, warehouse.data_until, place, moment[rows])
        for group in outcomes.groups:
            cause[group.name][rows] = found.cause[group.name]
            days[group.name][rows] = found.duration_days[group.name]
        for name in why:
            why[name][rows] = [
                UNLABELLED if (reason := REASONS[code]) is None else TODAY + reason
                for code in found.reason[name].tolist()
            ]
        done += len(chunk)
        progress.step("monitor: what followed", done, len(wanted))
    return cause, days, why


def mature_up_to(data_until: int, horizon_years: float) -> int:
    """The latest prediction_time whose horizon the data reach; known at once: whose day they hold whole."""
    if horizon_years == 0:
        return (data_until + 1) // DAY_US * DAY_US - 1
    return data_until - round(horizon_years * YEAR_DAYS * DAY_US)


def _matures(prediction_time: int, horizon_years: float) -> int:
    """The data_until from which on a prediction is mature."""
    if horizon_years == 0:
        return (prediction_time // DAY_US + 1) * DAY_US - 1
    return prediction_time + round(horizon_years * YEAR_DAYS * DAY_US)


def _published(
    connection: DuckDBPyConnection, model: _Model, targets: Sequence[Target], latest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], Floats]:
    """Subject, prediction_time, seen in training and risks (N, Q) of predictions up to `latest`, sorted by both.

    Of several nights' risks for one subject and moment the newest night's is taken.
    """
    columns = ", ".join(
        f"arg_min(risk, age) FILTER (WHERE outcome = $o{q} AND horizon_years = $h{q}) AS q{q}"
        for q in range(len(targets))
    )
    asked: dict[str, Any] = {"runs": list(model.runs), "latest": latest}
    for q, (outcome, years) in enumerate(targets):
        asked |= {f"o{q}": outcome, f"h{q}": years}
    found = connection.sql(
        f"""
        SELECT subject_id, epoch_us(prediction_time) AS moment,
            bool_or(list_contains(scope_flags, '{SEEN_IN_TRAINING}')) AS seen, {columns}
        FROM risk_scores JOIN {nights()} USING (run_id)
        WHERE run_id IN (SELECT unnest($runs)) AND prediction_time <= make_timestamp($latest::BIGINT)
        GROUP BY subject_id, prediction_time ORDER BY ALL
        """,
        params=asked,
    ).to_arrow_table()
    risks = [found.column(3 + q).to_numpy().astype(np.float64) for q in range(len(targets))]
    subject, moment, seen = (found.column(c).to_numpy() for c in range(3))
    return subject, moment, seen.astype(np.bool_), np.stack(risks, axis=1)


def _immature(
    connection: DuckDBPyConnection, runs: Sequence[str], outcome: str, years: float, last: int
) -> Immature | None:
    count, first, end = connection.execute(
        """
        SELECT count(*), epoch_us(min(prediction_time)), epoch_us(max(prediction_time)) FROM (
            SELECT DISTINCT subject_id, prediction_time FROM risk_scores
            WHERE run_id IN (SELECT unnest($runs)) AND outcome = $outcome AND horizon_years = $years
                AND prediction_time > make_timestamp($last::BIGINT)
        )
        """,
        {"runs": list(runs), "outcome": outcome, "years": years, "last": last},
    ).fetchall()[0]
    return Immature(outcome, years, count, _matures(first, years), _matures(end, years)) if count else None
