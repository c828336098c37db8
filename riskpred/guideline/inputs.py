"""What a person's records give of a guideline equation's inputs: the latest usable value of each, and since when."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.config.guideline import INPUT_UNITS, GuidelineConfig, InputRule
from riskpred.guideline.kidney import ckd_epi_2021
from riskpred.records.chunk import DAY_US, STATIC, SubjectChunk
from riskpred.records.cohort import BIRTH_CODE
from riskpred.records.compiled import code_mask
from riskpred.records.reference_group import GENDER, sex_word

_FIRST, _LAST = (int(np.datetime64(day, "us").astype(np.int64)) for day in ("0001-01-01", "9999-12-31"))
_SEX_CODES: Final = ("GENDER//*", "GENDER")


@dataclass(frozen=True)
class Shown:
    """An input as the record has it, for people to check: value in `unit`, UTC microseconds (None = undated)."""

    value: float | str
    unit: str | None
    time: int | None


@dataclass(frozen=True)
class Person:
    """given: inputs in the units of INPUT_UNITS.   shown: the same as recorded.

    refused: inputs with a value that cannot be used -> the unit it is in.   too_old: inputs whose values are too old.
    """

    given: dict[str, float | str] = field(default_factory=dict)
    shown: dict[str, Shown] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    too_old: tuple[str, ...] = ()


class InputReader:
    """Reads the inputs of one configuration from chunks of one warehouse."""

    def __init__(self, config: GuidelineConfig, codes: tuple[str, ...]) -> None:
        self._config = config
        self._mask = {name: code_mask(codes, rule.codes) for name, rule in config.inputs.items() if rule.codes}
        self._sex = code_mask(codes, _SEX_CODES)
        self._birth = code_mask(codes, (BIRTH_CODE,))

    def person(self, chunk: SubjectChunk, place: int, moment: int) -> Person:
        """Inputs of the subject at `place` of the chunk, from events at or before `moment` (UTC microseconds)."""
        begin, end = int(chunk.start[place]), int(chunk.start[place + 1])
        rows = begin + np.flatnonzero(chunk.time[begin:end] <= moment)
        found = Person({"region": self._config.region}, {"region": Shown(self._config.region, None, None)})
        self._read_sex(found, chunk, rows)
        born = _times(chunk, rows, self._birth)
        born = born[born != STATIC]
        if len(born):
            _add(found, "age", float(whole_years(int(born[0]), moment)), "years", None)
        too_old = [
            name
            for name, rule in self._config.inputs.items()
            if not _read(found, name, rule, chunk, rows[self._of(name)[chunk.code[rows]]], moment)
        ]
        self._derive(found, chunk, rows, int(born[0]) if len(born) else None)
        return Person(found.given, found.shown, found.refused, tuple(too_old))

    def _of(self, name: str) -> NDArray[np.bool_]:
        return self._mask.get(name, np.zeros_like(self._birth))

    def _read_sex(self, found: Person, chunk: SubjectChunk, rows: NDArray[np.int64]) -> None:
        """The latest, read as the reference group reads it: who is among women there is a woman here."""
        for row in rows[self._sex[chunk.code[rows]]].tolist():
            code = chunk.codes[chunk.code[row]]
            told = sex_word(
                code if code.startswith(GENDER) else chunk.texts[chunk.text[row]] if chunk.text[row] >= 0 else ""
            )
            if told in ("female", "male"):
                _add(found, "sex", told, None, None)
            elif "sex" in found.given:
                del found.given["sex"], found.shown["sex"]

    def _derive(self, found: Person, chunk: SubjectChunk, rows: NDArray[np.int64], born: int | None) -> None:
        """eGFR from creatinine, and the age at the first code of diabetes, where no rule gave them."""
        given = found.given
        if "egfr" not in given and {"creatinine", "age", "sex"} <= set(given):
            creatinine, age = given["creatinine"], given["age"]
            assert not isinstance(creatinine, str)
            assert not isinstance(age, str)
            if creatinine > 0:
                rate = round(ckd_epi_2021(creatinine, age, str(given["sex"])), 1)
                _add(found, "egfr", rate, INPUT_UNITS["egfr"], found.shown["creatinine"].time)
        rule = self._config.inputs.get("diabetes")
        if rule is not None and rule.ever and "diabetes_age" not in given and born is not None:
            first = _times(chunk, rows, self._mask["diabetes"])
            first = first[first != STATIC]
            if len(first):
                _add(found, "diabetes_age", float(whole_years(born, int(first[0]))), "years", int(first[0]))


def whole_years(born: int, moment: int) -> int:
    """Age in whole years by the calendar, as people and the equations count it. UTC microseconds."""
    # numpy's calendar has every year that a record may name; datetime's ends at the year 1 and stops the night.
    birth, then = (np.datetime64(us, "us") for us in (born, moment))
    (year, *of_birth), (now, *of_then) = (_date(one) for one in (birth, then))
    return now - year - int(of_then < of_birth)


def _date(moment: np.datetime64) -> tuple[int, int, int]:
    """Year, month (0 = January) and day (0 = the first)."""
    month, day = moment.astype("datetime64[M]"), moment.astype("datetime64[D]")
    year, of_year = divmod(int(month.astype(np.int64)), 12)
    return year, of_year, int((day - month.astype("datetime64[D]")).astype(np.int64))


def _read(found: Person, name: str, rule: InputRule, chunk: SubjectChunk, rows: NDArray[np.int64], moment: int) -> bool:
    """Add one input; False where there is a value, but too old a one."""
    unit = INPUT_UNITS[name]
    if rule.assume is not None:
        _add(found, name, rule.assume, unit, None)
        return True
    if rule.ever:
        first = int(chunk.time[rows[0]]) if len(rows) else None
        _add(found, name, float(len(rows) > 0), unit, None if first == STATIC else first)
        return True
    valued = rows[chunk.text[rows] >= 0] if rule.values else rows[~np.isnan(chunk.numeric_value[rows])]
    if not len(valued):
        return True
    last = int(valued[-1])
    time = int(chunk.time[last])
    if rule.max_age_days is not None and time != STATIC and moment - time > rule.max_age_days * DAY_US:
        return False
    when = None if time == STATIC else time
    if rule.values:
        meaning = rule.values.get(chunk.texts[chunk.text[last]])
        if meaning is not None:
            _add(found, name, meaning, unit, when)
        return True
    value = _decimal(float(chunk.numeric_value[last]))
    if rule.at_least is not None:
        _add(found, name, float(value >= rule.at_least), unit, when)
        return True
    recorded = _unit(chunk, last)
    factor = rule.units.get(recorded or "")
    if factor is None:
        found.refused[name] = recorded or "no unit"
        return True
    found.given[name] = value * factor
    found.shown[name] = Shown(value, recorded, when)
    return True


def _add(found: Person, name: str, value: float | str, unit: str | None, time: int | None) -> None:
    found.given[name] = value
    found.shown[name] = Shown(value, unit, time)


def _times(chunk: SubjectChunk, rows: NDArray[np.int64], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    return chunk.time[rows[mask[chunk.code[rows]]]]


def _unit(chunk: SubjectChunk, row: int) -> str | None:
    if chunk.unit is None:
        return chunk.units[int(chunk.code[row])]
    return None if chunk.unit[row] < 0 else chunk.unit_texts[int(chunk.unit[row])]


def _decimal(value: float) -> float:
    """5.199999809 -> 5.2: the shortest number that is stored as the same float32."""
    short = float(str(np.float32(value)))
    return short if np.float32(short) == np.float32(value) else value


def iso(time: int | None) -> str | None:
    """UTC microseconds as text; None for none, and for what ISO 8601 has no four digits for: no page can show it."""
    if time is None or not _FIRST <= time <= _LAST:
        return None
    return f"{np.datetime64(time, 'us').astype('datetime64[s]')}Z"


def shown_json(shown: Mapping[str, Shown]) -> dict[str, dict[str, object]]:
    """As `evidence.note` holds inputs."""
    return {name: {"value": one.value, "unit": one.unit, "time": iso(one.time)} for name, one in shown.items()}
