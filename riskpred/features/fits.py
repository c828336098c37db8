"""Whether a warehouse has what a plan was trained on: required codes, and the units of every value it reads."""

import numpy as np

from riskpred.errors import BundleError
from riskpred.features.plan import BUILTIN, VALUE_AGGREGATES, FeaturePlan, SeriesPlan, TabularPlan
from riskpred.records.cohort import BIRTH_CODE
from riskpred.records.compiled import code_mask
from riskpred.records.warehouse import Warehouse

_SHOWN = 20


def check_fits(plan: FeaturePlan, warehouse: Warehouse) -> None:
    """Refuse a warehouse whose values the model would misread.

    Raises: BundleError (12), listing required codes that do not occur and codes in another unit than trained on; a
        prefix (CODE*) may bring codes that training did not see, if they come in a unit that it did see there.
    """
    refuse_absent(plan, warehouse)
    problems = [
        f"{code}: {_text(got)} (trained on {_text(trained)})"
        for code, got, trained in _unit_differences(plan, warehouse)
    ]
    if problems:
        raise BundleError(
            f"{warehouse.path}: unit of {_count(len(problems), 'code')} not the one the bundle was trained on.",
            wanted="values in the units of training, in the column `unit` of events",
            got=_listed(problems),
            do="convert at the source, or give events a `unit` column that names the unit the values are in; where "
            "`riskpred ingest` wrote the file: `units` of these codes in ingest.yaml, then ingest again",
        )


def refuse_absent(plan: FeaturePlan, warehouse: Warehouse) -> None:
    """Raises: BundleError (12), listing the codes of `required` features that do not occur in the warehouse."""
    required: list[str] = []
    for modality in plan.modalities.values():
        if isinstance(modality, TabularPlan):
            for column in modality.columns:
                # days_since_entry is every subject's own; age_years needs births.
                code = BIRTH_CODE if column.aggregate == BUILTIN else column.code
                if column.required and column.code != "days_since_entry":
                    required.append(code)
        elif isinstance(modality, SeriesPlan) and modality.required:
            required += [channel.code for channel in modality.channels]
    absent = [code for code in dict.fromkeys(required) if not _occurs(code, warehouse)]
    if absent:
        raise BundleError(
            f"{warehouse.path}: {_count(len(absent), 'required code')} never recorded: {_listed(absent)}.",
            wanted="each feature marked `required` in features.yaml at least once",
            got=f"{len(warehouse.codes)} other codes",
            do="ingest the missing data; or, if the model is of another study, name the one for these data; or fit "
            "without `required` for these features",
        )


def _occurs(pattern: str, warehouse: Warehouse) -> bool:
    mask = code_mask(warehouse.codes, (pattern,))
    return any(warehouse.code_counts.get(warehouse.codes[i], 0) > 0 for i in np.flatnonzero(mask))


def _unit_differences(plan: FeaturePlan, warehouse: Warehouse) -> list[tuple[str, set[str | None], set[str | None]]]:
    """(code, units here, units trained on) of every code whose values are read in a unit that training did not see."""
    trained = dict(plan.units)
    differences: dict[str, tuple[set[str | None], set[str | None]]] = {}
    for pattern in _value_patterns(plan):
        learned = tuple(trained)
        of_pattern: set[str | None] = {trained[learned[i]] for i in np.flatnonzero(code_mask(learned, (pattern,)))}
        if not of_pattern:
            continue  # training saw no value: the column was missing for everyone, in whatever unit
        for i in np.flatnonzero(code_mask(warehouse.codes, (pattern,))):
            code = warehouse.codes[i]
            got: set[str | None] = set(warehouse.code_units.get(code, ()))
            accepted = {trained[code]} if code in trained else of_pattern
            if got - accepted:
                differences[code] = (got, accepted)
    return [(code, got, accepted) for code, (got, accepted) in sorted(differences.items())]


def _value_patterns(plan: FeaturePlan) -> list[str]:
    patterns: list[str] = []
    for modality in plan.modalities.values():
        if isinstance(modality, TabularPlan):
            patterns += [c.code for c in modality.columns if c.aggregate in VALUE_AGGREGATES and not c.vocabulary]
        elif isinstance(modality, SeriesPlan):
            patterns += [channel.code for channel in modality.channels]
    return list(dict.fromkeys(patterns))


def _text(units: set[str | None]) -> str:
    return " and ".join(sorted("no unit" if unit is None else unit for unit in units))


def _listed(items: list[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
