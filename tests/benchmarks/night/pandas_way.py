"""What a user would write: chunks of events into pandas, grouped and pivoted, the same bundle's risks, into DuckDB.

Written as a competent user writes it who has the bundle's plan and the documentation: no loop over patients, no
riskpred code for features or output. It serves plans with the aggregates that this benchmark's study has. A program of
its own; it scores everyone, asks nobody's eligibility, gives no reasons and verifies nothing.
"""

import argparse
import json
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from riskpred.features.batch import FeatureBatch, SeriesInput, TabularInput
from riskpred.features.plan import FeatureColumn, SeriesPlan, TabularPlan
from riskpred.model.bundle import load_bundle
from riskpred.model.threads import one_thread
from tests.benchmarks.night.data import AS_OF

CHUNK = 5_000
_DAY_US = 86_400_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("warehouse", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("into", type=Path)
    parser.add_argument("--subjects", type=int, default=20_000)
    given = parser.parse_args()
    given.into.unlink(missing_ok=True)
    began = time.monotonic()
    with one_thread():
        people = score(given.warehouse, given.bundle, given.into, given.subjects)
    seconds = time.monotonic() - began
    print(json.dumps({"people": people, "seconds": seconds}))


def score(warehouse: Path, bundle_path: Path, into: Path, subjects: int) -> int:
    """Risks of the first N subjects into the table `risks`. Returns how many subjects."""
    bundle, now = load_bundle(bundle_path), pd.Timestamp(AS_OF)
    source, target = duckdb.connect(str(warehouse), read_only=True), duckdb.connect(str(into))
    source.execute("SET threads = 1")
    target.execute("CREATE TABLE risks (subject_id BIGINT, outcome VARCHAR, horizon_years DOUBLE, risk DOUBLE)")
    ids = source.execute("SELECT DISTINCT subject_id FROM events ORDER BY 1 LIMIT ?", [subjects]).df()["subject_id"]
    for first in range(0, len(ids), CHUNK):
        people = ids.iloc[first : first + CHUNK].to_numpy()
        events = source.execute(
            "SELECT subject_id, time, code::VARCHAR AS code, numeric_value, text_value FROM events"
            " WHERE subject_id BETWEEN ? AND ? AND (time IS NULL OR time <= ?)",
            [int(people[0]), int(people[-1]), now.to_pydatetime()],
        ).df()
        events = events.sort_values(["subject_id", "time"], na_position="first", kind="stable")
        inputs: dict[str, TabularInput | SeriesInput] = {}
        present = {}
        for name, plan in bundle.plan.modalities.items():
            if isinstance(plan, TabularPlan):
                inputs[name], present[name] = _tabular(events, people, plan, now)
            else:
                assert isinstance(plan, SeriesPlan)
                inputs[name], present[name] = _series(events, people, plan, now)
        moment = np.full(len(people), now.value // 1000)
        batch = FeatureBatch(people, moment, dict(inputs), present, receipts={}, rejects=())
        risk = bundle.model.predict(batch).risk
        wide = pd.DataFrame(risk, index=people, columns=pd.MultiIndex.from_tuples(bundle.model.targets))
        rows = wide.stack([0, 1]).rename("risk").rename_axis(["subject_id", "outcome", "horizon_years"]).reset_index()
        target.execute("INSERT INTO risks SELECT subject_id, outcome, horizon_years, risk FROM rows")
        assert len(rows) == risk.size
    target.close()
    return len(ids)


def _tabular(
    events: pd.DataFrame, people: np.ndarray, plan: TabularPlan, now: pd.Timestamp
) -> tuple[TabularInput, np.ndarray]:
    columns = {column.name: _column(events, column, now).reindex(people) for column in plan.columns}
    frame = pd.DataFrame(columns)
    for column in plan.columns:
        if column.aggregate in ("ever", "count"):
            frame[column.name] = frame[column.name].fillna(0)
    values = frame.to_numpy(np.float32)
    return TabularInput(values, np.zeros(values.shape, np.int64)), ~np.isnan(values).all(axis=1)


def _column(events: pd.DataFrame, column: FeatureColumn, now: pd.Timestamp) -> pd.Series:
    assert column.window_days is None, "no window in this study"
    if column.aggregate == "builtin":
        assert column.code == "age_years"
        born = events[events["code"] == "MEDS_BIRTH"].groupby("subject_id")["time"].min()
        return (now - born).dt.total_seconds() / 86400 / 365.25
    prefix = column.code.endswith("*")
    here = events["code"].str.startswith(column.code[:-1]) if prefix else events["code"] == column.code
    found = events[here]
    if column.vocabulary:
        text = found["code"].str.removeprefix(column.code[:-1]) if prefix else found["text_value"]
        place = {word: float(i) for i, word in enumerate(column.vocabulary)}
        return text.map(place).groupby(found["subject_id"]).last()
    by_subject = found.groupby("subject_id")
    if column.aggregate == "last":
        return found.dropna(subset="numeric_value").groupby("subject_id")["numeric_value"].last()
    if column.aggregate == "age_days":
        return (now - by_subject["time"].max()).dt.total_seconds() / 86400
    assert column.aggregate == "ever", f"{column.aggregate} is not in this study"
    return (by_subject.size() > 0).astype(float)


def _series(
    events: pd.DataFrame, people: np.ndarray, plan: SeriesPlan, now: pd.Timestamp
) -> tuple[SeriesInput, np.ndarray]:
    codes = [channel.code for channel in plan.channels]
    inside = events["code"].isin(codes) & (events["time"] > now - pd.Timedelta(days=plan.window_days or 36_525))
    wide = (
        events[inside]
        .dropna(subset="numeric_value")
        .pivot_table(index=["subject_id", "time"], columns="code", values="numeric_value", aggfunc="last")
    )
    wide = wide.reindex(columns=codes).groupby(level="subject_id").tail(plan.max_steps)
    steps = wide.index.get_level_values("subject_id")
    lengths = pd.Series(1, index=steps).groupby(level=0).size().reindex(people, fill_value=0).to_numpy()
    start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = wide.index.get_level_values("time").to_numpy().astype("datetime64[us]").astype(np.int64)
    return SeriesInput(start, times, wide.to_numpy(np.float32)), lengths > 0


if __name__ == "__main__":
    main()
