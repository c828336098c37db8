"""Makes a bundle: reads the training rows of a warehouse, fits members, peer, reference profiles, writes it whole."""

import contextlib
import platform
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from riskpred import __version__
from riskpred.config.card import load_card_texts
from riskpred.config.network import CrossValidation
from riskpred.config.study import ModelConfig, load_cautions, load_model_config, portable
from riskpred.evaluate.marked import CARD_KEY as SEGMENTATION
from riskpred.evaluate.populations import population_of
from riskpred.features.plan import FeaturePlan
from riskpred.fit.ageing import card_entry, month_later, moved_by_month, newest_rows
from riskpred.fit.data import Rows, counts, stratified_folds, training_rows, training_subjects
from riskpred.fit.findings import FittedStages, fit_stages
from riskpred.fit.grid import learn_layout
from riskpred.fit.members import Fitted, fit_members, training_data
from riskpred.fit.peer import fit_peer
from riskpred.fit.pictures import Pictures, training_pictures
from riskpred.fit.pretrain_choice import CARD_KEY as PRETRAINING
from riskpred.fit.pretrain_choice import Start, asked_for, choose_start, refuse_places, save_starts
from riskpred.fit.profile import learn_profiles
from riskpred.fit.ranges import learn_ranges
from riskpred.fit.scope import learn_scope
from riskpred.fit.train import image_networks
from riskpred.fit.words import card_words
from riskpred.imaging.radiomics import Radiomics
from riskpred.model.ageing import CARD_KEY as THIRTY_DAYS
from riskpred.model.bundle import (
    DEFINITIONS,
    Bundle,
    Contents,
    load_bundle,
    subject_hashes,
    write_bundle,
)
from riskpred.model.drift_reference import CARD_KEY, learn_drift_reference
from riskpred.model.image_fast import image_encoders
from riskpred.model.image_weights import WeightsReport
from riskpred.model.layout import Layout
from riskpred.model.manifest import refuse_target
from riskpred.model.paths import numeric_paths
from riskpred.model.peer import Peer
from riskpred.model.predictions import Predictions, joined
from riskpred.model.threads import one_thread
from riskpred.progress import Progress, Silent
from riskpred.records.warehouse import Warehouse

_NO_PEER = np.nan


def fit(
    study: str,
    warehouse: Path,
    into: Path,
    seed: int = 1,
    progress: Progress | None = None,
    pretrain: bool = False,
    pretrain_weights: Path | None = None,
) -> Bundle:
    """Fit a study's model on a warehouse's train and tuning splits and write it as a bundle.

    The same seed and data give the same weights on one machine, whatever the order of rows in the source. Nothing is
    written before all is done: an interruption leaves what was there.

    Args:
        study: a packaged study's name, or a folder of YAML.
        into: folder of the bundle; a bundle that is there is replaced.
        pretrain: pre-train image networks, as network.yaml's `pretrain:` says or as usual; a study with that block
            does it anyway.
        pretrain_weights: .safetensors file for what was pre-trained, helpful or not; with several image modalities one
            each, FILE.<modality>.safetensors. They load as `weights: {layout: riskpred}`.

    Raises: UsageError (a file for weights, and no pre-training), ConfigError (the YAML), InputError (no warehouse,
        split, eligible row, event or picture to pre-train on), BundleError (a required code is absent), OutputError
        (the place cannot be written).
    """
    progress = progress or Silent()
    refuse_target(into)
    config, cautions = load_model_config(study), load_cautions(study)
    config = config.model_copy(update={"network": asked_for(config.network, pretrain)})
    refuse_places(config, pretrain_weights)
    loaded = image_networks(config)
    for measured in config.imaging.radiomics.values():
        Radiomics(measured)  # says at once what is not installed
    texts = load_card_texts(study).model_dump()
    with Warehouse.open(warehouse) as source:
        found = fit_segmentations(config, source, seed, progress)
        source.finder = None if found is None else found.source
        plan, rows = training_rows(config, source, progress)
        site = source.site
        chosen = newest_rows(rows.subject_id, rows.batch.prediction_time, seed)
        moments = rows.batch.prediction_time[chosen]
        period = _period(rows.batch.prediction_time, source.data_until)
        later = month_later(plan, config.outcomes, source, rows.subject_id[chosen], moments)
        pictures = None
        if config.network.pretrain is not None:
            pictures = training_pictures(plan, source, training_subjects(source), progress)
    layout = learn_layout(config.outcomes, rows, config.network.intervals)
    with _repeatable():
        start = Start()
        if pictures is not None:
            make = pretrain_weights is not None
            start = choose_start(config.network, plan, layout, rows, pictures, seed, progress, make)
        contents = _fit(config, plan, layout, rows, site, seed, progress, start, pictures or {}, loaded)
        aged = card_entry(contents.model.targets, moved_by_month(contents.model, rows, chosen, later))
    segmented = {} if found is None or not found.card else {SEGMENTATION: found.card}
    said = {"cautions": list(cautions), "texts": texts, "period": period, THIRTY_DAYS: aged, **segmented}
    contents = replace(contents, card={**contents.card, **said}, segmenters={} if found is None else found.segmenters)
    write_bundle(into, contents)
    if pretrain_weights is not None:
        save_starts(start.made, pretrain_weights)
    progress.step("write bundle", 1, 1)
    return load_bundle(into)


