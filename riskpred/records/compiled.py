"""Compiles the few loops over events that numpy cannot say, and finds which codes a list of patterns means.

A warehouse has one dictionary of codes, so both are done once per warehouse and kept.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """The same function, compiled by numba on its first call and kept on disk for the next process.

    Where numba finds no folder it may write to (a read-only install of a user without a home), every process compiles
    anew: some seconds more, the same results.
    """
    try:
        return cast(Loop, njit(cache=True)(loop))
    except RuntimeError:
        return cast(Loop, njit(loop))


def contracted(loop: Loop) -> Loop:
    """As `compiled`, for loops of plain arithmetic that should run several rows at a time.

    A product and the sum it goes into may be rounded once (machines that can do so differ from those that cannot in the
    last bit), and a division by zero is infinite, as in numpy: a check would keep the rows apart.
    """
    try:
        return cast(Loop, njit(cache=True, fastmath={"contract"}, error_model="numpy")(loop))
    except RuntimeError:
        return cast(Loop, njit(fastmath={"contract"}, error_model="numpy")(loop))


@lru_cache(maxsize=512)
def code_mask(codes: tuple[str, ...], patterns: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which codes are listed, or start with a listed prefix that ends in * (as config.study.code_matches says).

    Shape: (C,) bool, read-only, one per code of the dictionary.
    """
    exact = {pattern for pattern in patterns if not pattern.endswith("*")}
    prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    # A listed code may itself end in a literal *; code_matches takes that as equal, and so does the prefix.
    mask = np.array([code in exact or code.startswith(prefixes) for code in codes], dtype=np.bool_)
    mask.setflags(write=False)
    return mask
