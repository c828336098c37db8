"""Plants twelve kinds of faults in the simulated hospital's source files, with a ledger of what must become of each.

A fault stands beside the good rows and never replaces one, each at a subject of its own: so everyone's risk must be
what it is without any. A broken picture is newer than a whole one and must be opened before that is found.
"""

import os
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

KINDS: Final = (
    *("not a number (NaN)", "infinity", "text for a number", "future date", "duplicate row", "absurd value"),
    *("missing file", "truncated or bomb image", "path escape", "unknown code", "wrong unit", "empty subject"),
)
SEEN: Final = "2014-12-31"
"""Last day before the prediction time: a picture of that day is the one that is opened."""


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    how: its variety within the kind.   subject: the hospital's identifier.   file: where it stands.
    account: the column of `ingests` that must count it.   facts: by how much.   reason: of the reject, at ingest or,
    `at_score`, when the picture is opened.   image_id: of a planted picture.
    """

    kind: str
    how: str
    subject: str
    file: str
    account: str
    facts: int = 1
    reason: str | None = None
    at_score: bool = False
    image_id: str | None = None


class Planter:
    """Collects faulty rows by file; `write` puts them into the files of a source folder (a copy, not the original)."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._rows: dict[str, list[dict[str, str]]] = {}
        self._labs: list[dict[str, object]] = []
        self._copied: dict[str, list[str]] = {}
        self.faults: list[Fault] = []

    def plant(self, subjects: list[str], with_rows: list[str]) -> None:
        """One fault per subject, kinds and varieties in turn. `with_rows`: subjects that have vitals (duplicates)."""
        turns: Counter[str] = Counter()
        spare = list(with_rows)
        for number, subject in enumerate(subjects):
            kind = KINDS[number % len(KINDS)]
            who = spare.pop() if kind == "duplicate row" else subject
            self._one(kind, who, turns[kind])
            turns[kind] += 1

    def _one(self, kind: str, subject: str, turn: int) -> None:
        make: dict[str, Callable[[str, int], Fault]] = {
            "not a number (NaN)": self._not_finite("nan"),
            "infinity": self._not_finite("inf"),
            "text for a number": self._text,
            "future date": self._future,
            "duplicate row": self._duplicate,
            "absurd value": self._absurd,
            "missing file": self._missing_file,
            "truncated or bomb image": self._broken_image,
            "path escape": self._escape,
            "unknown code": self._unknown_code,
            "wrong unit": self._unit,
            "empty subject": self._empty,
        }
        self.faults.append(make[kind](subject, turn))

    def _not_finite(self, text: str) -> Callable[[str, int], Fault]:
        kind = "not a number (NaN)" if text == "nan" else "infinity"
        signs = ("", "-") if text == "inf" else ("",)

        def make(subject: str, turn: int) -> Fault:
            value = signs[turn // 2 % len(signs)] + text
            if turn % 2:
                self._lab(subject, value=float(value))
                return Fault(kind, f"{value}, float column", subject, "labs.parquet", "rejects", reason="not_a_number")
            self._vital(subject, value=value.capitalize())
            return Fault(kind, f"{value}, as text", subject, "vitals.csv", "rejects", reason="not_a_number")

        return make

    def _text(self, subject: str, turn: int) -> Fault:
        text = ("refused", "12O", "1,5,0", "٪", "0x1F")[turn % 5]
        self._vital(subject, value=text)
        return Fault("text for a number", text, subject, "vitals.csv", "rejects", reason="not_a_number")

    def _future(self, subject: str, turn: int) -> Fault:
        if turn % 2:
            self._lab(subject, drawn_on="2094-05-01")
            return Fault("future date", "laboratory", subject, "labs.parquet", "events")
        self._row("diagnoses.csv", patient=subject, code="I10", diagnosed_on="2094-05-01")
        return Fault("future date", "diagnosis", subject, "diagnoses.csv", "events")

    def _duplicate(self, subject: str, turn: int) -> Fault:
        self._copied.setdefault("vitals.csv", []).append(subject)
        return Fault("duplicate row", "vital sign", subject, "vitals.csv", "repeats")

    def _absurd(self, subject: str, turn: int) -> Fault:
        value = ("1320", "-5", "1e30", "0")[turn % 4]
        self._vital(subject, value=value)
        return Fault("absurd value", value, subject, "vitals.csv", "rejects", reason="out_of_range")

    def _missing_file(self, subject: str, turn: int) -> Fault:
        return self._image("missing file", "no such file", subject, turn, f"images/ABSENT{turn}.dcm", "file_missing")

    def _escape(self, subject: str, turn: int) -> Fault:
        link = self._source / "images" / "link.dcm"
        if not link.is_symlink():
            outside = self._source.parent / "outside.dcm"
            outside.write_bytes(b"not for us")
            link.symlink_to(outside.resolve())
        path = (
            *("../outside.dcm", "/etc/hostname", "images/../../outside.dcm", "images/link.dcm", "images", "."),
            *("images\\..\\..\\outside.dcm",),
        )[turn % 7]
        return self._image("path escape", path, subject, turn, path, "path_refused")

    def _broken_image(self, subject: str, turn: int) -> Fault:
        path, how, reason = self.broken_file(turn)
        fault = self._image("truncated or bomb image", how, subject, turn, path, reason)
        # Ingest takes any regular file: what is in it shows when it is opened.
        return Fault(fault.kind, how, subject, fault.file, "images", 1, reason, True, fault.image_id)

    def broken_file(self, turn: int) -> tuple[str, str, str]:
        """Make the turn's broken picture: its path in the source, what it is, the reason it is to be refused for."""
        how, reason, suffix, make = _BROKEN[turn % len(_BROKEN)]
        path = self._source / "images" / f"BROKEN{turn}{suffix}"
        first = path.with_name(f"BROKEN{turn % len(_BROKEN)}{suffix}")
        if turn < len(_BROKEN):
            make(self._a_picture(), first)
        else:
            shutil.copy(first, path)
        return f"images/{path.name}", how, reason

    def _unknown_code(self, subject: str, turn: int) -> Fault:
        if turn % 2:
            self._lab(subject, test="xyz")
            return Fault("unknown code", "laboratory", subject, "labs.parquet", "rejects", reason="unknown_code")
        self._row("diagnoses.csv", patient=subject, code="ZZ9", diagnosed_on="2014-01-07")
        return Fault("unknown code", "diagnosis", subject, "diagnoses.csv", "rejects", reason="unknown_code")

    def _unit(self, subject: str, turn: int) -> Fault:
        if turn % 2:
            self._lab(subject, unit=("g/gal", "mmol", "")[turn // 2 % 3])
            return Fault("wrong unit", "laboratory", subject, "labs.parquet", "rejects", reason="unknown_unit")
        self._vital(subject, unit="psi")
        return Fault("wrong unit", "vital sign", subject, "vitals.csv", "rejects", reason="unknown_unit")

    def _empty(self, subject: str, turn: int) -> Fault:
        new = f"EMPTY{turn:06d}"
        self._row("patients.csv", patient=new)
        # Each of the file's six mappings has a fact of that row, and nothing in it.
        return Fault("empty subject", "identifier alone", new, "patients.csv", "missing", facts=6)

    def _image(self, kind: str, how: str, subject: str, turn: int, path: str, reason: str) -> Fault:
        image_id = f"{''.join(word[0] for word in kind.split())}{turn}"
        at = f"{SEEN}T23:00:00"
        self._row("images.csv", patient=subject, image_id=image_id, taken_at=at, modality="CR", file=path)
        return Fault(kind, how, subject, "images.csv", "rejects", reason=reason, image_id=image_id)

    def _row(self, into: str, /, **row: str) -> None:
        self._rows.setdefault(into, []).append(row)

    def _vital(self, subject: str, value: str = "120", unit: str = "mmHg") -> None:
        at = "2014-06-15T08:05:00"
        self._row("vitals.csv", patient=subject, measured_at=at, name="systolic", value=value, unit=unit)

    def _lab(
        self, subject: str, value: float = 3.1, unit: str = "mmol/L", test: str = "ldl", drawn_on: str = "2014-06-16"
    ) -> None:
        self._labs.append({"patient": subject, "drawn_on": drawn_on, "test": test, "value": value, "unit": unit})

    def _a_picture(self) -> Path:
        return min((self._source / "images").glob("IM*-1.dcm"))

    def write(self) -> None:
        """Append everything collected to the files."""
        for file in {*self._rows, *self._copied}:
            path = self._source / file
            frame = pl.read_csv(path, infer_schema=False)
            added = pl.DataFrame(self._rows.get(file, []), schema=dict.fromkeys(frame.columns, pl.String))
            twice = frame.filter(pl.col("patient").is_in(self._copied.get(file, []))).unique("patient", keep="first")
            pl.concat([frame, added, twice]).write_csv(path)
        labs = self._source / "labs.parquet"
        frame = pl.read_parquet(labs)
        added = pl.DataFrame(
            self._labs,
            schema={
                "patient": pl.String,
                "drawn_on": pl.String,
                "test": pl.String,
                "value": pl.Float64,
                "unit": pl.String,
            },
        ).with_columns(pl.col("drawn_on").str.to_date())
        pl.concat([frame, added.select(frame.columns).cast(dict(frame.schema))]).write_parquet(labs)


def copied_source(source: Path, into: Path) -> Path:
    """A source folder of its own, pictures by hard link: faults are added beside them, none is changed."""
    shutil.copytree(
        source, into, copy_function=lambda a, b: os.link(a, b) if a.endswith(".dcm") else shutil.copy2(a, b)
    )
    return into


def _truncated_dicom(whole: Path, into: Path) -> None:
    content = whole.read_bytes()
    into.write_bytes(content[: len(content) // 2])


def _truncated_png(whole: Path, into: Path) -> None:
    content = _png(64, 64, zlib.compress(b"".join(b"\0" + bytes(range(64)) for _ in range(64))))
    into.write_bytes(content[: len(content) - 40])


def _png_bomb(whole: Path, into: Path) -> None:
    """A few hundred bytes that say they are 3.6 thousand million pixels."""
    into.write_bytes(_png(60_000, 60_000, zlib.compress(b"\0" * 60_001)))


def _dicom_bomb(whole: Path, into: Path) -> None:
    """A header of 65,535 x 65,535 pixels before the bytes of a small picture."""
    data = dcmread(whole)
    data.Rows = data.Columns = 65_535
    data.save_as(into, enforce_file_format=True)


def _many_frames(whole: Path, into: Path) -> None:
    data = dcmread(whole)
    data.NumberOfFrames = 2_000_000_000
    data.save_as(into, enforce_file_format=True)


def _deflated(whole: Path, into: Path) -> None:
    """A deflated data set: 16 MB of zeros out of a few kB, were it inflated."""
    data = dcmread(whole)
    data.Rows = data.Columns = 4_000
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.PixelData = bytes(16_000_000)
    data["PixelData"].VR = "OB"
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(into, enforce_file_format=True)


def _not_a_picture(whole: Path, into: Path) -> None:
    into.write_bytes(b"<html>404 not found</html>")


def _empty_file(whole: Path, into: Path) -> None:
    into.write_bytes(b"")


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


_BROKEN: Final = (
    ("truncated DICOM", "unreadable", ".dcm", _truncated_dicom),
    ("PNG bomb", "too_many_pixels", ".png", _png_bomb),
    ("truncated PNG", "unreadable", ".png", _truncated_png),
    ("DICOM bomb", "too_many_pixels", ".dcm", _dicom_bomb),
    ("DICOM of many frames", "too_many_pixels", ".dcm", _many_frames),
    ("deflated DICOM", "deflated_refused", ".dcm", _deflated),
    ("no picture at all", "unknown_format", ".dcm", _not_a_picture),
    ("empty file", "unknown_format", ".png", _empty_file),
)
