"""Quadratic kappa on unseen fundus phantoms: the study `aptos`, fitted and evaluated by riskpred's own verbs.

python -m tests.benchmarks.imaging.retina [--images 3000] [--work DIR] [--seed 1]
"""

import argparse
import tempfile
from pathlib import Path

from tests.benchmarks.imaging.verbs import figures, measured
from tests.phantoms.retina import write_aptos


def main() -> None:
    """Makes the phantoms, ingests, fits, evaluates the held-out part, prints one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        if not (work / "source").exists():
            write_aptos(work / "source", given.images, given.seed)
        rows, seconds = measured("aptos", work, given.seed)
        print(figures(rows, seconds, "retinopathy", "quadratic_kappa", 0.9))


if __name__ == "__main__":
    main()
