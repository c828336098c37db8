"""Every row of the issue's table of targets, with its figure and whether it is met."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from tests.benchmarks.accuracy.compare import chosen_peers, paired, paired_mean
from tests.benchmarks.accuracy.methods import FLOOR, NEURAL, OURS, UNTREATED
from tests.benchmarks.accuracy.results import Scores
from tests.benchmarks.accuracy.sets import SETS, BenchmarkSet
from tests.benchmarks.accuracy.tables import Scored
from tests.benchmarks.accuracy.truth import against_truth

Sets = Mapping[str, Scored]


@dataclass(frozen=True)
class Goal:
    """One line of the table. met: None = not a target but what must stand beside it, or nothing to judge yet."""

    what: str
    target: str
    figure: str
    met: bool | None


_NOT_RUN: Final = "not run"
_MISSING: Final = (
    ("physionet2012", "without labs", "physionet2012-no_labs"),
    ("physionet2012", "without any series", "physionet2012-no_series"),
    ("nafld", "without series", "nafld-no_series"),
    ("lgg_mri", "without image", "lgg_mri-no_image"),
)
"""(set, scenario, the set trained without those modalities)."""


def goals(sets: Sets) -> list[Goal]:
    """All rows, in the issue's order."""
    rows: list[Callable[[Sets], Iterator[Goal]]] = [
        _rank,
        _auc,
        _error,
        _physionet_b,
        _mortality,
        _accelerometry,
        _nafld,
        _calibration,
        _missing,
        _hospital,
        _neural,
        _cost,
    ]
    return [goal for row in rows for goal in row(sets)]


def _counted() -> list[BenchmarkSet]:
    return [spec for spec in SETS.values() if spec.counts]


def _against_chosen(one: Scored, metric: str) -> list[tuple[Scores, Scores]]:
    """Ours and the chosen peer's scores of each outcome of a set; [] where either is not there."""
    pairs = []
    for outcome in one.results.views:
        peer = chosen_peers(one.results, outcome).get(metric)
        ours = one.of(OURS, outcome)
        if peer is None or not ours.by_fold:
            return []
        pairs.append((ours, one.of(peer, outcome)))
    return pairs


def _versus(sets: Sets, metric: str, worse: float, least_better: int, what: str, target: str) -> Iterator[Goal]:
    """A mean over folds per set; metric "error" is better when lower."""
    sign = 1.0 if metric == "rank" else -1.0
    texts, means, bounds = [], [], []
    for spec in _counted():
        pairs = _against_chosen(sets[spec.name], metric) if spec.name in sets else []
        if not pairs:
            texts.append(f"{spec.name}: {_NOT_RUN}")
            continue
        found = paired_mean(pairs, metric)
        means.append(sign * found.mean)
        bounds.append(found.below if metric == "rank" else -found.above)
        size = ".4f" if metric == "rank" else ".5f"
        texts.append(f"{spec.name} {found.mean:+{size}} ({found.low:+{size}} to {found.high:+{size}})")
    complete = len(means) == len(_counted())
    fine = all(mean >= -worse for mean in means) and sum(mean > 0 for mean in means) >= least_better
    if metric == "rank":
        fine = fine and all(bound >= -0.005 for bound in bounds)
        texts.append(f"95 % bounds: worst {min(bounds, default=np.nan):+.4f}")
    texts.append(f"better on {sum(mean > 0 for mean in means)} of {len(means)}")
    yield Goal(what, target, "; ".join(texts), fine if complete else None)


def _rank(sets: Sets) -> Iterator[Goal]:
    yield from _versus(
        sets,
        "rank",
        0.001,
        7,
        "riskpred against the single peer that inner folds chose: Uno C, or AUC for known at once",
        "mean never worse by more than .001; 95 % Nadeau-Bengio bound of any loss <= .005; better on at least 7 of 9",
    )


def _auc(sets: Sets) -> Iterator[Goal]:
    """Beside C, which a risk by one horizon need not lead: it rewards who ranks by when, within the horizon, too.

    Source: Blanche, Kattan & Gerds 2019, Biostatistics 20:347-357 (C is not proper for t-year risks, AUC(t) is).
    """
    texts = []
    for spec in _counted():
        pairs = _against_chosen(sets[spec.name], "rank") if spec.name in sets else []
        if pairs and not (view := next(iter(sets[spec.name].results.views.values()))).known_at_once:
            found = paired_mean(pairs, f"auc@{view.horizons_years[-1]:g}")
            texts.append(f"{spec.name} {found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})")
    what = "the same peers, AUC of the risk by the last horizon beside it (C is not proper for such a risk, AUC is)"
    yield Goal(what, "", "; ".join(texts) or _NOT_RUN, None)


def _error(sets: Sets) -> Iterator[Goal]:
    yield from _versus(
        sets, "error", 0.0, 6, "the same, integrated Brier score", "mean never worse; better on at least 6 of 9"
    )


