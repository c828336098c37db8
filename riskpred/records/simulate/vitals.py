"""Vital signs of the simulated hospital: an irregular series whose course, not its level, tells the latent."""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from riskpred.records.simulate.draws import Draws

VISITS: Final = (9, 18)
"""Fewest and most visits of a subject who has a series."""

UNITS: Final = {"systolic": "mmHg", "heart_rate": "/min", "weight": "kg"}


def vital_rows(
    pattern: NDArray[np.int64],
    recorded: NDArray[np.bool_],
    male: NDArray[np.float64],
    entry_day: NDArray[np.int64],
    draws: Draws,
) -> pl.DataFrame:
    """Rows of vitals.csv: index, day, minute of the day, name, value.

    Systolic pressure is stable (noise of at most 8 mmHg around a level), rising (by 40 to 56 mmHg over the visits)
    or labile (swinging by 18 to 30 mmHg from visit to visit): bounded noise keeps the three apart, while level, mean
    and latest value hardly differ between them.

    Args:
        pattern: (N,) state of the series latent: 0 stable, 1 rising, 2 labile.
        recorded: (N,) whether there is a series at all.
    """
    subjects, most = len(pattern), VISITS[1]
    count = VISITS[0] + np.floor(draws.uniform("visits", subjects) * (most - VISITS[0] + 1)).astype(np.int64)
    last = -3 - np.floor(draws.uniform("visit last day", subjects) * 60)
    slot = (last - entry_day) / count
    position = np.arange(most) + 0.15 + 0.7 * draws.uniform("visit days", subjects, most)
    day = np.floor(entry_day[:, None] + slot[:, None] * position).astype(np.int64)
    minute = 480 + np.floor(draws.uniform("visit minutes", subjects, most) * 600).astype(np.int64)
    # 0 at the first visit, 1 at the last.
    course = (day - day[:, :1]) / (np.take_along_axis(day, count[:, None] - 1, axis=1) - day[:, :1])
    level = 132 + 9 * draws.normal("pressure level", subjects, limit=2.5)[:, None]
    rise = (40 + 16 * draws.uniform("pressure rise", subjects))[:, None] * (course - 0.7)
    swing = (18 + 12 * draws.uniform("pressure swings", subjects, most)) * np.where(
        (np.arange(most) + (draws.uniform("pressure phase", subjects) < 0.5)[:, None]) % 2 == 0, 1, -1
    )
    noise = 4 * draws.normal("pressure noise", subjects, most, limit=2)
    shape = np.select([pattern[:, None] == 1, pattern[:, None] == 2], [rise, swing], 0.0)
    values = {
        "systolic": (level + shape + noise).round(0),
        "heart_rate": (
            72
            + 8 * draws.normal("heart rate level", subjects, limit=2.5)[:, None]
            + 4 * draws.normal("heart rate noise", subjects, most, limit=2)
        ).round(0),
        "weight": (
            70
            + 11 * male[:, None]
            + 11 * draws.normal("weight level", subjects, limit=2.5)[:, None]
            + 1.2 * draws.normal("weight noise", subjects, most, limit=2)
        ).round(1),
    }
    visited = recorded[:, None] & (np.arange(most) < count[:, None])
    weighed = draws.uniform("weighed", subjects, most) < 0.5
    index = np.broadcast_to(np.arange(subjects)[:, None], visited.shape)
    blocks = []
    for name, value in values.items():
        rows = visited & weighed if name == "weight" else visited
        blocks.append(
            pl.DataFrame({"index": index[rows], "day": day[rows], "minute": minute[rows], "value": value[rows]})
            .with_columns(pl.lit(name).alias("name"))
            .select("index", "day", "minute", "name", "value")
        )
    return pl.concat(blocks)
