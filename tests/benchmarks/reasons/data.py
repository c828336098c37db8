"""What reasons are measured on: the packaged studies fitted with their own settings, and the simulated hospital."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from riskpred.config.simulation import load_hospital
from riskpred.evaluate.gather import HELD_OUT, Evaluated, gather
from riskpred.evaluate.reasons import sampled
from riskpred.features.batch import FeatureBatch
from riskpred.model.bundle import Bundle, load_bundle
from riskpred.records.simulate.hospital import simulate, write_truth
from riskpred.records.simulate.true_tables import TRUE_CONTRIBUTIONS, TRUE_FINDINGS, write_contributions, write_findings
from riskpred.records.warehouse import Warehouse
from tests.benchmarks.night import command

DATA: Final = Path(
    os.environ.get("RISKPRED_TEST_DATA") or Path(__file__).resolve().parents[3].parent / "shared" / "data"
)

STUDIES: Final = {
    "framingham": "framingham",
    "nafld": "nafld",
    "physionet2012": "physionet2012",
    "gbsg": "deepsurv_benchmarks",
    "metabric": "deepsurv_benchmarks",
    "support": "deepsurv_benchmarks",
    "framingham_exams": "framingham",
    "nhanes_phq9": "nhanes_phq9",
    "nhanes_mortality": "nhanes_mortality",
    "hannover_cxr": "hannover_cxr",
    "lgg_mri": "lgg_mri",
}
"""Study -> its folder of real data."""

HOSPITAL: Final = "hospital"
HOSPITAL_PEOPLE: Final = 20_000


@dataclass(frozen=True)
class Made:
    """A study's warehouse and bundle; truth: folder of the files of what is true, None of real people."""

    name: str
    warehouse: Path
    bundle: Path
    truth: Path | None = None


def made(work: Path, study: str) -> Made:
    """Ingest and fit a study, each only where its product is not there yet (a fit takes minutes).

    Raises: FileNotFoundError, where its real data are not there.
    """
    folder = work / "studies" / study
    folder.mkdir(parents=True, exist_ok=True)
    found = Made(study, folder / "warehouse.duckdb", folder / "bundle", folder if study == HOSPITAL else None)
    if not found.warehouse.is_file():
        source = _hospital_source(folder) if study == HOSPITAL else DATA / STUDIES[study]
        if not source.is_dir():
            raise FileNotFoundError(f"{source}: no data of the study {study}")
        command.run(["ingest", study, "--from", source, "--into", found.warehouse], folder).expect(0)
    if not found.bundle.is_dir():
        command.run(["fit", study, found.warehouse, "--into", found.bundle, "--seed", "1"], folder).expect(0)
    return found


def _hospital_source(folder: Path) -> Path:
    source = folder / "source"
    if not source.is_dir():
        staging = folder / f".source-{os.getpid()}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        config = load_hospital()
        simulated = simulate(staging, config, HOSPITAL_PEOPLE, 1)
        write_truth(folder / "truth.parquet", config, simulated.population)
        write_contributions(folder / TRUE_CONTRIBUTIONS, config, simulated.population)
        write_findings(folder / TRUE_FINDINGS, simulated)
        os.replace(staging, source)
    return source


def people(found: Made, rows: int, seed: int = 1) -> tuple[Bundle, FeatureBatch, Evaluated]:
    """The bundle and the inputs of a seeded sample of people it never saw."""
    bundle = load_bundle(found.bundle)
    with Warehouse.open(found.warehouse) as warehouse:
        evaluated = gather(bundle, warehouse, HELD_OUT)
        batch = sampled(bundle, warehouse, evaluated, rows, seed)
    assert batch is not None, "held-out people are in the warehouse"
    return bundle, batch, evaluated


def quantiles(values: np.ndarray, at: tuple[float, ...] = (0.05, 0.5, 0.95)) -> list[float]:
    """Of what is defined, three digits."""
    return [round(float(one), 3) for one in np.nanquantile(values, at)]
