"""Whose reasons are told feature by feature tonight, and for whom they must still be made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riskpred.model.layout import Target
from riskpred.records.shards import Shard
from riskpred.score.carry import Standing, top_of
from riskpred.score.chunk import EXPLAINED_AT_ONCE
from riskpred.score.compute import REASONS, RISKS, Task, shards_with
from riskpred.score.contributions import of_parts, of_run
from riskpred.score.parts import Parts
from riskpred.score.store import open_published


def top_tasks(
    scores: Path,
    found: Standing,
    parts: Parts,
    targets: Sequence[Target],
    modalities: Sequence[str],
    count: int,
    as_of: int,
    shards: Sequence[Shard] = (),
) -> list[Task]:
    """Parts of feature reasons for the top `count` of everyone: computed tonight, or carried without such reasons.

    A carried subject is explained at its own prediction_time: its reasons must add up to the risk that is carried.

    Args:
        parts: of tonight; all of risks are finished, and their makers wrote who is at the `top`: (subject_id, score).
        targets, modalities: of the model.   shards: of the whole warehouse.
    """
    made: list[dict[str, Any]] = list(parts.finished(RISKS).values())
    ranked = [(score, subject, as_of, False) for about in made for subject, score in about["top"]]
    if found.run_id is not None and len(found.subject_id) and count:
        connection = open_published(scores)
        try:
            carried = top_of(connection, found.run_id, found.subject_id, count)
        finally:
            connection.close()
        ranked += [(score, subject, moment, explained) for subject, score, moment, explained in carried]
    top = sorted(ranked, key=lambda entry: (-entry[0], entry[1]))[:count]
    wanted: dict[int, list[int]] = {}
    for _, subject, moment, explained in top:
        if not explained:
            wanted.setdefault(moment, []).append(subject)
    if not wanted:
        return []
    everyone = np.array(sorted(subject for some in wanted.values() for subject in some), dtype=np.int64)
    contribution = _published(scores, found, parts, everyone, targets, modalities)
    tasks: list[Task] = []
    for moment, subjects in sorted(wanted.items()):
        ordered = np.array(sorted(subjects), dtype=np.int64)
        for at in range(0, len(ordered), EXPLAINED_AT_ONCE):
            # A thousand of millions: cut by shard, most parts would hold one of them, which is slow to explain alone.
            some = ordered[at : at + EXPLAINED_AT_ONCE]
            told = contribution[np.searchsorted(everyone, some)]
            tasks.append(Task(REASONS, len(tasks), some, moment, shards_with(some, shards), told))
    return tasks


def _published(
    scores: Path,
    found: Standing,
    parts: Parts,
    subjects: NDArray[np.int64],
    targets: Sequence[Target],
    modalities: Sequence[str],
) -> NDArray[np.float64]:
    """What each modality contributes to each risk of these subjects, as tonight publishes it. Shape: (S, Q, M)."""
    carried = np.isin(subjects, found.subject_id)
    result = np.empty((len(subjects), len(targets), len(modalities)))
    if not carried.all():
        result[~carried] = of_parts(parts, RISKS, subjects[~carried], targets, modalities)
    if carried.any():
        assert found.run_id is not None, "carried from nowhere"
        connection = open_published(scores)
        try:
            result[carried] = of_run(connection, found.run_id, subjects[carried], targets, modalities)
        finally:
            connection.close()
    return result
