"""Decides a night before any model work: which bundle, whether it may be used, whom to compute and whom to carry."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from riskpred import __version__
from riskpred.config.night import NightConfig
from riskpred.errors import OutputError
from riskpred.features.fits import check_fits
from riskpred.model.bundle import load_bundle
from riskpred.model.image_fast import image_path
from riskpred.model.paths import FP32, chosen_path
from riskpred.records.shards import Shard
from riskpred.records.warehouse import Warehouse
from riskpred.score.carry import Standing, standing
from riskpred.score.plan import Night, plan_night
from riskpred.score.promotion import Promotion, judge_promotion
from riskpred.score.ray_engine import refuse_engine

if TYPE_CHECKING:
    from riskpred.model.bundle import Bundle


Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class Request:
    """What the caller asked of a night; `score.run.score` says what each means."""

    warehouse: Path
    model: Path
    into: Path
    as_of: int | None
    settings: NightConfig
    image_root: Path | None
    rescore: bool
    force: bool
    engine: Engine = "local"
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if self.into.resolve() == self.warehouse.resolve():
            raise OutputError(
                f"{self.into}: is the warehouse itself.",
                wanted="another file for the scores",
                do="give another --into",
            )


@dataclass(frozen=True)
class Prepared:
    """A night as planned.

    everyone: subjects in the warehouse; to_compute: ids, ascending; the others are carried.
    shards: by which parts are cut; () where the warehouse has none, or is not as ingest left it: what a changed shard
    holds is then known from the whole folder alone.
    """

    night: Night
    bundle: "Bundle"
    promotion: Promotion
    standing: Standing
    everyone: int
    to_compute: NDArray[np.int64]
    shards: tuple[Shard, ...] = ()

    def parts_plan(self, settings: NightConfig, batch_size: int) -> dict[str, Any]:
        """All that decides what the parts of this night hold: parts of another plan are of no use."""
        return {
            "run_id": self.night.run_id,
            "riskpred": __version__,
            "max_score_age_days": self.night.max_score_age_days,
            "carried_from": self.standing.run_id,
            "carried": len(self.standing.subject_id),
            "to_compute": len(self.to_compute),
            "part_size": settings.part_size,
            "shards": [shard.last_subject for shard in self.shards],
            "explain": settings.explain,
            "batch_size": batch_size,
        }


def prepare(source: Warehouse, request: Request, say: Callable[[str], None]) -> Prepared:
    """Plan the night.

    Args: say: receives what an operator should know, in sentences.
    Raises: BundleError (does not fit the warehouse, no passed evaluation, a numeric path not permitted), OutputError
        (`into` is no scores file), UsageError (an engine that is not there, or cannot read this warehouse).
    """
    settings = request.settings
    if request.engine == "ray":
        refuse_engine(request.warehouse, request.ray_address)
    bundle = load_bundle(request.model)
    check_fits(bundle.plan, source)
    promotion = judge_promotion(bundle, settings.promotion, request.force, source.site)
    if promotion.forced:
        say(promotion.text)
    chosen = chosen_path(bundle, settings.numeric_path, image_path)
    night = plan_night(source, bundle, request.as_of, chosen.path, settings.max_score_age_days)
    subject_id, digest = source.subject_digests()
    found = standing(request.into, night, subject_id, digest, request.rescore, bool(bundle.config.imaging.stages))
    if found.damaged:
        say(
            f"{request.into}: the risks of the night {found.damaged} are no longer those that it published "
            "(runs.content_digest): nobody is carried from it, everyone is computed anew"
        )
    to_compute = without(subject_id, found.subject_id)
    if chosen.said and (len(to_compute) or chosen.path == FP32):
        say(chosen.said)
    shards = source.shards if source.contents == "kept" else ()
    return Prepared(night, bundle, promotion, found, len(subject_id), to_compute, shards)


def without(everyone: NDArray[np.int64], some: NDArray[np.int64]) -> NDArray[np.int64]:
    """Everyone but some of them; both ascending, some among everyone.

    Example:
        >>> without(np.array([1, 2, 3]), np.array([2])).tolist()
        [1, 3]
    """
    left = np.ones(len(everyone), dtype=np.bool_)
    left[np.searchsorted(everyone, some)] = False
    return everyone[left]
