"""The floor: the spline Cox model (logistic where known at once) on age and sex alone."""

from dataclasses import replace

from riskpred.config.study import code_matches
from riskpred.features.batch import FeatureBatch, ImageInput, SeriesInput, TabularInput
from riskpred.features.plan import FeaturePlan, ModalityPlan, TabularPlan
from riskpred.fit.data import Rows
from tests.benchmarks.accuracy.peers import spline_cox
from tests.benchmarks.accuracy.task import Result, Task


def fit(task: Task) -> Result:
    """`spline_cox` on the columns whose code is among the set's `age_sex`, taken from every tabular modality."""
    plan, kept = _narrow(task.plan, task.spec.age_sex)

    def narrow(rows: Rows) -> Rows:
        return replace(rows, batch=_taken(rows.batch, kept))

    return spline_cox.fit(replace(task, plan=plan, train=narrow(task.train), test=narrow(task.test)))


def _narrow(plan: FeaturePlan, codes: tuple[str, ...]) -> tuple[FeaturePlan, dict[str, list[int]]]:
    modalities: dict[str, ModalityPlan] = {}
    kept: dict[str, list[int]] = {}
    for name, part in plan.modalities.items():
        if isinstance(part, TabularPlan):
            at = [
                f
                for f, column in enumerate(part.columns)
                if column.aggregate in ("builtin", "last")
                and (column.code in codes or code_matches(column.code, codes))
            ]
            if at:
                modalities[name], kept[name] = TabularPlan(tuple(part.columns[f] for f in at)), at
    if not kept:
        raise ValueError(f"no column for the floor of age and sex: {', '.join(codes)}")
    return FeaturePlan(modalities), kept


def _taken(batch: FeatureBatch, kept: dict[str, list[int]]) -> FeatureBatch:
    inputs: dict[str, TabularInput | SeriesInput | ImageInput] = {}
    for name, at in kept.items():
        given = batch.inputs[name]
        assert isinstance(given, TabularInput), "kept columns are of tabular modalities"
        inputs[name] = TabularInput(given.values[:, at], given.time[:, at])
    return replace(batch, inputs=inputs, present={name: batch.present[name] for name in kept})
