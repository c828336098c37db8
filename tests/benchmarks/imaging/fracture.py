"""AUC on unseen long-bone phantoms: the study `fracatlas`, fitted and evaluated by riskpred's own verbs.

python -m tests.benchmarks.imaging.fracture [--images 1500] [--work DIR] [--seed 1]
"""

import argparse
import tempfile
from pathlib import Path

from tests.benchmarks.imaging.verbs import figures, measured
from tests.phantoms.fractures import write_fracatlas


def main() -> None:
    """Makes the phantoms, ingests, fits, evaluates the held-out part, prints one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        if not (work / "source").exists():
            write_fracatlas(work / "source", given.images, given.seed)
        rows, seconds = measured("fracatlas", work, given.seed)
        print(figures(rows, seconds, "fracture", "auc", 0.95))


if __name__ == "__main__":
    main()
