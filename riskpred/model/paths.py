"""Numeric paths: which arithmetic the encoders run in, why, and how far its risks lie from those of fp32.

fp32 is exact to rounding and always permitted. Any other path must have been measured at `fit` on the rows of the
fit: the bundle's card says so, and which encoders ran in what. A night uses no path that moved a risk by more than
`MOST_DIFFERENCE`, and none whose encoders do not run here as they were measured.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from torch import Tensor

from riskpred.errors import BundleError
from riskpred.model.attention import age_terms, pooled
from riskpred.model.device import cuda, cuda_name, exact
from riskpred.model.fusion import Fusion
from riskpred.model.image import ImageEncoder
from riskpred.model.network import Sent, SentOne
from riskpred.model.series import SeriesEncoder
from riskpred.model.stacked_series import StackedSeries
from riskpred.model.stacked_tabular import StackedTabular
from riskpred.model.tabular import TabularEncoder
from riskpred.model.tensors import ImageTensors, ModalityTensors, image_moments

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle
    from riskpred.model.risk import RiskModel

FP32: Final = "fp32"
BF16: Final = "bf16"
PATHS: Final = (FP32, BF16)
"""Paths that `evaluator` can build, the exact one first."""
AUTO: Final = "auto"
MOST_DIFFERENCE: Final = 0.001
"""Largest difference of any risk to fp32 on a path that is permitted."""

_IMAGES_AT_ONCE = 64
_ROWS_AT_ONCE = 2048

Encoders: TypeAlias = Callable[[Any], tuple[Tensor, Tensor]]
"""All members' encoders of a modality: tensors of rows that have it -> coefficients (R, B, G), embedding (R, B, D)."""
PictureEncoders: TypeAlias = Callable[[Tensor], Tensor]
"""All members' encoders of T pictures, each alone: pixels (T, C, H, W) -> coefficients, embedding and attention logit
(R, T, V), float64."""
MakeImageEncoders: TypeAlias = Callable[["RiskModel", str, str], tuple[PictureEncoders, str, str]]
"""(model, modality, path) -> encoders of that image modality, in what they run (of PATHS), and a sentence on it."""
ImagePath: TypeAlias = Callable[["RiskModel", str, str], tuple[str, str]]
"""(model, modality, path) -> in what the encoders of that image modality run here, and " (why not in path)" or ""."""


@dataclass(frozen=True)
class Evaluator:
    """Encodes rows for all members at once, without a gradient.

    paths: in what each modality's encoders run.
    why: one sentence per modality on what its encoders run on, and why on nothing faster.
    pictures: the encoders of image modalities; age_weights: what ages weigh for each member there, (R, AGE_TERMS).
    sizes: R, G, D.
    """

    path: str
    paths: Mapping[str, str]
    why: tuple[str, ...]
    encoders: Mapping[str, Encoders]
    pictures: Mapping[str, PictureEncoders]
    age_weights: Mapping[str, Tensor]
    sizes: tuple[int, int, int]

    def encode(self, inputs: Mapping[str, ModalityTensors]) -> Sent:
        """As `RiskModel.encode`: (R, B, G) and (R, B, D), 0 where a row lacks the modality."""
        with torch.no_grad():
            return {
                name: self._images(name, given)
                if isinstance(given, ImageTensors)
                else self._one(self.encoders[name], given)
                for name, given in inputs.items()
            }

    def said(self, name: str, given: ImageTensors) -> ImageTensors:
        """The same rows with what the encoders say of each picture in the place of its pixels."""
        if given.sent is not None:
            return given
        with torch.no_grad():
            sent = self.pictures[name](given.values).transpose(0, 1)
        return replace(given, values=given.values[:0], sent=sent, known_moments=image_moments(given.values))

    def _images(self, name: str, given: ImageTensors) -> SentOne:
        said = self.pictures[name](given.values) if given.sent is None else given.sent.double().transpose(0, 1)
        whole = pooled(said, given.start, age_terms(given.start, given.age_days), self.age_weights[name])
        return SentOne(whole[:, :, : self.sizes[1]], whole[:, :, self.sizes[1] :])

    def _one(self, encoders: Encoders, given: ModalityTensors) -> SentOne:
        here, rows = given.present.nonzero()[:, 0], len(given.present)
        if rows and len(here) == rows:
            return SentOne(*encoders(given))
        members, *wide = self.sizes
        # Rows innermost, as fusion reads them.
        empty = [torch.zeros(members, size, rows, dtype=torch.float64) for size in wide]
        if len(here):
            for whole, part in zip(empty, encoders(given.take(here)), strict=True):
                whole.index_copy_(2, here, part.mT)
        return SentOne(*(whole.mT for whole in empty))


