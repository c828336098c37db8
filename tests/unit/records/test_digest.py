"""Digests: their text, their inverse, and what may not change them."""

import numpy as np
import pyarrow as pa
import pytest

from riskpred.records.digest import add_images, events_digests, hex_texts, lanes_of, row_sums, text_lanes, whole_digest

NOTHING = text_lanes([])


def one(time: int, value: float, text: int = -1) -> np.ndarray:
    arrays = (np.array([time]), np.array([0], np.int32), np.array([value]), np.array([text], np.int32))
    return row_sums(
        np.array([0, 1]), *arrays, np.array([-1], np.int32), (text_lanes(["A"]), text_lanes(["x"]), NOTHING)
    )


def test_texts_are_32_hex_characters_and_lead_back(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = np.array([[0, 1], [2**64 - 1, 2**63]], dtype=np.uint64)
    for block in (1, 65_536):
        monkeypatch.setattr("riskpred.records.digest._BLOCK", block)
        texts = hex_texts(lanes)
        assert texts.to_pylist() == ["0" * 31 + "1", "f" * 16 + "8" + "0" * 15]
        assert np.array_equal(lanes_of(texts), lanes)
    assert hex_texts(lanes[:0]).to_pylist() == []
    assert lanes_of(pa.array([], pa.string())).shape == (0, 2)
    with pytest.raises(AssertionError, match="32 characters"):
        lanes_of(pa.array(["ab"]))


def test_texts_differ_by_content_length_and_cut() -> None:
    texts = ["", "a", "b", "ab", "ba", "a\0", "é", "x" * 100]
    lanes = text_lanes(texts)
    assert len({tuple(lane) for lane in lanes.tolist()}) == len(texts) + 1  # and nothing at all
    assert np.array_equal(text_lanes(pa.array(["_", *texts]).slice(1)), lanes)
    assert not lanes[-1].any()


def test_both_lanes_hold_the_whole_record() -> None:
    changed = [one(1, 2.0), one(2, 2.0), one(1, 3.0), one(1, 2.0, 0), one(1, np.nan)]
    for lane in range(2):
        assert len({int(sums[0, lane]) for sums in changed}) == 5
    assert np.array_equal(one(1, 0.0), one(1, -0.0))


def test_a_repeated_row_counts_and_parts_add_up() -> None:
    row, other = one(1, 2.0), one(5, 7.0)
    digests = {tuple(events_digests(sums)[0]) for sums in (row * 0, row, row + row, row + other, row + row + other)}
    assert len(digests) == 5


def test_an_image_belongs_to_one_subject_and_every_field_counts() -> None:
    def sums(owner: int, *texts: str) -> np.ndarray:
        out = np.zeros((2, 2), np.uint64)
        add_images(out, np.array([owner]), np.array([5]), tuple(pa.array([text]) for text in texts))
        return out

    assert not sums(1, "i", "CR", "p", "f")[0].any()
    variants = ("i", "CR", "p", "f"), ("j", "CR", "p", "f"), ("CR", "i", "p", "f"), ("i", "CR", "f", "p")
    assert len({tuple(sums(1, *texts)[1]) for texts in variants}) == 4


def test_the_whole_depends_on_who_has_which_digest() -> None:
    ids, lanes = np.array([1, 2]), np.array([[1, 2], [3, 4]], np.uint64)
    assert whole_digest(ids, lanes) != whole_digest(ids, lanes[::-1])
    assert whole_digest(ids, lanes) != whole_digest(ids + 1, lanes)


def test_a_known_digest_stays() -> None:
    """Raise DIGEST_VERSION with this text: stored digests of the old rule must then be made anew."""
    assert hex_texts(events_digests(one(1, 2.0, 0))).to_pylist() == [EXPECTED]


EXPECTED = "3a7b840e1e3cf9d7a9e90fe5cd184a07"
