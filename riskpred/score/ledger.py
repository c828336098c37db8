"""The ledger: one row of `runs` per night, counted from the rows that were stored, read back after the commit."""

import json
from datetime import datetime
from typing import TYPE_CHECKING

from duckdb import DuckDBPyConnection

from riskpred import __version__
from riskpred.model.card import card_of_night
from riskpred.records.schema import schema_version, table_schema
from riskpred.score.plan import iso, now_us
from riskpred.score.verify import pair_counts

if TYPE_CHECKING:
    from riskpred.score.prepare import Prepared

Ledger = dict[str, object]


def ledger_row(connection: DuckDBPyConnection, prepared: "Prepared", content_digest: str) -> Ledger:
    """The night's row of `runs`, its counts taken from the stored rows."""
    night, bundle = prepared.night, prepared.bundle
    return {
        "run_id": night.run_id,
        "as_of": iso(night.as_of),
        "started_at": iso(night.started_at),
        "finished_at": iso(now_us()),
        "status": "published",
        "numeric_path": night.numeric_path,
        "bundle_name": bundle.name,
        "bundle_version": bundle.version,
        "bundle_sha256": bundle.sha256,
        "promotion": prepared.promotion.text,
        "code_version": __version__,
        "schema_version": schema_version(),
        "warehouse_digest": night.warehouse_digest,
        **pair_counts(connection, night.run_id),
        "content_digest": content_digest,
        "forgotten": 0,
        "model_card": card_of_night(bundle.card, prepared.promotion.evaluation),
    }


def add_row(connection: DuckDBPyConnection, row: Ledger) -> None:
    """Add a row to `runs`. `row`: as `ledger_row` and `read_ledger` give it."""
    names = table_schema("scores", "runs").names
    places = ", ".join("?" for _ in names)
    stored = row | {"model_card": json.dumps(row["model_card"], sort_keys=True, default=str)}
    connection.execute(f"INSERT INTO runs VALUES ({places})", [stored[name] for name in names])


def read_ledger(connection: DuckDBPyConnection, run_id: str) -> Ledger:
    """One row of `runs` as JSON can hold it: times as ISO text, the model card as an object."""
    names = table_schema("scores", "runs").names
    columns = ", ".join(f'"{name}"' for name in names)
    rows = connection.execute(f"SELECT {columns} FROM runs WHERE run_id = ?", [run_id]).fetchall()
    assert len(rows) == 1, f"run {run_id} stands {len(rows)} times in runs"
    row: Ledger = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in zip(names, rows[0], strict=True)
    }
    row["model_card"] = json.loads(str(row["model_card"]))
    return row


def read_back(connection: DuckDBPyConnection, run_id: str) -> Ledger:
    """The committed ledger row, after counting the committed rows again.

    A damaged last entry of a write-ahead log drops a transaction without a word: only reading shows it.
    Raises: AssertionError, when what is stored is not what the ledger says.
    """
    row = read_ledger(connection, run_id)
    differing = [name for name, count in pair_counts(connection, run_id).items() if row[name] != count]
    if differing:
        raise AssertionError(f"run {run_id}: the stored rows differ from the ledger in {', '.join(differing)}")
    return row
