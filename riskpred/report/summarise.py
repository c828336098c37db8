"""One subject's rows -> the plain dict that the page shows and `--json` prints: facts and counts, no words, no layout.

Numbers are those of the tables; nothing is rescaled or rounded here. Moments are ISO 8601 UTC texts.
"""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from riskpred.report import record
from riskpred.report.findings import findings
from riskpred.report.names import AGE, feature_code, is_sex, sex_of
from riskpred.report.read import Row, SubjectRows, card_of, finite, utc
from riskpred.report.reasons import changes, missing, reasons
from riskpred.report.standing import evaluation
from riskpred.report.wordbook import WordBook
from riskpred.report.words import nearest

SHOWN_SERIES = 6
SHOWN_MISSING = 12
_BAND = re.compile(r"(?P<who>women|men|people)(?:\b.*?\baged (?P<low>\d{1,3})\b)?")


def summarise(run: Row, rows: SubjectRows) -> dict[str, Any]:
    """Everything one page shows.

    Args:
        run: the row of `runs` that all rows belong to.
        rows: the subject's rows, sorted as `Scores.rows` sorts them.
    """
    denominator = _denominator(rows.risks)
    displays, card = outcome_displays(run), card_of(run)
    book, (sex, age_years) = WordBook(card), _person(rows)
    equations = record.guidelines(rows.evidence)
    outcomes = [
        _outcome(run, outcome, list(group), rows, denominator, book, sex)
        | {"display": displays.get(outcome), "guideline": [one for one in equations if one["outcome"] == outcome]}
        for outcome, group in groupby(rows.risks, key=lambda row: str(row["outcome"]))
    ]
    times = [row["prediction_time"] for row in rows.risks] or [row["prediction_time"] for row in rows.eligibility]
    series = record.series(rows.evidence, rows.explanations, book, sex)
    shown = [one["outcome"] for one in outcomes]
    return {
        "pseudonym": rows.pseudonym,
        "prediction_time": utc(max(times, default=run["as_of"])),
        "scored_at": utc(max((row["scored_at"] for row in rows.risks), default=run["finished_at"])),
        "carried": any(row["carried"] for row in rows.risks),
        "run": run_facts(run),
        "denominator": denominator,
        "flags": sorted({flag for row in rows.risks for flag in row["scope_flags"]}),
        "outcomes": outcomes,
        "series": series[:SHOWN_SERIES],
        "series_not_shown": len(series[SHOWN_SERIES:]),
        "images": record.images(rows.evidence, rows.explanations),
        "findings": findings(rows.findings, rows.evidence),
        "guideline": [one for one in equations if one["outcome"] not in shown],
        "inputs": [_receipt(row) for row in rows.receipts],
        "refused": [{key: row[key] for key in ("source", "reason", "field", "wanted")} for row in rows.rejects],
        "not_assessed": [
            {key: row[key] for key in ("outcome", "status", "reason")} | {"display": displays.get(row["outcome"])}
            for row in rows.eligibility
            if row["status"] not in ("scored", "carried")
        ],
        "evaluation": evaluation(card, shown, sex, age_years),
        "model": card,
    }


def _person(rows: SubjectRows) -> tuple[str | None, float | None]:
    """Sex and age by which usual ranges and figures of people alike are chosen: of the reasons, else of the group."""
    sex, age = None, None
    for row in rows.explanations:
        if row["level"] == "feature" and is_sex(feature_code(row["feature"])):
            sex = sex or sex_of(row["text_value"])
        elif row["level"] == "feature" and row["feature"] == AGE:
            age = age if age is not None else finite(row["value"])
    for row in rows.risks:
        band = _BAND.match(row["reference_group"])
        if band:
            sex = sex or {"women": "female", "men": "male"}.get(band["who"])
            age = age if age is not None or not band["low"] else float(band["low"])
    return sex, age


def run_facts(run: Row) -> dict[str, Any]:
    """The ledger row as the pages show it."""
    counts = (
        "subjects",
        "considered_pairs",
        "eligible_pairs",
        "scored_pairs",
        "carried_pairs",
        "rejected_pairs",
        "out_of_scope_pairs",
        "risk_rows",
    )
    texts = (
        "run_id",
        "numeric_path",
        "bundle_name",
        "bundle_version",
        "bundle_sha256",
        "code_version",
        "content_digest",
    )
    moments = {name: utc(run[name]) for name in ("as_of", "started_at", "finished_at")}
    return {name: run[name] for name in texts} | moments | {name: run[name] for name in counts}


def _denominator(risks: Sequence[Row]) -> int:
    """One denominator for the whole page: 100 people, or 1000 where every longest-horizon risk is under 1 %."""
    return 100 if not risks or max(row["risk"] for row in risks) >= 0.01 else 1000


def _outcome(
    run: Row,
    outcome: str,
    risks: list[Row],
    rows: SubjectRows,
    denominator: int,
    book: WordBook,
    sex: str | None,
) -> dict[str, Any]:
    longest = risks[-1]
    horizons = [
        {name: row[name] for name in ("horizon_years", "risk", "risk_low", "risk_high", "reference_risk", "percentile")}
        | {
            "with_event": nearest(row["risk"], denominator),
            "without_event": denominator - nearest(row["risk"], denominator),
        }
        for row in risks
    ]

    def of(table: list[Row]) -> list[Row]:
        return [row for row in table if row["outcome"] == outcome]

    return {
        "outcome": outcome,
        "reference_group": longest["reference_group"],
        "prediction_time": utc(longest["prediction_time"]),
        "scored_at": utc(longest["scored_at"]),
        "carried": longest["carried"],
        "horizons": horizons,
        "past": _past(run, longest, of(rows.past)),
        "reasons": reasons(risks, of(rows.explanations), rows.receipts, book, sex),
        "missing": missing(of(rows.missing_impact), risks),
        "changes": changes(of(rows.changes), risks),
    }


def _past(run: Row, now: Row, earlier: list[Row]) -> dict[str, Any]:
    """Risks that earlier runs computed, oldest first. A carried risk is the one it was carried from, so it stands once.

    runs: how many earlier runs are kept that show this risk; risks: those that differ in when they were computed.
    """
    found: dict[tuple[Any, str, float], Row] = {}
    for row in earlier:
        found.setdefault((row["prediction_time"], row["bundle_sha256"], row["risk"]), row)
    found.pop((now["prediction_time"], run["bundle_sha256"], now["risk"]), None)
    names = ("risk", "risk_low", "risk_high")
    return {
        "runs": len({row["run_id"] for row in earlier}),
        "risks": [
            {"prediction_time": utc(row["prediction_time"]), "as_of": utc(row["as_of"])}
            | {name: row[name] for name in names}
            | {"same_model": row["bundle_sha256"] == run["bundle_sha256"]}
            for row in sorted(found.values(), key=lambda row: row["prediction_time"])
        ],
    }


def _receipt(row: Row) -> dict[str, Any]:
    missing = list(row["missing_features"])
    return {
        "modality": row["modality"],
        "status": row["status"],
        "n": row["n"],
        "latest_time": utc(row["latest_time"]),
        "age_days": finite(row["age_days"]),
        "missing_features": missing[:SHOWN_MISSING],
        "missing_not_shown": len(missing[SHOWN_MISSING:]),
    }


def outcome_displays(run: Row) -> dict[str, str]:
    """Outcome -> its name in words, where the model card has one."""
    named = card_of(run).get("outcomes")
    found = named.items() if isinstance(named, dict) else ()
    return {outcome: words for outcome, words in found if isinstance(words, str) and words.strip()}
