"""The program behind `warm.Warm`: reads one JSON question a line, forks a child per command line, answers with numbers.

Nothing is computed before a fork, so the only other threads at that moment are the allocators' and BLAS's, which
prepare themselves for one, and polars' cleaner of spilled files.
"""

import json
import os
import resource
import sys
from typing import Any

# Loaded once, for every child.
import riskpred.cli.score
import riskpred.imaging.read
import riskpred.records.ingest.run
import riskpred.score.plan
import riskpred.score.run  # noqa: F401
from riskpred.cli import main


def child(asked: dict[str, Any]) -> None:
    """Become the leader of a process group, run the verb, and end. Never returns."""
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, asked["out"]), (2, asked["err"])):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        if asked["file_bytes"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (asked["file_bytes"], asked["file_bytes"]))
        code = main(asked["start"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def serve() -> None:
    """Answer until stdin ends: `start` with the child's process id, `wait` with its exit code."""
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "start" in asked:
            pid = os.fork()
            if pid == 0:
                child(asked)
            print(json.dumps(pid), flush=True)
        else:
            _, status = os.waitpid(asked["wait"], 0)
            print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


if __name__ == "__main__":
    serve()
