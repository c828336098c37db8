"""What a page and an index cost: pages of a demo made by this code, an index of 100,000 simulated people."""

from pathlib import Path

from riskpred.cli.demo import run_demo
from riskpred.progress import Silent
from riskpred.report.index import ROWS_A_PAGE
from tests.benchmarks.night.results import Attempts, Figures
from tests.benchmarks.reasons import index_size, report_cost

PEOPLE = 100_000


def measure(work: Path, attempts: Attempts) -> Figures:
    """Figures of report_cost.py and, at the product's own lines a page, of index_size.py."""
    del attempts
    demo, people = work / "demo", work / "index.duckdb"
    if not (demo / "report" / "index.html").is_file():
        run_demo(demo, None, 1, Silent())
    people.unlink(missing_ok=True)
    try:
        index = index_size.measure(index_size.write_scores(people, PEOPLE), ROWS_A_PAGE, PEOPLE)
    finally:
        people.unlink(missing_ok=True)
    return {"page": report_cost.measure(demo / "scores.duckdb"), "index": index | {"people": PEOPLE}}
