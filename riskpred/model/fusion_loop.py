"""The loop behind fusion.py: from what was sent to risks, for each member, coalition and block of rows.

Compiled; arrays in, arrays out. Rows lie innermost, so that the compiler computes several of them at a time.
"""

import numpy as np
from numpy.typing import NDArray

from riskpred.model.vector_math import exp_rows, share_lost_rows, silu_rows, softplus_rows
from riskpred.records.compiled import contracted

_BLOCK = 64
"""Rows that are computed together: their numbers stay in the first two caches."""
_LOG2 = 0.6931471805599453

_Array = NDArray[np.float64]
_Places = NDArray[np.int64]


@contracted
def fuse(
    coefficients: _Array,
    embedding: _Array,
    mean_coefficients: _Array,
    mean_embedding: _Array,
    group: _Places,
    order: _Places,
    pattern: _Places,
    begin: _Places,
    inner: _Array,
    inner_bias: _Array,
    outer: _Array,
    outer_bias: _Array,
    baseline: _Array,
    basis: _Array,
    years: _Array,
    slope: _Array,
    intercept: _Array,
    bend: _Array,
    knot: _Array,
    width: _Array,
    group_start: _Places,
    intervals: _Places,
    target: _Places,
    ordered: NDArray[np.bool_],
    member: _Array,
    value: _Array,
) -> None:
    """Fill `member`, risks with everything that is there, and add up `value`, each coalition's mean over members.

    Args:
        coefficients, embedding: (M, R, G, B), (M, R, D, B); rows that lack the modality are not read.
        mean_coefficients, mean_embedding: (N, M, R, G), (N, M, R, D), the reference of each of N groups.
        group: (B,) whose reference stands for each row.
        order: (B,) rows by availability pattern.   pattern: the patterns that occur, each of
            order[begin[i]:begin[i + 1]].
        inner to target: as `Fusion` has them.
        member: (R, B, Q).   value: (2^M, B, Q) of zeros, or (0, B, Q): no coalitions are wanted.
    """
    modalities, members, n_coefficients, _ = coefficients.shape
    n_embedding, hidden = embedding.shape[2], inner_bias.shape[1]
    causes, n_intervals = years.shape
    coalitions = len(value) > 0
    groups = len(mean_coefficients)
    own = np.zeros((modalities, n_coefficients, _BLOCK))
    said = np.zeros((modalities, hidden, _BLOCK))
    mean_own = np.zeros((modalities, n_coefficients, _BLOCK))
    mean_said = np.zeros((modalities, hidden, _BLOCK))
    said_by_mean = np.zeros((groups, modalities, hidden))
    bare = np.zeros((modalities, n_embedding, _BLOCK))
    total = np.zeros((n_coefficients, _BLOCK))
    together = np.zeros((hidden, _BLOCK))
    rate = np.zeros((causes, n_intervals, _BLOCK))
    work = np.zeros((n_intervals, _BLOCK))
    lost = np.zeros((n_intervals, _BLOCK))
    free = np.zeros(_BLOCK)
    risk = np.zeros((member.shape[2], _BLOCK))
    # v(nothing): the same for every row of a pattern and group, so groups stand where rows do and it is computed once.
    of_nothing = np.zeros((len(pattern), groups, member.shape[2]))
    every_group = np.arange(groups)
    share = 1.0 / members
    for r in range(members):
        for g in range(groups):
            for m in range(modalities):
                for h in range(hidden):
                    spoken = 0.0
                    for d in range(n_embedding):
                        spoken += mean_embedding[g, m, r, d] * inner[r, d, h]
                    said_by_mean[g, m, h] = spoken
        for i in range(len(pattern)):
            here = pattern[i]
            if coalitions or here == 0:
                for first in range(0, groups, _BLOCK):
                    some = every_group[first : min(first + _BLOCK, groups)]
                    _means(mean_coefficients[:, :, r], some, here, mean_own)
                    _means(said_by_mean, some, here, mean_said)
                    _added(own, mean_own, outer_bias[r], here, 0, total)
                    if hidden:
                        _added(said, mean_said, inner_bias[r], here, 0, together)
                        _joint(together, outer[r], total)
                    for g in range(len(intervals)):
                        _risks(
                            total, baseline[r], basis, years, slope[here], intercept[here], bend[here], knot, width,
                            group_start[g], group_start[g + 1], intervals[g], ordered[g], target, rate, work, lost,
                            free, risk,
                        )  # fmt: skip
                    for q in range(len(risk)):
                        for b in range(len(some)):
                            of_nothing[i, some[b], q] += share * risk[q, b]
                if here == 0:
                    for row in order[begin[i] : begin[i + 1]]:
                        member[r, row] = risk[:, 0]
                    continue
            for first in range(begin[i], begin[i + 1], _BLOCK):
                rows = order[first : min(first + _BLOCK, begin[i + 1])]
                n = len(rows)
                for m in range(modalities):
                    if here >> m & 1:
                        _take(coefficients[m, r], rows, own[m])
                        _take(embedding[m, r], rows, bare[m])
                        _joined(bare[m], inner[r], said[m])
                if coalitions:
                    _means(mean_coefficients[:, :, r], group[rows], here, mean_own)
                    _means(said_by_mean, group[rows], here, mean_said)
                for inside in range(1, here + 1):
                    # Coalitions are sets of what is there.
                    if inside & ~here or (inside != here and not coalitions):
                        continue
                    _added(own, mean_own, outer_bias[r], here, inside, total)
                    if hidden:
                        _added(said, mean_said, inner_bias[r], here, inside, together)
                        _joint(together, outer[r], total)
                    for g in range(len(intervals)):
                        _risks(
                            total, baseline[r], basis, years, slope[here], intercept[here], bend[here], knot, width,
                            group_start[g], group_start[g + 1], intervals[g], ordered[g], target, rate, work, lost,
                            free, risk,
                        )  # fmt: skip
                    if inside == here:
                        for q in range(len(risk)):
                            for b in range(n):
                                member[r, rows[b], q] = risk[q, b]
                    if coalitions:
                        for q in range(len(risk)):
                            for b in range(n):
                                value[inside, rows[b], q] += share * risk[q, b]
    if coalitions:
        _spread(group, order, pattern, begin, of_nothing, value)


