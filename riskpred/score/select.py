"""Who gets feature reasons: the top N by highest percentile at each outcome's longest horizon, in constant memory."""

import numpy as np
from numpy.typing import NDArray

from riskpred.config.outcomes import OutcomesConfig

Target = tuple[str, float]


def longest_horizon(targets: tuple[Target, ...], outcomes: OutcomesConfig) -> NDArray[np.bool_]:
    """(Q,) whether a target stands at its outcome's longest horizon."""
    longest = {name: max(h for o, h in targets if o == name) for name in outcomes.outcomes}
    return np.array([horizon == longest[outcome] for outcome, horizon in targets])


class TopSubjects:
    """Keeps the N subjects with the highest score seen so far; ties go to the smaller subject_id.

    Example:
        >>> top = TopSubjects(2)
        >>> top.offer(np.array([7, 8, 9]), np.array([0.5, 0.9, 0.5]))
        >>> top.subjects().tolist()
        [7, 8]
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._subject: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._score: NDArray[np.float64] = np.empty(0)

    def offer(self, subject_id: NDArray[np.int64], score: NDArray[np.float64]) -> None:
        """Consider more subjects. `score` NaN = not to be explained (nobody scored them)."""
        known = ~np.isnan(score)
        subject = np.concatenate([self._subject, subject_id[known]])
        scores = np.concatenate([self._score, score[known]])
        best = np.lexsort((subject, -scores))[: self._size]
        self._subject, self._score = subject[best], scores[best]

    def subjects(self) -> NDArray[np.int64]:
        """The chosen subject_ids, ascending."""
        return np.sort(self._subject)

    def best(self) -> list[tuple[int, float]]:
        """The chosen (subject_id, score), the highest score first."""
        return list(zip(self._subject.tolist(), self._score.tolist(), strict=True))
