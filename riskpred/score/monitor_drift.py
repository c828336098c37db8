"""What the kept nights say of drift: the newest night's flags, and how each came about over the last 7 nights."""

from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection

from riskpred.score.drift import RUNS, name_of
from riskpred.score.views import nights


@dataclass(frozen=True)
class Drift:
    """The newest night's drift. rows: how many differences were looked at; flags: those flagged, alarms first.

    Each flag: name, kind, statistic, against, flag, reference, tonight, n_reference, n_tonight, trend (that statistic
    in the last 7 nights that have it, the newest last). nights: as_of of these, as ISO text, the newest last.
    """

    run_id: str
    as_of: str
    site: str | None
    rows: int
    nights: list[str]
    flags: list[dict[str, Any]]


def read_drift(connection: DuckDBPyConnection) -> Drift:
    """The newest published night's drift; a scores file without one is refused before (`monitor.follow`)."""
    last = connection.execute(
        f"SELECT run_id, strftime(as_of, '%Y-%m-%dT%H:%M:%S') FROM runs JOIN {nights()} USING (run_id) "
        f"WHERE age <= {RUNS} ORDER BY age DESC"
    ).fetchall()
    run_id, as_of = last[-1]
    rows, site = connection.execute("SELECT count(*), min(site) FROM drift WHERE run_id = ?", [run_id]).fetchall()[0]
    cursor = connection.execute(
        f"""
        WITH flagged AS (SELECT * EXCLUDE (counts) FROM drift WHERE run_id = $run AND flag IS NOT NULL)
        SELECT f.* EXCLUDE (run_id, site), list(d.tonight ORDER BY nights.age DESC) AS trend
        FROM flagged f
        JOIN drift d ON d.kind = f.kind AND d.statistic = f.statistic AND d.against = f.against
            AND d.modality IS NOT DISTINCT FROM f.modality AND d.feature IS NOT DISTINCT FROM f.feature
            AND d.outcome IS NOT DISTINCT FROM f.outcome AND d.horizon_years IS NOT DISTINCT FROM f.horizon_years
        JOIN {nights()} ON nights.run_id = d.run_id AND nights.age <= {RUNS}
        GROUP BY ALL ORDER BY flag, kind, modality, feature, outcome, horizon_years, statistic, against DESC
        """,
        {"run": run_id},
    )
    names = [column[0] for column in cursor.description or ()]
    flags = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return Drift(run_id, as_of, site, rows, [night for _, night in last], [{"name": name_of(f), **f} for f in flags])