@contracted
def _means(mean: _Array, groups: _Places, here: int, result: _Array) -> None:
    """The reference of each column's group, of modalities that are there; what is left of the block repeats the last.

    Shape: (groups, M, N) -> (M, N, block).
    """
    for m in range(result.shape[0]):
        if here >> m & 1:
            for n in range(result.shape[1]):
                line = result[m, n]
                for b in range(_BLOCK):
                    line[b] = mean[groups[min(b, len(groups) - 1)], m, n]


@contracted
def _take(given: _Array, rows: _Places, result: _Array) -> None:
    """Wanted rows; what is left of the block repeats the last. Shape: (N, B) -> (N, block)."""
    for n in range(len(given)):
        line, wanted = given[n], result[n]
        for b in range(len(rows)):
            wanted[b] = line[rows[b]]
        for b in range(len(rows), _BLOCK):
            wanted[b] = line[rows[len(rows) - 1]]


@contracted
def _joined(embedding: _Array, inner: _Array, result: _Array) -> None:
    """What one embedding adds within the joint term. Shape: (D, block), (D, H) -> (H, block)."""
    for h in range(result.shape[0]):
        line = result[h]
        line[:] = 0.0
        for d in range(embedding.shape[0]):
            weight, one = inner[d, h], embedding[d]
            for b in range(_BLOCK):
                line[b] += weight * one[b]


@contracted
def _added(own: _Array, mean: _Array, bias: _Array, here: int, inside: int, result: _Array) -> None:
    """The bias, what modalities inside say themselves, the reference of others that are there. Shape: (N, block)."""
    for n in range(result.shape[0]):
        line = result[n]
        line[:] = bias[n]
        for m in range(own.shape[0]):
            if here >> m & 1:
                one = own[m, n] if inside >> m & 1 else mean[m, n]
                for b in range(_BLOCK):
                    line[b] += one[b]


