"""Warehouse: opens what fits the schema, reads it in subject order, says what is wrong."""

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest

from riskpred.errors import InputError
from riskpred.records.chunk import STATIC
from riskpred.records.digest import subject_digests
from riskpred.records.inspection import MEANINGS, inspect
from riskpred.records.warehouse import Warehouse

D1, D2 = datetime(2020, 1, 1), datetime(2020, 1, 2)
US1 = int(np.datetime64(D1, "us").astype(np.int64))
EVENTS = [
    (1, None, "GENDER//F", None, None, None),
    (1, D1, "LAB//A", 1.5, None, "mg/dL"),
    (1, D2, "SURVEY//RACE", None, "White", None),
    (2, D1, "LAB//A", 2.5, None, "mg/dL"),
    (2, D1, "LAB//A", None, "high", None),
    (5, D2, "LAB//B", 3.5, None, "g/L"),
]
IMAGES = [("i2", 5, D2, "CR", "b.png", "f" * 64), ("i1", 3, D1, "DX", "a.png", "e" * 64)]


def flat(warehouse: Warehouse, size: int) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for chunk in warehouse.chunks(size):
        for s, subject in enumerate(chunk.subject_id):
            for e in range(chunk.start[s], chunk.start[s + 1]):
                text = chunk.texts[chunk.text[e]] if chunk.text[e] >= 0 else None
                value = None if np.isnan(chunk.numeric_value[e]) else float(chunk.numeric_value[e])
                found.append((int(subject), int(chunk.time[e]), chunk.codes[chunk.code[e]], value, text))
            found += [(int(subject), image.image_id) for image in chunk.images[s]]
    return found


def test_chunks_hold_every_subject_with_an_event_or_an_image(make_warehouse) -> None:
    with Warehouse.open(make_warehouse(EVENTS, IMAGES)) as warehouse:
        assert warehouse.subject_count == 4
        assert warehouse.event_count == 6
        assert warehouse.codes == ("GENDER//F", "LAB//A", "LAB//B", "SURVEY//RACE")
        assert warehouse.code_counts["LAB//A"] == 3
        assert warehouse.code_units["LAB//A"] == ("mg/dL",)
        assert flat(warehouse, 2) == [
            (1, STATIC, "GENDER//F", None, None),
            (1, US1, "LAB//A", 1.5, None),
            (1, US1 + 86_400_000_000, "SURVEY//RACE", None, "White"),
            (2, US1, "LAB//A", 2.5, None),
            (2, US1, "LAB//A", None, "high"),
            (3, "i1"),
            (5, US1 + 86_400_000_000, "LAB//B", 3.5, None),
            (5, "i2"),
        ]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_chunk_size_changes_nothing(make_warehouse, size: int) -> None:
    with Warehouse.open(make_warehouse(EVENTS, IMAGES)) as warehouse:
        assert flat(warehouse, size) == flat(warehouse, 2)


def test_unsorted_events_are_sorted_and_reported(make_warehouse) -> None:
    with (
        Warehouse.open(make_warehouse(EVENTS, IMAGES)) as tidy,
        Warehouse.open(make_warehouse(EVENTS[::-1], IMAGES[::-1], name="shuffled.duckdb")) as shuffled,
    ):
        assert flat(shuffled, 2) == flat(tidy, 2)
        assert shuffled.digest() == tidy.digest()
        assert shuffled.problems["events_unsorted"] == 1
        assert "events_unsorted" not in tidy.problems


def test_a_restriction_to_subjects(make_warehouse) -> None:
    with Warehouse.open(make_warehouse(EVENTS, IMAGES)) as warehouse:
        chunks = list(warehouse.chunks(10, np.array([5, 3, 99, 1])))
        assert [chunk.subject_id.tolist() for chunk in chunks] == [[1, 3, 5]]
        assert chunks[0].start.tolist() == [0, 3, 3, 4]
        assert [len(images) for images in chunks[0].images] == [0, 1, 1]
        assert list(warehouse.chunks(10, np.array([99]))) == []


