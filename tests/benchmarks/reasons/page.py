"""What a page and an index cost: measured by report_cost.py and index_size.py, where they are."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.night.results import Attempts, Figures

MODULES = ("report_cost", "index_size")


def measure(work: Path, attempts: Attempts) -> Figures:
    """Figures of each module's `measure(work)`; one that is not there is named."""
    del attempts
    found: Figures = {}
    for name in MODULES:
        where = f"tests.benchmarks.reasons.{name}"
        found[name] = import_module(where).measure(work) if find_spec(where) else {"lacking": f"no {name}.py"}
    return found
