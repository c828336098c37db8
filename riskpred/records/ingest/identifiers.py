"""Turns a source's identifiers of people into int64 subject ids that do not depend on row order or company.

The rule holds for each identifier alone, so that one new person with an odd identifier changes nobody else's id:
an identifier that is a whole number as one would write it (12, -3, also 12.0 in a float column, but neither 012 nor
anything beyond int64) is kept; any other becomes 63 bits of the BLAKE2b hash of its text, without surrounding blanks.
"""

import hashlib

import polars as pl

from riskpred.records.ingest.values import text_of

SUBJECT = "#subject"
SOURCE_ID = "#source_id"


def with_subject(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Add SUBJECT (int64, null for an empty identifier) and SOURCE_ID (the identifier's text)."""
    frame = frame.with_columns(text_of(column, frame.schema[column]).alias(SOURCE_ID))
    whole = pl.col(SOURCE_ID).str.contains(r"^(0|-?[1-9]\d{0,18})$")
    kept = pl.when(whole).then(pl.col(SOURCE_ID)).cast(pl.Int64, strict=False)
    frame = frame.with_columns(kept.alias(SUBJECT))
    odd = frame.filter(pl.col(SUBJECT).is_null() & pl.col(SOURCE_ID).is_not_null())[SOURCE_ID].unique()
    if odd.is_empty():
        return frame
    hashed = pl.Series([hashed_identifier(text) for text in odd], dtype=pl.Int64)
    replaced = pl.col(SOURCE_ID).replace_strict(odd, hashed, default=None, return_dtype=pl.Int64)
    return frame.with_columns(pl.coalesce(SUBJECT, replaced).alias(SUBJECT))


def hashed_identifier(text: str) -> int:
    """63 bits of the hash of an identifier that is no whole number."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def hashed_uid(uid: str) -> str:
    """image_id of an image that a UID names (SOPInstanceUID, of a series SeriesInstanceUID): 32 hex characters.

    Example:
        >>> hashed_uid("1.2.3")
        '4cf590444a72af0a001a56e44da3ad2b'
    """
    return hashlib.blake2b(uid.strip().encode(), digest_size=16).hexdigest()
