"""Feature reasons and evidence of some subjects: every modality they have, attributed, described and drawn."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from riskpred.explain.attribution import ModalityWorth, rows_of, within_modality
from riskpred.explain.evidence import image_rows, series_rows
from riskpred.explain.reasons import ModalityPart, described, feature_rows
from riskpred.features.batch import FeatureBatch
from riskpred.features.plan import ImagePlan, SeriesPlan, TabularPlan
from riskpred.model.tensors import column_owner
from riskpred.records.schema import table_schema

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle


@dataclass(frozen=True)
class Explained:
    """Rows for the scores file. `flagged`: subjects with an (unexplained) row above the promised size."""

    explanations: pa.Table
    evidence: pa.Table
    flagged: int


def explain_batch(
    bundle: "Bundle", batch: FeatureBatch, run_id: str, wanted: NDArray[np.bool_], map_target: NDArray[np.int64]
) -> Explained:
    """Explain every subject of a batch.

    Args:
        wanted: which risks; map_target: the target whose image map is outlined, a subject.
    Shape: wanted (B, Q); map_target (B,).
    """
    model, plan = bundle.model, bundle.plan
    inputs = model.tensors(batch)
    with torch.no_grad():
        sent = model.encode(inputs)
    present = {name: given.present for name, given in inputs.items()}
    parts, evidence = [], [table_schema("scores", "evidence").arrow().empty_table()]
    flagged = np.zeros(len(batch), dtype=bool)
    for name, spec in plan.modalities.items():
        rows = np.flatnonzero(batch.present[name])
        if not len(rows):
            continue
        index = torch.from_numpy(rows)
        worth = ModalityWorth(
            model,
            {other: rows_of(one, index) for other, one in sent.items()},
            bundle.reference,
            {other: flag[index] for other, flag in present.items()},
            name,
        )
        owner = torch.tensor(column_owner(spec.columns)) if isinstance(spec, TabularPlan) else None
        within = within_modality(worth, inputs[name].take(index), bundle.baseline[name], owner, map_target[rows])
        parts.append(ModalityPart(name, rows, within, described(batch, plan, name, rows)))
        flagged[rows] |= (~within.within_tolerance & wanted[rows]).any(axis=1)
        if isinstance(spec, SeriesPlan):
            evidence.append(series_rows(run_id, batch, plan, name, rows))
        elif isinstance(spec, ImagePlan):
            assert within.map is not None
            evidence.append(image_rows(run_id, batch, name, rows, within.map))
    return Explained(
        explanations=feature_rows(run_id, model.targets, batch.subject_id, parts, wanted),
        evidence=pa.concat_tables(evidence),
        flagged=int(flagged.sum()),
    )