@pytest.mark.parametrize("stored", ["in subject order", "in no order"])
def test_few_among_many_are_the_same_whichever_way_they_are_read(
    make_warehouse, monkeypatch: pytest.MonkeyPatch, stored: str
) -> None:
    events = [
        (s, when, f"LAB//{kind}", s + 0.5, None, "u") for s in range(60) for when in (None, D1, D2) for kind in "AB"
    ]
    images = [(f"i{s}", s, D1, "CR", f"{s}.png", "f" * 64) for s in range(0, 60, 3)]
    if stored == "in no order":
        events.sort(key=lambda event: (event[2], -event[0]))
    wanted = np.array([58, 3, 4, 21, 99])
    with Warehouse.open(make_warehouse(events, images)) as warehouse:
        found = []
        for sparse, band in ((1000, 32_768), (1, 32_768), (1, 2)):
            monkeypatch.setattr("riskpred.records.event_table._SPARSE", sparse)
            monkeypatch.setattr("riskpred.records.event_table._BAND", band)
            monkeypatch.setattr("riskpred.records.image_table._BAND", band)
            chunks = list(warehouse.chunks(3, wanted))
            assert [chunk.subject_id.tolist() for chunk in chunks] == [[3, 4, 21], [58]]
            found.append(
                [
                    (*(column.tolist() for column in (c.start, c.time, c.code, c.numeric_value, c.unit)), c.images)
                    for c in chunks
                ]
            )
        assert found[0] == found[1] == found[2]
        assert found[0][0][0] == [0, 6, 12, 18]
        assert [len(images) for images in found[0][0][-1]] == [1, 0, 1]


def test_every_part_of_a_record_is_in_its_digest(make_warehouse) -> None:
    event, image = (D1, "LAB//A", 1.5, "x", "mg/dL"), ("i", D1, "CR", "a.png", "0" * 64)
    changes: list[tuple[tuple[object, ...], tuple[object, ...]]] = [(event, image), (event, image)]
    for field, other in enumerate((D2, "LAB//B", 1.25, "y", "g/L")):
        changes.append((tuple(other if i == field else part for i, part in enumerate(event)), image))
    for field, other in enumerate(("j", D2, "DX", "b.png", "1" * 64)):
        changes.append((event, tuple(other if i == field else part for i, part in enumerate(image))))
    path = make_warehouse(
        [(s, *event) for s, (event, _) in enumerate(changes)],
        [(image[0], s, *image[1:]) for s, (_, image) in enumerate(changes)],
    )
    with Warehouse.open(path) as warehouse:
        same, base, *others = subject_digests(next(iter(warehouse.chunks())))
    assert same == base
    assert len({base, *others}) == 11
    # Other people, and with them another dictionary, change nothing.
    path = make_warehouse([(0, *event), (1, D1, "AAA", 7.0, "aaa", "kg")], [("i", 0, *image[1:])], name="other.duckdb")
    with Warehouse.open(path) as warehouse:
        assert subject_digests(next(iter(warehouse.chunks())))[0] == base


def test_an_image_without_a_digest_counts_by_its_file(make_warehouse, tmp_path: Path) -> None:
    path = make_warehouse([], [("i", 1, D1, "CR", "a.png", None)])
    found = []
    for content in (None, b"one", b"other"):
        if content:
            (tmp_path / "a.png").write_bytes(content)
        with Warehouse.open(path) as warehouse:
            found.append(warehouse.digest())
    assert len(set(found)) == 3


def test_what_is_no_finite_number_is_read_as_null_and_counted(make_warehouse) -> None:
    events = [(1, D1, "LAB//A", float("inf"), None, "u"), (1, D1, "LAB//A", float("nan"), None, "u"), *EVENTS[3:]]
    with Warehouse.open(make_warehouse(events)) as warehouse:
        assert warehouse.problems["non_finite_values"] == 2
        chunk = next(iter(warehouse.chunks()))
        assert np.isnan(chunk.numeric_value[:2]).all()