def _physionet_b(sets: Sets) -> Iterator[Goal]:
    scores = _ours(sets, "physionet2012_b", "hospital_death")
    yield _limits(
        "physionet2012, in-hospital death, trained on a, set b once",
        scores,
        ("AUC", "rank", 0.875, True),
        ("Brier", "error", 0.0860, False),
        ("ICI", "ici@0", 0.015, False),
    )


def _mortality(sets: Sets) -> Iterator[Goal]:
    name = "nhanes_mortality"
    for outcome, c, error, older in (("heart_death", 0.870, 0.0161, 0.805), ("cancer_death", 0.820, 0.0174, 0.735)):
        what = f"{name}, {outcome}, 10 years, competing"
        limits = ("C", "rank", c, True), ("IBS", "error", error, False), ("ICI", "ici@10", 0.005, False)
        yield _limits(what, _ours(sets, name, outcome), *limits)
        yield _limits(f"{what}, aged 40-79", _ours(sets, name, outcome, "aged 40-79"), ("C", "rank", older, True))
        floor = sets[name].of(FLOOR, outcome) if name in sets else Scores()
        if floor.by_fold:
            young = sets[name].of(FLOOR, outcome, subset="aged 40-79")
            figure = f"C {floor.mean('rank'):.4f}, IBS {floor.mean('error'):.5f}; aged 40-79 C {young.mean('rank'):.4f}"
            yield Goal(f"{what}: age + sex beside it", "", figure, None)
    yield from _gain(
        sets, name, f"{name}-no_activity", "rank", "all adults, C with the activity modalities less without"
    )


def _accelerometry(sets: Sets) -> Iterator[Goal]:
    name = "nhanes_accelerometry"
    what = "nhanes_mortality, death within 5 years, people with accelerometry"
    yield _limits(what, _ours(sets, name, "any_death"), ("nested AUC", "auc@5", 0.82, True))
    yield from _gain(sets, name, f"{name}-no_activity", "auc@5", f"{what}: AUC with activity less without")


def _nafld(sets: Sets) -> Iterator[Goal]:
    limits = ("C", "rank", 0.777, True), ("IBS", "error", 0.0273, False), ("ICI", "ici@5", 0.008, False)
    yield _limits("nafld, day 730, 5 years", _ours(sets, "nafld", "cardiovascular"), *limits)
    what = "nafld: series with the pattern of observation over static, C"
    yield from _gain(sets, "nafld", "nafld-static", "rank", what, 0.007)


def _calibration(sets: Sets) -> Iterator[Goal]:
    for name, one in sets.items():
        if one.results.spec.of or not one.has(OURS):
            continue
        for outcome, view in one.results.views.items():
            scores, last = one.of(OURS, outcome), f"{view.horizons_years[-1]:g}"
            ici, floor, slope, citl = (scores.pooled.get(f"{m}@{last}") for m in ("ici", "ici_floor", "slope", "citl"))
            if ici is None or floor is None or slope is None or citl is None:
                continue
            limit = max(0.01, 1.5 * floor)
            met = ici <= limit and abs(citl) <= 0.05 and (scores.rows < 4_000 or 0.95 <= slope <= 1.05)
            yield Goal(
                f"{name}, {outcome}: calibration, pooled out-of-fold, {last} years",
                f"ICI <= {limit:.4f}; |citl| <= .05" + ("; slope .95-1.05" if scores.rows >= 4_000 else ""),
                f"ICI {ici:.4f} (floor {floor:.4f}), slope {slope:.3f}, citl {citl:+.3f}",
                met,
            )


def _missing(sets: Sets) -> Iterator[Goal]:
    for name, scenario, trained_without in _MISSING:
        what = f"{name} {scenario} at scoring"
        target = "ICI <= 1.5 x that of the model trained without it, and <= .015; AUC or C lost against it <= .01"
        if name not in sets or trained_without not in sets or not sets[name].has(OURS, scenario):
            yield Goal(what, target, _NOT_RUN, None)
            continue
        (outcome, view), *_ = sets[name].results.views.items()
        ici = f"ici@{view.horizons_years[-1]:g}"
        given, without = sets[name].of(OURS, outcome, scenario), sets[trained_without].of(OURS, outcome)
        if ici not in given.pooled or ici not in without.pooled:
            yield Goal(what, target, _NOT_RUN, None)
            continue
        lost = -paired(given, without, "rank").mean  # on the folds that both have
        met = given.pooled[ici] <= min(1.5 * without.pooled[ici], 0.015) and lost <= 0.01
        figure = (
            f"ICI {given.pooled[ici]:.4f} (trained without it {without.pooled[ici]:.4f}), "
            f"{_rank_name(view.known_at_once)} {-lost:+.4f} against it ({given.mean('rank'):.4f})"
        )
        yield Goal(what, target, figure, met)
        failing = sets[name].of(UNTREATED, outcome, scenario)
        if ici in failing.pooled:
            figure = f"ICI {failing.pooled[ici]:.4f}, {_rank_name(view.known_at_once)} {failing.mean('rank'):.4f}"
            yield Goal(f"{what}: the untreated failure beside it", "", figure, None)
    for name in dict.fromkeys(name for name, *_ in _MISSING):
        if name in sets and sets[name].has(OURS) and sets[name].has(UNTREATED):
            (outcome, view), *_ = sets[name].results.views.items()
            found = paired(sets[name].of(UNTREATED, outcome), sets[name].of(OURS, outcome), "rank")
            figure = f"{_rank_name(view.known_at_once)} {found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
            yield Goal(f"{name}: cost of modality dropout with nothing missing", "<= .006", figure, found.mean <= 0.006)


