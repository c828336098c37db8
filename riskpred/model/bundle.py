"""What `fit` leaves and every other verb reads: model, configuration, reference profiles, predictions, model card."""

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from riskpred.config.study import ModelConfig
from riskpred.errors import BundleError
from riskpred.features.look import Finder
from riskpred.features.plan import FeaturePlan
from riskpred.imaging.segment import SETTINGS, WEIGHTS, Segmenter
from riskpred.model.layout import Layout
from riskpred.model.likeness_loop import ranks
from riskpred.model.manifest import MANIFEST, dump_json, new_folder, seal, sha256, verify
from riskpred.model.network import Sent
from riskpred.model.paths import FP32, Evaluator, evaluator
from riskpred.model.peer import Peer
from riskpred.model.predictions import Predictions
from riskpred.model.profiles import Profiles
from riskpred.model.ranges import Ranges
from riskpred.model.risk import RiskModel
from riskpred.model.scope import Measured, Scope

_CELLS: Final = 4096
"""Equal parts of 0 to 1 in which a risk's rank is looked for."""

DEFINITIONS: Final = "outcome_definitions"
"""Entry of the card with the whole of outcomes.yaml: a scores file keeps the card, and outlives the bundle."""

FILES: Final = frozenset(
    [f"{part}.json" for part in ("config", "plan", "layout", "card", "calibration", "peer", "ranges")]
    + [f"{part}.safetensors" for part in ("weights", "reference", "predictions", "subjects", "peer", "scope")]
)
"""Every file of a bundle, beside manifest.json and those of its stages of segmentation."""

OF_A_STAGE: Final = re.compile(r"segmenter-[A-Za-z0-9_]+\.(safetensors|json)")
"""Names of the files of a stage."""


@dataclass(frozen=True)
class Contents:
    """All that a bundle holds, and `write_bundle` writes.

    profiles: where explanations start, of each group by sex and age band.
    counts: rows, subjects and events in training, as in manifest.json.
    ranges: between which values measurements lay in training.
    segmenters: of each stage of the config's imaging.
    """

    name: str
    version: str
    created_at: str
    seed: int
    counts: dict[str, Any]
    config: ModelConfig
    plan: FeaturePlan
    model: RiskModel
    card: dict[str, Any]
    profiles: Profiles
    peer: Peer
    out_of_fold: Predictions
    cross_validation: Predictions | None
    salt: bytes
    trained_on: NDArray[np.int64]
    scope: Scope
    ranges: Ranges = field(default_factory=Ranges, kw_only=True)
    segmenters: Mapping[str, Segmenter] = field(default_factory=dict, kw_only=True)

    @property
    def reference(self) -> Sent:
        """Everyone's reference, (R, 1, G) and (R, 1, D): what scope flags measure from, whoever a row belongs to."""
        return self.profiles.everyone


