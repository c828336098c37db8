"""A set's rows: features and follow-up of everyone who takes part, and the part of each row in each repeat."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from riskpred.config.outcomes import Outcome, OutcomesConfig, Rule
from riskpred.config.study import ModelConfig, load_model_config, study_folder
from riskpred.evaluate.gather import outcome_status, pattern_of
from riskpred.features.batch import ImageInput
from riskpred.features.plan import FeaturePlan, TabularPlan
from riskpred.fit.data import Rows, stratified_folds, training_rows
from riskpred.imaging.inspect import FileLook
from riskpred.records.ingest import run_ingest
from riskpred.records.warehouse import SPLITS, Warehouse
from tests.benchmarks.accuracy.sets import BenchmarkSet, Design, data_folder

FOLDS: Final = 5
REPEATS: Final = 3

TRAIN_ONLY: Final = -1
"""Fold of a row that is always trained on and never tested."""

TRUTH: Final = "hospital-truth.parquet"
"""True risks of the simulated people: beside the warehouses, and copied to the results."""

_SEED: Final = 20_261_127
_HOSPITAL_SUBJECTS: Final = 20_000


@dataclass(frozen=True)
class View:
    """One outcome as its own peers see it. time_days, status: (N,), status 0 censored, 1 the outcome, 2 competing,
    -1 not at risk or not labelled (known at once: 0 no, 1 yes; time 0)."""

    outcome: str
    horizons_years: tuple[float, ...]
    known_at_once: bool
    time_days: NDArray[np.float64]
    status: NDArray[np.int8]

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "View":
        return View(self.outcome, self.horizons_years, self.known_at_once, self.time_days[index], self.status[index])


@dataclass(frozen=True)
class SetRows:
    """Everything about a set that fits need. split: (N,) the warehouse's. cycle: (N,), 0 where there is none."""

    spec: BenchmarkSet
    config: ModelConfig
    plan: FeaturePlan
    rows: Rows
    split: NDArray[np.str_]
    cycle: NDArray[np.int64]

    def fold(self, repeat: int, folds: int = FOLDS) -> NDArray[np.int64]:
        """Fold of each row in one repeat, the same for every method and every ablation. Shape: (N,)."""
        if self.spec.design is Design.HELD_OUT:
            return np.where(self.split == "held_out", 0, TRAIN_ONLY).astype(np.int64)
        if self.spec.design is Design.CYCLES:
            return np.unique(self.cycle, return_inverse=True)[1].astype(np.int64)
        return stratified_folds(self.rows.together, self.rows.labels(), folds, _SEED + repeat)

    def repeats(self, asked: int) -> int:
        """Repeats that differ: one where the parts are given."""
        return asked if self.spec.design is Design.FOLDS else 1

    def views(self) -> tuple[View, ...]:
        return views(self.config.outcomes, self.rows)

    def pattern(self) -> NDArray[np.str_]:
        return pattern_of(self.rows.batch.present, len(self.rows))

    def digest(self) -> str:
        """Hash of all that enters a fit or a metric: when it changes, every part of the set is stale."""
        found = hashlib.blake2b(digest_size=12)
        batch, rows = self.rows.batch, self.rows
        arrays: list[NDArray[np.generic]] = [batch.subject_id, batch.prediction_time, rows.together, self.cycle]
        arrays += [values for group in (rows.cause, rows.duration_days) for values in group.values()]
        for name, given in batch.inputs.items():
            found.update(name.encode())
            arrays += [batch.present[name], given.pixels if isinstance(given, ImageInput) else given.values]
        for array in arrays:
            found.update(np.ascontiguousarray(array).tobytes())
        found.update("\n".join(self.split.tolist()).encode())
        columns = {
            name: [(column.name, column.vocabulary) for column in part.columns]
            for name, part in self.plan.modalities.items()
            if isinstance(part, TabularPlan)
        }
        groups = [
            (one.name, one.outcomes, one.known_at_once, one.horizons_years) for one in self.config.outcomes.groups
        ]
        found.update(repr((columns, groups)).encode())
        return found.hexdigest()


def views(outcomes: OutcomesConfig, rows: Rows) -> tuple[View, ...]:
    """Each outcome's own view of the rows, in the order of outcomes.yaml."""
    status = outcome_status(outcomes, rows.cause)
    groups = {name: group for group in outcomes.groups for name in group.outcomes}
    return tuple(
        View(
            name,
            groups[name].horizons_years,
            groups[name].known_at_once,
            np.nan_to_num(rows.duration_days[groups[name].name], nan=0.0),
            status[name],
        )
        for name in outcomes.outcomes
    )


