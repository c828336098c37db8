"""Death after a lower-grade glioma (lgg_mri): what pictures and findings add to clinic and omics, 5 folds x 3.

    python -m tests.benchmarks.imaging.lgg_death --into FOLDER [--repeats 3] [--only 0.0]

The segmentation is that of lgg_segmentation.py in the same FOLDER, trained there once where it is missing, cross-fitted
by person: findings of each person come from a network that never saw that person's mask. No outcome enters it, so outer
folds share it. Each outer fold's figures are kept in FOLDER, so that a run that was cut off goes on where it was.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from riskpred.config.study import ModelConfig, load_model_config
from riskpred.evaluate.censoring import Floats
from riskpred.evaluate.discrimination import harrell_c
from riskpred.features.batch import TabularInput
from riskpred.features.plan import FeaturePlan, TabularPlan
from riskpred.fit.data import Rows, stratified_folds, training_rows
from riskpred.fit.grid import learn_layout
from riskpred.fit.members import fit_members
from riskpred.fit.peer import fit_peer
from riskpred.model.layout import DAYS_PER_YEAR
from riskpred.model.threads import one_thread
from riskpred.records.warehouse import Warehouse
from tests.benchmarks.accuracy.compare import nadeau_bengio
from tests.benchmarks.accuracy.rows import views
from tests.benchmarks.accuracy.scores import observed, uno_c
from tests.benchmarks.imaging import lgg_segmentation
from tests.benchmarks.imaging.lgg_segmentation import SEED, STUDY

FOLDS = 5
UNO, HARRELL = "Uno's C at 5 years", "Harrell's C at 5 years"
REST, PICTURES = ("tabular", "omics"), ("image", "findings")
AGE_AND_GRADE = ("age_years", "TUMOUR//GRADE:last")
TARGET_C, TARGET_BEHIND, SHUFFLED = 0.78, 0.02, (0.45, 0.55)

AGE_GRADE, REST_ALONE, IMAGE_ALONE, CNN_ALONE, FUSED, CHANCE = (
    "age + grade", "rest alone", "image alone", "image without findings", "fused", "fused, outcomes shuffled",
)  # fmt: skip

TABLE = (AGE_GRADE, REST_ALONE, IMAGE_ALONE, CNN_ALONE, FUSED)
"""Rows that see the outcomes as they are."""


def restricted(rows: Rows, plan: FeaturePlan, config: ModelConfig, names: Sequence[str]) -> tuple[
    Rows, FeaturePlan, ModelConfig
]:  # fmt: skip
    """The rows, plan and network of some modalities."""
    batch = rows.batch
    kept = replace(
        batch,
        inputs={name: batch.inputs[name] for name in names},
        present={name: batch.present[name] for name in names},
        receipts={name: batch.receipts[name] for name in names},
    )
    encoders = {name: one for name, one in config.network.encoders.items() if name in names}
    modalities = {name: one for name, one in config.features.modalities.items() if name in names}
    return (
        replace(rows, batch=kept),
        FeaturePlan({name: plan.modalities[name] for name in names}, plan.units),
        config.model_copy(
            update={
                "network": config.network.model_copy(update={"encoders": encoders}),
                "features": config.features.model_copy(update={"modalities": modalities}),
            }
        ),
    )


def network_risk(
    rows: Rows, plan: FeaturePlan, config: ModelConfig, train: NDArray[np.int64], test: NDArray[np.int64], seed: int
) -> Floats:
    """Risks of the test rows by riskpred's whole fit on the others. Shape: (n, H)."""
    some = rows.take(train)
    layout = learn_layout(config.outcomes, some, config.network.intervals)
    fitted = fit_members(config.network, plan, layout, some, seed, lambda _: None)
    return np.asarray(fitted.model.predict(rows.take(test).batch).risk)


def age_grade_risk(
    rows: Rows, plan: FeaturePlan, config: ModelConfig, train: NDArray[np.int64], test: NDArray[np.int64], seed: int
) -> Floats:
    """Risks by a ridge spline Cox model of age and grade alone."""
    part, given = plan.modalities["tabular"], rows.batch.inputs["tabular"]
    assert isinstance(part, TabularPlan)
    assert isinstance(given, TabularInput)
    at = [f for f, column in enumerate(part.columns) if column.name in AGE_AND_GRADE]
    assert len(at) == len(AGE_AND_GRADE)
    few = replace(
        rows.batch,
        inputs={"tabular": TabularInput(given.values[:, at], given.time[:, at])},
        present={"tabular": rows.batch.present["tabular"]},
        receipts={"tabular": rows.batch.receipts["tabular"]},
    )
    two = FeaturePlan({"tabular": TabularPlan(tuple(part.columns[f] for f in at))}, plan.units)
    some = replace(rows, batch=few)
    mine = some.take(train)
    peer = fit_peer(
        mine.batch, two, mine.duration_days, mine.cause, config.outcomes, seed, config.network, mine.together
    )
    return np.asarray(peer.predict(some.take(test).batch))


