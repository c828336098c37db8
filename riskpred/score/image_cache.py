"""What image encoders said of files on earlier nights, kept beside the scores so that an unchanged file is not read.

One DuckDB file. It holds nothing that cannot be computed again: it may be deleted at any time, a damaged one is
replaced by an empty one, and one that cannot be opened or written costs time, never the night. Every transaction is
whole, so kill -9 leaves the entries that were committed.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskpred.errors import OutputError
from riskpred.features.image import EncodedImage
from riskpred.features.join import starts
from riskpred.features.looked import Looked
from riskpred.imaging.paths import ImageProblem
from riskpred.records.chunk import ImageRow
from riskpred.records.publish import staged

KEEP_DAYS: Final = 90
"""Entries that no night used for so long are dropped: well above the age at which a carried score is computed anew."""

_USED_GRAIN_DAYS: Final = 7
"""`used_day` is brought up to date only when it is this old: a night without news writes next to nothing."""

_FLUSH: Final = 4096
_FLUSH_SECONDS: Final = 30.0
"""What was learned is written when it is so much or so old: to look at a volume takes seconds, and kill -9 comes."""

_MEMORY: Final = "256MB"
_DAY_SECONDS: Final = 86_400

_SCHEMA: Final = pa.schema(
    [
        ("encoder", pa.string()),
        ("subject_id", pa.int64()),
        ("image_type", pa.string()),
        ("content", pa.string()),
        ("path", pa.string()),
        ("stamp", pa.string()),
        ("sent", pa.list_(pa.float32())),
        ("mean", pa.list_(pa.float64())),
        ("sd", pa.list_(pa.float64())),
        ("spacing_slice", pa.float64()),
        ("spacing_row", pa.float64()),
        ("spacing_column", pa.float64()),
        ("input_hash", pa.list_(pa.string())),
        ("reason", pa.string()),
        ("wanted", pa.string()),
        ("found", pa.string()),
        ("used_day", pa.int32()),
    ]
)
_SPACING: Final = ("spacing_slice", "spacing_row", "spacing_column")
_KEY: Final = ("subject_id", "image_type", "content", "path", "stamp")
"""What tells the entries of one encoder apart."""

_TEXTS: Final = (*_KEY, "input_hash", "reason", "wanted", "found", "used_day")
_TABLE: Final = """CREATE TABLE IF NOT EXISTS entries (
    encoder VARCHAR, subject_id BIGINT, image_type VARCHAR, content VARCHAR, path VARCHAR, stamp VARCHAR, sent FLOAT[],
    mean DOUBLE[], sd DOUBLE[], spacing_slice DOUBLE, spacing_row DOUBLE, spacing_column DOUBLE, input_hash VARCHAR[],
    reason VARCHAR, wanted VARCHAR, found VARCHAR, used_day INTEGER)"""


def cache_path(scores: Path) -> Path:
    """Where the cache of a scores file lies. Example: cache_path(Path("a/scores.duckdb")).name"""
    return scores.absolute().parent / f".{scores.name}.images"


@dataclass(frozen=True)
class Known:
    """Entries of some subjects' images for one encoder, as columns.

    The image type is part of what an entry is known by: it decides how a file's bytes are prepared.

    Shape: start (N + 1,): entry n has pictures start[n]:start[n + 1], T in all; none where the file was a reject.
        sent (T, R, V); moments (T, 2): mean, SD; spacing_mm (N, 3): of slices, of rows, of columns.
    by_file, by_content: place of an entry by (subject, image type, path, stamp) and by (subject, image type, content).
    """

    columns: dict[str, list[Any]]
    start: NDArray[np.int64]
    sent: NDArray[np.float32]
    moments: NDArray[np.float64]
    spacing_mm: NDArray[np.float64]
    by_file: dict[tuple[int, str, str, str], int]
    by_content: dict[tuple[int, str, str], int]
    _contents: dict[tuple[int, str], tuple[str, ...]]

    def contents(self, row: ImageRow) -> tuple[str, ...]:
        """SHA-256 of all bytes known of the image's subject and type: these need no decoding."""
        return self._contents.get((row.subject_id, row.image_type), ())

    def same_bytes(self, row: ImageRow, content: str) -> int:
        """Place of the entry of one of its `contents`."""
        return self.by_content[row.subject_id, row.image_type, content]

    def find(self, row: ImageRow) -> int | None:
        """Place of the entry of an image as the table has it: by its sha256, else by an unchanged path and stamp."""
        if row.sha256:
            return self.by_content.get((row.subject_id, row.image_type, row.sha256.lower()))
        if row.stamp is None:
            return None
        return self.by_file.get((row.subject_id, row.image_type, row.path, row.stamp))

    def result(self, place: int) -> EncodedImage | Looked | ImageProblem:
        """What the file gave when it was read, number by number."""
        reason = self.columns["reason"][place]
        if reason is not None:
            return ImageProblem(reason, self.columns["wanted"][place])
        if (found := self.columns["found"][place]) is not None:
            return Looked.from_json(found)
        here = slice(self.start[place], self.start[place + 1])
        digests = tuple(self.columns["input_hash"][place])
        return EncodedImage(self.sent[here], self.moments[here], self.spacing_mm[place], digests)


