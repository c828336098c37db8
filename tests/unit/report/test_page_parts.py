"""What a page says of the reasons: groups, usual ranges, what if, past runs, equations, moments, regions, the model."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from html import unescape
from pathlib import Path
from typing import Any

import duckdb
import pytest

from riskpred.errors import InputError
from riskpred.report import render
from riskpred.report.read import Scores
from riskpred.report.summarise import summarise

NIGHT = "run-of-21-november"
SPACE = "\u00a0"


def _summaries(path: Path) -> dict[str, dict[str, Any]]:
    with Scores.open(path) as opened:
        found = opened.rows(opened.scored()).values()
        return {rows.pseudonym: summarise(opened.run, rows) for rows in found}


@pytest.fixture(scope="module")
def summaries(scores: Path) -> dict[str, dict[str, Any]]:
    return _summaries(scores)


@pytest.fixture(scope="module")
def explained(summaries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in summaries.items() if any(o["reasons"]["features"] for o in one["outcomes"])}


@pytest.fixture
def own(tmp_path: Path, write_scores: Callable[..., Path]) -> Path:
    """A file of one's own, to change: 8 people, all explained."""
    return write_scores(tmp_path / "s.duckdb", subjects=4, explained=4)


def _change(path: Path, sql: str, *values: object) -> Path:
    with duckdb.connect(str(path)) as connection:
        connection.execute(sql, list(values))
    return path


def test_a_group_is_the_sum_of_its_facts_and_says_what_goes_together(explained: dict[str, dict[str, Any]]) -> None:
    seen = set()
    for summary in explained.values():
        for one in summary["outcomes"]:
            for group in [*one["reasons"]["raises"], *one["reasons"]["lowers"]]:
                seen.add(group["group"] or group["code"])
                shown = sum(fact["contribution"] for fact in group["members"])
                assert shown + group["members_not_shown"]["contribution"] == pytest.approx(group["contribution"])
                assert len(group["members"]) + group["members_not_shown"]["count"] == group["count"]
                codes = {fact["feature"].split(":")[0] for fact in group["members"]}
                assert codes <= {"LAB//HDL", "LAB//LDL"} if group["group"] == "lipids" else len(codes) <= 2
    assert {"lipids", "person", "LAB//HBA1C", "VITAL//HR"} <= seen, "by the card's groups, else by code"


def test_a_value_says_on_which_side_of_its_usual_range_it_lies(
    explained: dict[str, dict[str, Any]], read_page: Callable[[str], Any]
) -> None:
    sides = set()
    for summary in explained.values():
        text = read_page(render.page(summary)).text
        facts = [
            fact
            for one in summary["outcomes"]
            for side in ("raises", "lowers")
            for group in one["reasons"][side]
            for fact in group["members"]
            if fact["usual"]
        ]
        women = summary["outcomes"][0]["reference_group"].startswith("women")
        for fact in facts:
            if fact["feature"].startswith("LAB//HDL"):
                assert fact["usual"] == {"low": 1.3 if women else 1.0, "high": None}, "that of the person's sex"
            low, high = fact["usual"]["low"], fact["usual"]["high"]
            wanted = "below" if low and fact["value"] < low else "above" if high and fact["value"] > high else "within"
            assert fact["side"] == wanted
            sides.add((fact["feature"].split(":")[0], wanted))
            if fact["feature"] == "VITAL//SBP" and wanted == "above":
                assert re.search(
                    rf"Systolic pressure over time [\d.]+{SPACE}mmHg \(high, usual range 90–140\), \d", text
                )
    assert {("VITAL//SBP", "above"), ("LAB//LDL", "above"), ("LAB//LDL", "within")} <= sides
    assert ("LAB//HDL", "within") in sides


