"""What a night of any size needs in cores, hours, disk and money, from what was measured and from stated prices.

    python -m tests.benchmarks.night.sizing --work riskpred-night [--subjects N --events N --hours H]
        [--page tests/benchmarks/night/SIZING.md]

Everything is linear in subjects, events or rows; a core is one of the machine that was measured.

    computed       C = S x (1 - (1 - changed) x (1 - 1 / max_score_age_days))       a full night: C = S
    read           full: E x event_s      quiet: E x scan_s  (every shard is looked through for the few wanted in it)
    parallel       P = read + C x (model_s x max(1, events each / events each measured) + rows_s)        core-seconds
    one process    D = E x shard_bytes / hashed_per_s + S x plan_s + R x publish_s + file / copied_per_s
                   R = S x risks each; quiet: carry_s in place of publish_s. file: SCORES, copied before it is changed
    cores          N = max(1, ceil(P / (efficiency x (H - D)))): the night takes H hours; impossible where D >= H
    wall           D + P / (efficiency x N)
    money          N x price_core x P / (efficiency x N) + price_driver x wall + disk_gb x price_gb_month / 30
    disk           shards E x shard_bytes + S x digest_bytes; scores S x scores_bytes x settles_at, twice while it is
                   rewritten; parts C x parts_bytes while the night runs
    memory         of the one process that plans and publishes: S x driver_bytes

With GPUs a share of the model's work goes to them, as the part `card` measured it (a night's model stage on one core
with the card and without, and how long the card was busy): P becomes P - C x model x gpu_share; their own time is
C x model x gpu_share / gpu_speedup GPU-seconds; at most `cores_per_gpu` workers share one; a GPU is paid as long as
the workers beside it.
"""

import argparse
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.night import report, results

_READ: Final = ("read", "cohort", "features")
_MODEL: Final = ("model",)
_ROWS: Final = ("rows",)
_PUBLISH: Final = ("retire old nights", "write", "carry", "verify", "publish")
_TELLING: Final = 500_000
"""Subjects from which on a difference in memory is theirs, and not noise."""

_ASSUMED_SHARE: Final = 0.5
"""Of the model's work on a GPU, where none has been measured."""

_HOUR: Final = 3600.0
_GB: Final = 1e9


@dataclass(frozen=True)
class Rates:
    """What one core does, in seconds of processor time unless it says bytes; `made`: where it comes from, in words.

    event_s, scan_s: per event read in full, or looked through for one subject in 25.   model_s, rows_s: per subject
    computed.   events_each: of a subject, as measured.   plan_s: per subject known.   publish_s, carry_s: per risk
    written, or carried, with all that belongs to it.   risks_each: risks of a subject.
    """

    made: str
    event_s: float
    model_s: float
    rows_s: float
    plan_s: float
    publish_s: float
    carry_s: float
    events_each: float
    risks_each: float
    scores_bytes: float
    scan_s: float = 5.1e-8
    shard_bytes: float = 10.1
    digest_bytes: float = 38.7
    parts_bytes: float = 1610.0
    driver_bytes: float = 150.0
    hashed_per_s: float = 1e9
    copied_per_s: float = 5e8


@dataclass(frozen=True)
class Prices:
    """US dollars. Assumptions to be replaced by one's own offer; SIZING.md says where each comes from."""

    core_hour: float = 0.05
    gpu_hour: float = 2.95
    gb_month: float = 0.10
    driver_hour: float = 2.0


@dataclass(frozen=True)
class Night:
    """What is asked. hours: the night's length.   changed: share of subjects with news; 1 = a full night.

    efficiency: share of its time that a worker computes (the rest: starting, waiting for files).
    gpu_share, gpu_speedup: share of the model's work that a GPU takes, and how much faster it is; 0 = no GPU.
    """

    subjects: float
    events: float
    hours: float = 6.0
    changed: float = 1.0
    max_score_age_days: int = 30
    settles_at: float = 2.1
    efficiency: float = 0.8
    gpu_share: float = 0.0
    gpu_speedup: float = 20.0
    cores_per_gpu: int = 8


@dataclass(frozen=True)
class Needs:
    """What it takes. cores None = it cannot be done in so many hours: one process alone needs `driver_hours`."""

    computed: float
    core_hours: float
    driver_hours: float
    cores: int | None
    gpus: int
    wall_hours: float | None
    shards_gb: float
    scores_gb: float
    parts_gb: float
    driver_memory_gb: float
    dollars: float | None


