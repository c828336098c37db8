"""The bare forward passes of a bundle: tensors in memory, nothing read, nothing written. A program of its own.

What the night's whole cost is divided by. `forward` is the one place that says which passes those are.
"""

import argparse
import json
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from riskpred.features.build import build
from riskpred.model.bundle import Bundle, load_bundle
from riskpred.model.tensors import ModalityTensors
from riskpred.model.threads import one_thread
from riskpred.records.cohort import cohort, rows_at
from riskpred.records.warehouse import Warehouse
from riskpred.score.assess import BATCH_SIZE, bare_forward
from riskpred.score.plan import parse_time
from tests.benchmarks.night.data import AS_OF

Inputs = list[Mapping[str, ModalityTensors]]


def forward(bundle: Bundle, inputs: Mapping[str, ModalityTensors]) -> None:
    """Rows through the model: every member's risks, intervals and modality reasons, as each night owes to everyone.

    On the fastest path that a bundle permits for tables and series.
    """
    bare_forward(bundle, inputs, BATCH_SIZE)


def inputs_of(bundle: Bundle, warehouse: Path, subjects: int, skip: int = 0) -> tuple[Inputs, int]:
    """Batches of the first `subjects` eligible people after `skip` ids, as tensors; and how many people they hold."""
    batches: Inputs = []
    taken = 0
    with Warehouse.open(warehouse) as opened:
        ids = opened.subject_ids[skip:]
        for chunk in opened.chunks(8192, ids[: 2 * subjects]):
            rows = cohort(chunk, bundle.config.outcomes, opened.data_until, parse_time(AS_OF))
            eligible = np.flatnonzero(np.stack(list(rows.eligible.values())).any(axis=0))[: subjects - taken]
            if not len(eligible):
                continue
            batch = build(chunk, rows_at(rows, eligible), bundle.plan, opened.image_root)
            tensors = bundle.model.tensors(batch)
            for part in torch.split(torch.arange(len(batch)), BATCH_SIZE):
                batches.append({name: given.take(part) for name, given in tensors.items()})
            taken += len(batch)
            if taken >= subjects:
                break
    return batches, taken


def timed(warehouse: Path, bundle: Path, subjects: int, skip: int, start_at: float) -> tuple[int, float, float]:
    """People, wall and CPU seconds of one process that begins at the clock's `start_at` (several begin together)."""
    loaded = load_bundle(bundle)
    batches, people = inputs_of(loaded, warehouse, subjects, skip)
    with one_thread():
        for inputs in batches[:2]:
            forward(loaded, inputs)  # the first pass compiles and fills caches
        time.sleep(max(0.0, start_at - time.time()))
        wall, cpu = time.monotonic(), time.process_time()
        for inputs in batches:
            forward(loaded, inputs)
        return people, time.monotonic() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("warehouse", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--subjects", type=int, default=20_000, help="people with tensors in memory, per process")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    # Loading takes a while: all processes begin the passes at one moment, or they would not share the machine.
    start_at = time.time() + (0 if given.processes == 1 else 60)
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        jobs = [
            pool.submit(timed, given.warehouse, given.bundle, given.subjects, n * 2 * given.subjects, start_at)
            for n in range(given.processes)
        ]
        done = [job.result() for job in jobs]
    people = sum(one[0] for one in done)
    wall, cpu = max(one[1] for one in done), sum(one[2] for one in done)
    print(
        json.dumps(
            {"people": people, "wall_s_per_million": 1e6 * wall / people, "cpu_s_per_million": 1e6 * cpu / people}
        )
    )


if __name__ == "__main__":
    main()
