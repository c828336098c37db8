"""What the demo tells at its end: facts and dirt accounted, the model against the oracle, the night, three queries."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from riskpred.evaluate.metrics import Metric
    from riskpred.records.simulate.dirt import Planted

QUERIES: Final = (
    (
        "Who is at the highest risk of cancer within ten years?",
        """
SELECT pseudonym, round(100 * risk, 1) AS risk_percent, round(100 * risk_low, 1) AS low,
       round(100 * risk_high, 1) AS high, round(100 * percentile)::INT AS percentile
FROM latest_risk_scores JOIN pseudonyms USING (run_id, subject_id)
WHERE outcome = 'cancer' AND horizon_years = 10
ORDER BY risk DESC, subject_id LIMIT 5""",
    ),
    (
        "Why the first of them? (risk points added or taken away)",
        """
SELECT modality, feature, coalesce(text_value, round(value, 1)::VARCHAR) AS value, unit,
       round(contribution, 2) AS risk_points
FROM top_reasons
WHERE outcome = 'cancer' AND horizon_years = 10 AND subject_id = (
    SELECT subject_id FROM latest_risk_scores WHERE outcome = 'cancer' AND horizon_years = 10
    ORDER BY risk DESC, subject_id LIMIT 1)
ORDER BY reason""",
    ),
    (
        "What was each risk computed from, and how wide is it?",
        """
SELECT r.modality, r.status, count(*) AS people, round(100 * avg(s.risk), 1) AS mean_risk_percent,
       round(100 * avg(s.risk_high - s.risk_low), 1) AS mean_width
FROM input_receipts r JOIN latest_risk_scores s USING (run_id, subject_id)
WHERE s.outcome = 'cardiovascular' AND s.horizon_years = 10
GROUP BY ALL ORDER BY ALL""",
    ),
)
"""Question, and SQL over scores.duckdb that answers it."""


def summarise(
    folder: Path,
    subjects: int,
    seed: int,
    planted: "Sequence[Planted]",
    checked: dict[str, Any],
    metrics: "Sequence[Metric]",
    page: Path,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Everything the text shows, as plain data."""
    return {
        "folder": str(folder),
        "subjects": subjects,
        "seed": seed,
        "facts": _facts(folder / "warehouse.duckdb"),
        "dirt": _dirt(folder, planted),
        "missed": {key: checked["missed"][key] for key in ("required", "optional", "cohort", "images")},
        "problems": checked["problems"],
        "discrimination": _discrimination(metrics),
        "night": _night(folder / "scores.duckdb"),
        "queries": [
            {"question": question, "sql": sql.strip(), **_ask(folder / "scores.duckdb", sql)}
            for question, sql in QUERIES
        ],
        "seconds": seconds,
        "page": str(page),
    }


def as_text(summary: dict[str, Any]) -> str:
    """The summary for a terminal of 120 columns."""
    facts, night = summary["facts"], summary["night"]
    pairs = " + ".join(f"{night[f'{status}_pairs']:,} {status}" for status in ("scored", "carried", "rejected"))
    parts = [f"{n:,} {part}" for part, n in facts.items() if part not in ("facts", "accounted", "annotations")]
    lines = [
        f"A simulated hospital of {summary['subjects']:,} people (seed {summary['seed']}) in {summary['folder']}",
        "",
        f"Facts: {facts['facts']:,} = {' + '.join(parts)}: {'all' if facts['accounted'] else 'NOT all'} accounted for",
        f"Check: {_checked(summary)}",
        "",
        "Dirt that was planted, and what became of it",
        *_table(
            ["planted", "file", "rows", "found", "as"],
            [[d["kind"], d["file"], d["planted"], d["found"], d["as"]] for d in summary["dirt"]],
        ),
        "",
        "Held-out people: Uno's C at the longest horizon; share of oracle = (C - .5) / (C of the true risks - .5)",
        *_table(
            ["outcome", "horizon", "people", "events", "riskpred", "spline peer", "true risks", "share of oracle"],
            [
                [
                    d["outcome"],
                    f"{d['horizon_years']:g} y",
                    d["n"],
                    d["events"],
                    _three(d["riskpred"]),
                    _three(d["peer"]),
                    _three(d["truth"]),
                    _three(d["share_of_oracle"]),
                ]
                for d in summary["discrimination"]
            ],
        ),
        "",
        f"The night of {night['as_of']}: {night['subjects']:,} people; {night['eligible_pairs']:,} eligible pairs = "
        f"{pairs}; {night['out_of_scope_pairs']:,} out of scope",
    ]
    for query in summary["queries"]:
        lines += ["", f"-- {query['question']}", query["sql"], *_table(query["columns"], query["rows"])]
    times = ", ".join(f"{step} {spent:.1f}" for step, spent in summary["seconds"].items())
    lines += [
        "",
        f"Seconds: {times}; {sum(summary['seconds'].values()):.0f} in all",
        "",
        f"Ask more:  duckdb -readonly {summary['folder']}/scores.duckdb",
        f"Open:      {summary['page']}",
    ]
    return "\n".join(lines)


