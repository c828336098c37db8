"""What a measured command cost: with the processes that its fork server started, and memory that they share once."""

import sys
from pathlib import Path

import pytest

from tests.benchmarks.night.command import run_program

BURNS = """
import multiprocessing, sys, time

def burn(seconds):
    held = bytearray(b"x" * 2**26)
    while time.process_time() < seconds:
        pass
    time.sleep(0.5)
    return len(held)

if __name__ == "__main__":
    if int(sys.argv[1]):
        with multiprocessing.get_context(sys.argv[3]).Pool(int(sys.argv[1])) as pool:
            pool.map(burn, [float(sys.argv[2])] * int(sys.argv[1]), 1)
            pool.close()
            pool.join()
"""


@pytest.mark.parametrize("how", ["forkserver", "spawn"])
def test_workers_count_whoever_started_them(tmp_path: Path, how: str) -> None:
    program = tmp_path / "burns.py"
    program.write_text(BURNS)
    ran = run_program([sys.executable, str(program), "2", "0.6", how], ("burns",), tmp_path).expect(0)
    assert 1.2 <= ran.cpu_s < 6
    assert ran.peak_mb > 128
    assert 128 < ran.peak_shared_mb <= ran.peak_mb


def test_a_process_that_outlives_its_command_is_no_part_of_a_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.benchmarks.night.command._ORPHAN_SECONDS", 0.5)
    leaves = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid)"
    )
    with pytest.raises(RuntimeError, match="after their leader"):
        run_program([sys.executable, "-W", "ignore", "-c", leaves], ("leaves",), tmp_path)
    pid = int(next(tmp_path.glob("stdout-*")).read_text())
    assert not Path(f"/proc/{pid}").exists(), "nor does it go on"
