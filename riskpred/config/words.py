"""Words for codes: display names in English and Chinese, units, usual ranges, groups, what can be changed.

configs/words/*.yaml hold them for all studies; words.yaml in a study's folder adds concepts, or replaces one of the
same name. A code belongs to the concept that lists it; else to the one with the longest prefix (`ICD10//E11*`) of it.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from riskpred.config.features import FeaturesConfig, ImageModality, SeriesModality
from riskpred.config.files import shipped
from riskpred.config.findings import is_finding
from riskpred.config.model import Strict, load
from riskpred.config.outcomes import OutcomesConfig
from riskpred.errors import ConfigError

IMAGE = "image"
"""What reasons call an image modality's one feature."""


class Both(Strict):
    """A text in both languages of the reports."""

    en: str
    zh: str


class DirectionWords(Strict):
    """What to call a value below and above the usual: [low, high]."""

    en: tuple[str, str] = ("low", "high")
    zh: tuple[str, str] = ("偏低", "偏高")


class Usual(Strict):
    """A usual range; a side left out has no limit."""

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _some(self) -> "Usual":
        if self.low is None and self.high is None:
            raise ValueError("give low, high or both")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class UsualBySex(Strict):
    """Usual ranges that differ by sex."""

    female: Usual
    male: Usual


class UnitWords(Strict):
    """A concept in one unit. limit: how far an improvement may be thought to go (see `Improve`); no target."""

    display: Both | None = None
    range: Usual | UsualBySex | None = None
    limit: float | None = None


class Improve(Strict):
    """What a person or their treatment can change, and which way is better.

    towards: of numbers, not beyond the unit's `limit`.   values: of categories, each with the one it may become.
    most_share: a number moves by at most this share of what it is.
    also: numbers of other codes that follow at once, where they are recorded (who stops smoking smokes no cigarettes).
    """

    towards: Literal["lower", "higher"] | None = None
    values: dict[str, str] = Field(default_factory=dict)
    most_share: float | None = Field(None, gt=0, lt=1)
    also: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _some(self) -> "Improve":
        if self.towards is None and not self.values:
            raise ValueError("give towards, values or both")
        return self


class CodeWords(Strict):
    """What to call a code. improve: left out = nothing that anybody can change."""

    name: Both
    group: str | None = None
    direction: DirectionWords = DirectionWords()
    improve: Improve | None = None
    units: dict[str, UnitWords] = Field(default_factory=dict)
    values: dict[str, Both] = Field(default_factory=dict, description="of a category")


class Concept(CodeWords):
    """Words, and the codes they belong to; a code may end in * (prefix)."""

    codes: Annotated[tuple[str, ...], Field(min_length=1)]


class WordsFile(Strict):
    """One file of words."""

    groups: dict[str, Both] = Field(default_factory=dict)
    concepts: dict[str, Concept] = Field(default_factory=dict)
    phrases: tuple[Both, ...] = Field((), description="a `display` of outcomes.yaml or features.yaml, translated")
    unit_displays: dict[str, Both] = Field(default_factory=dict)


class StudyWords(Strict):
    """The words of one study: only its own codes and built-in features, as features.yaml writes them."""

    codes: dict[str, CodeWords] = Field(default_factory=dict)
    groups: dict[str, Both] = Field(default_factory=dict)
    outcomes: dict[str, Both] = Field(default_factory=dict)
    unit_displays: dict[str, Both] = Field(default_factory=dict)


def load_study_words(folder: Path, features: FeaturesConfig, outcomes: OutcomesConfig) -> StudyWords:
    """Words of a study's codes, its own words.yaml before those for all. A code without words is left out.

    A feature that has a `display` in features.yaml and no words is called that in both languages.

    Raises: ConfigError: an unknown key; a concept, group or code that stands twice; a group that no file names.
    """
    own = folder / "words.yaml"
    words = _together(shipped("configs") / "words", own if own.is_file() else None)
    by_code = {code: concept for concept in words.concepts.values() for code in concept.codes}
    codes = {}
    for code, display in _displays(features).items():
        found = _of(code, by_code)
        if found is not None:
            codes[code] = CodeWords.model_validate({name: getattr(found, name) for name in CodeWords.model_fields})
        elif display is not None:
            codes[code] = CodeWords(name=_said(display, words.phrases) or Both(en=display, zh=display))
    used = {one.group for one in codes.values()}
    said = {name: _said(outcome.display, words.phrases) for name, outcome in outcomes.outcomes.items()}
    return StudyWords(
        codes=codes,
        groups={name: both for name, both in words.groups.items() if name in used},
        outcomes={
            name: both or Both(en=outcomes.outcomes[name].display, zh=outcomes.outcomes[name].display)
            for name, both in said.items()
        },
        unit_displays=words.unit_displays,
    )


