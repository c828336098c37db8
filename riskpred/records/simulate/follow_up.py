"""What happens to the simulated subjects after their day 0, and what was known of them before: diagnoses and ends."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from riskpred.config.simulation import HospitalConfig
from riskpred.records.simulate.draws import Draws
from riskpred.records.simulate.population import Population
from riskpred.records.simulate.rates import YEAR_DAYS, event_days

CODES: Final = {
    "cardiovascular": ("I21", "I50", "I63", "I48"),
    "cancer": ("C34", "C18", "C50", "C61"),
    "mental_health": ("F32", "F33", "F41"),
    "diabetes": ("E11",),
    "hypertension": ("I10",),
    "asthma": ("J45",),
}
"""Group -> ICD-10 codes the hospital writes."""

_HISTORY: Final = {
    "prior_cardiovascular": "cardiovascular",
    "prior_cancer": "cancer",
    "prior_depression": "mental_health",
    "diabetes": "diabetes",
    "hypertension": "hypertension",
}


@dataclass(frozen=True)
class FollowUp:
    """Latent times and ends of N subjects, in days after day 0.

    Shape:
        times: cause -> (N,) float, whether or not it came to pass.
        death_day, left_day: (N,) day on record (negative = before day 0); far = never.
        last_day: (N,) last day with anything on record.
    """

    times: dict[str, NDArray[np.float64]]
    death_day: NDArray[np.int64]
    left_day: NDArray[np.int64]
    last_day: NDArray[np.int64]

    def happened(self, cause: str) -> NDArray[np.bool_]:
        """(N,) whether the cause came to pass before death, leaving and the end of the data."""
        end = np.minimum(self.times["death"], self.times["leaving"])
        return np.asarray((self.times[cause] <= end) & (np.floor(self.times[cause]) <= self.last_day))


FAR: Final = 10**6


def follow(config: HospitalConfig, population: Population, draws: Draws) -> FollowUp:
    """Draw what happens. Given person and latents, causes and leaving are independent of each other."""
    subjects = len(population)
    times = {
        cause: event_days(config, population, cause, draws.uniform(f"time {cause}", subjects)) for cause in config.rates
    }
    times["leaving"] = -np.log1p(-draws.uniform("time leaving", subjects)) / config.people.leaving_per_year * YEAR_DAYS
    data_end = (config.data_until - config.as_of).days - 1 - population.origin_day
    dies = (times["death"] <= times["leaving"]) & (times["death"] < data_end + 1)
    leaves = (times["leaving"] < times["death"]) & (times["leaving"] < data_end + 1)
    gone = population.died_before | population.left_before
    death = np.where(dies & ~gone, np.floor(times["death"]), FAR).astype(np.int64)
    left = np.where(leaves & ~gone, np.floor(times["leaving"]), FAR).astype(np.int64)
    death = np.where(population.died_before, population.gone_day, death)
    left = np.where(population.left_before, population.gone_day, left)
    return FollowUp(times=times, death_day=death, left_day=left, last_day=np.minimum(np.minimum(death, left), data_end))


def diagnosis_rows(config: HospitalConfig, population: Population, ends: FollowUp, draws: Draws) -> pl.DataFrame:
    """Rows of diagnoses.csv: index, day, code. Histories lie before day 0, outcomes after it."""
    subjects = len(population)
    blocks = []
    for name, group in _HISTORY.items():
        ago = 20 + np.floor(draws.uniform(f"{name} ago", subjects) * 2500).astype(np.int64)
        blocks.append(_rows(group, -ago, population.terms[name] == 1, draws.uniform(f"{name} code", subjects)))
    ago = 20 + np.floor(draws.uniform("asthma ago", subjects) * 2500).astype(np.int64)
    asthma = draws.uniform("asthma", subjects) < 0.08
    blocks.append(_rows("asthma", -ago, asthma, draws.uniform("asthma code", subjects)))
    for outcome in config.outcomes:
        day = np.floor(np.minimum(ends.times[outcome], FAR)).astype(np.int64)
        code = draws.uniform(f"{outcome} code", subjects)
        blocks.append(_rows(outcome, day, ends.happened(outcome), code))
    return pl.concat(blocks)


def _rows(group: str, day: NDArray[np.int64], rows: NDArray[np.bool_], pick: NDArray[np.float64]) -> pl.DataFrame:
    codes = np.array(CODES[group])
    return pl.DataFrame(
        {
            "index": np.flatnonzero(rows),
            "day": day[rows],
            "code": pl.Series(codes[np.floor(pick * len(codes)).astype(np.int64)[rows]].tolist(), dtype=pl.String),
        }
    )