def test_what_is_missing_and_what_would_have_to_change(
    explained: dict[str, dict[str, Any]], read_page: Callable[[str], Any], ask: Callable[..., Any]
) -> None:
    rows = ask(
        "SELECT p.pseudonym, m.*, r.risk FROM missing_impact m JOIN pseudonyms p USING (run_id, subject_id) "
        "JOIN risk_scores r USING (run_id, subject_id, outcome, horizon_years)"
    )
    pages = {name: read_page(render.page(summary)) for name, summary in explained.items()}
    assert len(rows) >= 30
    for row in rows:
        page, low, high = pages[row["pseudonym"]], 100 * row["risk_low"], 100 * row["risk_high"]
        said = page.texts["data-test-missing", f"{row['outcome']}|{row['feature']}"].replace(SPACE, " ")
        assert said.startswith("no LDL cholesterol in 5 years: if it were known, the risk would lie between ")
        now = re.fullmatch(
            r".* % \(at values from 1\.9 mmol/L to 4\.6 mmol/L\); now, without it, it is ([\d.]+) %\.", said
        )
        assert now
        assert float(now[1]) == pytest.approx(100 * row["risk"], abs=0.0501), "the person's own risk beside"
        numbers = [float(number) for number in re.findall(r"between ([\d.]+) % and ([\d.]+) %", said)[0]]
        assert numbers == [pytest.approx(low, abs=0.0501), pytest.approx(high, abs=0.0501)]
    for page in pages.values():
        said = page.text.replace(SPACE, " ")
        assert "Systolic pressure, latest: 162 mmHg → 128 mmHg; Smoking, latest: smokes now → has stopped" in said
        assert "an association in the data of others, not advice" in said


def test_the_last_step_of_a_scenario_is_the_risk_it_leads_to(
    explained: dict[str, dict[str, Any]], ask: Callable[..., Any]
) -> None:
    rows = ask(
        "SELECT p.pseudonym, c.outcome, c.scenario, last(c.risk ORDER BY step) AS risk, any_value(threshold) AS below "
        "FROM changes c JOIN pseudonyms p USING (run_id, subject_id) GROUP BY ALL"
    )
    for row in rows:
        one = next(o for o in explained[row["pseudonym"]]["outcomes"] if o["outcome"] == row["outcome"])
        assert one["changes"]["threshold"] == row["below"]
        assert one["changes"]["scenarios"][row["scenario"] - 1][-1]["risk"] == row["risk"]


def test_a_risk_outside_the_range_of_what_is_missing_is_told_with_why(
    own: Path, read_page: Callable[[str], Any]
) -> None:
    """Knowing a value also takes away that it was missing, which the model reads."""
    _change(own, "UPDATE missing_impact SET risk_low = 0.999, risk_high = 1")
    told = 0
    for summary in _summaries(own).values():
        page = read_page(render.page(summary))
        for one in summary["outcomes"]:
            for row in one["missing"]:
                assert row["outside"]
                assert row["risk"] == one["horizons"][-1]["risk"]
                said = page.texts["data-test-missing", f"{one['outcome']}|{row['feature']}"].replace(SPACE, " ")
                assert re.search(r"now, without it, it is [\d.]+ % \(that it was not measured counts, too\)\.$", said)
                told += 1
    assert told


def test_a_threshold_that_is_the_starting_point_is_called_so(own: Path, read_page: Callable[[str], Any]) -> None:
    named = "What would have to change for a risk below the starting point, "
    for summary in _summaries(own).values():
        if any(one["changes"] for one in summary["outcomes"]):
            assert named in read_page(render.page(summary)).text.replace(SPACE, " ")
    _change(own, "UPDATE changes SET threshold = 0.0123")
    for summary in _summaries(own).values():
        text = read_page(render.page(summary)).text.replace(SPACE, " ")
        assert named not in text
        assert any(one["changes"] for one in summary["outcomes"]) == ("for a risk below 1.2 %" in text)