def load_rows(spec: BenchmarkSet, warehouses: Path) -> SetRows:
    """Reads a set, ingesting its warehouse into the folder `warehouses` where it is not there yet.

    The plan (which columns, which categories) is learned once on all rows of the set: no label enters it, and a
    category that a training part lacks is a column of zeros there.
    """
    config = config_of(spec)
    with _TakingPart.open(warehouse_of(spec, warehouses)) as warehouse:
        assert isinstance(warehouse, _TakingPart), "open makes what it was asked of"
        warehouse.wanted = spec.splits or SPLITS
        plan, rows = training_rows(config, warehouse)
        splits = warehouse.own_splits()
    if spec.only_with:
        # The modality that decides who takes part may be the one left out: it is read for that alone.
        rows = rows.take(np.flatnonzero(_present(spec, warehouses, rows)))
    subjects = rows.subject_id.tolist()
    return SetRows(
        spec,
        config,
        plan,
        rows,
        np.array([splits.get(subject, "train") for subject in subjects], dtype=np.str_),
        _cycles(spec, subjects),
    )


def config_of(spec: BenchmarkSet) -> ModelConfig:
    """The study's configuration less what the set leaves out."""
    config = load_model_config(spec.study)
    modalities = {name: one for name, one in config.features.modalities.items() if name not in spec.without_modalities}
    for name, one in modalities.items():
        if spec.without_codes and one.kind == "tabular":
            kept = []
            for block in one.features:
                codes = tuple(code for code in block.codes if code not in spec.without_codes)
                if block.builtin is not None or codes:
                    kept.append(block if block.builtin is not None else block.model_copy(update={"codes": codes}))
            modalities[name] = one.model_copy(update={"features": tuple(kept)})
    encoders = {name: one for name, one in config.network.encoders.items() if name in modalities}
    return config.model_copy(
        update={
            "outcomes": _any_death(config.outcomes) if spec.any_death else config.outcomes,
            "features": config.features.model_copy(update={"modalities": modalities}),
            "network": config.network.model_copy(update={"encoders": encoders}),
        }
    )


def _any_death(outcomes: OutcomesConfig) -> OutcomesConfig:
    death = Outcome(display="Death of any cause", rule=Rule(codes=outcomes.death_codes))
    return outcomes.model_copy(update={"outcomes": {"any_death": death}})


class _TakingPart(Warehouse):
    """A warehouse whose subjects of the wanted splits all count as training subjects: `training_rows` reads them."""

    wanted: tuple[str, ...] = SPLITS

    def splits(self) -> dict[int, str]:
        return {subject: "train" for subject, split in self.own_splits().items() if split in self.wanted}

    def own_splits(self) -> dict[int, str]:
        return super().splits()


def _present(spec: BenchmarkSet, warehouses: Path, rows: Rows) -> NDArray[np.bool_]:
    if spec.only_with in rows.batch.present:
        return rows.batch.present[spec.only_with]
    with _TakingPart.open(warehouse_of(spec, warehouses)) as warehouse:
        whole = load_model_config(spec.study).model_copy(update={"outcomes": config_of(spec).outcomes})
        _, all_inputs = training_rows(whole, warehouse)
    assert np.array_equal(all_inputs.subject_id, rows.subject_id), "leaving a modality out changes no row"
    return all_inputs.batch.present[spec.only_with]


def warehouse_of(spec: BenchmarkSet, warehouses: Path) -> Path:
    """The set's warehouse: STUDY.duckdb where somebody put one there, else ingested, one per version of ingest.yaml."""
    ready = warehouses / f"{spec.study}.duckdb"
    if ready.is_file():
        return ready
    text = (study_folder(spec.study) / "ingest.yaml").read_bytes()
    made = warehouses / f"{spec.study}-{hashlib.blake2b(text, digest_size=6).hexdigest()}.duckdb"
    if not made.is_file():
        warehouses.mkdir(parents=True, exist_ok=True)
        source = data_folder(spec) if spec.data else simulated_hospital(warehouses)
        with FileLook() as look:
            run_ingest(spec.study, source, made, look=look)
    return made


def simulated_hospital(warehouses: Path) -> Path:
    """Source files of the simulated hospital, 20,000 people, seed 1; the true risks lie beside the folder."""
    from riskpred.config.simulation import load_hospital
    from riskpred.records.simulate.hospital import simulate, write_truth

    source, truth = warehouses / "hospital-source", warehouses / TRUTH
    if not truth.is_file():
        source.mkdir(parents=True, exist_ok=True)
        config = load_hospital()
        simulated = simulate(source, config, _HOSPITAL_SUBJECTS, 1)
        write_truth(truth, config, simulated.population)
    return source


def _cycles(spec: BenchmarkSet, subjects: list[int]) -> NDArray[np.int64]:
    if spec.design is not Design.CYCLES:
        return np.zeros(len(subjects), np.int64)
    table = pq.read_table(data_folder(spec) / "nhanes_2011_2018.parquet", columns=["SEQN", "SDDSRVYR"])
    cycle = dict(zip(*(map(int, table.column(name).to_pylist()) for name in ("SEQN", "SDDSRVYR")), strict=True))
    return np.array([cycle[subject] for subject in subjects], np.int64)


def counts(view: View) -> Mapping[str, int]:
    """Rows at risk, and outcomes by the last horizon."""
    at_risk = view.status >= 0
    inside = view.known_at_once | (view.time_days <= view.horizons_years[-1] * 365.25)
    found = Counter(rows=int(at_risk.sum()), events=int((inside & (view.status == 1)).sum()))
    return dict(found)