def evaluator(model: "RiskModel", path: str = FP32, images: MakeImageEncoders | None = None) -> Evaluator:
    """The fastest encoders of a model on one path, with the weights it has now.

    Where there is a CUDA device it takes the products: TabM, series and images; spline terms and trees stay with the
    processor. Else tabular and series encoders run stacked and compiled. Images are encoded by `images`, else by torch.
    """
    assert path in PATHS, path
    card = cuda()
    made: dict[str, Encoders] = {}
    pictures: dict[str, PictureEncoders] = {}
    age_weights: dict[str, Tensor] = {}
    paths: dict[str, str] = {}
    why: list[str] = []
    for name in model.modalities:
        each = [model.member(r).encoders[name] for r in range(model.members)]
        tabular = [one for one in each if isinstance(one, TabularEncoder)]
        series = [one for one in each if isinstance(one, SeriesEncoder)]
        films = [one for one in each if isinstance(one, ImageEncoder)]
        if films:
            age_weights[name] = torch.stack([one.age_weight.detach() for one in films])
        paths[name] = FP32 if series else path
        if tabular:
            made[name] = StackedTabular.of(tabular, torch.bfloat16 if path == BF16 else torch.float32, card)
            said = (
                "all members at once, TabM's products in bf16, which saves little beside fp32"
                if path == BF16
                else "all members at once, in fp32: bf16 products of TabM would save a tenth of the forward pass"
            )
            if card is not None:
                said = f"all members at once, TabM on CUDA ({cuda_name(card)}), {path}"
        elif series and card is None:
            made[name] = StackedSeries.of(series)
            said = (
                "all members at once, rows by length, in fp32: gates take longer than products, so bf16 gains nothing"
            )
        elif series:
            assert card is not None
            made[name], said = (
                _on_device(each, card, _ROWS_AT_ONCE),
                f"by torch on CUDA ({cuda_name(card)}), in fp32: products are too small for bf16",
            )
        elif images is not None:
            pictures[name], paths[name], said = images(model, name, path)
        else:
            pictures[name], said = _images(films, path)
        why.append(f"{name}: {said}.")
    return Evaluator(
        path,
        paths,
        tuple(why),
        made,
        pictures,
        age_weights,
        (model.members, model.layout.coefficients, model.member(0).embedding),
    )


def encoder_paths(model: "RiskModel", path: str, images: ImagePath) -> dict[str, tuple[str, str]]:
    """In what each modality's encoders run here on a path, and " (why not in path)" or "", without making them."""
    found = {}
    for name, one in model.member(0).encoders.items():
        if isinstance(one, ImageEncoder):
            found[name] = images(model, name, path)
        else:
            found[name] = (path, "") if isinstance(one, TabularEncoder) else (FP32, "")
    return found


def agreement(model: "RiskModel", inputs: Mapping[str, ModalityTensors], other: Evaluator) -> float:
    """Largest absolute difference of any row's risk (mean over members, 0 to 1) by these encoders to that on fp32."""
    exact, fusion, farthest = evaluator(model), Fusion.of(model), 0.0
    rows_in_all = len(next(iter(inputs.values())).present)
    for rows in torch.split(torch.arange(rows_in_all), _ROWS_AT_ONCE):
        some = {name: given.take(rows) for name, given in inputs.items()}
        present = {name: given.present for name, given in some.items()}
        one, two = (fusion.member_risks(each.encode(some), present).mean(axis=0) for each in (exact, other))
        farthest = max(farthest, float(abs(one - two).max(initial=0.0)))
    return farthest


def numeric_paths(
    model: "RiskModel", inputs: Mapping[str, ModalityTensors], images: MakeImageEncoders | None = None
) -> dict[str, dict[str, Any]]:
    """For the card: per path other than fp32 the largest difference over these rows, and whether it may be used.

    encoders: in what each modality's ran as this was measured; on a processor without bf16, say, images in fp32.
    """
    found = {}
    for path in PATHS[1:]:
        other = evaluator(model, path, images)
        largest = agreement(model, inputs, other)
        found[path] = {
            "encoders": dict(other.paths),
            "largest_difference": largest,
            "rows": len(next(iter(inputs.values())).present),
            "permitted": largest <= MOST_DIFFERENCE,
        }
    return found


@dataclass(frozen=True)
class Chosen:
    """The path that a night takes. said: what an operator should know of it, a sentence; "" = nothing."""

    path: str
    said: str = ""


