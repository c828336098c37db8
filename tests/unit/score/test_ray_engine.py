"""The ray engine without ray: what it refuses, what a worker says, and what becomes of parts when workers are lost."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pytest

from riskpred import __version__
from riskpred.cli import main
from riskpred.errors import InputError, OutputError, UsageError
from riskpred.score import ray_engine
from riskpred.score.compute import RISKS, Common, Task
from riskpred.score.image_cache import cache_path
from riskpred.score.images import Counts, NightImages
from riskpred.score.parts import Parts, is_finished
from riskpred.score.plan import Night as PlannedNight
from riskpred.score.ray_cluster import refuse_ray
from riskpred.score.ray_engine import MOST_TRIES, refuse_engine
from riskpred.score.ray_worker import Answer, Problem, RayWorker, Started, problem_of
from riskpred.score.worker import Place

Bundles = Callable[[int], Any]


# What cannot be.


def test_without_ray_the_verb_says_how_to_get_it(
    tmp_path: Path, small_hospital: Any, random_bundle: Bundles, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("riskpred.score.prepare.load_bundle", lambda _: random_bundle(1))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    warehouse = small_hospital.write("w.duckdb")
    words = ["score", str(warehouse), "--model", "bundle", "--into", str(tmp_path / "s.duckdb"), "--engine", "ray"]
    assert main(words) == 2
    said = capsys.readouterr()
    assert "ray is not installed" in said.err
    assert "pip install 'riskpred[cluster]'" in said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("8.8.8.8:6379", "public address"),
        ("[2001:4860:4860::8888]:6379", "public address"),
        ("10.0.0.5", "not an address"),
        ("ray://10.0.0.5:10001", "not an address"),
        ("10.0.0.5:port", "not an address"),
        ("no-such-host.invalid:6379", "no such host"),
    ],
)
def test_only_an_address_on_a_private_network_will_do(address: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(UsageError, match=said):
        refuse_ray(address)


@pytest.mark.parametrize("address", [None, "auto", "127.0.0.1:6379", "10.1.2.3:6379", "[fd00::1]:6379"])
def test_loopback_and_private_addresses_will_do(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    refuse_ray(address)


def test_one_file_cannot_be_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    file = tmp_path / "w.duckdb"
    file.touch()
    with pytest.raises(UsageError, match="is one file") as raised:
        refuse_engine(file, None)
    assert "--into FOLDER/" in raised.value.message
    refuse_engine(tmp_path, None)


def test_an_address_without_the_engine_is_a_mistake(capsys: Any) -> None:
    words = ["score", "w", "--model", "b", "--into", "s", "--ray-address", "10.0.0.1:6379"]
    assert main(words) == 2
    assert "--engine ray" in capsys.readouterr().err


def test_ray_is_loaded_only_where_it_is_used() -> None:
    code = "import sys, riskpred.score.run, riskpred.score.ray_actor; print('ray' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


# What a worker says.


@pytest.fixture
def given(
    tmp_path: Path, small_hospital: Any, random_bundle: Bundles, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Arguments of a worker that can do everything, and the parts it writes."""
    monkeypatch.setattr("riskpred.score.worker.load_bundle", lambda _: random_bundle(1))
    warehouse = small_hospital.write("w.duckdb")
    as_of = 1_767_225_600_000_000  # 2026-01-01
    parts = Parts(tmp_path / "parts", {}, b"salt")
    night = PlannedNight("run", as_of, as_of, "digest", random_bundle(1).sha256)
    from riskpred.records.warehouse import Warehouse

    with Warehouse.open(warehouse) as source:
        place = Place(warehouse, Path("bundle"), None, source.state)
    common = Common(night, parts.folder, b"salt", 5, 4096, 2048)
    workers: list[RayWorker] = []
    yield SimpleNamespace(place=place, common=common, parts=parts, moment=as_of, workers=workers)
    for worker in workers:
        worker.close()


def made(given: Any, **other: Any) -> RayWorker:
    options = {"place": given.place, "common": given.common, "version": __version__, "pictures": True, "decoders": 0}
    worker = RayWorker(**{**options, **other})
    given.workers.append(worker)
    return worker


