"""Recalibrates a bundle to another site: intercept and slope per cause, the network untouched byte for byte.

The new line acts on log-rates that the bundle has calibrated already: a + b (a0 + b0 eta) is again one map for each
availability pattern, a + b a0 and b b0 at each point of time. It is fitted on the risk that people get, the mean over
members.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riskpred.errors import BundleError, InputError, OutputError
from riskpred.evaluate.censoring import Undefined, at_horizon
from riskpred.evaluate.gather import Evaluated, outcome_status
from riskpred.evaluate.transport import calibration_rows
from riskpred.features.fits import check_fits
from riskpred.fit.ageing import card_entry, moved_at_site, newest_rows
from riskpred.fit.data import subject_uniform, training_subjects
from riskpred.fit.losses import GroupLabels, negative_log_likelihood
from riskpred.fit.patterns import ENOUGH_EVENTS
from riskpred.fit.recalibrate import Line
from riskpred.fit.site_rates import SiteRates, risks_of, site_rates
from riskpred.fit.widen import factors, smallest
from riskpred.model.ageing import CARD_KEY as THIRTY_DAYS
from riskpred.model.bundle import Bundle, Contents, load_bundle, subject_hashes, write_bundle
from riskpred.model.calibration import Calibration
from riskpred.model.layout import DAYS_PER_YEAR, GroupGrid, Layout, running_maximum
from riskpred.model.manifest import refuse_target
from riskpred.model.risk import RiskModel
from riskpred.model.threads import one_thread
from riskpred.progress import Progress, Silent
from riskpred.records.warehouse import Warehouse

FEWEST_EVENTS: Final = 20
"""Events of a cause below which its map is kept: a slope on fewer is noise."""

_SMALL_CELL: Final = 10
_SPREAD_SHIFT, _SPREAD_SLOPE = 1.0, 0.5
"""SDs of normal priors on the shift at the mean log-rate and on log b."""
_EDGE: Final = 1e-12
_SPLITS: Final = (3, 20)
_WORK: Final = 400_000
"""Splits of a trial: 20, fewer (never below 3) where rows x splits would pass this."""
_HOW: Final = "to do it: riskpred fit --recalibrate BUNDLE WAREHOUSE --into NEW, on the train and tuning subjects"

_DONE: Final = "this bundle was recalibrated to this site before"


@dataclass(frozen=True)
class Change:
    """What recalibration does to one cause: eta' = intercept + slope eta, already shrunk by weight.

    events: null where there are fewer than 10.   reason: why the map is kept; null where it is not.
    """

    group: str
    cause: str
    events: int | None
    weight: float
    intercept: float
    slope: float
    reason: str | None

    @property
    def sentence(self) -> str:
        """The change in words."""
        who = self.cause if self.cause == self.group else f"{self.cause} (of {self.group})"
        if self.reason:
            return f"{who}: {self.reason}"
        return (
            f"{who}: intercept {self.intercept:.2f}, slope {self.slope:.2f} on {self.events:,} "
            f"events (weight {self.weight:.2f})"
        )


def recalibrate(
    bundle: Path, warehouse: Path, into: Path, progress: Progress | None = None
) -> tuple[Bundle, tuple[Change, ...]]:
    """A bundle with the risks of another site: refits a line per cause on its train and tuning subjects.

    Taken over unchanged: network, plan, peer, reference profiles, scope. New: the calibration maps; the widening of
    intervals, where these people need more; the reference of percentiles (out-of-fold risks, moved as `moved` says);
    the hashes of the calibrating subjects, added to those of training. The predictions of a cross-validation are
    dropped: they are another calibration's.

    Raises: BundleError: no bundle, does not fit, or was trained on these subjects. InputError: no warehouse, no
        training split, nobody eligible, or too few events of every cause. OutputError: `into` cannot be written.
    """
    progress = progress or Silent()
    refuse_target(into)
    old = load_bundle(bundle)
    if into.resolve() == bundle.resolve():
        raise OutputError(
            f"{into}: is the bundle to recalibrate.",
            wanted="another folder: recalibrating again starts from the old one",
            do="name a new folder with --into",
        )
    with Warehouse.open(warehouse) as source:
        check_fits(old.plan, source)
        source.finder = old.finder
        subjects, site = training_subjects(source), source.site
        seen = int(old.seen_in_training(site, subjects).sum())
        if seen:
            raise BundleError(
                f"{bundle}: {seen:,} of {len(subjects):,} train and tuning subjects of {warehouse} trained it already.",
                wanted="people that the bundle never saw: on its own it cannot find itself wrong",
                got=f"site {site}",
                do="recalibrate the bundle that had not seen them, or fit again",
            )
        found = site_rates(old, source, subjects, progress)
        with one_thread():
            lines, changes = fit_site(old.model.layout, found.rates, found.labels(old.model.layout))
            if all(change.reason for change in changes):
                raise InputError(
                    f"{warehouse}: too few events to recalibrate on.",
                    wanted=f"at least {FEWEST_EVENTS} events of one cause among train and tuning subjects",
                    got="; ".join(change.sentence for change in changes),
                    do="use the bundle as it is, or wait for longer follow-up",
                )
            contents = _contents(old, found, lines, changes, site)
            aged = _thirty_days(contents, source, found)
    write_bundle(into, replace(contents, card={**contents.card, THIRTY_DAYS: aged}))
    progress.step("write bundle", 1, 1)
    return load_bundle(into), changes


def trial(
    bundle: Bundle, evaluated: Evaluated, warehouse: Warehouse, seed: int = 1, progress: Progress | None = None
) -> dict[str, Any]:
    """What recalibration would change, for `evaluate`: fitted on half of the people evaluated, measured on the other.

    Which half is chance, and with few events chance is large: so the mean over several splits by subject is given. (The
    same two halves the other way round would not do: their errors cancel.)

    Returns: changes: a Change per cause, fitted on everyone; splits, how many; metrics: rows of `calibration_rows`,
        none where every map is kept; notes: sentences.
    """
    assert evaluated.prediction_time is not None, "the bundle's own predictions are of no other site"
    progress = progress or Silent()
    place = {
        key: row
        for row, key in enumerate(zip(evaluated.subject_id.tolist(), evaluated.prediction_time.tolist(), strict=True))
    }
    found = site_rates(bundle, warehouse, np.unique(evaluated.subject_id), progress)
    keys = zip(found.subject_id.tolist(), found.prediction_time.tolist(), strict=True)
    at = np.array([place.get(key, -1) for key in keys], dtype=np.int64)
    found, at = found.take(np.flatnonzero(at >= 0)), at[at >= 0]
    numbers, number = np.unique(found.together, return_inverse=True)
    layout, splits = bundle.model.layout, int(np.clip(_WORK // len(found), *_SPLITS))
    before = np.full((len(evaluated), len(layout.targets)), np.nan)
    after: list[NDArray[np.float64]] = []
    with one_thread():
        _, changes = fit_site(layout, found.rates, found.labels(layout))
        useless = all(change.reason for change in changes)
        before[at] = risks_of(layout, found.rates).mean(axis=0)
        for split in range(0 if useless else splits):
            first = (subject_uniform(numbers, seed * 1_000 + split) < 0.5)[number]
            fitted, rest = found.take(np.flatnonzero(first)), found.take(np.flatnonzero(~first))
            lines, _ = fit_site(layout, fitted.rates, fitted.labels(layout))
            risk = np.full_like(before, np.nan)
            risk[at[~first]] = risks_of(layout, _through(lines, rest.rates)).mean(axis=0)
            after.append(risk)
            progress.step("recalibration on halves", split + 1, splits)
    return {
        "changes": [asdict(change) for change in changes],
        "splits": len(after),
        "metrics": calibration_rows(evaluated, before, after, seed),
        "notes": [
            *("fitted on all of them: " + change.sentence for change in changes),
            *([] if useless else [_DONE if _recalibrated_to(bundle, warehouse.site) else _HOW]),
        ],
    }


def _recalibrated_to(bundle: Bundle, site: str) -> bool:
    return any(entry.get("site") == site for entry in bundle.card.get("recalibrated", []))


def fit_site(
    layout: Layout, rates: Sequence[Tensor], labels: Sequence[GroupLabels]
) -> tuple[list[Line], tuple[Change, ...]]:
    """The line of each cause, shrunk to what was by weight min(1, events / 100); none below 20 events.

    Shape: per group (R, N, J, K).
    """
    lines: list[Line] = []
    changes: list[Change] = []
    for group, rate, label in zip(layout.groups, rates, labels, strict=True):
        events = label.event[label.inside].sum(dim=0)
        weight = torch.where(events >= FEWEST_EVENTS, (events / ENOUGH_EVENTS).clamp(max=1.0), 0.0)
        identity = Line.identity(group)
        line = _fitted(group, rate, label).mixed(identity, weight) if bool((weight > 0).any()) else identity
        lines.append(line)
        for j, cause in enumerate(group.causes):
            count = int(events[j])
            few = f"{count}" if count >= _SMALL_CELL else f"fewer than {_SMALL_CELL}"
            changes.append(
                Change(
                    group=group.name,
                    cause=cause,
                    events=count if count >= _SMALL_CELL else None,
                    weight=float(weight[j]),
                    intercept=float(line.intercept[j, 0]),
                    slope=float(line.slope[j, 0]),
                    reason=None if weight[j] > 0 else f"{few} events, {FEWEST_EVENTS} needed: its map is kept",
                )
            )
    return lines, tuple(changes)


def _fitted(group: GroupGrid, rate: Tensor, labels: GroupLabels) -> Line:
    """Intercept and slope that fit the mean of the members best, by maximum posterior likelihood."""
    at = labels.inside.nonzero()[:, 0]
    rate, labels = rate[:, at], labels.take(at)
    centre = rate[..., : group.end_of[-1] + 1].mean(dim=(0, 1, 3))
    shift, log_slope = (torch.zeros_like(centre).requires_grad_() for _ in range(2))

    def line() -> Line:
        slope = log_slope.exp()
        return Line.straight(shift + (1.0 - slope) * centre, slope, group)

    optimiser = torch.optim.LBFGS(
        [shift, log_slope], max_iter=100, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )
    scale = max(1.0, float(labels.event.sum()))

    def closure() -> Tensor:
        optimiser.zero_grad()
        prior = ((shift / _SPREAD_SHIFT).square().sum() + (log_slope / _SPREAD_SLOPE).square().sum()) / 2
        value = (negative_log_likelihood(_of_the_mean(line()(rate), group), labels).sum() + prior) / scale
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return line()


def _of_the_mean(rate: Tensor, group: GroupGrid) -> Tensor:
    """Log-rate that the mean of the members' risks stands for: of their mean rate; known at once of their mean risk.

    Shape: (R, N, J, K) -> (N, J, K).
    """
    if group.known_at_once:
        free = torch.exp(-rate.exp()).mean(dim=0).clamp_min(torch.finfo(rate.dtype).tiny)
        return torch.log(-torch.log(free))
    return torch.logsumexp(rate, dim=0) - float(np.log(len(rate)))


def _through(lines: Sequence[Line], rates: Sequence[Tensor]) -> list[Tensor]:
    return [line(rate) for line, rate in zip(lines, rates, strict=True)]


def composed(model: RiskModel, lines: Sequence[Line]) -> RiskModel:
    """A copy of the model whose every calibration map goes through the line of its cause; nothing else differs.

    Args:
        lines: straight, the same at every time: others would not compose to a map of the same form.
    """
    result = copy.deepcopy(model)
    assert all(not line.bend.any() and bool((line.slope == line.slope[:, :1]).all()) for line in lines)
    with torch.no_grad():
        for group, line in enumerate(lines):
            calibration = result.calibrations[group]
            assert isinstance(calibration, Calibration)
            calibration.intercept.copy_(line.intercept + line.slope * calibration.intercept)
            calibration.log_slope.add_(line.slope.log())
    return result


def _contents(old: Bundle, found: SiteRates, lines: Sequence[Line], changes: Sequence[Change], site: str) -> Contents:
    model, layout = composed(old.model, lines), old.model.layout
    with one_thread():
        before = risks_of(layout, found.rates)
        after = risks_of(layout, _through(lines, found.rates))
    widening = np.maximum(_widening(old, found, after), old.model.widening.numpy())
    model.widening.copy_(torch.from_numpy(widening))
    created_at = datetime.now(UTC).replace(microsecond=0)
    counts = {"rows": len(found), "subjects": len(np.unique(found.subject_id))}
    entry = {
        "from_sha256": old.sha256,
        "from_version": old.version,
        "at": created_at.isoformat(),
        "site": site,
        **counts,
        "causes": [asdict(change) for change in changes],
    }
    hashes = subject_hashes(old.salt, site, np.unique(found.subject_id))
    kept: Mapping[str, Any] = {one.name: getattr(old, one.name) for one in fields(Contents)}
    return Contents(
        **{
            **kept,
            "version": f"{created_at:%Y%m%d.%H%M%S}",
            "created_at": created_at.isoformat(),
            "counts": {**old.counts, "recalibrated_on": {"site": site, **counts}},
            "model": model,
            "card": {
                # Other numeric paths were measured through the old maps: until a fit measures anew, fp32 it is.
                **{key: value for key, value in old.card.items() if key != "numeric_paths"},
                "recalibrated": [*old.card.get("recalibrated", []), entry],
                "limits": [
                    *old.card.get("limits", []),
                    f"Recalibrated to the site {site}: risks are that site's, those of the peer beside it are not.",
                ],
            },
            "out_of_fold": replace(
                old.out_of_fold,
                risk=moved(old.out_of_fold.risk, before.mean(axis=0), after.mean(axis=0), layout),
            ),
            "cross_validation": None,
            "trained_on": np.union1d(old.trained_on, hashes),
        }
    )


def _thirty_days(contents: Contents, source: Warehouse, found: SiteRates) -> dict[str, Any]:
    """The card's entry, of this site's people and with the new calibration."""
    chosen = newest_rows(found.subject_id, found.prediction_time, contents.seed)
    subjects, moments = found.subject_id[chosen], found.prediction_time[chosen]
    with one_thread():
        moved_on = moved_at_site(contents.model, contents.config.outcomes, source, subjects, moments)
    return card_entry(contents.model.targets, moved_on)


def moved(
    risk: NDArray[np.float64], before: NDArray[np.float64], after: NDArray[np.float64], layout: Layout
) -> NDArray[np.float64]:
    """Risks through each target's least-squares line from `before` to `after` on the complementary log-log scale.

    Only risks are kept of the training rows, no rates; with rates constant in time and rare outcomes the line is exact.
    Shape: risk (M, Q), before and after (N, Q); result (M, Q).
    """
    x, y, given = _cloglog(before), _cloglog(after), _cloglog(risk)
    centre = x.mean(axis=0)
    spread = np.square(x - centre).sum(axis=0)
    slope = np.divide(((x - centre) * y).sum(axis=0), spread, out=np.ones_like(spread), where=spread > _EDGE)
    line = y.mean(axis=0) + slope * (given - centre)
    return running_maximum(-np.expm1(-np.exp(line)), layout.targets)


def _widening(bundle: Bundle, found: SiteRates, member: NDArray[np.float64]) -> NDArray[np.float64]:
    """The factor of each target's interval that these people need (fit/widen.py). Shape: member (R, N, Q) -> (Q,)."""
    layout, risk = bundle.model.layout, member.mean(axis=0)
    status = outcome_status(bundle.config.outcomes, found.cause)
    needed: dict[str, list[float]] = {}
    for q, (outcome, years) in enumerate(layout.targets):
        group = layout.group_of(outcome)
        inside = np.flatnonzero(status[outcome] >= 0)
        mine, days = status[outcome][inside], found.duration_days[group.name][inside]
        try:
            if group.known_at_once:
                came, weight = (mine == 1).astype(np.float64), np.ones(len(mine))
            else:
                came, weight = at_horizon(days, mine, years * DAYS_PER_YEAR)
        except Undefined:
            continue
        needed.setdefault(outcome, []).extend(factors(risk[inside, q], member[:, inside, q], came, weight))
    of_outcome = {outcome: smallest(values) for outcome, values in needed.items()}
    return np.array([of_outcome.get(outcome, 1.0) for outcome, _ in layout.targets])


def _cloglog(risk: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.log(-np.log1p(-np.clip(risk, _EDGE, 1.0 - _EDGE)))
    return result
