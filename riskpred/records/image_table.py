"""Reads the table `images` of an open warehouse: as rows by subject, as digests, and what is left out."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from riskpred.records.chunk import STATIC, ImageRow
from riskpred.records.digest import Lanes, add_images
from riskpred.records.image_path import ANY, file_stamp, image_file

_OF_AN_IMAGE = ("image_id", "subject_id", "image_type", "path")
COMPLETE_IMAGE = " AND ".join(f"{name} IS NOT NULL" for name in _OF_AN_IMAGE)
"""SQL condition on `images`: the rows that are read. The others cost themselves alone: see `incomplete`."""
_BATCH = 131_072
_BAND = 32_768
"""Subjects whose images are sorted at once, so that the memory does not grow with the number of images."""


class ImageTable:
    """`images`; `root` is the folder that paths are relative to."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, columns: dict[str, str], root: Path) -> None:
        self._connection, self._root = connection, root
        sha256, series = (name if name in columns else "NULL" for name in ("sha256", "series"))
        self._select = (
            f"SELECT image_id::VARCHAR, subject_id::BIGINT, coalesce(epoch_us(time), {STATIC}), image_type::VARCHAR,"
            f" path::VARCHAR, {sha256}::VARCHAR, {series}::VARCHAR FROM images WHERE {COMPLETE_IMAGE}"
        )

    def rows(self, wanted: NDArray[np.int64]) -> Iterator[ImageRow]:
        """Complete rows of these subjects (ascending), by (subject_id, time, image_id)."""
        for first in range(0, len(wanted), _BAND):
            band = wanted[first : first + _BAND]
            cursor = self._connection.cursor()
            cursor.register("wanted", pa.table({"subject_id": band}))
            batches = cursor.sql(
                f"{self._select} AND subject_id BETWEEN {band[0]} AND {band[-1]}"
                " AND subject_id IN (SELECT subject_id FROM wanted)"
                " ORDER BY subject_id, time NULLS FIRST, image_id, path, image_type"
            ).to_arrow_reader(_BATCH)
            for row in chain.from_iterable(zip(*(c.to_pylist() for c in b.columns), strict=True) for b in batches):
                image_id, subject, time, kind, path, digest, series = row
                stamp = None if digest else self._stamp(path, series)
                yield ImageRow(image_id, subject, time, kind, path, digest, stamp, series)

    def subjects(self) -> NDArray[np.int64]:
        """Ascending ids of everyone with a row, be it incomplete."""
        sql = "SELECT DISTINCT subject_id::BIGINT FROM images WHERE subject_id IS NOT NULL"
        return np.sort(self._connection.cursor().sql(sql).to_arrow_table().column(0).to_numpy())

    def digest_sums(self, subjects: NDArray[np.int64]) -> Lanes:
        """Sum of the digests of each subject's images, see digest.add_images. `subjects`: everyone, ascending."""
        sums = np.zeros((len(subjects), 2), dtype=np.uint64)
        for batch in self._connection.cursor().sql(self._select).to_arrow_reader(_BATCH):
            image_id, subject, time, kind, path, sha256, series = batch.columns
            owner = np.searchsorted(subjects, subject.to_numpy())
            # The compiled loop does not look: an owner that is nobody would be written past the end.
            assert np.isin(subject.to_numpy(), subjects).all(), "everyone with an image has a digest"
            add_images(sums, owner, time.to_numpy(), (image_id, kind, path, self._contents(path, sha256, series)))
        return sums

    def incomplete(self) -> list[tuple[str, int | None, str]]:
        """See Warehouse.incomplete_images."""
        rows = self._connection.cursor().execute(
            f"SELECT number, {', '.join(_OF_AN_IMAGE)} FROM (SELECT *, row_number() OVER () AS number FROM images)"
            f" WHERE NOT ({COMPLETE_IMAGE}) ORDER BY number"
        )
        return [
            (
                str(number if values[0] is None else values[0]),
                values[1],
                ", ".join(name for name, value in zip(_OF_AN_IMAGE, values, strict=True) if value is None),
            )
            for number, *values in rows.fetchall()
        ]

    def _contents(self, path: pa.Array, sha256: pa.Array, series: pa.Array) -> pa.Array:
        """What stands for the file of each image: its sha256, else its stamp."""
        empty = pc.or_kleene(pc.is_null(sha256), pc.equal(sha256, ""))
        if not pc.any(empty).as_py():
            return sha256
        unknown = zip(path.filter(empty).to_pylist(), series.filter(empty).to_pylist(), strict=True)
        stamps = pa.array([self._stamp(*one) for one in unknown], sha256.type)
        return pc.replace_with_mask(sha256, empty, stamps)

    def _stamp(self, path: str, series: str | None) -> str:
        found = image_file(self._root, path, folders=True)
        names = series if series is not None and ANY in series else None
        stamp = found if isinstance(found, str) else file_stamp(found, names)
        return stamp if series is None else f"{stamp} {series}"
