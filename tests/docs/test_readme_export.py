"""README, "Images from a PACS export": its YAML is run on files of the kinds it speaks of, and does what it says."""

import re
from pathlib import Path

import duckdb
import pytest
from pydicom.uid import generate_uid

from riskpred.cli import main
from tests.phantoms.export import SECRETS, write, write_series

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_export_of_the_readme_is_taken_in_as_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(
        r"### Images from a PACS export\n.*?```yaml\n(.*?)```(.*?)\n### ", README.read_text("utf-8"), re.S
    )
    assert found is not None
    config, said = found.groups()
    export, uid = tmp_path / "source" / "export", generate_uid()
    write(export / "pa.dcm")
    write_series(export / "study", uid, 3, "a{}.dcm", 1)
    write_series(export / "study", generate_uid(), 3, "b{}.dcm", 2)
    for name, tags in {
        "unwanted_image_type": {"Modality": "MR"},
        "unwanted_body_part": {"BodyPartExamined": "HAND"},
        "unwanted_view": {"ViewPosition": "LL"},
        "burned_in_annotation": {"ConversionType": "WSD"},
        "no_subject": {"PatientID": "OTHER"},
        "no_time": {"AcquisitionDate": "", "AcquisitionTime": ""},
    }.items():
        assert name in said
        write(export / f"{name}.dcm", **tags)
    (export / "notes.txt").write_text("no image")
    (tmp_path / "source" / "people.csv").write_text("pacs_id,person\nSECRET-7,7\n")
    (tmp_path / "study").mkdir()
    checks = "    checks: {inverted: allow}\n"  # the pixels are noise, no chest
    into, call = tmp_path / "w.duckdb", ["--from", str(tmp_path / "source"), "--into", str(tmp_path / "w.duckdb")]

    (tmp_path / "study" / "ingest.yaml").write_text(f"study: pacs\n{config}{checks}")
    assert main(["ingest", str(tmp_path / "study"), *call]) == 11, "3 of 6 are refused that were wanted: over 5 %"
    assert "allow_rejects" in said

    (tmp_path / "study" / "ingest.yaml").write_text(f"study: pacs\n{config}{checks}    allow_rejects: 0.5\n")
    assert main(["ingest", str(tmp_path / "study"), *call]) == 0
    with duckdb.connect(str(into), read_only=True) as connection:
        images = connection.execute("SELECT path, frames, series IS NOT NULL FROM images ORDER BY 1").fetchall()
        rejects = connection.execute("SELECT row_key, reason FROM rejects").fetchall()
        ignored = connection.execute("SELECT ignored FROM ingests").fetchall()
    assert images == [("export/pa.dcm", 1, False), ("export/study", 3, True), ("export/study", 3, True)]
    assert all(path == f"export/{reason}.dcm" for path, reason in rejects)
    assert len(rejects) == 6
    assert ignored == [(1,)]
    shown = "".join(capsys.readouterr())
    for secret in (*SECRETS, b"OTHER", uid.encode()):
        assert secret not in into.read_bytes()
        assert secret.decode() not in shown
