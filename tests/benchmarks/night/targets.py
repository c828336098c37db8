"""The targets of the night, each with the figure that was measured and whether it is met: missed ones said plainly."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.night import results

_NOT_YET: Final = "not measured"


@dataclass(frozen=True)
class Row:
    """One target. `met`: None where it has not been measured, or cannot be judged."""

    what: str
    target: str
    figure: str
    met: bool | None
    made: str


def rows(work: Path) -> list[Row]:
    """Every target in the order of the issue."""
    found: list[Row] = []
    for part, make in PARTS:
        figures = results.read(work, part)
        made = "" if figures is None else f"{figures['made_at']}, {figures['code']}"
        for what, target, judge in make:
            figure, met = (_NOT_YET, None) if figures is None else judge(figures)
            if figures is not None and figures.get(results.UNFINISHED) and figure != _NOT_YET:
                # What has failed stays so; whether the rest would not is not known.
                figure, met = f"{figure}; unfinished", False if met is False else None
            found.append(Row(what, target, figure, met, made))
    return found


def _cpu(found: dict[str, Any]) -> tuple[str, bool]:
    one = found["cores_1"]
    return (
        f"{found['cpu_over_forward']:.2f} ({one['night']['cpu_s']:,.0f} s over {one['forward_cpu_s']:,.0f} s,"
        f" {found['subjects']:,} subjects, {found['events']:,} events, {one['night']['numeric_path']})",
        found["cpu_over_forward"] <= 1 / 0.85,
    )


def _wall(found: dict[str, Any]) -> tuple[str, bool]:
    two = found["cores_2"]
    seconds = f"{two['night']['wall_s']:,.0f} s over {two['forward_wall_s']:,.0f} s"
    return (
        f"{found['wall_over_forward_2_cores']:.2f} ({seconds})",
        found["wall_over_forward_2_cores"] <= 1 / 0.90,
    )


def _write(found: dict[str, Any]) -> tuple[str, bool | None]:
    if not found["written_rows_per_s"]:
        return "the night names no stage that writes", None
    rows_s = found["written_rows_per_s"]
    return f"{rows_s / 1e6:.2f} M rows/s ({found['cores_1']['night']['risk_rows']:,} risks)", rows_s >= 4e6


def _memory(found: dict[str, Any]) -> tuple[str, bool]:
    most, growth, whole = found["peak_mb"], found["growth"], found["all"]
    return (
        f"{most / 1024:.2f} GiB at {whole['subjects']:,} in {whole['workers']} processes "
        f"({whole['peak_shared_mb'] / 1024:.2f} with shared pages counted once; "
        f"{found['one_process']['peak_mb'] / 1024:.2f} in one process); "
        f"{growth:.2f} x that at {found['tenth']['subjects']:,}",
        most <= 1.5e9 / 2**20 and growth <= 1.15,
    )


def _news(found: dict[str, Any]) -> tuple[str, bool]:
    night, full = found["night"], found["full_night"]
    same = found["changed_rows_in_one_only"] == 0 and found["changed_rows_most_apart"] <= 1e-6
    seconds = f"{night['wall_s']:,.0f} s, full night {full['wall_s']:,.0f} s, copy {found['copy_of_the_file_s']:.1f} s"
    seconds += f", {found['share_of_full_cpu']:.0%} of its processor time"
    who = f"{found['with_news']:,} of {found['subjects']:,} with news, {night['carried_pairs']:,} pairs carried"
    return (
        f"{seconds} ({who}); changed rows at most {found['changed_rows_most_apart']:.1e} apart",
        night["wall_s"] <= found["allowed_s"] and same,
    )


def _pandas(found: dict[str, Any]) -> tuple[str, bool]:
    ours, theirs = found["riskpred"]["people_per_s"], found["pandas"]["people_per_s"]
    return f"{found['times_pandas']:.1f} x ({ours:,.0f} and {theirs:,.0f} subjects/s)", found["times_pandas"] >= 10


def _lightgbm(found: dict[str, Any]) -> tuple[str, bool | None]:
    if found["lightgbm"] is None:
        return "lightgbm is not installed", None
    ours, theirs = found["riskpred"]["risks_per_s"], found["lightgbm"]["risks_per_s"]
    return f"{found['times_lightgbm']:.2f} x ({ours:,} and {theirs:,} risks/s)", found["times_lightgbm"] >= 1


def _fast_images(found: dict[str, Any]) -> tuple[str, bool | None]:
    if "eager_over_fast" not in found:
        return _NOT_YET, None
    processor = f"{found['eager_over_fast_processor']:.1f} x in processor time"
    return (
        f"{found['eager_over_fast']:.1f} x ({found['subjects']:,} subjects; {processor})",
        found["eager_over_fast"] >= 4,
    )


def _new_images(found: dict[str, Any]) -> tuple[str, bool | None]:
    if "none_known_over_1_percent_new" not in found:
        return _NOT_YET, None
    times = found["none_known_over_1_percent_new"]
    return f"{times:.1f} x ({found['new_images']:,} new)", times >= 30


def _kills(found: dict[str, Any]) -> tuple[str, bool]:
    left = ", ".join(f"{name} {count}" for name, count in sorted(found["left"].items()))
    return (
        f"{left}; {found['reruns_with_the_same_rows']} reruns with the same rows,"
        f" {found['reruns_with_the_same_digest']} with the same digest ({found['while_publishing']} while publishing)",
        found["survived"] == found["kills"] == found["reruns_with_the_same_digest"],
    )


def _disk(found: dict[str, Any]) -> tuple[str, bool]:
    log = found["log_on_a_full_disk"]
    figure = f"{found['survived']} of {len(found['places'])} clean (by {found['by']})"
    if log is not None:
        published = "published" if log["published"] else "not published"
        figure += f"; log on a full disk: exit code {log['exit_code']}, {published}"
    return figure, found["survived"] == len(found["places"])


def _two(found: dict[str, Any]) -> tuple[str, bool | None]:
    if "two_runs" not in found:
        return _NOT_YET, None
    two = found["two_runs"]
    fine = (two["first"], two["second"], two["after_a_kill"]) == (0, 15, 0) and two["first_left_the_undisturbed_rows"]
    named = "names" if two["second_names_the_owner"] else "does not name"
    return (
        f"first {two['first']}, second {two['second']} after {two['second_took_seconds']} s, {named} the owner;"
        f" after a kill {two['after_a_kill']}",
        fine and two["second_names_the_owner"],
    )


def _reader(found: dict[str, Any]) -> tuple[str, bool | None]:
    if "reader" not in found:
        return _NOT_YET, None
    held = found["reader"]
    return (
        f"exit code {held['exit_code']}, {held['seconds']:.1f} s ({held['seconds_alone']:.1f} s without);"
        f" {'keeps' if held['keeps_its_snapshot'] else 'loses'} its snapshot",
        held["exit_code"] == 0 and held["keeps_its_snapshot"] and held["next_reader_sees_the_new_night"],
    )


def _faults(found: dict[str, Any]) -> tuple[str, bool]:
    planted, accounted = found["planted_in_all"], found["accounted_in_all"]
    other = sum(found.get("refused_for_another_reason", {}).values())
    apart = found["others_most_apart"]
    counted = len(found.get("counted_otherwise", []))
    return (
        f"{accounted:,} of {planted:,} accounted for"
        + (f" ({other:,} refused for another reason than they should be)" if other else "")
        + (f", {counted} counters differ from the ledger" if counted else "")
        + f"; others at most {apart:.1e} apart",
        accounted == planted and not counted and apart <= 1e-6 and not found["rows_of_others_in_one_night_only"],
    )


PARTS: Final = (
    (
        "speed",
        (
            ("processor time of the whole job over the bare forward passes, one core", "<= 1.18", _cpu),
            ("wall clock on 2 cores over the bare forward on 2 cores", "<= 1.11", _wall),
            ("risks written, verified and published", ">= 4 M rows/s", _write),
        ),
    ),
    ("memory", (("peak memory", "<= 1.5 GB, <= 1.15 x that at a tenth", _memory),)),
    ("news", (("1 % of the subjects with news", "<= 10 % of a full night + a copy of the file", _news),)),
    (
        "peers",
        (
            ("against chunked pandas with the same bundle, one core", ">= 10 x", _pandas),
            ("against LightGBM on the same features, one core", ">= 1 x", _lightgbm),
        ),
    ),
    (
        "images",
        (
            ("a 1024 px image each: fast path against eager fp32, same decode", ">= 4 x", _fast_images),
            ("1 % new images against none known", ">= 30 x", _new_images),
        ),
    ),
    ("kills", (("kill -9 at random moments", "old or new, reruns the same", _kills),)),
    ("disk_full", (("disk full at 5 places", "exit code 15, nothing lost", _disk),)),
    (
        "together",
        (
            ("two nights at once", "the second is exit 15 and names the owner", _two),
            ("a reader all night", "neither blocks nor is blocked", _reader),
        ),
    ),
    ("faults", (("faults of 12 kinds in source files", "all accounted, others within 1e-6", _faults),)),
    ("foreign", (("faults in the tables of another tool", "all accounted, others within 1e-6", _faults),)),
)
