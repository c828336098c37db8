"""What the held-out people have, or whether they are there at all, changes no byte of what is fitted."""

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.fit.run import fit

FITTED = ("weights.safetensors", "reference.safetensors", "peer.safetensors", "layout.json", "plan.json")
"""Every file of a bundle that holds something learned; the others hold times, a random salt, or words."""

GONE = """
DELETE FROM events WHERE subject_id IN (SELECT subject_id FROM {split});
DELETE FROM images WHERE subject_id IN (SELECT subject_id FROM {split});
"""
# Labels swapped and moved, values far away, a category nobody else has, everybody's picture somebody else's.
CORRUPT = """
UPDATE events SET
    numeric_value = -7 * numeric_value - 1000,
    code = CASE code WHEN 'DX//STROKE' THEN 'DX//TUMOUR' WHEN 'DX//TUMOUR' THEN 'DX//STROKE'
        WHEN 'GENDER//F' THEN 'GENDER//NEVER_SEEN' ELSE code END,
    time = CASE WHEN code LIKE 'DX//%' THEN time - INTERVAL 20 DAY ELSE time END
WHERE subject_id IN (SELECT subject_id FROM {split});
UPDATE images SET path = (SELECT min(path) FROM images) WHERE subject_id IN (SELECT subject_id FROM {split});
"""


def changed(tiny: Any, folder: Path, sql: str, split: str) -> Path:
    """A copy of the tiny warehouse, changed for the people of one split."""
    warehouse = folder / "warehouse.duckdb"
    shutil.copy(tiny.warehouse, warehouse)
    people = f"(SELECT subject_id FROM subject_splits WHERE split = '{split}') AS people"
    with duckdb.connect(str(warehouse)) as connection:
        found = connection.execute(f"SELECT count(*) FROM events JOIN {people} USING (subject_id)").fetchall()
        assert found[0][0] > 100, "there is something to change"
        connection.execute("ALTER TABLE events ALTER code TYPE VARCHAR")  # a new code does not fit ingest's ENUM
        connection.execute(sql.format(split=people))
    return warehouse


@pytest.mark.parametrize("sql", [GONE, CORRUPT], ids=["gone", "corrupt"])
def test_held_out_people_change_no_byte_of_a_fit(tiny: Any, tmp_path: Path, sql: str) -> None:
    fit(str(tiny.study), changed(tiny, tmp_path, sql, "held_out"), tmp_path / "bundle", seed=1)
    for name in FITTED:
        assert (tmp_path / "bundle" / name).read_bytes() == (tiny.bundle / name).read_bytes(), name


def test_the_same_change_to_training_people_does(tiny: Any, tmp_path: Path) -> None:
    """Without this, the test above could pass because the change is one that no fit would notice."""
    fit(str(tiny.study), changed(tiny, tmp_path, CORRUPT, "tuning"), tmp_path / "bundle", seed=1)
    for name in FITTED:
        assert (tmp_path / "bundle" / name).read_bytes() != (tiny.bundle / name).read_bytes(), name
