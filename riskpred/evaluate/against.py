"""Further models on the same rows: another bundle, or a table of predictions made elsewhere."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from riskpred.config.outcomes import OutcomesConfig
from riskpred.errors import BundleError, InputError, RiskpredError
from riskpred.evaluate.censoring import Floats
from riskpred.evaluate.gather import MODEL, Evaluated
from riskpred.evaluate.measure import ONLY
from riskpred.evaluate.metrics import Metric, metrics
from riskpred.evaluate.prediction_table import read_table, risks_at
from riskpred.evaluate.predictions import judged
from riskpred.features.build import build
from riskpred.features.fits import check_fits
from riskpred.features.join import take
from riskpred.model.bundle import Bundle, load_bundle
from riskpred.model.threads import one_thread
from riskpred.progress import Progress, Silent
from riskpred.records.cohort import cohort, rows_at
from riskpred.records.warehouse import Warehouse


def refuse_unreadable(others: Sequence[Path]) -> None:
    """Check, before the work, that each is a bundle's folder or a prediction table. Raises: as `with_others`."""
    for path in others:
        _ = load_bundle(path) if _is_folder(path) else read_table(path)


def _is_folder(path: Path) -> bool:
    """Raises: InputError, when nothing is there."""
    if not path.exists():
        raise InputError(
            f"{path}: no such file or folder.",
            wanted="a bundle's folder, or a prediction table (Parquet or CSV)",
            do="correct --against",
        )
    return path.is_dir()


def with_others(
    bundle: Bundle,
    evaluated: Evaluated,
    warehouse: Warehouse,
    others: Sequence[Path],
    progress: Progress | None = None,
) -> Evaluated:
    """The same rows with the risks of each other model, by the name of its folder or file.

    Args:
        bundle: the one evaluated: its outcomes.yaml says who is judged, when and by which events.
        others: folders of bundles, and prediction tables (Parquet or CSV).

    Raises: InputError: no such file, not such a table, or nothing of it is evaluated here; the rows are a bundle's own
        predictions. BundleError: a bundle that does not fit, was trained on someone evaluated, or gives no risk here.
    """
    found = evaluated
    for path in others:
        if evaluated.prediction_time is None:
            raise InputError(
                f"{path}: cannot be compared on the split {evaluated.split}.",
                wanted="a split of the warehouse: the bundle keeps neither subjects nor times of its own predictions",
                do="leave out --against, or choose another --split",
            )
        if _is_folder(path):
            other = load_bundle(path)
            name = _free_name(path.resolve().name, found.risks)
            risk = _bundle_risks(other, bundle.config.outcomes, evaluated, warehouse, path, progress or Silent())
            notes = _definitions(name, other.config.outcomes, bundle.config.outcomes)
            found = _added(found, name, risk, notes)
        else:
            table = read_table(path)
            for model in table.models or (path.stem,):
                single = path.stem if len(table.models) < 2 else f"{path.stem}:{model}"
                name = _free_name(single, found.risks)
                risk = risks_at(table, model, evaluated, path)
                found = _added(found, name, risk, [f"whether {name} was made with these people is not known"])
    return found


def _bundle_risks(
    other: Bundle,
    judged_by: OutcomesConfig,
    evaluated: Evaluated,
    warehouse: Warehouse,
    path: Path,
    progress: Progress,
) -> Floats:
    """Risks of another bundle at the evaluated rows, NaN where it would not score. Shape: (N, Q)."""
    assert evaluated.prediction_time is not None, "with_others refuses rows without a time"
    subjects = np.unique(evaluated.subject_id)
    seen = int(other.seen_in_training(warehouse.site, subjects).sum())
    if seen:
        raise BundleError(
            f"{path}: {seen:,} of {len(subjects):,} subjects of the split {evaluated.split} trained this bundle.",
            wanted="a split of people that no compared bundle saw: the metrics would flatter it",
            got=f"site {warehouse.site}",
            do="evaluate another split, or compare a bundle that was trained on the same subjects",
        )
    try:
        check_fits(other.plan, warehouse)
    except RiskpredError as error:
        raise BundleError(f"--against {path}: {error.what}", wanted=error.wanted, got=error.got, do=error.do) from None
    # Its own rules of who is eligible, at the rows of the bundle that is judged.
    rules = other.config.outcomes.model_copy(
        update={"prediction_times": judged_by.prediction_times, "entry_codes": judged_by.entry_codes}
    )
    place = {
        key: row
        for row, key in enumerate(zip(evaluated.subject_id.tolist(), evaluated.prediction_time.tolist(), strict=True))
    }
    mine = {target: q for q, target in enumerate(evaluated.targets)}
    shared = [(q, mine[target], target[0]) for q, target in enumerate(other.model.targets) if target in mine]
    found, done = np.full((len(evaluated), len(evaluated.targets)), np.nan), 0
    with one_thread():
        for chunk in warehouse.chunks(subjects=subjects if shared else subjects[:0]):
            rows = cohort(chunk, rules, warehouse.data_until)
            keys = zip(chunk.subject_id[rows.subject].tolist(), rows.prediction_time.tolist(), strict=True)
            at = np.array([place.get(key, -1) for key in keys], dtype=np.int64)
            rows, at = rows_at(rows, np.flatnonzero(at >= 0)), at[at >= 0]
            if len(rows):
                batch = build(replace(chunk, finder=other.finder), rows, other.plan, warehouse.image_root)
                usable = np.flatnonzero(batch.usable)
                if len(usable):
                    risk = other.model.predict(take(batch, usable)).risk
                    for q, own, outcome in shared:
                        eligible = rows.eligible[outcome][usable]
                        found[at[usable][eligible], own] = risk[eligible, q]
            done += len(chunk)
            progress.step(f"evaluate: risks of {path.name}", done, len(subjects))
    if not np.isfinite(found).any():
        raise BundleError(
            f"{path}: gives no risk at any of the {len(evaluated):,} evaluated rows.",
            wanted="an outcome and horizon of the bundle evaluated, for people whom both score: "
            + _listed(evaluated.targets),
            got=_listed(other.model.targets),
            do="compare another bundle",
        )
    return found


