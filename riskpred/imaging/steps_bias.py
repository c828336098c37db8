"""The step against the slow change of brightness of MR coils: the smooth factor that sharpens the histogram."""

from itertools import product
from typing import Final

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from riskpred.config.steps import BiasField
from riskpred.imaging.foreground import Mask, body
from riskpred.imaging.staged import Staged

_BINS: Final = 200
_WIDTH: Final = 0.15
"""Full width at half maximum, in log units, of the blur that the field is taken to have put on the histogram."""

_WIENER: Final = 0.01
_STILL: Final = 2e-4
"""Iterations end once the field changes less than this, relative, in its SD over the foreground."""

_MOST_VOXELS: Final = 40_000


def bias_field(now: Staged, step: BiasField) -> Staged:
    """See `config.imaging.BiasField`. Each channel has a field of its own; the foreground's mean log stays."""
    inside = body(now.grey())
    array = np.array(now.array)
    noted = now
    for channel in array:
        seen = inside & (channel > 0)
        if seen.sum() < 100:
            noted = noted.noted("too little foreground for a bias field: left as it is")
            continue
        # In place: exp of a smooth surface, evaluated one slice after another.
        coefficients, orders, centre = _fitted_field(channel, seen, step)
        along = [legendre.legvander(_places(size), order) for size, order in zip(channel.shape, orders, strict=True)]
        for z in range(len(channel)):
            surface = along[1] @ np.tensordot(along[0][z], coefficients, axes=1) @ along[2].T
            channel[z] *= np.exp(centre - surface)
    return noted.with_values(array)


def _fitted_field(
    channel: NDArray[np.float32], seen: Mask, step: BiasField
) -> tuple[NDArray[np.float64], tuple[int, ...], float]:
    """Legendre coefficients of the log field, the order along each axis, and its mean over the foreground."""
    orders = tuple(min(step.order, size - 1) for size in channel.shape)
    where = np.argwhere(seen)
    where = where[:: max(1, len(where) // _MOST_VOXELS)]
    log = np.log(channel[tuple(where.T)].astype(np.float64))
    along = [legendre.legvander(_places(size)[where[:, axis]], orders[axis]) for axis, size in enumerate(channel.shape)]
    terms = [powers for powers in product(*(range(order + 1) for order in orders)) if sum(powers) <= step.order]
    terms.sort(key=sum)
    design = np.stack([along[0][:, a] * along[1][:, b] * along[2][:, c] for a, b, c in terms], axis=1)
    # Orthonormal columns: a fit is then two products, and no ill-conditioned system is solved again and again.
    basis, upper = np.linalg.qr(design)
    field = np.zeros(len(log))
    for degree in range(1, step.order + 1):
        # The coarse shape first: all terms at once may settle on a sharp histogram that is not the true one.
        level = basis[:, : sum(sum(powers) <= degree for powers in terms)]
        for _ in range(step.iterations):
            new = field + level @ (level.T @ (log - field - _sharpened(log - field)))
            new -= new.mean()
            ratio = np.exp(new - field)
            field = new
            if ratio.std() / ratio.mean() < _STILL:
                break
    solved = np.linalg.solve(upper, basis.T @ field)
    coefficients = np.zeros([order + 1 for order in orders])
    for powers, value in zip(terms, solved, strict=True):
        coefficients[powers] = value
    return coefficients, orders, float((design @ solved).mean())


def _sharpened(log: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value that each voxel most likely had before a blur of the histogram: E(true | seen).

    Source: Sled, Zijdenbos & Evans 1998, IEEE TMI 17:87-97, equations 7 to 11.
    """
    low, high = float(log.min()), float(log.max())
    if not high > low:
        return log
    width = (high - low) / (_BINS - 1)
    # Each voxel shared between the two bins it lies between: the histogram changes smoothly with the field.
    place = (log - low) / width
    first = np.minimum(place.astype(np.int64), _BINS - 2)
    part = place - first
    counts = np.bincount(first, 1 - part, _BINS) + np.bincount(first + 1, part, _BINS)
    size = 2 ** (_BINS - 1).bit_length() * 2
    pad = (size - _BINS) // 2
    seen = np.zeros(size)
    seen[pad : pad + _BINS] = counts
    distance = np.minimum(np.arange(size), size - np.arange(size)) * width
    blur = np.exp(-4 * np.log(2) * (distance / _WIDTH) ** 2)
    kernel = np.fft.fft(blur / blur.sum())
    true = np.fft.ifft(np.fft.fft(seen) * np.conj(kernel) / (np.abs(kernel) ** 2 + _WIENER)).real
    true = np.maximum(true, 0.0)
    values = low + (np.arange(size) - pad) * width
    above = np.fft.ifft(np.fft.fft(true * values) * kernel).real
    below = np.fft.ifft(np.fft.fft(true) * kernel).real
    expected = np.where(below > 1e-9 * below.max(), above / np.maximum(below, 1e-300), values)[pad : pad + _BINS]
    return np.asarray(np.interp(log, values[pad : pad + _BINS], expected))


def _places(size: int) -> NDArray[np.float64]:
    """Centres of the pixels of an axis, from -1 to 1."""
    return np.asarray((np.arange(size) + 0.5) * (2 / size) - 1, dtype=np.float64)