def chosen_path(bundle: "Bundle", wanted: str, images: ImagePath) -> Chosen:
    """The path that a night with this bundle takes on this machine: all encoders run in it as `fit` measured, or fp32.

    auto: bf16 where it speeds up the encoders of images, and the card permits it; else fp32: on tables and series bf16
    saves about a tenth, too little to leave the exact path for. It is taken where it is asked for.

    Args: images: in what their encoders run here.
    Raises: BundleError, when a path is asked for that the card does not permit.
    """
    if wanted == FP32:
        return Chosen(FP32)
    measured = bundle.card.get("numeric_paths", {}).get(BF16 if wanted == AUTO else wanted)
    if wanted not in (AUTO, *PATHS):
        raise _refused(bundle, wanted, measured)
    here = encoder_paths(bundle.model, BF16, images)
    reduced = [name for name, (path, _) in here.items() if path == BF16]
    pictures = [name for name in reduced if isinstance(bundle.model.member(0).encoders[name], ImageEncoder)]
    if wanted == AUTO and not pictures:
        return Chosen(FP32)
    known = {} if measured is None else measured.get("encoders", {})
    unmeasured = [name for name in reduced if known.get(name) != BF16]
    if measured is None or not measured["permitted"] or unmeasured:
        refused = _refused(bundle, BF16, measured, unmeasured)
        if wanted != AUTO:
            raise refused
        return Chosen(FP32, f"images are encoded in fp32, the slower path: of bf16 the bundle's card has {refused.got}")
    if lacking := [name for name, path in known.items() if path == BF16 and name not in reduced]:
        slower = ", ".join(f"{name} runs in fp32 here{here[name][1]}" for name in lacking)
        return Chosen(FP32, f"numeric path fp32, not bf16: {slower}, other than as `fit` measured it")
    if not reduced:
        why = ", ".join(f"{name}{said}" for name, (_, said) in here.items())
        return Chosen(
            FP32, f"numeric path fp32, though bf16 was asked for: none of the bundle's encoders has it ({why})"
        )
    others = "".join(f", {name} in fp32{why}" for name, (path, why) in here.items() if path != BF16)
    return Chosen(
        BF16,
        f"numeric path bf16: {' and '.join(reduced)} in bf16{others}, as `fit` measured: "
        f"{measured['largest_difference']:.5f} at most from a risk in fp32, in {measured['rows']:,} rows",
    )


def _refused(
    bundle: "Bundle", path: str, measured: Mapping[str, Any] | None, unmeasured: Sequence[str] = ()
) -> BundleError:
    if measured is None:
        got = "no such measurement"
    elif unmeasured:
        got = f"a measurement with {' and '.join(unmeasured)} in fp32, or one that does not say in what"
    else:
        got = f"a largest difference of {measured['largest_difference']:.4f} in {measured['rows']:,} rows"
    return BundleError(
        f"{bundle.path}: the numeric path {path} is not permitted.",
        wanted=f"a path whose risks `fit` found within {MOST_DIFFERENCE} of fp32 (card.json, numeric_paths)",
        got=got,
        do="use numeric_path auto or fp32, or fit again with this release, on a machine that has the path",
    )


def _images(each: Sequence[ImageEncoder], path: str) -> tuple[PictureEncoders, str]:
    """Image encoders by torch, as they are; in bf16 under autocast."""
    if (card := cuda()) is not None:
        return _pictures_on(each, card, path == BF16), f"by torch on CUDA ({cuda_name(card)}), {path}"
    return _pictures_on(each, torch.device("cpu"), path == BF16), f"by torch, {path}"


def _pictures_on(each: Sequence[ImageEncoder], device: torch.device, reduced: bool) -> PictureEncoders:
    there = [deepcopy(one).to(device) if device.type != "cpu" else one for one in each]

    def encoded(values: Tensor) -> Tensor:
        parts = [torch.zeros(len(there), 0, there[0].wide, dtype=torch.float64)]
        for some in torch.split(values, _IMAGES_AT_ONCE) if len(values) else ():
            with torch.autocast(device.type, torch.bfloat16, enabled=reduced), exact(False):
                parts.append(torch.stack([one.said(some.to(device)).cpu().double() for one in there]))
        return torch.cat(parts, dim=1)

    return encoded


def _on_device(each: Sequence[torch.nn.Module], device: torch.device, at_once: int) -> Encoders:
    """Members' own encoders, one after the other, on a device; what they say comes back to the processor."""
    there = [deepcopy(one).to(device) for one in each]

    def encoded(given: ModalityTensors) -> tuple[Tensor, Tensor]:
        parts = []
        for rows in torch.split(torch.arange(len(given.present)), at_once):
            some = _moved(given.take(rows), device)
            with exact(recurrent=True):
                said = [one(some) for one in there]
            parts.append([tuple(part.cpu().double() for part in one) for one in said])
        return tuple(  # type: ignore[return-value]
            torch.stack([torch.cat([part[r][i] for part in parts]) for r in range(len(there))]) for i in range(2)
        )

    return encoded


def _moved(given: ModalityTensors, device: torch.device) -> ModalityTensors:
    tensors = {one.name: getattr(given, one.name) for one in fields(given)}
    moved: dict[str, Any] = {name: part if part is None else part.to(device) for name, part in tensors.items()}
    return type(given)(**moved)