def test_a_page_of_what_is_known_at_once_does_not_say_now_twice(
    own: Path, read_page: Callable[[str], Any], summaries: dict[str, dict[str, Any]]
) -> None:
    [[outcome]] = {tuple(one["outcome"] for one in s["outcomes"][:1]) for s in list(summaries.values())[:1]}
    for summary in _summaries(own).values():
        for one in summary["outcomes"]:
            if one["outcome"] == outcome and one["reasons"]:
                one["horizons"] = [one["horizons"][-1] | {"horizon_years": 0.0, "risk": 0.999}]
                one["reasons"]["horizon_years"] = 0.0
                text = read_page(render.page(summary)).text.replace(SPACE, " ")
                assert "More than 99 of 100 people like this one have this now" in text, "a sentence begins"
                assert " now: from " not in text
                return
    raise AssertionError("nobody has the outcome")


def test_a_missing_fact_that_moves_nothing_is_not_named(own: Path) -> None:
    _change(own, "UPDATE missing_impact SET risk_low = 0.05, risk_high = 0.0505")
    assert all(one["missing"] == [] for summary in _summaries(own).values() for one in summary["outcomes"])


def test_past_runs_are_told_in_words(
    summaries: dict[str, dict[str, Any]], read_page: Callable[[str], Any], ask: Callable[..., Any]
) -> None:
    before = ask(
        "SELECT pseudonym, outcome, risk FROM risk_scores JOIN pseudonyms USING (run_id, subject_id) "
        "WHERE run_id <> ? AND horizon_years = 10",
        NIGHT,
    )
    pages = {name: read_page(render.page(summary)) for name, summary in summaries.items()}
    for row in before:
        one = next(o for o in summaries[row["pseudonym"]]["outcomes"] if o["outcome"] == row["outcome"])
        assert [past["risk"] for past in one["past"]["risks"]] == [row["risk"]]
        said = pages[row["pseudonym"]].texts["data-test-past", row["outcome"]].replace(SPACE, " ")
        assert re.fullmatch(r"Past runs: [\d.]+ % on 20 Nov 2026, now [\d.]+ % \([+−]?[\d.]+ points\)\.", said.strip())
    assert len(before) > 50


def test_three_runs_are_drawn_and_another_models_are_hollow(own: Path, read_page: Callable[[str], Any]) -> None:
    with duckdb.connect(str(own)) as connection:
        connection.execute(
            "INSERT INTO runs SELECT * REPLACE ('run-of-9-november' AS run_id, ? AS as_of, 'other' AS bundle_sha256) "
            "FROM runs WHERE run_id = 'run-of-20-november'",
            [datetime(2026, 11, 9)],
        )
        connection.execute(
            "INSERT INTO risk_scores SELECT * REPLACE ('run-of-9-november' AS run_id, ? AS prediction_time) "
            "FROM risk_scores WHERE run_id = 'run-of-20-november'",
            [datetime(2026, 11, 9)],
        )
    for summary in _summaries(own).values():
        page = read_page(render.page(summary))
        drawn = [found["aria-label"] for tag, found in page.tags if tag == "svg" and found["class"] == "history"]
        assert len(drawn) == len(summary["outcomes"]) > 0
        assert all(label.count("%") == 3 and f"9{SPACE}Nov{SPACE}2026" in label for label in drawn)
        assert sum(found.get("class") == "holes" for _, found in page.tags) == len(drawn)
        assert "computed by another model" in page.text


def test_a_carried_risk_stands_once_and_unchanged_is_said(own: Path, read_page: Callable[[str], Any]) -> None:
    with duckdb.connect(str(own)) as connection:
        connection.execute("DELETE FROM risk_scores WHERE run_id = 'run-of-20-november'")
        connection.execute("INSERT INTO risk_scores SELECT * REPLACE ('run-of-20-november' AS run_id) FROM risk_scores")
    for summary in _summaries(own).values():
        page = read_page(render.page(summary))
        for one in summary["outcomes"]:
            assert one["past"] == {"runs": 1, "risks": []}
            assert page.texts["data-test-past", one["outcome"]].startswith("Unchanged in 1 earlier run: nothing new")


