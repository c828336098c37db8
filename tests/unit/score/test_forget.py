"""One person erased from a scores file: from every table, from its bytes, from the ledger's counts, and nobody else."""

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from riskpred.errors import InputError, OutputError
from riskpred.records.publish import staged
from riskpred.records.schema import table_schema, tables
from riskpred.score.forget import forget
from riskpred.score.layout import BY_SUBJECT, SCHEMA, STANDING, stored_schema
from riskpred.score.verify import pair_counts
from riskpred.score.views import VIEWS

PERSON, OTHER = 910003, 910004
PLANTED = "Planted-Text-Of-Theirs"
IMAGE = f"image-of-{PERSON}"


def _write_scores() -> Callable[..., Path]:
    path = Path(__file__).parents[1] / "report" / "synthetic_scores.py"
    spec = importlib.util.spec_from_file_location("forget_synthetic_scores", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write_scores


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, laid_out: Callable[[Path], Path]) -> Path:
    """24 simulated people in two nights, with a row of PERSON and of OTHER in every table that has subjects."""
    path = laid_out(_write_scores()(tmp_path_factory.mktemp("forget") / "scores.duckdb"))
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "UPDATE stored.explanations SET text_value = ? WHERE subject_id = ? AND level = 'feature'",
            [PLANTED, PERSON],
        )
        run_id = "run-of-21-november"
        for subject, image in ((PERSON, IMAGE), (OTHER, "image-of-another")):
            (computation,) = connection.execute(
                f"SELECT computation FROM {STANDING} WHERE run_id = ? AND subject_id = ?", [run_id, subject]
            ).fetchall()[0]
            given = {
                "computation": computation,
                "image_id": image,
                "lesion": 1,
                "subject_id": subject,
                "label": "nodule",
            }
            _insert(connection, "findings", given | {"confidence": 0.5})
            reject = {"run_id": run_id, "source": "images", "reason": "unreadable", "field": "path", "wanted": "PNG"}
            _insert(connection, "rejects", reject | {"row_key": image, "subject_id": subject})
            _insert(
                connection, "feature_bins", {"computation": computation, "subject_id": subject, "bins": b"\x01\x02"}
            )
            _insert(connection, "rejects", reject | {"row_key": image, "subject_id": None})
        connection.execute("CREATE TABLE notes_of_an_analyst (subject_id BIGINT NOT NULL, note VARCHAR)")
        connection.execute("INSERT INTO notes_of_an_analyst VALUES (?, 'x'), (?, 'y')", [PERSON, OTHER])
    return path


def _insert(connection: duckdb.DuckDBPyConnection, table: str, row: dict[str, object]) -> None:
    rows = pa.Table.from_pylist([row], schema=stored_schema(table).arrow())
    connection.register("rows_to_add", rows)
    place = f"{SCHEMA}.{table}" if table in BY_SUBJECT else table
    connection.execute(f"INSERT INTO {place} SELECT * FROM rows_to_add")
    connection.unregister("rows_to_add")


@pytest.fixture
def scores(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path / "scores.duckdb"))


