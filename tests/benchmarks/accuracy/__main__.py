"""The benchmark's one command: fits, tables and page. `python -m tests.benchmarks.accuracy --help`."""

import argparse
from pathlib import Path

from tests.benchmarks.accuracy import methods, sets
from tests.benchmarks.accuracy.rows import FOLDS, REPEATS
from tests.benchmarks.accuracy.run import Wanted, run


def main(words: list[str] | None = None) -> int:
    """Read the arguments, make what is missing, then write tables and page. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.accuracy", description=__doc__)
    parser.add_argument("--into", type=Path, default=Path("riskpred-benchmark"), help="folder of parts and results")
    parser.add_argument("--warehouses", type=Path, help="STUDY.duckdb files; default INTO/warehouses, made when absent")
    parser.add_argument("--sets", default="all", help="comma-separated; NAME* = with its ablations (default: all)")
    parser.add_argument("--methods", default="all", help="comma-separated; peers = all but riskpred (default: all)")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--repeat", type=int, help="this repeat alone")
    parser.add_argument("--fold", type=int, help="this fold alone")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--only-fit", action="store_true", help="make parts, but no tables and page")
    parser.add_argument("--only-tables", action="store_true", help="tables and page of the parts that are there")
    parser.add_argument("--readme", type=Path, help="also replace the marked tables of this markdown file")
    given = parser.parse_args(words)
    wanted = Wanted(
        given.into,
        given.warehouses or given.into / "warehouses",
        tuple(sets.chosen(given.sets)),
        tuple(methods.chosen(given.methods)),
        given.repeats,
        given.folds,
        given.repeat,
        given.fold,
    )
    if not given.only_tables:
        run(wanted, given.jobs)
    if not given.only_fit:
        from tests.benchmarks.accuracy.report import write_report

        print(write_report(given.into, [one.name for one in wanted.sets], given.readme))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
