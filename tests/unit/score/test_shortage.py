"""Memory that runs out is said in a sentence, whoever met it; anything else stays what it is."""

import mmap
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch

from riskpred.errors import OutputError
from riskpred.score.shortage import said_when_short_of_memory

TOO_MUCH = 2**50


def _duckdb() -> None:
    with duckdb.connect(config={"memory_limit": "1MB", "temp_directory": ""}) as connection:
        connection.execute("CREATE TABLE t AS SELECT hash(range) AS h, range::VARCHAR AS s FROM range(1000000)")


def _mapped() -> None:
    raise OSError("Memory mapping file failed: Cannot allocate memory")  # as pyarrow 26 raises it


@pytest.mark.parametrize(
    ("asks", "do"),
    [
        (lambda: np.empty(TOO_MUCH), "lower workers in night.yaml first"),
        (lambda: pa.allocate_buffer(TOO_MUCH), "lower workers in night.yaml first"),
        (lambda: torch.empty(TOO_MUCH), "lower workers in night.yaml first"),
        (lambda: mmap.mmap(-1, TOO_MUCH), "lower workers in night.yaml first"),
        (_mapped, "lower workers in night.yaml first"),
        (_duckdb, "raise duckdb_memory in night.yaml"),
    ],
    ids=["numpy", "arrow", "torch", "the system", "arrow's map", "duckdb"],
)
def test_it_says_what_to_lower(asks: Callable[[], object], do: str) -> None:
    with pytest.raises(OutputError) as said, said_when_short_of_memory(Path("scores.duckdb")):
        asks()
    assert said.value.exit_code == 15
    assert "nothing was published" in said.value.message
    assert do in said.value.message


@pytest.mark.parametrize("error", [RuntimeError("a shape"), OSError(2, "no file"), ValueError(), KeyboardInterrupt()])
def test_other_errors_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as passed, said_when_short_of_memory(Path("scores.duckdb")):
        raise error
    assert passed.value is error
