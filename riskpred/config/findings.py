"""Codes under which what a study's imaging.yaml makes of an image becomes events: FINDING//<label>//<measure> of a
segmentation, IMAGE//<stage>//<family>_<measure> of radiomics.

They are made from the images of a warehouse and stand in no source; features.yaml reads them as any other code.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from riskpred.config.radiomics import RadiomicsStage

FINDING: Final = "FINDING"
_PREFIX: Final = f"{FINDING}//"

IMAGE: Final = "IMAGE"
_MEASURED: Final = f"{IMAGE}//"

MEASURES: Final[dict[str, str | None]] = {
    "count": "lesions",
    "largest_diameter_mm": "mm",
    "largest_area_px": "pixels",
    "total_area_px": "pixels",
    "total_area_mm2": "mm2",
    "total_volume_mm3": "mm3",
    "confidence": "probability",
}
"""Measure of one label in one image -> its unit. An image that was looked at and shows none has 0 in each that its
spacing allows; an image that was not, or could not be, looked at has no event."""


def finding_code(label: str, measure: str) -> str:
    """Example: finding_code("tumour", "count") == "FINDING//tumour//count"."""
    assert measure in MEASURES, measure
    return f"{_PREFIX}{label}//{measure}"


def finding_codes(labels: Iterable[str]) -> tuple[str, ...]:
    """Every code of these labels, sorted, each once."""
    return tuple(sorted({finding_code(label, measure) for label in labels for measure in MEASURES}))


def radiomics_code(stage: str, measure: str) -> str:
    """Example: radiomics_code("breast", "mass_solidity") == "IMAGE//breast//mass_solidity"."""
    return f"{_MEASURED}{stage}//{measure}"


def radiomics_codes(stages: Mapping[str, RadiomicsStage]) -> tuple[str, ...]:
    """Every code of these stages, sorted."""
    return tuple(sorted(radiomics_code(name, one) for name, stage in stages.items() for one in stage.measures))


def is_finding(code: str) -> bool:
    """Whether a code, or a prefix that ends in *, is one that is made from images."""
    return code.startswith((_PREFIX, _MEASURED))


def finding_unit(code: str) -> str | None:
    """The unit of a code that `is_finding`; what radiomics measure has none."""
    return MEASURES.get(code.rpartition("//")[2]) if code.startswith(_PREFIX) else None