def needs(night: Night, rates: Rates, prices: Prices) -> Needs:
    """The arithmetic of the module's first lines.

    Example:
        >>> rates = Rates("here", 1e-6, 1e-3, 0, 0, 0, 0, 100, 12, 0, shard_bytes=0)
        >>> found = needs(Night(3.6e6, 3.6e8, hours=1, efficiency=1), rates, Prices(1, 0, 0, 0))
        >>> found.cores, found.core_hours, found.wall_hours, found.dollars
        (2, 1.1, 0.55, 1.1)
    """
    full = night.changed >= 1
    kept = 0.0 if full else (1 - night.changed) * (1 - 1 / night.max_score_age_days)
    computed = night.subjects * (1 - kept)
    read = night.events * (rates.event_s if full else rates.scan_s)
    model = computed * rates.model_s * max(1.0, night.events / night.subjects / rates.events_each)
    parallel = read + model * (1 - night.gpu_share) + computed * rates.rows_s
    gpu_seconds = model * night.gpu_share / night.gpu_speedup
    scores = night.subjects * rates.scores_bytes * night.settles_at
    risks = night.subjects * rates.risks_each
    driver = night.events * rates.shard_bytes / rates.hashed_per_s + night.subjects * rates.plan_s
    driver += risks * (rates.publish_s if full else rates.carry_s) + scores / rates.copied_per_s
    left = night.hours * _HOUR - driver
    cores = max(1, math.ceil(parallel / (night.efficiency * left))) if left > 0 else None
    gpus, wall, dollars = 0, None, None
    shards = night.events * rates.shard_bytes + night.subjects * rates.digest_bytes
    parts = computed * rates.parts_bytes
    if cores is not None:
        if night.gpu_share:
            gpus = max(math.ceil(cores / night.cores_per_gpu), math.ceil(gpu_seconds / left))
        busy = max(parallel / (night.efficiency * cores), gpu_seconds / gpus if gpus else 0.0)
        wall = driver + busy
        dollars = busy / _HOUR * (cores * prices.core_hour + gpus * prices.gpu_hour)
        dollars += wall / _HOUR * prices.driver_hour
        dollars += (shards + 2 * scores + parts) / _GB * prices.gb_month / 30
    return Needs(
        computed=computed,
        core_hours=parallel / _HOUR,
        driver_hours=driver / _HOUR,
        cores=cores,
        gpus=gpus,
        wall_hours=None if wall is None else wall / _HOUR,
        shards_gb=shards / _GB,
        scores_gb=2 * scores / _GB,
        parts_gb=parts / _GB,
        driver_memory_gb=night.subjects * rates.driver_bytes / _GB,
        dollars=dollars,
    )


def measured(work: Path) -> Rates:
    """Rates of the night benchmark: part `speed` (one core), and `news` and `memory` where they are there.

    A stage's processor time is the night's, shared out as its stages' seconds are: on a busy machine seconds pass while
    others compute. Without `news` a carried risk is taken to cost what a written one does; what no part measures keeps
    its default, which SIZING.md explains.

    Raises: RuntimeError, when `speed` has not been measured.
    """
    speed = results.read(work, "speed")
    if speed is None:
        raise RuntimeError(f"{work}: no figures of `speed`; run python -m tests.benchmarks.night speed --work {work}")
    night = speed["cores_1"]["night"]
    subjects, risks = night["subjects"], night["risk_rows"]
    publish = _seconds(night, _PUBLISH) / risks
    rates = Rates(
        made=f"{subjects:,} subjects, {speed['events']:,} events, on {speed['machine']}, {speed['made_at']} UTC",
        event_s=_seconds(night, _READ) / speed["events"],
        model_s=_seconds(night, _MODEL) / subjects,
        rows_s=_seconds(night, _ROWS) / subjects,
        plan_s=_seconds(night, ("plan",)) / subjects,
        publish_s=publish,
        carry_s=publish,
        events_each=speed["events"] / subjects,
        risks_each=risks / subjects,
        scores_bytes=night["file_bytes"] / subjects,
    )
    if (news := results.read(work, "news")) is not None:
        after = news["night"]
        rates = replace(rates, carry_s=_seconds(after, _PUBLISH) / after["risk_rows"])
    if (memory := results.read(work, "memory")) is not None:
        whole, tenth = memory["all"], memory["tenth"]
        more = (whole["peak_mb"] - tenth["peak_mb"]) * 2**20 / (whole["subjects"] - tenth["subjects"])
        if whole["subjects"] >= _TELLING:
            rates = replace(rates, driver_bytes=more)
    return rates


@dataclass(frozen=True)
class Card:
    """What a GPU takes of the model's work and how fast it is at that; `made`: where it comes from, in words."""

    made: str
    share: float
    speedup: float


def measured_card(work: Path) -> Card | None:
    """The part `card` as a share and a speed; None where it has not been measured."""
    card = results.read(work, "card")
    if card is None:
        return None
    without, beside = (card[f"night_{way}_1"]["stages_s"]["model"] / card["subjects"] for way in ("without", "with"))
    busy = card["forward_with"]["card_busy_us"] / 1e6
    made = f"one {card['card']}, {card['subjects']:,} subjects, on {card['machine']}, {card['made_at']} UTC"
    return Card(made, share=(without - beside) / without, speedup=(without - beside) / busy)


