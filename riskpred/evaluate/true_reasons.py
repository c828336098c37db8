"""Holds reasons against what is true of simulated people: their true contributions, and where their nodules lie.

The files lie beside truth.parquet, as `riskpred demo` leaves them; nothing else in the product reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from riskpred.errors import InputError
from riskpred.evaluate.censoring import Floats
from riskpred.evaluate.reasons import TRUTHS, Truth
from riskpred.explain.coalitions import modality_reasons
from riskpred.explain.faithfulness import longest, rank_correlations
from riskpred.explain.picture import Maps, attribution_map, regions_on
from riskpred.explain.removal import People, worth_of
from riskpred.features.batch import FeatureBatch, ImageInput
from riskpred.model.bundle import Bundle
from riskpred.model.tensors import ImageTensors
from riskpred.model.threads import one_thread
from riskpred.records.schema import table_schema

CONTRIBUTIONS: Final = "true_contributions"
FINDINGS: Final = "true_findings"

_MAPPED_AT_ONCE: Final = 16


@dataclass(frozen=True)
class Pointing:
    """The pointing game of one target. Shape: inside, in_any: (n,) of nodules, NaN where nothing is outlined.

    inside: whether the centre lies in the region that speaks loudest; in_any: in any of them.
    share: of the picture that the loudest region takes, mean: what chance would hit.
    """

    inside: Floats
    in_any: Floats
    share: float


def read_true(folder: Path, table: str) -> pl.DataFrame | None:
    """One file of what is true; None where there is none. Raises: InputError, when it is not of its schema."""
    file, schema = folder / f"{table}.parquet", table_schema(".", table)
    if not file.is_file():
        return None
    try:
        found = pl.from_arrow(pq.read_table(file, columns=schema.names).cast(schema.arrow()))
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputError(
            f"{file}: not the table {table} of a simulated hospital.",
            wanted=f"Parquet with columns {', '.join(schema.names)}",
            got=type(error).__name__,
            do="simulate the hospital again, or remove the file",
        ) from None
    assert isinstance(found, pl.DataFrame)
    return found


def true_reasons(bundle: Bundle, batch: FeatureBatch, own: Floats, folder: Path) -> tuple[list[Truth], list[str]]:
    """Comparisons of a batch's reasons with the truth beside truth.parquet; and, in words, what cannot be compared.

    Args: own: contributions of its features, (B, T, F), T the longest horizon of each outcome.
    """
    found: list[Truth] = []
    lacking: list[str] = []
    with one_thread():
        people, targets = People.of(bundle, batch), longest(bundle.model)
        table = read_true(folder, CONTRIBUTIONS)
        if table is None:
            lacking.append(f"{CONTRIBUTIONS}.parquet is not beside the true risks: reasons are not held against any")
        else:
            agreed = agreement_with_truth(bundle, batch, people, own, table)
            for metric, values in zip(TRUTHS, agreed, strict=False):
                found += [Truth(metric, q, values[:, t]) for t, q in enumerate(targets)]
        nodules = read_true(folder, FINDINGS)
        if nodules is None:
            lacking.append(f"{FINDINGS}.parquet is not beside the true risks: no pointing game")
        else:
            for q, game in pointing_games(people, batch, nodules, targets).items():
                found.append(Truth("pointing_game", q, game.inside, middle=False))
    return found, lacking


def agreement_with_truth(
    bundle: Bundle, batch: FeatureBatch, people: People, own: Floats, table: pl.DataFrame
) -> tuple[Floats, Floats, Floats]:
    """Spearman's correlation with the true contributions, of each person and outcome.

    Modalities: over the person's modalities and the outcome's horizons. Features: at its longest horizon, over the
    codes of what the person has; columns of one code are added up, and a code that changes no true risk counts with 0.
    Acting features: the same, less those codes, whose order among themselves is chance.
    Shape: (B, T) each, NaN where fewer than two could be ranked, or the truth has no such person.
    """
    model, targets = bundle.model, longest(bundle.model)
    said, there = modality_table(bundle, batch)
    truth = true_modalities(batch, model.targets, model.modalities, table)
    outcomes = [outcome for outcome, _ in model.targets]
    modality, feature, acting = (np.full((len(batch), len(targets)), np.nan) for _ in range(3))
    codes, mine = by_code(people, own)
    moves = np.greater(by_code(people, people.movable[:, None, :].astype(np.float64))[1][:, 0], 0)
    of_codes = true_codes(batch, [model.targets[q] for q in targets], codes, table)
    for t, q in enumerate(targets):
        of = [k for k, outcome in enumerate(outcomes) if outcome == model.targets[q][0]]
        counted = np.repeat(there[:, None], len(of), axis=1) & np.isfinite(truth[:, of])
        modality[:, t] = rank_correlations(
            said[:, of].reshape(len(batch), -1),
            truth[:, of].reshape(len(batch), -1),
            counted.reshape(len(batch), -1) & (np.count_nonzero(there, axis=1) > 1)[:, None],
        )
        known = np.asarray(np.isfinite(of_codes[:, t]).all(axis=1))
        true = np.nan_to_num(of_codes[:, t])
        feature[:, t] = rank_correlations(mine[:, t], true, moves & known[:, None])
        acting[:, t] = rank_correlations(mine[:, t], true, moves & (true != 0))
    return modality, feature, acting


def modality_table(bundle: Bundle, batch: FeatureBatch) -> tuple[Floats, NDArray[np.bool_]]:
    """Modality reasons (B, Q, M), and which modalities each person has (B, M)."""
    inputs = bundle.model.tensors(batch)
    with torch.no_grad():
        sent = bundle.model.encode(inputs)
    present = {name: given.present for name, given in inputs.items()}
    places = bundle.profiles.places(batch)
    said = modality_reasons(bundle.model, sent, bundle.profiles.sent, present, places).contribution
    return said, np.stack([present[name].numpy() for name in bundle.model.modalities], axis=1)


def by_code(people: People, values: Floats) -> tuple[list[str], Floats]:
    """Players of one code and modality added up. Shape: (B, T, F) -> names of C and (B, T, C)."""
    names = [f"{player.modality}|{player.code}" for player in people.players]
    distinct = list(dict.fromkeys(names))
    total = np.zeros((*values.shape[:2], len(distinct)))
    for f, name in enumerate(names):
        total[:, :, distinct.index(name)] += values[:, :, f]
    return distinct, total


def true_modalities(
    batch: FeatureBatch, targets: tuple[tuple[str, float], ...], modalities: tuple[str, ...], table: pl.DataFrame
) -> Floats:
    """Shape: (B, Q, M), NaN where the truth has none."""
    found = np.full((len(batch), len(targets), len(modalities)), np.nan)
    place, target = _places(batch), {one: q for q, one in enumerate(targets)}
    rows = table.filter(pl.col("level") == "modality", pl.col("subject_id").is_in(batch.subject_id.tolist()))
    for subject, time, outcome, years, modality, value in _columns(rows, "modality"):
        row, q = place.get((subject, time)), target.get((outcome, years))
        if row is not None and q is not None and modality in modalities:
            found[row, q, modalities.index(modality)] = value
    return found


def true_codes(batch: FeatureBatch, targets: list[tuple[str, float]], codes: list[str], table: pl.DataFrame) -> Floats:
    """Shape: (B, T, C): 0 where the truth has no row of a code, NaN where it has none of the person and target."""
    found = np.full((len(batch), len(targets), len(codes)), np.nan)
    place, target, column = (
        _places(batch),
        {one: t for t, one in enumerate(targets)},
        {c: k for k, c in enumerate(codes)},
    )
    here = table.filter(pl.col("subject_id").is_in(batch.subject_id.tolist()))
    for subject, time, outcome, years, _, _ in _columns(here.filter(pl.col("level") == "modality"), "modality"):
        row, t = place.get((subject, time)), target.get((outcome, years))
        if row is not None and t is not None:
            found[row, t] = 0.0
    features = here.filter(pl.col("level") == "feature").with_columns(
        name=pl.concat_str("modality", "feature", separator="|")
    )
    for subject, time, outcome, years, name, value in _columns(features, "name"):
        row, t = place.get((subject, time)), target.get((outcome, years))
        if row is not None and t is not None and name in column:
            found[row, t, column[name]] = value
    return found


def _columns(rows: pl.DataFrame, name: str) -> list[tuple[int, int, str, float, str, float]]:
    return rows.select(
        "subject_id", pl.col("prediction_time").to_physical(), "outcome", "horizon_years", name, "contribution"
    ).rows()


def _places(batch: FeatureBatch) -> Mapping[tuple[int, int], int]:
    keys = zip(batch.subject_id.tolist(), batch.prediction_time.tolist(), strict=True)
    return {key: row for row, key in enumerate(keys)}


def pointing_games(
    people: People, batch: FeatureBatch, nodules: pl.DataFrame, targets: list[int]
) -> dict[int, Pointing]:
    """For each target, whether the nodule of each picture that has one lies where its reasons point.

    One game a modality of images; of several the last. Empty where no picture of the batch has a nodule.
    """
    where = {
        image: (row, column, height, width)
        for image, row, column, height, width in nodules.filter(pl.col("row").is_not_null())
        .select("image_id", "row", "col", "height_px", "width_px")
        .rows()
    }
    games: dict[int, Pointing] = {}
    for name, given in batch.inputs.items():
        if not isinstance(given, ImageInput):
            continue
        # Rows of one picture only: of several it is not known which one a risk stands on.
        alone = np.flatnonzero(given.count == 1)
        rows = np.array([row for row in alone.tolist() if given.image_id[given.start[row]] in where], dtype=np.int64)
        if not len(rows):
            continue
        size = given.pixels.shape[-2:]
        centre = np.array([_prepared(*where[given.image_id[given.start[row]]], size) for row in rows.tolist()])
        for q in targets:
            games[q] = _game(people, name, rows, centre, q)
    return games


def _prepared(row: float, column: float, height: int, width: int, size: tuple[int, ...]) -> tuple[int, int]:
    """Pixel of a prepared picture that holds a place of the file's. `imaging.prepare` keeps the aspect and centres."""
    scale = max(size) / max(height, width)
    down, across = (side - round(length * scale) for side, length in zip(size, (height, width), strict=True))
    at = (row + 0.5) * scale + down // 2, (column + 0.5) * scale + across // 2
    return min(int(at[0]), size[0] - 1), min(int(at[1]), size[1] - 1)


def _game(people: People, name: str, rows: NDArray[np.int64], centre: NDArray[np.int64], target: int) -> Pointing:
    inside, in_any, shares = np.full(len(rows), np.nan), np.full(len(rows), np.nan), []
    for at in range(0, len(rows), _MAPPED_AT_ONCE):
        some = people.take(rows[at : at + _MAPPED_AT_ONCE])
        index, given = torch.arange(len(some)), some.inputs[name]
        assert isinstance(given, ImageTensors), name
        with torch.enable_grad():
            maps = attribution_map(
                worth_of(some, name, [target]),
                given,
                some.start[name],
                torch.zeros_like(index),
                index,
            )
        for k, mask in enumerate(regions_on(Maps.of(maps).map)):
            if mask.any():
                row, column = centre[at + k]
                inside[at + k], in_any[at + k] = float(mask[0, row, column]), float(mask[:, row, column].any())
                shares.append(float(mask[0].mean()))
    return Pointing(inside, in_any, float(np.mean(shares)) if shares else float("nan"))
