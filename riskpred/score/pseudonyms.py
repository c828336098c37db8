"""Names by which a report calls a subject: HMAC-SHA256 with a salt that never leaves the scores file."""

import hmac
import secrets
from hashlib import sha256
from pathlib import Path

import numpy as np
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from riskpred.score.store import open_published

SALT = "pseudonym_salt"


def published_salt(scores: Path) -> bytes | None:
    """The salt in the published file; None where there is no file yet."""
    if not scores.exists():
        return None
    connection = open_published(scores)
    try:
        found = connection.execute("SELECT secret FROM secrets WHERE name = ?", [SALT]).fetchall()
        return bytes(found[0][0]) if found else None
    finally:
        connection.close()


def new_salt() -> bytes:
    return secrets.token_bytes(32)


def keep_salt(connection: DuckDBPyConnection, salt: bytes) -> None:
    """Store the salt in the table `secrets`, unless it is there."""
    found = connection.execute("SELECT secret FROM secrets WHERE name = ?", [SALT]).fetchall()
    assert not found or bytes(found[0][0]) == salt, "one salt for all nights of a file"
    if not found:
        connection.execute("INSERT INTO secrets (name, secret) VALUES (?, ?)", [SALT, salt])


def pseudonyms(salt: bytes, subject_id: NDArray[np.int64]) -> list[str]:
    """First 12 hex characters of HMAC-SHA256(salt, decimal subject_id), one per subject."""
    return [hmac.digest(salt, str(subject).encode(), sha256().name).hex()[:12] for subject in subject_id.tolist()]