@contracted
def _joint(together: _Array, outer: _Array, total: _Array) -> None:
    """Add the joint term of what was said together. Shape: (H, block), (H, G) -> (G, block)."""
    for h in range(together.shape[0]):
        silu_rows(together[h])
    for g in range(total.shape[0]):
        line = total[g]
        for h in range(together.shape[0]):
            weight, one = outer[h, g], together[h]
            for b in range(_BLOCK):
                line[b] += weight * one[b]


@contracted
def _risks(
    total: _Array,
    baseline: _Array,
    basis: _Array,
    years: _Array,
    slope: _Array,
    intercept: _Array,
    bend: _Array,
    knot: _Array,
    width: _Array,
    first: int,
    end: int,
    intervals: int,
    ordered: bool,
    target: _Places,
    rate: _Array,
    work: _Array,
    lost: _Array,
    free: _Array,
    risk: _Array,
) -> None:
    """Calibrated rates of one group's causes, first to end, and their risks at its targets.

    Of competing causes that is the cumulative incidence, of ordered grades P(grade or more).
    """
    flat = work.reshape(-1)[: intervals * _BLOCK]
    for c in range(first, end):
        early, middle, late = total[3 * c], total[3 * c + 1], total[3 * c + 2]
        rates = rate[c].reshape(-1)[: intervals * _BLOCK]
        per_width, gain, steep = 1.0 / width[c], 2.0 * np.sinh(bend[c]) * width[c], np.exp(-bend[c])
        for k in range(intervals):
            start, one, two, three = baseline[c, k] - knot[c], basis[c, 0, k], basis[c, 1, k], basis[c, 2, k]
            line = rates[k * _BLOCK : (k + 1) * _BLOCK]
            for b in range(_BLOCK):
                line[b] = (start + (one * early[b] + two * middle[b] + three * late[b])) * per_width
        softplus_rows(rates, flat)
        for k in range(intervals):
            line, bent = rates[k * _BLOCK : (k + 1) * _BLOCK], flat[k * _BLOCK : (k + 1) * _BLOCK]
            a, b_, w = intercept[c, k], slope[c, k], width[c]
            for b in range(_BLOCK):
                bent[b] = a + b_ * (steep * (line[b] * w) + gain * (bent[b] - _LOG2))
        exp_rows(flat, rates)
        for k in range(intervals):
            line, length = rates[k * _BLOCK : (k + 1) * _BLOCK], years[c, k]
            for b in range(_BLOCK):
                line[b] *= length
    if ordered:
        free[:] = 1.0
        for c in range(first, end):
            work[0, :] = rate[c, 0]
            share_lost_rows(work[0], lost[0])
            for b in range(_BLOCK):
                free[b] *= work[0, b] * lost[0, b]
            if target[c, 0] >= 0:
                risk[target[c, 0], :] = free
        return
    for k in range(intervals):
        line = work[k]
        line[:] = 0.0
        for c in range(first, end):
            one_rate = rate[c, k]
            for b in range(_BLOCK):
                line[b] += one_rate[b]
    share_lost_rows(flat, lost.reshape(-1)[: intervals * _BLOCK])
    for k in range(intervals):
        if k == 0:
            free[:] = 1.0
        all_rates, shared = work[k], lost[k]
        for c in range(first, end):
            one_rate = rate[c, k]
            before = rate[c, k - 1] if k > 0 else one_rate
            for b in range(_BLOCK):
                grown = one_rate[b] * shared[b] * free[b]
                one_rate[b] = grown + before[b] if k > 0 else grown
            if target[c, k] >= 0:
                risk[target[c, k], :] = one_rate
        for b in range(_BLOCK):
            free[b] -= free[b] * (all_rates[b] * shared[b])


@contracted
def _spread(
    group: _Places, order: _Places, pattern: _Places, begin: _Places, of_nothing: _Array, value: _Array
) -> None:
    """Copy to every coalition the value of its part that is there, and to every row that of nothing."""
    for i in range(len(pattern)):
        rows = order[begin[i] : begin[i + 1]]
        for row in rows:
            value[0, row] = of_nothing[i, group[row]]
        for inside in range(1, len(value)):
            if inside & ~pattern[i]:
                for row in rows:
                    value[inside, row] = value[inside & pattern[i], row]
