"""riskpred on the simulated hospital beside the true risks of the same people."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from riskpred.evaluate.censoring import Undefined
from tests.benchmarks.accuracy.methods import OURS
from tests.benchmarks.accuracy.results import main_model
from tests.benchmarks.accuracy.rows import TRUTH
from tests.benchmarks.accuracy.scores import briers, observed, uno_c
from tests.benchmarks.accuracy.tables import Scored
from tests.benchmarks.accuracy.task import Floats


@dataclass(frozen=True)
class AgainstTruth:
    """At the last horizon. share: (C - .5) / (C of the true risks - .5); coverage: of the true risks by 90 % intervals;
    coverage_all: the same at all horizons together; brier, oracle_brier: against what happened."""

    horizon_years: float
    share: float
    brier: float
    oracle_brier: float
    coverage: float
    coverage_all: float


def true_risks(path: Path, subject: np.ndarray, outcome: str, horizons: tuple[float, ...]) -> Floats:
    """True risks of the rows' subjects, NaN where the file has none. Shape: subject (N,), result (N, H)."""
    table = pq.read_table(path)
    table = table.filter(pa.compute.equal(table.column("outcome"), outcome))
    found = np.full((len(subject), len(horizons)), np.nan)
    place = {one: i for i, one in enumerate(subject.tolist())}
    columns = (table.column(name).to_pylist() for name in ("subject_id", "horizon_years", "risk"))
    for one, horizon, risk in zip(*columns, strict=True):
        if one in place and horizon in horizons:
            found[place[one], horizons.index(horizon)] = risk
    return found


def against_truth(one: Scored, outcome: str) -> AgainstTruth | None:
    """None where there is no truth file, no prediction, or too little to compare."""
    results = one.results
    key = (main_model(OURS), outcome)
    path = results.folder / TRUTH
    if not path.is_file() or 0 not in results.risk.get(key, {}) or 0 not in results.low.get(key, {}):
        return None
    view, fold = results.views[outcome], results.fold[0]
    truth = true_risks(path, results.rows["subject"].to_numpy(), outcome, view.horizons_years)
    risk, low, high = (values[key][0] for values in (results.risk, results.low, results.high))
    there = np.isfinite(risk).all(axis=1) & np.isfinite(truth).all(axis=1) & (view.status >= 0)
    seen, test = observed(view.take(fold < 0)), view.take(there)
    if seen is None or not there.any():
        return None
    last = view.horizons_years[-1]
    try:
        own, best = (uno_c(values[there, -1], test, last, seen) for values in (risk, truth))
        wrong, least = (briers(values[there], test, seen)[-1] for values in (risk, truth))
    except Undefined:
        return None
    inside = (low[there] <= truth[there]) & (truth[there] <= high[there])
    share = (own - 0.5) / (best - 0.5)
    covered, covered_all = float(inside[:, -1].mean()), float(inside.mean())
    return AgainstTruth(last, share, float(wrong), float(least), covered, covered_all)
