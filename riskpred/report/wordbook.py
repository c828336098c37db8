"""The clinical words of a model card: display names, units, usual ranges, direction words and groups of codes.

A card comes from outside as JSON: an entry of an unexpected shape counts as absent, and nothing here raises. Texts are
given in the language asked for, else in English.
"""

from typing import Any

from riskpred.report.entries import number_in


class WordBook:
    """What one model card says of codes: its entries words, groups, outcome_words, unit_displays."""

    def __init__(self, card: dict[str, Any]) -> None:
        self._words, self._groups = _dict(card.get("words")), _dict(card.get("groups"))
        self._outcomes, self._units = _dict(card.get("outcome_words")), _dict(card.get("unit_displays"))

    def name(self, key: str, language: str) -> str | None:
        """Display name of a code or feature."""
        return _said(self._entry(key).get("name"), language)

    def value(self, key: str, category: str, language: str) -> str | None:
        """What a category of a code is called."""
        return _said(_dict(self._entry(key).get("values")).get(category), language)

    def unit(self, key: str, unit: str, language: str) -> str | None:
        """How `unit` is written beside values of a code; None where the card does not say."""
        entry = self._entry(key)
        own = _said(entry.get("unit_display"), language, empty=True) if entry.get("unit") == unit else None
        return own if own is not None else _said(self._units.get(unit), language, empty=True)

    def usual(self, key: str, sex: str | None, unit: str | None) -> dict[str, float | None] | None:
        """Usual range of a code in `unit`, {"low", "high"} (None = no limit), for `sex` (female, male or None).

        A range that differs by sex is not given for someone of unknown sex, and none is given in another unit.
        """
        entry = self._entry(key)
        found = _dict(entry.get("range"))
        if "low" not in found and "high" not in found:
            found = _dict(found.get(sex)) if sex else {}
        low, high = number_in(found.get("low")), number_in(found.get("high"))
        if (low is None and high is None) or (low is not None and high is not None and low >= high):
            return None
        return {"low": low, "high": high} if entry.get("unit") == unit else None

    def direction(self, key: str, higher: bool, language: str) -> str | None:
        """The word for a value below (or, where `higher`, above) the usual range."""
        pair = _dict(self._entry(key).get("direction"))
        words = pair.get(language) or pair.get("en")
        if not isinstance(words, list) or len(words) != 2 or not all(isinstance(word, str) for word in words):
            return None
        return str(words[higher]) or None

    def group(self, key: str) -> str | None:
        """The group a code or feature belongs to."""
        group = self._entry(key).get("group")
        return group if isinstance(group, str) and group else None

    def group_name(self, group: str, language: str) -> str | None:
        """Display name of a group."""
        return _said(self._groups.get(group), language)

    def outcome(self, outcome: str, language: str) -> str | None:
        """Display name of an outcome."""
        return _said(self._outcomes.get(outcome), language)

    def _entry(self, key: str) -> dict[str, Any]:
        return _dict(self._words.get(key))


def _said(entry: object, language: str, empty: bool = False) -> str | None:
    """The text of a {"en": ..., "zh": ...} entry; a plain text stands for every language."""
    table = _dict(entry)
    found = entry if isinstance(entry, str) else table.get(language, table.get("en"))
    return found if isinstance(found, str) and (empty or found.strip()) else None


def _dict(entry: object) -> dict[str, Any]:
    return entry if isinstance(entry, dict) else {}
