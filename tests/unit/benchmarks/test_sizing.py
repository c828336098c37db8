"""The sizing of a night by hand-made numbers: every formula once, what cannot be done, and the page."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.night.sizing import Night, Prices, Rates, main, measured, measured_card, needs

RATES = Rates(
    made="by hand",
    event_s=2e-6,
    model_s=1e-3,
    rows_s=5e-4,
    plan_s=1e-5,
    publish_s=1e-6,
    carry_s=5e-7,
    events_each=50,
    risks_each=10,
    scores_bytes=1000,
    scan_s=1e-7,
    shard_bytes=10,
    digest_bytes=40,
    parts_bytes=3000,
    driver_bytes=100,
    hashed_per_s=1e9,
    copied_per_s=1e8,
)
PRICES = Prices(core_hour=0.1, gpu_hour=3.0, gb_month=0.3, driver_hour=2.0)
FULL = Night(subjects=1e6, events=1e8, hours=1, settles_at=2, efficiency=0.5)


def test_a_full_night() -> None:
    found = needs(FULL, RATES, PRICES)
    # Read 1e8 x 2e-6 = 200; the model 1e6 x 1e-3 x (100 / 50) = 2000; rows 500.
    assert found.core_hours == pytest.approx(2700 / 3600)
    # Hash 1e9 B / 1e9 = 1; plan 10; publish 1e7 x 1e-6 = 10; copy 2 x 1e9 B / 1e8 = 20.
    assert found.driver_hours == pytest.approx(41 / 3600)
    assert found.cores == 2  # 2700 / (0.5 x 3559) = 1.5
    assert found.gpus == 0
    assert found.wall_hours == pytest.approx((41 + 2700) / 3600)
    assert found.computed == 1e6
    assert (found.shards_gb, found.scores_gb, found.parts_gb) == pytest.approx((1.04, 4.0, 3.0))
    assert found.driver_memory_gb == pytest.approx(0.1)
    # Two cores for 0.75 h, the one process for 0.761 h, 8.04 GB for a day.
    assert found.dollars == pytest.approx(2 * 0.75 * 0.1 + 2741 / 3600 * 2 + 8.04 * 0.01)


def test_a_quiet_night_computes_news_and_what_grew_old_and_carries_the_rest() -> None:
    found = needs(replace(FULL, changed=0.1, max_score_age_days=10), RATES, PRICES)
    assert found.computed == pytest.approx(1e6 * (1 - 0.9 * 0.9))
    # Looked through 1e8 x 1e-7 = 10; 190,000 x (1e-3 x 2 + 5e-4) = 475.
    assert found.core_hours == pytest.approx(485 / 3600)
    # Hash 1; plan 10; carry 1e7 x 5e-7 = 5; copy 20.
    assert found.driver_hours == pytest.approx(36 / 3600)
    assert found.cores == 1
    assert found.parts_gb == pytest.approx(0.57)


def test_gpus_take_their_share_of_the_model_and_are_paid_beside_the_cores() -> None:
    night = replace(FULL, hours=0.1, gpu_share=0.5, gpu_speedup=20, cores_per_gpu=4)
    found = needs(night, RATES, PRICES)
    assert found.core_hours == pytest.approx(1700 / 3600)
    assert found.cores == 11  # 1700 / (0.5 x (360 - 41)) = 10.7
    assert found.gpus == 3  # 11 cores by 4; their own 2000 x 0.5 / 20 = 50 s take one
    busy = 1700 / (0.5 * 11)
    assert found.wall_hours == pytest.approx((41 + busy) / 3600)
    assert found.dollars == pytest.approx(
        busy / 3600 * (11 * 0.1 + 3 * 3.0) + (41 + busy) / 3600 * 2 + 8.04 * 0.01, rel=1e-9
    )
    slow = needs(replace(night, gpu_speedup=0.5), RATES, PRICES)
    assert slow.gpus == 7, "2000 s of a GPU in 319 s"


def test_what_one_process_cannot_publish_in_time_no_number_of_cores_can_help() -> None:
    found = needs(replace(FULL, hours=0.01), RATES, PRICES)
    assert found.cores is None
    assert found.wall_hours is None
    assert found.dollars is None
    assert found.driver_hours > 0.01


def results(folder: Path, **parts: dict[str, Any]) -> Path:
    (folder / "results").mkdir(exist_ok=True)
    for name, figures in parts.items():
        (folder / "results" / f"{name}.json").write_text(json.dumps(figures))
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    stages = {"plan": 1, "read": 2, "cohort": 1, "features": 2, "model": 10, "rows": 2, "write": 3, "verify": 3}
    night = {"subjects": 1000, "risk_rows": 12_000, "cpu_s": 48.0, "stages_s": stages, "file_bytes": 9e5}
    about = {"machine": "2 cores", "made_at": "2026-11-27 18:38"}
    return results(tmp_path, speed={**about, "events": 50_000, "cores_1": {"night": night}})


def test_rates_come_from_the_measured_processor_time(work: Path) -> None:
    found = measured(work)
    # 24 s of stages took 48 s of a core with all that belongs to them.
    assert found.event_s == pytest.approx(10 / 50_000)
    assert found.model_s == pytest.approx(20 / 1000)
    assert found.rows_s == pytest.approx(4 / 1000)
    assert found.plan_s == pytest.approx(2 / 1000)
    assert found.publish_s == found.carry_s == pytest.approx(12 / 12_000)
    assert (found.events_each, found.risks_each, found.scores_bytes) == (50, 12, 900)
    news = {"risk_rows": 12_000, "cpu_s": 10.0, "stages_s": {"carry": 4, "verify": 1, "read": 5}}
    memory = {
        "all": {"subjects": 1_000_000, "peak_mb": 900},
        "tenth": {"subjects": 100_000, "peak_mb": 800},
    }
    found = measured(results(work, news={"night": news}, memory=memory))
    assert found.carry_s == pytest.approx(5 / 12_000)
    assert found.driver_bytes == pytest.approx(100 * 2**20 / 900_000)


def test_a_gpu_takes_what_the_card_was_measured_to_take(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measured_card(work) is None
    assert main(["--work", str(work)]) == 0
    assert "No GPU has been measured" in capsys.readouterr().out
    nights = {f"night_{way}_1": {"stages_s": {"model": s, "write": 9}} for way, s in (("without", 5.0), ("with", 4.0))}
    about = {"card": "card of a name", "machine": "16 cores", "made_at": "2026-11-27 22:03", "subjects": 100_000}
    results(work, card={**about, **nights, "forward_with": {"card_busy_us": 0.5}})
    card = measured_card(work)
    assert card is not None
    assert (card.share, card.speedup) == pytest.approx((0.2, 20))  # 10 us of 50 us each, in 0.5 us
    assert main(["--work", str(work)]) == 0
    said = capsys.readouterr().out
    assert "GPU: one card of a name, 100,000 subjects, on 16 cores, 2026-11-27 22:03 UTC" in said
    assert "| gpu_share | 0.2 |" in said


def test_without_figures_it_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"run python -m tests\.benchmarks\.night speed"):
        measured(tmp_path)


def test_the_page_is_replaced_and_prices_are_parameters(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = work / "page.md"
    page.write_text("before\n<!-- tables: sizing -->\nold\n<!-- end -->\nafter\n")
    words = ["--work", str(work), "--subjects", "1e6", "--events", "5e7", "--hours", "12", "--page", str(page)]
    assert main(words) == 0
    cheap = page.read_text()
    assert main([*words, "--core-hour", "50"]) == 0
    dear = page.read_text()
    for text in (cheap, dear):
        assert text.startswith(
            "before\n<!-- tables: sizing -->\n1,000,000 subjects, 50,000,000 events, 12 hours a night:"
        )
        assert text.endswith("<!-- end -->\nafter\n")
        assert "old" not in text

    def dollars(text: str) -> float:
        (line,) = [line for line in text.splitlines() if line.startswith("| US dollars a night")]
        return float(line.split("|")[2].replace(",", ""))

    assert dollars(dear) > dollars(cheap) + 100
    assert "price core_hour | 50" in capsys.readouterr().out
