"""The benchmark's one command: makes the data, measures the parts asked for, writes the page.

`python -m tests.benchmarks.night [PART ...] --work DIR [--subjects N]`. A part that has been measured is not measured
again unless --again is given or N is another one; kills, disk_full, together and images go on where they were cut off.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.benchmarks.night import cost, data, disk_full, faults, foreign, kills, peers, report, results, together
from tests.benchmarks.night.command import cold

PARTS: Final = ("speed", "memory", "news", "peers", "images", "kills", "disk_full", "together", "faults", "foreign")
IMAGED: Final = 20_000
"""Subjects with an image each of the part `images`, or --subjects where that is fewer."""


def main(words: list[str] | None = None) -> int:
    """Read the arguments, measure, write. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.night", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--work", type=Path, required=True, help="folder for data and results; 15 GB at 1,000,000")
    parser.add_argument(
        "--subjects", type=int, default=1_000_000, help=f"of the large warehouse; images: at most {IMAGED:,}"
    )
    parser.add_argument("--fault-subjects", type=int, default=100_000, help="in whose files faults are planted")
    parser.add_argument("--faults", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=60, help="a sixth of them while publishing")
    parser.add_argument("--lightgbm-python", default=sys.executable, help="interpreter that has lightgbm")
    parser.add_argument("--again", action="store_true", help="measure parts that have been measured")
    parser.add_argument("--readme", type=Path, help="replace the tables of this page, e.g. the benchmark's README.md")
    given = parser.parse_args(words)
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)

    def planted() -> faults.Clean:
        """The hospital in whose tables faults are planted; everything of it that is there is used again."""
        folder, run = work / f"faults-{given.fault_subjects}", cold(work)
        fitted = faults.clean(folder / "fitted", 3_000, 3_000, run)
        return faults.clean(folder, given.fault_subjects, 800, run, bundle=fitted.bundle)

    imaged = min(IMAGED, given.subjects)
    of_hospital: dict[str, Callable[[data.Hospital, results.Attempts], results.Figures]] = {
        "speed": lambda made, _: cost.speed(made, work, given.subjects),
        "memory": lambda made, _: cost.memory(made, work, given.subjects),
        "news": lambda made, _: cost.news(made, work, given.subjects),
        "peers": lambda made, _: peers.measure(made, work, given.subjects, given.lightgbm_python),
        "kills": lambda made, known: kills.measure(
            made.warehouse, made.bundle, work, known, given.kills, given.kills // 6
        ),
        "disk_full": lambda made, known: disk_full.measure(made.warehouse, made.bundle, work, known),
        "together": lambda made, known: together.measure(made.warehouse, made.bundle, work, known),
    }
    large = {"asked_subjects": given.subjects}
    soiled = {"asked_subjects": given.fault_subjects, "asked_faults": given.faults}
    sizes: dict[str, results.Figures] = {"speed": large, "memory": large, "news": large, "peers": large}
    sizes |= {
        "images": {"asked_subjects": imaged},
        "kills": {"asked_kills": given.kills},
        "faults": soiled,
        "foreign": soiled,
    }
    for part in given.parts or PARTS:
        print(f"{part} ...", flush=True)

        def make(attempts: results.Attempts, part: str = part) -> results.Figures:
            if part in of_hospital:
                return of_hospital[part](data.hospital(work), attempts)
            if part == "images":
                from tests.benchmarks.night import images  # loads torch, which no other part needs in this process

                return images.measure(work, attempts, imaged)
            if part == "faults":
                return faults.measure(planted(), work, given.faults)
            return foreign.measure(planted(), work, given.faults)

        results.measured(work, part, given.again, make, sizes.get(part))
        print(f"{part}: {results.path(work, part)}", flush=True)
    print(report.write(work, given.readme))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