def _hospital(sets: Sets) -> Iterator[Goal]:
    if "hospital" not in sets or not sets["hospital"].has(OURS):
        yield Goal("simulated hospital, 20,000 people", "share of the oracle >= .97", _NOT_RUN, None)
        return
    one = sets["hospital"]
    for outcome in one.results.views:
        found = against_truth(one, outcome)
        if found is None:
            yield Goal(f"simulated hospital, {outcome}", "", "no truth.parquet", None)
            continue
        yield Goal(
            f"simulated hospital, {outcome}, {found.horizon_years:g} years",
            "(C - .5) / (C of the true risks - .5) >= .97; Brier within 3 %; 90 % intervals cover it for 87-93 %",
            f"share {found.share:.3f}; Brier {found.brier:.5f} (oracle {found.oracle_brier:.5f}, "
            f"{100 * (found.brier / found.oracle_brier - 1):+.1f} %); coverage {found.coverage:.3f}, "
            f"at all horizons together {found.coverage_all:.3f}",
            found.share >= 0.97
            and found.brier <= 1.03 * found.oracle_brier
            and 0.87 <= found.coverage <= 0.93
            and 0.87 <= found.coverage_all <= 0.93,
        )


def _neural(sets: Sets) -> Iterator[Goal]:
    for name, one in sets.items():
        if one.results.spec.of or not (one.has(OURS) and one.has(NEURAL)):
            continue
        pairs = [(one.of(OURS, outcome), one.of(NEURAL, outcome)) for outcome in one.results.views]
        rank, error = paired_mean(pairs, "rank"), paired_mean(pairs, "error")
        figure = (
            f"rank {rank.mean:+.4f} ({rank.low:+.4f} to {rank.high:+.4f}), "
            f"error {error.mean:+.5f} ({error.low:+.5f} to {error.high:+.5f})"
        )
        what = f"{name}: riskpred less {NEURAL}"
        yield Goal(what, "better on C (AUC) and IBS (Brier)", figure, rank.mean > 0 and error.mean < 0)


def _cost(sets: Sets) -> Iterator[Goal]:
    abouts = sets["nafld"].results.abouts.get(OURS, ()) if "nafld" in sets else ()
    if abouts:
        seconds, peak = max(one.seconds for one in abouts), max(one.peak_mb for one in abouts)
        yield Goal(
            "cost: one fit on four fifths of nafld, one thread",
            "`fit` on nafld in under 10 minutes and 6 GB on 2 cores",
            f"at most {seconds:.0f} s, {peak / 1024:.1f} GB",
            seconds < 600 and peak < 6 * 1024,
        )


def _gain(sets: Sets, name: str, without: str, metric: str, what: str, least: float | None = None) -> Iterator[Goal]:
    target = "" if least is None else f">= {least:+.3f}"
    if name not in sets or without not in sets or not sets[name].has(OURS) or not sets[without].has(OURS):
        yield Goal(what, target, _NOT_RUN, None)
        return
    for outcome in sets[name].results.views:
        found = paired(sets[name].of(OURS, outcome), sets[without].of(OURS, outcome), metric)
        figure = f"{outcome} {found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        yield Goal(what, target, figure, None if least is None else found.mean >= least)


def _ours(sets: Sets, name: str, outcome: str, subset: str = "everyone") -> Scores:
    return sets[name].of(OURS, outcome, subset=subset) if name in sets else Scores()


def _limits(what: str, scores: Scores, *limits: tuple[str, str, float, bool]) -> Goal:
    """limits: (name, metric, limit, whether more is better)."""
    target = "; ".join(f"{name} {'>=' if more else '<='} {limit:g}" for name, _, limit, more in limits)
    if not scores.by_fold:
        return Goal(what, target, _NOT_RUN, None)
    values = [scores.pooled.get(metric, scores.mean(metric)) for _, metric, _, _ in limits]
    met = all(
        value >= limit if more else value <= limit for value, (_, _, limit, more) in zip(values, limits, strict=True)
    )
    figure = ", ".join(f"{name} {value:.4f}" for value, (name, *_) in zip(values, limits, strict=True))
    return Goal(what, target, figure, met)


def _rank_name(known_at_once: bool) -> str:
    return "AUC" if known_at_once else "C"