def test_a_refused_or_later_run_is_no_past(own: Path) -> None:
    _change(own, "UPDATE runs SET status = 'refused' WHERE run_id = 'run-of-20-november'")
    assert all(one["past"] == {"runs": 0, "risks": []} for s in _summaries(own).values() for one in s["outcomes"])


def test_a_published_equation_stands_beside_the_risk_or_says_what_it_lacks(
    explained: dict[str, dict[str, Any]], read_page: Callable[[str], Any]
) -> None:
    seen = set()
    for summary in explained.values():
        page = read_page(render.page(summary))
        one = next((o for o in summary["outcomes"] if o["outcome"] == "cardiovascular"), None)
        if one is None:
            assert [row["equation"] for row in summary["guideline"]] == ["PREVENT total CVD, 10 years"]
            continue
        said = page.texts["data-test-guideline", "PREVENT total CVD, 10 years"].replace(SPACE, " ")
        [equation] = one["guideline"]
        seen.add(equation["risk"] is None)
        if equation["risk"] is None:
            assert "not computed: total cholesterol is missing." in said
        else:
            assert "11.8 % (12 of 100), by a published equation" in said
        assert "PREVENT total CVD, 10 years reads: Systolic pressure 162 mmHg (1 Nov 2026)" in page.text.replace(
            SPACE, " "
        )
    assert seen == {True, False}


def test_moments_are_marked_in_the_series_they_belong_to(
    explained: dict[str, dict[str, Any]], read_page: Callable[[str], Any]
) -> None:
    drawn = 0
    for summary in explained.values():
        page = read_page(render.page(summary))
        marked = [one for one in summary["series"] if one["moments"]]
        triangles = [found["class"] for _, found in page.tags if found.get("class") in ("mark-up", "mark-down")]
        if not marked:
            assert triangles == []
            continue
        [series] = marked
        assert series["code"] == "VITAL//SBP"
        marks = series["moments"]["marks"]
        assert sorted(mark["value"] for mark in marks) == [128.0, 158.0, 162.0]
        assert marks[0]["value"] == 162.0, "the heaviest first"
        points = {(point["time"], point["value"]) for point in series["points"]}
        assert {(mark["time"], mark["value"]) for mark in marks} <= points
        up = sum(mark["contribution"] > 0 for mark in marks)
        assert sorted(triangles) == ["mark-down"] * (3 - up) + ["mark-up"] * up
        assert float(page.values["data-test-moment", "VITAL//SBP"]) == marks[-1]["contribution"]
        assert any(found.get("class") == "usual" for _, found in page.tags)
        drawn += 1
    assert drawn >= 5


def test_regions_are_numbered_signed_and_measured_where_the_spacing_is_known(
    explained: dict[str, dict[str, Any]], read_page: Callable[[str], Any], ask: Callable[..., Any]
) -> None:
    rows = ask(
        "SELECT pseudonym, outcome, feature, contribution FROM explanations JOIN pseudonyms USING (run_id, subject_id) "
        "WHERE level = 'region' AND horizon_years = 10 AND feature LIKE 'region %' AND run_id = ?",
        NIGHT,
    )
    pages = {name: read_page(render.page(summary)) for name, summary in explained.items()}
    for row in rows:
        hook = "data-test-region", f"{row['outcome']}|{row['feature']}"
        assert float(pages[row["pseudonym"]].values[hook]) == row["contribution"]
    spaced = set()
    for name, summary in explained.items():
        for image in summary["images"]:
            text = pages[name].text.replace(SPACE, " ")
            spaced.add(bool(image["spacing_mm"]))
            assert [region["number"] for region in image["regions"]] == [1, 2]
            if image["spacing_mm"]:
                assert "165 mm from the left, 75 mm from the top" in text
                assert "55 mm across" in text
            else:
                assert "22 pixels across" in text
                assert "The size of a pixel is not known" in text
                assert "mm from the left" not in text
            main = image["outcomes"][0]["outcome"]
            outlines = [found for tag, found in pages[name].tags if found.get("class") == "outline-light"]
            lowers = [region["contributions"][main] < 0 for region in image["regions"]]
            assert ["stroke-dasharray" in found for found in outlines] == lowers
    assert spaced == {True, False}
    assert len(rows) > 10


