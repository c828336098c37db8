"""One torch thread for the networks of a bundle, which are too small for two."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Run with one torch thread, and put the number back afterwards.

    A second thread saves little on a quiet machine and costs 12 times the processor time on a busy one, because threads
    wait by spinning: 128 explained subjects took 5 s with one thread and over 5 minutes with two, on 2 busy cores.
    Sums also no longer depend on the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
