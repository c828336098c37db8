"""Deletion and insertion on real people, beside chance, the value alone, and Captum's defaults."""

from pathlib import Path

import numpy as np

from riskpred.evaluate.reasons import AREAS, check_reasons, reason_metrics
from tests.benchmarks.night.results import Attempts, Figures
from tests.benchmarks.reasons import data

STUDIES = ("framingham", "nafld", "physionet2012")
PEOPLE = 400


def measure(work: Path, attempts: Attempts) -> Figures:
    """Areas with 90 % intervals, and paired differences; by study."""
    for study in STUDIES:
        if study in attempts.made:
            continue
        bundle, batch, evaluated = data.people(data.made(work, study), PEOPLE)
        checked, _ = check_reasons(bundle, batch)
        rows = reason_metrics(evaluated, checked)
        figures = {
            "people": len(batch),
            "seconds": round(checked.seconds, 1),
            "rejected": checked.rejected,
            "movable_features": float(np.mean([c.deletion[:, -1].size for c in checked.curves["random"].values()])),
        }
        for metric in AREAS:
            figures[metric] = {
                row["model"]: [round(float(row[k]), 4) for k in ("value", "low", "high") if row[k] is not None]
                for row in rows
                if row["metric"] == metric
            }
        figures |= {
            row["metric"]: [row["value"], row["low"], row["high"]]
            for row in rows
            if row["metric"].endswith("agreement") and row["value"] is not None
        }
        attempts.add(study, figures, {})
    return {"studies": attempts.made}
