"""Codes under which what a study's segmentation finds in an image becomes events: FINDING//<label>//<measure>.

They are made from the images of a warehouse and stand in no source; features.yaml reads them as any other code.
"""

from collections.abc import Iterable
from typing import Final

FINDING: Final = "FINDING"
_PREFIX: Final = f"{FINDING}//"

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


def is_finding(code: str) -> bool:
    """Whether a code, or a prefix that ends in *, is one that is made from images."""
    return code.startswith(_PREFIX)


def finding_unit(code: str) -> str | None:
    """The unit of a code that `is_finding`."""
    return MEASURES.get(code.rpartition("//")[2])
