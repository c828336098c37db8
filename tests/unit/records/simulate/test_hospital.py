"""The files of the simulated hospital: repeatable, growing only by subjects, dirty where the plan says, DICOM."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pydicom
import pytest

from riskpred.config.simulation import HospitalConfig
from riskpred.records.schema import table_schema
from riskpred.records.simulate.hospital import Simulated, eligible, simulate, write_truth

Small = tuple[Path, Simulated]
TABLES = ("patients.csv", "diagnoses.csv", "labs.parquet", "vitals.csv", "images.csv")


def read(folder: Path, table: str) -> pl.DataFrame:
    path = folder / table
    return pl.read_parquet(path) if table.endswith("parquet") else pl.read_csv(path, infer_schema=False)


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


def test_same_seed_same_bytes(small: Small, tmp_path: Path, config: HospitalConfig) -> None:
    simulate(tmp_path, config, subjects=400)
    assert digest(tmp_path) == digest(small[0])


def test_another_seed_is_another_hospital(small: Small, tmp_path: Path, config: HospitalConfig) -> None:
    simulate(tmp_path, config, subjects=40, seed=2)
    assert not read(tmp_path, "patients.csv").equals(read(small[0], "patients.csv").head(40))


@pytest.mark.parametrize("table", TABLES)
def test_more_subjects_only_add(small: Small, tmp_path: Path, config: HospitalConfig, table: str) -> None:
    simulate(tmp_path, config, subjects=140)
    fewer, more = read(tmp_path, table), read(small[0], table)
    kept = more.filter(pl.col("patient").is_null() | (pl.col("patient") <= "P000140"))
    # Rows without a subject are counted, not compared: they belong to nobody.
    assert fewer.drop_nulls("patient").equals(kept.drop_nulls("patient"))
    assert len(fewer.drop_nulls("patient"))


def test_images_of_fewer_subjects_are_the_same_files(small: Small, tmp_path: Path, config: HospitalConfig) -> None:
    simulate(tmp_path, config, subjects=140)
    more = digest(small[0])
    fewer = {name: value for name, value in digest(tmp_path).items() if name.startswith("images/")}
    assert len(fewer) > 50
    assert all(more[name] == value for name, value in fewer.items())


def test_planted_dirt_is_in_the_files(small: Small) -> None:
    folder, simulated = small
    count = {planted.kind: planted.count for planted in simulated.planted}
    assert count == dict.fromkeys(count, 2)
    assert len(count) == 8
    labs, vitals = read(folder, "labs.parquet"), read(folder, "vitals.csv")
    assert (labs["unit"] == "g/gal").sum() == 2
    assert labs["patient"].null_count() == 2
    assert (vitals["value"] == "refused").sum() == 2
    assert (vitals["value"] == "1320").sum() == 2
    assert vitals.is_duplicated().sum() == 4
    assert (read(folder, "diagnoses.csv")["diagnosed_on"] == "31.02.2013").sum() == 2
    listed = read(folder, "images.csv")["file"].to_list()
    assert sum(not (folder / file).is_file() for file in listed) == 2


def test_nothing_but_the_planted_row_repeats(small: Small) -> None:
    for table in ("diagnoses.csv", "labs.parquet", "images.csv"):
        assert not read(small[0], table).drop_nulls("patient").is_duplicated().any()


def test_both_units_of_each_convertible_test_occur(small: Small) -> None:
    found = set(read(small[0], "labs.parquet").drop_nulls("patient").select("test", "unit").unique().iter_rows())
    assert {("ldl", "mmol/L"), ("ldl", "mg/dL"), ("creatinine", "umol/L"), ("creatinine", "mg/dL")} <= found


def test_nobody_is_on_record_after_death_or_leaving(small: Small) -> None:
    folder = small[0]
    people = read(folder, "patients.csv").with_columns(end=pl.min_horizontal("left_date", "death_date"))
    assert people["end"].count() > 20
    rows = read(folder, "vitals.csv").select("patient", day=pl.col("measured_at").str.slice(0, 10))
    labs = read(folder, "labs.parquet").select("patient", day=pl.col("drawn_on").cast(pl.String))
    illnesses = (
        read(folder, "diagnoses.csv").select("patient", day="diagnosed_on").filter(pl.col("day") != "31.02.2013")
    )
    both = pl.concat([rows, labs, illnesses]).join(people, on="patient").filter(pl.col("day") != "2014-11-22")
    late = both.filter((pl.col("day") > pl.col("end")) & (pl.col("day") != "2014-06-15"))
    assert late.is_empty()


def test_radiographs_are_dicom_with_spacing(small: Small) -> None:
    folder, simulated = small
    kinds = set()
    for file in simulated.radiographs["file"]:
        data = pydicom.dcmread(folder / file)
        pixels = data.pixel_array
        assert pixels.shape == (data.Rows, data.Columns)
        assert data.PixelSpacing[0] * data.Rows == pytest.approx(336, abs=0.1)
        assert pixels.max() < 2**data.BitsStored
        kinds.add((data.Modality, data.BitsStored, data.PhotometricInterpretation))
    assert {("CR", 8, "MONOCHROME2"), ("DX", 12, "MONOCHROME2"), ("DX", 12, "MONOCHROME1")} == kinds


def test_truncated_files_cannot_be_read_and_have_an_older_readable_one(small: Small) -> None:
    folder, simulated = small
    listed = read(folder, "images.csv")
    broken = listed.filter(pl.col("image_id").str.ends_with("-3"))
    assert len(broken) == 2
    for row in broken.iter_rows(named=True):
        with pytest.raises(Exception, match="pixel data"):
            _ = pydicom.dcmread(folder / row["file"]).pixel_array
        others = listed.filter((pl.col("patient") == row["patient"]) & (pl.col("taken_at") < row["taken_at"]))
        assert len(others) >= 1
        assert set(others["image_id"]) <= set(simulated.radiographs["image_id"])


def test_nodule_is_where_the_plan_says(small: Small) -> None:
    folder, simulated = small
    seen: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for row in simulated.radiographs.iter_rows(named=True):
        data = pydicom.dcmread(folder / row["file"])
        bright = data.pixel_array / (2**data.BitsStored - 1)
        if data.PhotometricInterpretation == "MONOCHROME1":
            bright = 1 - bright
        # Centre against a ring just outside the nodule (or of the same size where there is none).
        away = np.hypot(
            *np.ogrid[-row["row"] : data.Rows - row["row"] - 0.5, -row["col"] : data.Columns - row["col"] - 0.5]
        )
        radius = row["radius"] or 3.0
        inside = bright[away < 0.7 * radius].mean()
        ring = bright[(away > radius + 1.5) & (away < radius + 3.5)].mean()
        seen[row["nodule"]].append(inside - ring)
    assert len(seen[1]) > 20
    assert len(seen[2]) > 20
    assert max(seen[0]) < 0.12 < min(seen[1])
    assert min(seen[2]) > 0.12


def test_truth_has_the_eligible_pairs_of_its_schema(small: Small, tmp_path: Path, config: HospitalConfig) -> None:
    population = small[1].population
    write_truth(tmp_path / "truth.parquet", config, population)
    truth = pl.read_parquet(tmp_path / "truth.parquet")
    assert truth.columns == table_schema(".", "truth").names
    pairs = {outcome: int(eligible(config, population, outcome).sum()) for outcome in config.outcomes}
    assert dict(truth.group_by("outcome").agg(pl.col("subject_id").n_unique()).iter_rows()) == pairs
    assert len(truth) == sum(pairs.values()) * len(config.horizons_years)
    assert min(pairs.values()) > 0
    assert max(pairs.values()) < len(population)
    assert truth["prediction_time"].unique().dt.strftime("%Y-%m-%d %H:%M").to_list() == ["2015-01-01 00:00"]
