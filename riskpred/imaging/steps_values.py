"""Steps that change what a pixel's value means: windows, scales to 0..1, cuts."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from riskpred.config.steps import Clip, Foreground, Invert, MatchHistogram, Percentiles, Window, Zscore
from riskpred.imaging.foreground import Mask, body
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import HIGH_PERCENT, LOW_PERCENT
from riskpred.imaging.staged import Staged

_NO_CONTRAST = "pixels that differ from one another"


def window(now: Staged, step: Window) -> Staged:
    """See `config.imaging.Window`."""
    given = step.given or now.picture.window
    if given is None:
        said = now.noted("the file names no window: its percentiles are taken")
        return _by_percentiles(said, LOW_PERCENT, HIGH_PERCENT, "all")
    centre, width = given
    least = centre - 0.5 - (width - 1) / 2
    array = (now.array - np.float32(least)) * np.float32(1 / max(width - 1, 1e-6))
    return now.with_values(np.clip(array, 0, 1, out=array), scaled=True)


def clip(now: Staged, step: Clip) -> Staged:
    """See `config.imaging.Clip`."""
    return now.with_values(np.clip(now.array, step.low, step.high))


def invert(now: Staged, _: Invert) -> Staged:
    """See `config.imaging.Invert`."""
    total = 1.0 if now.scaled else float(now.array.min()) + float(now.array.max())
    return now.with_values(np.float32(total) - now.array)


def percentiles(now: Staged, step: Percentiles) -> Staged:
    """See `config.imaging.Percentiles`."""
    return _by_percentiles(now, step.low, step.high, step.foreground, step.each_channel)


def zscore(now: Staged, step: Zscore) -> Staged:
    """See `config.imaging.Zscore`."""

    def scaled(part: NDArray[np.float32], seen: NDArray[np.float32]) -> NDArray[np.float32] | None:
        mean, sd = float(seen.mean(dtype=np.float64)), float(seen.std(dtype=np.float64))
        if not sd > 0:
            return None
        return np.asarray((part - np.float32(mean)) * np.float32(1 / (2 * step.sd * sd)) + np.float32(0.5))

    return _channelwise(now, step.foreground, step.each_channel, scaled)


def match_histogram(now: Staged, step: MatchHistogram) -> Staged:
    """See `config.imaging.MatchHistogram`."""
    targets = np.array(step.landmarks)

    def scaled(part: NDArray[np.float32], seen: NDArray[np.float32]) -> NDArray[np.float32] | None:
        found = np.percentile(seen, step.percentiles)
        # Of percentiles with the same value the last counts; two different ones make a line.
        kept = np.append(np.diff(found) > 0, True)
        x, y = found[kept], targets[kept]
        if len(x) < 2:
            return None
        matched = np.interp(part, x, y)
        for end, slope, beyond in (
            (0, (y[1] - y[0]) / (x[1] - x[0]), part < x[0]),
            (-1, (y[-1] - y[-2]) / (x[-1] - x[-2]), part > x[-1]),
        ):
            matched[beyond] = y[end] + slope * (part[beyond] - x[end])
        return np.asarray(matched, dtype=np.float32)

    return _channelwise(now, step.foreground, step.each_channel, scaled)


def _by_percentiles(now: Staged, low: float, high: float, foreground: Foreground, each_channel: bool = False) -> Staged:
    def scaled(part: NDArray[np.float32], seen: NDArray[np.float32]) -> NDArray[np.float32] | None:
        bottom, top = (float(value) for value in np.percentile(seen, (low, high)))
        if not top > bottom:
            bottom, top = float(part.min()), float(part.max())
        if not top > bottom:
            return None
        return np.asarray((part - np.float32(bottom)) * np.float32(1 / (top - bottom)))

    return _channelwise(now, foreground, each_channel, scaled)


def _channelwise(
    now: Staged,
    foreground: Foreground,
    each_channel: bool,
    scaled: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32] | None],
) -> Staged:
    """Scale the channels, those of a colour together: scaled(values, those of the foreground), None = no contrast.

    Args: each_channel: colours are sequences, each scaled by itself.
    """
    inside: Mask | None = None if foreground == "all" else body(now.grey())
    array = np.empty_like(now.array)
    flat, parts = 0, now.parts(each_channel)
    for part in parts:
        values = now.array[part]
        seen = values if inside is None else values[:, inside]
        found = scaled(values, seen)
        flat += found is None
        array[part] = 0.0 if found is None else np.clip(found, 0.0, 1.0)
    if flat == len(parts):
        raise ImageProblem("no_contrast", _NO_CONTRAST)
    done = now.with_values(array, scaled=True)
    return done.noted(f"{flat} of {len(parts)} channels without contrast") if flat else done
