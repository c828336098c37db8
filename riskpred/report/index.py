"""The index: one row per subject with a page, highest risk first, read and rendered as a stream."""

from collections.abc import Iterator, Sequence
from typing import Any

from riskpred.report.read import Scores
from riskpred.report.summarise import outcome_displays, run_facts


def index_head(scores: Scores, subjects: Sequence[int], chosen: str) -> dict[str, Any]:
    """What stands above the rows: the run, its counts, the columns, and in words how the subjects were chosen."""
    displays = outcome_displays(scores.run)
    return {
        "run": run_facts(scores.run),
        "count": len(subjects),
        "chosen": chosen,
        "outcomes": [
            {"outcome": outcome, "display": displays.get(outcome), "horizon_years": horizon}
            for outcome, horizon in scores.longest_horizons()
        ],
    }


def index_rows(scores: Scores, subjects: Sequence[int], head: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One dict per subject: pseudonym, cells in the order of head's outcomes (None = not assessed), flags."""
    order = [one["outcome"] for one in head["outcomes"]]
    for pseudonym, risks in scores.longest(subjects):
        by_outcome = {row["outcome"]: row for row in risks}
        yield {
            "pseudonym": pseudonym,
            "cells": [by_outcome.get(outcome) for outcome in order],
            "flags": sorted({flag for row in risks for flag in row["scope_flags"]}),
        }
