"""Writes what is true of the simulated hospital beside its true risks: contributions, and where the nodules lie."""

from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from riskpred.config.simulation import LATENTS, HospitalConfig
from riskpred.records.ingest.identifiers import SUBJECT, with_subject
from riskpred.records.schema import table_schema
from riskpred.records.simulate.contributions import true_contributions
from riskpred.records.simulate.hospital import Simulated, eligible, patients
from riskpred.records.simulate.population import Population

TRUE_CONTRIBUTIONS: Final = "true_contributions.parquet"
TRUE_FINDINGS: Final = "true_findings.parquet"


def write_contributions(file: Path, config: HospitalConfig, population: Population) -> None:
    """Write the true contributions of every pair of truth.parquet, by schemas/true_contributions.yaml.

    A feature that contributes exactly 0 has no row, nor has a modality that is not on record.
    """
    found = true_contributions(config, population)
    everyone = pl.DataFrame({"patient": patients(np.arange(len(population)))})
    ids = with_subject(everyone, "patient")[SUBJECT].to_numpy()
    at = datetime(config.as_of.year, config.as_of.month, config.as_of.day)
    levels = [("modality", m, "", value) for m, value in found.modality.items()]
    levels += [("feature", m, f, value) for m, features in found.feature.items() for f, value in features.items()]
    frames = []
    for number, (outcome, horizon) in enumerate((o, h) for o in config.outcomes for h in config.horizons_years):
        here = eligible(config, population, outcome)
        for level, modality, feature, value in levels:
            contribution = value[:, number]
            rows = np.flatnonzero(here & np.isfinite(contribution) & ((contribution != 0) | (level == "modality")))
            frames.append(
                pl.DataFrame(
                    {
                        "subject_id": ids[rows],
                        "reference_group": found.group[rows].tolist(),
                        "contribution": contribution[rows],
                    },
                    schema_overrides={"reference_group": pl.String},
                ).with_columns(
                    outcome=pl.lit(outcome),
                    horizon_years=pl.lit(float(horizon)),
                    prediction_time=pl.lit(at, dtype=pl.Datetime("us")),
                    level=pl.lit(level),
                    modality=pl.lit(modality),
                    feature=pl.lit(feature),
                )
            )
    schema = table_schema(".", "true_contributions")
    table = pl.concat(frames).select(schema.names).sort(*schema.key, maintain_order=True)
    pq.write_table(table.to_arrow().cast(schema.arrow()), file)


def write_findings(file: Path, simulated: Simulated) -> None:
    """Write where the nodule of each readable radiograph lies, by schemas/true_findings.yaml."""
    shown = simulated.radiographs
    there = pl.col("radius") > 0
    table = with_subject(shown, "patient").select(
        "image_id",
        subject_id=SUBJECT,
        label=pl.col("nodule").replace_strict(dict(enumerate(LATENTS["image"])), return_dtype=pl.String),
        **{name: pl.when(there).then(pl.col(name)).otherwise(None) for name in ("row", "col", "radius")},
        height_px=pl.col("size").cast(pl.Int64),
        width_px=pl.col("size").cast(pl.Int64),
    )
    schema = table_schema(".", "true_findings")
    table = table.select(schema.names).sort("subject_id", "image_id", maintain_order=True)
    pq.write_table(table.to_arrow().cast(schema.arrow()), file)
