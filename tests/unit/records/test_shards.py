"""A folder of MEDS Parquet shards: MEDS may read it, and a warehouse reads it as it reads the DuckDB file."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from riskpred.errors import InputError, OutputError
from riskpred.records import shards
from riskpred.records.chunk import SubjectChunk
from riskpred.records.digest import subject_digests
from riskpred.records.inspection import inspect
from riskpred.records.warehouse import Warehouse

PEOPLE = range(1, 31)
FILES: dict[str, str | bytes] = {
    "labs.csv": "id,day,test,value,unit\n"
    + "".join(
        f"{person},2020-01-{day:02d},{test},{person + day / 8},{unit}\n"
        for person in PEOPLE
        for day, test, unit in ((1, "A", "mg/dL"), (2, "B", "g/L"), (2, "A", "mg/dL"), (9, "C", ""))[: 1 + person % 4]
    ),
    "scans.csv": "id,scan,day\n" + "".join(f"{person},s{person},2020-02-01\n" for person in (2, 17, 41, 90)),
    **{f"images/s{person}.png": b"pixels of %d" % person for person in (2, 17, 41, 90)},
}
STUDY = """
tables:
  - name: labs
    file: labs.csv
    subject: id
    time: {column: day}
    long:
      - code_column: test
        value_column: value
        unit_column: unit
        codes:
          A: {code: LAB//A, unit: mg/dL}
          B: {code: LAB//B, unit: g/L}
          C: {code: LAB//C, store: text}
  - name: scans
    file: scans.csv
    subject: id
    time: {column: day}
    images:
      - {image_id: scan, path: "images/{scan}.png", image_type: DX}
"""


@pytest.fixture
def both(ingest: Callable[..., Any]) -> tuple[Path, Path]:
    """The DuckDB file and the folder of the same source."""
    _, file = ingest(FILES, STUDY)
    summary, folder = ingest(FILES, STUDY, name="shards", folder=True, shards=4)
    assert summary.subjects == 32
    return file, folder


def flat(chunks: Iterator[SubjectChunk]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for chunk in chunks:
        for s, subject in enumerate(chunk.subject_id.tolist()):
            for e in range(chunk.start[s], chunk.start[s + 1]):
                text = chunk.texts[chunk.text[e]] if chunk.text[e] >= 0 else None
                unit = chunk.unit_texts[chunk.unit[e]] if chunk.unit is not None and chunk.unit[e] >= 0 else None
                value = repr(float(chunk.numeric_value[e]))
                found.append((subject, int(chunk.time[e]), int(chunk.code[e]), value, text, unit))
            found += [(subject, image) for image in chunk.images[s]]
    return found


def test_a_folder_is_read_as_the_file_of_the_same_source(both: tuple[Path, Path]) -> None:
    file, folder = both
    with Warehouse.open(file) as one, Warehouse.open(folder) as two:
        assert two.contents == "kept"
        assert [shard.name for shard in two.shards] == [f"data/00{number}.parquet" for number in range(4)]
        assert one.shards == ()
        assert (one.codes, one.code_counts, one.code_units) == (two.codes, two.code_counts, two.code_units)
        assert (one.study, one.site, one.data_until) == (two.study, two.site, two.data_until)
        assert two.clustered
        assert one.splits() == two.splits()
        assert one.digest() == two.digest()
        assert np.array_equal(one.subject_ids, two.subject_ids)
        assert flat(one.chunks(5)) == flat(two.chunks(5))
        some = np.array([3, 17, 29, 41])
        assert flat(one.chunks(2, some)) == flat(two.chunks(2, some))
        assert inspect(one) | {"warehouse": ""} == inspect(two) | {"warehouse": ""}


def test_shards_are_read_one_by_one_and_hold_everyone_once(both: tuple[Path, Path]) -> None:
    file, folder = both
    with Warehouse.open(file) as whole:
        expected, until = flat(whole.chunks(5)), whole.data_until
        digests = dict(zip(*(part.tolist() for part in whole.subject_digests()), strict=True))
    found, people = [], []
    for number in range(4):
        with Warehouse.open(folder, shard=number) as part:
            assert part.contents == "kept"
            assert part.shards[number].subjects == part.subject_count > 0
            assert part.codes == ("LAB//A", "LAB//B", "LAB//C")
            assert part.data_until == until
            found += flat(part.chunks(5))
            subjects, texts = part.subject_digests()
            people += subjects.tolist()
            assert texts.to_pylist() == [digests[subject] for subject in subjects.tolist()]
            assert texts.to_pylist() == [digest for chunk in part.chunks(3) for digest in subject_digests(chunk)]
    assert found == expected
    assert people == sorted(digests)
    with Warehouse.open(folder, shard=[1, 2]) as parts:
        assert parts.subject_count == sum(shard.subjects for shard in parts.shards[1:3])


def test_the_shards_are_of_about_equal_size_and_no_more_than_subjects(ingest: Callable[..., Any]) -> None:
    _, folder = ingest(FILES, STUDY, name="shards", folder=True, shards=3)
    with Warehouse.open(folder) as warehouse:
        events = [shard.events for shard in warehouse.shards]
        assert sum(events) == warehouse.event_count
        assert max(events) - min(events) <= 8
    _, folder = ingest(FILES, STUDY, name="many", folder=True, shards=1000)
    with Warehouse.open(folder) as warehouse:
        assert len(warehouse.shards) == 32
        assert {shard.subjects for shard in warehouse.shards} == {1}
        assert warehouse.contents == "kept"
        assert flat(warehouse.chunks(5))


def test_meds_accepts_what_is_written(both: tuple[Path, Path]) -> None:
    meds = pytest.importorskip("meds")
    _, folder = both
    for path in sorted((folder / "data").iterdir()):
        meds.DataSchema.validate(pq.read_table(path))
    meds.CodeMetadataSchema.validate(pq.read_table(folder / meds.code_metadata_filepath))
    meds.SubjectSplitSchema.validate(pq.read_table(folder / meds.subject_splits_filepath))
    meds.DatasetMetadataSchema.validate(json.loads((folder / meds.dataset_metadata_filepath).read_text()))
    codes = pq.read_table(folder / meds.code_metadata_filepath).column("code").to_pylist()
    assert codes == ["LAB//A", "LAB//B", "LAB//C"]


def test_a_changed_shard_is_stale_even_where_its_size_is_not_changed(both: tuple[Path, Path]) -> None:
    file, folder = both
    with Warehouse.open(file) as whole:
        counts, until = whole.code_counts, whole.data_until
    path = folder / "data" / "001.parquet"
    table = pq.read_table(path)
    value = table.schema.get_field_index("numeric_value")
    changed = pc.add(table.column(value), pa.scalar(1, pa.float32()))
    pq.write_table(table.set_column(value, table.schema.field(value), changed), path)
    for shard, contents in ((None, "stale"), (0, "kept"), (1, "stale")):
        with Warehouse.open(folder, shard=shard) as warehouse:
            assert warehouse.contents == contents
            digests = warehouse.subject_digests()[1].to_pylist()
            assert digests == [digest for chunk in warehouse.chunks(9) for digest in subject_digests(chunk)]
            # Of the whole folder: a task of a cluster must not see other codes than the next.
            assert (warehouse.code_counts, warehouse.data_until) == (counts, until)


@pytest.mark.parametrize("damage", ["a shard more", "a shard less", "other digests"])
def test_a_changed_folder_is_stale(both: tuple[Path, Path], damage: str) -> None:
    _, folder = both
    if damage == "a shard more":
        shutil.copy(folder / "data" / "001.parquet", folder / "data" / "009.parquet")
    elif damage == "a shard less":
        (folder / "data" / "003.parquet").unlink()
    else:
        path = folder / "riskpred" / "subject_digests.parquet"
        pq.write_table(pq.read_table(path).slice(0, 3), path)
    with Warehouse.open(folder) as warehouse:
        assert warehouse.contents == "stale"
        digests = warehouse.subject_digests()[1].to_pylist()
        assert digests == [digest for chunk in warehouse.chunks(9) for digest in subject_digests(chunk)]


def test_a_kept_table_is_hashed_once_a_process_and_again_when_it_changes(
    both: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = both
    read: list[str] = []
    real = shards._sha256
    monkeypatch.setattr(shards, "_sha256", lambda path: read.append(path.name) or real(path))
    for shard in (0, 1, 2):
        with Warehouse.open(folder, shard=shard) as warehouse:
            assert warehouse.contents == "kept"
    assert sorted(read) == sorted(
        ["000.parquet", "001.parquet", "002.parquet", *(f"{name}.parquet" for name in shards.KEPT)]
    )
    path = folder / "riskpred" / "subject_digests.parquet"
    data = bytearray(path.read_bytes())
    at = data.index(b"PAR1", 4) - 40
    data[at] ^= 1
    path.write_bytes(data)
    with Warehouse.open(folder, shard=0) as warehouse:
        assert warehouse.contents == "stale"
    assert read.count("subject_digests.parquet") == 2


def test_a_folder_of_another_tool_needs_data_and_splits_alone(both: tuple[Path, Path]) -> None:
    file, folder = both
    shutil.rmtree(folder / "riskpred")
    (folder / "images.parquet").unlink()
    # MEDS allows folders under data/, and shards in any order of subjects.
    (folder / "data" / "train").mkdir()
    (folder / "data" / "000.parquet").rename(folder / "data" / "train" / "0.parquet")
    with Warehouse.open(file) as one, Warehouse.open(folder) as two:
        assert two.contents == "absent"
        assert not two.clustered
        events = [row for row in flat(one.chunks(5)) if len(row) > 2]
        assert flat(two.chunks(5)) == events
        assert two.shards == ()
    with pytest.raises(InputError, match="no list of shards"):
        Warehouse.open(folder, shard=0)
    (folder / "metadata" / "subject_splits.parquet").unlink()
    with pytest.raises(InputError, match="no table subject_splits"):
        Warehouse.open(folder)


def test_what_cannot_be_opened_says_why(both: tuple[Path, Path], tmp_path: Path) -> None:
    file, folder = both
    with pytest.raises(InputError, match=r"no such shard(?s:.)*numbers from 0 to 3(?s:.)*got     4"):
        Warehouse.open(folder, shard=4)
    with pytest.raises(InputError, match="has no shards"):
        Warehouse.open(file, shard=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="a folder without events"):
        Warehouse.open(tmp_path / "empty")
    (folder / "riskpred" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="not readable as a manifest"):
        Warehouse.open(folder)
    (folder / "riskpred" / "manifest.json").unlink()
    (folder / "data" / "000.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="not readable as Parquet"):
        Warehouse.open(folder)


def test_a_failed_ingest_leaves_the_folder_that_was_there(both: tuple[Path, Path], ingest: Callable[..., Any]) -> None:
    _, folder = both
    before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    with pytest.raises(InputError):
        ingest({"labs.csv": "id,day,test,value,unit\n1,2020-01-01,A,text,mg/dL\n"}, STUDY, name="shards")
    assert {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()} == before
    assert not [path.name for path in folder.parent.iterdir() if path.name.startswith(".")]
    _, again = ingest(FILES, STUDY, name="shards")
    assert again == folder
    with Warehouse.open(folder) as warehouse:
        assert len(warehouse.shards) == 1
    assert not [path.name for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_somebody_elses_folder_is_not_replaced(ingest: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(OutputError, match="was not written by this command"):
        ingest(FILES, STUDY, name="mine")
    with pytest.raises(OutputError, match="is the source itself"):
        ingest(FILES, STUDY, name="source")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