def test_how_the_model_did_on_people_alike(
    summaries: dict[str, dict[str, Any]], own: Path, read_page: Callable[[str], Any]
) -> None:
    for summary in summaries.values():
        for one in summary["evaluation"]["outcomes"]:
            assert [group["who"] for group in one["groups"]] == ["everyone", "age", "sex"]
        text = read_page(render.page(summary)).text
        assert "How well it did on 3,000 people it had never seen (hospital)" in text
        assert ("aged under 60:" in text) != ("aged 60 or over:" in text)
        assert ("women:" in text) != ("men:" in text.replace("women:", ""))
    _change(own, "UPDATE runs SET model_card = '{}'")
    for summary in _summaries(own).values():
        assert summary["evaluation"] is None
        assert "How well it did for people like this one" in read_page(render.page(summary)).text


def test_a_page_without_feature_reasons_is_whole(
    summaries: dict[str, dict[str, Any]], explained: dict[str, dict[str, Any]], read_page: Callable[[str], Any]
) -> None:
    others = [summary for name, summary in summaries.items() if name not in explained]
    assert others
    for summary in others:
        text = read_page(render.page(summary)).text
        assert "Reasons fact by fact were not computed for this person" in text
        assert "What would have to change" not in text


def test_a_chinese_page_leaves_nothing_of_ours_in_english(explained: dict[str, dict[str, Any]]) -> None:
    for summary in list(explained.values())[:6]:
        html = render.page(summary, "zh")
        assert html.startswith('<!DOCTYPE html>\n<html lang="zh-Hans">')
        body = unescape(html.split("<body>", 1)[1].replace(summary["pseudonym"], ""))
        # What the data bring along: in <bdi>, as codes, raw in title and hooks; and the units beside numbers.
        for pattern in (
            r"<bdi[^>]*>.*?</bdi>",
            r'<(dd|span) class="code"[^>]*>.*?</(dd|span)>',
            r"<a href[^>]*>.*?</a>",
        ):
            body = re.sub(pattern, " ", body, flags=re.DOTALL)
        labels = re.findall(r'aria-label="([^"]*)"', body)
        shown = re.sub(r"<[^>]+>", " ", body) + " ".join(labels)
        known = {"UTC", "riskpred", "mmol", "mol", "mmHg", "mm", "bpm", "min", "HbA", "CRP", "PREVENT", "KiB", "PNG"}
        left = set(re.findall(r"[A-Za-z]{2,}", shown)) - known
        assert not left, left
        assert re.search(r"情况相似的 100 人中，有 <strong>[^<]+</strong> 人会在 10\u00a0年内发生", html)


WILD = (
    "</title></style><script>alert('x')</script><img src=x onerror=alert(1)>\"'`&amp;{{ 7*7 }}$E=mc^2$ %s %(n)s 100 %"
    "\u202eDEKCAH\u202c\u200f --> "
)


def _texts_in(entry: Any, text: str) -> Any:
    """A JSON value with `text` before every text in it, keys apart."""
    if isinstance(entry, dict):
        return {key: _texts_in(one, text) for key, one in entry.items()}
    if isinstance(entry, list):
        return [_texts_in(one, text) for one in entry]
    return text + entry if isinstance(entry, str) else entry


