"""The summary as markdown tables: what is printed, and pasted into README.md by `--readme`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.benchmarks.accuracy.goals import Goal
from tests.benchmarks.accuracy.tables import CHOSEN

_MET = {True: "met", False: "**missed**", None: ""}


def markdown(summary: Mapping[str, Any], targets: Sequence[Goal]) -> str:
    """Targets, then accuracy, paired differences, scenarios and seconds of every set."""
    return (
        "\n\n".join(
            [
                "## Targets",
                goals_table(targets),
                "## Accuracy",
                accuracy_table(summary),
                "## riskpred less each peer, paired over folds (95 % Nadeau-Bengio intervals)",
                differences_table(summary),
                "## Age bands, from the same predictions",
                subsets_table(summary),
                "## Modalities taken away at scoring",
                scenarios_table(summary),
                "## Seconds per fold, one thread",
                seconds_table(summary),
                notes(summary),
            ]
        ).rstrip()
        + "\n"
    )


def goals_table(targets: Sequence[Goal]) -> str:
    return table(
        ("what", "target", "figure", ""), [(goal.what, goal.target, goal.figure, _MET[goal.met]) for goal in targets]
    )


def accuracy_table(summary: Mapping[str, Any]) -> str:
    """C = Uno's C at the last horizon (AUC where known at once), mean over folds; IBS, or the Brier score.

    "AUC by then": time-dependent AUC of the risk by the last horizon.
    """
    rows = []
    for title, _, outcome in _outcomes(summary):
        chosen = outcome["chosen"].get("rank")
        for method, scores in outcome["methods"].items():
            rows.append((title, method + (" (chosen)" if method == chosen else ""), *_accuracy(scores)))
            title = ""
    return table(("set, outcome, horizon", "method", *_ACCURACY), rows)


_ACCURACY = ("C or AUC (SD of folds)", "AUC by then", "IBS or Brier", "ICI (floor)", "slope", "citl", "folds")


def _accuracy(scores: Mapping[str, Any]) -> tuple[str, ...]:
    floor = f" ({_fixed(scores['ici_floor'], 4)})" if scores["ici_floor"] is not None else ""
    return (
        f"{_fixed(scores['rank'], 4)} ({_fixed(scores['rank_sd'], 3)})",
        _fixed(scores["auc"], 4),
        _fixed(scores["error"], 5),
        _fixed(scores["ici"], 4) + floor,
        _fixed(scores["slope"], 2),
        _fixed(scores["citl"], 3, sign=True),
        str(scores["folds"]),
    )


def differences_table(summary: Mapping[str, Any]) -> str:
    rows = []
    for title, _, outcome in _outcomes(summary):
        for method, found in outcome["differences"].items():
            named = method
            if method == CHOSEN:
                named = f"{CHOSEN}: {', '.join(dict.fromkeys(outcome['chosen'].values()))}"
            cells = [_interval(found.get(metric), digits) for metric, digits in (("rank", 4), ("error", 5))]
            rows.append((title, named, *cells, str(found["rank"]["folds"]) if "rank" in found else ""))
            title = ""
    return table(("set, outcome, horizon", "peer", "C or AUC", "IBS or Brier", "folds"), rows)


def subsets_table(summary: Mapping[str, Any]) -> str:
    rows = []
    for title, _, outcome in _outcomes(summary):
        for subset, methods in outcome["subsets"].items():
            for method, scores in methods.items():
                rows.append((f"{title}, {subset}", method, *_accuracy(scores)))
    return table(("set, outcome, horizon", "method", *_ACCURACY), rows)


def scenarios_table(summary: Mapping[str, Any]) -> str:
    """Each scenario of a set, and below it the model trained without those modalities."""
    rows = []
    for name, one in summary.items():
        if one["of"]:
            continue
        related = {key: other for key, other in summary.items() if other["of"] == name}
        for outcome_name, outcome in one["outcomes"].items():
            lines = [(f"{name}: {scenario}", scores) for scenario, scores in outcome["scenarios"].items()]
            if lines or related:
                ours = [(m, s) for m, s in outcome["methods"].items() if m.startswith("riskpred")]
                lines += [(f"{name}: {m}, all inputs", s) for m, s in ours]
            for key, other in related.items():
                for method, scores in other["outcomes"].get(outcome_name, {"methods": {}})["methods"].items():
                    if method.startswith("riskpred"):
                        lines.append((f"{key}: {method}, trained without", scores))
            rows += [(f"{line}, {outcome_name}", *_accuracy(scores)) for line, scores in lines]
    return table(("what", *_ACCURACY), rows)


def seconds_table(summary: Mapping[str, Any]) -> str:
    methods = list(dict.fromkeys(method for one in summary.values() for method in one["methods"]))
    rows = [
        (name, *(_fixed(one["methods"].get(method, {}).get("seconds"), 1) for method in methods))
        for name, one in summary.items()
    ]
    return table(("set", *methods), rows)


def notes(summary: Mapping[str, Any]) -> str:
    """What is not as it should be: parts that other code or other rows made."""
    lines = []
    for name, one in summary.items():
        if one["parts_of_other_rows"]:
            lines.append(f"- {name}: {one['parts_of_other_rows']} parts of other rows are left out; run again.")
        for method, found in one["methods"].items():
            if found["of_older_code"]:
                lines.append(
                    f"- {name}, {method}: {found['of_older_code']} of {found['parts']} parts are of older code."
                )
    return "\n".join(lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table; "nothing yet" for no rows."""
    lines = [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    if not lines:
        return "nothing yet"
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _outcomes(summary: Mapping[str, Any]) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    """(title, set, outcome) of every outcome of every set."""
    for name, one in summary.items():
        for outcome_name, outcome in one["outcomes"].items():
            last = outcome["horizons_years"][-1]
            when = "now" if outcome["known_at_once"] else f"{last:g} y"
            yield f"{name}, {outcome_name}, {when} ({outcome['rows']:,}; {outcome['events']:,})", name, outcome


def _interval(found: Mapping[str, Any] | None, digits: int) -> str:
    if found is None or found["mean"] is None:
        return ""
    text = _fixed(found["mean"], digits, sign=True)
    if found["low"] is None:
        return text
    return f"{text} ({_fixed(found['low'], digits, sign=True)} to {_fixed(found['high'], digits, sign=True)})"


def _fixed(value: float | None, digits: int, sign: bool = False) -> str:
    """.1234 and not 0.1234, as the rest of the project prints shares."""
    if value is None:
        return ""
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text
