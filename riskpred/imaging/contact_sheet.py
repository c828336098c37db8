"""A page of images before and after every preparation step, so that a person sees what the encoder will see.

Images are numbered; whose they are and what their files are called stands on the page only where it is asked for.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from riskpred.config.imaging import ReadsImages, Recipe, default_steps, recipe_for
from riskpred.config.study import ModelConfig
from riskpred.imaging.decode import DecodePool, Wanted
from riskpred.imaging.paths import ImageProblem, inside
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.read import read_picture
from riskpred.imaging.recipe import finished, refuse_uninstalled, stages
from riskpred.imaging.tiles import Tile, prepared_tile, stage_tile
from riskpred.progress import Progress, Silent
from riskpred.records.image_table import COMPLETE_IMAGE
from riskpred.records.warehouse import Warehouse

SAMPLE = 6
DEFAULT_SIZE = 128
"""Of an image type that no study asks for."""

TRIED_MORE = 20
"""So many times the pictures shown are read, so that what cannot be used is counted on more than what is shown."""

_COLOURED = ("OP",)


@dataclass(frozen=True)
class Reading:
    """Images of one type as one encoder or segmentation stage reads them. `reader`: its name, None = nobody asks."""

    reader: str | None
    image_type: str
    recipe: Recipe


def readings(config: ModelConfig | None, warehouse: Warehouse) -> list[Reading]:
    """What a study reads of the images in a warehouse; without a study each image type with its defaults.

    Raises: ConfigError, when a step needs a library that is not installed.
    """
    kinds = warehouse.query(f"SELECT DISTINCT image_type FROM images WHERE {COMPLETE_IMAGE} ORDER BY 1")
    there = [kind for (kind,) in kinds]
    if config is None:
        found = [
            Reading(None, kind, Recipe.of("rgb" if kind in _COLOURED else "grey", default_steps(kind), DEFAULT_SIZE))
            for kind in there
        ]
    else:
        found = [
            Reading(name, kind, recipe_for(spec, kind))
            for name, spec in _readers(config).items()
            for kind in spec.image_types
            if kind in there
        ]
    for one in found:
        refuse_uninstalled(one.recipe)
    return found


def _readers(config: ModelConfig) -> dict[str, ReadsImages]:
    found: dict[str, ReadsImages] = {
        name: spec for name, spec in config.features.modalities.items() if spec.kind == "image"
    }
    return {**found, **config.imaging.stages}


def contact_sheet(
    warehouse: Warehouse,
    asked: Sequence[Reading],
    sample: int = SAMPLE,
    names: bool = False,
    progress: Progress | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Everything that the page shows, as plain values; `page` draws it.

    Args:
        sample: images shown of each reading; up to 20 times as many are tried, one a subject first, always the same.
        names: subject_id and path stand under each image.
        workers: processes that decode; None = one per core, 0 = in this process.
    """
    told = progress or Silent()
    sections = []
    with DecodePool(workers) as pool:
        for one in asked:
            sections.append(_section(warehouse, one, sample, names, told, pool))
    return {
        "site": warehouse.site,
        "study": warehouse.study,
        "sections": sections,
        "refused": _refused(warehouse),
        "names": names,
    }


def page(sheet: dict[str, Any]) -> str:
    """One HTML file: no script, nothing fetched."""
    made = Environment(
        loader=PackageLoader("riskpred.imaging", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return made.get_template("contact_sheet.html.j2").render(**sheet)


def _section(
    warehouse: Warehouse, asked: Reading, sample: int, names: bool, progress: Progress, pool: DecodePool
) -> dict[str, Any]:
    kind = asked.image_type.replace("'", "''")
    where = f"{COMPLETE_IMAGE} AND image_type = '{kind}'"
    series = "series" if "series" in warehouse.columns("images") else "NULL"
    rows = warehouse.query(
        f"SELECT subject_id, path, series FROM (SELECT subject_id, path, {series} AS series,"
        " md5(image_id::VARCHAR) AS place, row_number() OVER"
        f" (PARTITION BY subject_id ORDER BY md5(image_id::VARCHAR)) AS turn FROM images WHERE {where})"
        f" ORDER BY turn, place LIMIT {sample * TRIED_MORE}"
    )
    ((count,),) = warehouse.query(f"SELECT count(*) FROM images WHERE {where}")
    title = f"{asked.reader or 'defaults'}, {asked.image_type}"
    wanted = [Wanted(warehouse.image_root, path, asked.recipe, series=which) for _, path, which in rows]
    problems: Counter[tuple[str, str]] = Counter()
    notes: Counter[str] = Counter()
    images: list[dict[str, Any]] = []
    for place, (decoded, (subject, path, which)) in enumerate(zip(pool.decode(wanted), rows, strict=True), start=1):
        result = decoded.result
        if isinstance(result, Prepared):
            notes.update(result.notes)
            if len(images) < sample:
                tiles = list(_tiles(warehouse, path, which, asked.recipe))
                named = f"{subject} · {path}" if names else ""
                images.append({"tiles": tiles, "notes": list(result.notes), "named": named})
        elif isinstance(result, ImageProblem):
            problems[result.reason, result.wanted] += 1
        progress.step(title, place, len(rows))
    return {
        "title": title,
        "reader": asked.reader,
        "image_type": asked.image_type,
        "recipe": _recipe_text(asked.recipe),
        "count": count,
        "tried": len(rows),
        "images": images,
        "notes": notes.most_common(12),
        "problems": [[reason, what, times] for (reason, what), times in problems.most_common()],
    }


def _tiles(warehouse: Warehouse, path: str, series: str | None, recipe: Recipe) -> Iterator[Tile]:
    """One file once more, this time with what every step makes of it; it was prepared in a worker without a fault."""
    picture = read_picture(inside(warehouse.image_root, path, folders=True), recipe.channels, series)
    colour = isinstance(recipe.channels, str)
    for step, now in stages(picture, recipe):
        if step is None:
            yield stage_tile(now, "as read", "")
        else:
            yield stage_tile(now, step.step.replace("_", " "), _settings(step.model_dump(exclude_defaults=True)))
    yield prepared_tile(finished(now, recipe), colour)


def _settings(given: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in given.items() if name != "step")


def _plain(value: object) -> str:
    return " ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)


def _recipe_text(recipe: Recipe) -> str:
    steps = [step.step.replace("_", " ") for step in recipe.steps] or ["no steps"]
    size = "as it is" if recipe.size is None else " × ".join(map(str, recipe.size))
    channels = recipe.channels if isinstance(recipe.channels, str) else f"{len(recipe.channels)} sequences"
    what = {"whole": "whole volume", "middle": "one slice, the middle", "slices": f"{recipe.slices} slices"}
    return f"{channels}; {', '.join(steps)}; {what[recipe.volume]}; size {size}"


def _refused(warehouse: Warehouse) -> list[list[Any]]:
    """Reasons of the ingest's rejects in sources that hold images, with counts."""
    if not {"source", "reason", "wanted"} <= set(warehouse.columns("rejects")):
        return []
    if not {"source", "images"} <= set(warehouse.columns("ingests")):
        return []
    rows = warehouse.query(
        "SELECT reason, wanted, count(*) FROM rejects WHERE source IN (SELECT source FROM ingests WHERE images > 0)"
        " GROUP BY ALL ORDER BY 3 DESC, 1, 2 LIMIT 20"
    )
    return [list(row) for row in rows]
