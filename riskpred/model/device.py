"""The CUDA device that encoders run on where there is one, and float32 on it that is float32 indeed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def cuda() -> torch.device | None:
    """The first CUDA device; None where there is none. `CUDA_VISIBLE_DEVICES=` (set to nothing) hides every one."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else None


def cuda_name(device: torch.device) -> str:
    """What the maker calls the card."""
    return torch.cuda.get_device_name(device)


@contextmanager
def exact(recurrent: bool = False) -> Iterator[None]:
    """Arithmetic on CUDA in float32 and not in TensorFloat-32, the same from run to run. Nothing else changes.

    Args: recurrent: without cuDNN, whose LSTM takes sigmoid and tanh to about 1e-5 only: what a series encoder sends
        was 1.1e-5 from the processor's with it and 9e-7 without, and a risk moved by 4e-6.
    """
    products = torch.backends.cuda.matmul
    before = products.allow_tf32
    products.allow_tf32 = False
    try:
        # What this is not told to keep, it turns off: cuDNN, too.
        with torch.backends.cudnn.flags(enabled=not recurrent, deterministic=True, allow_tf32=False):
            yield
    finally:
        products.allow_tf32 = before
