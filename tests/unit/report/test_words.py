import pytest

from riskpred.report.language import language
from riskpred.report.words import Words

words = Words(language("en"))
SPACE = "\u00a0"


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0912, "9.1 %"), (0.0, "0.0 %"), (1.0, "100.0 %"), (0.00342, "0.34 %"), (0.0099, "0.99 %"), (0.00996, "1.0 %")],
)
def test_percent_keeps_a_digit_of_small_risks(share: float, shown: str) -> None:
    assert words.percent(share) == shown.replace(" ", SPACE)


@pytest.mark.parametrize(
    ("share", "denominator", "expected"),
    [
        (0.0912, 100, ("9", "91")),
        (0.095, 100, ("10", "90")),
        (0.004, 100, ("fewer than 1", "more than 99")),
        (0.004, 1000, ("4", "996")),
        (0.0, 100, ("0", "100")),
        (0.997, 100, ("more than 99", "fewer than 1")),
        (1.0, 100, ("100", "0")),
    ],
)
def test_people_with_and_without_the_event(share: float, denominator: int, expected: tuple[str, str]) -> None:
    assert words.people(share, denominator) == expected


def test_those_with_and_those_without_are_everyone() -> None:
    for share in (n / 977 for n in range(978)):
        shown = words.people(share, 100)
        if all(part.isdigit() for part in shown):
            assert sum(map(int, shown)) == 100
            assert abs(int(shown[0]) - 100 * share) <= 0.5


@pytest.mark.parametrize(
    ("value", "decimals", "shown"),
    [(2.06, 1, "+2.1"), (-0.4, 1, "\u22120.4"), (-0.04, 1, "0.0"), (0.04, 2, "+0.04"), (0.0, 1, "0.0")],
)
def test_points_carry_a_sign_unless_they_round_to_nothing(value: float, decimals: int, shown: str) -> None:
    assert words.points(value, decimals) == shown


@pytest.mark.parametrize(
    ("years", "shown"),
    [
        (0.0, "now"),
        (10.0, "10 years"),
        (1.0, "1 year"),
        (0.5, "6 months"),
        (30 / 365.25, "30 days"),
        (2.5, "30 months"),
    ],
)
def test_horizon(years: float, shown: str) -> None:
    assert words.horizon(years) == shown.replace(" ", SPACE)


@pytest.mark.parametrize(
    ("days", "shown"),
    [(0.4, "on the same day"), (1.0, "1 day before"), (43.0, "43 days before"), (200.0, "7 months before"),
     (900.0, "2.5 years before"), (4000.0, "11 years before")],
)  # fmt: skip
def test_age(days: float, shown: str) -> None:
    assert words.age(days).replace(SPACE, " ") == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(52.0, "52"), (0.0512345, "0.05123"), (1234567.8, "1234568"), (-5.5, "\u22125.5"), (0.0, "0"),
     (1e-9, "0.000000001"),
     (129.25, "129.2"), (100.0, "100")],
)  # fmt: skip
def test_figure_is_plain(number: float, shown: str) -> None:
    assert words.figure(number) == shown


def test_dates_do_not_depend_on_the_locale() -> None:
    assert words.moment("2026-03-03T06:30:00Z") == "3 Mar 2026, 06:30 UTC".replace(" ", SPACE).replace(
        f",{SPACE}", ", "
    )
    assert words.date(None) == "not dated"


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "among the lowest 1 in 100"), (0.873, "higher than in 87 of 100"), (1.0, "higher than in 99 of 100")],
)
def test_percentile_never_claims_everyone(share: float, shown: str) -> None:
    assert words.percentile(share) == shown
