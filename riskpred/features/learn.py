"""Makes the feature plan of a study from a warehouse: columns, categories seen in training, units."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from riskpred.config.features import FeaturesConfig, ImageModality, SeriesModality, TabularFeature, TabularModality
from riskpred.config.findings import finding_unit, is_finding
from riskpred.config.imaging import default_steps
from riskpred.errors import ConfigError, InputError
from riskpred.features.fits import refuse_absent
from riskpred.features.plan import (
    BUILTIN,
    VALUE_AGGREGATES,
    FeatureColumn,
    FeaturePlan,
    ImagePlan,
    ModalityPlan,
    SeriesChannel,
    SeriesPlan,
    TabularPlan,
)
from riskpred.records.compiled import code_mask
from riskpred.records.warehouse import Warehouse

MAX_CATEGORIES = 100
"""More different texts than this are free text, which has no place in a bundle."""

NEVER_SEEN = ("",)
"""Vocabulary of a category that no training subject has; no recorded category is empty."""

_COUNTED_UNITS = {"count": "events", "age_days": "days", "first_age_days": "days", "span_days": "days"}
_BUILTIN_UNITS = {"age_years": "years", "days_since_entry": "days"}
_BUILTIN_DISPLAY = {"age_years": "Age", "days_since_entry": "Time since entry"}


def learn_plan(config: FeaturesConfig, warehouse: Warehouse, train_subjects: NDArray[np.int64]) -> FeaturePlan:
    """The plan of a study: categories are those of the training subjects, units those of the warehouse.

    A category that no training subject has gets the vocabulary NEVER_SEEN, so that its column stays and is missing.

    Raises:
        ConfigError: a feature named twice; mean, min, max or slope of a category; a category of more than
            MAX_CATEGORIES texts.
        InputError: a code whose values are read is recorded in several units.
        BundleError (12): a required code does not occur.
    """
    vocabularies = _vocabularies(config, warehouse, train_subjects)
    modalities: dict[str, ModalityPlan] = {}
    used: set[str] = set()
    for name, modality in config.modalities.items():
        if isinstance(modality, TabularModality):
            columns = tuple(
                column for block in modality.features for column in _columns(name, block, warehouse, vocabularies)
            )
            twice = sorted(column for column, count in Counter(c.name for c in columns).items() if count > 1)
            if twice:
                raise ConfigError(
                    f"features.yaml: modalities.{name}: features that stand twice: {', '.join(twice)}.",
                    wanted="each code with an aggregate and a window once",
                    do="remove one of the two",
                )
            modalities[name] = TabularPlan(columns)
            used |= {c.code for c in columns if c.aggregate in VALUE_AGGREGATES and not c.vocabulary}
        elif isinstance(modality, SeriesModality):
            channels = tuple(SeriesChannel(code, _unit(code, warehouse), code.rstrip("*")) for code in modality.codes)
            modalities[name] = SeriesPlan(
                channels, modality.window_days, modality.max_steps, modality.stale_after_days, modality.required
            )
            used |= set(modality.codes)
        else:
            modalities[name] = image_plan(modality)
    units = {
        code: warehouse.code_units[code][0]
        for pattern in sorted(used)
        for code in _codes(pattern, warehouse)
        if warehouse.code_units.get(code)
    }
    plan = FeaturePlan(modalities, tuple(sorted(units.items())))
    refuse_absent(plan, warehouse)
    return plan


def image_plan(modality: ImageModality) -> ImagePlan:
    """The plan of one image modality: where features.yaml names no steps, those of each image type."""
    given = modality.steps
    steps = ((one, default_steps(one) if given is None else given) for one in modality.image_types)
    return ImagePlan(
        modality.image_types,
        modality.window_days,
        modality.stale_after_days,
        modality.size,
        modality.most_images,
        modality.channels,
        tuple((one, some) for one, some in steps if some),
        modality.volume,
        modality.slices,
    )


def _columns(
    modality: str, block: TabularFeature, warehouse: Warehouse, vocabularies: dict[str, tuple[str, ...]]
) -> list[FeatureColumn]:
    if block.builtin is not None:
        name = block.builtin
        display = block.display or _BUILTIN_DISPLAY[name]
        return [FeatureColumn(name, name, BUILTIN, None, _BUILTIN_UNITS[name], display, block.required)]
    senseless = sorted(VALUE_AGGREGATES.difference({"last"}).intersection(block.aggregates)) if block.category else []
    if senseless:
        raise ConfigError(
            f"features.yaml: modalities.{modality}: {', '.join(senseless)} of a category ({', '.join(block.codes)}).",
            wanted="category: true with last, or with aggregates that count (count, ever, age_days, ...)",
            do="remove the aggregate, or `category: true`",
        )
    columns = []
    for code in block.codes:
        for aggregate in block.aggregates:
            category = block.category and aggregate == "last"
            for window in block.windows_days:
                columns.append(
                    FeatureColumn(
                        name=f"{code}:{aggregate}" + ("" if window is None else f":{window}d"),
                        code=code,
                        aggregate=aggregate,
                        window_days=window,
                        unit=None if category else _column_unit(code, aggregate, warehouse),
                        display=_display(block, code, aggregate, window),
                        required=block.required,
                        vocabulary=vocabularies[code] if category else (),
                    )
                )
    return columns


def _display(block: TabularFeature, code: str, aggregate: str, window: int | None) -> str:
    name = code.rstrip("*").rstrip("/")
    if block.display is not None:
        name = block.display if len(block.codes) == 1 else f"{block.display} {name}"
    details = [] if aggregate == "last" else [aggregate.replace("_", " ")]
    details += [] if window is None else [f"{window} days"]
    return f"{name} ({', '.join(details)})" if details else name


def _column_unit(code: str, aggregate: str, warehouse: Warehouse) -> str | None:
    if aggregate not in VALUE_AGGREGATES:
        return _COUNTED_UNITS.get(aggregate)
    unit = _unit(code, warehouse)
    if aggregate == "slope":
        return "per year" if unit is None else f"{unit} per year"
    return unit


def _unit(pattern: str, warehouse: Warehouse) -> str | None:
    """The one unit of the values of a code, or of all codes of a prefix. Raises: InputError, when there are several."""
    if is_finding(pattern) and not _codes(pattern, warehouse):
        return finding_unit(pattern)
    units = {unit for code in _codes(pattern, warehouse) for unit in warehouse.code_units.get(code, ())}
    if len(units) > 1:
        raise InputError(
            f"{warehouse.path}: {pattern} is recorded in {len(units)} units.",
            wanted="one unit for every code whose values are a feature (features.yaml)",
            got=", ".join(sorted("none" if unit is None else unit for unit in units)),
            do="convert in ingest.yaml (`units` of this code) and ingest again",
        )
    return next(iter(units), None)


def _codes(pattern: str, warehouse: Warehouse) -> list[str]:
    mask = code_mask(warehouse.codes, (pattern,))
    return [warehouse.codes[i] for i in np.flatnonzero(mask)]


def _vocabularies(
    config: FeaturesConfig, warehouse: Warehouse, train_subjects: NDArray[np.int64]
) -> dict[str, tuple[str, ...]]:
    """Categories of each category code among the training subjects, sorted by text."""
    patterns = {
        code
        for modality in config.modalities.values()
        if isinstance(modality, TabularModality)
        for block in modality.features
        if block.category
        for code in block.codes
    }
    seen: dict[str, set[str]] = {pattern: set() for pattern in patterns}
    if not seen:
        return {}
    for chunk in warehouse.chunks(subjects=train_subjects):
        for pattern, values in seen.items():
            events = code_mask(chunk.codes, (pattern,))[chunk.code]
            if pattern.endswith("*"):
                values |= {chunk.codes[i].removeprefix(pattern[:-1]) for i in np.unique(chunk.code[events])}
            else:
                values |= {chunk.texts[i] for i in np.unique(chunk.text[events]) if i >= 0}
            values.discard("")
            if len(values) > MAX_CATEGORIES:
                raise ConfigError(
                    f"features.yaml: {pattern} has more than {MAX_CATEGORIES} different texts: not a category.",
                    wanted=f"at most {MAX_CATEGORIES} categories",
                    do="map the texts in ingest.yaml, or use the aggregates ever and count",
                )
    return {pattern: tuple(sorted(values)) or NEVER_SEEN for pattern, values in seen.items()}
