"""External validation: how the people of another site differ from those in training, in numbers, text and page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from riskpred.errors import InputError
from riskpred.evaluate.censoring import Floats, Undefined
from riskpred.evaluate.discrimination import auc
from riskpred.evaluate.gather import MODEL, Evaluated
from riskpred.evaluate.measure import FLOOR, MIN_EVENTS, measure
from riskpred.evaluate.metrics import people_of
from riskpred.evaluate.populations import FEW, FEWEST, Feature, compare, features_of, summarise_population
from riskpred.evaluate.predictions import judged
from riskpred.evaluate.summary import number
from riskpred.features.build import build
from riskpred.features.plan import FeaturePlan, ImagePlan, ModalityPlan
from riskpred.model.bundle import Bundle
from riskpred.progress import Progress, Silent
from riskpred.records.cohort import cohort, rows_at
from riskpred.records.warehouse import Warehouse

NOTABLE: Final = 0.1
"""A standardised mean difference or stability index beyond it is worth a look."""

FOLDS: Final = 5
MEMBERSHIP_ROWS: Final = 50
"""Fewest subjects of either site for a membership model."""

SHOWN: Final = 10
"""Features that the text names; page and JSON have all."""

AS_IS: Final = "as it is"
RECALIBRATED: Final = "recalibrated"
CALIBRATION: Final = ("citl", "slope", "ici", "brier", FLOOR)

_EDGE: Final = 1e-9
_DEFINITIONS: Final = (
    ("SMD", "standardised mean difference, here less training; beyond .1 either way is worth a look"),
    ("PSI", "population stability index over the deciles or categories of training; above .1 moved, above .25 far"),
    (
        "told apart",
        "AUC of a logistic model that guesses the site from each person's risks and which modalities were there "
        "(the bundle keeps no features of its people): .5 is alike",
    ),
    ("—", f"fewer than {FEWEST} people stand behind it, or follow-up ends before"),
)


def is_external(bundle: Bundle, warehouse: Warehouse) -> bool:
    """Whether the warehouse is another site than the one the bundle was trained at."""
    site = dict(bundle.card.get("trained_on", {})).get("site")
    return site is not None and site != warehouse.site


def compare_site(
    bundle: Bundle, evaluated: Evaluated, warehouse: Warehouse, seed: int = 1, progress: Progress | None = None
) -> dict[str, Any]:
    """How the evaluated people differ from those in training, as plain data for JSON.

    training_site, site; reason (why there is nothing to compare with, else null); training and here: rows, subjects,
    age, sex, patterns and outcomes as in `summarise_population` (training null without a summary); features as in
    `compare`; membership: {auc, reason}.

    Raises: InputError: the rows are the bundle's own predictions, of no other site.
    """
    if evaluated.prediction_time is None:
        raise InputError(
            f"{warehouse.path}: the split {evaluated.split} is the bundle's own people: no external validation.",
            wanted="a split of the warehouse",
            do="leave out --external, or choose another --split",
        )
    features = _features_here(bundle, evaluated, warehouse, progress or Silent())
    here = summarise_population(
        features,
        evaluated.subject_id,
        evaluated.pattern,
        evaluated.targets,
        {name: np.where(judged(evaluated, name), status, -1) for name, status in evaluated.status.items()},
        evaluated.time_days,
    )
    training = bundle.card.get("population")
    kept = ("rows", "subjects", "age", "sex", "patterns", "outcomes")
    return {
        "training_site": dict(bundle.card.get("trained_on", {})).get("site"),
        "site": warehouse.site,
        "reason": None if training else "the bundle keeps no summary of its training population: fit it again",
        "display": {name: evaluated.display.get(name, name) for name, _ in evaluated.targets},
        "training": {key: training[key] for key in kept} if training else None,
        "here": {key: here[key] for key in kept},
        "features": compare(training, here, features) if training else [],
        "membership": membership(bundle, evaluated, seed),
    }


def _features_here(bundle: Bundle, evaluated: Evaluated, warehouse: Warehouse, progress: Progress) -> list[Feature]:
    """What the bundle reads of the evaluated rows, images left aside: a pass over the warehouse without the model."""
    assert evaluated.prediction_time is not None, "compare_site refuses rows without a time"
    modalities: dict[str, ModalityPlan] = {
        name: part for name, part in bundle.plan.modalities.items() if not isinstance(part, ImagePlan)
    }
    if not modalities:
        return []
    plan = FeaturePlan(modalities, bundle.plan.units)
    place = {
        key: row
        for row, key in enumerate(zip(evaluated.subject_id.tolist(), evaluated.prediction_time.tolist(), strict=True))
    }
    subjects, done = np.unique(evaluated.subject_id), 0
    at: list[NDArray[np.int64]] = []
    parts: list[list[Feature]] = []
    for chunk in warehouse.chunks(subjects=subjects):
        rows = cohort(chunk, bundle.config.outcomes, warehouse.data_until)
        keys = zip(chunk.subject_id[rows.subject].tolist(), rows.prediction_time.tolist(), strict=True)
        mine = np.array([place.get(key, -1) for key in keys], dtype=np.int64)
        rows, mine = rows_at(rows, np.flatnonzero(mine >= 0)), mine[mine >= 0]
        if len(rows):
            parts.append(features_of(plan, build(chunk, rows, plan, warehouse.image_root)))
            at.append(mine)
        done += len(chunk)
        progress.step("evaluate: the two populations", done, len(subjects))
    order = np.argsort(np.concatenate(at))
    return [
        replace(feature, values=np.concatenate([part[f].values for part in parts])[order])
        for f, feature in enumerate(parts[0])
    ]


def membership(bundle: Bundle, evaluated: Evaluated, seed: int = 1) -> dict[str, Any]:
    """How well a logistic model tells the sites apart: {auc, reason}; auc null with a reason where people are few.

    The bundle keeps no features of its training people, only the risk of each by members that never saw it, and which
    modalities were there: so these are the predictors, risks at each outcome's last horizon on the complementary
    log-log scale. (Risks at several horizons differ by the shape of the baseline, which would tell the predictions of
    one member from the mean of all.) The AUC is of 5-fold cross-validation by subject.

    Source: Debray et al. 2015, J Clin Epidemiol 68:279-289 (membership model; there with the predictors themselves).
    """
    from sklearn.linear_model import LogisticRegression

    kept = bundle.out_of_fold
    subjects = np.concatenate([kept.subject, evaluated.subject_id])
    site = np.repeat([0, 1], [len(kept), len(evaluated)])
    few = min(len(np.unique(kept.subject)), len(np.unique(evaluated.subject_id)))
    if few < MEMBERSHIP_ROWS:
        return {"auc": None, "reason": f"{few} people of one site, at least {MEMBERSHIP_ROWS} needed"}
    last = sorted({outcome: q for q, (outcome, _) in enumerate(evaluated.targets)}.values())
    both = np.concatenate([kept.risk[:, last], evaluated.risks[MODEL][0][:, last]])
    risk = np.clip(both, _EDGE, 1.0 - _EDGE)
    there = [[name in pattern.split("+") for name in bundle.model.modalities] for pattern in evaluated.pattern.tolist()]
    columns = np.column_stack(
        [np.log(-np.log1p(-risk)), np.concatenate([kept.present, np.array(there, dtype=np.bool_)]).astype(np.float64)]
    )
    columns = columns[:, columns.std(axis=0) > 0]
    if not columns.shape[1]:
        return {"auc": None, "reason": "everyone has the same risk and modalities"}
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    fold = _folds(subjects, site, seed)
    guess = np.empty(len(site))
    for one in range(FOLDS):
        inner, outer = fold != one, fold == one
        model = LogisticRegression(max_iter=1000).fit(columns[inner], site[inner])
        guess[outer] = model.predict_proba(columns[outer])[:, 1]
    try:
        return {"auc": auc(guess, site.astype(np.float64), np.ones(len(site))), "reason": None}
    except Undefined as undefined:
        return {"auc": None, "reason": str(undefined)}


def _folds(subjects: NDArray[np.int64], site: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Fold of each row, by subject within its site. Shape: (N,)."""
    fold = np.empty(len(site), dtype=np.int64)
    generator = np.random.default_rng(seed)
    for one in (0, 1):
        known, place = np.unique(subjects[site == one], return_inverse=True)
        fold[site == one] = (generator.permutation(len(known)) % FOLDS)[place]
    return fold


