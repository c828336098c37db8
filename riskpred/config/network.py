"""network.yaml: encoders, fusion and training. Every value has a default that worked on real data."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from riskpred.config.model import Strict


class TabularEncoder(Strict):
    """Ridge spline base (additive), boosted trees, and a zero-initialised TabM residual."""

    kind: Literal["tabular"] = "tabular"
    knots: int = Field(4, ge=3, description="knots of the restricted cubic spline per numeric feature")
    members: int = Field(8, description="TabM's k")
    width: int = 48
    depth: int = 2
    dropout: float = 0.2
    trees: int = Field(600, ge=0, description="most boosting rounds of a cause (early stopping ends sooner); 0 = none")
    residual: bool = Field(True, description="false: TabM adds nothing to the log-rate, for few rows of many columns")


class SeriesEncoder(Strict):
    """LSTM over irregular steps, zero-initialised on the log-rate."""

    kind: Literal["series"] = "series"
    width: int = 32
    dropout: float = 0.2


class ImageWeights(Strict):
    """Weights that an image network starts from: a local file, whose names and shapes the layout tells."""

    file: str = Field(description=".pth (weights alone) or .safetensors; a path, relative to the study's folder")
    layout: Literal["torchvision", "torchxrayvision", "radimagenet", "medicalnet", "riskpred"]


class Augmentation(Strict):
    """How training pictures are changed at random, each by itself; every number is the largest change, 0 = none."""

    flip_left_right: bool = False
    flip_up_down: bool = False
    rotate_degrees: float = Field(0.0, ge=0, le=180)
    scale: float = Field(0.0, ge=0, lt=0.9, description="share by which a picture grows or shrinks")
    shift: float = Field(0.0, ge=0, le=0.5, description="share of the side")
    brightness: float = Field(0.0, ge=0, le=1, description="added, as a share of the scale 0..1")
    contrast: float = Field(0.0, ge=0, lt=1, description="share by which distance from the mean grows or shrinks")
    gamma: float = Field(0.0, ge=0, lt=1, description="share by which the exponent of brightness differs from 1")
    noise: float = Field(0.0, ge=0, le=1, description="SD of added noise")
    speckle: float = Field(0.0, ge=0, le=1, description="SD of noise that multiplies, smooth over 3 pixels")


class ImageEncoder(Strict):
    """CNN that sees one picture at a time, zero-initialised on the log-rate. Beyond `small`: extra `imaging`."""

    kind: Literal["image"] = "image"
    network: Literal["small", "resnet10", "resnet18", "resnet34", "resnet50", "densenet121", "densenet169"] = "small"
    channels: tuple[int, ...] = Field(
        (8, 16, 32, 32), min_length=1, description="of `small`: one halving of sides each"
    )
    dropout: float = 0.2
    stem: Literal["standard", "small"] = Field(
        "standard", description="small: no halving before the first block, for pictures of under 100 pixels a side"
    )
    norm: Literal["group", "frozen"] | None = Field(
        None, description="frozen: statistics of loaded weights; null = frozen with weights of others, else group"
    )
    weights: ImageWeights | None = None
    freeze: int = Field(0, ge=0, description="stages, from the first, that stay as loaded")
    augment: Literal["none", "auto"] | Augmentation = Field(
        "none", description="auto: what is allowed and usual for the image types of the modality"
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of training; bf16 halves its time on AMX and CUDA")

    @property
    def frozen_norm(self) -> bool:
        """Whether norms keep the statistics of loaded weights."""
        if self.norm is not None:
            return self.norm == "frozen"
        return self.weights is not None and self.weights.layout != "riskpred"

    @property
    def shortcut(self) -> Literal["projected", "padded"]:
        """How a ResNet's shortcut gains channels: MedicalNet's 18 and 34 layers have no weights for it."""
        medicalnet = self.weights is not None and self.weights.layout == "medicalnet"
        return "padded" if medicalnet and self.network in ("resnet18", "resnet34") else "projected"

    @model_validator(mode="after")
    def _goes_together(self) -> "ImageEncoder":
        layout = None if self.weights is None else self.weights.layout
        if self.network == "small" and layout not in (None, "riskpred"):
            raise ValueError(f"weights of layout {layout} are of a resnet or a densenet, not of network: small")
        if self.network.startswith("densenet") and layout == "medicalnet":
            raise ValueError("medicalnet has no densenet")
        if self.freeze and layout is None:
            raise ValueError("freeze keeps loaded weights as they are: without weights nothing would learn")
        if self.frozen_norm and layout is None:
            raise ValueError("norm: frozen keeps the statistics of loaded weights: there are none")
        return self


class Training(Strict):
    epochs: int = 25
    patience: int = Field(5, description="epochs without a better stopping loss; epoch 0 (the base alone) may win")
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 3e-2
    modality_dropout: float = Field(0.3, ge=0, lt=1)
    apart: bool = Field(
        False,
        description="each modality learns as if the others were not there, and out-of-fold rows weigh what they add; "
        "for few subjects and modalities that tell much the same; modality_dropout then drops nothing",
    )
    ridge_grid: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    ridge_by_modality: bool = Field(
        False,
        description="a penalty for each tabular modality, chosen with the others': for few people and several "
        "modalities, of which some may be noise; the choice takes 10 to 30 times as long",
    )
    schedule: Literal["constant", "one_cycle"] = Field(
        "constant",
        description="one_cycle: learning_rate is reached after a tenth of the epochs and falls to 0 as a cosine",
    )
    average: float = Field(
        0.0, ge=0, lt=1, description="decay a step of a running mean of weights, which is what is kept; 0 = no mean"
    )
    stopping_share: float = Field(0.15, gt=0, lt=0.5, description="share of a member's subjects kept for stopping")


class Pretraining(Strict):
    """Image networks first learn from pictures alone, labelled or not (VICReg); kept only where that is shown to help.

    Written in network.yaml it is done at every fit; `fit --pretrain` does it for a study that does not write it.
    """

    epochs: int = Field(30, ge=1)
    batch_size: int = Field(64, ge=2, description="pictures at a time; each is seen twice, changed differently")
    learning_rate: float = Field(1e-3, gt=0, description="reached after a tenth of the steps, then falling to 0")
    projection: int = Field(128, ge=2, description="width in which two views of a picture are compared; then discarded")
    augment: Literal["auto"] | Augmentation = Field(
        "auto", description="how the two views differ; auto: as the image types allow, and more than in training"
    )
    folds: int = Field(3, ge=2, description="inner folds on which fits with and without are compared")


class CrossValidation(Strict):
    """For studies too small for a held-out split: the whole fit over folds, predictions kept in the bundle."""

    folds: int = Field(5, ge=2)
    repeats: int = Field(3, ge=1)


class NetworkConfig(Strict):
    """The whole of network.yaml. `encoders` may override an encoder's settings by modality name."""

    encoders: dict[str, Annotated[TabularEncoder | SeriesEncoder | ImageEncoder, Field(discriminator="kind")]] = {}
    embedding: int = Field(16, description="D, the width of each modality's embedding")
    intervals: int = Field(20, ge=1, description="K at most: event-quantile intervals, horizons among the cuts")
    members: int = Field(5, ge=2, description="cross-fitted members, each leaving out one of as many folds")
    pooled_calibration: bool = Field(
        False, description="one calibration map for all availability patterns; true only to show what is lost by it"
    )
    training: Training = Training()
    pretrain: Pretraining | None = None
    cross_validation: CrossValidation | None = None