def fit_segmentations(config: ModelConfig, source: Warehouse, seed: int, progress: Progress) -> FittedStages | None:
    """The study's stages of imaging.yaml, on the images of train and tuning; None where it has none."""
    if not config.imaging.stages:
        return None
    with _repeatable():
        return fit_stages(config.imaging, source, training_subjects(source), seed, progress)


def _period(prediction_time: NDArray[np.int64], data_until: int) -> dict[str, Any]:
    """First and last prediction and the end of follow-up, as months: a day could be one person's."""
    first, last, until = (
        str(np.datetime64(int(moment), "us").astype("datetime64[M]"))
        for moment in (prediction_time.min(), prediction_time.max(), data_until)
    )
    return {"prediction_times": [first, last], "followed_until": until}


@contextlib.contextmanager
def _repeatable() -> Iterator[None]:
    """One torch thread and deterministic algorithms, put back afterwards."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with one_thread():
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic)


def _fit(
    config: ModelConfig,
    plan: FeaturePlan,
    layout: Layout,
    rows: Rows,
    site: str,
    seed: int,
    progress: Progress,
    start: Start,
    pictures: Mapping[str, Pictures],
    loaded: Mapping[str, WeightsReport],
) -> Contents:
    network = config.network
    epochs = network.members * network.training.epochs
    fitted = fit_members(
        network,
        plan,
        layout,
        rows,
        seed,
        lambda over: progress.step("train members (epochs)", over, epochs),
        start.states,
    )
    salt = np.random.default_rng().bytes(16)
    hashes = subject_hashes(salt, site, rows.subject_id)
    peer = _peer(config, plan, rows, seed)
    progress.step("fit peer", 1, 1)
    validated = None
    if network.cross_validation is not None:
        validated = _cross_validate(config, plan, rows, hashes, network.cross_validation, seed, progress, pictures)
    data = training_data(fitted.model, rows)
    learned = learn_profiles(fitted.model, data, rows.batch.group)
    created_at = datetime.now(UTC).replace(microsecond=0)
    found = counts(config.outcomes, rows)
    return Contents(
        name=config.name,
        version=f"{created_at:%Y%m%d.%H%M%S}",
        created_at=created_at.isoformat(),
        seed=seed,
        counts=found,
        config=portable(config),
        plan=plan,
        model=fitted.model,
        card={
            **model_card(config, plan, fitted, found, site, created_at, start),
            "reference_groups": learned.card_entry(),
            "population": population_of(plan, config.outcomes, rows.batch, rows.cause, rows.duration_days),
            **({PRETRAINING: start.card} if start.card else {}),
            "image_weights": {name: {**one.to_json(), "said": one.sentence} for name, one in loaded.items()},
            CARD_KEY: learn_drift_reference(plan, rows.batch).to_json(),
            # Cross-fitted: every row stopped or calibrated some member.
            "numeric_paths": numeric_paths(fitted.model, data.inputs, image_encoders),
        },
        profiles=learned.profiles,
        peer=peer,
        out_of_fold=_out_of_fold(fitted, rows, layout, plan, hashes),
        cross_validation=validated,
        salt=salt,
        trained_on=np.unique(hashes),
        scope=learn_scope(fitted.model, data, rows, learned.profiles.everyone, seed),
        ranges=learn_ranges(plan, rows.batch),
    )


def _peer(config: ModelConfig, plan: FeaturePlan, rows: Rows, seed: int) -> Peer:
    return fit_peer(
        rows.batch, plan, rows.duration_days, rows.cause, config.outcomes, seed, config.network, rows.together
    )


def _cross_validate(
    config: ModelConfig,
    plan: FeaturePlan,
    rows: Rows,
    hashes: np.ndarray[Any, np.dtype[np.int64]],
    settings: CrossValidation,
    seed: int,
    progress: Progress,
    pictures: Mapping[str, Pictures],
) -> Predictions:
    """The whole fit, pre-training, members, calibration and peer, inside each training part; risks of the part left
    out."""
    parts: list[Predictions] = []
    total, done = settings.folds * settings.repeats, 0
    progress.step("cross-validation (fits)", 0, total)
    for repeat in range(settings.repeats):
        own_seed = seed * 7919 + repeat + 1
        fold = stratified_folds(rows.together, rows.labels(), settings.folds, own_seed)
        for left_out in range(settings.folds):
            inner, outer = np.flatnonzero(fold != left_out), np.flatnonzero(fold == left_out)
            some = rows.take(inner)
            layout = learn_layout(config.outcomes, some, config.network.intervals)
            start = Start()
            if pictures:
                left = rows.together[outer]
                others = {name: mine.without(left) for name, mine in pictures.items()}
                start = choose_start(config.network, plan, layout, some, others, own_seed, progress)
            # Every epoch of an inner fit is a chance for Ctrl-C to be heard, and shows that work goes on.
            fitted = fit_members(
                config.network,
                plan,
                layout,
                some,
                own_seed,
                lambda over, done=done: progress.step("cross-validation (fits)", done, total),  # type: ignore[misc]
                start.states,
            )
            tested = rows.take(outer)
            peer = _peer(config, plan, some, own_seed)
            kept = _table(tested, layout, plan, hashes[outer], outer)
            parts.append(
                Predictions(
                    **kept,
                    repeat=np.full(len(outer), repeat, np.int64),
                    fold=np.full(len(outer), left_out, np.int64),
                    risk=fitted.model.predict(tested.batch).risk,
                    peer_risk=peer.predict(tested.batch),
                )
            )
            done += 1
            progress.step("cross-validation (fits)", done, total)
    return joined(parts)


def _out_of_fold(
    fitted: Fitted, rows: Rows, layout: Layout, plan: FeaturePlan, hashes: np.ndarray[Any, np.dtype[np.int64]]
) -> Predictions:
    return Predictions(
        **_table(rows, layout, plan, hashes, np.arange(len(rows))),
        repeat=np.zeros(len(rows), np.int64),
        fold=fitted.fold,
        risk=fitted.out_of_fold,
        peer_risk=np.full_like(fitted.out_of_fold, _NO_PEER),
    )


def _table(
    rows: Rows,
    layout: Layout,
    plan: FeaturePlan,
    hashes: np.ndarray[Any, np.dtype[np.int64]],
    position: np.ndarray[Any, np.dtype[np.int64]],
) -> dict[str, Any]:
    return {
        "row": position.astype(np.int64),
        "subject": hashes,
        "cause": np.stack([rows.cause[group.name] for group in layout.groups], axis=1),
        "duration_days": np.stack([rows.duration_days[group.name] for group in layout.groups], axis=1),
        "present": np.stack([rows.batch.present[name] for name in plan.modalities], axis=1),
    }


def model_card(
    config: ModelConfig,
    plan: FeaturePlan,
    fitted: Fitted,
    found: dict[str, Any],
    site: str,
    created_at: datetime,
    start: Start,
) -> dict[str, Any]:
    """What the model is, what it was trained on, what it is for and where it ends; kept in the bundle and in `runs`."""
    return {
        "name": config.name,
        "created_at": created_at.isoformat(),
        "riskpred_version": __version__,
        "outcomes": {name: outcome.display for name, outcome in config.outcomes.outcomes.items()},
        **card_words(config.words, plan),
        "targets": [list(target) for target in fitted.model.targets],
        "modalities": {
            name: type(part).__name__.removesuffix("Plan").lower() for name, part in plan.modalities.items()
        },
        "trained_on": {"site": site, **found},
        "method": (
            "Cause-specific piecewise exponential rates: a ridge spline base, boosted trees, and TabM, LSTM and CNN "
            f"residuals that start at zero and a joint term; {config.network.members} cross-fitted members; shares of "
            "spline, trees and residuals, and calibration by which modalities are there, from out-of-fold predictions; "
            "risk is the mean of the members' cumulative incidences, death competing."
            + (f" {start.card['said']}" if start.card else "")
        ),
        "intended_use": "To inform people who know the patient. It does not diagnose.",
        "before_use": (
            "Judged on this site's data only: run `riskpred evaluate` on held-out subjects before use, and again "
            "where patients or practice differ."
        ),
        # With these, whoever holds the scores alone can later tell what came true: `monitor` does.
        DEFINITIONS: config.outcomes.model_dump(mode="json"),
        "limits": [
            "Risks are associations in the training data; a reason is what the model read, not a cause.",
            "An interval says how far the risk moves when a part of the people is left out, not all that is unknown.",
            "A missing modality counts as an absent term, not as a normal finding.",
        ],
        "machine": platform.machine(),
    }
