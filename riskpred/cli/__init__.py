"""The console script: parses, calls one function per verb, maps errors to exit codes.

Exit codes: 0 done, 1 our bug, 2 usage, 10 config, 11 input, 12 bundle, 13 quality gate, 14 someone not scored,
15 output locked; 130 after Ctrl-C, 143 after SIGTERM.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from types import FrameType

_CTRL_C = 130


def run() -> None:
    """Entry point of `riskpred`."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run one command line and return its exit code; results on stdout, everything else on stderr."""
    from riskpred.cli.stderr import Unbroken

    with redirect_stderr(Unbroken(sys.stderr)):
        return _main(arguments)


def _main(arguments: list[str]) -> int:
    from typer import Exit
    from typer._click.exceptions import ClickException  # Typer carries its own click: that of PyPI is another class
    from typer.main import get_command

    from riskpred.cli.app import app
    from riskpred.errors import RiskpredError

    verb = next((word for word in arguments if not word.startswith("-")), "")
    stopped: list[int] = []
    try:
        with _stopping(stopped):
            code = get_command(app).main(arguments, prog_name="riskpred", standalone_mode=False)
        # Typer makes this code of a KeyboardInterrupt.
        return _say_stopped(verb, stopped) if code == _CTRL_C else int(code or 0)
    except Exit as exit_:
        return exit_.exit_code
    except ClickException as error:
        error.show()
        return error.exit_code
    except RiskpredError as error:
        _say(f"riskpred {verb}: {error.message}")
        return error.exit_code
    except KeyboardInterrupt:
        return _say_stopped(verb, stopped)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  (the last resort: a bug of ours, shown without patient data)
        if stopped:  # DuckDB makes another error of an interrupted query
            return _say_stopped(verb, stopped)
        _say("".join(traceback.format_tb(error.__traceback__)).rstrip())
        # DuckDB and polars put row values into their messages: the class and the lines above find the place.
        _say(f"{type(error).__name__}: (text withheld: it may hold patient data)")
        _say(f"riskpred {verb}: this is a bug of riskpred, please report it with the lines above.")
        return 1


@contextmanager
def _stopping(stopped: list[int]) -> Iterator[None]:
    """Make SIGTERM end a verb as Ctrl-C does, so that it cleans up; `stopped` receives the signal."""

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_stopped(verb: str, stopped: list[int]) -> int:
    by = signal.Signals(stopped[0]) if stopped else signal.SIGINT
    _say(f"riskpred {verb}: stopped by {'Ctrl-C' if by is signal.SIGINT else by.name}; nothing was published.")
    return 128 + by


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