def shuffled(rows: Rows, seed: int) -> Rows:
    """Somebody else's follow-up for everyone."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return replace(
        rows,
        cause={name: values[order] for name, values in rows.cause.items()},
        duration_days={name: values[order] for name, values in rows.duration_days.items()},
    )


def one_fold(
    rows: Rows, plan: FeaturePlan, config: ModelConfig, repeat: int, left_out: int, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Rows of the table on one outer fold: name of the estimator -> name of the row -> its C."""
    Way = Callable[..., Floats]
    chance = shuffled(rows, SEED + 100 + repeat)
    ways: dict[str, tuple[Way, Rows, Sequence[str]]] = {
        AGE_GRADE: (age_grade_risk, rows, ("tabular",)),
        REST_ALONE: (network_risk, rows, REST),
        IMAGE_ALONE: (network_risk, rows, PICTURES),
        CNN_ALONE: (network_risk, rows, ("image",)),
        FUSED: (network_risk, rows, (*REST, *PICTURES)),
        CHANCE: (network_risk, chance, (*REST, *PICTURES)),
    }
    result: dict[str, dict[str, float]] = {UNO: {}, HARRELL: {}}
    for name in names:
        way, whose, modalities = ways[name]
        fold = stratified_folds(whose.together, whose.labels(), FOLDS, SEED + repeat)
        train, test = np.flatnonzero(fold != left_out), np.flatnonzero(fold == left_out)
        risk = way(*restricted(whose, plan, config, modalities), train, test, SEED + repeat)
        (trained,), (tested,) = (views(config.outcomes, whose.take(part)) for part in (train, test))
        seen = observed(trained)
        assert seen is not None, "death takes time"
        result[UNO][name] = uno_c(risk[:, -1], tested, tested.horizons_years[-1], seen)
        horizon_days = DAYS_PER_YEAR * tested.horizons_years[-1]
        result[HARRELL][name] = harrell_c(risk[:, -1], tested.time_days, tested.status, horizon_days)
        said = ", ".join(f"{how} {one[name]:.3f}" for how, one in result.items())
        print(f"repeat {repeat}, fold {left_out}: {name:<26} {said}", flush=True)
    return result


def _file(into: Path, names: Sequence[str], repeat: int, fold: int) -> Path:
    return into / f"{'death' if names == TABLE else 'chance'}_{repeat}_{fold}.json"


def figures(folds: Sequence[dict[str, float]], chance: Sequence[dict[str, float]]) -> dict[str, object]:
    """Mean and SD of each row, differences to `fused` with the corrected 95 % interval, and what the targets say.

    Args: chance: folds with shuffled outcomes, those of one shuffle one after the other.
    """
    each = np.array([one[CHANCE] for one in chance]).reshape(-1, FOLDS).mean(axis=1)
    table = {name: np.array([one[name] for one in folds]) for name in folds[0]}
    mean = {name: float(values.mean()) for name, values in table.items()}
    better = max(mean[IMAGE_ALONE], mean[REST_ALONE])
    differences = {
        name: nadeau_bengio(table[FUSED] - values, 1 / (FOLDS - 1)) for name, values in table.items() if name != FUSED
    }
    return {
        "folds": len(folds),
        "c": {name: {"mean": mean[name], "sd": float(values.std(ddof=1))} for name, values in table.items()},
        CHANCE: {
            "mean": float(each.mean()),
            "standard_error": float(each.std(ddof=1) / len(each) ** 0.5),
            "of_each_shuffle": each.round(3).tolist(),
        },
        "fused_less": {name: [one.mean, one.low, one.high] for name, one in differences.items()},
        "targets": {
            f"fused C >= {TARGET_C}": mean[FUSED] >= TARGET_C,
            f"fused within {TARGET_BEHIND} of the better of image and rest": mean[FUSED] >= better - TARGET_BEHIND,
            "shuffled outcomes give .45 to .55": SHUFFLED[0] <= float(each.mean()) <= SHUFFLED[1],
        },
    }


def main(words: list[str] | None = None) -> int:
    """Run the folds that are missing; once all are there, print and write death_figures.json. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.imaging.lgg_death", description=__doc__)
    parser.add_argument("--into", type=Path, required=True, help="folder of lgg_segmentation.py; here also")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shuffles", type=int, default=12, help="shuffles of the outcomes, 5 folds each")
    parser.add_argument("--only", help="REPEAT.FOLD: this one alone")
    given = parser.parse_args(words)
    lgg_segmentation.main(["--into", str(given.into)])
    config = load_model_config(STUDY)
    with one_thread(), Warehouse.open(given.into / "warehouse.duckdb") as source:
        source.finder = lgg_segmentation.cross_fitted(config, source, given.into)
        plan, rows = training_rows(config, source)
        every = [
            (names, repeat, fold)
            for names, repeats in ((TABLE, given.repeats), ((CHANCE,), given.shuffles))
            for repeat in range(repeats)
            for fold in range(FOLDS)
        ]
        for names, repeat, fold in every:
            file = _file(given.into, names, repeat, fold)
            if not file.is_file() and given.only in (None, f"{repeat}.{fold}"):
                file.write_text(json.dumps(one_fold(rows, plan, config, repeat, fold, names)))
    if not all(_file(given.into, *one).is_file() for one in every):
        return 0
    folds, chance = (
        [json.loads(_file(given.into, *one).read_text()) for one in every if one[0] == names]
        for names in (TABLE, (CHANCE,))
    )
    text = json.dumps(
        {how: figures([fold[how] for fold in folds], [fold[how] for fold in chance]) for how in (UNO, HARRELL)},
        indent=1,
    )
    (given.into / "death_figures.json").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
