"""Names by which a report calls a subject: HMAC-SHA256 with a salt that never leaves the scores file."""

import hmac
import secrets
from hashlib import sha256

import numpy as np
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

SALT = "pseudonym_salt"


def kept_salt(connection: DuckDBPyConnection) -> bytes:
    """The salt in the table `secrets`; made at random and stored where the file has none yet."""
    found = connection.execute("SELECT secret FROM secrets WHERE name = ?", [SALT]).fetchall()
    if found:
        return bytes(found[0][0])
    salt = secrets.token_bytes(32)
    connection.execute("INSERT INTO secrets (name, secret) VALUES (?, ?)", [SALT, salt])
    return salt


def pseudonyms(salt: bytes, subject_id: NDArray[np.int64]) -> list[str]:
    """First 12 hex characters of HMAC-SHA256(salt, decimal subject_id), one per subject."""
    return [hmac.digest(salt, str(subject).encode(), sha256().name).hex()[:12] for subject in subject_id.tolist()]
