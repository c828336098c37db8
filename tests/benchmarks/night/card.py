"""What a CUDA device gives a night: nights, forward passes and image encoders with it and without, on one machine.

    python -m tests.benchmarks.night.card --work DIR [--subjects N]        all of it; writes DIR/results/card.json
    python -m tests.benchmarks.night.card --here WAREHOUSE BUNDLE          encoders alone, on what this process sees
    python -m tests.benchmarks.night.card --images NETWORK [SUBJECTS]      images alone, likewise

Without a card is the same machine with the card hidden (CUDA_VISIBLE_DEVICES=).
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from riskpred.features.build import build
from riskpred.model.bundle import Bundle, load_bundle
from riskpred.model.device import cuda, cuda_name
from riskpred.model.image_fast import agreement, fast_images
from riskpred.model.paths import BF16, FP32
from riskpred.model.tensors import ModalityTensors
from riskpred.model.threads import one_thread
from riskpred.score.assess import bare_forward
from tests.benchmarks.night import command, images, results
from tests.benchmarks.night.bare import inputs_of
from tests.benchmarks.night.cost import full_night
from tests.benchmarks.night.data import describe, hospital, multiplied

_PEOPLE: Final = 20_000
_PICTURES: Final = {"without": 400, "with": 4000}
"""Pictures that a leg takes: a processor alone would need minutes for the large network's."""
_DISTINCT: Final = 40
_MIB: Final = 2**20


@contextmanager
def hidden(yes: bool = True) -> Iterator[None]:
    """Programs started in the block see no card."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if yes:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        yield
    finally:
        if yes:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
            if before is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def measure(work: Path, subjects: int) -> dict[str, Any]:
    """The part `card`: all of it, beginning with a small night each way, in which what is compiled is compiled."""
    made = hospital(work)
    warehouse = multiplied(made.warehouse, work / f"{subjects}.duckdb", subjects)
    device = cuda()
    assert device is not None, "there is a CUDA device to measure"
    found: dict[str, Any] = {**describe(warehouse), "card": cuda_name(device), "torch": torch.__version__}
    files = {way: work / f"card-{way}.duckdb" for way in ("without", "with")}
    for way, scores in files.items():
        with hidden(way == "without"):
            full_night(made.warehouse, made.bundle, scores, work, None)
            for cores in (1, None):
                print(f"  night {way} the card, {cores or 'all'} cores", flush=True)
                with card_memory() as most:
                    night = full_night(warehouse, made.bundle, scores, work, cores)
                found[f"night_{way}_{cores or 'all'}"] = {**night, "card_peak_mb": round(most[0])}
            print(f"  forward {way} the card", flush=True)
            words = [sys.executable, "-m", "tests.benchmarks.night.card", "--here", str(warehouse), str(made.bundle)]
            found[f"forward_{way}"] = command.run_program(words, ("card",), work, 1).expect(0).json
    found |= {"apart": apart(*files.values()), "reasons_apart": reasons_apart(*files.values())}
    for network in images.PLANS:
        for way in files:
            print(f"  images {network} {way} the card", flush=True)
            words = [sys.executable, "-m", "tests.benchmarks.night.card", "--images", network, str(_PICTURES[way])]
            with hidden(way == "without"):
                found[f"images_{network}_{way}"] = command.run_program(words, ("card",), work, None).expect(0).json
    for scores in files.values():
        scores.unlink()
    return found


def apart(one: Path, other: Path) -> dict[str, float]:
    """Rows that only one of two files of one night has, and the largest difference of each number of a risk.

    A percentile is a rank: it moves by whole steps where a risk lies next to one of the reference's.
    """
    import duckdb

    numbers = ("risk", "risk_low", "risk_high", "reference_risk", "percentile")
    most = ", ".join(f"max(abs(a.{name} - b.{name}))" for name in numbers)
    with duckdb.connect() as connection:
        for name, path in (("one", one), ("other", other)):
            connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
        both = "one.risk_scores a FULL JOIN other.risk_scores b USING (subject_id, outcome, horizon_years)"
        sql = f"SELECT count(*) FILTER (a.risk IS NULL OR b.risk IS NULL), count(*), {most} FROM {both}"
        alone, rows, *largest = connection.execute(sql).fetchall()[0]
    return {"rows": rows, "rows_in_one_only": alone, **dict(zip(numbers, largest, strict=True))}


def reasons_apart(one: Path, other: Path) -> float:
    """Largest difference of a reason's contribution, in risk points, between the nights of two files."""
    import duckdb

    with duckdb.connect() as connection:
        for name, path in (("one", one), ("other", other)):
            connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
        key = "subject_id, outcome, horizon_years, modality, feature"
        both = f"one.explanations a JOIN other.explanations b USING ({key})"
        sql = f"SELECT count(*), max(abs(a.contribution - b.contribution)) FROM {both}"
        rows, most = connection.execute(sql).fetchall()[0]
    assert rows, "nights give modality reasons to everyone"
    return float(most)


