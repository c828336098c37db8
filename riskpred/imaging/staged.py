"""A picture on its way through the steps: its pixels, where they lie in the file, and whether they are 0 to 1 yet."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from riskpred.imaging.picture import Grid, Picture
from riskpred.imaging.sampling import sampled


@dataclass(frozen=True)
class Staged:
    """array: (C, Z, H, W) float32, finite.   grid: its place in the file.   picture: as read, never changed.
    colour: the channels are one colour and keep their proportion; else each is a sequence with a scale of its own.
    scaled: values are 0 to 1, and stay so to the end.   notes: what the steps found, beside those of the picture.
    """

    array: NDArray[np.float32]
    grid: Grid
    picture: Picture
    colour: bool = True
    scaled: bool = False
    notes: tuple[str, ...] = ()

    def with_values(self, array: NDArray[np.float32], scaled: bool | None = None) -> "Staged":
        """Other values at the same places."""
        assert array.shape == self.array.shape, "a step on values keeps the shape"
        kept = self.scaled if scaled is None else scaled
        return replace(self, array=np.asarray(array, dtype=np.float32), scaled=kept)

    def noted(self, note: str) -> "Staged":
        """The same, with a sentence for whoever looks at it."""
        return replace(self, notes=(*self.notes, note))

    def cropped(self, box: tuple[tuple[int, int], ...]) -> "Staged":
        """Slices, rows and columns of a box alone (first, one past the last); a view, no copy."""
        (z0, z1), (r0, r1), (c0, c1) = box
        moved = moved_grid(self.grid, np.array([z0, r0, c0], dtype=np.float64), np.ones(3))
        return replace(self, array=self.array[:, z0:z1, r0:r1, c0:c1], grid=moved)

    def resampled(
        self,
        shape: tuple[int, int, int],
        offset: NDArray[np.float64],
        scale: NDArray[np.float64],
        nearest: bool = False,
    ) -> "Staged":
        """Slices, rows and columns at new places: index i of each axis lies at offset + scale * i of this one."""
        array = sampled(self.array, shape, offset, scale, nearest)
        return replace(self, array=np.asarray(array, np.float32), grid=moved_grid(self.grid, offset, scale))

    def flipped(self, axis: int) -> "Staged":
        """Mirrored along slices (0), rows (1) or columns (2); a view, no copy."""
        offset, scale = np.zeros(3), np.ones(3)
        offset[axis], scale[axis] = self.array.shape[axis + 1] - 1, -1.0
        return replace(self, array=np.flip(self.array, axis + 1), grid=moved_grid(self.grid, offset, scale))

    def padded(self, before: tuple[int, int, int], shape: tuple[int, int, int], value: float) -> "Staged":
        """In the middle of a larger frame of `shape`, `before` free places along each axis in front of it."""
        frame = np.full((self.array.shape[0], *shape), value, dtype=np.float32)
        inner = tuple(slice(first, first + size) for first, size in zip(before, self.array.shape[1:], strict=True))
        frame[(slice(None), *inner)] = self.array
        return replace(self, array=frame, grid=moved_grid(self.grid, -np.array(before, dtype=np.float64), np.ones(3)))

    def parts(self, each_channel: bool = False) -> list[slice]:
        """Channels that are scaled together. each_channel: none are, though they be a colour."""
        count = len(self.array)
        return [slice(0, count)] if self.colour and not each_channel else [slice(c, c + 1) for c in range(count)]

    def grey(self) -> NDArray[np.float32]:
        """(Z, H, W): the mean of the channels, where a step looks for shapes."""
        return np.asarray(self.array[0] if len(self.array) == 1 else self.array.mean(axis=0, dtype=np.float32))


def staged(picture: Picture, colour: bool = True) -> Staged:
    """A picture before any step."""
    return Staged(picture.array, picture.grid, picture, colour)


def moved_grid(grid: Grid, offset: NDArray[np.float64], scale: NDArray[np.float64]) -> Grid:
    """Of new pixels whose index i is offset + scale * i of the old ones, axis by axis."""
    return replace(
        grid,
        offset=grid.offset + grid.scale * offset,
        scale=grid.scale * scale,
        spacing_mm=grid.spacing_mm * np.abs(scale),
    )
