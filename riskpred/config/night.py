"""night.yaml: ages, limits, gates, promotion, retention and logs of a night, each with a default that is safe."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from riskpred.config.model import Strict, load, parse
from riskpred.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]


class Gates(Strict):
    """When a night is not published: yesterday's tables stay, and `runs` gets a row that says refused (exit 13)."""

    max_rejected_share: Share = Field(0.05, description="of eligible pairs, most that may get no risk")
    max_shifted_share: Share = Field(0.05, description="of subjects scored on both nights, most that may shift")
    shifted_by_points: float = Field(
        10.0, gt=0, le=100, description="risk points at an outcome's longest horizon beyond which a subject has shifted"
    )


class DriftLimits(Strict):
    """Where a population stability index raises a flag in `drift`; a flag never stops a night."""

    psi_watch: float = Field(0.1, gt=0, description="from here on: watch")
    psi_alarm: float = Field(0.25, gt=0, description="from here on: alarm")

    @model_validator(mode="after")
    def _in_order(self) -> "DriftLimits":
        if self.psi_watch >= self.psi_alarm:
            raise ValueError("psi_watch must lie below psi_alarm")
        return self


class PromotionRules(Strict):
    """What an evaluation must show, for every outcome at its longest horizon, before a bundle may publish risks."""

    require_evaluation: bool = Field(True, description="false: any bundle may score, and the ledger says so")
    min_events: int = Field(20, ge=10, description="fewest people seen to have the outcome")
    discrimination_above: float = Field(
        0.5, ge=0, lt=1, description="the lower end of the 90 % interval of uno_c (auc: known at once) lies above"
    )
    observed_over_expected: tuple[float, float] = Field(
        (0.5, 2.0), description="observed over expected incidence lies within this range; above 1: risks are too low"
    )
    ipa_reaches: float = Field(
        0.0, lt=1, description="the upper end of the 90 % interval of ipa is at least this: no worse than no model"
    )

    @model_validator(mode="after")
    def _around_one(self) -> "PromotionRules":
        low, high = self.observed_over_expected
        if not 0 < low <= 1 <= high:
            raise ValueError("observed_over_expected must be two numbers above 0 with 1 between them")
        return self


class ImageWork(Strict):
    """How image files are read."""

    decode_workers: int | None = Field(None, ge=0, description="processes that decode; null = as `workers`, 0 = none")
    cache: bool = Field(True, description="keep what the encoders make of an image beside SCORES")
    cache_days: int = Field(90, ge=1, description="an entry that no night used for so many days is dropped")


class Logs(Strict):
    """Files for the operator's own monitoring; counts and codes, never a patient's value."""

    log_file: Path | None = Field(None, description="JSON lines, appended")
    metrics_file: Path | None = Field(None, description="Prometheus text format, replaced whole; ends in .prom")

    @field_validator("metrics_file")
    @classmethod
    def _collected(cls, file: Path | None) -> Path | None:
        if file is not None and file.suffix != ".prom":
            raise ValueError("the name must end in .prom: a textfile collector reads no other file")
        return file


class NightConfig(Strict):
    """The whole of night.yaml. Every key may be left out."""

    max_score_age_days: int = Field(30, ge=1, description="a carried risk is recomputed at least this often")
    keep_runs: int = Field(7, ge=1, description="newest published nights that SCORES keeps, tonight's included")
    explain: int = Field(1000, ge=0, description="subjects that get feature reasons and evidence")
    workers: int | None = Field(None, ge=1, description="processes that compute; null = one for each core we may use")
    part_size: int = Field(16384, ge=1, description="subjects a part: the unit that is resumed after a kill")
    numeric_path: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto", description="auto = the fastest that the bundle permits on this machine"
    )
    duckdb_memory: str = Field(
        "256MB",
        pattern=r"^[1-9][0-9]*(\.[0-9]+)? ?(MB|GB|MiB|GiB)$",
        description="what DuckDB may hold of a file it reads or writes; the rest goes to disk beside SCORES",
    )
    gates: Gates = Gates()
    drift: DriftLimits = DriftLimits()
    promotion: PromotionRules = PromotionRules()
    images: ImageWork = ImageWork()
    logs: Logs = Logs()

    @property
    def worker_count(self) -> int:
        """`workers`, or the cores that this process may use."""
        return self.workers or len(os.sched_getaffinity(0))

    @property
    def decode_worker_count(self) -> int:
        """`images.decode_workers`, or `worker_count`."""
        asked = self.images.decode_workers
        return self.worker_count if asked is None else asked

    def overridden(self, **options: Any) -> "NightConfig":
        """These settings with the options of the command line in their place; None = the option was not given.

        A mapping replaces those keys of a block and leaves its others.
        Raises: ConfigError, when an option is no setting or not a value of it.
        Example:
            >>> NightConfig().overridden(keep_runs=3, explain=None, gates={"max_shifted_share": 1}).keep_runs
            3
        """
        data = self.model_dump(mode="json")
        for name, value in options.items():
            if value is not None:
                data[name] = {**data[name], **value} if isinstance(value, dict) and name in data else value
        return parse(NightConfig, data, "options of the command line")


def load_night(path: Path | None) -> NightConfig:
    """Settings of a night; None = every default. A relative path in the file counts from the file's own folder.

    Raises: ConfigError: no such file, an unknown key, a value that cannot be.
    """
    if path is None:
        return NightConfig()
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file.",
            wanted="a YAML file of settings, such as the shipped configs/night.yaml",
            do="correct --config, or leave it out: every setting has a default",
        )
    settings = load(NightConfig, path)
    # cron starts in another folder than the one the operator tried it in.
    logs = {
        name: None if file is None else path.absolute().parent / file
        for name, file in (("log_file", settings.logs.log_file), ("metrics_file", settings.logs.metrics_file))
    }
    return settings.model_copy(update={"logs": settings.logs.model_copy(update=logs)})