@contextmanager
def card_memory() -> Iterator[list[float]]:
    """Most MiB of the card that were taken while the block runs, twice a second; the driver's own count."""
    free_before, _ = torch.cuda.mem_get_info()
    most, done = [0.0], threading.Event()

    def look() -> None:
        while not done.wait(0.5):
            free, _ = torch.cuda.mem_get_info()
            most[0] = max(most[0], (free_before - free) / _MIB)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def here(warehouse: Path, bundle: Path) -> dict[str, Any]:
    """Microseconds per person of each modality's encoders and of the bare forward, on one core and any card."""
    loaded = load_bundle(bundle)
    batches, people = inputs_of(loaded, warehouse, _PEOPLE)
    found: dict[str, Any] = {"people": people}
    with one_thread(), torch.no_grad():
        for path in (FP32, BF16):
            all_of = partial(_each, partial(bare_forward, loaded, numeric_path=path), batches)
            found[f"forward_{path}_us"] = 1e6 * _least(all_of) / people
            for name, encoders in loaded.evaluator(path).encoders.items():
                some = [_present(inputs[name]) for inputs in batches]
                found[f"{name}_{path}_us"] = 1e6 * _least(partial(_each, encoders, some)) / people
        risks = [bare_forward(loaded, inputs, numeric_path=path)[0].risk for path in (FP32, BF16) for inputs in batches]
        exact, reduced = (np.concatenate(part) for part in (risks[: len(batches)], risks[len(batches) :]))
        found["bf16_risks_apart"] = float(abs(exact - reduced).max())
        if cuda() is not None:
            found["card_busy_us"] = 1e6 * _busy(loaded, batches) / people
    return found


def _present(given: ModalityTensors) -> ModalityTensors:
    return given.take(given.present.nonzero()[:, 0])


def _each(run: Callable[[Any], object], over: Sequence[Any]) -> None:
    for one in over:
        run(one)


def _busy(bundle: Bundle, batches: list[Mapping[str, ModalityTensors]]) -> float:
    """Seconds in which the card computes or copies, for all batches, in fp32."""
    from torch.profiler import ProfilerActivity, profile

    encoders = bundle.evaluator(FP32)
    encoders.encode(batches[0])
    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        for inputs in batches:
            encoders.encode(inputs)
        torch.cuda.synchronize()
    return float(sum(event.self_device_time_total for event in watched.key_averages())) / 1e6


def pictures(network: str, subjects: int) -> dict[str, Any]:
    """Images a second of one network's encoders: alone on pixels in memory, and with the decode as a night has it."""
    size, channels = images.PLANS[network]
    model = images._model(size, channels)
    found: dict[str, Any] = {"size": size, "channels": list(channels), "members": model.members, "subjects": subjects}
    with tempfile.TemporaryDirectory() as place, one_thread():
        root = Path(place)
        images._write(root, subjects, "jpeg", _DISTINCT)
        rows = images._rows(root, subjects, "jpeg")
        chunk, of_chunk = images._chunks(rows[: max(64, subjects // 16)])[0]
        batch = build(chunk, of_chunk, model.plan, root)
        pixels = batch.inputs["image"].pixels  # type: ignore[union-attr]
        for path in (FP32, BF16):
            fast = fast_images(model, "image", path)  # type: ignore[arg-type]
            found[f"{path}_took"], found[f"{path}_note"] = fast.numeric_path, fast.note
            found[f"{path}_images_s"] = len(pixels) / _least(partial(fast.encode, pixels))
            found[f"{path}_risk_apart"] = agreement(model, batch, {"image": fast}).risk
        began = time.perf_counter()
        images._night(model, root, root / "scores.duckdb", rows, None)
        found["with_decode_images_s"] = subjects / (time.perf_counter() - began)
    return found


def _least(run: Callable[[], object], times: int = 2) -> float:
    """Least wall seconds of some runs, after one that is not counted."""
    run()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)


def main(words: list[str] | None = None) -> int:
    """Read the arguments, measure, print or write. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.night.card", description=__doc__)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--subjects", type=int, default=100_000)
    parser.add_argument("--here", nargs=2, type=Path)
    parser.add_argument("--images", nargs=2, metavar=("NETWORK", "SUBJECTS"))
    given = parser.parse_args(words)
    if given.here is not None:
        print(json.dumps(here(*given.here)))
    elif given.images is not None:
        print(json.dumps(pictures(given.images[0], int(given.images[1]))))
    else:
        if given.work is None:
            parser.error("--work names the folder of the night benchmark")
        if cuda() is None:
            parser.error("there is no CUDA device here")
        work = given.work.resolve()
        print(results.write(work, "card", measure(work, given.subjects)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
