"""An index of 100,000 people in Chromium: how long until it is there, in how much memory, and whether it scrolls.

    python tests/benchmarks/reasons/index_size.py [--people 100000] [--rows-a-page 2000 100000] [--json FILE]

Makes a scores file of simulated rows (two nights, three outcomes), writes the index as `riskpred report` does, and
opens its first page in the system's Chromium at each number of lines a page. ready: seconds from asking for the page to
its load event; memory: resident memory of the page's process; worst frame: the longest of the frames while the page is
scrolled from top to bottom in 100 steps.

Measured (2 busy cores, no graphics card, Chromium 150, 100,000 people, 3 outcomes, 6 orders):

    lines a page   files  all MB  written s   first page MB  ready s  memory MB  worst frame s
           2,000     300     331         19             1.1      0.4        284            0.2
          10,000      60     327         18             5.5      2.3        703            0.7
         100,000       6     327         21            54.5     49.4       3505           18.6

So one page of everyone does not do, and `content-visibility` cannot help: it does not apply to rows of a table.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import psutil
from playwright.sync_api import sync_playwright

from riskpred.records.schema import table_schema, tables
from riskpred.report import index
from riskpred.report.read import Scores

SCROLL = """() => new Promise(done => {
  const height = document.documentElement.scrollHeight - innerHeight, times = [];
  let step = 0, before = performance.now();
  const next = now => {
    times.push(now - before); before = now;
    if (step++ < 100) { scrollTo(0, height * step / 100); requestAnimationFrame(next); }
    else done({worst: Math.max(...times.slice(1)), total: times.reduce((a, b) => a + b, 0)});
  };
  requestAnimationFrame(next);
})"""


def write_scores(path: Path, people: int) -> Path:
    """Two nights of simulated people; only the tables that an index reads have rows."""
    with duckdb.connect(str(path)) as connection:
        for name in tables("scores"):
            connection.execute(table_schema("scores", name).ddl())
        names = table_schema("scores", "runs").names
        for night, day in ((1, "2026-11-20"), (2, "2026-11-21")):
            row: dict[str, Any] = dict.fromkeys(names, 0) | {
                "run_id": f"night-{night}", "as_of": day, "started_at": day, "finished_at": day, "status": "published",
                "numeric_path": "fp32", "bundle_name": "simulated", "bundle_version": "1", "bundle_sha256": "0" * 64,
                "promotion": "passed", "code_version": "1", "schema_version": "1", "warehouse_digest": "0",
                "content_digest": "0", "subjects": people,
                "model_card": '{"outcomes": {"cancer": "Cancer", "cardiovascular": "Cardiovascular disease"}}',
            }  # fmt: skip
            places = ", ".join("?" for _ in names)
            connection.execute(f"INSERT INTO runs VALUES ({places})", [row[name] for name in names])
            connection.execute(
                f"""
                INSERT INTO risk_scores BY NAME
                SELECT 'night-{night}' AS run_id, s AS subject_id, outcome, 10.0 AS horizon_years,
                       TIMESTAMP '{day}' AS prediction_time, r AS risk, r * 0.8 AS risk_low,
                       least(1, r * 1.2) AS risk_high,
                       0.05 AS reference_risk, 'everyone' AS reference_group, r AS percentile,
                       TIMESTAMP '{day}' AS scored_at, false AS carried,
                       CASE WHEN hash(s) % 7 = 0 THEN ['seen_in_training'] ELSE []::VARCHAR[] END AS scope_flags
                FROM (SELECT s, outcome, ((hash(s, outcome) % 100000) / 100000.0) ** 3
                             * (1 + {night} * (hash(outcome, s) % 100) / 2000.0) / 1.2 AS r
                      FROM range({people}) t(s), (VALUES ('cancer'), ('cardiovascular'), ('mental_health')) o(outcome))
                """
            )
            connection.execute(
                f"INSERT INTO pseudonyms BY NAME SELECT 'night-{night}' AS run_id, s AS subject_id, "
                f"left(sha256(s::VARCHAR), 12) AS pseudonym FROM range({people}) t(s)"
            )
    return path


def measure(scores: Path, rows_a_page: int, people: int) -> dict[str, Any]:
    """Write the index with so many lines a page and open its first page."""
    folder = Path(tempfile.mkdtemp(prefix="index_size"))
    index.ROWS_A_PAGE = rows_a_page  # type: ignore[misc]
    begun = time.perf_counter()
    with Scores.open(scores) as opened:
        files = list(index.write_index(opened, range(people), "", folder, "en"))
    written = time.perf_counter() - begun
    first = folder / "index.html"
    found: dict[str, Any] = {
        "rows_a_page": rows_a_page,
        "files": len(files),
        "write_s": round(written, 1),
        "first_page_mb": round(first.stat().st_size / 1e6, 2),
        "all_mb": round(sum((folder / name).stat().st_size for name in files) / 1e6),
    }
    with sync_playwright() as driver:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        before = {process.pid for process in _renderers()}
        begun = time.perf_counter()
        page.goto(first.as_uri(), timeout=300_000)
        found["ready_s"] = round(time.perf_counter() - begun, 2)
        scrolled = page.evaluate(SCROLL)
        found["worst_frame_ms"] = round(scrolled["worst"])
        found["scroll_s"] = round(scrolled["total"] / 1000, 2)
        begun = time.perf_counter()
        found["lines"] = page.locator("tbody tr").count()
        largest = max(_renderers(), key=lambda process: process.memory_info().rss)
        found["memory_mb"] = round(largest.memory_info().rss / 1e6)
        found["processes"] = len({process.pid for process in _renderers()} | before)
        chromium.close()
    shutil.rmtree(folder)
    return found


def _renderers() -> list[psutil.Process]:
    mine = psutil.Process().children(recursive=True)
    return [process for process in mine if any("--type=renderer" in word for word in process.cmdline())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--rows-a-page", type=int, nargs="+", default=[2_000, 10_000, 100_000])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scores = write_scores(Path(folder) / "scores.duckdb", given.people)
        rows = [measure(scores, size, given.people) for size in given.rows_a_page]
    print(
        f"{given.people:,} people; lines a page, files, all MB, written in s | first page: MB, ready s, memory MB, "
        "worst frame ms"
    )
    for row in rows:
        print(
            f"{row['rows_a_page']:>7,} {row['files']:>5} {row['all_mb']:>5} {row['write_s']:>6} | "
            f"{row['first_page_mb']:>6} {row['ready_s']:>6} {row['memory_mb']:>6} {row['worst_frame_ms']:>6}"
        )
    if given.json:
        given.json.write_text(json.dumps({"people": given.people, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
