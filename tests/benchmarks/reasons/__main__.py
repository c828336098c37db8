"""The benchmark's one command: measures the parts asked for, and prints targets with figures.

`python -m tests.benchmarks.reasons --work DIR [--part NAME ...] [--again] [--readme FILE]`. A part that has been
measured is not measured again unless --again is given; sums and deletion go on where they were cut off.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.night.report import with_tables
from tests.benchmarks.night.results import Attempts, Figures, measured
from tests.benchmarks.reasons import deletion, features, modality, page, sums, targets, truth

PARTS: dict[str, Callable[[Path, Attempts], Figures]] = {
    "sums": sums.measure,
    "modality": modality.measure,
    "features": features.measure,
    "truth": truth.measure,
    "deletion": deletion.measure,
    "report": page.measure,
}


def main(words: list[str] | None = None) -> int:
    """Read the arguments, measure, print. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.reasons", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for fits, scores and results")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="repeatable (default: all)")
    parser.add_argument("--again", action="store_true", help="measure parts that have been measured")
    parser.add_argument("--readme", type=Path, help="replace the tables of this page")
    given = parser.parse_args(words)
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    for name in given.part or PARTS:

        def make(attempts: Attempts, part: str = name) -> Figures:
            return PARTS[part](work, attempts)

        measured(work, name, given.again, make)
    tables = {"targets": targets.table(work), "figures": targets.figures(work)}
    print(tables["targets"])
    if given.readme is not None:
        given.readme.write_text(with_tables(given.readme.read_text(), tables))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
