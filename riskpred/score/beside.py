"""What is told of an explained subject beside its reasons: guideline equations, what is missing, what would change."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from riskpred.explain.what_if import what_if
from riskpred.guideline.beside import guideline_rows
from riskpred.score.chunk import Judged

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle


def beside_reasons(bundle: "Bundle", judged: Judged) -> Iterator[tuple[str, pa.Table]]:
    """(table, rows without run_id) of a chunk's scored subjects, judged in fp32."""
    assert judged.batch is not None, "only scored subjects are explained"
    assert judged.assessed is not None, "only scored subjects are explained"
    assert judged.cohort is not None, "only scored subjects are explained"
    of = np.array([outcome for outcome, _ in bundle.model.targets])
    yield (
        "evidence",
        guideline_rows(
            bundle.config.guideline,
            judged.chunk,
            judged.rows,
            judged.batch.prediction_time,
            {name: np.asarray(judged.scored[:, of == name].any(axis=1)) for name in bundle.config.outcomes.outcomes},
        ),
    )
    found = what_if(bundle, judged.chunk, judged.cohort, judged.batch, judged.assessed.reference, judged.scored)
    yield "missing_impact", found.missing_impact
    yield "changes", found.changes
