"""What a night costs against the bare forward passes, in processor time, wall time and memory, and what news costs."""

import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.night import changed, command, nights
from tests.benchmarks.night.data import AS_OF, Hospital, describe, multiplied

NEXT_DAY: Final = "2015-01-02T00:00:00"
NEWS_AT: Final = "2015-01-01T12:00:00"

_WRITING: Final = re.compile(r"write|verif|publish|ledger|checkpoint|swap|commit")


def full_night(
    warehouse: Path,
    bundle: Path,
    scores: Path,
    work: Path,
    cores: int | None,
    as_of: str = AS_OF,
    workers: int | None = None,
) -> dict[str, Any]:
    """One whole night without feature reasons into a new file, and what it took."""
    scores.unlink(missing_ok=True)
    return night(warehouse, bundle, scores, work, cores, as_of, workers)


def night(
    warehouse: Path,
    bundle: Path,
    scores: Path,
    work: Path,
    cores: int | None,
    as_of: str = AS_OF,
    workers: int | None = None,
) -> dict[str, Any]:
    """One night beside those that the scores file holds. `workers`: asked for; None = as many as the night thinks."""
    words = ["score", warehouse, "--model", bundle, "--into", scores, "--as-of", as_of, "--explain", "0", "--force"]
    words += [] if workers is None else ["--workers", str(workers)]
    ran = command.run(words, work, cores).expect(0, 14)
    ledger = nights.latest(scores)
    counted = {
        name: ledger[name] for name in ("subjects", "scored_pairs", "carried_pairs", "risk_rows", "numeric_path")
    }
    return {
        **counted,
        "wall_s": round(ran.wall_s, 2),
        "cpu_s": round(ran.cpu_s, 2),
        "peak_mb": round(ran.peak_mb),
        "peak_shared_mb": round(ran.peak_shared_mb),
        "file_bytes": scores.stat().st_size,
        "stages_s": command.stages(ran.err),
    }


def bare(warehouse: Path, bundle: Path, work: Path, processes: int, people: int) -> dict[str, Any]:
    """Seconds per million people of the bare forward passes, on one core per process."""
    words = [sys.executable, "-m", "tests.benchmarks.night.bare", str(warehouse), str(bundle)]
    words += ["--subjects", str(people), "--processes", str(processes)]
    return command.run_program(words, ("bare",), work, processes).expect(0).json


def people_scored(scores: Path) -> int:
    """Subjects with a risk in the newest night."""
    import duckdb

    with duckdb.connect(str(scores), read_only=True) as connection:
        sql = "SELECT count(DISTINCT subject_id) FROM risk_scores WHERE run_id = ?"
        return int(connection.execute(sql, [nights.latest(scores)["run_id"]]).fetchall()[0][0])


def speed(hospital: Hospital, work: Path, subjects: int, in_memory: int = 20_000) -> dict[str, Any]:
    """The part `speed`: the whole night on one core and on two, and the forward passes alone, one after the other."""
    warehouse = multiplied(hospital.warehouse, work / f"{subjects}.duckdb", subjects)
    scores = work / "speed.duckdb"
    found: dict[str, Any] = {**describe(warehouse)}
    for cores in (1, 2):
        alone = bare(warehouse, hospital.bundle, work, cores, min(in_memory, subjects // 4))
        whole = full_night(warehouse, hospital.bundle, scores, work, cores)
        millions = people_scored(scores) / 1e6
        found[f"cores_{cores}"] = {
            "night": whole,
            "forward_cpu_s": round(alone["cpu_s_per_million"] * millions, 2),
            "forward_wall_s": round(alone["wall_s_per_million"] * millions, 2),
            "people": round(millions * 1e6),
        }
    one, two = found["cores_1"], found["cores_2"]
    found["cpu_over_forward"] = round(one["night"]["cpu_s"] / one["forward_cpu_s"], 3)
    found["wall_over_forward_2_cores"] = round(two["night"]["wall_s"] / two["forward_wall_s"], 3)
    writing = sum(seconds for name, seconds in one["night"]["stages_s"].items() if _WRITING.search(name))
    found["written_rows_per_s"] = round(one["night"]["risk_rows"] / writing) if writing else None
    scores.unlink()
    return found


def memory(hospital: Hospital, work: Path, subjects: int) -> dict[str, Any]:
    """The part `memory`: largest resident memory of the process tree, at N subjects and at a tenth of them.

    With a process a core both times (left alone, a short night has fewer), and once more in one process.
    """
    found: dict[str, Any] = {}
    scores, cores = work / "memory.duckdb", len(os.sched_getaffinity(0))
    for name, number, workers in (
        ("tenth", subjects // 10, cores),
        ("all", subjects, cores),
        ("one_process", subjects, 1),
    ):
        warehouse = multiplied(hospital.warehouse, work / f"{number}.duckdb", number)
        made = full_night(warehouse, hospital.bundle, scores, work, None, workers=workers)
        found[name] = {"subjects": number, "workers": workers, **made}
    scores.unlink()
    return {
        **found,
        "peak_mb": found["all"]["peak_mb"],
        "growth": round(found["all"]["peak_mb"] / found["tenth"]["peak_mb"], 3),
    }


def news(hospital: Hospital, work: Path, subjects: int) -> dict[str, Any]:
    """The part `news`: the night after one in which 1 % of the subjects got a new event, against a full one.

    The full night of the same warehouse goes into a new file, where there is nothing to carry from.
    """
    warehouse = multiplied(hospital.warehouse, work / f"{subjects}.duckdb", subjects)
    tomorrow, scores, whole = work / f"{subjects}-news.duckdb", work / "news.duckdb", work / "news-full.duckdb"
    subjects_with_news = changed.changed(warehouse, tomorrow, NEWS_AT)
    full_night(warehouse, hospital.bundle, scores, work, None)
    copy = _copy_seconds(scores)
    after = night(tomorrow, hospital.bundle, scores, work, None, NEXT_DAY)
    full = full_night(tomorrow, hospital.bundle, whole, work, None, NEXT_DAY)
    alone, most = nights.apart(scores, whole, only=subjects_with_news)
    for path in (tomorrow, scores, whole):
        path.unlink()
    return {
        "subjects": subjects,
        "with_news": len(subjects_with_news),
        "night": after,
        "full_night": full,
        "copy_of_the_file_s": round(copy, 2),
        "share_of_full": round(after["wall_s"] / full["wall_s"], 3),
        "share_of_full_cpu": round(after["cpu_s"] / full["cpu_s"], 3),
        "allowed_s": round(0.1 * full["wall_s"] + copy, 2),
        "changed_rows_in_one_only": alone,
        "changed_rows_most_apart": most,
    }


def _copy_seconds(file: Path) -> float:
    """How long a copy of the file takes until it is on the disk."""
    beside = file.with_suffix(".copy")
    began = time.monotonic()
    shutil.copyfile(file, beside)
    with beside.open("rb") as stream:
        os.fsync(stream.fileno())
    seconds = time.monotonic() - began
    beside.unlink()
    return seconds
