"""What radiomics measure in images, in words: IMAGE//<stage>//<family>_<measure> (config/radiomics.py)."""

import re
from typing import Final

from riskpred.report.language import text
from riskpred.report.words import Words

IMAGE: Final = "IMAGE"
"""First part of the code of a feature that is measured in images (config/findings.py)."""

_STAGES = {
    "breast": text("breast"),
    "chest": text("chest"),
    "brain": text("brain"),
}
"""Names of stages that studies are likely to use; any other is said as it is."""

_MEASURES = {
    "brightness_mean": text("mean brightness"),
    "brightness_sd": text("spread of brightness"),
    "brightness_skewness": text("skewness of brightness"),
    "brightness_kurtosis": text("kurtosis of brightness"),
    "brightness_p10": text("tenth percentile of brightness"),
    "brightness_p50": text("median brightness"),
    "brightness_p90": text("ninetieth percentile of brightness"),
    "brightness_entropy": text("variety of brightness"),
    "cooccurrence_anisotropy": text("contrast down against across"),
    "edges_mean": text("mean strength of edges"),
    "edges_sd": text("spread of the strength of edges"),
    "edges_p95": text("strength of the strongest edges"),
    "edges_upright": text("share of upright edges"),
    "edges_rising": text("share of rising edges"),
    "edges_level": text("share of level edges"),
    "edges_falling": text("share of falling edges"),
    "edges_entropy": text("variety of the directions of edges"),
    "mass_area": text("darkest area: share of the image"),
    "mass_row": text("darkest area: height in the image"),
    "mass_column": text("darkest area: place from left to right"),
    "mass_height": text("darkest area: extent in depth"),
    "mass_taller_than_wide": text("darkest area: taller than wide"),
    "mass_elongation": text("darkest area: short against long axis"),
    "mass_upright": text("darkest area: how upright it lies"),
    "mass_solidity": text("darkest area: without notches"),
    "mass_extent": text("darkest area: share of its frame"),
    "mass_roundness": text("darkest area: roundness"),
    "mass_raggedness": text("darkest area: ragged outline"),
    "mass_mean": text("darkest area: mean brightness"),
    "mass_sd": text("darkest area: spread of brightness"),
    "mass_p90": text("darkest area: brightest echoes inside"),
    "mass_contrast": text("darkest area: darker than around it"),
    "mass_rim_step": text("darkest area: step at its rim"),
    "mass_rim_sharpness": text("darkest area: sharpness of its rim"),
    "mass_rim_unevenness": text("darkest area: unevenness of its rim"),
    "mass_halo": text("darkest area: bright halo"),
    "mass_shadow": text("darkest area: brightness behind against beside"),
    "mass_below": text("darkest area: brightness behind"),
}
_STRIPES = {
    "long_upright": text("wide upright stripes"),
    "long_rising": text("wide rising stripes"),
    "long_level": text("wide level stripes"),
    "long_falling": text("wide falling stripes"),
    "middle_upright": text("medium upright stripes"),
    "middle_rising": text("medium rising stripes"),
    "middle_level": text("medium level stripes"),
    "middle_falling": text("medium falling stripes"),
    "short_upright": text("narrow upright stripes"),
    "short_rising": text("narrow rising stripes"),
    "short_level": text("narrow level stripes"),
    "short_falling": text("narrow falling stripes"),
}
_OF_PAIRS = {
    "contrast": text("contrast of points %(pixels)s pixels apart"),
    "homogeneity": text("likeness of points %(pixels)s pixels apart"),
    "correlation": text("correlation of points %(pixels)s pixels apart"),
    "energy": text("uniformity of points %(pixels)s pixels apart"),
}
_OF_STRIPES = {"mean": text("strength of %(stripes)s"), "sd": text("unevenness of %(stripes)s")}

_PAIRS = re.compile(r"cooccurrence_(?P<what>[a-z]+)_(?P<pixels>[0-9]+)")
_PATTERN = re.compile(r"patterns_(?:(?P<n>[0-9]+)_of_8|mixed)_at_(?P<pixels>[0-9]+)")
_WAVES = re.compile(r"waves_(?P<what>mean|sd)_(?P<stripes>[a-z]+_[a-z]+)")
_CELL = re.compile(r"layout_row_(?P<row>[0-9]+)_column_(?P<column>[0-9]+)")


def radiomics_name(words: Words, code: str) -> str | None:
    """IMAGE//breast//mass_solidity -> "Breast image: darkest area: without notches"; None for another code."""
    parts = code.split("//")
    measure = _measure(words, parts[2]) if len(parts) == 3 and parts[0] == IMAGE else None
    if measure is None:
        return None
    stage = words.say(_STAGES[parts[1]]) if parts[1] in _STAGES else parts[1].replace("_", " ")
    return words.say("%(stage)s image: %(measure)s", stage=stage[:1].upper() + stage[1:], measure=measure)


def _measure(words: Words, name: str) -> str | None:
    if name in _MEASURES:
        return words.say(_MEASURES[name])
    if (found := _PAIRS.fullmatch(name)) and found["what"] in _OF_PAIRS:
        return words.say(_OF_PAIRS[found["what"]], pixels=found["pixels"])
    if found := _PATTERN.fullmatch(name):
        if found["n"] is None:
            return words.say("share of points with mixed neighbours, %(pixels)s pixels away", pixels=found["pixels"])
        return words.say(
            "share of points with %(n)s of 8 neighbours brighter, %(pixels)s pixels away",
            n=found["n"],
            pixels=found["pixels"],
        )
    if (found := _WAVES.fullmatch(name)) and found["stripes"] in _STRIPES:
        return words.say(_OF_STRIPES[found["what"]], stripes=words.say(_STRIPES[found["stripes"]]))
    if found := _CELL.fullmatch(name):
        return words.say(
            "brightness of part %(row)s down, %(column)s across, of 5 x 5", row=found["row"], column=found["column"]
        )
    return None