def test_times_and_names_come_from_ingests_else_from_the_events(make_warehouse) -> None:
    ingest = ("s", 1, 1, 1, 0, 0, 0, 0, 0, "nafld", "here", D1, D2, "/images", D2)
    with Warehouse.open(make_warehouse(EVENTS, ingests=[ingest])) as warehouse:
        assert (warehouse.study, warehouse.site, warehouse.as_of) == ("nafld", "here", US1)
        assert warehouse.data_until == US1 + 86_400_000_000
        assert warehouse.image_root == Path("/images")
    path = make_warehouse(EVENTS, name="plain.duckdb")
    with Warehouse.open(path) as warehouse:
        assert (warehouse.study, warehouse.site, warehouse.as_of) == (None, "plain", None)
        assert warehouse.data_until == US1 + 86_400_000_000
        assert warehouse.image_root == path.parent


def test_splits(make_warehouse) -> None:
    with Warehouse.open(make_warehouse(EVENTS, splits=[(1, "train"), (2, "test")])) as warehouse:
        assert warehouse.splits() == {1: "train", 2: "test"}
        assert warehouse.problems["unknown_splits"] == 1
        assert warehouse.problems["subjects_without_split"] == 1
    twice = make_warehouse(EVENTS, splits=[(1, "train"), (1, "held_out")], name="twice.duckdb")
    with Warehouse.open(twice) as warehouse, pytest.raises(InputError, match="1 subjects stand twice"):
        warehouse.splits()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DROP TABLE events", "no table events"),
        ("DROP TABLE images", 'make an empty one: CREATE TABLE "images"'),
        ("DROP TABLE subject_splits", "no table subject_splits"),
        ("ALTER TABLE events DROP code", "no column code"),
        ("ALTER TABLE events ALTER time TYPE VARCHAR", "time is VARCHAR, not TIMESTAMP"),
        ("ALTER TABLE events ALTER code DROP NOT NULL; UPDATE events SET code = NULL", "events cannot be used"),
        ("ALTER TABLE events ALTER code DROP NOT NULL; UPDATE events SET code = NULL", "6 rows without code"),
        (
            "ALTER TABLE events ALTER subject_id DROP NOT NULL; UPDATE events SET subject_id = NULL",
            "6 rows without subject_id",
        ),
        (
            "ALTER TABLE subject_splits ALTER subject_id DROP NOT NULL; INSERT INTO subject_splits VALUES (NULL, 'x')",
            "1 rows without subject_id",
        ),
        (
            "ALTER TABLE subject_splits ALTER split DROP NOT NULL; INSERT INTO subject_splits VALUES (1, NULL)",
            "subject_splits cannot be used",
        ),
        ("UPDATE events SET time = 'infinity' WHERE subject_id = 2", "2 rows with an infinite time"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(make_warehouse, damage: str, said: str) -> None:
    path = make_warehouse(EVENTS, IMAGES)
    with duckdb.connect(str(path)) as connection:
        connection.execute(damage)
    with pytest.raises(InputError) as caught:
        Warehouse.open(path)
    assert said in caught.value.message
    assert caught.value.exit_code == 11


def test_a_row_of_images_without_a_value_costs_that_row_alone(make_warehouse) -> None:
    # As floats these two would be one, and the odd one nobody's.
    large = 2**53
    events = [(s, D1, "LAB//A", 1.5, None, "u") for s in (1, large, large + 1)]
    path = make_warehouse(events, [("whole", large + 1, D1, "DX", "a.png", "e" * 64)])
    with Warehouse.open(path) as warehouse:
        tidy = flat(warehouse, 2)
        assert warehouse.incomplete_images() == []
        assert "images_incomplete" not in warehouse.problems
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE OR REPLACE TABLE images AS FROM images")
        connection.execute(
            "INSERT INTO images (image_id, subject_id, time, image_type, path, sha256)"
            " VALUES (NULL, 1, NULL, 'DX', 'b.png', NULL),"
            " ('nobody', NULL, NULL, 'DX', 'c.png', NULL),"
            " ('kind', 1, NULL, NULL, 'd.png', NULL), ('two', 9, NULL, NULL, NULL, NULL)"
        )
    with Warehouse.open(path) as warehouse:
        assert warehouse.subject_ids.dtype == np.int64
        assert warehouse.subject_ids.tolist() == [1, 9, large, large + 1]
        assert flat(warehouse, 2) == tidy
        assert warehouse.incomplete_images() == [
            ("2", 1, "image_id"),
            ("nobody", None, "subject_id"),
            ("kind", 1, "image_type"),
            ("two", 9, "image_type, path"),
        ]
        assert warehouse.problems["images_incomplete"] == 4
        assert "duplicate_image_ids" not in warehouse.problems
        found = inspect(warehouse)
        assert found["images"] == {"DX": 1}
        assert found["problems"]["images_incomplete"] == 4
        assert found["problems"].keys() <= MEANINGS.keys()


def test_codes_and_units_may_be_enums_with_values_in_any_order(make_warehouse) -> None:
    path = make_warehouse(EVENTS, IMAGES)
    with Warehouse.open(path) as warehouse:
        before, digest = flat(warehouse, 2), warehouse.digest()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TYPE c AS ENUM ('UNUSED', 'SURVEY//RACE', 'LAB//B', 'LAB//A', 'GENDER//F')")
        connection.execute("CREATE TYPE u AS ENUM ('mg/dL', 'g/L')")
        connection.execute("ALTER TABLE events ALTER code TYPE c; ALTER TABLE events ALTER unit TYPE u")
    with Warehouse.open(path) as warehouse:
        assert warehouse.codes == ("GENDER//F", "LAB//A", "LAB//B", "SURVEY//RACE")
        assert (flat(warehouse, 2), warehouse.digest()) == (before, digest)


def test_optional_columns_may_be_absent_and_others_there(make_warehouse) -> None:
    path = make_warehouse([(*event[:5], None) for event in EVENTS], IMAGES)
    with Warehouse.open(path) as warehouse:
        before = warehouse.digest()
    with duckdb.connect(str(path)) as connection:
        connection.execute("ALTER TABLE events DROP unit; ALTER TABLE events ADD COLUMN ward VARCHAR")
    with Warehouse.open(path) as warehouse:
        assert warehouse.digest() == before


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Warehouse.open(tmp_path / "none.duckdb")
    with pytest.raises(InputError, match="a folder"):
        Warehouse.open(tmp_path)
    (tmp_path / "text.duckdb").write_text("no database")
    with pytest.raises(InputError, match="not readable as a DuckDB file"):
        Warehouse.open(tmp_path / "text.duckdb")


def test_a_writer_of_another_program_locks_it(make_warehouse) -> None:
    path = make_warehouse(EVENTS)
    code = "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(InputError, match="locked: another program has it open for writing"):
            Warehouse.open(path)
    finally:
        child.communicate("go\n")


def test_many_batches_are_cut_at_the_right_subjects(tmp_path: Path, make_warehouse) -> None:
    path = make_warehouse([])
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "INSERT INTO events SELECT i // 7, TIMESTAMP '2020-01-01' + INTERVAL (i % 7) DAY, 'C' || (i % 3), i % 5,"
            " NULL, NULL FROM range(300000) t(i)"
        )
    with Warehouse.open(path) as warehouse:
        sizes = [np.diff(chunk.start) for chunk in warehouse.chunks(1000)]
        counts = np.concatenate(sizes)
        assert len(counts) == warehouse.subject_count == 42_858
        assert set(counts[:-1].tolist()) == {7}
        assert counts.sum() == 300_000
