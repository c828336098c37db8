"""Figures of the night benchmark on disk: a part that is cut off keeps its attempts, and the page says so."""

from pathlib import Path

import pytest

from tests.benchmarks.night import kills, results, targets

KEY = {"asked_kills": 3}


class CutOff(Exception):
    """Stands for whatever ends a run in the middle."""


class Part:
    """A part of three attempts, each a kill that is survived; notes which it makes."""

    def __init__(self, stop_at: int | None = None, left: str = "old") -> None:
        self._stop_at, self._left = stop_at, left
        self.makes: list[int] = []

    def __call__(self, attempts: results.Attempts) -> results.Figures:
        for number in range(3):
            if number == self._stop_at:
                raise CutOff
            if str(number) not in attempts.made:
                self.makes.append(number)
                attempts.add(str(number), {"left": self._left}, self._figures(attempts, number))
        return self._figures(attempts, None)

    def _figures(self, attempts: results.Attempts, added: int | None) -> results.Figures:
        left = [found["left"] for found in attempts.made.values()] + ([self._left] if added is not None else [])
        whole = sum(one == "old" for one in left)
        same = {"reruns_with_the_same_rows": whole, "reruns_with_the_same_digest": whole, "survived": whole}
        return {"kills": len(left), "left": {one: left.count(one) for one in left}, "while_publishing": 0, **same}


def row(work: Path) -> targets.Row:
    return next(row for row in targets.rows(work) if row.what.startswith("kill -9"))


def test_a_part_that_was_cut_off_keeps_its_attempts_and_goes_on_with_the_rest(tmp_path: Path) -> None:
    with pytest.raises(CutOff):
        results.measured(tmp_path, "kills", False, Part(stop_at=2), KEY)
    cut = results.read(tmp_path, "kills")
    assert cut is not None
    assert (list(cut["attempts"]), cut["kills"], cut["unfinished"]) == (["0", "1"], 2, True)
    assert (row(tmp_path).met, row(tmp_path).figure.endswith("; unfinished")) == (None, True)
    rest = Part()
    found = results.measured(tmp_path, "kills", False, rest, KEY)
    assert rest.makes == [2]
    assert (list(found["attempts"]), found["kills"], "unfinished" in found) == (["0", "1", "2"], 3, False)
    assert (row(tmp_path).met, row(tmp_path).figure[:6]) == (True, "old 3;")
    assert found["codes"] == [results.code()]
    unasked = Part()
    assert results.measured(tmp_path, "kills", False, unasked, KEY) == found
    assert unasked.makes == []


def test_a_failure_is_missed_before_the_part_is_whole(tmp_path: Path) -> None:
    with pytest.raises(CutOff):
        results.measured(tmp_path, "kills", False, Part(stop_at=1, left="runs"), KEY)
    assert row(tmp_path).met is False


@pytest.mark.parametrize(("again", "key"), [(True, KEY), (False, {"asked_kills": 9})])
def test_again_and_another_size_begin_anew(tmp_path: Path, again: bool, key: results.Figures) -> None:
    with pytest.raises(CutOff):
        results.measured(tmp_path, "kills", False, Part(stop_at=2), KEY)
    anew = Part()
    results.measured(tmp_path, "kills", again, anew, key)
    assert anew.makes == [0, 1, 2]


def test_a_page_names_the_commits_of_all_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "code", lambda: "one")
    with pytest.raises(CutOff):
        results.measured(tmp_path, "kills", False, Part(stop_at=2), KEY)
    monkeypatch.setattr(results, "code", lambda: "two")
    results.measured(tmp_path, "kills", False, Part(), KEY)
    assert row(tmp_path).made.endswith(", one, two")


@pytest.mark.parametrize("rate", ["", ", 1,442 a second"])
def test_the_last_row_is_computed_when_the_night_says_so_with_a_rate_or_without(rate: str) -> None:
    said = f"score: 2,000 of 2,000{rate}\nexplain: 19 of 20{rate}\n"
    assert kills._ALL_COMPUTED.search(said) is None
    assert kills._ALL_COMPUTED.search(f"{said}explain: 20 of 20{rate}\n")
