"""The simulated hospital: draws N subjects and writes the files a hospital would hand over, and their true risks."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from riskpred.config.simulation import HospitalConfig
from riskpred.progress import Progress, Silent
from riskpred.records.ingest.identifiers import SUBJECT, with_subject
from riskpred.records.schema import table_schema
from riskpred.records.simulate.dicom import SIZE, truncate, write_radiographs
from riskpred.records.simulate.dirt import (
    Planted,
    dirty_diagnoses,
    dirty_labs,
    dirty_vitals,
    soiled,
    soiled_among,
)
from riskpred.records.simulate.draws import Draws
from riskpred.records.simulate.follow_up import FAR, FollowUp, diagnosis_rows, follow
from riskpred.records.simulate.labs import lab_rows, later_lab_rows
from riskpred.records.simulate.population import Population, populate
from riskpred.records.simulate.radiographs import Anatomy, anatomy, nodule_pixels
from riskpred.records.simulate.rates import true_risks
from riskpred.records.simulate.vitals import UNITS as VITAL_UNITS
from riskpred.records.simulate.vitals import vital_rows

OWN_HISTORY = {"cardiovascular": "prior_cardiovascular", "cancer": "prior_cancer", "mental_health": "prior_depression"}
"""Outcome -> the history that makes it prevalent."""


@dataclass(frozen=True)
class Simulated:
    """What was written.

    planted: the dirty rows, for the demo to show accounted.
    radiographs: one row per readable file: image_id, patient, file, nodule (0 none, 1 small, 2 large), row, col,
    radius (pixels of the file; radius 0 = none), size (rows and columns of the file).
    """

    population: Population
    ends: FollowUp
    planted: tuple[Planted, ...]
    radiographs: pl.DataFrame


def simulate(
    source: Path,
    config: HospitalConfig,
    subjects: int | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Simulated:
    """Write the source files into the folder `source`, which must exist.

    Same config, seed and N: same bytes. Subject i is the same whatever N.

    Files: patients.csv, diagnoses.csv, labs.parquet, vitals.csv, images.csv, images/*.dcm.
    """
    progress = progress or Silent()
    number, seed = subjects or config.subjects, config.seed if seed is None else seed
    draws = Draws(seed)
    progress.step("simulate subjects", 0, number)
    population = populate(config, number, draws)
    ends = follow(config, population, draws)
    planted: list[Planted] = []
    _write_patients(source, config, population, ends)
    planted += _write_diagnoses(source, config, population, ends, draws)
    planted += _write_labs(source, config, population, ends, draws)
    planted += _write_vitals(source, config, population, ends, draws)
    progress.step("simulate subjects", number, number)
    radiographs, of_images = _write_images(source, config, population, ends, draws, seed, progress)
    return Simulated(population, ends, tuple(planted + of_images), radiographs)


def write_truth(file: Path, config: HospitalConfig, population: Population) -> None:
    """Write truth.parquet: true risks of every (subject, outcome) pair eligible at as_of, by schemas/truth.yaml."""
    risks = true_risks(config, population)
    everyone = pl.DataFrame({"patient": patients(np.arange(len(population)))})
    ids = with_subject(everyone, "patient")[SUBJECT].to_numpy()
    at = datetime(config.as_of.year, config.as_of.month, config.as_of.day)
    frames = []
    for outcome in config.outcomes:
        rows = eligible(config, population, outcome)
        for number, horizon in enumerate(config.horizons_years):
            frames.append(
                pl.DataFrame({"subject_id": ids[rows], "risk": risks[outcome][rows, number]}).with_columns(
                    outcome=pl.lit(outcome),
                    horizon_years=pl.lit(float(horizon)),
                    prediction_time=pl.lit(at, dtype=pl.Datetime("us")),
                )
            )
    schema = table_schema(".", "truth")
    table = pl.concat(frames).select(schema.names).sort("subject_id", "outcome", "horizon_years", maintain_order=True)
    table.write_parquet(file)


def eligible(config: HospitalConfig, population: Population, outcome: str) -> NDArray[np.bool_]:
    """(N,) entered, alive, under observation and free of the outcome (and of its competing set) at as_of."""
    rivals = config.competing_set if outcome in config.competing_set else (outcome,)
    ill = np.any([population.terms[OWN_HISTORY[rival]] == 1 for rival in rivals], axis=0)
    return np.asarray(population.present & ~ill)


def patients(index: NDArray[np.int64]) -> pl.Series:
    """The hospital's own identifiers, P000001 for subject 0."""
    return pl.Series([f"P{number + 1:06d}" for number in index.tolist()], dtype=pl.String)


def _write_patients(source: Path, config: HospitalConfig, population: Population, ends: FollowUp) -> None:
    terms, number = population.terms, len(population)
    index = np.arange(number)
    smoking = np.select([terms["current_smoker"] == 1, terms["former_smoker"] == 1], ["current", "former"], "never")

    def date(day: NDArray[np.int64], known: NDArray[np.bool_]) -> pl.Series:
        dates = _dates(pl.Series(np.where(known, day, 0)), config, population, index)
        return dates.set(pl.Series(~known), None)

    always = np.ones(number, dtype=np.bool_)
    pl.DataFrame(
        {
            "patient": patients(index),
            "birth_date": date(-population.age_days, always),
            "sex": pl.Series(np.where(terms["male"] == 1, "M", "F").tolist()),
            "smoking": pl.Series(smoking.tolist()),
            "entry_date": date(population.entry_day, always),
            "left_date": date(ends.left_day, ends.left_day < FAR),
            "death_date": date(ends.death_day, ends.death_day < FAR),
        }
    ).write_csv(source / "patients.csv")


def _write_diagnoses(
    source: Path, config: HospitalConfig, population: Population, ends: FollowUp, draws: Draws
) -> list[Planted]:
    rows = _until_last_day(diagnosis_rows(config, population, ends, draws), ends)
    rows = rows.with_columns(
        _dates(rows["day"], config, population, rows["index"].to_numpy()).alias("diagnosed_on").cast(pl.String)
    ).select("index", "code", "diagnosed_on")
    dirt, planted = dirty_diagnoses(len(population), config.dirt_every)
    _with_patient(pl.concat([rows, dirt]), "code", "diagnosed_on").write_csv(source / "diagnoses.csv")
    return planted


def _write_labs(
    source: Path, config: HospitalConfig, population: Population, ends: FollowUp, draws: Draws
) -> list[Planted]:
    cancer = np.where(ends.happened("cancer"), ends.times["cancer"], np.inf)
    rows = pl.concat(
        [lab_rows(population.labs, population.entry_day, draws), later_lab_rows(population.labs, cancer, draws)]
    )
    dirt, planted = dirty_labs(len(population), config.dirt_every)
    table = pl.concat([_until_last_day(rows, ends), dirt])
    index = table["index"].fill_null(0).to_numpy()
    table = table.with_columns(_dates(table["day"], config, population, index).alias("drawn_on"))
    _with_patient(table, "drawn_on", "test", "value", "unit").write_parquet(source / "labs.parquet")
    return planted


def _write_vitals(
    source: Path, config: HospitalConfig, population: Population, ends: FollowUp, draws: Draws
) -> list[Planted]:
    rows = _until_last_day(
        vital_rows(
            population.latent[:, 1],
            population.recorded["series"],
            population.terms["male"],
            population.entry_day,
            draws,
        ),
        ends,
    )
    days = _dates(rows["day"], config, population, rows["index"].to_numpy())
    rows = rows.select(
        "index",
        measured_at=(days.cast(pl.Datetime("us")) + rows["minute"] * timedelta(minutes=1)).dt.strftime(
            "%Y-%m-%dT%H:%M:%S"
        ),
        name="name",
        # Weights have one decimal, the others none, as the devices print them.
        value=pl.when(pl.col("name") == "weight")
        .then(pl.col("value").cast(pl.String))
        .otherwise(pl.col("value").cast(pl.Int64).cast(pl.String)),
        unit=pl.col("name").replace_strict(VITAL_UNITS),
    )
    present = np.zeros(len(population), dtype=np.bool_)
    present[rows["index"].unique().to_numpy()] = True
    dirt, planted = dirty_vitals(rows, present, config.dirt_every)
    table = _with_patient(pl.concat([rows, dirt]), "measured_at", "name", "value", "unit")
    table.write_csv(source / "vitals.csv")
    return planted


def _write_images(
    source: Path,
    config: HospitalConfig,
    population: Population,
    ends: FollowUp,
    draws: Draws,
    seed: int,
    progress: Progress,
) -> tuple[pl.DataFrame, list[Planted]]:
    """images.csv and the files it names: one radiograph, for one in ten an older one beside it."""
    number = len(population)
    shown = anatomy(population.latent[:, 2], draws)
    day = -3 - np.floor(draws.uniform("image day", number) * 400).astype(np.int64)
    taken = population.recorded["image"] & (day <= ends.last_day)
    older_day = day - 60 - np.floor(draws.uniform("older image day", number) * 140).astype(np.int64)
    older = taken & (draws.uniform("older image", number) < 0.1)
    broken = np.zeros(number, dtype=np.bool_)
    broken[soiled_among("truncated image file", taken & population.present, config.dirt_every)] = True
    absent = soiled("missing image file", number, config.dirt_every)
    rows = pl.concat(
        [
            _image_rows(np.flatnonzero(taken), day, 1, 1.0),
            _image_rows(np.flatnonzero(older), older_day, 2, 0.9),
            # Newer than the readable one: whoever opens it must fall back on that.
            _image_rows(np.flatnonzero(broken), np.full(number, -1), 3, 1.0),
        ]
    )
    digital = draws.uniform("image machine", number) < 0.5
    inverted = draws.uniform("image inverted", number) < 0.2
    minute = 480 + np.floor(draws.uniform("image minute", number, 3) * 600).astype(np.int64)
    index = rows["index"].to_numpy()
    days = _dates(rows["day"], config, population, index)
    name = "IM" + pl.Series(index + 1).cast(pl.String).str.zfill(6) + "-" + rows["number"].cast(pl.String)
    minutes = pl.Series(minute[index, rows["number"].to_numpy() - 1])
    rows = rows.with_columns(
        patient=patients(index),
        image_id=name,
        taken_at=(days.cast(pl.Datetime("us")) + minutes * timedelta(minutes=1)).dt.strftime("%Y-%m-%dT%H:%M:%S"),
        machine=pl.Series(np.where(digital[index], "DX", "CR").tolist(), dtype=pl.String),
        inverted=pl.Series(digital[index] & inverted[index]),
        file="images/" + name + ".dcm",
    ).sort("index", "number")
    write_radiographs(source, rows, shown, draws, seed, progress)
    for file in rows.filter(pl.col("number") == 3)["file"]:
        truncate(source / file)
    lost = pl.DataFrame({"index": absent}, schema={"index": pl.Int64}).select(
        "index",
        image_id=pl.format("IM{}-9", (pl.col("index") + 1).cast(pl.String).str.zfill(6)),
        taken_at=pl.lit("2014-05-20T10:15:00"),
        modality=pl.lit("CR"),
        file=pl.format("images/IM{}-9.dcm", (pl.col("index") + 1).cast(pl.String).str.zfill(6)),
    )
    listed = pl.concat(
        [rows.select("index", "image_id", "taken_at", pl.col("machine").alias("modality"), "file"), lost]
    )
    _with_patient(listed, "image_id", "taken_at", "modality", "file").write_csv(source / "images.csv")
    return _plan(rows.filter(pl.col("number") < 3), shown, population), [
        Planted("missing image file", "images.csv", len(lost), "reject", "file_missing"),
        Planted("truncated image file", "images.csv", int(broken.sum()), "unreadable", None),
    ]


def _image_rows(index: NDArray[np.int64], day: NDArray[np.int64], number: int, shrink: float) -> pl.DataFrame:
    return pl.DataFrame({"index": index, "day": day[index]}).with_columns(
        number=pl.lit(number, dtype=pl.Int64), shrink=pl.lit(shrink)
    )


def _plan(rows: pl.DataFrame, shown: Anatomy, population: Population) -> pl.DataFrame:
    """Where the nodule of each readable radiograph is, in pixels of its file."""
    index = rows["index"].to_numpy()
    sizes = rows["machine"].replace_strict(SIZE).to_numpy()
    places = np.stack([nodule_pixels(shown, size)[index] for size in SIZE.values()])
    place = places[np.searchsorted(list(SIZE.values()), sizes), np.arange(len(index))]
    return rows.select(
        "image_id",
        "patient",
        "file",
        nodule=pl.Series(population.latent[index, 2]),
        row=pl.Series(place[:, 0]),
        col=pl.Series(place[:, 1]),
        radius=pl.Series(place[:, 2]) * pl.col("shrink"),
        size=pl.Series(sizes),
    )


def _dates(day: pl.Series, config: HospitalConfig, population: Population, index: NDArray[np.int64]) -> pl.Series:
    """Dates of days counted from each subject's day 0."""
    origin = (config.as_of - datetime(1970, 1, 1, tzinfo=UTC).date()).days
    return (day.cast(pl.Int32) + pl.Series(population.origin_day[index] + origin).cast(pl.Int32)).cast(pl.Date)


def _until_last_day(rows: pl.DataFrame, ends: FollowUp) -> pl.DataFrame:
    """Nothing is on record after death, leaving or the end of the data."""
    return rows.filter(pl.Series(rows["day"].to_numpy() <= ends.last_day[rows["index"].to_numpy()]))


def _with_patient(rows: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Sorted by subject (rows without one first), `index` replaced by the hospital's identifier."""
    rows = rows.sort("index", maintain_order=True)
    names = (
        pl.when(pl.col("index").is_null())
        .then(None)
        .otherwise(pl.format("P{}", (pl.col("index").fill_null(0) + 1).cast(pl.String).str.zfill(6)))
    )
    return rows.select(names.alias("patient"), *columns)
