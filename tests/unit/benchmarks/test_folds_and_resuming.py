"""Folds are grouped and the same for every method; a finished part is not made again, a stale one is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from riskpred.config.study import ModelConfig
from riskpred.features.batch import FeatureBatch
from riskpred.fit.data import Rows
from tests.benchmarks.accuracy import run as running
from tests.benchmarks.accuracy.methods import Method, code_of
from tests.benchmarks.accuracy.rows import TRAIN_ONLY, SetRows
from tests.benchmarks.accuracy.run import Wanted, run, task_of
from tests.benchmarks.accuracy.sets import SETS, BenchmarkSet, Design
from tests.benchmarks.accuracy.store import PartName, about, read_follow_up
from tests.benchmarks.accuracy.task import ALL_INPUTS, Inner, Result, Task

FOLDS = 3


class Counting(Method):
    """A method that predicts a constant and counts its fits."""

    fits: list[Task] = []
    version = "1"

    def fit(self, task: Task) -> Result:
        self.fits.append(task)
        inner = {name: Inner(0.5, 0.1) for name in task.config.outcomes.outcomes}
        return Result({ALL_INPUTS: np.full((len(task.test), len(task.targets)), 0.1)}, inner=inner)

    def fingerprint(self, spec: BenchmarkSet, config: ModelConfig) -> str:
        return self.version


@pytest.fixture
def given(small_config: ModelConfig, small_batch: tuple[Any, FeatureBatch]) -> SetRows:
    """The small hospital's people with invented follow-up; two of a household share a number."""
    plan, batch = small_batch
    draw = np.random.default_rng(3)
    n = len(batch)
    cause = {"major": draw.integers(0, 4, n).astype(np.int8), "low_mood": draw.integers(-1, 2, n).astype(np.int8)}
    duration = {"major": draw.uniform(10, 3000, n), "low_mood": np.zeros(n)}
    eligible = {name: np.ones(n, np.bool_) for name in small_config.outcomes.outcomes}
    rows = Rows(batch, cause, duration, eligible, batch.subject_id // 2, draw.uniform(30, 90, n))
    spec = BenchmarkSet("metabric", "small", "")
    return SetRows(spec, small_config, plan, rows, np.array(["train"] * n), np.zeros(n, np.int64))


@pytest.fixture
def method(given: SetRows, monkeypatch: pytest.MonkeyPatch) -> Counting:
    one = Counting("counting", "nowhere")
    monkeypatch.setattr(running, "_rows", lambda name, warehouses: given)
    monkeypatch.setitem(running.METHODS, "counting", one)
    monkeypatch.setattr(Counting, "fits", [])
    return one


def wanted(folder: Path, method: Method) -> Wanted:
    return Wanted(folder, folder, (SETS["metabric"],), (method,), 2, FOLDS)


def test_folds_part_no_household_and_differ_between_repeats(given: SetRows) -> None:
    first, second = given.fold(0, FOLDS), given.fold(1, FOLDS)
    for fold in (first, second):
        for number in np.unique(given.rows.together):
            assert len(np.unique(fold[given.rows.together == number])) == 1
    assert (first != second).any()
    assert (first == given.fold(0, FOLDS)).all()


def test_every_method_gets_the_same_folds_and_seed(given: SetRows) -> None:
    ours, test = task_of(given, 1, 2, FOLDS)
    # An ablation has other features, but the same rows: its folds are those of the set it is an ablation of.
    ablation = replace(given, spec=replace(given.spec, name="metabric-less", of="metabric"))
    theirs, same = task_of(ablation, 1, 2, FOLDS)
    assert (test == same).all()
    assert ours.seed == theirs.seed
    assert not set(ours.train.together.tolist()) & set(ours.test.together.tolist())
    assert len(ours.train) + len(ours.test) == len(given.rows)


def test_a_held_out_split_is_tested_once_and_never_trained_on(given: SetRows) -> None:
    n = len(given.rows)
    split = np.array(["held_out" if i < 9 else "train" for i in range(n)])
    once = replace(given, spec=replace(given.spec, design=Design.HELD_OUT), split=split)
    fold = once.fold(0)
    assert once.repeats(3) == 1
    assert set(fold[9:].tolist()) == {TRAIN_ONLY}
    task, test = task_of(once, 0, 0, FOLDS)
    assert test.tolist() == list(range(9))
    assert len(task.train) == n - 9


def test_a_finished_part_is_not_made_again(tmp_path: Path, method: Counting) -> None:
    assert run(wanted(tmp_path, method)) == 2 * FOLDS
    assert run(wanted(tmp_path, method)) == 0
    assert len(method.fits) == 2 * FOLDS
    PartName("metabric", 1, 2, "counting").path(tmp_path).unlink()
    assert run(wanted(tmp_path, method)) == 1


def test_changed_code_or_rows_make_every_part_again(
    tmp_path: Path, method: Counting, given: SetRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(wanted(tmp_path, method))
    monkeypatch.setattr(Counting, "version", "2")
    assert run(wanted(tmp_path, method)) == 2 * FOLDS
    given.rows.duration_days["major"][0] += 1.0
    assert run(wanted(tmp_path, method)) == 2 * FOLDS


def test_a_part_of_another_form_is_made_again(tmp_path: Path, method: Counting) -> None:
    run(wanted(tmp_path, method))
    path = PartName("metabric", 0, 0, "counting").path(tmp_path)
    path.write_bytes(b"half a file")
    assert about(path) is None
    assert run(wanted(tmp_path, method)) == 1


def test_a_method_that_fails_costs_its_part_alone(
    tmp_path: Path, method: Counting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Counting.fit

    def fit(self: Counting, task: Task) -> Result:
        if not self.fits:
            self.fits.append(task)
            raise RuntimeError("no trees today")
        return good(self, task)

    monkeypatch.setattr(Counting, "fit", fit)
    assert run(wanted(tmp_path, method)) == 2 * FOLDS - 1
    assert "no trees today" in capsys.readouterr().err
    assert not PartName("metabric", 0, 0, "counting").path(tmp_path).exists()


def test_parts_and_follow_up_can_be_joined(tmp_path: Path, method: Counting, given: SetRows) -> None:
    run(wanted(tmp_path, method))
    rows, known = read_follow_up(tmp_path, "metabric")
    assert known.outcomes["cardio"] == {"horizons_years": [1.0, 5.0], "known_at_once": False}
    part = pl.read_parquet(PartName("metabric", 0, 1, "counting").path(tmp_path))
    assert part.columns[:4] == ["set", "repeat", "fold", "row"]
    own = rows.filter(pl.col("fold_0") == 1)
    assert sorted(part["row"].unique().to_list()) == own["row"].to_list()
    assert len(part) == len(own) * 5  # cardio and cancer at two horizons, low_mood now
    assert part["risk"].to_list() == [0.1] * len(part)


def test_comments_and_docstrings_are_no_new_code(tmp_path: Path) -> None:
    texts = {
        "a": '"""One."""\n\n\ndef f():\n    """Two."""\n    return 1\n',
        "b": '"""Another."""\ndef f():\n    # a comment\n    return   1\n',
        "c": '"""One."""\n\n\ndef f():\n    """Two."""\n    return 2\n',
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    a, b, c = (code_of(tmp_path / f"{name}.py") for name in "abc")
    assert a == b
    assert a != c
