"""The console script: parses, calls one function per verb, maps errors to exit codes.

Exit codes: 0 done, 1 our bug, 2 usage, 10 config, 11 input, 12 bundle, 13 quality gate, 14 someone not scored,
15 output locked; 130 after Ctrl-C.
"""

import os
import sys
import traceback


def run() -> None:
    """Entry point of `riskpred`."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run one command line and return its exit code; results on stdout, everything else on stderr."""
    from typer import Exit
    from typer._click.exceptions import ClickException  # Typer carries its own click: that of PyPI is another class
    from typer.main import get_command

    from riskpred.cli.app import app
    from riskpred.errors import RiskpredError

    verb = next((word for word in arguments if not word.startswith("-")), "")
    try:
        code = get_command(app).main(arguments, prog_name="riskpred", standalone_mode=False)
        return int(code or 0)
    except Exit as exit_:
        return exit_.exit_code
    except ClickException as error:
        error.show()
        return error.exit_code
    except RiskpredError as error:
        _say(f"riskpred {verb}: {error.message}")
        return error.exit_code
    except KeyboardInterrupt:
        _say(f"riskpred {verb}: stopped by Ctrl-C; nothing was published.")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  (the last resort: a bug of ours, shown without patient data)
        _say("".join(traceback.format_tb(error.__traceback__)).rstrip())
        # DuckDB and polars put row values into their messages: the class says enough to find the place.
        shown = str(error) if os.environ.get("RISKPRED_DEBUG") == "1" else "(text withheld: it may hold patient data)"
        _say(f"{type(error).__name__}: {shown}")
        _say(f"riskpred {verb}: this is a bug of riskpred, please report it with the lines above.")
        return 1


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
