"""Counts what became of every fact, per source and per mapping, and refuses a mapping that rejects too much."""

import re
from collections import Counter
from dataclasses import dataclass, field

from riskpred.errors import InputError

_PHRASES = {
    "no_subject": "no subject for {code}",
    "no_time": "no time for {code}",
    "not_a_time": "time of {code} not readable",
    "no_anchor": "no day 0 for {code}",
    "not_a_number": "value of {code} is no number",
    "unknown_value": "value of {code} not among those listed",
    "unknown_unit": "unit of {code} not accepted",
    "out_of_range": "value of {code} outside its range",
    "unknown_code": "code not listed",
    "unreadable_row": "not readable as a row",
    "unknown_image_type": "image type not accepted",
    "path_refused": "image path leads out of the image root or to no regular file",
    "file_missing": "image file not there",
    "ambiguous_image_id": "image_id stands for several images",
    "burned_in_annotation": "text in the pixels of {code}, or not excluded",
    "blank": "blank picture",
    "inverted": "picture with black and white exchanged",
    "cropped": "cropped picture",
    "series_in_root": "series in SOURCE itself",
    "ambiguous_path": "annotation of a path that is that of several images",
    "no_image": "annotation that names no image",
    "no_label": "annotation without a label",
    "no_such_image": "annotation of an image that was not kept",
    "ambiguous_lesion": "lesion number stands for several annotations",
    "contradictory_annotation": "none said of an image that has a lesion",
}
_SETTINGS = {
    "unknown_unit": "units",
    "out_of_range": "range",
    "unknown_value": "values",
    "unknown_code": "codes",
    "not_a_number": "missing",
}
_REPAIRS = {
    "unknown_unit": "convert at the source, or add the unit with its factor to `units` of this code",
    "out_of_range": "correct the source, widen `range`, or raise `allow_rejects` of this code",
    "unknown_value": "correct the source, or add the value to `values` of this code",
    "unknown_code": "list the code under `codes` (ignore is one answer), or set unknown: ignore",
    "not_a_number": "correct the source, or name what stands for a missing value in `missing` of this code",
    "unreadable_row": "correct the file: one delimiter, closed quotes, as many fields as the header",
    "file_missing": "put the files there, or correct `path`",
    "no_such_image": "correct the column that names the image, or raise `allow_rejects`; it may be a reject itself",
    "burned_in_annotation": "have the export cleaned, or set burned_in: allow where nothing in the pixels names anyone",
    "ambiguous_path": "name the images of folders with several series by image_uid (their SeriesInstanceUID)",
    "series_in_root": "put the series into a folder below SOURCE",
}


@dataclass
class SourceCount:
    """One row of `ingests`: facts = events + images + annotations + rejects + missing + repeats + ignored."""

    source: str
    rows: int = 0
    facts: int = 0
    events: int = 0
    images: int = 0
    rejects: int = 0
    missing: int = 0
    repeats: int = 0
    ignored: int = 0
    annotations: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def check(self) -> None:
        """A fact that is not accounted for is our bug."""
        kept = self.events + self.images + self.annotations
        total = kept + self.rejects + self.missing + self.repeats + self.ignored
        assert self.facts == total, f"{self.source}: {self.facts} facts, {total} accounted for"
        assert self.rejects == self.reasons.total(), f"{self.source}: rejects without a reason"


@dataclass
class Tally:
    """What became of one mapping's facts over all its files.

    Attributes:
        label: the code in errors.   where: its place in ingest.yaml.   allowed: share that may be refused.
        judged: facts neither ignored nor missing.   units: source units that were refused.
    """

    source: str
    label: str
    where: str
    allowed: float
    judged: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wanted: dict[str, str] = field(default_factory=dict)
    units: Counter[str] = field(default_factory=Counter)

    @property
    def too_many(self) -> bool:
        return self.refused.total() > self.allowed * self.judged


def check_limits(tallies: list[Tally]) -> None:
    """Raises: InputError for the first mapping that rejects more of its rows than ingest.yaml allows."""
    over = [tally for tally in tallies if tally.too_many]
    if not over:
        return
    tally = over[0]
    reason, count = max(tally.refused.items(), key=lambda item: (item[1], item[0]))
    others = {name: n for name, n in sorted(tally.refused.items()) if name != reason}
    share = 100 * tally.refused.total() / tally.judged
    together = f"all reasons together {share:.1f} %" if others else f"{share:.1f} %"
    got = _units_shown(tally) if reason == "unknown_unit" else None
    if others:
        got = "; ".join(filter(None, [got, *(f"{name} in {n:,} more" for name, n in others.items())]))
    setting = f".{_SETTINGS[reason]}" if reason in _SETTINGS else ""
    do = _REPAIRS.get(reason, "correct the source, or raise `allow_rejects` of this code")
    if len(over) > 1:
        do += f"; {len(over) - 1:,} more mapping{'s reject' if len(over) > 2 else ' rejects'} too much"
    raise InputError(
        f"{tally.source}: {_phrase(reason).format(code=tally.label)} in {count:,} of {tally.judged:,} rows"
        f" ({together}, allowed {100 * tally.allowed:g} %).",
        wanted=f"{tally.wanted[reason]} ({tally.where}{setting})",
        got=got,
        do=do,
    )


def _phrase(reason: str) -> str:
    """A reason in words; those of readers of images speak for themselves."""
    return _PHRASES.get(reason, f"{{code}} refused as {reason}")


def _units_shown(tally: Tally) -> str:
    # A unit column that is no unit column may hold anything: only what looks like a unit is shown.
    names = [
        name if re.fullmatch(r"[A-Za-zµμ%°Ωµ][\w/%^*.µμ²³°·\[\]{}()-]{0,15}", name) else "(not shown)"
        for name, _ in tally.units.most_common(3)
    ]
    return ", ".join(dict.fromkeys(names)) or "no unit"
