"""identifiers.py: whole numbers are kept, anything else is hashed, each for itself."""

from typing import Any

import polars as pl
import pytest

from riskpred.records.ingest.identifiers import SUBJECT, hashed_identifier, with_subject


def subjects(values: Any) -> list[int | None]:
    return with_subject(pl.DataFrame({"id": values}), "id")[SUBJECT].to_list()


def test_whole_numbers_are_kept() -> None:
    assert subjects(["12", " -3 ", "0", "9223372036854775807"]) == [12, -3, 0, 2**63 - 1]
    assert subjects([12, -3]) == [12, -3]
    assert subjects([12.0, None]) == [12, None]


@pytest.mark.parametrize("text", ["012", "-0", "a7", "1.5", "9223372036854775808", "+1", "1e3"])
def test_anything_else_is_hashed_to_63_bits(text: str) -> None:
    [found] = subjects([text])
    assert found == hashed_identifier(text)
    assert found is not None
    assert 0 <= found < 2**63


def test_the_hash_is_the_same_for_ever() -> None:
    # A changed hash would make other people of everyone at the next ingest.
    assert hashed_identifier("a7") == 2_022_866_661_631_995_805


def test_company_and_order_change_nobody() -> None:
    alone = subjects(["12"])
    assert subjects(["x", "12", "012"])[1:2] == alone
    assert subjects(["012", "x"]) == subjects(["x", "012"])[::-1]


def test_blank_identifiers_are_nobody() -> None:
    assert subjects(["", "  ", None]) == [None, None, None]
