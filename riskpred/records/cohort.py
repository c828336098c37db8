"""Who is eligible at each prediction_time, for which outcome, and what happened after.

Eligibility is judged by data at or before prediction_time alone; what lies later only fills the follow-up.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from riskpred.config.outcomes import OutcomesConfig, PredictionTimes
from riskpred.records.chunk import DAY_US, STATIC, SubjectChunk
from riskpred.records.compiled import code_mask
from riskpred.records.follow_up import (
    BIRTH,
    DEATH,
    ENTRY,
    FIRST_LABEL,
    LEAVING,
    MOST_OUTCOMES,
    first_dated,
    first_time,
    judge,
)

BIRTH_CODE = "MEDS_BIRTH"
YEAR_DAYS = 365.25
REASONS = (None, "not_entered", "dead", "left", "prevalent", "age")
"""Why a row is not eligible, the first that holds in this order; None = eligible."""

_FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class CohortRows:
    """R rows = (subject, prediction_time), in chunk order (subject, then prediction_time).

    Shape and meaning:
        subject: (R,) int64, index into chunk.subject_id.      prediction_time: (R,) int64 UTC microseconds.
        entry_time: (R,) int64, the first entry at or before prediction_time; STATIC = none or undated.
        eligible: outcome -> (R,) bool.       reason: outcome -> (R,) int8, place in REASONS; 0 where eligible.
        duration_days: risk group -> (R,) float64 from prediction_time to event or end of follow-up; 0 where known at
            once; NaN where cause = -1.
        cause: risk group -> (R,) int8: 0 censored, j = group.causes[j - 1]; known at once 0 no (of a set: none of
            them), j = the class, or the highest grade; -1 = not in the group's risk set (not eligible, or follow-up
            ends within its blanking window), or unlabelled.
        valid_until: (R,) int64, the first later moment at which eligibility may change without new data (an age limit
            passes, an already recorded event becomes visible); STATIC = none.
    """

    subject: NDArray[np.int64]
    prediction_time: NDArray[np.int64]
    entry_time: NDArray[np.int64]
    eligible: dict[str, NDArray[np.bool_]]
    reason: dict[str, NDArray[np.int8]]
    duration_days: dict[str, NDArray[np.float64]]
    cause: dict[str, NDArray[np.int8]]
    valid_until: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.subject)

    def reasons(self, outcome: str) -> tuple[str | None, ...]:
        """Why each row is not eligible for an outcome, in words; None where it is."""
        return tuple(REASONS[place] for place in self.reason[outcome].tolist())


def cohort(chunk: SubjectChunk, outcomes: OutcomesConfig, data_until: int, as_of: int | None = None) -> CohortRows:
    """Rows of the subjects of a chunk, with eligibility, follow-up and cause.

    Args:
        outcomes: outcomes.yaml.
        data_until: UTC microseconds; follow-up of everyone who has not left ends here.
        as_of: given: one row for every subject at that time (score). None: rows at outcomes.prediction_times, and of
            these only rows eligible for at least one outcome; none later than the day of data_until.

    A leaving is undone by an entry code after it. Of one moment's events the outcome counts before death, death before
    leaving. Without entry_codes entry is the first dated event other than MEDS_BIRTH. An outcome known at once is
    labelled by the codes from lookback_days before prediction_time's (UTC) day to the end of that day; undated labels
    always count. A label code without the value that its rule judges was not measured.

    Blanking: whose follow-up ends (outcome, death or leaving) within a group's blanking_days after prediction_time, the
    last moment included, is eligible as ever but not in its risk set. Durations still count from prediction_time.
    """
    if as_of is not None:
        subject = np.arange(len(chunk), dtype=np.int64)
        prediction_time = np.full(len(chunk), as_of, dtype=np.int64)
    else:
        subject, prediction_time = _prediction_times(
            chunk, outcomes.prediction_times, _entries(chunk, outcomes), data_until
        )
    rows = _judged(chunk, outcomes, subject, prediction_time, data_until)
    if as_of is not None:
        return rows
    keep = np.zeros(len(rows), dtype=np.bool_)
    for eligible in rows.eligible.values():
        keep |= eligible
    return rows if keep.all() else rows_at(rows, np.flatnonzero(keep))


def cohort_at(
    chunk: SubjectChunk,
    outcomes: OutcomesConfig,
    data_until: int,
    subject: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
) -> CohortRows:
    """`cohort` at given rows: what is known today of predictions made then, each at its own time.

    Shape: subject, index into chunk.subject_id, and prediction_time, UTC microseconds: (R,), sorted by both.
    """
    return _judged(chunk, outcomes, subject, prediction_time, data_until)


@dataclass(frozen=True)
class _Rules:
    """What codes, numbers and texts mean to the cohort: the arguments of `follow_up.judge` of these names."""

    meaning: NDArray[np.int64]
    needs_value: NDArray[np.bool_]
    least: NDArray[np.float64]
    most: NDArray[np.float64]
    needs_text: NDArray[np.bool_]
    accepted: NDArray[np.bool_]


def _rules(chunk: SubjectChunk, outcomes: OutcomesConfig) -> _Rules:
    rules = [outcome.rule for outcome in outcomes.outcomes.values()]
    assert len(rules) <= MOST_OUTCOMES, "one bit per outcome"
    meaning = np.zeros(len(chunk.codes), dtype=np.int64)
    for bit, patterns in (
        (ENTRY, outcomes.entry_codes),
        (LEAVING, outcomes.leaving_codes),
        (DEATH, outcomes.death_codes),
        (BIRTH, (BIRTH_CODE,)),
        *((1 << FIRST_LABEL + k, rule.codes) for k, rule in enumerate(rules)),
    ):
        meaning |= np.where(code_mask(chunk.codes, patterns), bit, 0)
    # Values are float32 in MEDS: a limit of 0.1 must be met by a stored 0.1.
    least = [-math.inf if rule.at_least is None else float(np.float32(rule.at_least)) for rule in rules]
    most = [math.inf if rule.at_most is None else float(np.float32(rule.at_most)) for rule in rules]
    return _Rules(
        meaning=meaning,
        needs_value=np.array([not (rule.at_least is None and rule.at_most is None) for rule in rules], dtype=np.bool_),
        least=np.array(least, dtype=np.float64),
        most=np.array(most, dtype=np.float64),
        needs_text=np.array([rule.values is not None for rule in rules], dtype=np.bool_),
        accepted=np.array(
            [[rule.values is not None and text in rule.values for text in chunk.texts] for rule in rules],
            dtype=np.bool_,
        ).reshape(len(rules), len(chunk.texts)),
    )


def _entries(chunk: SubjectChunk, outcomes: OutcomesConfig) -> NDArray[np.bool_]:
    """Which events are entries: those of the entry codes, else all of the first dated moment. Shape: (E,)."""
    if outcomes.entry_codes:
        return code_mask(chunk.codes, outcomes.entry_codes)[chunk.code]
    dated = (chunk.time != STATIC) & ~code_mask(chunk.codes, (BIRTH_CODE,))[chunk.code]
    first = first_time(chunk.start, chunk.time, dated)
    entries: NDArray[np.bool_] = dated & (chunk.time == np.repeat(first, np.diff(chunk.start)))
    return entries


def _prediction_times(
    chunk: SubjectChunk, when: PredictionTimes, entry: NDArray[np.bool_], data_until: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(subject, prediction_time) of every candidate row, sorted by both. Shape: (R,), (R,)."""
    last = (data_until // DAY_US + 1) * DAY_US - 1
    subjects = np.arange(len(chunk), dtype=np.int64)
    if when.at_codes is not None:
        at = code_mask(chunk.codes, when.at_codes)[chunk.code] & (chunk.time != STATIC)
        subject, time = np.repeat(subjects, np.diff(chunk.start))[at], chunk.time[at]
        new = np.ones(len(time), dtype=np.bool_)
        new[1:] = (np.diff(subject) != 0) | (np.diff(time) != 0)
        subject, time = subject[new], time[new]
    elif when.at_dates is not None:
        dates = np.array(sorted({microseconds(date) for date in when.at_dates}), dtype=np.int64)
        subject, time = np.repeat(subjects, len(dates)), np.tile(dates, len(subjects))
    else:
        first = first_time(chunk.start, chunk.time, entry & (chunk.time != STATIC))
        entered = (first != STATIC) & (first <= last)
        subjects, first = subjects[entered], first[entered]
        if when.days_after_entry is not None:
            after = np.array(sorted(set(when.days_after_entry)), dtype=np.int64) * DAY_US
            subject, time = np.repeat(subjects, len(after)), (first[:, None] + after[None, :]).ravel()
        else:
            assert when.every_days is not None, "PredictionTimes has exactly one way"
            step = when.every_days * DAY_US
            count = (last - first) // step + 1
            subject = np.repeat(subjects, count)
            place = np.arange(len(subject), dtype=np.int64) - np.repeat(np.cumsum(count) - count, count)
            time = np.repeat(first, count) + place * step
    reached = time <= last
    return subject[reached], time[reached]


def microseconds(moment: datetime) -> int:
    """UTC microseconds of a datetime; without a zone it means UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def age_limits_us(limits: tuple[float | None, float | None] | None) -> tuple[int, int]:
    """Least and greatest eligible microseconds since birth; a limit that is not given never binds."""
    low, high = limits if limits is not None else (None, None)
    year_us = YEAR_DAYS * DAY_US
    return (
        STATIC if low is None else math.ceil(low * year_us),
        _FOREVER if high is None else math.floor(high * year_us),
    )


def _judged(
    chunk: SubjectChunk,
    outcomes: OutcomesConfig,
    subject: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
    data_until: int,
) -> CohortRows:
    """Every given row with its eligibility and follow-up."""
    names, groups = list(outcomes.outcomes), outcomes.groups
    group_of, cause_of = np.zeros(len(names), dtype=np.int64), np.zeros(len(names), dtype=np.int64)
    for g, group in enumerate(groups):
        for number, name in enumerate(group.outcomes, start=1):
            group_of[names.index(name)], cause_of[names.index(name)] = g, number
    low, high = age_limits_us(outcomes.age_years)
    rules = _rules(chunk, outcomes)
    reason, duration, cause, entry_time, valid_until = judge(
        chunk.start,
        chunk.time,
        chunk.code,
        chunk.numeric_value,
        chunk.text,
        rules.meaning,
        not outcomes.entry_codes,
        rules.needs_value,
        rules.least,
        rules.most,
        rules.needs_text,
        rules.accepted,
        group_of,
        cause_of,
        np.array([group.known_at_once for group in groups], dtype=np.bool_),
        np.array([group.ordered for group in groups], dtype=np.bool_),
        np.array([len(group.causes) for group in groups], dtype=np.int64),
        np.array([outcome.lookback_days * DAY_US for outcome in outcomes.outcomes.values()], dtype=np.int64),
        np.array([outcome.absent == "no" for outcome in outcomes.outcomes.values()], dtype=np.bool_),
        subject,
        prediction_time,
        data_until,
        outcomes.age_years is not None,
        low,
        high,
    )
    for g, group in enumerate(groups):
        if group.blanking_days:
            within = duration[g] <= group.blanking_days
            duration[g, within], cause[g, within] = np.nan, -1
    place = {name: g for g, group in enumerate(groups) for name in group.outcomes}
    return CohortRows(
        subject=subject,
        prediction_time=prediction_time,
        entry_time=entry_time,
        eligible={name: reason[place[name]] == 0 for name in names},
        reason={name: reason[place[name]] for name in names},
        duration_days={group.name: duration[g] for g, group in enumerate(groups)},
        cause={group.name: cause[g] for g, group in enumerate(groups)},
        valid_until=valid_until,
    )


def ages_years(chunk: SubjectChunk, rows: CohortRows) -> NDArray[np.float64]:
    """Age at prediction_time, whatever the features are; NaN where no dated birth is known by then. Shape: (R,)."""
    birth = code_mask(chunk.codes, (BIRTH_CODE,))
    born = first_dated(chunk.start, chunk.time, chunk.code, birth)[rows.subject]
    known = (born != STATIC) & (born <= rows.prediction_time)
    # Where it is not known the difference would overflow.
    lived = rows.prediction_time - np.where(known, born, rows.prediction_time)
    return np.where(known, lived / (YEAR_DAYS * DAY_US), np.nan)


def rows_at(rows: CohortRows, index: NDArray[np.int64]) -> CohortRows:
    """The given rows alone, in the given order."""
    return CohortRows(
        subject=rows.subject[index],
        prediction_time=rows.prediction_time[index],
        entry_time=rows.entry_time[index],
        eligible={name: eligible[index] for name, eligible in rows.eligible.items()},
        reason={name: reason[index] for name, reason in rows.reason.items()},
        duration_days={name: duration[index] for name, duration in rows.duration_days.items()},
        cause={name: cause[index] for name, cause in rows.cause.items()},
        valid_until=rows.valid_until[index],
    )
