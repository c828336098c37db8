"""Collects what is evaluated: risks of the model and its peer, follow-up, and which modalities each row had."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskpred.config.outcomes import OutcomesConfig
from riskpred.errors import BundleError, InputError
from riskpred.evaluate.censoring import CENSORED, COMPETING, OUTCOME, Floats
from riskpred.evaluate.measure import ONLY
from riskpred.evaluate.subgroups import age_and_sex
from riskpred.features.batch import NO_USABLE_INPUT, FeatureBatch
from riskpred.features.build import build
from riskpred.features.fits import check_fits
from riskpred.features.join import take
from riskpred.model.bundle import Bundle
from riskpred.model.layout import Target
from riskpred.model.predictions import Predictions
from riskpred.model.threads import one_thread
from riskpred.progress import Progress, Silent
from riskpred.records.chunk import SubjectChunk
from riskpred.records.cohort import CohortRows, cohort, rows_at
from riskpred.records.warehouse import Warehouse

MODEL: Final = "riskpred"
HELD_OUT: Final = "held_out"
EVERYONE: Final = "everyone"
OUT_OF_FOLD: Final = "out_of_fold"
CROSS_VALIDATION: Final = "cross_validation"

NOT_MEASURED: Final = "not measured at prediction_time"


@dataclass(frozen=True)
class Evaluated:
    """N prediction rows with the risks of several models for Q targets, and what happened.

    Shape:
        subject_id: (N,) int64 (in a bundle's own predictions a salted hash: equal means one person).
        prediction_time: (N,) int64, or None in a bundle's own predictions, which keep none.
        risks: model -> (R, N, Q), R repeats (1 but for a cross-validation); NaN where a model has no such target.
        time_days, status: outcome -> (N,), status 0 censored, 1 the outcome, 2 a competing event (known at once: 0 no,
            1 yes), -1 not at risk of it or not measured.
        pattern: (N,) text, the modalities that were there, as "tabular+series".
        age_years, sex: (N,) at prediction_time, NaN and "unknown" where not recorded; None where not kept.
        low, high: (N, Q), the model's 90 % interval; member: (M, N, Q), risks of its members; None where not kept.
        display: outcome -> its name for people.   left_out: outcome -> reason -> how many.
        blanking_days: outcome -> the study's window after prediction_time (0 where absent). time_days and status hold
            everyone's follow-up, that within the window too (a bundle's own predictions: -1); risks are of people free,
            alive and observed at the window's end.
        truth: (N, Q), true risks of simulated people, NaN where unknown; None without a truth file.
    """

    split: str
    targets: tuple[Target, ...]
    known_at_once: frozenset[str]
    subject_id: NDArray[np.int64]
    prediction_time: NDArray[np.int64] | None
    risks: dict[str, Floats]
    time_days: dict[str, Floats]
    status: dict[str, NDArray[np.int8]]
    pattern: NDArray[np.str_]
    age_years: Floats | None = None
    sex: NDArray[np.str_] | None = None
    low: Floats | None = None
    high: Floats | None = None
    member: Floats | None = None
    truth: Floats | None = None
    blanking_days: dict[str, int] = field(default_factory=dict)
    display: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.subject_id)


def choose_split(bundle: Bundle, warehouse: Warehouse) -> str:
    """held_out where the warehouse has such subjects, else the bundle's cross-validation.

    Raises: InputError, when there is neither.
    """
    there = sorted(set(warehouse.splits().values()))
    if HELD_OUT in there:
        return HELD_OUT
    if bundle.cross_validation is not None:
        return CROSS_VALIDATION
    raise InputError(
        f"{warehouse.path}: no held_out subjects, and the bundle keeps no cross-validation.",
        wanted="subject_splits with held_out",
        got=f"splits: {', '.join(there) or 'none'}",
        do=f"name one with --split ({EVERYONE} for people the bundle never saw, {OUT_OF_FOLD} for its own)",
    )


def gather(
    bundle: Bundle,
    warehouse: Warehouse,
    split: str | None = None,
    progress: Progress | None = None,
    *,
    single_modalities: bool = False,
) -> Evaluated:
    """Risks and follow-up at outcomes.yaml's prediction times.

    Args:
        split: a split of the warehouse, or one of everyone, out_of_fold, cross_validation (the latter two are
            predictions that the bundle kept of its own training subjects); default `choose_split`.
        single_modalities: also the risks with one modality alone, as models "riskpred:NAME only".

    Raises: InputError: no such split, or nobody in it eligible. BundleError: the bundle does not fit the warehouse,
        keeps no such predictions, or the split holds subjects it was trained on.
    """
    progress = progress or Silent()
    check_fits(bundle.plan, warehouse)
    warehouse.finder = bundle.finder
    chosen = split or choose_split(bundle, warehouse)
    if chosen in (OUT_OF_FOLD, CROSS_VALIDATION):
        found = _kept(bundle, chosen)
    else:
        with one_thread():
            found = _predicted(bundle, warehouse, chosen, progress, single_modalities)
    return replace(found, notes=(*found.notes, *bundle.card.get("cautions", ())))


def outcome_status(outcomes: OutcomesConfig, cause: Mapping[str, NDArray[np.int8]]) -> dict[str, NDArray[np.int8]]:
    """From each group's causes to each outcome's own view: another cause of its set is a competing event.

    Shape: cause: group -> (N,) as in CohortRows; result: outcome -> (N,) 0, 1, 2 or -1.
    """
    found: dict[str, NDArray[np.int8]] = {}
    for group in outcomes.groups:
        causes = cause[group.name]
        for j, name in enumerate(group.outcomes, start=1):
            own = np.where(causes == j, OUTCOME, np.where(causes > 0, COMPETING, CENSORED))
            found[name] = np.where(causes < 0, -1, own).astype(np.int8)
    return found


def pattern_of(present: Mapping[str, NDArray[np.bool_]], rows: int) -> NDArray[np.str_]:
    """Names of the modalities each row has, joined by +; "nothing" for none. Shape: (N,)."""
    names = list(present)
    flags = np.stack([present[name] for name in names]) if names else np.zeros((0, rows), dtype=np.bool_)
    kinds, place = np.unique(flags, axis=1, return_inverse=True)
    texts = ["+".join(n for n, there in zip(names, kind, strict=True) if there) or "nothing" for kind in kinds.T]
    return np.array(texts, dtype=np.str_)[place.reshape(-1)] if rows else np.array([], dtype=np.str_)


def _predicted(
    bundle: Bundle, warehouse: Warehouse, split: str, progress: Progress, single_modalities: bool
) -> Evaluated:
    subjects = _subjects_of(bundle, warehouse, split)
    outcomes = bundle.config.outcomes.without_blanking()
    parts: list[_Part] = []
    left_out: dict[str, Counter[str]] = {name: Counter() for name in outcomes.outcomes}
    done = 0
    for chunk in warehouse.chunks(subjects=subjects):
        rows = cohort(chunk, outcomes, warehouse.data_until)
        _count_left_out(rows, left_out, outcomes, len(chunk))
        if len(rows):
            batch = build(chunk, rows, bundle.plan, warehouse.image_root)
            usable = batch.usable
            if not usable.all():  # as a night does: nothing to go by, no risk
                for name, counts in left_out.items():
                    counts[NO_USABLE_INPUT] += int((rows.eligible[name] & ~usable).sum())
                rows, batch = rows_at(rows, np.flatnonzero(usable)), take(batch, usable)
        if len(rows):
            parts.append(_Part.of(bundle, chunk, rows, batch, single_modalities))
        done += len(chunk)
        progress.step("evaluate: risks", done, len(subjects))
    if not parts:
        raise InputError(
            f"{warehouse.path}: nobody in the split {split} is eligible at a prediction time.",
            wanted="at least one row eligible for an outcome (outcomes.yaml)",
            got=f"{len(subjects):,} subjects, 0 rows",
            do="check entry codes and prediction times with `riskpred check`",
        )
    cause = {group.name: np.concatenate([part.cause[group.name] for part in parts]) for group in outcomes.groups}
    duration = {
        group.name: np.concatenate([part.duration_days[group.name] for part in parts]) for group in outcomes.groups
    }
    risks = {name: np.concatenate([part.risks[name] for part in parts])[None] for name in parts[0].risks}
    windows = _windows(bundle.config.outcomes)
    for group in outcomes.groups:
        for name in group.outcomes:
            within = int(np.sum((cause[group.name] >= 0) & (duration[group.name] <= windows.get(name, -1))))
            if within:
                left_out[name][f"outcome, death or leaving within {windows[name]} days (blanking window)"] += within
    return Evaluated(
        split=split,
        targets=bundle.model.targets,
        known_at_once=_known_at_once(outcomes),
        subject_id=np.concatenate([part.subject_id for part in parts]),
        prediction_time=np.concatenate([part.prediction_time for part in parts]),
        risks=risks,
        time_days={name: duration[group.name] for group in outcomes.groups for name in group.outcomes},
        status=outcome_status(outcomes, cause),
        pattern=np.concatenate([part.pattern for part in parts]),
        age_years=np.concatenate([part.age_years for part in parts]),
        sex=np.concatenate([part.sex for part in parts]),
        blanking_days=windows,
        low=np.concatenate([part.low for part in parts]),
        high=np.concatenate([part.high for part in parts]),
        member=np.concatenate([part.member for part in parts], axis=1),
        display={name: outcome.display for name, outcome in outcomes.outcomes.items()},
        left_out={name: dict(counts) for name, counts in left_out.items()},
        about=_about(bundle, warehouse),
    )


@dataclass(frozen=True)
class _Part:
    """One chunk's share of an Evaluated; fields as there, cause and duration by group."""

    subject_id: NDArray[np.int64]
    prediction_time: NDArray[np.int64]
    risks: dict[str, Floats]
    low: Floats
    high: Floats
    member: Floats
    cause: dict[str, NDArray[np.int8]]
    duration_days: dict[str, Floats]
    pattern: NDArray[np.str_]
    age_years: Floats
    sex: NDArray[np.str_]

    @classmethod
    def of(
        cls, bundle: Bundle, chunk: SubjectChunk, rows: CohortRows, batch: FeatureBatch, single_modalities: bool
    ) -> "_Part":
        age_years, sex = age_and_sex(chunk, rows.subject, rows.prediction_time)
        found = bundle.model.predict(batch)
        risks = {MODEL: found.risk, **_peer_risks(bundle, bundle.peer.predict(batch))}
        if single_modalities and len(bundle.model.modalities) > 1:
            for name, alone in _one_at_a_time(batch):
                risks[f"{MODEL}:{name}{ONLY}"] = bundle.model.predict(alone).risk
        return cls(
            subject_id=batch.subject_id,
            prediction_time=batch.prediction_time,
            risks=risks,
            low=found.low,
            high=found.high,
            member=found.member,
            cause=rows.cause,
            duration_days=rows.duration_days,
            pattern=pattern_of(batch.present, len(batch)),
            age_years=age_years,
            sex=sex,
        )


