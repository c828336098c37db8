"""Reads single entries of JSON that a scores file holds: what is not of the wanted kind is nothing, never an error."""

import json
import math
from typing import Any


def number_in(entry: object) -> float | None:
    """A finite number; None for anything else, true and false among it.

    Example:
        >>> number_in(3), number_in(float("nan")), number_in(True), number_in("3")
        (3.0, None, None, None)
    """
    if isinstance(entry, bool) or not isinstance(entry, int | float) or not math.isfinite(entry):
        return None
    return float(entry)


def table_in(text: str | None) -> dict[str, Any]:
    """A JSON object, its NaN and infinities None; empty for anything else.

    Example:
        >>> table_in('{"slice": 3}'), table_in("[1]"), table_in(None)
        ({'slice': 3}, {}, {})
    """
    try:
        found = json.loads(text, parse_constant=lambda _: None) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
