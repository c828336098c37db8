"""The report from parts of two methods on a small set: summary, targets, markdown, page, marked tables."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.benchmarks.accuracy import results as reading
from tests.benchmarks.accuracy import store, tables
from tests.benchmarks.accuracy.methods import Method
from tests.benchmarks.accuracy.report import with_tables, write_report
from tests.benchmarks.accuracy.store import About, AboutRows, PartName, follow_up_path
from tests.benchmarks.accuracy.task import ALL_INPUTS, Inner, Result
from tests.benchmarks.accuracy.truth import true_risks

N = 600


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """riskpred knows the true risk, spline_cox knows less; two folds, one repeat."""
    monkeypatch.setattr(Method, "fingerprint", lambda self, spec, config: "now")
    draw = np.random.default_rng(1)
    x, noise = draw.normal(size=N), draw.normal(size=N)
    time = np.minimum(draw.exponential(1 / (0.08 * np.exp(x))), 12.0)
    status = (time < 12.0).astype(np.int8)
    fold = np.arange(N) % 2
    kinds = {"death_any": {"horizons_years": [2.0, 10.0], "known_at_once": False}}
    frame = pa.table(
        {
            "row": np.arange(N, dtype=np.int32),
            "subject": np.arange(N),
            "age_years": np.full(N, 50.0),
            "pattern": ["tabular"] * N,
            "prediction_time": np.zeros(N, np.int64),
            "fold_0": fold,
            "time_days:death_any": time * 365.25,
            "status:death_any": status,
        }
    )
    path = follow_up_path(tmp_path, "metabric")
    path.parent.mkdir(parents=True)
    described = {store._KEY: json.dumps(AboutRows("these", kinds).__dict__).encode()}
    pq.write_table(frame.replace_schema_metadata(described), path)
    for method, score in {"riskpred": x, "spline_cox": 0.4 * x + 0.6 * noise}.items():
        risk = np.stack([-np.expm1(-0.08 * h * np.exp(score)) for h in (2.0, 10.0)], axis=1)
        inner = {} if method == "riskpred" else {"death_any": Inner(0.6, 0.2)}
        for one in (0, 1):
            test = np.flatnonzero(fold == one)
            targets = (("death_any", 2.0), ("death_any", 10.0))
            result = Result({ALL_INPUTS: risk[test]}, inner=inner)
            store.write_part(
                tmp_path, PartName("metabric", 0, one, method), test, test, targets, result, "old", "these", 2
            )
    return tmp_path


def test_summary_pairs_riskpred_with_the_chosen_peer(folder: Path) -> None:
    summary = tables.summarise(tables.score_sets(folder, ["metabric", "gbsg"]))
    assert list(summary) == ["metabric"]
    found = summary["metabric"]["outcomes"]["death_any"]
    assert found["chosen"] == {"rank": "spline_cox", "error": "spline_cox"}
    assert found["methods"]["riskpred"]["rank"] > found["methods"]["spline_cox"]["rank"] + 0.05
    gain = found["differences"][tables.CHOSEN]["rank"]
    assert gain["mean"] == pytest.approx(
        found["methods"]["riskpred"]["rank"] - found["methods"]["spline_cox"]["rank"], abs=1e-5
    )
    assert gain["folds"] == 2
    assert abs(found["methods"]["riskpred"]["slope"] - 1) < 0.25
    assert summary["metabric"]["methods"]["spline_cox"]["of_older_code"] == 2


def test_parts_of_other_rows_are_left_out_and_counted(folder: Path) -> None:
    path = PartName("metabric", 0, 1, "riskpred").path(folder)
    table = pq.read_table(path)
    other = About("old", "others", 1.0, 1.0, {}, {})
    pq.write_table(table.replace_schema_metadata({store._KEY: json.dumps(other.__dict__).encode()}), path)
    found = reading.read(folder, "metabric")
    assert found is not None
    assert found.left_out == 1
    assert len(found.abouts["riskpred"]) == 1


def test_report_writes_all_it_promises(folder: Path) -> None:
    readme = folder / "README.md"
    readme.write_text("Before\n<!-- tables: accuracy -->\nold\n<!-- end -->\nAfter\n")
    text = write_report(folder, ["metabric"], readme)
    assert "**missed**" not in text.split("## Accuracy")[1]
    assert "| metabric, death_any, 10 y (600;" in text
    assert "2 of 2 parts are of older code" in text
    page = (folder / "page.html").read_text()
    assert page.count("<svg") == 5
    assert "<script" not in page
    assert json.loads((folder / "tables.json").read_text())["sets"]["metabric"]["study"] == "metabric"
    assert len(pl.read_parquet(folder / "predictions" / "metabric.parquet")) == 2 * 2 * N
    assert readme.read_text().startswith("Before\n<!-- tables: accuracy -->\n| set, outcome, horizon | method |")
    assert readme.read_text().endswith("<!-- end -->\nAfter\n")


def test_a_table_without_a_mark_is_left_out() -> None:
    assert with_tables("Nothing here.\n", {"targets": "| a |"}) == "Nothing here.\n"


def test_true_risks_are_joined_by_subject_outcome_and_horizon(tmp_path: Path) -> None:
    truth = pl.DataFrame(
        {
            "subject_id": [3, 1, 1, 1],
            "outcome": ["illness", "illness", "illness", "other"],
            "horizon_years": [5.0, 1.0, 5.0, 5.0],
            "risk": [0.3, 0.1, 0.2, 0.9],
        }
    )
    truth.write_parquet(tmp_path / "truth.parquet")
    found = true_risks(tmp_path / "truth.parquet", np.array([1, 2, 3]), "illness", (1.0, 5.0))
    np.testing.assert_array_equal(found, [[0.1, 0.2], [np.nan, np.nan], [np.nan, 0.3]])
