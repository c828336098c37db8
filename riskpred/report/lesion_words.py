"""Lesions in words: what they are called, how large they are, where they lie, how they grew."""

from typing import Any

from riskpred.report.language import text
from riskpred.report.words import MINUS, NBSP, Words

FINDING = "FINDING"
"""First part of the code of a feature that is made from images (config/findings.py)."""

MEASURES = {
    "count": text("%(label)s: number in the image"),
    "largest_diameter_mm": text("%(label)s: largest diameter"),
    "largest_area_px": text("%(label)s: area of the largest"),
    "total_area_px": text("%(label)s: area in all"),
    "total_area_mm2": text("%(label)s: area in all, mm²"),
    "total_volume_mm3": text("%(label)s: volume in all"),
    "confidence": text("%(label)s: highest confidence"),
}
"""Measure of a FINDING code -> its name."""

_LABELS = {
    "tumour": text("tumour"),
    "lesion": text("lesion"),
    "nodule": text("nodule"),
    "mass": text("mass"),
    "calcification": text("calcification"),
    "fracture": text("fracture"),
    "microaneurysm": text("microaneurysm"),
    "haemorrhage": text("haemorrhage"),
    "exudate": text("exudate"),
    "oedema": text("oedema"),
    "necrosis": text("necrosis"),
    "enhancing_tumour": text("enhancing tumour"),
    "whole_tumour": text("whole tumour"),
    "calcium": text("coronary calcium"),
}
_UNITS = {
    "mm": "mm",
    "mm2": "mm²",
    "mm3": "mm³",
    "pixels": text("pixels"),
    "lesions": text("lesions"),
}
_OF_MEASURE = {
    "total_volume_mm3": "mm3",
    "largest_diameter_mm": "mm",
    "total_area_mm2": "mm2",
    "total_area_px": "pixels",
}
_CHANGES = {
    "total_volume_mm3": text("volume %(change)s"),
    "largest_diameter_mm": text("largest diameter %(change)s"),
    "total_area_mm2": text("area %(change)s"),
    "total_area_px": text("area %(change)s"),
}


class LesionWords:
    """Words of lesions in one language."""

    words: Words

    def label(self, label: str) -> str:
        """ "enhancing_tumour" -> "enhancing tumour"."""
        known = _LABELS.get(label.lower())
        return self.words.say(known) if known else label.replace("_", " ")

    def finding(self, code: str) -> str | None:
        """Name of a code FINDING//<label>//<measure>; None for another code."""
        parts = code.split("//")
        if len(parts) != 3 or parts[0] != FINDING or parts[2] not in MEASURES:
            return None
        label = self.label(parts[1])
        return self.words.say(MEASURES[parts[2]], label=label[:1].upper() + label[1:])

    def lesion_size(self, one: dict[str, Any]) -> str:
        """ "12 mm across, 904 mm³"; in pixels where the spacing is not known."""
        said = []
        if one["longest_diameter_mm"] is not None:
            said.append(self.words.say("%(size)s across", size=self._with(one["longest_diameter_mm"], "mm")))
        if one["volume_mm3"] is not None:
            said.append(self._with(one["volume_mm3"], "mm3"))
        elif one["area_mm2"] is not None:
            said.append(self._with(one["area_mm2"], "mm2"))
        elif one["area_px"] is not None:
            said.append(self._with(one["area_px"], "pixels"))
        return self.words.say(", ").join(said)

    def lesion_place(self, one: dict[str, Any]) -> str:
        """ "slice 34, row 120, column 88", counted from 0."""
        said = []
        if one["slice"] is not None:
            said.append(self.words.say("slice %(n)s", n=self.words.figure(round(one["slice"]))))
        if one["row"] is not None and one["col"] is not None:
            row, column = (self.words.figure(round(one[name])) for name in ("row", "col"))
            said.append(self.words.say("row %(row)s, column %(column)s", row=row, column=column))
        return self.words.say(", ").join(said)

    def lesion_mm(self, one: dict[str, Any]) -> str:
        """ "x 12.5, y −30, z 88 mm" in the patient, or from the file's corner."""
        axes = [(axis, one[f"{axis}_mm"]) for axis in ("x", "y", "z")]
        told = self.words.say(", ").join(
            f"{axis} {self.words.figure(round(v, 1))}" for axis, v in axes if v is not None
        )
        return f"{told}{NBSP}mm"

    def growth(self, change: dict[str, Any]) -> str:
        """ "largest diameter +2.4 mm, number +1"."""
        said = []
        if change["measure"] in _CHANGES:
            grown = self._signed(change["change"]) + NBSP + self._unit(_OF_MEASURE[change["measure"]])
            said.append(self.words.say(_CHANGES[change["measure"]], change=grown))
        if change["count"]:
            said.append(self.words.say("number %(change)s", change=self._signed(change["count"])))
        elif change["count"] == 0:
            said.append(self.words.say("as many as before"))
        return self.words.say(", ").join(said) or self.words.say("cannot be compared")

    def _signed(self, value: float) -> str:
        shown = self.words.figure(float(f"{abs(value):.3g}"))
        return shown if value == 0 else f"{MINUS if value < 0 else '+'}{shown}"

    def _with(self, value: float, unit: str) -> str:
        return f"{self.words.figure(float(f'{value:.3g}'))}{NBSP}{self._unit(unit)}"

    def _unit(self, unit: str) -> str:
        return self.words.say(_UNITS[unit])
