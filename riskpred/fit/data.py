"""Training rows of a warehouse: features, follow-up and causes of everyone in the train and tuning splits."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riskpred.config.outcomes import OutcomesConfig
from riskpred.config.study import ModelConfig
from riskpred.errors import InputError
from riskpred.features.batch import FeatureBatch
from riskpred.features.build import build
from riskpred.features.join import concat, take
from riskpred.features.learn import learn_plan
from riskpred.features.plan import FeaturePlan
from riskpred.progress import Progress, Silent
from riskpred.records.cohort import ages_years, cohort
from riskpred.records.warehouse import Warehouse

_TRAINING_SPLITS = ("train", "tuning")


@dataclass(frozen=True)
class Rows:
    """N prediction rows with what followed, by subject_id, then prediction_time.

    Shape: cause, duration_days: risk group -> (N,), as in CohortRows.   eligible: outcome -> (N,) bool.
        together: (N,) int64, the subject's matched set or household, else the subject: rows that no fold may part.
        age_years: (N,) at prediction_time, NaN = not known.
    """

    batch: FeatureBatch
    cause: dict[str, NDArray[np.int8]]
    duration_days: dict[str, NDArray[np.float64]]
    eligible: dict[str, NDArray[np.bool_]]
    together: NDArray[np.int64]
    age_years: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def subject_id(self) -> NDArray[np.int64]:
        return self.batch.subject_id

    def take(self, index: NDArray[np.int64]) -> "Rows":
        return Rows(
            take(self.batch, index),
            {name: values[index] for name, values in self.cause.items()},
            {name: values[index] for name, values in self.duration_days.items()},
            {name: values[index] for name, values in self.eligible.items()},
            self.together[index],
            self.age_years[index],
        )

    def labels(self) -> NDArray[np.int64]:
        """The causes of all groups as one number per row; folds are stratified by it. Shape: (N,)."""
        code = np.zeros(len(self), np.int64)
        for values in self.cause.values():
            code = code * 100 + values.astype(np.int64) + 1
        return code


def training_rows(
    config: ModelConfig, warehouse: Warehouse, progress: Progress | None = None
) -> tuple[FeaturePlan, Rows]:
    """The plan and all rows of the train and tuning splits; held_out is never read.

    Raises: InputError, when there is no split, no eligible row, or no event of an outcome, with counts.
    """
    progress = progress or Silent()
    subjects = training_subjects(warehouse)
    plan = learn_plan(config.features, warehouse, subjects)
    groups = warehouse.groups()
    parts: list[Rows] = []
    done = 0
    for chunk in warehouse.chunks(subjects=subjects):
        found = cohort(chunk, config.outcomes, warehouse.data_until)
        done += len(chunk)
        if len(found):
            batch = build(chunk, found, plan, warehouse.image_root)
            together = np.array([groups.get(subject, subject) for subject in batch.subject_id.tolist()], np.int64)
            ages = ages_years(chunk, found)
            parts.append(Rows(batch, found.cause, found.duration_days, found.eligible, together, ages))
        progress.step("read records", done, len(subjects))
    if not parts:
        raise InputError(
            f"{warehouse.path}: nobody to train on: no eligible row among {len(subjects):,} subjects.",
            wanted="subjects that have entered, are alive and free of an outcome at a prediction time (outcomes.yaml)",
            got="0 eligible rows",
            do="check entry_codes, prediction_times and age_years of outcomes.yaml",
        )
    rows = joined(parts)
    refuse_no_events(config.outcomes, rows, str(warehouse.path))
    return plan, rows


def training_subjects(warehouse: Warehouse) -> NDArray[np.int64]:
    """Subjects of train and tuning, ascending. Raises: InputError, when subject_splits names none."""
    splits = warehouse.splits()
    subjects = np.array(sorted(s for s, split in splits.items() if split in _TRAINING_SPLITS), np.int64)
    if not len(subjects):
        counts = Counter(splits.values())
        raise InputError(
            f"{warehouse.path}: no subject to train on.",
            wanted="subjects in the splits train or tuning (table subject_splits)",
            got=", ".join(f"{n:,} in {name}" for name, n in sorted(counts.items())) or "no split of any subject",
            do="ingest again, or fill subject_splits",
        )
    return subjects


def refuse_no_events(outcomes: OutcomesConfig, rows: Rows, where: str) -> None:
    """Every outcome needs an event (and, known at once, someone without it). Raises: InputError."""
    for group in outcomes.groups:
        cause = rows.cause[group.name]
        for name in group.outcomes:
            yes = group.happened(cause, name)
            events, others = int(yes.sum()), int(((cause >= 0) & ~yes).sum())
            if not events or (group.known_at_once and not others):
                raise InputError(
                    f"{where}: the outcome {name} cannot be learned.",
                    wanted="at least one event" + (", and one row without" if group.known_at_once else ""),
                    got=f"{events:,} events and {others:,} other rows in train and tuning",
                    do=f"check the rule of {name} in outcomes.yaml, and what `ingest` counted for its codes",
                )


def joined(parts: list[Rows]) -> Rows:
    """Rows one after the other."""
    first = parts[0]
    return Rows(
        concat([part.batch for part in parts]),
        {name: np.concatenate([part.cause[name] for part in parts]) for name in first.cause},
        {name: np.concatenate([part.duration_days[name] for part in parts]) for name in first.duration_days},
        {name: np.concatenate([part.eligible[name] for part in parts]) for name in first.eligible},
        np.concatenate([part.together for part in parts]),
        np.concatenate([part.age_years for part in parts]),
    )


def counts(outcomes: OutcomesConfig, rows: Rows) -> dict[str, Any]:
    """Rows, subjects and events of the training rows, per outcome; events are those within the last horizon."""
    found: dict[str, Any] = {"rows": len(rows), "subjects": len(np.unique(rows.subject_id)), "outcomes": {}}
    for group in outcomes.groups:
        cause = rows.cause[group.name]
        inside = cause >= 0
        within = np.ones(len(cause), bool)
        if not group.known_at_once:
            within = np.nan_to_num(rows.duration_days[group.name], nan=np.inf) <= group.horizons_years[-1] * 365.25
        for name in group.outcomes:
            found["outcomes"][name] = {
                "rows": int(inside.sum()),
                "subjects": len(np.unique(rows.subject_id[inside])),
                "events": int((group.happened(cause, name) & within).sum()),
            }
    return found


def stratified_folds(
    together: NDArray[np.int64], labels: NDArray[np.int64], folds: int, seed: int
) -> NDArray[np.int64]:
    """Fold of each row: rows with one number (a subject, or its group) together, dealt in turn within each label.

    Depends on seed, numbers and their labels only, not on row order. The label of several rows is their largest.

    Shape: (N,), (N,) -> (N,).
    """
    subjects, position = np.unique(together, return_inverse=True)
    label = np.full(len(subjects), np.iinfo(np.int64).min)
    np.maximum.at(label, position, labels)
    order = np.lexsort((subject_uniform(subjects, seed), label))
    fold = np.empty(len(subjects), np.int64)
    fold[order] = np.arange(len(subjects)) % folds
    return fold[position]


def subject_uniform(subjects: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """A number in (0, 1) per subject from a hash of seed and subject_id. Shape: (N,) -> (N,)."""
    start = hashlib.blake2b(str(seed).encode() + b"\0", digest_size=8)

    def one(subject: int) -> bytes:
        digest = start.copy()
        digest.update(int(subject).to_bytes(8, "little", signed=True))
        return digest.digest()

    drawn = np.frombuffer(b"".join(one(subject) for subject in subjects), dtype="<u8")
    return (drawn.astype(np.float64) + 0.5) / 2.0**64
