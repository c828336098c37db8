"""Decoding in worker processes: the same as in this one, in order; a decoder that dies costs its image only."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from riskpred.config.imaging import Recipe
from riskpred.imaging.decode import DECODER_CRASHED, DecodePool, Wanted, decode_one
from riskpred.imaging.paths import ImageProblem

SIZE = 16


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (40, 30), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "text.png").write_text("no picture")
    return tmp_path


def wanted(root, *names):
    return [Wanted(root, name, Recipe.of(size=SIZE)) for name in names]


def children(pool):
    return [worker.process.pid for worker in pool._running]


def gone(pid):
    """Whether no such process runs; one that nobody has waited for is over too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(what, seconds=20.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)


def test_two_workers_give_what_this_process_gives_in_the_order_asked(root):
    asked = wanted(root, *[f"{i % 12}.png" for i in range(30)], "text.png", "../0.png", "none.png", "")
    with DecodePool(2) as pool:
        pool.start()
        found = list(pool.decode(asked))
        pids = children(pool)
        assert list(pool.decode([])) == []
    assert len(pids) == 2
    assert all(map(gone, pids))
    for one, here in zip(found, map(decode_one, asked), strict=True):
        assert one.content == here.content
        if isinstance(here.result, ImageProblem):
            assert (one.result.reason, one.result.wanted) == (here.result.reason, here.result.wanted)
        else:
            np.testing.assert_array_equal(one.result.pixels, here.result.pixels)
            np.testing.assert_array_equal(one.result.spacing_mm, here.result.spacing_mm)
    assert [one.result.reason for one in found[-4:]] == [
        "unknown_format", "path_refused", "file_missing", "path_refused"
    ]  # fmt: skip


def test_bytes_that_are_known_are_not_decoded(root):
    content = decode_one(wanted(root, "3.png")[0]).content
    asked = [
        Wanted(root, "3.png", Recipe.of(size=SIZE), (content,)),
        Wanted(root, "4.png", Recipe.of(size=SIZE), (content,)),
    ]
    first, second = map(decode_one, asked)
    assert (first.result, first.content) == (None, content)
    assert second.result is not None


@pytest.mark.parametrize("workers", [1, 2])
def test_a_decoder_that_kills_itself_costs_the_image_it_was_reading(root, monkeypatch, tmp_path, workers):
    # A worker imports what it needs as any program does: here Pillow dies of one file, as a codec with a fault would.
    faulty = tmp_path / "faulty"
    faulty.mkdir()
    (faulty / "sitecustomize.py").write_text(
        "import os, signal\n"
        "from PIL import Image\n"
        "whole = Image.open\n"
        "def open_(stream, *args, **more):\n"
        "    picture = whole(stream, *args, **more)\n"
        "    if picture.size == (7, 7):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return picture\n"
        "Image.open = open_\n"
    )
    monkeypatch.syspath_prepend(str(faulty))
    Image.fromarray(np.eye(7, dtype=np.uint8)).save(root / "bomb.png")
    names = [f"{i % 12}.png" for i in range(20)]
    names[5], names[6], names[19] = "bomb.png", "bomb.png", "bomb.png"
    with DecodePool(workers) as pool:
        pool.start()
        found = list(pool.decode(wanted(root, *names)))
        assert all(not isinstance(one.result, ImageProblem) for one in pool.decode(wanted(root, "1.png", "2.png")))
    reasons = [one.result.reason if isinstance(one.result, ImageProblem) else None for one in found]
    assert [i for i, reason in enumerate(reasons) if reason] == [5, 6, 19]
    assert {reason for reason in reasons if reason} == {DECODER_CRASHED}


def test_few_files_start_one_worker_and_many_all(root):
    with DecodePool(2) as pool:
        assert children(pool) == []
        list(pool.decode(wanted(root, "0.png", "1.png")))
        assert len(children(pool)) == 1
        list(pool.decode(wanted(root, *["0.png"] * 100)))
        assert len(children(pool)) == 2


def test_a_worker_killed_between_two_calls_costs_nothing_but_itself(root):
    with DecodePool(1) as pool:
        list(pool.decode(wanted(root, "0.png")))
        os.kill(children(pool)[0], signal.SIGKILL)
        found = list(pool.decode(wanted(root, "0.png", "1.png")))
    # It had nothing in its hands: the next image is not to blame.
    assert not [one for one in found if isinstance(one.result, ImageProblem)]


def test_a_call_left_early_does_not_answer_the_next_one(root):
    with DecodePool(2) as pool:
        for _ in pool.decode(wanted(root, *[f"{i}.png" for i in range(12)])):
            break
        (found,) = pool.decode(wanted(root, "7.png"))
    np.testing.assert_array_equal(found.result.pixels, decode_one(wanted(root, "7.png")[0]).result.pixels)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_whoever_started_them(root, end):
    code = (
        "import signal; from pathlib import Path; from riskpred.config.imaging import Recipe\n"
        "from riskpred.imaging.decode import DecodePool, Wanted\n"
        # A shell that starts the tests in the background has its children ignore Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"root = Path({str(root)!r})\n"
        "with DecodePool(2) as pool:\n"
        "    pool.start()\n"
        "    list(pool.decode([Wanted(root, '0.png', Recipe())] * 4))\n"
        "    print(*[worker.process.pid for worker in pool._running], flush=True)\n"
        "    while True:\n"
        "        list(pool.decode([Wanted(root, f'{i % 12}.png', Recipe()) for i in range(50)]))\n"
    )
    # A group of its own, as a shell makes one: Ctrl-C goes to all of it.
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    try:
        pids = [int(pid) for pid in run.stdout.readline().split()]
        assert len(pids) == 2
        if end == signal.SIGINT:
            os.killpg(run.pid, end)
        else:
            run.send_signal(end)
        run.wait(20)
    finally:
        run.kill()
        run.wait()
        run.stdout.close()
    wait_until(lambda: all(map(gone, pids)))
