"""What a night is, decided before any work: its moment, its identity, and how long its rows stay valid at most."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from riskpred.errors import UsageError
from riskpred.records.chunk import DAY_US
from riskpred.records.warehouse import Warehouse

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle

NUMERIC_PATH: Final = "fp32"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Night:
    """One run: every row it writes carries run_id. Times are UTC microseconds.

    max_score_age_days: a row is recomputed at least this often.
    """

    run_id: str
    as_of: int
    started_at: int
    warehouse_digest: str
    bundle_sha256: str
    numeric_path: str = NUMERIC_PATH
    max_score_age_days: int = 30


def latest_valid(night: Night, subject_id: NDArray[np.int64]) -> NDArray[np.int64]:
    """Until when at most each subject's rows may be carried: its own moment of a cycle of max_score_age_days.

    The moments are spread over the cycle by a hash of the subject, so that no night finds everyone expired, and each
    subject expires once a cycle, not more often. Shape: (S,), UTC microseconds, after as_of.
    Example:
        >>> night = Night("r", 0, 0, "", "", max_score_age_days=2)
        >>> bool((latest_valid(night, np.arange(1000)) <= 2 * DAY_US).all())
        True
    """
    cycle = night.max_score_age_days * DAY_US
    mixed = subject_id.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    own = (mixed * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(16)) % np.uint64(cycle)
    left = (own.astype(np.int64) - night.as_of) % cycle
    return night.as_of + np.where(left == 0, cycle, left)


def now_us() -> int:
    """This moment in UTC microseconds."""
    return (datetime.now(UTC) - _EPOCH) // timedelta(microseconds=1)


def parse_time(text: str) -> int:
    """UTC microseconds of an ISO 8601 date or time; without an offset it is UTC, a date is its 00:00.

    Raises: UsageError, when it is neither, or still to come: such a night would stay the latest one until then.
    Example:
        >>> parse_time("1970-01-02")
        86400000000
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--as-of {text}: not a time.", wanted="ISO 8601, UTC: 2026-11-22 or 2026-11-22T06:00", do="correct it"
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if moment > datetime.now(UTC):
        raise UsageError(f"--as-of {text}: is still to come.", wanted="now or earlier, UTC", do="correct it")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def iso(time: int) -> str:
    """ISO 8601 text of UTC microseconds, without an offset: `2026-11-22T00:00:00`."""
    return (_EPOCH + timedelta(microseconds=time)).replace(tzinfo=None).isoformat()


def run_id(as_of: int, bundle_sha256: str, warehouse_digest: str, numeric_path: str) -> str:
    """The same inputs, bundle, moment and numeric path give the same run."""
    text = "\n".join((iso(as_of), bundle_sha256, warehouse_digest, numeric_path))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan_night(
    warehouse: Warehouse, bundle: "Bundle", as_of: int | None, numeric_path: str, max_score_age_days: int
) -> Night:
    """Settle the night's moment (`as_of`, else the warehouse's own, else today 00:00 UTC) and its identity."""
    started = now_us()
    moment = as_of if as_of is not None else warehouse.as_of
    if moment is None:
        moment = started // DAY_US * DAY_US
    digest = warehouse.digest()
    return Night(
        run_id=run_id(moment, bundle.sha256, digest, numeric_path),
        as_of=moment,
        started_at=started,
        warehouse_digest=digest,
        bundle_sha256=bundle.sha256,
        numeric_path=numeric_path,
        max_score_age_days=max_score_age_days,
    )
