"""How well risks rank people: Uno's C, Harrell's C and the AUC at a horizon, with competing events and censoring.

A pair is comparable when one of the two, the case, has the outcome by the horizon and the other, the control, is
known not to have had it by then: still free at the case's time (also when seen last at that very time), or out of
reach of it through an earlier competing event. Two cases at one time are not comparable. Equal risks count one half.
"""

import numpy as np
from numpy.typing import NDArray

from riskpred.evaluate.censoring import OUTCOME, Floats, Undefined
from riskpred.evaluate.timeline import Ranks, Timeline
from riskpred.records.compiled import compiled


def uno_c(
    risk: Floats, time_days: Floats, status: NDArray[np.int8], horizon_days: float, count: Floats | None = None
) -> float:
    """Uno's concordance, truncated at the horizon, competing events kept as controls.

    C = sum of w_ij [risk_i > risk_j] / sum of w_ij over comparable pairs (case i, control j), with
    w_ij = 1 / G(T_i-)^2 where j is free at T_i, and 1 / (G(T_i-) G(T_j-)) where j had a competing event by T_i.
    G is the Kaplan-Meier curve of leaving (`observation`), estimated on the same rows.

    Args:
        risk: cumulative incidence at the horizon (any monotone score will do).
        count: how often each row counts (a bootstrap by subject); default 1.

    Shape: risk, time_days, status, count (N,).
    Raises: ValueError: shapes differ, a risk that is not a number; Undefined: no comparable pair.
    Does not accept risks that change with time, nor rows without follow-up.
    Source: Uno et al. 2011, Stat Med 30:1105-1117; Wolbers et al. 2014, Biostatistics 15:526-539 (competing events).
    """
    _check(risk, time_days, status)
    timeline = Timeline.of(time_days, status)
    return concordance(Ranks.of(risk), timeline, horizon_days, timeline.staying(count), count)


def harrell_c(
    risk: Floats, time_days: Floats, status: NDArray[np.int8], horizon_days: float, count: Floats | None = None
) -> float:
    """Harrell's concordance over the same pairs as `uno_c`, unweighted: it depends on who left when.

    Shape, Raises: as `uno_c`.
    Source: Harrell et al. 1996, Stat Med 15:361-387; Wolbers et al. 2009, Epidemiology 20:555-561 (competing events).
    """
    _check(risk, time_days, status)
    return concordance(Ranks.of(risk), Timeline.of(time_days, status), horizon_days, None, count)


def auc(risk: Floats, outcome: Floats, weight: Floats) -> float:
    """Area under the ROC curve of the weighted rows: P(risk of a case > risk of a control), ties one half.

    With the weights of `at_horizon` this is the IPCW cumulative/dynamic AUC in which controls are all without the
    outcome at the horizon, competing events included; with weights of 1 it is the ordinary AUC.

    Shape: risk, outcome (0 or 1), weight (N,).
    Raises: ValueError: shapes differ, a risk that is not a number; Undefined: cases or controls are missing.
    Source: Blanche et al. 2013, Stat Med 32:5381-5397 (definition ii).
    """
    _check(risk, outcome, weight)
    return ranked_auc(Ranks.of(risk), outcome, weight)


def ranked_auc(ranks: Ranks, outcome: Floats, weight: Floats) -> float:
    """`auc` of risks already ranked. Shape: outcome, weight (N,). Raises: Undefined: cases or controls are missing."""
    cases = np.bincount(ranks.rank, weights=weight * outcome)
    controls = np.bincount(ranks.rank, weights=weight * (1.0 - outcome))
    pairs = float(cases.sum() * controls.sum())
    if pairs <= 0:
        raise Undefined("only one class is there")
    below = np.cumsum(controls) - controls
    return float(np.sum(cases * (below + 0.5 * controls))) / pairs


def concordance(
    ranks: Ranks, timeline: Timeline, horizon_days: float, staying: Floats | None, count: Floats | None
) -> float:
    """`uno_c` (`harrell_c` without `staying`) of risks already ranked and follow-up already sorted.

    Shape: staying (K + 1,), the Kaplan-Meier curve of `Timeline.staying` on the same resample; count (N,).
    Raises: Undefined: no comparable pair.
    """
    size, order = len(ranks.rank), timeline.order
    case = (timeline.ordered_status == OUTCOME) & (timeline.ordered_time <= horizon_days)
    concordant, pairs = _weighted_pairs(
        timeline.ordered_time,
        timeline.ordered_status,
        case,
        ranks.rank[order],
        np.ones(size) if staying is None else staying[timeline.ordered_place],
        np.ones(size) if count is None else count[order],
        ranks.levels,
    )
    if pairs <= 0:
        raise Undefined("no two people can be compared")
    return float(concordant / pairs)


def _check(risk: Floats, second: NDArray[np.generic], third: NDArray[np.generic]) -> None:
    if risk.ndim != 1 or risk.shape != second.shape or risk.shape != third.shape:
        raise ValueError("risks and what they are compared with must be one-dimensional and of one length")
    if not np.all(np.isfinite(risk)):
        raise ValueError("every risk must be a number; leave out rows without one")


@compiled
def _weighted_pairs(
    time: Floats,
    status: NDArray[np.int8],
    case: NDArray[np.bool_],
    rank: NDArray[np.int64],
    seen: Floats,
    count: Floats,
    levels: int,
) -> tuple[float, float]:
    """Weights of concordant and of all comparable pairs; rows sorted by time. O(N log N): a Fenwick tree over ranks."""
    n = len(time)
    concordant, pairs = 0.0, 0.0
    tree, total = np.zeros(levels + 1), 0.0
    # Backwards through time, the tree holds those still free: whoever leaves at t is free at t, so goes in first.
    end = n
    while end > 0:
        start = end - 1
        while start > 0 and time[start - 1] == time[end - 1]:
            start -= 1
        for i in range(start, end):
            if status[i] == 0:
                total += count[i]
                _add(tree, rank[i], count[i])
        for i in range(start, end):
            if case[i] and count[i] > 0:
                below, upto = _sum(tree, rank[i]), _sum(tree, rank[i] + 1)
                weight = count[i] / (seen[i] * seen[i])
                concordant += weight * 0.5 * (below + upto)
                pairs += weight * total
        for i in range(start, end):
            if status[i] != 0:
                total += count[i]
                _add(tree, rank[i], count[i])
        end = start
    # Forwards, it holds those whom a competing event has taken out of reach.
    tree, total = np.zeros(levels + 1), 0.0
    start = 0
    while start < n:
        end = start + 1
        while end < n and time[end] == time[start]:
            end += 1
        for i in range(start, end):
            if status[i] == 2 and count[i] > 0:
                total += count[i] / seen[i]
                _add(tree, rank[i], count[i] / seen[i])
        for i in range(start, end):
            if case[i] and count[i] > 0:
                below, upto = _sum(tree, rank[i]), _sum(tree, rank[i] + 1)
                weight = count[i] / seen[i]
                concordant += weight * 0.5 * (below + upto)
                pairs += weight * total
        start = end
    return concordant, pairs


@compiled
def _add(tree: Floats, place: int, amount: float) -> None:
    at = place + 1
    while at < len(tree):
        tree[at] += amount
        at += at & -at


@compiled
def _sum(tree: Floats, upto: int) -> float:
    """Sum over places 0 .. upto - 1."""
    total = 0.0
    at = upto
    while at > 0:
        total += tree[at]
        at -= at & -at
    return total