def _seconds(night: dict[str, Any], stages: tuple[str, ...]) -> float:
    """Processor seconds of some stages of a night."""
    spent: dict[str, float] = night["stages_s"]
    return float(night["cpu_s"]) * sum(spent.get(name, 0.0) for name in stages) / sum(spent.values())


def table(asked: dict[str, Night], rates: Rates, prices: Prices) -> str:
    """Markdown: one column a night."""
    found = {name: needs(night, rates, prices) for name, night in asked.items()}

    def row(what: str, show: Any) -> str:
        return f"| {what} | " + " | ".join(show(one) for one in found.values()) + " |"

    def gb(value: float) -> str:
        return f"{value:,.0f} GB"

    impossible = "not in time"
    lines = [
        "| | " + " | ".join(found) + " |",
        "|---" * (len(found) + 1) + "|",
        row("subjects computed", lambda n: f"{n.computed:,.0f}"),
        row("core-hours of the workers", lambda n: f"{n.core_hours:,.0f}"),
        row("hours of the one process", lambda n: f"{n.driver_hours:.1f}"),
        row("cores", lambda n: impossible if n.cores is None else f"{n.cores:,}"),
        row("GPUs", lambda n: f"{n.gpus:,}"),
        row("wall hours", lambda n: impossible if n.wall_hours is None else f"{n.wall_hours:.1f}"),
        row("disk: shards", lambda n: gb(n.shards_gb)),
        row("disk: scores, twice", lambda n: gb(n.scores_gb)),
        row("disk: parts", lambda n: gb(n.parts_gb)),
        row("memory of the one process", lambda n: gb(n.driver_memory_gb)),
        row("US dollars a night", lambda n: impossible if n.dollars is None else f"{n.dollars:,.0f}"),
    ]
    return "\n".join(lines)


def rates_table(rates: Rates, prices: Prices, card: Card | None) -> str:
    """Markdown: every rate and price that the table is made from."""
    shown = [(one.name, getattr(rates, one.name)) for one in fields(rates) if one.name != "made"]
    shown += [(f"price {one.name}", getattr(prices, one.name)) for one in fields(prices)]
    if card is not None:
        shown += [("gpu_share", card.share), ("gpu_speedup", card.speedup)]
    lines = ["| rate | value |", "|---|---|", *(f"| {name} | {value:.3g} |" for name, value in shown)]
    gpu = f"GPU: {card.made}" if card is not None else "No GPU has been measured: its share and speed are assumed"
    return f"Measured: {rates.made}. {gpu}.\n\n" + "\n".join(lines)


def nights(
    subjects: float, events: float, hours: float, changed: float, gpu_share: float, gpu_speedup: float
) -> dict[str, Night]:
    """A full and a quiet night, without and with GPUs."""
    full = Night(subjects, events, hours)
    quiet = replace(full, changed=changed)
    return {
        "full night, CPU": full,
        "full night, GPU": replace(full, gpu_share=gpu_share, gpu_speedup=gpu_speedup),
        f"quiet night ({changed:.0%} news), CPU": quiet,
        f"quiet night ({changed:.0%} news), GPU": replace(quiet, gpu_share=gpu_share, gpu_speedup=gpu_speedup),
    }


def main(words: list[str] | None = None) -> int:
    """Read the arguments, work out, print; into a page where one is named. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.night.sizing")
    parser.add_argument("--work", type=Path, required=True, help="folder of the night benchmark's results")
    parser.add_argument("--subjects", type=float, default=1e8)
    parser.add_argument("--events", type=float, default=1e10)
    parser.add_argument("--hours", type=float, default=6.0, help="length of the night")
    parser.add_argument("--changed", type=float, default=0.01, help="share of subjects with news in a quiet night")
    parser.add_argument("--gpu-share", type=float, help="share of the model's work that a GPU takes, not as measured")
    parser.add_argument("--page", type=Path, help="replace the tables of this page, e.g. SIZING.md")
    for one in fields(Prices):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=float, default=one.default, help="US dollars")
    given = parser.parse_args(words)
    rates = measured(given.work)
    prices = Prices(**{one.name: getattr(given, one.name) for one in fields(Prices)})
    card = measured_card(given.work)
    share, speedup = (card.share, card.speedup) if card is not None else (_ASSUMED_SHARE, Night.gpu_speedup)
    share = share if given.gpu_share is None else given.gpu_share
    asked = nights(given.subjects, given.events, given.hours, given.changed, share, speedup)
    head = f"{given.subjects:,.0f} subjects, {given.events:,.0f} events, {given.hours:g} hours a night"
    parts = {"sizing": f"{head}:\n\n{table(asked, rates, prices)}", "rates": rates_table(rates, prices, card)}
    if given.page is not None:
        given.page.write_text(report.with_tables(given.page.read_text(), parts))
    print("\n\n".join(parts.values()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
