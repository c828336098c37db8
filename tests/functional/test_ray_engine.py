"""The ray engine on two nodes in one machine: an interrupted night, a killed worker and a lost node change no row."""

import importlib.util
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest

from riskpred.config.night import NightConfig
from riskpred.fit.run import fit
from riskpred.records.ingest.run import run_ingest
from riskpred.score.plan import parse_time
from riskpred.score.run import NightSummary, score
from tests.circles import circles

if importlib.util.find_spec("ray") is None:  # not imported here: it reads its environment when it is
    pytest.skip("ray (extra `cluster`) is not installed", allow_module_level=True)

PART = 16
"""Subjects a part: 300 people in 3 shards make 21 parts."""

CIRCLES = """
study: circles
as_of: 2025-01-10T00:00:00
tables:
  - name: people
    file: people.csv
    subject: subject_id
    events:
      - {code: GENDER//F, time: {static: true}}
      - {code: MEDS_BIRTH, time: {column: born}}
      - {code: ENTRY, time: {column: entry}}
      - {code: MEDS_DEATH, kind: death, time: {column: died}}
  - name: pictures
    file: pictures.csv
    subject: subject_id
    time: {column: time}
    images: [{image_id: image_id, path: "{path}", image_type: DX}]
"""


class Stop:
    """Stands for Ctrl-C: interrupts the night when so many subjects are done."""

    def __init__(self, at: int) -> None:
        self._at = at

    def step(self, stage: str, done: int, total: int | None = None) -> None:
        if stage == "score" and done >= self._at:
            raise KeyboardInterrupt


class Attack:
    """Does one thing after the other, one at each part that is finished from now on."""

    def __init__(self, *blows: Any) -> None:
        self.left = list(blows)
        self._there: int | None = None

    def step(self, stage: str, done: int, total: int | None = None) -> None:
        if self._there is None:
            self._there = done
        elif stage == "score" and done > self._there and self.left:
            self.left.pop(0)()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, on the loopback address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
        made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        made.add_node(**node)
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def shards(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The people of the tiny study in three shards."""
    folder = tmp_path_factory.mktemp("shards") / "shards"
    run_ingest(str(tiny.study), tiny.source, folder, folder=True, shards=3)
    return folder


def night(tiny: Any, warehouse: Path, into: Path, **options: Any) -> NightSummary:
    log = {"log_file": str(into.with_suffix(".jsonl"))}
    settings = NightConfig().overridden(explain=5, part_size=PART, workers=options.pop("workers", None), logs=log)
    return score(warehouse, tiny.bundle, into, settings=settings, force=True, **options)


def rows(scores: Path, table: str) -> list[tuple[Any, ...]]:
    """Rows of a table without what differs between two runs of one night."""
    apart = {"risk_scores": "EXCLUDE (scored_at)", "pseudonyms": "EXCLUDE (pseudonym)"}.get(table, "")
    with duckdb.connect(str(scores), read_only=True) as connection:
        return connection.execute(f"SELECT * {apart} FROM {table} ORDER BY ALL").fetchall()


def kill_a_worker_of(node: Any) -> None:
    (raylet,) = node.all_processes["raylet"]
    workers = [
        one for one in psutil.Process(raylet.process.pid).children() if any("ray::RayActor" in w for w in one.cmdline())
    ]
    assert workers, "no worker to kill"
    os.kill(workers[0].pid, signal.SIGKILL)


def test_a_killed_worker_and_a_lost_node_cost_no_row_and_give_none_twice(
    tiny: Any, shards: Path, cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local, ray = tmp_path / "local.duckdb", tmp_path / "ray.duckdb"
    expected = night(tiny, shards, local, workers=1)
    with pytest.raises(KeyboardInterrupt):
        night(tiny, shards, ray, workers=1, progress=Stop(3 * PART))
    assert not ray.exists(), "nothing is published"
    (second,) = cluster.worker_nodes
    attack = Attack(
        lambda: kill_a_worker_of(cluster.head_node),
        lambda: None,
        lambda: cluster.remove_node(second, allow_graceful=False),
    )
    found = night(tiny, shards, ray, engine="ray", ray_address=cluster.address, progress=attack)
    assert not attack.left
    lines = [json.loads(line) for line in ray.with_suffix(".jsonl").read_text().splitlines()]
    assert [line["engine"] for line in lines if line["event"] == "night_planned"] == ["local", "ray"]
    assert lines[-1]["event"] == "published"
    assert found.resumed >= 2 * PART, "parts that the local engine finished are used"
    assert any("2 workers were lost" in note for note in found.notes), found.notes
    assert found.ledger["content_digest"] == expected.ledger["content_digest"]
    assert found.pairs == expected.pairs
    for table in ("risk_scores", "eligibility", "input_receipts", "explanations", "evidence", "rejects", "pseudonyms"):
        assert rows(ray, table) == rows(local, table), table
    assert rows(ray, "risk_scores")
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".parts")]
    assert capsys.readouterr().out == "", "what ray reports of its losses is no result"


def test_what_images_show_is_found_on_any_node(cluster: Any, tmp_path: Path) -> None:
    hospital = circles(tmp_path / "hospital")
    bundle = fit(str(hospital.study), hospital.warehouse, tmp_path / "bundle", seed=1)
    people = (
        "SELECT subject_id, any_value(time) FILTER (code = 'MEDS_BIRTH') AS born,"
        " any_value(time) FILTER (code = 'ENTRY') AS entry, any_value(time) FILTER (code = 'MEDS_DEATH') AS died"
        " FROM events GROUP BY 1"
    )
    source, study = hospital.warehouse.parent, tmp_path / "circles"
    with duckdb.connect(str(hospital.warehouse), read_only=True) as connection:
        connection.execute(f"COPY ({people}) TO '{source / 'people.csv'}'")
        connection.execute(f"COPY (SELECT subject_id, time, image_id, path FROM images) TO '{source / 'pictures.csv'}'")
    study.mkdir()
    (study / "ingest.yaml").write_text(CIRCLES)
    shards = tmp_path / "shards"
    run_ingest(str(study), source, shards, folder=True, shards=3)
    settings = NightConfig().overridden(explain=5, part_size=PART)
    found = []
    for engine in ("local", "ray"):
        into = tmp_path / engine / "scores.duckdb"
        into.parent.mkdir()
        address = cluster.address if engine == "ray" else None
        score(
            shards, bundle.path, into, parse_time("2025-01-10"),
            settings=settings, force=True, engine=engine, ray_address=address,
        )  # fmt: skip
        found.append({table: rows(into, table) for table in ("findings", "risk_scores", "explanations", "evidence")})
    local, ray = found
    assert len(local["findings"]) == sum(disc.radius > 0 for disc in hospital.discs)
    for table, wanted in local.items():
        assert ray[table] == wanted, table
