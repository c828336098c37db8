"""`riskpred check --images`: a page of images before and after every step, with nobody's name on it."""

import json
import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from riskpred.cli import main

NAMES = ["Miller", "Novak", "Okafor", "Rossi"]

INGEST = """
study: eyes
as_of: 2020-01-01T00:00:00
tables:
  - name: pictures
    file: pictures.csv
    subject: name
    time: {column: day, format: "%Y-%m-%d"}
    events: []
    images:
      - {image_id: file, path: "{file}", image_type: TYPE}
"""


@pytest.fixture
def warehouse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Eight ultrasound pictures of four people, one of them no picture."""
    source = tmp_path / "source"
    source.mkdir()
    rng = np.random.default_rng(0)
    lines = ["name,day,file"]
    for i in range(8):
        array = ndimage.gaussian_filter(rng.normal(size=(60, 80)), 3)
        array = (array - array.min()) / np.ptp(array) * 255
        file = f"{NAMES[i % 4]}_{i}.png"
        Image.fromarray(array.astype(np.uint8)).save(source / file)
        lines.append(f"{NAMES[i % 4]},2019-0{i + 1}-01,{file}")
    (source / f"{NAMES[3]}_7.png").write_text("no picture")
    (source / "pictures.csv").write_text("\n".join(lines) + "\n")
    study = tmp_path / "eyes"
    study.mkdir()
    (study / "ingest.yaml").write_text(INGEST.replace("TYPE", "US"))
    assert main(["ingest", str(study), "--from", str(source), "--into", str(tmp_path / "w.duckdb")]) == 0
    capsys.readouterr()
    return tmp_path / "w.duckdb"


def test_a_page_without_script_or_names(warehouse: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into = warehouse.parent / "page.html"
    assert main(["check", str(warehouse), "--images", "--into", str(into), "--sample", "3"]) == 0
    said = capsys.readouterr().out
    page = into.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert "default-src 'none'" in page
    for name in NAMES:
        assert name not in page
        assert name not in said
    assert page.count('data-test="image"') == 3
    assert page.count("<figure>") == 6  # as read, ready: ultrasound has no steps
    assert "8 images in the warehouse, 8 tried, 1 not usable." in page
    assert re.search(r"<td>unknown_format</td><td>[^<]+</td><td class=\"number\">1</td>", page)
    assert re.search(r"defaults, US +8 +8 +3 +1\n", said)
    assert "unknown_format" in said
    # The pictures are there, and no picture is empty.
    for data in re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page):
        picture = np.asarray(Image.open(BytesIO(b64decode(data))))
        assert max(picture.shape) == 184
        assert np.ptp(picture) > 100
    assert sorted(path.name for path in into.parent.iterdir()) == ["eyes", "page.html", "source", "w.duckdb"]


def test_names_only_when_asked_and_always_the_same_images(warehouse: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = warehouse.parent / "1.html", warehouse.parent
    assert main(["check", str(warehouse), "--images", "--into", str(one), "--sample", "4", "--names"]) == 0
    assert main(["check", str(warehouse), "--images", "--into", str(two), "--sample", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert told["readings"] == [
        {"reading": "defaults, US", "images": 8, "tried": 8, "shown": 4, "problems": {"unknown_format": 1}}
    ]
    assert told["page"].endswith("images.html")
    pages = [path.read_text(encoding="utf-8") for path in (one, two / "images.html")]
    png = [re.findall(r"base64,([A-Za-z0-9+/=]+)", page) for page in pages]
    assert png[0] == png[1]
    assert any(name in pages[0] for name in NAMES)
    assert not any(name in pages[1] for name in NAMES)


def test_what_cannot_be_written_or_shown_is_said_first(warehouse: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(warehouse), "--images", "--into", str(warehouse)]) == 15
    assert "does not end in .html" in capsys.readouterr().err
    assert main(["check", str(warehouse), "--images", "--into", "x.html", "--sample", "0"]) == 2
    assert "1 or more" in capsys.readouterr().err