def _facts(warehouse: Path) -> dict[str, Any]:
    parts = ("events", "images", "rejects", "missing", "repeats", "ignored", "annotations")
    sums = ", ".join(f"sum({part})::BIGINT AS {part}" for part in ("facts", *parts))
    answer = _ask(warehouse, f"SELECT {sums} FROM ingests")
    found: dict[str, Any] = dict(zip(answer["columns"], answer["rows"][0], strict=True))
    return {**found, "accounted": found["facts"] == sum(found[part] for part in parts)}


def _dirt(folder: Path, planted: "Sequence[Planted]") -> list[dict[str, Any]]:
    """Planted dirt beside what ingest (and, for unreadable images, the night) reports of that file and reason."""
    warehouse, scores = folder / "warehouse.duckdb", folder / "scores.duckdb"
    rejects = {
        (Path(source).name, reason): count
        for source, reason, count in _ask(
            warehouse, "SELECT source, reason, count(*) FROM rejects GROUP BY ALL ORDER BY ALL"
        )["rows"]
    }
    repeats = {
        Path(source).name: count
        for source, count in _ask(warehouse, "SELECT source, repeats FROM ingests ORDER BY ALL")["rows"]
    }
    unreadable = _ask(scores, "SELECT count(*) FROM rejects WHERE source = 'images'")["rows"][0][0]
    rows = []
    for one in planted:
        if one.found_as == "repeat":
            found, told = repeats.get(one.file, 0), "repeat, kept once"
        elif one.found_as == "unreadable":
            found, told = unreadable, "reject of the night; an older image was used"
        else:
            found, told = rejects.get((one.file, str(one.reason)), 0), f"reject, {one.reason}"
        rows.append({"kind": one.kind, "file": one.file, "planted": one.count, "found": found, "as": told})
    return rows


def _discrimination(metrics: "Sequence[Metric]") -> list[dict[str, Any]]:
    rows = []
    for outcome in dict.fromkeys(row["outcome"] for row in metrics):
        of = [
            row for row in metrics if row["outcome"] == outcome and row["subgroup"] is None and not row["blanking_days"]
        ]
        longest = max(row["horizon_years"] for row in of)
        at = {(row["model"], row["metric"]): row for row in of if row["horizon_years"] == longest}
        models = list(dict.fromkeys(model for model, _ in at))
        peer = next(
            model for model in models if model not in ("riskpred", "truth") and not model.startswith("riskpred")
        )

        def value(model: str, metric: str, at: "dict[tuple[str, str], Metric]" = at) -> float | None:
            return at[model, metric]["value"] if (model, metric) in at else None

        ours = at["riskpred", "uno_c"]
        rows.append(
            {
                "outcome": outcome,
                "horizon_years": longest,
                "n": ours["n"],
                "events": ours["events"],
                "riskpred": ours["value"],
                "peer": value(peer, "uno_c"),
                "truth": value("truth", "uno_c"),
                "share_of_oracle": value("riskpred", "share_of_oracle"),
                "alone": {
                    model: at[model, "uno_c"]["value"]
                    for model in models
                    if model.startswith("riskpred:") and (model, "uno_c") in at
                },
            }
        )
    return rows


def _night(scores: Path) -> dict[str, Any]:
    names = ("subjects", "eligible_pairs", "scored_pairs", "carried_pairs", "rejected_pairs", "out_of_scope_pairs")
    answer = _ask(
        scores,
        f"SELECT strftime(as_of, '%Y-%m-%d') AS as_of, {', '.join(names)} FROM runs ORDER BY as_of DESC LIMIT 1",
    )
    return dict(zip(answer["columns"], answer["rows"][0], strict=True))


def _ask(database: Path, sql: str) -> dict[str, list[Any]]:
    """Columns and rows of one query on a closed-off, read-only connection."""
    import duckdb

    with duckdb.connect(str(database), read_only=True) as connection:
        for setting in ("autoinstall_known_extensions", "autoload_known_extensions"):
            connection.execute(f"SET {setting} = false")
        answer = connection.sql(sql)
        return {"columns": list(answer.columns), "rows": [list(row) for row in answer.fetchall()]}


def _checked(summary: dict[str, Any]) -> str:
    missed = [code for codes in summary["missed"].values() for code in codes]
    wrong = [f"{count:,} {name.replace('_', ' ')}" for name, count in summary["problems"].items()]
    return (
        f"{', '.join(wrong) or 'nothing wrong in the warehouse'}; {', '.join(missed) or 'nothing'} missing for a model"
    )


def _three(value: float | None) -> str:
    return "too few" if value is None else f"{value:.3f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Aligned lines: numbers to the right, all else to the left."""
    shown = [
        [f"{cell:,}" if isinstance(cell, int) else "" if cell is None else str(cell) for cell in row] for row in rows
    ]
    right = [all(isinstance(row[i], int | float) for row in rows) and bool(rows) for i in range(len(columns))]
    width = [max(len(line[i]) for line in [list(columns), *shown]) for i in range(len(columns))]

    def joined(line: Sequence[str]) -> str:
        cells = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, width, right, strict=True))
        return "  " + "  ".join(cells).rstrip()

    return [joined(list(columns)), *(joined(line) for line in shown)]
