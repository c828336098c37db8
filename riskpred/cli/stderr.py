"""Standard error that may break: a full log disk must not end a night whose work is whole."""

import os
from typing import TextIO


class Unbroken:
    """Passes everything on to a stream; when that can no longer be written, what is said is lost, and work goes on.

    The result and the exit code still tell: they do not go this way. Only a stream that is a file descriptor of ours
    is given up, in favour of the null device, so that nothing is written again when Python ends.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, self._stream.fileno())
        finally:
            os.close(null)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
