"""Compiled loops: the same function, with a disk cache or without one."""

from collections.abc import Callable
from typing import Any

import numba
import pytest

from riskpred.records import compiled


def triple(x: int) -> int:
    return 3 * x


def test_without_a_folder_to_cache_in_it_compiles_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(loop: Callable[..., Any] | None = None, cache: bool = False) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(loop)

    monkeypatch.setattr(compiled, "njit", refuse)
    assert compiled.compiled(triple)(4) == 12