def _one_at_a_time(batch: FeatureBatch) -> Iterator[tuple[str, FeatureBatch]]:
    for kept in batch.present:
        present = {name: there if name == kept else np.zeros_like(there) for name, there in batch.present.items()}
        yield kept, replace(batch, present=present)


def _kept(bundle: Bundle, split: str) -> Evaluated:
    """The bundle's own predictions of subjects that did not train the member that made them."""
    kept: Predictions | None = bundle.out_of_fold if split == OUT_OF_FOLD else bundle.cross_validation
    if kept is None or not len(kept):
        raise BundleError(
            f"{bundle.path}: the bundle keeps no {split.replace('_', ' ')} predictions.",
            wanted="`cross_validation` in the study's network.yaml when it was fitted",
            do="evaluate another split",
        )
    outcomes, repeats = bundle.config.outcomes, np.unique(kept.repeat)
    rows = np.unique(kept.row)
    place = np.searchsorted(repeats, kept.repeat), np.searchsorted(rows, kept.row)

    def by_repeat(values: Floats) -> Floats:
        found = np.full((len(repeats), len(rows), values.shape[1]), np.nan)
        found[place] = values
        return found

    first = np.unique(kept.row, return_index=True)[1]
    cause = {group.name: kept.cause[first, g] for g, group in enumerate(outcomes.groups)}
    duration = {
        name: kept.duration_days[first, g] for g, group in enumerate(outcomes.groups) for name in group.outcomes
    }
    present = {name: kept.present[first, m] for m, name in enumerate(bundle.model.modalities)}
    peers = _peer_risks(bundle, kept.peer_risk)
    folds = len(np.unique(kept.fold))
    note = (
        f"predictions kept in the bundle: {folds}-fold cross-validation x {len(repeats)} on its training subjects; "
        "each metric is pooled over folds and averaged over repeats"
        if split == CROSS_VALIDATION
        else f"predictions kept in the bundle: its own training subjects, each predicted by a member of {folds} that "
        "had not seen them; calibration was fitted on these, so calibration metrics flatter"
    )
    return Evaluated(
        split=split,
        targets=bundle.model.targets,
        known_at_once=_known_at_once(outcomes),
        subject_id=kept.subject[first],
        prediction_time=None,
        risks={MODEL: by_repeat(kept.risk), **{name: by_repeat(values) for name, values in peers.items()}},
        time_days=duration,
        status=outcome_status(outcomes, cause),
        pattern=pattern_of(present, len(rows)),
        blanking_days=_windows(outcomes),
        display={name: outcome.display for name, outcome in outcomes.outcomes.items()},
        about=_about(bundle, None),
        notes=(note,),
    )


