"""Trains the networks of a segmentation stage, one per fold, none on subjects it will be asked about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from riskpred.config.segmentation import SegmentationStage
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.segment import Segmenter
from riskpred.progress import Progress


class Example(NamedTuple):
    """One annotated image: its prepared pixels, and what they show.

    target: (S, H, W), or (Z, H, W) of a whole volume, uint8: values of the stage's `labels`, 0 = nothing.
    """

    prepared: Prepared
    target: NDArray[np.uint8]


@dataclass(frozen=True)
class FittedSegmentation:
    """segmenter: of all folds, for new subjects.   fold_models: [k] never saw an example of fold k."""

    segmenter: Segmenter
    fold_models: tuple[Segmenter, ...]


def fit_segmentation(
    stage: SegmentationStage, examples: Sequence[Example], folds: NDArray[np.int64], seed: int, progress: Progress
) -> FittedSegmentation:
    """One network per fold, trained on the examples of all other folds.

    Args:
        examples: read anew in every step, so that a sequence may fetch each from a file when asked.
        folds: (N,) fold of each example, 0 to stage.folds - 1; all examples of one subject are in one fold.
        progress: told after every step; what it raises ends the training.

    The same seed and examples give the same weights on one machine.
    Raises: InputError, when a fold leaves no lesion to learn from.
    """
    raise NotImplementedError