def _added(evaluated: Evaluated, name: str, risk: Floats, notes: Iterable[str]) -> Evaluated:
    """The rows with one more model, what it lacks in words, and how many rows each outcome loses by it."""
    without = [target for q, target in enumerate(evaluated.targets) if not np.isfinite(risk[:, q]).any()]
    said = [*notes] + ([f"{name} gives no risk of {_listed(without)}"] if without else [])
    left_out = {outcome: dict(counts) for outcome, counts in evaluated.left_out.items()}
    own = evaluated.risks[MODEL][0]
    for outcome in dict.fromkeys(outcome for outcome, _ in evaluated.targets):
        columns = [q for q, target in enumerate(evaluated.targets) if target[0] == outcome and target not in without]
        at_risk = judged(evaluated, outcome) & np.isfinite(own[:, columns]).all(axis=1)
        lost = int(np.sum(at_risk & ~np.isfinite(risk[:, columns]).all(axis=1)))
        if columns and lost:
            left_out.setdefault(outcome, {})[f"no risk from {name}"] = lost
            said.append(f"{outcome}: {lost:,} rows without a risk from {name} are left out, of every model")
    return replace(
        evaluated,
        risks={**evaluated.risks, name: risk[None]},
        left_out=left_out,
        notes=(*evaluated.notes, *said),
    )


def measured(
    evaluated: Evaluated, *, seed: int = 1, resamples: int | None = None, progress: Progress | None = None
) -> tuple[Evaluated, list[Metric]]:
    """`metrics` where a compared model may lack some horizons of an outcome: the rows judged, and their metrics.

    Rows without a risk that a model gives of others are left out of all. A model that lacks horizons is judged beside
    the first at those it has, on the same rows; with an IBS where it has every horizon so far. Pictures go without it.
    """
    whole, rows = evaluated, list[Metric]()
    for outcome in dict.fromkeys(name for name, _ in evaluated.targets):
        columns = tuple(q for q, (name, _) in enumerate(evaluated.targets) if name == outcome)
        has = {
            model: tuple(q for q in columns if np.isfinite(risk[:, :, q]).any())
            for model, risk in evaluated.risks.items()
        }
        lacking = {model: mine for model, mine in has.items() if mine and mine != columns}
        if not lacking:
            continue
        status, risks = whole.status[outcome].copy(), dict(whole.risks)
        for model, mine in has.items():
            there = np.isfinite(evaluated.risks[model][:, :, mine]).all(axis=(0, 2))
            status[~there] = -1  # of a model without the outcome this is no one
        for model in lacking:
            risks[model] = risks[model].copy()
            risks[model][:, :, columns] = np.nan
        whole = replace(whole, risks=risks, status={**whole.status, outcome: status})
        for model, mine in lacking.items():
            part = replace(
                whole,
                targets=tuple(evaluated.targets[q] for q in mine),
                risks={name: evaluated.risks[name][:, :, mine] for name in (MODEL, model)},
                low=None,
                high=None,
                member=None,
                truth=None,
            )
            so_far = {evaluated.targets[q][1] for q, at in zip(columns, mine, strict=False) if q == at}
            rows += [
                row
                for row in metrics(part, seed=seed, resamples=resamples)
                if row["model"] in (model, f"{MODEL} - {model}")
                and (row["metric"] != "ibs" or row["horizon_years"] in so_far)
            ]
    return whole, [*metrics(whole, seed=seed, resamples=resamples, progress=progress), *rows]


def _definitions(name: str, theirs: OutcomesConfig, ours: OutcomesConfig) -> list[str]:
    """Sentences on outcomes that both name but define otherwise."""
    other = [
        outcome
        for outcome, definition in theirs.outcomes.items()
        if outcome in ours.outcomes and definition.rule != ours.outcomes[outcome].rule
    ]
    if not other:
        return []
    return [f"{name} was trained on another rule of {', '.join(other)}; all are judged by the rule of {MODEL}"]


def _free_name(wanted: str, taken: Iterable[str]) -> str:
    """The name as model: none that is taken, none that reads as a difference or as a single modality."""
    plain = wanted.replace(" - ", "-")
    plain = f"{plain}_" if plain.endswith(ONLY) else plain
    names, number, name = set(taken), 2, plain
    while name in names or name == "truth":
        name, number = f"{plain} ({number})", number + 1
    return name


def _listed(targets: Iterable[tuple[str, float]]) -> str:
    """Outcomes with their horizons in words: "cancer within 1 and 5 years, low_mood now"."""
    years: dict[str, list[float]] = {}
    for outcome, horizon in targets:
        years.setdefault(outcome, []).append(horizon)
    texts = [
        f"{outcome} now"
        if horizons == [0.0]
        else f"{outcome} within {' and '.join(f'{horizon:g}' for horizon in horizons)} "
        f"year{'' if horizons == [1.0] else 's'}"
        for outcome, horizons in years.items()
    ]
    return ", ".join(texts)
