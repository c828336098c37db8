"""What is kept of images between nights: exact, keyed by content and encoder, whole whatever ends the night."""

import os
import signal
import subprocess
import sys
import time

import duckdb
import numpy as np
import pytest

from riskpred.errors import OutputError
from riskpred.features.image import EncodedImage
from riskpred.imaging.paths import ImageProblem
from riskpred.records.chunk import ImageRow
from riskpred.score.image_cache import ImageCache, cache_path, forget

SHAPE = (3, 5)
ENCODER = "e" * 64


@pytest.fixture
def scores(tmp_path):
    return tmp_path / "scores.duckdb"


def row(subject, name, stamp="10 20", sha256=None, image_type="DX"):
    return ImageRow(f"id {name}", subject, 0, image_type, name, sha256, stamp)


def encoding(seed, spacing=(np.nan, 0.25, np.nan)):
    """An image of one to three pictures."""
    pictures = 1 + seed % 3
    rng = np.random.default_rng(seed)
    sent = rng.normal(size=(pictures, *SHAPE)).astype(np.float32)
    digests = tuple(f"{seed:031x}{at}" for at in range(pictures))
    return EncodedImage(sent, rng.random((pictures, 2)), np.array(spacing), digests)


def filled(scores, count=10, today=100):
    with ImageCache(cache_path(scores), today=today) as cache:
        for i in range(count):
            cache.learn(ENCODER, row(i, f"{i}.png"), f"content {i}", encoding(i))
    return cache


def entries(scores):
    with duckdb.connect(str(cache_path(scores)), read_only=True) as connection:
        return connection.execute("SELECT subject_id, path, used_day FROM entries ORDER BY 1, 2").fetchall()


def known(cache, subjects, encoder=ENCODER):
    return cache.known(encoder, np.array(subjects, dtype=np.int64), SHAPE)


def test_what_comes_back_is_what_was_kept_to_the_last_bit(scores):
    filled(scores)
    with ImageCache(cache_path(scores), today=101) as cache:
        some = known(cache, [2, 3, 7])
        assert [some.contents(row(i, f"{i}.png")) for i in (2, 3, 7, 4)] == [
            ("content 2",), ("content 3",), ("content 7",), (),
        ]  # fmt: skip
        for i in (2, 3, 7):
            got, want = some.result(some.find(row(i, f"{i}.png"))), encoding(i)
            np.testing.assert_array_equal(got.sent, want.sent)
            np.testing.assert_array_equal(got.moments, want.moments)
            np.testing.assert_array_equal(got.spacing_mm, want.spacing_mm)
            assert got.input_hash == want.input_hash
        assert some.find(row(4, "4.png")) is None
    assert cache.notes == []


def test_an_entry_is_found_by_path_and_stamp_or_by_sha256_and_by_nothing_else(scores):
    filled(scores)
    with ImageCache(cache_path(scores), today=101) as cache:
        some = known(cache, range(10))
        assert some.find(row(1, "1.png")) is not None
        assert some.find(row(1, "other.png", sha256="CONTENT 1")) is not None
        assert some.find(row(1, "1.png", stamp="10 21")) is None
        assert some.find(row(1, "2.png")) is None
        assert some.find(row(1, "1.png", sha256="content 2")) is None
        assert some.find(row(1, "1.png", stamp=None)) is None
        assert not known(cache, range(10), "another encoder").by_content


def test_the_same_bytes_of_another_image_type_are_not_known(scores):
    """The type decides how a file is prepared: corrected in the table, it is another image."""
    content = "c" * 64
    with ImageCache(cache_path(scores), today=1) as cache:
        cache.learn(ENCODER, row(1, "a.png"), content, encoding(1))
        cache.learn(ENCODER, row(1, "a.png", image_type="MG"), content, encoding(2))
        some = known(cache, [1])
        for seed, kind in ((1, "DX"), (2, "MG")):
            assert some.contents(row(1, "a.png", image_type=kind)) == (content,)
            for asked in (row(1, "a.png", image_type=kind), row(1, "b.png", None, content, kind)):
                np.testing.assert_array_equal(some.result(some.find(asked)).sent, encoding(seed).sent)
        for asked in (row(1, "a.png", image_type="CR"), row(1, "b.png", None, content, "CR")):
            assert some.find(asked) is None
            assert some.contents(asked) == ()


def test_a_reject_is_kept_with_its_reason(scores):
    with ImageCache(cache_path(scores), today=1) as cache:
        cache.learn(ENCODER, row(5, "a"), "content", ImageProblem("unreadable", "a file that decodes whole"))
        cache.learn(ENCODER, row(5, "b"), "more", encoding(1))
        some = known(cache, [5])
        got = some.result(some.find(row(5, "a")))
        assert (got.reason, got.wanted) == ("unreadable", "a file that decodes whole")
        np.testing.assert_array_equal(some.result(some.find(row(5, "b"))).sent, encoding(1).sent)


