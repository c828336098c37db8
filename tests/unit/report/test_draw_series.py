"""The drawing of a series: labels of its value axis never lie over each other."""

import re
from itertools import pairwise

import pytest

from riskpred.report.draw.series import series
from riskpred.report.language import language
from riskpred.report.names import Names
from riskpred.report.words import Words


@pytest.mark.parametrize("values", [(158.0, 160.0), (60.0, 240.0), (158.0, 158.0), (0.1, 0.1001)])
def test_labels_are_apart(values: tuple[float, float]) -> None:
    points = [{"time": f"2026-01-0{day}T00:00:00Z", "value": value} for day, value in enumerate(values, start=1)]
    one = {"code": "VITAL//SBP", "unit": "mmHg", "usual": {"low": 90.0, "high": 140.0}, "points": points}
    drawn = str(series(Names(Words(language("en"))), one, "2026-02-01T00:00:00Z"))
    heights = [
        float(y) for y in re.findall(r'<text[^>]* y="([-\d.]+)"[^>]*text-anchor="end"[^>]*>[\d.]+</text>', drawn)
    ]
    assert len(heights) == len(set(values))
    assert all(abs(a - b) >= 10.9 for a, b in pairwise(heights))
    assert all(0 < y < 92 for y in heights)
