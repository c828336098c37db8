"""Random numbers of the simulated hospital: one seeded stream per quantity, so that subject i is the same whatever N.

A stream is read in subject order with a fixed number of draws per subject; a longer read only appends subjects.
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray


class Draws:
    """Named streams of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def uniform(self, name: str, subjects: int, each: int | None = None) -> NDArray[np.float64]:
        """Uniform on [0, 1). Shape: (subjects,), or (subjects, each)."""
        return self._stream(name).random(subjects if each is None else (subjects, each))

    def normal(self, name: str, subjects: int, each: int | None = None, limit: float = np.inf) -> NDArray[np.float64]:
        """Standard normal, clipped at +-limit: a bounded noise that cannot hide a latent. Shape as `uniform`."""
        drawn = self._stream(name).standard_normal(subjects if each is None else (subjects, each))
        return drawn.clip(-limit, limit)

    def bernoulli(self, name: str, chance: NDArray[np.float64]) -> NDArray[np.bool_]:
        """True with the chance given per subject. Shape: (subjects,)."""
        return self.uniform(name, len(chance)) < chance

    def of_subject(self, name: str, subject: int) -> np.random.Generator:
        """A generator of one subject's own, for draws of a number not known beforehand (the noise of an image)."""
        return np.random.Generator(np.random.SFC64(np.random.SeedSequence([self.seed, crc32(name.encode()), subject])))

    def _stream(self, name: str) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, crc32(name.encode())])))
