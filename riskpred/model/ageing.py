"""What a bundle's card says of time alone: how far 30 days in which nothing new is recorded move a risk."""

import math
from collections.abc import Mapping
from typing import Any, Final

CARD_KEY: Final = "thirty_days"
"""Entry of the bundle's card, made by `fit.ageing`: days, subjects, without_input, risk_points."""

DAYS: Final = 30


def ageing_said(card: Mapping[str, Any]) -> str:
    """The entry in one sentence, told of the risk that moves most (by its 95th percentile).

    Example:
        >>> moved = {"median": 0.02, "p95": 0.31, "largest": 1.5}
        >>> card = {"days": 30, "subjects": 900, "without_input": 0, "risk_points": {"stroke": {"5": moved}}}
        >>> ageing_said({CARD_KEY: card})  # doctest: +NORMALIZE_WHITESPACE
        '30 days with nothing new move a risk by 0.02 points (median), 0.31 (95 % at most), 1.5 (largest): stroke
        within 5 years, of 900 training subjects'
    """
    found = card.get(CARD_KEY)
    if not isinstance(found, Mapping):
        return "how far 30 days with nothing new move a risk: not recorded in this bundle; fit again to know"
    told = [
        (moved["p95"], outcome, horizon, moved)
        for outcome, horizons in found["risk_points"].items()
        for horizon, moved in horizons.items()
        if moved["p95"] is not None
    ]
    days, subjects, lost = found["days"], found["subjects"], found["without_input"]
    some = "fewer than 10" if lost is None else f"{lost:,}"
    left = "" if lost == 0 else f"; {some} of {subjects:,} have no usable input left"
    if not told:
        return f"how far {days} days with nothing new move a risk: nobody to tell by{left}"
    _, outcome, horizon, moved = max(told, key=lambda entry: entry[0])
    when = "now" if math.isclose(float(horizon), 0.0) else f"within {horizon} years"
    return (
        f"{days} days with nothing new move a risk by {moved['median']:.2g} points (median), {moved['p95']:.2g} "
        f"(95 % at most), {moved['largest']:.2g} (largest): {outcome} {when}, of {subjects:,} training subjects{left}"
    )
