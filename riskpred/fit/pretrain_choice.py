"""Whether pre-training helps: the same small fit with and without it on inner folds; the better of the two is taken.

Who judges a fold has shown it nothing: neither outcome nor picture. So a network is pre-trained once for each fold, and
once more, on everyone's pictures, where it helps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file

from riskpred.config.network import ImageEncoder, NetworkConfig, Pretraining
from riskpred.config.study import ModelConfig
from riskpred.errors import ConfigError, InputError, OutputError, UsageError
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.fit.data import Rows, stratified_folds
from riskpred.fit.members import stopping_rows, training_data
from riskpred.fit.pictures import Pictures
from riskpred.fit.pretrain import State, pretrain
from riskpred.fit.train import Starts, TrainingData, member_log_rates, row_losses, train_member
from riskpred.model.layout import Layout
from riskpred.model.risk import RiskModel
from riskpred.model.threads import one_thread
from riskpred.progress import Progress

CARD_KEY: Final = "pretraining"
"""Entry of the card: with, without (mean minus log-likelihood of a row, out of fold), se (of their difference, over
people), taken, rows, folds, epochs, images and left_out (reason -> number) by modality, said."""

_STAGE: Final = "pre-train (epochs)"


@dataclass(frozen=True)
class Start:
    """states: modality -> weights that every member's backbone starts from; {} where pre-training does not help.

    made: the same whether taken or not, for whoever wants the file.   card: the card's entry, {} without pre-training.
    """

    states: Starts = field(default_factory=dict)
    made: Starts = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)


def choose_start(
    config: NetworkConfig,
    plan: FeaturePlan,
    layout: Layout,
    rows: Rows,
    pictures: Mapping[str, Pictures],
    seed: int,
    progress: Progress,
    make: bool = False,
) -> Start:
    """Pre-trains, compares, and says what members start from.

    Args:
        pictures: by image modality.   make: pre-train on all pictures even where it does not help.

    Raises: ConfigError (no image modality, diverged), InputError (too few pictures).
    """
    how = config.pretrain
    assert how is not None, "asked for"
    _refuse_nothing(pictures)
    count = _Counted(progress, how.folds * len(pictures) * how.epochs)
    with one_thread():
        data = training_data(RiskModel(config, plan, layout), rows)
        fold = stratified_folds(data.together, data.strata, how.folds, seed)
        arms = np.zeros((2, len(data.together)))
        for f in range(how.folds):
            judged = np.flatnonzero(fold == f)
            inner = {name: some.without(data.together[judged]) for name, some in pictures.items()}
            start = _pretrained(config, plan, inner, how, seed * 31 + f + 1, count)
            for arm, states in enumerate((start, {})):
                arms[arm, judged] = _out_of_fold(config, plan, layout, data, fold == f, states, seed * 31 + f + 1)
                progress.step("compare with and without (fits)", 2 * f + arm + 1, 2 * how.folds)
        card = _card(how, arms[0], arms[1], data.together, pictures)
        if not (card["taken"] or make):
            return Start(card=card)
        again = _Counted(progress, len(pictures) * how.epochs, f"{_STAGE}, everyone's pictures")
        made = _pretrained(config, plan, pictures, how, seed, again)
    return Start(made if card["taken"] else {}, made, card)


def better(with_it: NDArray[np.float64], without: NDArray[np.float64]) -> bool:
    """Whether the first losses are the lower ones on average; a tie goes to the simpler fit. Shape: (N,) each."""
    return bool(with_it.mean() < without.mean())


class _Counted:
    """Epochs of several pre-trainings as one progress."""

    def __init__(self, progress: Progress, total: int, stage: str = _STAGE) -> None:
        self.progress, self.total, self.stage, self.done = progress, total, stage, 0

    def __call__(self) -> None:
        self.done += 1
        self.progress.step(self.stage, self.done, self.total)


def _pretrained(
    config: NetworkConfig,
    plan: FeaturePlan,
    pictures: Mapping[str, Pictures],
    how: Pretraining,
    seed: int,
    on_epoch: _Counted,
) -> dict[str, State]:
    _refuse_nothing(pictures)
    found = {}
    for name, some in pictures.items():
        settings, part = config.encoders.get(name, ImageEncoder()), plan.modalities[name]
        assert isinstance(settings, ImageEncoder)
        assert isinstance(part, ImagePlan)
        found[name] = pretrain(settings, part, some, how, seed, on_epoch).state
    return found


def _out_of_fold(
    config: NetworkConfig,
    plan: FeaturePlan,
    layout: Layout,
    data: TrainingData,
    judged: NDArray[np.bool_],
    states: Starts,
    seed: int,
) -> NDArray[np.float64]:
    """Minus log-likelihood of the judged rows by one member that saw neither them nor their people."""
    others = data.take(np.flatnonzero(~judged))
    stops = stopping_rows(others, config.training.stopping_share, seed)
    member, _ = train_member(config, plan, layout, others, stops, seed, lambda: None, states)
    left_out = data.take(np.flatnonzero(judged)).up_to(layout)
    losses: NDArray[np.float64] = row_losses(member_log_rates(member, left_out), left_out.labels).numpy()
    return losses


def _card(
    how: Pretraining,
    with_it: NDArray[np.float64],
    without: NDArray[np.float64],
    together: NDArray[np.int64],
    pictures: Mapping[str, Pictures],
) -> dict[str, Any]:
    people, place = np.unique(together, return_inverse=True)
    each = np.bincount(place, with_it - without)
    # Rows of one person go up and down together: the spread is that of people's sums.
    se = float(np.sqrt(len(people)) * each.std() / len(with_it))
    taken = better(with_it, without)
    images = {name: len(some) for name, some in pictures.items()}
    said = (
        f"Pre-training on {sum(images.values()):,} pictures: out-of-fold log-loss {with_it.mean():.4f} with it, "
        f"{without.mean():.4f} without (SE of the difference {se:.4f}, {how.folds} inner folds); "
        + ("taken." if taken else "not taken.")
    )
    return {
        "with": float(with_it.mean()),
        "without": float(without.mean()),
        "se": se,
        "taken": taken,
        "rows": len(with_it),
        "folds": how.folds,
        "epochs": how.epochs,
        "images": images,
        "left_out": {name: some.left_out for name, some in pictures.items()},
        "said": said,
    }


def asked_for(config: NetworkConfig, asked: bool) -> NetworkConfig:
    """With pre-training where it is asked for: as the study has it, else as usual."""
    if not asked or config.pretrain is not None:
        return config
    return config.model_copy(update={"pretrain": Pretraining()})


def refuse_places(config: ModelConfig, file: Path | None) -> None:
    """Before hours of work. Raises: UsageError (a file, and no pre-training), OutputError (no folder for it)."""
    if file is None:
        return
    if config.network.pretrain is None:
        raise UsageError(
            "--pretrain-weights saves what was pre-trained, and nothing is.",
            wanted="--pretrain, or `pretrain:` in network.yaml",
            got="neither",
            do="add --pretrain",
        )
    if file.suffix != ".safetensors":
        raise UsageError("--pretrain-weights writes .safetensors.", wanted="FILE.safetensors", got=file.name)
    if not file.parent.is_dir():
        raise OutputError(f"{file}: no folder for it.", wanted="a folder that is there", got=f"no {file.parent}")


def save_starts(states: Starts, file: Path) -> None:
    """The weights as `weights: {layout: riskpred}` loads them; of several modalities FILE.<modality>.safetensors."""
    for name, state in states.items():
        place = file if len(states) == 1 else file.with_suffix(f".{name}.safetensors")
        staged = place.with_name(f".{place.name}.new")
        try:
            save_file({key: one.contiguous() for key, one in state.items()}, staged)
            staged.replace(place)
        except OSError as error:
            raise OutputError(f"{place}: cannot be written.", got=type(error).__name__) from error


def _refuse_nothing(pictures: Mapping[str, Pictures]) -> None:
    if not pictures:
        raise ConfigError(
            "Pre-training is for image networks, and the study has none.",
            wanted="a modality of kind image in features.yaml",
            got="no such modality",
            do="leave out --pretrain, or `pretrain:` of network.yaml",
        )
    for name, some in pictures.items():
        if len(some) < 2:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in some.left_out.items())
            raise InputError(
                f"Nothing to pre-train {name} on.",
                wanted="two readable pictures or more of the modality's types in train and tuning, in every inner fold",
                got=f"{len(some)}" + (f"; left out: {reasons}" if reasons else ""),
                do="check the images, or leave out pre-training",
            )