def _subjects_of(bundle: Bundle, warehouse: Warehouse, split: str) -> NDArray[np.int64]:
    splits = warehouse.splits()
    if split == EVERYONE:
        subjects = np.asarray(warehouse.subject_ids, dtype=np.int64)
    else:
        subjects = np.array(sorted(subject for subject, name in splits.items() if name == split), dtype=np.int64)
    if not len(subjects):
        there = ", ".join(f"{name} ({n:,})" for name, n in sorted(Counter(splits.values()).items()))
        raise InputError(
            f"{warehouse.path}: no subject is in the split {split}.",
            wanted=f"a split of the warehouse, or {EVERYONE}, {OUT_OF_FOLD}, {CROSS_VALIDATION}",
            got=there or "no subject_splits",
            do="name one with --split",
        )
    seen = int(bundle.seen_in_training(warehouse.site, subjects).sum())
    if seen:
        raise BundleError(
            f"{bundle.path}: {seen:,} of {len(subjects):,} subjects of the split {split} trained this bundle.",
            wanted="a split of people it never saw: the metrics would flatter it",
            got=f"site {warehouse.site}",
            do=f"evaluate held_out, or --split {OUT_OF_FOLD} for predictions by members that had not seen them",
        )
    return subjects


def _count_left_out(
    rows: CohortRows, left_out: dict[str, Counter[str]], outcomes: OutcomesConfig, subjects: int
) -> None:
    """Adds, per outcome, why subjects or rows are not evaluated."""
    nowhere = subjects - len(np.unique(rows.subject))
    for group in outcomes.groups:
        unlabelled = int(np.sum(rows.eligible[group.outcomes[0]] & (rows.cause[group.name] < 0)))
        for name in group.outcomes:
            if nowhere:
                left_out[name]["subjects eligible at no prediction time"] += nowhere
            if unlabelled:
                left_out[name][NOT_MEASURED] += unlabelled
            left_out[name].update(reason for reason in rows.reasons(name) if reason is not None)


def _peer_risks(bundle: Bundle, risk: Floats) -> dict[str, Floats]:
    """The peer's risks under the name of the kind of model behind each target; NaN elsewhere. Nothing if all NaN."""
    found: dict[str, Floats] = {}
    for q, (outcome, _) in enumerate(bundle.model.targets):
        if np.isfinite(risk[:, q]).any():
            name = bundle.peer.name_of(outcome)
            found.setdefault(name, np.full(risk.shape, np.nan))[:, q] = risk[:, q]
    return found


def _known_at_once(outcomes: OutcomesConfig) -> frozenset[str]:
    return frozenset(name for name, outcome in outcomes.outcomes.items() if outcome.known_at_once)


def _windows(outcomes: OutcomesConfig) -> dict[str, int]:
    """Each outcome's blanking window in days, where it has one."""
    return {name: group.blanking_days for group in outcomes.groups for name in group.outcomes if group.blanking_days}


def _about(bundle: Bundle, warehouse: Warehouse | None) -> dict[str, str]:
    about = {"bundle": bundle.name, "bundle version": bundle.version, "fitted": bundle.created_at}
    return about | ({"site": warehouse.site} if warehouse else {})