@pytest.mark.parametrize("wild", [WILD, "A" * 10_000, "ش\u202e" * 300, "$$ \\frac{1}{0} $ " * 40])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_hostile_words_of_the_card_and_of_notes_change_nothing_but_themselves(
    own: Path, read_page: Callable[[str], Any], lang: str, wild: str
) -> None:
    pages: list[dict[str, str]] = []
    for text in ("plain ", wild):
        with duckdb.connect(str(own)) as connection:
            card = json.loads(connection.execute("SELECT model_card FROM runs").fetchall()[0][0])
            if not pages:  # a unit that is not the table's own would hide the usual ranges, which is right
                keep = {code: entry["unit"] for code, entry in card["words"].items()}
            changed = {
                name: _texts_in(card[name], text) for name in ("words", "groups", "outcome_words", "unit_displays")
            }
            for code, entry in changed["words"].items():
                entry["unit"] = keep[code]
                if entry.get("group"):
                    entry["group"] = card["words"][code]["group"]
            card |= changed | {"evaluation": card["evaluation"] | {"site": text}}
            connection.execute("UPDATE runs SET model_card = ?", [json.dumps(card)])
            notes = connection.execute("SELECT DISTINCT name, note FROM evidence WHERE note IS NOT NULL").fetchall()
            for name, note in notes:
                parsed = json.loads(note)
                if "problems" in parsed:
                    parsed |= {
                        "problems": [text, text],
                        "source": text,
                        "inputs": {text: {"value": text, "unit": text}},
                    }
                    connection.execute("UPDATE evidence SET note = ? WHERE name = ?", [json.dumps(parsed), name])
        pages.append({name: render.page(summary, lang) for name, summary in _summaries(own).items()})
    for name, html in pages[1].items():
        page, like = read_page(html), read_page(pages[0][name])
        assert page.skeleton == like.skeleton
        assert list(page.values.values()) == list(like.values.values())
        assert not re.search(r"<script|<img|>49<", html)
        assert len(html.encode()) < 400_000


def test_words_of_odd_shapes_count_as_absent(own: Path, read_page: Callable[[str], Any]) -> None:
    odd = {"LAB//HDL": 3, "LAB//LDL": {"name": ["x"], "range": {"low": "1", "high": True}, "direction": {"en": "high"}}}
    odd |= {"VITAL//SBP": {"name": {"en": 5}, "range": {"low": 140, "high": 90}, "group": ["a"], "values": "x"}}
    for words in (odd, [], "text", None):
        card = {"words": words, "groups": words, "outcome_words": words, "unit_displays": words, "evaluation": words}
        _change(own, "UPDATE runs SET model_card = ?", json.dumps(card))
        for summary in _summaries(own).values():
            assert read_page(render.page(summary)).headings[0] == 1
            assert all(one["usual"] is None for one in summary["series"])


@pytest.mark.parametrize(
    ("note", "regions"),
    [("[]", 2), ("nonsense", 2), ('{"regions": 5, "spacing_mm": [0, -1]}', 2), ('{"regions": [{"region": 7}]}', 2)],
)
def test_odd_notes_cost_measures_not_pictures(
    own: Path, read_page: Callable[[str], Any], note: str, regions: int
) -> None:
    _change(own, "UPDATE evidence SET note = ?", note)
    images = [image for summary in _summaries(own).values() for image in summary["images"]]
    assert images
    assert all(len(image["regions"]) == regions and image["spacing_mm"] is None for image in images)
    for summary in _summaries(own).values():
        assert "from the left" not in read_page(render.page(summary)).text


def test_nobodys_day_of_birth_stands_on_a_page(own: Path, read_page: Callable[[str], Any]) -> None:
    _change(own, "UPDATE explanations SET time = '1941-02-07', value = 84.99 WHERE feature = 'age_years'")
    summaries = _summaries(own)
    assert "1941" not in json.dumps(summaries)
    texts = [read_page(render.page(summary)).text for summary in summaries.values()]
    assert any(f"84{SPACE}years" in text for text in texts)
    assert not any("1941" in text or "84.99" in text for text in texts)


