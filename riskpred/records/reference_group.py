"""Which people a risk is explained against: those of the same sex and age band at prediction_time.

One function for `fit`, which learns a reference profile of each group, and for a night, which names each risk's.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.records.chunk import SubjectChunk
from riskpred.records.cohort import CohortRows, ages_years
from riskpred.records.compiled import compiled

GENDER: Final = "GENDER//"
"""How codes begin that say the sex of a person."""

EVERYONE: Final = "everyone"

BAND_STARTS: Final = (30, 40, 50, 60, 70, 80)
"""Where age bands begin, in whole years; the first is all below."""

_BANDS: Final = ("under 30", *(f"aged {low} to {low + 9}" for low in BAND_STARTS[:-1]), "aged 80 and over")
_UNKNOWN_BAND: Final = len(_BANDS)
_SEXES: Final = ("people", "women", "men")
"""Those whose sex is neither recorded as female nor as male are people."""
_WORDS: Final = {"female": 1, "male": 2}
_WIDE: Final = len(_BANDS) + 1


def _name(sex: int, band: int) -> str:
    if band < _UNKNOWN_BAND:
        return f"{_SEXES[sex]} {_BANDS[band]}"
    return f"{_SEXES[sex]}, age not known" if sex else EVERYONE


GROUPS: Final = (
    EVERYONE,
    *(_name(s, b) for s in range(len(_SEXES)) for b in range(_WIDE) if (s, b) != (0, _UNKNOWN_BAND)),
)
"""Every group there can be; of whom neither sex nor age is known belongs to everyone."""

WIDER: Final = {
    _name(s, b): _name(0, b) if s else EVERYONE
    for s in range(len(_SEXES))
    for b in range(_WIDE)
    if _name(s, b) in GROUPS
}
"""Who stands in for a group that is too small: people of that age of either sex, and for these everyone."""


def reference_groups(chunk: SubjectChunk, rows: CohortRows) -> NDArray[np.int64]:
    """Place in GROUPS of each row, by age and sex at its prediction_time. Shape: (R,)."""
    sex = _latest(chunk.start, chunk.time, chunk.code, _meanings(chunk.codes), rows.subject, rows.prediction_time)
    age = ages_years(chunk, rows)
    band = np.where(np.isnan(age), _UNKNOWN_BAND, np.searchsorted(BAND_STARTS, age, side="right"))
    place: NDArray[np.int64] = _PLACE[np.maximum(sex, 0), band]
    return place


def belongs(group: NDArray[np.int64], place: int) -> NDArray[np.bool_]:
    """Which rows, by their own groups, count for the profile of a group: of people of an age, those of either sex.

    Shape: (N,) -> (N,).
    """
    if GROUPS[place] == EVERYONE:
        return np.ones(len(group), dtype=np.bool_)
    same = [
        GROUPS.index(_name(s, b))
        for s in range(len(_SEXES))
        for b in range(_WIDE)
        if (_name(s, b) == GROUPS[place]) or (_name(0, b) == GROUPS[place] and b < _UNKNOWN_BAND)
    ]
    return np.isin(group, same)


def sex_word(code: str) -> str:
    """female, male or the code's own word in small letters; "" where it has none.

    Example:
        >>> sex_word("GENDER//F"), sex_word("GENDER//male"), sex_word("GENDER//X")
        ('female', 'male', 'x')
    """
    word = code.removeprefix(GENDER).strip().lower()
    if word in ("f", "female", "w", "woman"):
        return "female"
    return "male" if word in ("m", "male", "man") else word


@lru_cache(maxsize=16)
def _meanings(codes: tuple[str, ...]) -> NDArray[np.int64]:
    """What each code says of a sex: a place in _SEXES; -1 = nothing. Shape: (C,)."""
    return np.array([_WORDS.get(sex_word(code), 0) if code.startswith(GENDER) else -1 for code in codes], np.int64)


_PLACE: Final = np.array([[GROUPS.index(_name(s, b)) for b in range(_WIDE)] for s in range(len(_SEXES))])


@compiled
def _latest(
    start: NDArray[np.int64],
    time: NDArray[np.int64],
    code: NDArray[np.int32],
    meant: NDArray[np.int64],
    subject: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
) -> NDArray[np.int64]:
    """What the latest event of each row that means something (not -1) means; -1 where none does. Shape: (R,)."""
    found = np.full(len(subject), -1, dtype=np.int64)
    for r in range(len(subject)):
        for e in range(start[subject[r]], start[subject[r] + 1]):
            if time[e] > prediction_time[r]:
                break
            if meant[code[e]] >= 0:
                found[r] = meant[code[e]]
    return found
