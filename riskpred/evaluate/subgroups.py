"""Who is in which subgroup, and which cells of a table are hidden so that nobody can be picked out of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.censoring import Floats
from riskpred.records.chunk import DAY_US, STATIC, SubjectChunk
from riskpred.records.cohort import BIRTH_CODE, YEAR_DAYS
from riskpred.records.compiled import code_mask
from riskpred.records.follow_up import first_time
from riskpred.records.reference_group import GENDER, sex_word

SMALL_CELL: Final = 10
"""In a subgroup, counts below 10 are not shown: they could point at a person."""

AGES: Final = (40, 50, 60, 70, 80)
"""Where age bands begin, in whole years; the first is all below."""

WITH: Final = "with"
"""First word of a subgroup by which modalities were there."""

UNKNOWN: Final = "unknown"


@dataclass(frozen=True)
class Partition:
    """A way to divide everyone into groups. labels: in the order to show; each row is in exactly one. of: (N,)."""

    labels: tuple[str, ...]
    of: NDArray[np.str_]


def partitions(
    pattern: NDArray[np.str_], age_years: Floats | None, sex: NDArray[np.str_] | None
) -> tuple[Partition, ...]:
    """By age band, by sex and by which modalities were there; only those with more than one group.

    Labels begin with age, sex or with: "age 40-49", "sex female", "with tabular+series".
    Shape: pattern, age_years (NaN unknown), sex (N,).
    """
    found = []
    if age_years is not None:
        bands = ["age under 40", *(f"age {low}-{low + 9}" for low in AGES[:-1]), "age 80 or over", f"age {UNKNOWN}"]
        place = np.where(np.isnan(age_years), len(AGES) + 1, np.searchsorted(AGES, age_years, side="right"))
        found.append(Partition(tuple(bands), np.array(bands, dtype=np.str_)[place.astype(np.int64)]))
    if sex is not None:
        found.append(_named("sex", sex))
    found.append(_named(WITH, pattern))
    present = [Partition(tuple(label for label in one.labels if np.any(one.of == label)), one.of) for one in found]
    return tuple(one for one in present if len(one.labels) > 1)


def _named(word: str, of: NDArray[np.str_]) -> Partition:
    names = sorted(set(of.tolist()), key=lambda name: (name == UNKNOWN, name))
    return Partition(
        tuple(f"{word} {name}" for name in names), np.array([f"{word} {name}" for name in of], dtype=np.str_)
    )


@dataclass(frozen=True)
class Hidden:
    """What is not shown of G groups of one partition. people, events: (G,) bool; small: (G,) hidden for its own sake.

    Metrics of a group are hidden where `events` is.
    """

    people: NDArray[np.bool_]
    events: NDArray[np.bool_]
    small: NDArray[np.bool_]


def hidden_cells(people: Sequence[int], events: Sequence[int]) -> Hidden:
    """Which groups' counts are hidden: those below 10, and those from which these could be worked out.

    A group is hidden for its own sake when fewer than 10 people are in it, have the outcome or do not. As the counts of
    all groups together are known, a single hidden cell would be their difference to the rest: then the next smallest is
    hidden too, until at least two are and what they hold together is 10 or more.

    Shape: people, events (G,), the groups of one partition of everyone.
    Source: Hundepool et al. 2012, Statistical Disclosure Control, ch. 4 (secondary suppression).
    """
    n, with_it = np.asarray(people, dtype=np.int64), np.asarray(events, dtype=np.int64)
    small_people = n < SMALL_CELL
    hide_people = _completed(small_people, [n])
    small = small_people | (with_it < SMALL_CELL) | (n - with_it < SMALL_CELL)
    hide_events = _completed(small | hide_people, [with_it, n - with_it])
    return Hidden(hide_people, hide_events, small)


def _completed(hidden: NDArray[np.bool_], counts: Sequence[NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Hides the next smallest cell as long as those hidden could be worked out of their sum."""
    found = hidden.copy()
    if not found.any():
        return found
    smallest = np.min(np.stack(list(counts)), axis=0)
    for cell in np.argsort(smallest, kind="stable"):
        if found.sum() > 1 and all(int(count[found].sum()) >= SMALL_CELL for count in counts):
            break
        found[cell] = True
    return found


def age_and_sex(
    chunk: SubjectChunk, subject: NDArray[np.int64], prediction_time: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.str_]]:
    """Age in years (NaN unknown) and sex at each prediction time, by MEDS_BIRTH and the latest GENDER//... by then.

    Args: subject: index into chunk.subject_id, ascending; prediction_time: UTC microseconds.

    Shape: all (R,). Sex is female, male, unknown, or the code's own word in small letters.
    """
    birth_code = code_mask(chunk.codes, (BIRTH_CODE,))[chunk.code] & (chunk.time != STATIC)
    birth = first_time(chunk.start, chunk.time, birth_code)[subject]
    known = (birth != STATIC) & (birth <= prediction_time)
    age = np.where(known, (prediction_time - np.where(known, birth, 0)) / (YEAR_DAYS * DAY_US), np.nan)
    said = np.flatnonzero(code_mask(chunk.codes, (f"{GENDER}*",))[chunk.code])
    who = np.repeat(np.arange(len(chunk)), np.diff(chunk.start))[said]
    # Events and rows in one order, an event before a row of the same moment: the last event before a row is its sex.
    order = np.lexsort(
        (
            np.r_[np.zeros(len(said)), np.ones(len(subject))],
            np.r_[chunk.time[said], prediction_time],
            np.r_[who, subject],
        )
    )
    is_row = order >= len(said)
    latest = np.maximum.accumulate(np.where(is_row, -1, order))
    words = np.array([sex_word(chunk.codes[chunk.code[event]]) or UNKNOWN for event in said] + [UNKNOWN], dtype=np.str_)
    owner = np.r_[who, -1]
    sex = np.full(len(subject), UNKNOWN, dtype=words.dtype)
    rows, event = order[is_row] - len(said), latest[is_row]
    sex[rows] = np.where(owner[event] == subject[rows], words[event], UNKNOWN)
    return age.astype(np.float64), sex