def feature_codes(features: FeaturesConfig) -> tuple[str, ...]:
    """Codes and built-in features that a study reads, each once, as features.yaml writes them."""
    return tuple(_displays(features))


def without_words(features: FeaturesConfig, words: StudyWords) -> tuple[str, ...]:
    """Codes of a study that reports have to make a name for; findings of images have one in every report."""
    return tuple(code for code in feature_codes(features) if code not in words.codes and not is_finding(code))


def _displays(features: FeaturesConfig) -> dict[str, str | None]:
    """Code -> `display` of features.yaml where it is that of this code alone."""
    found: dict[str, str | None] = {}
    for modality in features.modalities.values():
        if isinstance(modality, ImageModality):
            found.setdefault(IMAGE, None)
        elif isinstance(modality, SeriesModality):
            for code in modality.codes:
                found.setdefault(code, None)
        else:
            for block in modality.features:
                codes = (block.builtin,) if block.builtin is not None else block.codes
                for code in codes:
                    shown = block.display if len(codes) == 1 else None
                    found[code] = found.get(code) or shown
    return found


def _of(code: str, by_code: Mapping[str, Concept]) -> Concept | None:
    if code in by_code:
        return by_code[code]
    # A prefix of features.yaml (`DX//a*`) lies within a prefix of the words that is as long or shorter.
    fits = [pattern for pattern in by_code if pattern.endswith("*") and code.rstrip("*").startswith(pattern[:-1])]
    return by_code[max(fits, key=len)] if fits else None


def _said(display: str, phrases: Iterable[Both]) -> Both | None:
    return next((both for both in phrases if both.en == display), None)


@lru_cache(maxsize=32)
def _together(folder: Path, own: Path | None) -> WordsFile:
    files = sorted(folder.glob("*.yaml"))
    everyone = _joined({str(path): load(WordsFile, path) for path in files})
    words = everyone
    if own is not None:
        extra = _joined({str(own): load(WordsFile, own)})
        taken = {code for concept in extra.concepts.values() for code in concept.codes}
        kept = {
            name: concept.model_copy(update={"codes": left})
            for name, concept in everyone.concepts.items()
            if name not in extra.concepts and (left := tuple(code for code in concept.codes if code not in taken))
        }
        words = WordsFile(
            groups={**everyone.groups, **extra.groups},
            concepts={**kept, **extra.concepts},
            phrases=(*extra.phrases, *everyone.phrases),
            unit_displays={**everyone.unit_displays, **extra.unit_displays},
        )
    unnamed = sorted({c.group for c in words.concepts.values() if c.group is not None and c.group not in words.groups})
    if unnamed:
        raise ConfigError(
            f"{own or folder}: groups without a name in both languages: {', '.join(unnamed)}.",
            wanted=f"a group under `groups`, or one of {', '.join(sorted(words.groups))}",
            do="name it, or correct the concept's `group`",
        )
    return words


def _joined(files: Mapping[str, WordsFile]) -> WordsFile:
    """Raises: ConfigError: a concept, a group, a unit's display or a code that stands in two places."""
    concepts: dict[str, Concept] = {}
    groups: dict[str, Both] = {}
    displays: dict[str, Both] = {}
    phrases: list[Both] = []
    claimed: dict[str, str] = {}
    for where, file in files.items():
        for kind, given, so_far in (
            ("concept", file.concepts, concepts),
            ("group", file.groups, groups),
            ("display of the unit", file.unit_displays, displays),
        ):
            twice = sorted(set(given) & set(so_far))
            if twice:
                raise ConfigError(
                    f"{where}: another file has the {kind} {twice[0]!r} too.",
                    wanted="each once",
                    do="remove one of them",
                )
        for name, concept in file.concepts.items():
            for code in concept.codes:
                if code in claimed:
                    raise ConfigError(
                        f"{where}: the code {code} is claimed twice, by {claimed[code]} and by {name}.",
                        wanted="each code in one concept, once",
                        do="remove it from one of them",
                    )
                claimed[code] = name
        concepts |= file.concepts
        groups |= file.groups
        displays |= file.unit_displays
        phrases += file.phrases
    return WordsFile(groups=groups, concepts=concepts, phrases=tuple(phrases), unit_displays=displays)
