"""Lets these tests import the benchmark, which is no part of the package: `tests.benchmarks` from the repository."""

import sys
from pathlib import Path

REPOSITORY = str(Path(__file__).resolve().parents[3])
if REPOSITORY not in sys.path:
    sys.path.insert(0, REPOSITORY)
