"""The benchmark's page: targets with figures, and the tables behind them, from the results on disk alone."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.night import results, targets

_MARK: Final = "<!-- tables: {} -->"
_END: Final = "<!-- end -->"
_MET: Final = {True: "met", False: "**missed**", None: ""}


def write(work: Path, readme: Path | None = None) -> str:
    """Write WORK/tables.md, and into `readme` what stands between `<!-- tables: NAME -->` and `<!-- end -->`.

    Returns: the targets table and the missed ones in words.
    """
    parts = {"targets": _targets(work), "missed": _missed(work), "machine": _machine(work)}
    parts |= {name: make(work) for name, make in (("stages", _stages), ("peers", _peers), ("faults", _faults))}
    _replace(work / "tables.md", "\n\n".join(f"## {name}\n\n{text}" for name, text in parts.items()) + "\n")
    if readme is not None:
        _replace(readme, with_tables(readme.read_text(), parts))
    return f"{parts['targets']}\n\n{parts['missed']}"


def with_tables(text: str, parts: dict[str, str]) -> str:
    """The text with each marked part replaced; a part without a mark is left out."""
    for name, table in parts.items():
        start = _MARK.format(name)
        if start in text:
            before, after = text.split(start, 1)
            assert _END in after, f"{start} without {_END}"
            text = f"{before}{start}\n{table}\n{_END}{after.split(_END, 1)[1]}"
    return text


def _targets(work: Path) -> str:
    rows = [(row.what, row.target, row.figure, _MET[row.met], row.made) for row in targets.rows(work)]
    return _table(("what", "target", "figure", "", "measured (UTC), commit"), rows)


def _missed(work: Path) -> str:
    found = targets.rows(work)
    missed = [f"- {row.what}: {row.figure}; the target is {row.target}." for row in found if row.met is False]
    absent = [row.what for row in found if row.met is None]
    lines = ["Missed:", "", *missed] if missed else ["No measured target is missed."]
    return "\n".join([*lines, *(["", f"Not measured: {'; '.join(absent)}."] if absent else [])])


def _machine(work: Path) -> str:
    known = [found for part, _ in targets.PARTS if (found := results.read(work, part)) is not None]
    machines = sorted({found["machine"] for found in known})
    days = sorted(found["made_at"][:10] for found in known)
    return f"Measured {days[0]} to {days[-1]} on {'; '.join(machines)}." if known else "Nothing has been measured."


def _stages(work: Path) -> str:
    """Where the time of the nights went."""
    nights: list[tuple[str, dict[str, Any]]] = []
    if (speed := results.read(work, "speed")) is not None:
        nights += [(f"full, {n} core{'s' * (n > 1)}", speed[f"cores_{n}"]["night"]) for n in (1, 2)]
    if (news := results.read(work, "news")) is not None:
        nights += [("1 % news", news["night"]), ("full, the day after", news["full_night"])]
    rows = [
        (
            name,
            f"{night['subjects']:,}",
            f"{night['wall_s']:,.1f}",
            f"{night['cpu_s']:,.1f}",
            f"{night['peak_mb']:,}",
            f"{night['peak_shared_mb']:,}" if "peak_shared_mb" in night else "-",
            f"{night['file_bytes'] / 2**20:,.0f}",
            ", ".join(
                f"{stage} {s:.1f}" for stage, s in sorted(night["stages_s"].items(), key=lambda x: -x[1]) if s >= 0.1
            ),
        )
        for name, night in nights
    ]
    return _table(
        ("night", "subjects", "wall s", "CPU s", "peak MiB", "shared pages once", "file MiB", "stages, s"), rows
    )


def _peers(work: Path) -> str:
    found = results.read(work, "peers")
    names = {"riskpred": "riskpred score (reasons, receipts, verified)", "pandas": "chunked pandas, same bundle"}
    names["lightgbm"] = "SQL features, 12 LightGBM boosters"
    rows = [
        (
            title,
            f"{one['people']:,}",
            f"{one['wall_s']:,.1f}",
            f"{one['people_per_s']:,.0f}",
            f"{one['risks_per_s']:,}",
            f"{one['risks_per_cpu_s']:,}",
        )
        for name, title in names.items()
        if found is not None and (one := found[name]) is not None
    ]
    return _table(("way", "subjects", "wall s", "subjects/s", "risks/s", "risks per CPU s"), rows)


def _faults(work: Path) -> str:
    source, foreign = results.read(work, "faults"), results.read(work, "foreign")
    kinds = dict.fromkeys([*(source or {"planted": {}})["planted"], *(foreign or {"planted": {}})["planted"]])
    rows = [(kind, *_of_kind(source, kind), *_of_kind(foreign, kind)) for kind in kinds]
    return _table(("kind", "in files", "accounted", "in tables", "accounted", "where it shows in tables"), [
        (*row, (foreign or {"where": {}})["where"].get(row[0], "")) for row in rows
    ])  # fmt: skip


def _of_kind(found: dict[str, Any] | None, kind: str) -> tuple[str, str]:
    if found is None or kind not in found["planted"]:
        return "", ""
    return f"{found['planted'][kind]:,}", f"{found['accounted'].get(kind, 0):,}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text)
    os.replace(beside, path)
