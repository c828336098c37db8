"""The records and pixels of a chunk up to prediction_time become the arrays that a network reads."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from riskpred.features.batch import USED, FeatureBatch, ImageInput, InputReject, Receipt, SeriesInput, TabularInput
from riskpred.features.findings import FindingSource, reads_findings, refuse_missing, with_findings
from riskpred.features.image import ImageSource, image
from riskpred.features.plan import FeaturePlan, SeriesPlan, TabularPlan
from riskpred.features.series import series
from riskpred.features.tabular import tabular
from riskpred.records.chunk import SubjectChunk
from riskpred.records.cohort import CohortRows
from riskpred.records.reference_group import reference_groups


def build(
    chunk: SubjectChunk,
    rows: CohortRows,
    plan: FeaturePlan,
    image_root: Path,
    images: Mapping[str, ImageSource] | None = None,
) -> FeatureBatch:
    """Everything the plan wants of every row, in the order of the rows.

    Nothing later than a row's prediction_time is read for it. A modality is present where its receipt says used. An
    image that cannot be read costs that image: a reject, and the next older one in its place.

    Args:
        images: by modality, who encodes its images as they are read; a modality without one comes as pixels.
    """
    inputs: dict[str, TabularInput | SeriesInput | ImageInput] = {}
    present: dict[str, NDArray[np.bool_]] = {}
    receipts: dict[str, Receipt] = {}
    rejects: list[InputReject] = []
    if reads_findings(plan):
        if isinstance(chunk.finder, FindingSource):
            found = with_findings(chunk, rows.subject, rows.prediction_time, plan, image_root)
            chunk, rejects = found.chunk, list(found.rejects)
        refuse_missing(plan, chunk)
    for name, modality in plan.modalities.items():
        if isinstance(modality, TabularPlan):
            inputs[name], receipts[name] = tabular(chunk, rows, modality)
        elif isinstance(modality, SeriesPlan):
            inputs[name], receipts[name] = series(chunk, rows, modality)
        else:
            inputs[name], receipts[name], unreadable = image(
                chunk, rows, modality, image_root, (images or {}).get(name)
            )
            rejects += unreadable
        present[name] = receipts[name].code == USED
    return FeatureBatch(
        subject_id=chunk.subject_id[rows.subject],
        prediction_time=rows.prediction_time,
        inputs=inputs,
        present=present,
        receipts=receipts,
        rejects=tuple(dict.fromkeys(rejects)),
        group=reference_groups(chunk, rows),
    )
