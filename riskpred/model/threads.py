"""One thread for the arithmetic of a bundle, whose networks and matrices are too small for two."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch, BLAS and OpenMP with one thread each, and put the numbers back afterwards.

    A second thread saves little on a quiet machine and costs 12 times the processor time on a busy one, because threads
    wait by spinning: 128 explained subjects took 5 s with one thread and over 5 minutes with two, on 2 busy cores.
    Sums also no longer depend on the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
