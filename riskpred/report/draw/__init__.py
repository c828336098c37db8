"""Charts as inline SVG, drawn for reading on paper: risks, people in a hundred, reasons, series, outlined images.

Every function takes plain numbers and returns markup that is safe to put on a page: texts are escaped here, numbers
are formatted here, and nothing refers to anything outside. Colours are classes of templates/style.css; no chart
says with colour alone what it does not also say with form, position or text.
"""

from riskpred.report.draw.bars import signed_bar, step_bar, whole_bar
from riskpred.report.draw.findings import found
from riskpred.report.draw.picture import outlined, place
from riskpred.report.draw.risk import curve, history, people, range_bar, risk_scale
from riskpred.report.draw.series import series

__all__ = [
    "curve",
    "found",
    "history",
    "outlined",
    "people",
    "place",
    "range_bar",
    "risk_scale",
    "series",
    "signed_bar",
    "step_bar",
    "whole_bar",
]
