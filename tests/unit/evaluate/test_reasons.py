"""The faithfulness section: its rows, its verdict, and what is held against the truth of simulated people."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from riskpred.errors import InputError
from riskpred.evaluate.gather import Evaluated
from riskpred.evaluate.page import environment
from riskpred.evaluate.picture import SIZE
from riskpred.evaluate.reasons import (
    AGREEMENTS,
    AREAS,
    REJECTED,
    Checked,
    Truth,
    reason_metrics,
    text_of,
    view,
)
from riskpred.evaluate.true_reasons import (
    agreement_with_truth,
    by_code,
    modality_table,
    pointing_games,
    read_true,
    true_reasons,
)
from riskpred.explain.faithfulness import GRID, Curves, longest
from riskpred.explain.picture import Maps, attribution_map, regions_on
from riskpred.explain.removal import People, contributions, worth_of
from riskpred.records.schema import table_schema


@pytest.fixture
def evaluated(made_up: Callable[..., Evaluated]) -> Evaluated:
    return made_up(40)


def checked(rejected: bool = False) -> Checked:
    """Ten people, the horizons (heart, 5) and (low, 0): ours is twice as good as random and steadily so."""
    ramp, people = np.linspace(0, 1, GRID), np.linspace(1, 2, 10)[:, None]

    def drawn(height: float) -> dict[int, Curves]:
        return {q: Curves(height * people * ramp, (3 - height) * people * (1 - ramp)) for q in (1, 2)}

    agreed = {metric: np.tile([[0.5, np.nan], [0.7, np.nan], [0.9, np.nan]], (2, 1)) for metric in AGREEMENTS}
    return Checked(np.arange(10), (1, 2), {"riskpred": drawn(2.0), "random": drawn(1.0)}, agreed, rejected, 1.5)


def test_rows_have_areas_with_paired_differences_and_medians(evaluated: Evaluated) -> None:
    rows = reason_metrics(evaluated, checked(), [Truth("pointing_game", 1, np.array([1.0, 0.0, np.nan, 1.0]), False)])
    of = {(row["outcome"], row["model"], row["metric"]): row for row in rows}
    assert of["heart", "riskpred", "deletion_area"]["value"] == pytest.approx(1.5)
    assert of["heart", "riskpred - random", "deletion_area"]["value"] == pytest.approx(0.75)
    assert of["heart", "riskpred - random", "deletion_area"]["low"] > 0
    assert of["heart", "riskpred - random", "insertion_area"]["high"] < 0
    assert of["heart", "riskpred", "noise_agreement"]["value"] == pytest.approx(0.7)
    assert of["heart", "riskpred", "noise_agreement"]["n"] == 6
    nothing = of["low", "riskpred", "noise_agreement"]
    assert nothing["value"] is None
    assert nothing["reason"] is not None
    game = of["heart", "riskpred", "pointing_game"]
    assert (game["value"], game["n"]) == (pytest.approx(2 / 3), 3)
    assert {row["horizon_years"] for row in rows} == {5.0, 0.0}
    assert {row["metric"] for row in rows} == {*AREAS, *AGREEMENTS, "pointing_game"}


@pytest.mark.parametrize("rejected", [True, False])
def test_a_rejected_attribution_is_said_on_the_page_and_in_the_text(evaluated: Evaluated, rejected: bool) -> None:
    found = checked(rejected)
    shown = view(found, reason_metrics(evaluated, found), evaluated, ["no such <file>"])
    html = environment().get_template("reasons.html.j2").render(reasons=shown, size=SIZE)
    assert ("data-test-rejected" in html) == rejected
    assert (REJECTED in text_of(shown)) == rejected
    assert "no such &lt;file&gt;" in html
    assert "Heart &lt;disease&gt;, within 5 years" in html
    assert html.count("<polyline") == 2 * 2 * 2


def true_tables(folder: Path, batch: Any, targets: Any, said: np.ndarray, own: np.ndarray, people: People) -> None:
    """Truth files that say what the product says: modalities, and features by code, the zeros left out."""
    rows, first = [], datetime(1970, 1, 1)
    last = {outcome: q for q, (outcome, _) in enumerate(targets)}
    for b in range(len(batch)):
        for q, (outcome, years) in enumerate(targets):
            key = {
                "subject_id": int(batch.subject_id[b]),
                "outcome": outcome,
                "horizon_years": years,
                "prediction_time": first + timedelta(microseconds=int(batch.prediction_time[b])),
                "reference_group": "everyone",
            }
            for m, name in enumerate(people.model.modalities):
                if batch.present[name][b]:
                    rows.append(
                        key | {"level": "modality", "modality": name, "feature": "", "contribution": said[b, q, m]}
                    )
            if q != last[outcome]:
                continue
            t = longest(people.model).index(q)
            sums: dict[tuple[str, str], float] = {}
            for f, player in enumerate(people.players):
                sums[player.modality, player.code] = sums.get((player.modality, player.code), 0.0) + own[b, t, f]
            rows += [
                key | {"level": "feature", "modality": m, "feature": code, "contribution": value}
                for (m, code), value in sums.items()
                if value
            ]
    schema = table_schema(".", "true_contributions")
    frame = pl.DataFrame(rows).with_columns(pl.col("prediction_time").cast(pl.Datetime("us"))).select(schema.names)
    pq.write_table(frame.to_arrow().cast(schema.arrow()), folder / "true_contributions.parquet")


@pytest.fixture
def told(random_bundle: Callable[[int], Any], small_batch: Any) -> tuple[Any, Any, People, np.ndarray]:
    bundle, batch = random_bundle(2), small_batch[1]
    people = People.of(bundle, batch)
    return bundle, batch, people, contributions(people, longest(bundle.model))


def test_reasons_that_are_the_truth_agree_with_it_and_turned_round_they_do_not(
    told: tuple[Any, Any, People, np.ndarray], tmp_path: Path
) -> None:
    bundle, batch, people, own = told
    said, _ = modality_table(bundle, batch)
    true_tables(tmp_path, batch, bundle.model.targets, said, own, people)
    table = read_true(tmp_path, "true_contributions")
    assert table is not None
    for values in agreement_with_truth(bundle, batch, people, own, table):
        assert np.isfinite(values).mean() > 0.3
        assert np.nanmin(values) == pytest.approx(1.0)
    turned = table.with_columns(contribution=-pl.col("contribution"))
    for values in agreement_with_truth(bundle, batch, people, own, turned):
        assert np.nanmax(values) == pytest.approx(-1.0)
    strangers = table.with_columns(subject_id=pl.col("subject_id") + 10**6)
    for values in agreement_with_truth(bundle, batch, people, own, strangers):
        assert np.isnan(values).all()


def test_without_the_files_it_is_said_that_nothing_is_compared(
    told: tuple[Any, Any, People, np.ndarray], tmp_path: Path
) -> None:
    bundle, batch, _, own = told
    found, lacking = true_reasons(bundle, batch, own, tmp_path)
    assert not found
    assert len(lacking) == 2
    assert "true_findings.parquet is not beside the true risks" in lacking[1]
    (tmp_path / "true_findings.parquet").write_text("no table")
    with pytest.raises(InputError, match="not the table true_findings of a simulated hospital"):
        true_reasons(bundle, batch, own, tmp_path)


def test_the_pointing_game_is_won_in_the_region_and_lost_outside_it(
    told: tuple[Any, Any, People, np.ndarray],
) -> None:
    """Nodules planted where the loudest region of each picture lies, then where none does; files twice as large."""
    bundle, batch, people, _ = told
    target = longest(bundle.model)[0]
    rows = np.flatnonzero(batch.present["image"])
    some = people.take(rows)
    index = torch.arange(len(rows))
    maps = attribution_map(
        worth_of(some, "image", [target]), some.inputs["image"], some.start["image"], torch.zeros_like(index), index
    )
    masks = regions_on(Maps.of(maps).map)
    outlined = masks.any(axis=(1, 2, 3))
    assert outlined.sum() > 5

    def planted(inside: bool) -> pl.DataFrame:
        places = []
        for k in range(len(rows)):
            here = masks[k, 0] if inside else ~masks[k].any(axis=0)
            at = np.argwhere(here)[0] if outlined[k] else np.array([0, 0])
            # Pixels of the file: each of the picture's is two of them.
            places.append((batch.inputs["image"].image_id[k], *(2.0 * at + 0.5).tolist(), 32, 32))
        return pl.DataFrame(places, schema=["image_id", "row", "col", "height_px", "width_px"], orient="row")

    won, lost = (pointing_games(people, batch, planted(inside), [target])[target] for inside in (True, False))
    assert won.inside[outlined] == pytest.approx(1.0)
    assert np.isnan(won.inside[~outlined]).all()
    assert lost.inside[outlined] == pytest.approx(0.0)
    assert lost.in_any[outlined] == pytest.approx(0.0)
    assert 0 < won.share < 0.9
    nobody = replace(batch, present={**batch.present, "image": np.zeros(len(batch), dtype=bool)})
    assert not pointing_games(people, nobody, planted(True), [target])


def test_columns_of_one_code_are_added_up_and_those_of_another_modality_are_not() -> None:
    of = [("tabular", "LAB//A"), ("tabular", "LAB//B"), ("tabular", "LAB//A"), ("series", "LAB//A")]
    few = SimpleNamespace(players=[SimpleNamespace(modality=modality, code=code) for modality, code in of])
    names, total = by_code(few, np.array([[[1.0, 2.0, 4.0, 8.0]]]))
    assert names == ["tabular|LAB//A", "tabular|LAB//B", "series|LAB//A"]
    assert total.tolist() == [[[5.0, 2.0, 8.0]]]
