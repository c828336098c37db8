"""Whose reasons are told feature by feature tonight, and for whom they must still be made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from riskpred.records.shards import Shard
from riskpred.score.carry import Standing, top_of
from riskpred.score.chunk import EXPLAINED_AT_ONCE
from riskpred.score.compute import REASONS, Task, shards_with
from riskpred.score.store import open_published


def top_tasks(
    scores: Path,
    found: Standing,
    made: Sequence[dict[str, Any]],
    count: int,
    as_of: int,
    shards: Sequence[Shard] = (),
) -> list[Task]:
    """Parts of feature reasons for the top `count` of everyone: computed tonight, or carried without such reasons.

    A carried subject is explained at its own prediction_time: its reasons must add up to the risk that is carried.

    Args:
        made: what the makers of tonight's parts wrote of them; `top` holds (subject_id, score).
        shards: of the whole warehouse.
    """
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
    tasks: list[Task] = []
    for moment, subjects in sorted(wanted.items()):
        ordered = np.array(sorted(subjects), dtype=np.int64)
        for at in range(0, len(ordered), EXPLAINED_AT_ONCE):
            # A thousand of millions: cut by shard, most parts would hold one of them, which is slow to explain alone.
            some = ordered[at : at + EXPLAINED_AT_ONCE]
            tasks.append(Task(REASONS, len(tasks), some, moment, shards_with(some, shards)))
    return tasks