def test_facts_that_would_read_nothing_are_told_together(own: Path, read_page: Callable[[str], Any]) -> None:
    _change(own, "UPDATE explanations SET contribution = 0.04 WHERE level = 'feature' AND feature LIKE 'LAB//HDL%'")
    _change(own, "UPDATE explanations SET contribution = 0.001 WHERE level = 'feature' AND feature LIKE 'VITAL//HR%'")
    for summary in _summaries(own).values():
        for one in summary["outcomes"]:
            why = one["reasons"]
            shown = {group["group"] or group["code"]: group for side in ("raises", "lowers") for group in why[side]}
            smallest = 0.5 * 10 ** -why["decimals"]
            assert "VITAL//HR" not in shown
            assert all(
                max(abs(group["contribution"]), *(abs(fact["contribution"]) for fact in group["members"])) >= smallest
                for group in shown.values()
            )
            for side in ("raises", "lowers"):
                listed = sum(group["contribution"] for group in why[side])
                assert listed + why[f"{side}_not_shown"]["contribution"] == pytest.approx(why[f"{side}_total"])


def test_a_change_that_is_not_enough_says_so(own: Path, read_page: Callable[[str], Any]) -> None:
    _change(own, "UPDATE changes SET threshold = 0.0001, feature = 'VITAL//SBP' WHERE feature LIKE 'VITAL%'")
    for summary in _summaries(own).values():
        said = read_page(render.page(summary)).text.replace(SPACE, " ")
        assert "Systolic pressure: 162 mmHg → 128 mmHg: the risk would be" in said
        assert said.count(", still not below") == 2 * len(summary["outcomes"])


def test_a_moment_that_moved_nothing_is_not_marked(own: Path) -> None:
    _change(own, "UPDATE explanations SET contribution = 0.0049 WHERE level = 'moment'")
    assert all(one["moments"] is None for summary in _summaries(own).values() for one in summary["series"])


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE changes SET risk = 1.2",
        "UPDATE missing_impact SET risk_low = 'nan'",
        "UPDATE risk_scores SET risk = -0.1 WHERE run_id <> 'run-of-21-november'",
    ],
)
def test_risks_no_night_would_write_are_refused(own: Path, damage: str) -> None:
    _change(own, damage)
    with pytest.raises(InputError, match="a risk outside 0 to 1"):
        _summaries(own)


def test_images_read_together_each_have_their_regions_date_and_weight(own: Path, read_page: Callable[..., Any]) -> None:
    """A second image a year before, of the same modality: region 2 lies on it."""
    with duckdb.connect(str(own)) as connection:
        found = connection.execute(
            "SELECT DISTINCT subject_id, name, outline, note FROM evidence WHERE kind = 'image'"
        ).fetchall()
        for subject, name, outline, note in found:
            outlines, told = json.loads(outline), json.loads(note)
            both = [
                (name, outlines[:1], told | {"modality": "image", "weight": 0.75, "slice": None}),
                (f"{name}-old", outlines[1:], told | {"modality": "image", "weight": 0.25, "slice": 14}),
            ]
            connection.execute(
                "INSERT INTO evidence SELECT * REPLACE (name || '-old' AS name, time - INTERVAL 1 YEAR AS time)"
                " FROM evidence WHERE kind = 'image' AND subject_id = ?",
                [subject],
            )
            for image, some, written in both:
                connection.execute(
                    "UPDATE evidence SET outline = ?, note = ? WHERE name = ? AND subject_id = ?",
                    [json.dumps(some), json.dumps(written), image, subject],
                )
    shown = [summary for summary in _summaries(own).values() if summary["images"]]
    assert len(shown) == len({subject for subject, *_ in found})
    for summary in shown:
        new, old = sorted(summary["images"], key=lambda one: one["image_id"])
        assert [region["region"] for region in new["regions"]] == ["region 1"]
        assert [region["region"] for region in old["regions"]] == ["region 2"]
        assert new["regions"][0]["contributions"]
        assert old["regions"][0]["contributions"]
        page = read_page(render.page(summary))
        text = page.text.replace(SPACE, " ")
        assert "The model read 2 images together; this one has 75.0 % of the weight." in text
        assert "this one has 25.0 % of the weight" in text
        assert "Shown: slice 14, counted from 0." in text
        assert "All the rest of these images" in text
