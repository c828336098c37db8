"""Divides subjects into train, tuning and held_out, so that adding a subject moves nobody."""

import hashlib
from collections.abc import Sequence

from riskpred.config.ingest import Splits
from riskpred.errors import InputError


def assigned(
    splits: Splits, subjects: Sequence[int], values: dict[int, str | None], groups: dict[int, str | None]
) -> list[str]:
    """Split of each subject.

    Args:
        values: text of splits.column by subject.
        groups: text of splits.group by subject; without one a subject is a group of its own.

    Raises: InputError, when a subject's value is missing or names no split.
    """
    if splits.everyone is not None:
        return [splits.everyone] * len(subjects)
    train, tuning, _ = splits.shares
    if splits.values is None:
        return [_drawn(splits.seed, _key(subject, groups), train, tuning) for subject in subjects]
    found, lost = [], 0
    for subject in subjects:
        split = splits.values.get(values.get(subject) or "")
        if split is None:
            lost += 1
        elif split == "train_or_tuning":
            share = tuning / (train + tuning)
            found.append(_drawn(splits.seed, _key(subject, groups), 1 - share, share))
        else:
            found.append(split)
    if lost:
        raise InputError(
            f"{splits.table}.{splits.column}: names no split for {lost:,} of {len(subjects):,} subjects.",
            wanted=f"one of {', '.join(splits.values)} (ingest.yaml, splits.values)",
            do="add the value to splits.values, or complete the column",
        )
    return found


def _key(subject: int, groups: dict[int, str | None]) -> str:
    group = groups.get(subject)
    return f"subject {subject}" if group is None else f"group {group}"


def _drawn(seed: int, key: str, train: float, tuning: float) -> str:
    digest = hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    return "train" if place < train else "tuning" if place < train + tuning else "held_out"