def test_entries_that_no_night_used_are_dropped_and_used_ones_stay(scores):
    filled(scores, count=3, today=100)
    for today in (110, 150, 195):
        with ImageCache(cache_path(scores), keep_days=90, today=today) as cache:
            some = known(cache, [1])
            cache.used(ENCODER, some, some.find(row(1, "1.png")))
    assert entries(scores) == [(1, "1.png", 195)]


@pytest.mark.parametrize("damage", [b"no DuckDB file", b""])
def test_a_damaged_file_is_begun_anew_and_a_deleted_one_too(scores, damage):
    filled(scores)
    cache_path(scores).write_bytes(damage)
    again = filled(scores, count=2)
    assert len(entries(scores)) == 2
    assert again.notes == ["The cache of image embeddings was not readable (IOException): a new one is begun."]
    cache_path(scores).unlink()
    filled(scores, count=4)
    assert len(entries(scores)) == 4


def test_damage_within_the_file_is_found_and_costs_one_night(scores):
    filled(scores, count=3000)
    size = cache_path(scores).stat().st_size
    with cache_path(scores).open("r+b") as stream:
        stream.seek(size // 4)
        stream.write(b"\xff" * (size // 2))
    with ImageCache(cache_path(scores), today=100) as cache:
        some = known(cache, range(3000))
    assert len(cache.notes) == 1
    assert not some.by_content
    assert filled(scores).notes == []


def test_a_cache_in_use_elsewhere_costs_time_and_says_so(scores):
    filled(scores)
    code = "import sys, duckdb, time; c = duckdb.connect(sys.argv[1]); print('open', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(cache_path(scores))], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "open\n"
        cache = filled(scores)
        assert cache.notes == ["The cache of image embeddings is in use elsewhere: every image is read."]
        assert not known(cache, range(10)).by_content
        with pytest.raises(OutputError, match="cannot be opened"):
            forget(scores, [1])
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_a_person_is_forgotten_with_every_byte(scores):
    filled(scores, count=3)
    with ImageCache(cache_path(scores), today=100) as cache:
        cache.learn(ENCODER, row(1, "a name that must go"), "content x", encoding(77))
    assert b"a name that must go" in cache_path(scores).read_bytes()
    assert forget(scores, [1, 99]) == 2
    assert [subject for subject, *_ in entries(scores)] == [0, 2]
    assert b"a name that must go" not in cache_path(scores).read_bytes()
    assert encoding(77).sent.tobytes() not in cache_path(scores).read_bytes()
    assert sorted(path.name for path in scores.parent.iterdir()) == [cache_path(scores).name]
    with ImageCache(cache_path(scores), today=101) as cache:
        np.testing.assert_array_equal(known(cache, [2]).result(0).sent, encoding(2).sent)
    assert forget(scores.with_name("none.duckdb"), [1]) == 0


def test_what_took_long_to_learn_is_not_kept_in_memory(scores, monkeypatch):
    """Findings of few volumes may be the work of minutes: kill -9 must not cost them all."""
    clock = [0.0]
    monkeypatch.setattr("riskpred.score.image_cache.monotonic", lambda: clock[0])
    with ImageCache(cache_path(scores), today=1) as cache:
        for i, clock[0] in enumerate((0.0, 29.0, 31.0, 40.0)):
            cache.learn(ENCODER, row(i, f"{i}.png"), f"content {i}", encoding(i))
        with cache._connection.cursor() as look:
            assert look.execute("SELECT count(*) FROM entries").fetchall() == [(3,)]


def test_kill_at_any_moment_leaves_whole_entries(scores):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; import test_image_cache as t; import numpy as np\n"
        "with t.ImageCache(Path(sys.argv[2]), today=1) as cache:\n"
        "    print('begun', flush=True)\n"
        "    for i in range(10**9):\n"
        "        cache.learn(t.ENCODER, t.row(i, f'{i}.png'), f'content {i}', t.encoding(i))\n"
        "        if i % 50 == 49: t.known(cache, [i]); print('committed', flush=True)\n"
    )
    total = 0
    for commits in (1, 2, 5, 9):
        run = subprocess.Popen(
            [sys.executable, "-c", code, os.path.dirname(__file__), str(cache_path(scores))],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        assert run.stdout.readline() == "begun\n"
        for _ in range(commits):
            assert run.stdout.readline() == "committed\n"
        time.sleep(0.003 * commits)  # into the middle of the next ones
        run.send_signal(signal.SIGKILL)
        run.wait()
        run.stdout.close()
        with ImageCache(cache_path(scores), today=1) as cache:
            some = known(cache, range(100_000))
            for (subject, _, content), place in some.by_content.items():
                assert content == f"content {subject}"
                np.testing.assert_array_equal(some.result(place).sent, encoding(subject).sent)
        assert cache.notes == []
        assert len(some.by_content) >= max(total, 50 * commits)
        total = len(some.by_content)
