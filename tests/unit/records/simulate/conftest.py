"""One small hospital on disk and one large population in memory, shared by the tests of the simulation."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from riskpred.config.simulation import HospitalConfig, load_hospital
from riskpred.records.simulate.draws import Draws
from riskpred.records.simulate.follow_up import FollowUp, follow
from riskpred.records.simulate.hospital import Simulated, simulate
from riskpred.records.simulate.population import Population, populate
from riskpred.records.simulate.rates import true_risks


@pytest.fixture(scope="session")
def config() -> HospitalConfig:
    return load_hospital()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, config: HospitalConfig) -> tuple[Path, Simulated]:
    folder = tmp_path_factory.mktemp("hospital")
    return folder, simulate(folder, config, subjects=400)


@pytest.fixture(scope="session")
def large(config: HospitalConfig) -> tuple[Population, FollowUp]:
    draws = Draws(config.seed)
    population = populate(config, 20_000, draws)
    return population, follow(config, population, draws)


@pytest.fixture(scope="session")
def risks(config: HospitalConfig, large: tuple[Population, FollowUp]) -> dict[str, NDArray[np.float64]]:
    """True risks of the large population."""
    return true_risks(config, large[0])