def everything(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        names = connection.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
        return {
            name: connection.execute(f'SELECT * FROM "{schema}"."{name}" ORDER BY ALL').fetchall()
            for schema, name in names
        }


def test_every_row_of_theirs_is_gone_and_no_other_has_changed(scores: Path) -> None:
    before = everything(scores)
    done = forget(scores, str(PERSON))
    after = everything(scores)
    assert set(after) == set(before)
    theirs = [name for name in tables("scores") if "subject_id" in table_schema("scores", name).names]
    assert {*theirs, "standing", "notes_of_an_analyst"} <= set(done.rows)
    assert "findings" in theirs
    for name, rows in before.items():
        if name == "runs":
            continue
        kept = [row for row in rows if PERSON not in row and IMAGE not in row]
        assert after[name] == kept, name
        assert done.rows.get(name, 0) == len(rows) - len(kept)
    assert done.runs == ("run-of-20-november", "run-of-21-november")


def test_not_null_and_views_are_as_before(scores: Path) -> None:
    def described() -> list[tuple[Any, ...]]:
        with duckdb.connect(str(scores), read_only=True) as connection:
            return connection.execute(
                "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() WHERE NOT internal "
                "ORDER BY ALL"
            ).fetchall()

    before = described()
    forget(scores, str(PERSON))
    assert described() == before
    with duckdb.connect(str(scores), read_only=True) as connection:
        for view in (*VIEWS, *BY_SUBJECT):
            found = connection.execute(f"SELECT count(*), count(*) FILTER (subject_id = {PERSON}) FROM {view}")
            count, theirs = found.fetchall()[0]
            assert count > 0, view
            assert theirs == 0, view


def test_their_bytes_are_gone_from_the_file_which_a_deleted_row_is_not(scores: Path, tmp_path: Path) -> None:
    with duckdb.connect(str(scores), read_only=True) as connection:
        (pseudonym,) = connection.execute(
            "SELECT DISTINCT pseudonym FROM pseudonyms WHERE subject_id = ?", [PERSON]
        ).fetchall()[0]
    secrets = [text.encode() for text in (PLANTED, IMAGE, pseudonym)]
    assert all(secret in scores.read_bytes() for secret in secrets), "else this test could not fail"

    deleted = Path(shutil.copy(scores, tmp_path / "deleted.duckdb"))
    with duckdb.connect(str(deleted)) as connection:
        for place in ("rejects", STANDING, *(f"{SCHEMA}.{name}" for name in BY_SUBJECT)):
            connection.execute(f"DELETE FROM {place} WHERE subject_id = {PERSON}")
        connection.execute("CHECKPOINT")
    assert any(secret in deleted.read_bytes() for secret in secrets), "a deleted row stays: why the file is rewritten"

    forget(scores, str(PERSON))
    assert not [secret for secret in secrets if secret in scores.read_bytes()]
    assert b"image-of-another" in scores.read_bytes()


def test_the_ledger_is_true_of_what_is_left(scores: Path) -> None:
    forget(scores, str(PERSON))
    first = everything(scores)["runs"]
    forget(scores, str(OTHER))
    with duckdb.connect(str(scores), read_only=True) as connection:
        for run_id, forgotten, digest in connection.execute(
            "SELECT run_id, forgotten, content_digest FROM runs"
        ).fetchall():
            assert forgotten == 2
            assert len(digest) == 64
            counts = pair_counts(connection, run_id)
            names = ", ".join(counts)
            assert connection.execute(f"SELECT {names} FROM runs WHERE run_id = ?", [run_id]).fetchall()[0] == tuple(
                counts.values()
            )
            assert counts["subjects"] == 22
    assert everything(scores)["runs"] != first


def test_a_pseudonym_names_the_same_person(scores: Path, tmp_path: Path) -> None:
    twin = Path(shutil.copy(scores, tmp_path / "twin.duckdb"))
    pseudonym = hashlib.sha256(str(PERSON).encode()).hexdigest()[:12]  # as synthetic_scores makes them
    assert forget(scores, str(PERSON)) == forget(twin, pseudonym)
    assert everything(scores) == everything(twin)


@pytest.mark.parametrize("subject", ["77777", "0123456789ab", "", "Smith", "9" * 30, "910003 OR true"])
def test_nobody_of_that_name_changes_nothing_and_is_not_repeated(scores: Path, subject: str) -> None:
    before = scores.read_bytes()
    (parts := scores.parent / ".scores.duckdb.parts").mkdir()
    with pytest.raises(InputError, match="nobody of that subject_id or pseudonym; nothing was changed") as caught:
        forget(scores, subject)
    assert caught.value.exit_code == 11
    assert not subject or subject not in caught.value.message
    assert scores.read_bytes() == before
    assert sorted(scores.parent.iterdir()) == [parts, scores]


def test_a_number_that_is_also_a_pseudonym_is_not_guessed(scores: Path) -> None:
    with duckdb.connect(str(scores)) as connection:
        connection.execute(f"UPDATE stored.pseudonyms SET pseudonym = '000000910004' WHERE subject_id = {PERSON}")
    before = scores.read_bytes()
    with pytest.raises(InputError, match="of one person and the pseudonym of another"):
        forget(scores, "000000910004")
    assert scores.read_bytes() == before


def test_what_lies_beside_the_file_goes_too(scores: Path) -> None:
    staging = scores.parent / ".scores.duckdb.4194304.staging"
    staging.write_bytes(PLANTED.encode())
    parts = scores.parent / ".scores.duckdb.parts"
    (parts / "risks-00000").mkdir(parents=True)
    (parts / "plan.json").write_text(json.dumps({"run_id": "x"}))
    assert forget(scores, str(PERSON)).parts
    assert [path.name for path in scores.parent.iterdir()] == [scores.name]
    assert not forget(scores, str(OTHER)).parts


def test_whom_only_an_unfinished_night_holds_is_known(scores: Path) -> None:
    newcomer = 424242
    folder = scores.parent / ".scores.duckdb.parts" / "risks-00000"
    folder.mkdir(parents=True)
    (cut := folder.with_name("risks-00001.77.tmp")).mkdir()
    (cut / "eligibility.arrow").write_bytes(b"ARROW1 cut off")
    rows = pa.table({"run_id": ["x"], "subject_id": pa.array([newcomer], pa.int64())})
    with pa.OSFile(str(folder / "eligibility.arrow"), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    done = forget(scores, str(newcomer))
    assert (done.parts, done.rows, done.runs) == (True, {}, ())
    assert [path.name for path in scores.parent.iterdir()] == [scores.name]


def test_what_an_analyst_keeps_in_the_file_stays_and_stops_nothing(scores: Path) -> None:
    with duckdb.connect(str(scores)) as connection:
        connection.execute(
            f"""
            CREATE SCHEMA "a ward";
            CREATE TABLE "a ward"."its ""own"" list" (subject_id VARCHAR, run_id INTEGER);
            INSERT INTO "a ward"."its ""own"" list" VALUES ('A-17', 3), ('{PERSON}', 4);
            CREATE SEQUENCE numbers;
            CREATE TYPE ward AS ENUM ('north', 'south');
            CREATE TABLE lists (
                id INTEGER DEFAULT nextval('numbers'), subject_id BIGINT, ward ward,
                twice BIGINT GENERATED ALWAYS AS (2 * subject_id)
            );
            INSERT INTO lists (subject_id, ward) VALUES ({PERSON}, 'north'), ({OTHER}, 'south');
            CREATE VIEW z_mine AS SELECT * FROM risk_scores;
            CREATE VIEW a_mine AS SELECT * FROM z_mine WHERE risk > 0;
            """
        )
    forget(scores, str(PERSON))
    with duckdb.connect(str(scores)) as connection:
        assert connection.execute('SELECT * FROM "a ward"."its ""own"" list"').fetchall() == [("A-17", 3)]
        assert connection.execute("SELECT * FROM lists").fetchall() == [(2, OTHER, "south", 2 * OTHER)]
        assert connection.execute("SELECT nextval('numbers')").fetchall() == [(3,)]
        assert connection.execute("SELECT count(*) > 0 FROM a_mine").fetchall() == [(True,)]


def test_a_locked_file_is_refused_and_unchanged(scores: Path) -> None:
    before = scores.read_bytes()
    called: list[int] = []
    with (
        pytest.raises(OutputError, match="locked") as caught,
        staged(scores),
    ):
        forget(scores, str(PERSON), {"a report": lambda *_: called.append(1) or 0})
    assert caught.value.exit_code == 15
    assert not called
    assert scores.read_bytes() == before


def test_a_dead_owner_of_the_lock_is_named(scores: Path) -> None:
    dies = "import os, sys; from pathlib import Path; from riskpred.records.publish import locked\n"
    dies += "with locked(Path(sys.argv[1]), 'riskpred score'): os._exit(9)"
    with subprocess.Popen([sys.executable, "-c", dies, str(scores)]) as owner:
        owner.wait()
    said: list[str] = []
    forget(scores, str(PERSON), say=said.append)
    forget(scores, str(OTHER), say=said.append)
    (told,) = said
    assert told.startswith(f"{scores}: lock taken over from riskpred score, process {owner.pid} on ")


def test_other_places_are_erased_before_the_swap_and_what_fails_there_stops_it(scores: Path) -> None:
    before = scores.read_bytes()

    def fails(person: int, pseudonyms: frozenset[str]) -> int:
        assert person == PERSON
        assert len(pseudonyms) == 2  # the one on record, and that of the salt
        assert scores.read_bytes() == before
        raise OutputError("cannot")

    with pytest.raises(OutputError, match="cannot"):
        forget(scores, str(PERSON), {"cache": fails})
    assert scores.read_bytes() == before
    assert [path.name for path in scores.parent.iterdir()] == [scores.name]
    assert forget(scores, str(PERSON), {"cache": lambda *_: 3}).elsewhere == {"cache": 3}


def test_no_scores_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        forget(tmp_path / "absent.duckdb", "1")
    with duckdb.connect(str(tmp_path / "other.duckdb")) as connection:
        connection.execute("CREATE TABLE runs (subject_id BIGINT)")
    with pytest.raises(InputError, match="not a scores file of this version"):
        forget(tmp_path / "other.duckdb", "1")