def view(site: Mapping[str, Any]) -> dict[str, Any]:
    """What text and page show of `compare_site`: {kind, headline, notes, before, after, after_notes, definitions}.

    before and after: tables {title, columns, rows (texts), note}; before stands above the metrics, after below.
    """
    training, here = site["training"], site["here"]
    kind = "other people of the same site" if site["site"] == site["training_site"] else "another site"
    beside = f", beside {_people(training)} in training ({site['training_site']})" if training else ""
    tables = []
    if training:
        tables = [_people_table(site, training, here), _features_table(site["features"])]
    apart, found = site["membership"], site.get("recalibration") or {"metrics": [], "notes": []}
    notes = [site["reason"]] if site["reason"] else []
    notes.append(
        f"told apart by risk and modalities: AUC {number(apart['auc'])}"
        if apart["auc"] is not None
        else f"no membership model: {apart['reason']}"
    )
    return {
        "kind": kind,
        "headline": f"{kind}: {_people(here)} of {site['site']}{beside}",
        "notes": notes,
        "before": [table for table in tables if table["rows"]],
        "after": [_recalibration_table(found, site["display"])] if found["metrics"] else [],
        "after_notes": list(found["notes"]),
        "definitions": [list(entry) for entry in _DEFINITIONS],
    }


def text_of(shown: Mapping[str, Any]) -> tuple[str, str]:
    """The view as plain text: what stands above the metrics, and what stands below them."""
    above = [shown["headline"], *shown["notes"]]
    for table in shown["before"]:
        rows = table["rows"][:SHOWN] if table["long"] else table["rows"]
        hidden = len(table["rows"]) - len(rows)
        above += ["", table["title"], *_aligned(table["columns"], rows)]
        above += [f"  and {hidden} more, on the page and in the JSON"] if hidden else []
    above += ["", *(f"{name}: {meaning}" for name, meaning in shown["definitions"])]
    below: list[str] = []
    for table in shown["after"]:
        below += [f"what recalibration would change: {table['title']}", *_aligned(table["columns"], table["rows"])]
    return "\n".join(above), "\n".join([*below, *shown["after_notes"]])


