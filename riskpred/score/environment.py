"""Environment variables for the processes that are started meanwhile."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def environment(ours: Mapping[str, str]) -> Iterator[None]:
    """Set variables in this process, which those it starts inherit; afterwards they are as they were."""
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