def test_a_worker_that_has_all_it_needs_makes_parts(given: Any, small_hospital: Any, tmp_path: Path) -> None:
    worker = made(given)
    assert worker.start().problem is None
    subjects = np.arange(101, 141)
    cache = tmp_path / "scores.duckdb"
    pictures = sum(subject <= 140 for _, subject, *_ in small_hospital.images)
    assert pictures > 10
    for number, (cached, decoded) in enumerate([(0, pictures), (pictures, 0)]):
        # As the engine does it: what the cache knows goes along, what is learned comes back.
        with NightImages(worker._worker.bundle.model, cache, "fp32", workers=0) as images:
            luggage = {name: source.packed(subjects) for name, source in images.sources.items()}
            answer = worker.make(Task(RISKS, number, subjects, given.moment), luggage)
            assert answer.problem is None
            for name, (news, counts) in answer.images.items():
                images.sources[name].take_in(news, counts)
            assert images.counts == Counts(cached, decoded, 0)
    with duckdb.connect(str(cache_path(cache)), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchall() == [(pictures,)]
    finished = given.parts.finished(RISKS)
    assert finished[0]["content"] == finished[1]["content"], "known images give the same risks"
    assert finished[0]["subjects"] == 40


def test_a_worker_answers_for_what_it_was_given_only(given: Any) -> None:
    """Reasons are told with what stages found, while an encoder's pixels are read anew, as by the local engine."""
    worker = made(given)
    assert worker.start().problem is None
    answer = worker.make(Task(RISKS, 0, np.arange(101, 111), given.moment), {"a stage": None})
    assert answer.problem is None
    assert answer.images == {}, "the engine would not know whose news these are"


def test_a_worker_says_what_its_machine_lacks(given: Any, tmp_path: Path) -> None:
    night = given.common.night

    def with_common(**changes: Any) -> Common:
        values = {name: getattr(given.common, name) for name in given.common.__dataclass_fields__}
        return Common(**{**values, **changes})

    other = PlannedNight("run", night.as_of, night.as_of, "digest", "0" * 64)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("is installed", {"version": "0.0.1"}),
        ("must be shared", {"common": with_common(folder=tmp_path / "elsewhere")}),
        ("must be shared", {"common": with_common(salt=b"that of another night")}),
        ("not the bundle", {"common": with_common(night=other)}),
    ]
    for said, changes in cases:
        assert said in (made(given, **changes).start().problem or ""), said


def test_an_exception_comes_back_as_class_and_line_and_leaves_no_part(
    given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = made(given)
    assert worker.start().problem is None

    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("Erika Mustermann has 7.77")

    with monkeypatch.context() as patch:
        patch.setattr("riskpred.score.chunk.build", fails)
        answer = worker.make(Task(RISKS, 0, np.arange(101, 141), given.moment), {})
    assert answer.problem is not None
    assert answer.problem.kind == "ValueError"
    assert answer.problem.at.startswith("riskpred/score/chunk.py:")
    assert "Mustermann" not in repr(answer)
    assert "7.77" not in repr(answer)
    assert not any(given.parts.folder.glob("risks*"))
    assert worker.make(Task(RISKS, 0, np.arange(101, 141), given.moment), {}).problem is None
    assert is_finished(given.parts.folder, RISKS, 0)


def test_an_error_of_ours_comes_back_whole() -> None:
    error = InputError("w: was changed.", do="run again")
    assert problem_of(error).error is error


# What becomes of parts.


class Lost(Exception):
    """Stands for ray.exceptions.RayError."""


class Cluster:
    """A cluster in this process that stands in for the module `ray`: what a worker does is decided by the test.

    Args:
        starts, makes: called with the number of a worker (and a part's); return what it says, or raise Lost.
    """

    def __init__(self, cpus: int, starts: Callable[[int], Started], makes: Callable[[int, int], Answer]) -> None:
        self._cpus, self._starts, self._makes = cpus, starts, makes
        self.exceptions = SimpleNamespace(RayError=Lost)
        self.workers, self.killed = 0, set[int]()
        self._said: dict[int, Any] = {}

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self._cpus)}

    def remote(self, **_: Any) -> Callable[[type], Any]:
        return lambda _: SimpleNamespace(remote=self._new)

    def _new(self, *_: Any) -> Any:
        number, self.workers = self.workers, self.workers + 1

        def method(does: Callable[..., Any]) -> Any:
            def call(*given: Any) -> int:
                assert number not in self.killed, "asked after it was let go"
                self._said[len(self._said)] = lambda: does(number, *given)
                return len(self._said) - 1

            return SimpleNamespace(remote=call)

        start, make = method(self._starts), method(lambda k, task, _: self._makes(k, task.number))
        return SimpleNamespace(number=number, start=start, make=make)

    def wait(self, waiting: Sequence[int], timeout: float) -> tuple[list[int], list[int]]:
        return [waiting[-1]], list(waiting[:-1])

    def get(self, answer: int) -> Any:
        return self._said[answer]()

    def kill(self, actor: Any) -> None:
        self.killed.add(actor.number)


def tasks(count: int) -> list[Task]:
    return [Task(RISKS, k, np.arange(10 * k, 10 * k + 10), 0, (0,)) for k in range(count)]


def crew(cluster: Cluster, said: list[str], given: Any) -> Any:
    return ray_engine._Crew(cluster, given.place, given.common, False, 0, None, said.append)


def well(number: int) -> Started:
    return Started(f"node{number % 2}")


