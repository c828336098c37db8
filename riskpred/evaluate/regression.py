"""The regression behind calibration in the large and slope, link(P) = a + b link(risk), fitted on each resample."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from riskpred.evaluate.censoring import Floats, Undefined
from riskpred.records.compiled import compiled

Link = Literal["cloglog", "logit"]
"""Scale of slope and citl: cloglog for a risk by a horizon (the scale of log-rates), logit for one known at once."""

_EDGE: Final = 1e-9  # risks of exactly 0 and 1 are infinite on either scale


@dataclass(frozen=True)
class Scaled:
    """Risks on the scale of a link, ready to be regressed on. Shape: score (N,), less `centre`."""

    score: Floats
    centre: float
    link: Link

    @classmethod
    def of(cls, risk: Floats, link: Link) -> "Scaled":
        """Raises: ValueError: not one-dimensional, or a risk outside 0..1."""
        if risk.ndim != 1:
            raise ValueError("risk, outcome and weight must be one-dimensional and of one length")
        if not np.all((risk >= 0) & (risk <= 1)):
            raise ValueError("every risk must lie between 0 and 1")
        inside = np.clip(risk, _EDGE, 1.0 - _EDGE)
        free = np.log1p(-inside)
        score = np.log(inside) - free if link == "logit" else np.log(-free)
        centre = float(score.mean()) if len(score) else 0.0
        return cls(score - centre, centre, link)

    def intercept(self, outcome: Floats, weight: Floats, start: float = 0.0) -> float:
        """The a of link(P) = a + link(risk), by weighted maximum likelihood. Raises: as `citl`."""
        _both_classes(self.score, outcome, weight)
        # The score enters whole (b = 1), so its centre goes back in.
        a, _, state = _fisher(self.score + self.centre, outcome, weight, start, 1.0, False, self.link == "logit")
        _finished(state)
        return float(a)

    def both(self, outcome: Floats, weight: Floats, start: tuple[float, float] | None = None) -> tuple[float, float]:
        """(a, b) of link(P) = a + b link(risk). Raises: as `slope`.

        Args: start: (a, b) near the solution, such as that of the sample of which this is a resample.
        """
        _both_classes(self.score, outcome, weight)
        used = self.score[weight > 0]
        if float(np.ptp(used)) < 1e-9:
            raise Undefined("all risks are equal")
        if start is None:  # the intercept alone starts at the mean, so that the first step is never wild
            mean = float(np.average(outcome, weights=weight))
            first = np.log(mean / (1 - mean)) if self.link == "logit" else np.log(-np.log1p(-mean))
            begin = float(first), 0.0
        else:
            begin = start[0] + start[1] * self.centre, start[1]
        a, b, state = _fisher(self.score, outcome, weight, *begin, True, self.link == "logit")
        _finished(state)
        return float(a - b * self.centre), float(b)


def _both_classes(score: Floats, outcome: Floats, weight: Floats) -> None:
    if score.shape != outcome.shape or score.shape != weight.shape:
        raise ValueError("risk, outcome and weight must be one-dimensional and of one length")
    events, everyone = float(np.sum(weight * outcome)), float(np.sum(weight))
    if not 0.0 < events < everyone:
        raise Undefined("only one class is there")


def _finished(state: int) -> None:
    if state == 1:
        raise Undefined("the calibration regression has no single solution")
    if state == 2:
        raise Undefined("the calibration regression has no finite solution")


@compiled
def _fisher(
    score: Floats, outcome: Floats, weight: Floats, a: float, b: float, with_slope: bool, logit: bool
) -> tuple[float, float, int]:
    """Fisher scoring with step halving; the last number is 0 done, 1 singular, 2 without end."""
    value, ga, gb, haa, hab, hbb = _likelihood(score, outcome, weight, a, b, logit)
    for _ in range(50):
        if with_slope:
            determinant = haa * hbb - hab * hab
            if not determinant > 1e-14 * haa * hbb:
                return a, b, 1
            step_a, step_b = (hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant
        else:
            if not haa > 0.0:
                return a, b, 1
            step_a, step_b = ga / haa, 0.0
        if max(abs(step_a), abs(step_b)) < 1e-8:
            return a, b, 0
        found = False
        for _halving in range(30):
            trial = _likelihood(score, outcome, weight, a + step_a, b + step_b, logit)
            if trial[0] >= value - 1e-12 * abs(value):
                found = True
                break
            step_a, step_b = 0.5 * step_a, 0.5 * step_b
        if not found:
            return a, b, 0
        a, b = a + step_a, b + step_b
        value, ga, gb, haa, hab, hbb = trial
        if max(abs(a), abs(b)) > 50.0:
            return a, b, 2
    return a, b, 2


@compiled
def _likelihood(
    score: Floats, outcome: Floats, weight: Floats, a: float, b: float, logit: bool
) -> tuple[float, float, float, float, float, float]:
    """Log-likelihood, its gradient (a, b) and the expected information (aa, ab, bb)."""
    value, ga, gb, haa, hab, hbb = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(len(score)):
        w = weight[i]
        if w <= 0.0:
            continue
        eta = a + b * score[i]
        if logit:
            eta = min(max(eta, -30.0), 30.0)
            chance = 1.0 / (1.0 + np.exp(-eta))
            value += w * (outcome[i] * eta - np.log1p(np.exp(eta)))
            slope = outcome[i] - chance
            information = chance * (1.0 - chance)
        else:
            eta = min(max(eta, -30.0), 3.5)
            rate = np.exp(eta)
            odds = np.expm1(rate)  # P / (1 - P)
            if outcome[i] > 0.0:
                value += w * outcome[i] * np.log(-np.expm1(-rate))
            value -= w * (1.0 - outcome[i]) * rate
            slope = rate * (outcome[i] / odds - (1.0 - outcome[i]))
            information = rate * rate / odds
        ga += w * slope
        gb += w * slope * score[i]
        haa += w * information
        hab += w * information * score[i]
        hbb += w * information * score[i] * score[i]
    return value, ga, gb, haa, hab, hbb
