"""network.yaml: encoders, fusion and training. Every value has a default that worked on real data."""

from typing import Annotated, Literal

from pydantic import Field

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


class SeriesEncoder(Strict):
    """LSTM over irregular steps, zero-initialised on the log-rate."""

    kind: Literal["series"] = "series"
    width: int = 32
    dropout: float = 0.2


class ImageEncoder(Strict):
    """Small CNN (GroupNorm), zero-initialised on the log-rate."""

    kind: Literal["image"] = "image"
    channels: tuple[int, ...] = (8, 16, 32, 32)
    dropout: float = 0.2


class Training(Strict):
    epochs: int = 25
    patience: int = Field(5, description="epochs without a better stopping loss; epoch 0 (the base alone) may win")
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 3e-2
    modality_dropout: float = Field(0.3, ge=0, lt=1)
    ridge_grid: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    stopping_share: float = Field(0.15, gt=0, lt=0.5, description="share of a member's subjects kept for stopping")


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
    cross_validation: CrossValidation | None = None
