"""The small parts of a night: its moment and identity, the top N, pseudonyms."""

import hmac

import numpy as np
import pytest

from riskpred.errors import UsageError
from riskpred.score.plan import iso, parse_time, run_id
from riskpred.score.pseudonyms import pseudonyms
from riskpred.score.select import TopSubjects

DAY = 86_400_000_000


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1970-01-02", DAY),
        ("1970-01-02T00:00:00Z", DAY),
        ("1970-01-02T01:00+01:00", DAY),
        ("1970-01-01T00:00:00.000001", 1),
        ("1969-12-31", -DAY),
    ],
)
def test_as_of_is_utc_unless_it_says_otherwise(text: str, microseconds: int) -> None:
    assert parse_time(text) == microseconds


@pytest.mark.parametrize("text", ["tonight", "2026-13-01", ""])
def test_an_unreadable_as_of_says_what_is_wanted(text: str) -> None:
    with pytest.raises(UsageError, match="ISO 8601"):
        parse_time(text)


def test_a_night_still_to_come_is_refused() -> None:
    with pytest.raises(UsageError, match="still to come"):
        parse_time("2999-01-01")


def test_a_run_is_named_by_everything_that_decides_it() -> None:
    one = run_id(DAY, "bundle", "warehouse", "fp32")
    assert one == run_id(DAY, "bundle", "warehouse", "fp32")
    others = [
        run_id(DAY + 1, "bundle", "warehouse", "fp32"),
        run_id(DAY, "other", "warehouse", "fp32"),
        run_id(DAY, "bundle", "other", "fp32"),
        run_id(DAY, "bundle", "warehouse", "int8"),
    ]
    assert len({one, *others}) == 5
    assert iso(DAY + 1) == "1970-01-02T00:00:00.000001"


def test_the_top_do_not_depend_on_how_they_came() -> None:
    draw = np.random.default_rng(3)
    subjects = draw.permutation(500).astype(np.int64)
    score = np.round(draw.random(500), 2)  # many ties
    score[::7] = np.nan
    expected = sorted(
        (subject for subject, s in zip(subjects.tolist(), score.tolist(), strict=True) if s == s),
        key=lambda subject: (-score[subjects == subject][0], subject),
    )[:40]
    for size in (1, 13, 500):
        top = TopSubjects(40)
        for first in range(0, 500, size):
            top.offer(subjects[first : first + size], score[first : first + size])
        assert top.subjects().tolist() == sorted(expected)
    nobody = TopSubjects(0)
    nobody.offer(subjects, score)
    assert len(nobody.subjects()) == 0


def test_pseudonyms_are_the_hmac_of_the_subject() -> None:
    expected = hmac.new(b"salt", b"1042", "sha256").hexdigest()[:12]
    assert pseudonyms(b"salt", np.array([1042, 7], dtype=np.int64))[0] == expected
    assert pseudonyms(b"pepper", np.array([1042], dtype=np.int64)) != [expected]