def test_whoever_is_lost_and_whenever_every_part_is_made_and_counted_once(given: Any) -> None:
    for seed in range(40):
        draw = np.random.default_rng(seed)
        made: list[int] = []
        lost = dict.fromkeys(range(12), 0)

        def starts(number: int, draw: Any = draw) -> Started:
            if draw.random() < 0.2:
                raise Lost
            return well(number)

        def makes(worker: int, part: int, draw: Any = draw, made: Any = made, lost: Any = lost) -> Answer:
            chance = draw.random()
            if chance < 0.3 and lost[part] < MOST_TRIES - 1:
                lost[part] += 1
                if chance < 0.1:
                    return Answer(Problem("ValueError", "riskpred/x.py:1"))
                if chance < 0.2:
                    made.append(part)  # it finished, and was lost before it could say so
                raise Lost
            made.append(part)
            return Answer()

        cluster, said, done = Cluster(4, starts, makes), list[str](), list[tuple[int, bool]]()
        one = crew(cluster, said, given)
        failed = one.make(tasks(12), {}, lambda more, part, done=done: done.append((more, part)))
        one.dismiss()
        assert failed == []
        assert set(made) == set(range(12)), seed
        assert done == [(10, True)] * 12, seed
        assert cluster.killed == set(range(cluster.workers)), "all were let go"
        assert any("were lost" in sentence for sentence in said) == (cluster.workers > 4)


def test_a_part_that_is_lost_again_and_again_ends_the_night_by_name(given: Any) -> None:
    def makes(worker: int, part: int) -> Answer:
        if part == 5:
            raise Lost
        return Answer()

    cluster = Cluster(2, well, makes)
    with pytest.raises(OutputError, match=r"part risks 5 \(10 subjects\) was lost with 3 workers") as raised:
        crew(cluster, [], given).make(tasks(9), {}, lambda *_: None)
    assert "lower part_size" in raised.value.message


def test_a_part_at_which_workers_fail_is_handed_back_and_the_others_are_made(given: Any) -> None:
    tried: list[int] = []

    def makes(worker: int, part: int) -> Answer:
        if part == 2:
            tried.append(worker)
            return Answer(Problem("OSError", "riskpred/score/parts.py:99"))
        return Answer()

    said, done = list[str](), list[int]()
    failed = crew(Cluster(2, well, makes), said, given).make(tasks(5), {}, lambda more, _: done.append(more))
    assert [task.number for task in failed] == [2]
    assert len(tried) == MOST_TRIES
    assert done == [10] * 4
    assert "part risks 2 failed 3 times on workers: OSError at riskpred/score/parts.py:99" in said


def test_an_error_of_ours_ends_the_night_at_once(given: Any) -> None:
    asked: list[int] = []

    def makes(worker: int, part: int) -> Answer:
        asked.append(part)
        return Answer(problem_of(InputError("w: was changed.", do="run again")))

    with pytest.raises(InputError, match="was changed"):
        crew(Cluster(1, well, makes), [], given).make(tasks(5), {}, lambda *_: None)
    assert asked == [0]


def test_machines_that_cannot_help_are_named_once_and_others_go_on(given: Any) -> None:
    def starts(number: int) -> Started:
        return Started("node1", "x is not mounted.") if number % 2 else Started("node0")

    said, done = list[str](), list[int]()
    crew(Cluster(6, starts, lambda *_: Answer()), said, given).make(tasks(7), {}, lambda more, _: done.append(more))
    assert done == [10] * 7
    assert [sentence for sentence in said if "cannot help" in sentence] == [
        "ray: a worker on node1 cannot help: x is not mounted."
    ]


def test_a_cluster_on_which_nobody_can_help_ends_the_night_with_the_reason(given: Any) -> None:
    nobody = Cluster(3, lambda _: Started("node0", "x is not mounted."), lambda *_: Answer())
    with pytest.raises(OutputError, match="no worker is left") as raised:
        crew(nobody, [], given).make(tasks(4), {}, lambda *_: None)
    assert "node0: x is not mounted." in raised.value.message

    def dies(number: int) -> Started:
        raise Lost

    dying = Cluster(3, dies, lambda *_: Answer())
    with pytest.raises(OutputError, match="no worker is left"):
        crew(dying, [], given).make(tasks(4), {}, lambda *_: None)
    assert dying.workers == 3 + 3 * MOST_TRIES, "it is not tried for ever"


def test_parts_that_are_not_seen_from_here_end_the_night(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "_PATIENCE_SECONDS", 0.3)
    with pytest.raises(OutputError, match="2 parts that workers finished are not seen from here"):
        ray_engine._wait_until_seen(given.parts.folder, tasks(2))


def test_a_cluster_that_lost_its_last_machine_is_not_waited_for(given: Any) -> None:
    class Gone(Cluster):
        def wait(self, waiting: Sequence[int], timeout: float) -> tuple[list[int], list[int]]:
            return [], list(waiting)

        def cluster_resources(self) -> dict[str, float]:
            return {"CPU": float(self._cpus)} if not self.workers else {}

    began = time.monotonic()
    with pytest.raises(OutputError, match="no worker is left"):
        crew(Gone(2, well, lambda *_: Answer()), [], given).make(tasks(4), {}, lambda *_: None)
    assert time.monotonic() - began < 60