@dataclass(frozen=True)
class News:
    """What a cache does not hold yet: entries learned, and keys of entries that served."""

    new: list[dict[str, object]]
    touched: list[dict[str, object]]


class Notebook(ABC):
    """Takes down what a night learns of images; `today`: days since 1970, UTC."""

    def __init__(self, today: int) -> None:
        self.today = today
        self._new: list[dict[str, object]] = []
        self._touched: list[dict[str, object]] = []

    def learn(self, encoder: str, row: ImageRow, content: str, result: EncodedImage | Looked | ImageProblem) -> None:
        """Keep what a file gave. `content`: SHA-256 of the bytes it was computed from."""
        entry: dict[str, object] = dict.fromkeys(_SCHEMA.names)
        entry |= {"encoder": encoder, "subject_id": row.subject_id, "content": content, "used_day": self.today}
        entry |= {"image_type": row.image_type, "path": row.path, "stamp": row.stamp}
        if isinstance(result, ImageProblem):
            entry |= {"reason": result.reason, "wanted": result.wanted}
        elif isinstance(result, Looked):
            entry |= {"found": result.to_json()}
        else:
            mean, sd = result.moments.T
            entry |= {"sent": result.sent.ravel(), "mean": mean, "sd": sd, "input_hash": list(result.input_hash)}
            entry |= dict(zip(_SPACING, result.spacing_mm.tolist(), strict=True))
        self._new.append(entry)

    def used(self, encoder: str, known: Known, place: int) -> None:
        """Say that an entry served tonight."""
        if known.columns["used_day"][place] <= self.today - _USED_GRAIN_DAYS:
            key = {name: known.columns[name][place] for name in _KEY}
            self._touched.append({"encoder": encoder, **key})

    @abstractmethod
    def known(self, encoder: str, subjects: NDArray[np.int64], shape: tuple[int, int]) -> Known:
        """Entries of these subjects (ascending) for one encoder, in one go. `shape`: (R, V) of one's `sent`."""


class Luggage(Notebook):
    """What a cache knows of some subjects, for a process that cannot open it; its `news` are brought back.

    Args:
        known: entries for one encoder; `encoder`: which. Of another encoder, that of another machine, nothing is known.
    """

    def __init__(self, today: int, encoder: str, known: Known) -> None:
        super().__init__(today)
        self._encoder, self._known = encoder, known

    def known(self, encoder: str, subjects: NDArray[np.int64], shape: tuple[int, int]) -> Known:
        """All that was packed; asked for some of its subjects."""
        return self._known if encoder == self._encoder else _index(_SCHEMA.empty_table(), shape)

    @property
    def news(self) -> News:
        return News(self._new, self._touched)