def _people_table(site: Mapping[str, Any], training: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    rows: list[list[str]] = []
    if training["age"] or here["age"]:
        rows.append(["age, years", _age(training["age"]), _age(here["age"])])
    rows += [["sex " + kind.removeprefix("GENDER//"), *pair] for kind, pair in _pairs(training["sex"], here["sex"])]
    rows += [["with " + kind, *pair] for kind, pair in _pairs(training["patterns"], here["patterns"])]
    for name, outcome in here["outcomes"].items():
        then = {years: share for years, share in training["outcomes"].get(name, {"horizons": []})["horizons"]}
        for years, share in outcome["horizons"]:
            when = "known at once" if years == 0 else f"within {years:g} year{'s' if years != 1 else ''}"
            rows.append([f"{site['display'].get(name, name)}, {when}", _share(then.get(years)), _share(share)])
    return {
        "title": "who they are, and what happened to them (Aalen-Johansen)",
        "columns": ["", "training", "here"],
        "rows": rows,
        "long": False,
    }


def _features_table(features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def far(feature: Mapping[str, Any]) -> float:
        return max(abs(float(feature["smd"] or 0.0)), float(feature["psi"] or 0.0), _missing_gap(feature))

    rows = [
        [
            f"{feature['display']}{', ' + feature['unit'] if feature['unit'] else ''}",
            *(_level(feature[side]) for side in ("training", "here")),
            number(feature["smd"], 2),
            number(feature["psi"], 2),
            *(_share(feature[side]["missing"]) for side in ("training", "here")),
        ]
        for feature in sorted(features, key=far, reverse=True)
    ]
    beyond = sum(far(feature) > NOTABLE for feature in features)
    return {
        "title": f"what is read of them: {beyond} of {len(features)} features differ by more than {NOTABLE:g} "
        "(SMD, PSI or share missing), the farthest first",
        "columns": ["", "training", "here", "SMD", "PSI", "missing in training", "missing here"],
        "rows": rows,
        "long": True,
    }


def calibration_rows(
    evaluated: Evaluated, before: Floats, after: Sequence[Floats], seed: int = 1
) -> list[dict[str, Any]]:
    """Calibration as it is and recalibrated, each on the same people: what `recalibrate_site.trial` reports.

    Rows {model (AS_IS or RECALIBRATED), outcome, horizon_years, n, events, metric, value, low, high, reason}: means
    over the splits, n and events too, and the middle 90 % of the splits; the floor is that of the first split.

    Args: after: recalibrated risks of each split, NaN for those whom it did not measure.
    Shape: before (N, Q), each of after (N, Q).
    """
    rows: list[dict[str, Any]] = []
    for outcome in dict.fromkeys(name for name, _ in evaluated.targets) if after else ():
        found: dict[tuple[str, int, str], list[float]] = {}
        counts: dict[int, list[tuple[int, int]]] = {}
        for split, risk in enumerate(after):
            both = replace(evaluated, risks={AS_IS: before[None], RECALIBRATED: risk[None]}, truth=None)
            inside: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(risk), axis=1)
            _, people, risks = people_of(both, outcome, inside)
            wanted = frozenset(CALIBRATION if split == 0 else CALIBRATION[:-1])
            for key, one in measure(people, risks, 0, seed, only=wanted).items():
                if key[0] in risks and one.value is not None:
                    found.setdefault(key, []).append(one.value)
            for h, years in enumerate(people.horizons_years):
                counts.setdefault(h, []).append((len(people), people.events(years)))
        for h, years in enumerate(people.horizons_years):
            n, events = (round(value) for value in np.mean(counts[h], axis=0).tolist())
            about = {"outcome": outcome, "horizon_years": years, "n": n, "events": events}
            # A metric that some splits lack, those with fewer events by chance, would be a mean of the others only.
            mine = {
                (model, metric): values
                for (model, at, metric), values in found.items()
                if at == h and len(found.get((model, at, "ici"), ())) == len(after)
            }
            for (model, metric), values in mine.items():
                low, high = np.quantile(values, [0.05, 0.95]).tolist()
                rows.append(
                    {"model": model, **about, "metric": metric, "value": float(np.mean(values)), "low": low}
                    | {"high": high, "reason": None}
                )
            if not mine:
                reason = f"{events} with the outcome in a half on average, at least {MIN_EVENTS} needed in each"
                nothing = {"value": None, "low": None, "high": None}
                rows.append({"model": AS_IS, **about, "metric": "ici", **nothing, "reason": reason})
    return rows


def _recalibration_table(found: Mapping[str, Any], display: Mapping[str, str]) -> dict[str, Any]:
    rows: list[list[str]] = []
    targets = dict.fromkeys((row["outcome"], row["horizon_years"]) for row in found["metrics"])
    for outcome, years in targets:
        of = [row for row in found["metrics"] if (row["outcome"], row["horizon_years"]) == (outcome, years)]
        values = {(row["model"], row["metric"]): row["value"] for row in of}
        when = "known at once" if years == 0 else f"within {years:g} year{'s' if years != 1 else ''}"
        changes = [
            "-"
            if values.get((AS_IS, metric)) is None
            else " → ".join(number(values.get((model, metric)), digits) for model in (AS_IS, RECALIBRATED))
            for metric, digits in _SHOWN_CALIBRATION
        ]
        floor = number(values.get((AS_IS, FLOOR)), 4)
        rows.append([f"{display.get(outcome, outcome)}, {when}", f"{of[0]['events']:,}", *changes, floor])
    return {
        "title": f"fitted on one half of these people and measured on the other, mean of {found['splits']} such splits",
        "columns": ["", "events", "citl", "slope", "ICI", "Brier", "ICI floor"],
        "rows": rows,
        "long": False,
    }


_SHOWN_CALIBRATION: Final = (("citl", 2), ("slope", 2), ("ici", 4), ("brier", 4))


def _pairs(training: Mapping[str, float] | None, here: Mapping[str, float] | None) -> list[tuple[str, tuple[str, str]]]:
    """Each kind that either side has, with both shares; a kind that is pooled on one side is a dash there."""
    kinds = dict.fromkeys([*(training or {}), *(here or {})])

    def share(side: Mapping[str, float] | None, kind: str) -> str:
        return _share((side or {}).get(kind, None if not side or FEW in side else 0.0))

    return [(kind, (share(training, kind), share(here, kind))) for kind in kinds]


def _people(summary: Mapping[str, Any]) -> str:
    return f"{summary['subjects']:,} people ({summary['rows']:,} rows)"


def _age(age: Mapping[str, Any] | None) -> str:
    if not age or age["mean"] is None:
        return "—"
    span = f", {age['low']:g} to {age['high']:g}" if age["low"] is not None else ""
    return f"{age['mean']:.1f} (SD {age['sd']:.1f}{span})"


def _level(summary: Mapping[str, Any]) -> str:
    """Mean and SD of a number, the three largest shares of a category."""
    if "categories" in summary:
        largest = sorted((summary["categories"] or {}).items(), key=lambda item: (-item[1], item[0]))[:3]
        return ", ".join(f"{kind} {_share(share)}" for kind, share in largest) or "—"
    return "—" if summary["mean"] is None else f"{summary['mean']:.4g} (SD {summary['sd']:.3g})"


def _missing_gap(feature: Mapping[str, Any]) -> float:
    then, now = feature["training"]["missing"], feature["here"]["missing"]
    return 0.0 if then is None or now is None else abs(now - then)


def _share(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.1f} %"


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    width = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    return [
        "  " + "  ".join(cell.ljust(size) for cell, size in zip(row, width, strict=True)).rstrip()
        for row in [columns, *rows]
    ]
