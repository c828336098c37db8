"""What one prepared picture looks like in named numbers: brightness, texture, edges, waves, layout, its darkest mass.

Each is a number of one picture alone, so that it can be kept by the file's bytes and read as a tabular feature. Only
what the picture covers counts, not the padding around it. scikit-image (extra `imaging`) is imported where it is used.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import fftconvolve

from riskpred.config.radiomics import Family, RadiomicsStage
from riskpred.errors import ConfigError
from riskpred.imaging.prepare import Prepared

MEASURING: Final = 1
"""Raised whenever this file may give other numbers for the same pixels."""

_WITH_SKIMAGE: Final[frozenset[Family]] = frozenset({"cooccurrence", "patterns", "waves", "mass"})

_GREY_LEVELS: Final = 32
_DISTANCES: Final = (1, 3, 6)
_RADII: Final = (1, 3)
_NEIGHBOURS: Final = 8
_DIRECTIONS: Final = 4
_CELLS: Final = 5
_FREQUENCIES: Final = (("long", 0.1), ("middle", 0.2), ("short", 0.35))
"""Cycles a pixel."""

_RIM: Final = 0.04
"""Share of the shorter side, at each border, where no mass is looked for: letters, the skin, the end of the beam."""

_SMOOTHING: Final = 0.02
"""SD of what smooths the picture before the mass is looked for, share of the shorter side."""

_LEAST_MASS: Final = 0.002
"""Share of the picture that a mass has at least."""


@dataclass(frozen=True)
class Radiomics:
    """Measures images as one stage of imaging.yaml says. Raises: ConfigError (no scikit-image)."""

    stage: RadiomicsStage

    def __post_init__(self) -> None:
        families = [family for family in self.stage.families if family in _WITH_SKIMAGE]
        if families and find_spec("skimage") is None:
            raise ConfigError(
                f"imaging.yaml, radiomics: {', '.join(families)} need scikit-image, which is not installed.",
                wanted="the extra `imaging`",
                do="pip install 'riskpred[imaging]', or name only other families",
            )

    def values(self, prepared: Prepared) -> dict[str, float]:
        """Measure -> value; what cannot be told of this picture (a mass where none is dark enough) is not there.

        Several channels, slices or a volume count as their mean picture.
        """
        (_, _), (top, bottom), (left, right) = prepared.box
        flat = prepared.pixels.reshape(-1, *prepared.pixels.shape[-2:]).mean(axis=0, dtype=np.float64)
        picture = flat[top:bottom, left:right]
        found = {f"{f}_{name}": value for f in self.stage.families for name, value in _MEASURES[f](picture)}
        return {name: float(np.float32(value)) for name, value in found.items() if np.isfinite(value)}


def _brightness(picture: NDArray[np.float64]) -> Iterator[tuple[str, float]]:
    mean, sd = picture.mean(), picture.std()
    yield "mean", mean
    yield "sd", sd
    if sd > 0:
        z = (picture - mean) / sd
        yield "skewness", (z**3).mean()
        yield "kurtosis", (z**4).mean() - 3.0
    for percent in (10, 50, 90):
        yield f"p{percent}", np.percentile(picture, percent)
    share = np.bincount(_levels(picture).ravel(), minlength=_GREY_LEVELS) / picture.size
    yield "entropy", _entropy(share)


def _cooccurrence(picture: NDArray[np.float64]) -> Iterator[tuple[str, float]]:
    """Of grey levels at some distances, mean of four directions. Source: Haralick et al. 1973, IEEE TSMC 3:610-621."""
    from skimage.feature import graycomatrix, graycoprops

    distances = [one for one in _DISTANCES if one < min(picture.shape)]
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    counted = graycomatrix(_levels(picture), distances, angles, _GREY_LEVELS, symmetric=True, normed=True)
    for name in ("contrast", "homogeneity", "correlation", "energy"):
        for distance, value in zip(distances, graycoprops(counted, name), strict=True):
            yield f"{name}_{distance}", value.mean()
    # Along the beam against across it: shadows make columns alike.
    across, along = (graycoprops(counted, "contrast")[0, i] for i in (0, 2))
    yield "anisotropy", np.log((along + 1e-3) / (across + 1e-3))


def _patterns(picture: NDArray[np.float64]) -> Iterator[tuple[str, float]]:
    """Shares of uniform local binary patterns: n of a pixel's 8 neighbours brighter, in one run; `mixed` = the rest.

    Source: Ojala et al. 2002, IEEE TPAMI 24:971-987.
    """
    from skimage.feature import local_binary_pattern

    for radius in _RADII:
        coded = local_binary_pattern((picture * 255).round().astype(np.uint8), _NEIGHBOURS, radius, "uniform")
        share = np.bincount(coded.astype(np.int64).ravel(), minlength=_NEIGHBOURS + 2) / picture.size
        for n, value in enumerate(share[: _NEIGHBOURS + 1]):
            yield f"{n}_of_8_at_{radius}", value
        yield f"mixed_at_{radius}", share[_NEIGHBOURS + 1]


def _edges(picture: NDArray[np.float64]) -> Iterator[tuple[str, float]]:
    """Strength of gradients, and how it is shared among the directions of the edges (rising: to the upper right)."""
    down, right = (ndimage.sobel(picture, axis) / 8 for axis in (0, 1))
    strength = np.hypot(down, right)
    yield "mean", strength.mean()
    yield "sd", strength.std()
    yield "p95", np.percentile(strength, 95)
    total = strength.sum()
    if total > 0:
        turn = (np.arctan2(down, right) % np.pi) / np.pi * _DIRECTIONS
        which = np.floor(turn + 0.5).astype(np.int64) % _DIRECTIONS
        share = np.bincount(which.ravel(), strength.ravel(), _DIRECTIONS) / total
        yield from zip(("upright", "rising", "level", "falling"), share, strict=True)
        yield "entropy", _entropy(share)


def _waves(picture: NDArray[np.float64]) -> Iterator[tuple[str, float]]:
    """How strongly stripes of some widths and directions show: size of the even Gabor filter's answer.

    Source: Daugman 1985, J Opt Soc Am A 2:1160-1169.
    """
    from skimage.filters import gabor_kernel

    for length, frequency in _FREQUENCIES:
        for i, turn in enumerate(("upright", "rising", "level", "falling")):
            kernel = gabor_kernel(frequency, i * np.pi / _DIRECTIONS).real
            mirrored = np.pad(picture, [(side // 2, side // 2) for side in kernel.shape], mode="symmetric")
            answer = np.abs(fftconvolve(mirrored, kernel, mode="valid"))
            yield f"mean_{length}_{turn}", answer.mean()
            yield f"sd_{length}_{turn}", answer.std()


def _layout(picture: NDArray[np.float64]) -> Iterator[tuple[str, float]]:
    """Mean brightness of 5 x 5 parts, row by row from the top left."""
    rows, columns = (np.linspace(0, side, _CELLS + 1).round().astype(int) for side in picture.shape)
    for r, (top, bottom) in enumerate(pairwise(rows)):
        for c, (left, right) in enumerate(pairwise(columns)):
            yield f"row_{r + 1}_column_{c + 1}", picture[top:bottom, left:right].mean()


def _mass(picture: NDArray[np.float64]) -> Iterator[tuple[str, float]]:
    """The dark blob that is large, dark and central most: its size, shape, rim, echoes inside and behind it.

    Taller than wide, angular, blurred and with a shadow is what speaks for a cancer in a breast's ultrasound image.
    Source of the signs: Stavros et al. 1995, Radiology 196:123-134. The outline is a threshold's, no trained network's.
    """
    found = _Mass.of(picture)
    if found is not None:
        yield from found.measures()


@dataclass(frozen=True)
class _Mass:
    """inside: (H, W), one connected part without holes."""

    picture: NDArray[np.float64]
    smooth: NDArray[np.float64]
    inside: NDArray[np.bool_]

    @classmethod
    def of(cls, picture: NDArray[np.float64]) -> "_Mass | None":
        from skimage.filters import threshold_multiotsu

        side = min(picture.shape)
        smooth = ndimage.gaussian_filter(picture, _SMOOTHING * side, mode="nearest")
        if len(np.unique(_levels(smooth))) < 4:
            return None
        low = float(threshold_multiotsu(smooth, classes=3, nbins=64)[0])
        dark = smooth < low
        rim = max(1, round(_RIM * side))
        dark[:rim], dark[-rim:], dark[:, :rim], dark[:, -rim:] = False, False, False, False
        dark = ndimage.binary_opening(dark, iterations=max(1, rim // 2))
        parts, count = ndimage.label(dark)
        if not count:
            return None
        index = np.arange(1, count + 1)
        area = ndimage.sum_labels(dark, parts, index)
        middle = np.array(ndimage.center_of_mass(dark, parts, index)) / picture.shape
        depth = low - ndimage.mean(smooth, parts, index)
        off = ((middle - (0.45, 0.5)) / (0.22, 0.25)) ** 2
        score = np.sqrt(area) * depth * np.exp(-0.5 * off.sum(axis=1)) * (area >= _LEAST_MASS * picture.size)
        best = int(score.argmax())
        if score[best] <= 0:
            return None
        return cls(picture, smooth, ndimage.binary_fill_holes(parts == best + 1))

    @cached_property
    def _distance(self) -> NDArray[np.float64]:
        """Pixels to the outline: positive inside."""
        return np.asarray(
            ndimage.distance_transform_edt(self.inside) - ndimage.distance_transform_edt(~self.inside), np.float64
        )

    def measures(self) -> Iterator[tuple[str, float]]:
        """Names and values; lengths are shares of the picture's shorter side."""
        from skimage.measure import perimeter_crofton, regionprops

        side = min(self.picture.shape)
        region = regionprops(self.inside.astype(np.uint8))[0]
        top, left, bottom, right = region.bbox
        yield "area", region.area / self.picture.size
        yield "row", region.centroid[0] / self.picture.shape[0]
        yield "column", region.centroid[1] / self.picture.shape[1]
        yield "height", (bottom - top) / side
        yield "taller_than_wide", np.log((bottom - top) / (right - left))
        yield "elongation", region.axis_minor_length / max(region.axis_major_length, 1e-9)
        yield "upright", np.cos(2 * region.orientation) * (1 - region.axis_minor_length / region.axis_major_length)
        yield "solidity", region.solidity
        yield "extent", region.extent
        outline = perimeter_crofton(self.inside, directions=4)
        yield "roundness", 4 * np.pi * region.area / outline**2
        yield "raggedness", self._raggedness()
        yield from self._echoes(side)
        yield from self._behind(int(bottom), side)

    def _raggedness(self) -> float:
        """SD of the radius by angle after its three slowest waves, share of the mean radius."""
        edge = np.argwhere(self.inside & ~ndimage.binary_erosion(self.inside)) - np.argwhere(self.inside).mean(axis=0)
        angle, radius = np.arctan2(edge[:, 0], edge[:, 1]), np.hypot(edge[:, 0], edge[:, 1])
        order = np.argsort(angle, kind="stable")
        even = np.interp(np.linspace(-np.pi, np.pi, 64, endpoint=False), angle[order], radius[order], period=2 * np.pi)
        waves = np.abs(np.fft.rfft(even)) / len(even)
        return float(np.sqrt(2 * (waves[4:] ** 2).sum()) / max(waves[0], 1e-9))

    def _echoes(self, side: int) -> Iterator[tuple[str, float]]:
        band = max(2.0, 0.04 * side)
        just_in = self.inside & (self._distance <= band)
        just_out = ~self.inside & (self._distance >= -band)
        values = self.picture[self.inside]
        yield "mean", values.mean()
        yield "sd", values.std()
        yield "p90", np.percentile(values, 90)
        yield "contrast", self.picture[just_out].mean() - values.mean()
        yield "rim_step", self.picture[just_out].mean() - self.picture[just_in].mean()
        strength = ndimage.gaussian_gradient_magnitude(self.picture, max(1.0, 0.01 * side), mode="nearest")
        edge = np.abs(self._distance) <= max(1.5, 0.012 * side)
        yield "rim_sharpness", strength[edge].mean()
        yield "rim_unevenness", strength[edge].std() / max(strength[edge].mean(), 1e-9)
        yield "halo", np.percentile(self.picture[just_out], 90) - self.picture[~self.inside].mean()

    def _behind(self, bottom: int, side: int) -> Iterator[tuple[str, float]]:
        """Brightness below the mass against beside it at the same depth: below 0 = a shadow, above = enhancement."""
        columns = self.inside.any(axis=0)
        depth = slice(bottom, min(self.picture.shape[0], bottom + max(4, round(0.3 * side))))
        below, beside = self.picture[depth][:, columns], self.picture[depth][:, ~columns]
        if below.size and beside.size:
            yield "shadow", below.mean() - beside.mean()
        if below.size:
            yield "below", below.mean()


_MEASURES: Final[dict[Family, Callable[[NDArray[np.float64]], Iterator[tuple[str, float]]]]] = {
    "brightness": _brightness,
    "cooccurrence": _cooccurrence,
    "patterns": _patterns,
    "edges": _edges,
    "waves": _waves,
    "layout": _layout,
    "mass": _mass,
}


def _levels(picture: NDArray[np.float64]) -> NDArray[np.uint8]:
    """0..1 as equal steps of grey."""
    return np.clip(picture * _GREY_LEVELS, 0, _GREY_LEVELS - 1).astype(np.uint8)


def _entropy(share: NDArray[np.float64]) -> float:
    some = share[share > 0]
    return float(-(some * np.log2(some)).sum())