class ImageCache(Notebook):
    """The cache of one scores file, open for one night.

    notes: sentences on what went wrong, for the night's log; the cache is off from then on.

    Args:
        file: of `cache_path`.   today: None = the clock's.
    """

    def __init__(self, file: Path, keep_days: int = KEEP_DAYS, today: int | None = None) -> None:
        super().__init__(int(time() // _DAY_SECONDS) if today is None else today)
        self.notes: list[str] = []
        self._file = file
        self._flushed = monotonic()
        self._connection = self._open()
        if self._connection is not None:
            self._do("DELETE FROM entries WHERE used_day < ?", [self.today - keep_days])

    def __enter__(self) -> "ImageCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def known(self, encoder: str, subjects: NDArray[np.int64], shape: tuple[int, int]) -> Known:
        """As it is in the file; see `Notebook`."""
        table = _SCHEMA.empty_table()
        if self._connection is not None and len(subjects):
            self._flush()  # a subject may come again: its own news must be found
            wanted = pa.table({"subject_id": pa.array(subjects)})
            found = self._read(
                "SELECT * FROM entries WHERE encoder = ? AND subject_id BETWEEN ? AND ?"
                " AND subject_id IN (SELECT subject_id FROM wanted)",
                [encoder, int(subjects[0]), int(subjects[-1])],
                wanted,
            )
            table = table if found is None else found.combine_chunks()
        return _index(table, shape)

    def learn(self, encoder: str, row: ImageRow, content: str, result: EncodedImage | Looked | ImageProblem) -> None:
        """Keep what a file gave; see `Notebook`."""
        super().learn(encoder, row, content, result)
        if len(self._new) >= _FLUSH or monotonic() - self._flushed >= _FLUSH_SECONDS:
            self._flush()

    def take_in(self, news: News) -> None:
        """Keep what another process learned."""
        self._new += news.new
        self._touched += news.touched
        if len(self._new) >= _FLUSH:
            self._flush()

    def close(self) -> None:
        """Write what is left and close the file."""
        self._flush()
        if self._connection is not None:
            self._do("CHECKPOINT", [])
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> duckdb.DuckDBPyConnection | None:
        try:
            return _connected(self._file)
        except duckdb.Error as error:
            # The text decides which sentence is said; it is never shown: it may hold data.
            if "lock" in str(error).lower():
                self.notes.append("The cache of image embeddings is in use elsewhere: every image is read.")
                return None
            problem = type(error).__name__
        self.notes.append(f"The cache of image embeddings was not readable ({problem}): a new one is begun.")
        try:
            self._remove()
            return _connected(self._file)
        except (duckdb.Error, OSError) as error:
            self._off(error)
            return None

    def _remove(self) -> None:
        self._file.unlink(missing_ok=True)
        Path(f"{self._file}.wal").unlink(missing_ok=True)

    def _off(self, error: Exception) -> None:
        why = type(error).__name__
        self.notes.append(f"The cache of image embeddings cannot be used ({why}): images are read anew.")
        self._new, self._touched = [], []
        if (connection := getattr(self, "_connection", None)) is not None:
            self._connection = None
            connection.close()

    def _do(self, sql: str, values: list[object], rows: pa.Table | None = None) -> None:
        try:
            assert self._connection is not None
            if rows is not None:
                self._connection.register("rows", rows)
            self._connection.execute(sql, values).fetchall()
            if rows is not None:
                self._connection.unregister("rows")
        except duckdb.Error as error:
            self._off(error)

    def _read(self, sql: str, values: list[object], wanted: pa.Table) -> pa.Table | None:
        try:
            assert self._connection is not None
            self._connection.register("wanted", wanted)
            found = self._connection.sql(sql, params=values).to_arrow_table()
            self._connection.unregister("wanted")
        except duckdb.Error as error:
            # Damaged within: the next night begins a new one.
            self._off(error)
            self._remove()
            return None
        return found

    def _flush(self) -> None:
        self._flushed = monotonic()
        if self._connection is not None and self._new:
            columns = {name: [entry[name] for entry in self._new] for name in _SCHEMA.names}
            rows = pa.table([pa.array(columns[f.name], type=f.type) for f in _SCHEMA], schema=_SCHEMA)
            names = ", ".join(_SCHEMA.names)
            self._do(f"INSERT INTO entries ({names}) SELECT {names} FROM rows", [], rows)
        if self._connection is not None and self._touched:
            key = ("encoder", *_KEY)
            same = " AND ".join(f"entries.{name} IS NOT DISTINCT FROM rows.{name}" for name in key)
            self._do(
                f"UPDATE entries SET used_day = ? FROM rows WHERE {same}",
                [self.today],
                pa.Table.from_pylist(self._touched, schema=pa.schema([_SCHEMA.field(name) for name in key])),
            )
        self._new, self._touched = [], []


def forget(scores: Path, subjects: Sequence[int]) -> int:
    """Remove subjects from the cache of a scores file, bytes included: the file is written anew without them.

    Returns: entries removed; 0 where there is no cache.
    Raises: OutputError, when the file is in use or cannot be read: a person must not be left in it unsaid.
    """
    file = cache_path(scores)
    if not file.exists():
        return 0
    try:
        with _connected(file) as old:
            # What lies in the log becomes part of the file: another process then reads it whole.
            old.execute("CHECKPOINT")
            gone = old.execute("SELECT count(*) FROM entries WHERE subject_id IN (SELECT unnest(?))", [list(subjects)])
            count = int(gone.fetchall()[0][0])
    except duckdb.Error as error:
        raise OutputError(
            f"{file}: the cache of image embeddings cannot be opened ({type(error).__name__}).",
            wanted="a cache that no night is using",
            do="wait for the night to end, then run again; or delete the file, which costs one slower night",
        ) from None
    if count:
        with staged(file) as new:
            new.execute(_TABLE)
            quoted = str(file).replace("'", "''")
            new.execute(f"ATTACH '{quoted}' AS old (READ_ONLY)")
            new.execute(
                "INSERT INTO entries SELECT * FROM old.entries WHERE subject_id NOT IN (SELECT unnest(?))"
                " ORDER BY encoder, subject_id",
                [list(subjects)],
            )
            new.execute("DETACH old")
    return count


def _connected(file: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(file))
    try:
        for setting in ("autoinstall_known_extensions", "autoload_known_extensions"):
            connection.execute(f"SET {setting} = false")
        connection.execute(f"SET memory_limit = '{_MEMORY}'")
        connection.execute("SET threads = 1")
        connection.execute(_TABLE)
        if [name for name, *_ in connection.execute("DESCRIBE entries").fetchall()] != _SCHEMA.names:
            raise duckdb.InvalidInputException("another release's cache")
    except duckdb.Error:
        connection.close()
        raise
    return connection


def _index(table: pa.Table, shape: tuple[int, int]) -> Known:
    def flat(name: str) -> NDArray[np.generic]:
        return np.asarray(table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False))

    pictures = np.array([0 if one is None else len(one) for one in table["mean"].to_pylist()], dtype=np.int64)
    spacing = [table[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in _SPACING]
    columns = {name: table[name].to_pylist() for name in _TEXTS}
    by_file, by_content, contents = {}, {}, dict[tuple[int, str], tuple[str, ...]]()
    keys = (columns[name] for name in _KEY)
    for place, (subject, image_type, content, path, stamp) in enumerate(zip(*keys, strict=True)):
        by_content[subject, image_type, content] = place
        contents[subject, image_type] = (*contents.get((subject, image_type), ()), content)
        if stamp is not None:
            by_file[subject, image_type, path, stamp] = place
    return Known(
        columns,
        starts(pictures),
        flat("sent").astype(np.float32).reshape(-1, *shape),
        np.stack([flat("mean"), flat("sd")], axis=1).astype(np.float64),
        np.stack(spacing, axis=1),
        by_file,
        by_content,
        contents,
    )
