"""Reasons within each modality and evidence of some subjects: attributed, described and drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from riskpred.explain.attribution import ModalityWorth, rows_of, within_modality
from riskpred.explain.coalitions import POINTS
from riskpred.explain.evidence import image_rows, series_rows
from riskpred.explain.reasons import ModalityPart, described, moments_of, reason_rows, schema_without_run
from riskpred.features.batch import FeatureBatch, ImageInput, SeriesInput
from riskpred.features.join import take
from riskpred.features.plan import ImagePlan, SeriesPlan, TabularPlan
from riskpred.model.paths import FP32, MOST_DIFFERENCE
from riskpred.model.tensors import ImageTensors, column_owner

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle


@dataclass(frozen=True)
class Explained:
    """Rows for the scores file, without run_id.

    flagged: subjects with an (unexplained) row above the promised size, of features or regions.
    without: subjects that got no row: a modality that contributed to their published risk is not there now.
    """

    explanations: pa.Table
    evidence: pa.Table
    flagged: int
    without: int


def explain_batch(
    bundle: "Bundle",
    batch: FeatureBatch,
    wanted: NDArray[np.bool_],
    map_target: NDArray[np.int64],
    published: NDArray[np.float64],
    path: str,
) -> Explained:
    """Explain every subject of a batch, in fp32, so that its rows add up to its published risk.

    Args:
        wanted: which risks; map_target: the target on whose map the regions of an image are found, a subject.
        published: contribution of each modality as the night published it, risk points; not read where not wanted.
        path: the night's numeric path; on another than fp32 (unexplained) also holds what it moved.
    Shape: wanted (B, Q); map_target (B,); published (B, Q, M), M in the model's order of modalities.
    """
    model, plan = bundle.model, bundle.plan
    assert not np.isnan(published[wanted]).any(), "a risk to explain has its modality reasons"
    gone = _gone(batch, published, wanted, model.modalities)
    wanted = wanted & ~gone[:, None]
    inputs = model.tensors(batch)
    with torch.no_grad():
        sent = model.encode(inputs)
    present = {name: given.present for name, given in inputs.items()}
    profile = torch.from_numpy(bundle.profiles.places(batch))
    parts, evidence = [], [schema_without_run("evidence").empty_table()]
    flagged = np.zeros(len(batch), dtype=bool)
    for m, (name, spec) in enumerate(plan.modalities.items()):
        rows = np.flatnonzero(batch.present[name] & ~gone)
        if not len(rows):
            continue
        index = torch.from_numpy(rows)
        worth = ModalityWorth(
            model,
            {other: rows_of(one, index) for other, one in sent.items()},
            {other: rows_of(one, profile[index]) for other, one in bundle.profiles.sent.items()},
            {other: flag[index] for other, flag in present.items()},
            name,
        )
        owner = torch.tensor(column_owner(spec.columns)) if isinstance(spec, TabularPlan) else None
        baseline = bundle.profiles.baseline[name][profile[index]]
        here, given = inputs[name].take(index), take(batch, rows).inputs[name]
        films = given if isinstance(given, ImageInput) else None
        image = None if films is None else films.image_number
        within = within_modality(worth, here, baseline, owner, map_target[rows], image)
        within = replace(
            within,
            total=np.where(wanted[rows], published[rows, :, m], within.total),
            path_points=0.0 if path == FP32 else POINTS * MOST_DIFFERENCE,
        )
        moments, times = None, None if films is None else films.time
        if within.moment is not None:
            assert isinstance(given, SeriesInput), name
            moments = moments_of(given, np.arange(len(rows)), within.moment.shape[2])
        parts.append(ModalityPart(name, rows, within, described(batch, plan, name, rows), moments, times))
        flagged[rows] |= (~within.within_tolerance & wanted[rows]).any(axis=1)
        if isinstance(spec, SeriesPlan):
            evidence.append(series_rows(batch, plan, name, rows))
        elif isinstance(spec, ImagePlan):
            assert within.picture is not None
            assert films is not None
            assert isinstance(here, ImageTensors), name
            share = model.shares(name, here).numpy()
            evidence.append(image_rows(films, spec, name, batch.subject_id[rows], within.picture, share))
    return Explained(
        explanations=reason_rows(model.targets, batch.subject_id, parts, wanted),
        evidence=pa.concat_tables(evidence),
        flagged=int(flagged.sum()),
        without=int(gone.sum()),
    )


def _gone(
    batch: FeatureBatch, published: NDArray[np.float64], wanted: NDArray[np.bool_], modalities: Sequence[str]
) -> NDArray[np.bool_]:
    """Whose published risk has a contribution of a modality that they lack now: it cannot be told apart. Shape: (B,).

    An image file that cannot be read a second time, say.
    """
    lacks = ~np.stack([batch.present[name] for name in modalities], axis=1)
    spoke = ((published != 0) & wanted[:, :, None]).any(axis=1)
    gone: NDArray[np.bool_] = (lacks & spoke).any(axis=1)
    return gone