@dataclass(frozen=True)
class Bundle(Contents):
    """A fitted model with all that is needed to use and to judge it; made by `load_bundle` and `fit`.

    sha256: of manifest.json, which names every other file's.
    """

    path: Path
    sha256: str

    @cached_property
    def _sorted_risks(self) -> list[NDArray[np.float64]]:
        per_group = [self.out_of_fold.one_per_subject(g) for g in range(len(self.model.layout.groups))]
        return [
            np.sort(self.out_of_fold.risk[per_group[group], q])
            for q, (group, _, _) in enumerate(self.model.layout.where)
        ]

    @cached_property
    def finder(self) -> Finder | None:
        """Who finds what images show, and remembers it; None where the study has no stage of imaging.yaml."""
        return Finder(self.config.imaging, self.segmenters) if self.config.imaging.stages else None

    @cached_property
    def _evaluators(self) -> dict[str, Evaluator]:
        return {}

    def evaluator(self, path: str = FP32) -> Evaluator:
        """Encoders of the model on one numeric path; made once: a bundle's weights do not change."""
        if path not in self._evaluators:
            self._evaluators[path] = evaluator(self.model, path)
        return self._evaluators[path]

    def percentile(self, risk: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the out-of-fold risks of that target, one per subject, that lie below. Shape: (B, Q) -> (B, Q)."""
        shares = np.empty(risk.shape[::-1])
        for q, (known, begin) in enumerate(zip(self._sorted_risks, self._where_risks_lie, strict=True)):
            ranks(known, begin, np.ascontiguousarray(risk[:, q]), shares[q])
        return shares.T

    @cached_property
    def _where_risks_lie(self) -> list[NDArray[np.int64]]:
        edges = np.linspace(0.0, 1.0, _CELLS + 1)
        return [np.searchsorted(known, edges, side="left").astype(np.int64) for known in self._sorted_risks]

    def seen_in_training(self, site: str, subject_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each subject of that site trained this bundle. Shape: (B,)."""
        hashes = subject_hashes(self.salt, site, subject_ids)
        if not len(self.trained_on):
            return np.zeros(len(hashes), dtype=np.bool_)
        # Sorted by whoever wrote the bundle: no sorting again for each chunk.
        place = np.searchsorted(self._trained_on, hashes).clip(max=len(self._trained_on) - 1)
        seen: NDArray[np.bool_] = self._trained_on[place] == hashes
        return seen

    @cached_property
    def _trained_on(self) -> NDArray[np.int64]:
        return np.sort(self.trained_on)

    def scope_flags(
        self, site: str, subject_ids: NDArray[np.int64], measured: Measured, age_years: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Which of `scope.FLAGS` hold for each risk of B rows. Shape: (B, Q, flags)."""
        return self.scope.flags(measured, age_years, self.seen_in_training(site, subject_ids))


def subject_hashes(salt: bytes, site: str, subject_ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """First 8 bytes of SHA-256(salt, site, subject_id). Shape: (B,)."""
    start = hashlib.sha256(salt + site.encode() + b"\0")

    def one(subject: int) -> bytes:
        digest = start.copy()
        digest.update(str(int(subject)).encode())
        return digest.digest()[:8]

    return np.frombuffer(b"".join(one(subject) for subject in subject_ids), dtype="<i8").astype(np.int64)


def write_bundle(target: Path, contents: Contents) -> None:
    """Write a bundle's folder; a bundle that is there already is replaced, and only by a whole one.

    Raises: OutputError, when the place cannot be written or holds something else.
    """
    with new_folder(target) as folder:
        dump_json(folder / "config.json", contents.config.model_dump(mode="json"))
        dump_json(folder / "plan.json", contents.plan.to_json())
        dump_json(folder / "layout.json", contents.model.layout.to_json())
        dump_json(folder / "card.json", contents.card)
        dump_json(folder / "ranges.json", contents.ranges.to_json())
        dump_json(folder / "calibration.json", _calibration_json(contents.model))
        save_file(_whole(contents.model.state_dict()), folder / "weights.safetensors")
        profiles = contents.profiles
        save_file(_whole(profiles.tensors()), folder / "reference.safetensors", profiles.metadata())
        kept = contents.out_of_fold.state("out_of_fold")
        if contents.cross_validation is not None:
            kept |= contents.cross_validation.state("cross_validation")
        save_file(_whole(kept), folder / "predictions.safetensors")
        salt = torch.frombuffer(bytearray(contents.salt), dtype=torch.uint8)
        trained_on = torch.from_numpy(np.sort(contents.trained_on))
        save_file({"salt": salt, "trained_on": trained_on}, folder / "subjects.safetensors")
        save_file(_whole(contents.scope.state()), folder / "scope.safetensors")
        tensors, description = contents.peer.state()
        save_file(_whole(tensors), folder / "peer.safetensors")
        dump_json(folder / "peer.json", description)
        for name, segmenter in contents.segmenters.items():
            _write_segmenter(folder, name, segmenter)
        about = {"name": contents.name, "version": contents.version, "created_at": contents.created_at}
        seal(folder, {**about, "seed": contents.seed, "counts": contents.counts, "riskpred_version": _release()})


def load_bundle(path: Path) -> Bundle:
    """Read a bundle, once every byte is the one that was written.

    Raises: BundleError: not there; a changed, missing or added file (named); another format or other schemas.
    """
    manifest = verify(path, FILES, OF_A_STAGE)
    config = ModelConfig.model_validate_json(_text(path, "config.json"))
    wanted = {name for stage in config.imaging.segmentation for name in _stage_files(stage)}
    if lacking := sorted(wanted ^ (set(manifest["files"]) - FILES)):
        raise BundleError(
            f"{path / lacking[0]}: the bundle's stages of segmentation and their files differ.",
            wanted=f"{len(wanted)} files of {len(config.imaging.segmentation)} stages",
            do="copy the bundle again, or fit again",
        )
    plan = FeaturePlan.from_json(json.loads(_text(path, "plan.json")))
    layout = Layout.from_json(json.loads(_text(path, "layout.json")))
    model = RiskModel(config.network, plan, layout)
    try:
        model.load_state_dict(load_file(path / "weights.safetensors"))
    except RuntimeError as error:
        raise BundleError(
            f"{path / 'weights.safetensors'}: its tensors are not those of this release's network.",
            got=type(error).__name__,
            do="fit again with this release, or use the release that fitted it",
        ) from None
    model.eval().requires_grad_(False)
    kept, seen = (load_file(path / f"{part}.safetensors") for part in ("predictions", "subjects"))
    return Bundle(
        path=path,
        sha256=sha256(path / MANIFEST),
        name=manifest["name"],
        version=manifest["version"],
        created_at=manifest["created_at"],
        seed=manifest["seed"],
        counts=manifest["counts"],
        config=config,
        plan=plan,
        model=model,
        card=json.loads(_text(path, "card.json")),
        profiles=Profiles.load(path / "reference.safetensors", tuple(plan.modalities)),
        peer=Peer.from_state(load_file(path / "peer.safetensors"), json.loads(_text(path, "peer.json")), plan, layout),
        out_of_fold=Predictions.from_state(kept, "out_of_fold"),
        cross_validation=(Predictions.from_state(kept, "cross_validation") if "cross_validation.row" in kept else None),
        salt=seen["salt"].numpy().tobytes(),
        trained_on=seen["trained_on"].numpy(),
        scope=Scope.from_state(load_file(path / "scope.safetensors")),
        ranges=Ranges.from_json(json.loads(_text(path, "ranges.json"))),
        segmenters={name: _read_segmenter(path, name) for name in config.imaging.segmentation},
    )


def _stage_files(stage: str) -> tuple[str, str]:
    return f"segmenter-{stage}.safetensors", f"segmenter-{stage}.json"


def _write_segmenter(folder: Path, stage: str, segmenter: Segmenter) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as apart:
        segmenter.save(Path(apart))
        for written, name in zip((WEIGHTS, SETTINGS), _stage_files(stage), strict=True):
            (Path(apart) / written).rename(folder / name)


def _read_segmenter(folder: Path, stage: str) -> Segmenter:
    """The segmenter of a stage: its two files, by the names that it gives them, in a folder of their own."""
    with tempfile.TemporaryDirectory() as apart:
        for written, name in zip((WEIGHTS, SETTINGS), _stage_files(stage), strict=True):
            (Path(apart) / written).symlink_to((folder / name).absolute())
        return Segmenter.load(Path(apart))


def _text(path: Path, name: str) -> str:
    return (path / name).read_text(encoding="utf-8")


def _whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}


def _calibration_json(model: RiskModel) -> dict[str, Any]:
    """The maps in words, for people; the weights file is what is used. Patterns with one map are named together."""
    found: dict[str, Any] = {}
    for group, calibration in zip(model.layout.groups, model.calibrations, strict=True):
        state = calibration.state_dict()
        counts = group.time_basis.any(dim=1)
        found[group.name] = {}
        for j, cause in enumerate(group.causes):
            maps: list[dict[str, Any]] = []
            for pattern in range(1, len(state["intercept"])):
                line = {
                    "a": state["intercept"][pattern, j, counts].tolist(),
                    "b": state["log_slope"][pattern, j, counts].exp().tolist(),
                    "bend": float(state["bend"][pattern, j]),
                    "knot": float(state["knot"][j]),
                    "width": float(state["width"][j]),
                }
                there = "+".join(name for m, name in enumerate(model.modalities) if pattern >> m & 1)
                same = next((entry for entry in maps if {k: entry[k] for k in line} == line), None)
                if same is None:
                    maps.append({**line, "with": [there]})
                else:
                    same["with"].append(there)
            found[group.name][cause] = maps
    return found


def _release() -> str:
    from riskpred import __version__

    return __version__
