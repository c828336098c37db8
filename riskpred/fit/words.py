"""The words that a bundle's card carries: all that a report, which sees no configuration, can call things by."""

from typing import Any

from riskpred.config.words import CodeWords, StudyWords, Usual, UsualBySex
from riskpred.features.plan import VALUE_AGGREGATES, FeaturePlan, SeriesPlan, TabularPlan


def card_words(words: StudyWords, plan: FeaturePlan) -> dict[str, Any]:
    """Entries of the card, both languages each.

    words: code or built-in feature, as the plan writes it -> name, unit, unit_display, range, direction, group,
        modifiable; values (names of categories) where it has some; improve (towards, values, also, limit, most_share)
        where it is modifiable. Keys that say nothing are left out, apart from unit and group (null). A feature is
        called by its code: `LAB//LDL` has the words of `LAB//LDL:mean:730d`.
    groups: group -> name.   outcome_words: outcome -> display.   unit_displays: unit -> how people write it.
    """
    units = _units(plan)
    return {
        "words": {code: _entry(one, units.get(code), words) for code, one in words.codes.items()},
        "groups": {name: both.model_dump() for name, both in words.groups.items()},
        "outcome_words": {name: both.model_dump() for name, both in words.outcomes.items()},
        "unit_displays": {unit: both.model_dump() for unit, both in words.unit_displays.items()},
    }


def _units(plan: FeaturePlan) -> dict[str, str | None]:
    """The one unit of each code's values; none of a category or of a code that is only counted."""
    found: dict[str, str | None] = {}
    for part in plan.modalities.values():
        if isinstance(part, TabularPlan):
            for column in part.columns:
                reads_values = column.aggregate in VALUE_AGGREGATES - {"slope"} or column.aggregate == "builtin"
                if reads_values and not column.vocabulary:
                    found[column.code] = column.unit
        elif isinstance(part, SeriesPlan):
            found |= {channel.code: channel.unit for channel in part.channels}
    return found


def _entry(one: CodeWords, unit: str | None, words: StudyWords) -> dict[str, Any]:
    here = one.units.get(unit or "")
    display = (here.display if here is not None else None) or words.unit_displays.get(unit or "")
    entry: dict[str, Any] = {
        "name": one.name.model_dump(),
        "unit": unit,
        "direction": {"en": list(one.direction.en), "zh": list(one.direction.zh)},
        "group": one.group,
        "modifiable": one.improve is not None,
    }
    if display is not None and unit:
        entry["unit_display"] = display.model_dump()
    if here is not None and here.range is not None:
        entry["range"] = _range(here.range)
    if one.values:
        entry["values"] = {value: both.model_dump() for value, both in one.values.items()}
    if one.improve is not None:
        limit = None if here is None else here.limit
        given = {key: value for key, value in one.improve.model_dump().items() if value not in (None, {})}
        entry["improve"] = given if limit is None else {**given, "limit": limit}
    return entry


def _range(usual: Usual | UsualBySex) -> dict[str, Any]:
    if isinstance(usual, Usual):
        return usual.model_dump()
    return {"female": usual.female.model_dump(), "male": usual.male.model_dump()}
