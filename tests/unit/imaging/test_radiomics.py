"""What is measured in pictures that were drawn: stripes, discs, shadows; and what must change nothing."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from riskpred.config.model import parse
from riskpred.config.radiomics import RADIOMICS, RadiomicsStage
from riskpred.errors import ConfigError
from riskpred.imaging.radiomics import Radiomics
from tests.benchmarks.imaging.pixels import prepared_of

STAGE = RadiomicsStage(image_types=("US",))
SIDE = 128


def measured(picture: NDArray[np.float64]) -> dict[str, float]:
    return Radiomics(STAGE).values(prepared_of(picture[None, None].astype(np.float32)))


def place() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    return rows, columns


def speckled(base: float = 0.6) -> NDArray[np.float64]:
    return np.asarray(np.clip(base + np.random.default_rng(3).normal(0, 0.05, (SIDE, SIDE)), 0, 1))


def with_mass(half_height: float, half_width: float, behind: float = 0.0) -> NDArray[np.float64]:
    """A dark ellipse in the middle of speckle, and what lies below it brighter by `behind`."""
    rows, columns = place()
    inside = ((rows - 60) / half_height) ** 2 + ((columns - 64) / half_width) ** 2 <= 1
    below = (np.abs(columns - 64) <= half_width) & (rows > 60 + half_height)
    return np.asarray(np.clip(np.where(inside, 0.1, speckled() + behind * below), 0, 1))


def test_a_picture_gives_every_measure_that_is_promised() -> None:
    found = measured(with_mass(20, 28))
    assert tuple(found) == STAGE.measures
    assert len(found) == sum(map(len, RADIOMICS.values())) == 119
    assert np.isfinite(list(found.values())).all()


@pytest.mark.parametrize(("half_height", "half_width"), [(18, 30), (26, 14)])
def test_the_mass_is_the_ellipse_that_was_drawn(half_height: int, half_width: int) -> None:
    found = measured(with_mass(half_height, half_width))
    # The outline lies a little inside: the threshold is nearer to the dark.
    assert found["mass_area"] == pytest.approx(np.pi * half_height * half_width / SIDE**2, rel=0.2)
    assert found["mass_row"] == pytest.approx(60 / SIDE, abs=0.01)
    assert found["mass_column"] == pytest.approx(64 / SIDE, abs=0.01)
    assert found["mass_height"] == pytest.approx(2 * half_height / SIDE, rel=0.1)
    assert found["mass_taller_than_wide"] == pytest.approx(np.log(half_height / half_width), abs=0.1)
    assert found["mass_elongation"] == pytest.approx(
        min(half_height, half_width) / max(half_height, half_width), abs=0.08
    )
    assert (found["mass_upright"] > 0) == (half_height > half_width)
    assert found["mass_mean"] == pytest.approx(0.1, abs=0.05)
    assert 0.3 < found["mass_contrast"] < 0.53, "of the .5 drawn, less what of the ellipse lies outside the outline"
    assert found["mass_solidity"] > 0.93


@pytest.mark.parametrize("behind", [-0.3, 0.3])
def test_a_shadow_is_below_zero_and_enhancement_above(behind: float) -> None:
    assert measured(with_mass(18, 22, behind))["mass_shadow"] == pytest.approx(behind, abs=0.06)


def test_a_star_is_more_ragged_than_a_disc_of_its_size() -> None:
    rows, columns = place()
    radius, angle = np.hypot(rows - 60, columns - 64), np.arctan2(rows - 60, columns - 64)
    disc = measured(np.where(radius <= 24, 0.1, speckled()))
    star = measured(np.where(radius <= 24 * (1 + 0.3 * np.cos(7 * angle)), 0.1, speckled()))
    assert star["mass_raggedness"] > 5 * disc["mass_raggedness"]
    assert star["mass_roundness"] < 0.8 * disc["mass_roundness"]
    assert star["mass_solidity"] < disc["mass_solidity"] - 0.1


@pytest.mark.parametrize(
    ("turn", "across"), [("upright", (0, 1)), ("level", (1, 0)), ("rising", (1, 1)), ("falling", (1, -1))]
)
def test_stripes_show_in_their_direction_and_width(turn: str, across: tuple[int, int]) -> None:
    rows, columns = place()
    along = (across[0] * rows + across[1] * columns) / np.hypot(*across)
    found = measured(0.5 + 0.4 * np.sin(2 * np.pi * 0.2 * along))
    waves = {name: value for name, value in found.items() if name.startswith("waves_mean")}
    assert max(waves, key=waves.__getitem__) == f"waves_mean_middle_{turn}"
    edges = {one: found[f"edges_{one}"] for one in ("upright", "level", "rising", "falling")}
    assert max(edges, key=edges.__getitem__) == turn
    assert sum(edges.values()) == pytest.approx(1, abs=1e-5)


def test_texture_of_stripes_is_what_can_be_counted() -> None:
    # Columns of 0 and 31 in turn: neighbours across differ by 31, two apart along the column by nothing.
    found = measured(np.tile([0.0, 1.0], (SIDE, SIDE // 2)))
    assert found["cooccurrence_contrast_1"] == pytest.approx(31**2 * 3 / 4, rel=1e-6), "of 4 directions 3 cross stripes"
    assert found["cooccurrence_contrast_6"] < found["cooccurrence_contrast_1"]
    assert found["cooccurrence_anisotropy"] == pytest.approx(np.log(1e-3 / (31**2 + 1e-3)), rel=1e-4)
    assert found["brightness_entropy"] == pytest.approx(1.0)


def test_parts_are_named_from_the_top_left() -> None:
    picture = np.zeros((SIDE, SIDE))
    picture[:26, 102:] = 1.0
    found = measured(picture)
    assert found["layout_row_1_column_5"] == pytest.approx(1.0)
    assert found["layout_row_1_column_1"] == found["layout_row_5_column_5"] == 0.0


def test_padding_counts_for_nothing() -> None:
    picture = with_mass(18, 24).astype(np.float32)
    alone = prepared_of(picture[None, None])
    padded = np.zeros((1, 1, SIDE + 40, SIDE + 10), np.float32)
    padded[0, 0, 20 : 20 + SIDE, 5 : 5 + SIDE] = picture
    framed = replace(prepared_of(padded), box=((0, 1), (20, 20 + SIDE), (5, 5 + SIDE)))
    assert Radiomics(STAGE).values(framed) == Radiomics(STAGE).values(alone)


def test_without_anything_dark_the_mass_is_missing_and_the_rest_is_there() -> None:
    found = measured(np.full((SIDE, SIDE), 0.5))
    assert not [name for name in found if name.startswith("mass_")]
    assert found["brightness_mean"] == 0.5
    assert set(found) < set(STAGE.measures)


def test_a_volume_is_measured_as_its_mean_picture() -> None:
    one = with_mass(18, 24).astype(np.float32)
    volume = np.stack([one, np.ones_like(one)])[None, None]
    mean = ((one.astype(np.float64) + 1) / 2)[None, None].astype(np.float32)
    assert Radiomics(STAGE).values(prepared_of(volume)) == pytest.approx(
        Radiomics(STAGE).values(prepared_of(mean)), rel=1e-4, abs=1e-4
    )


def test_a_family_twice_or_none_is_refused() -> None:
    for families in (["mass", "mass"], [], ["taste"]):
        with pytest.raises(ConfigError):
            parse(RadiomicsStage, {"image_types": ["US"], "families": families}, "imaging.yaml")


def test_without_scikit_image_the_families_that_need_it_are_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riskpred.imaging.radiomics.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="cooccurrence, patterns, waves, mass need scikit-image"):
        Radiomics(RadiomicsStage(image_types=("US",)))
    Radiomics(RadiomicsStage(image_types=("US",), families=("brightness", "edges", "layout")))
