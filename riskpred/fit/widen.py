"""How much wider than the members' disagreement an interval must be: the factor c of design's interval, per outcome."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from riskpred.evaluate.censoring import CENSORED, COMPETING, OUTCOME, Undefined, at_horizon
from riskpred.fit.data import Rows
from riskpred.fit.train import TrainingData
from riskpred.model.layout import DAYS_PER_YEAR
from riskpred.model.network import Sent, SentOne
from riskpred.model.risk import Z90, RiskModel, jackknife_error

Floats = NDArray[np.float64]

GROUPS = 20
"""Equal groups of people ranked by risk at one horizon."""
SHARE = 0.90
"""Share of the groups, over all horizons of an outcome, that must be covered."""
_MOST = 10.0
"""A factor beyond this says that the risks are wrong, not that they are uncertain."""


def widening(model: RiskModel, data: TrainingData, sent: Sequence[Sent], rows: Rows, out_of_fold: Floats) -> Floats:
    """The smallest c >= 1 of each outcome for which 90 % of groups are covered, repeated for its targets. Shape: (Q,).

    A group is covered when |observed - mean risk| <= 1.645 sqrt((c s)^2 + SE^2): observed is the weighted mean outcome
    (its Aalen-Johansen estimate), the mean risk that of the out-of-fold risks, s the jackknife error over members of
    the group's mean risk, SE^2 the variance of the observed incidence if the risks were true.
    """
    everyone = {
        name: SentOne(
            torch.stack([one[name].coefficients for one in sent]), torch.stack([one[name].embedding for one in sent])
        )
        for name in model.modalities
    }
    with torch.no_grad():
        member = model.member_risks(everyone, data.present).numpy()
    needed: dict[str, list[float]] = {}
    for q, (outcome, horizon) in enumerate(model.targets):
        group = model.layout.group_of(outcome)
        cause = rows.cause[group.name]
        inside = np.flatnonzero(cause >= 0)
        own = group.happened(cause[inside], outcome)
        status = np.where(own, OUTCOME, np.where(cause[inside] > 0, COMPETING, CENSORED)).astype(np.int8)
        try:
            if group.known_at_once:
                answer, weight = own.astype(np.float64), np.ones(len(inside))
            else:
                days = rows.duration_days[group.name][inside]
                answer, weight = at_horizon(days, status, horizon * DAYS_PER_YEAR)
        except Undefined:
            continue
        needed.setdefault(outcome, []).extend(factors(out_of_fold[inside, q], member[:, inside, q], answer, weight))
    found = {outcome: smallest(values) for outcome, values in needed.items()}
    return np.array([found.get(outcome, 1.0) for outcome, _ in model.targets])


def factors(risk: Floats, member: Floats, outcome: Floats, weight: Floats) -> list[float]:
    """What c each group of risk would need. Shape: risk, outcome, weight (N,), member (R, N)."""
    found = []
    for rows in np.array_split(np.argsort(risk, kind="stable"), GROUPS):
        mass = float(weight[rows].sum())
        if mass <= 0:
            continue
        observed = float(np.sum(weight[rows] * outcome[rows])) / mass
        error2 = float(np.sum(weight[rows] ** 2 * risk[rows] * (1.0 - risk[rows]))) / mass**2
        spread = float(jackknife_error(member[:, rows].mean(axis=1)))
        beyond = ((observed - float(risk[rows].mean())) / Z90) ** 2 - error2
        found.append(0.0 if beyond <= 0 else float(np.sqrt(beyond)) / max(spread, 1e-12))
    return found


def smallest(needed: Sequence[float]) -> float:
    """The smallest c >= 1 that covers at least 90 % of the groups.

    Example:
        >>> smallest([0.0] * 17 + [1.5, 2.0, 3.0])
        1.5
    """
    if not needed:
        return 1.0
    rank = int(np.ceil(SHARE * len(needed) - 1e-9)) - 1
    return float(np.clip(np.sort(needed)[rank], 1.0, _MOST))
