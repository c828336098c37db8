"""How well a segmentation finds what people marked: overlap, lesions found and missed, where they lie, how large."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from riskpred.config.segmentation import SegmentationStage
from riskpred.imaging.lesions import Lesion
from riskpred.imaging.prepare import Prepared

LEAST_OVERLAP: Final = 0.1
"""A lesion is found where one found shares this much of the union of both."""

FALSE_POSITIVES: Final = 1.0
"""Per image, at which sensitivity is told."""

MEANINGS: Final = {
    "dice_mean": "Dice of a person's images together, mean over people with a marked lesion",
    "dice_median": "the same, median",
    "sensitivity": "share of marked lesions that are found, by the stage's own rules",
    "false_positives_per_image": "found where nothing is marked, by the stage's own rules",
    "sensitivity_at_1_fp": "the same share at the confidence that gives 1 false positive an image, or the lowest kept",
    "absent_called_absent": "share of images without a marked lesion in which none is found",
    "position_error_px": "centre of a found lesion from that of the marked one, prepared pixels, median",
    "position_error_mm": "the same in mm, where the spacing is known",
    "size_error_share": "pixels of a found lesion against those of the marked one, share by which they differ, median",
}
"""Metric -> what it is, for people."""


@dataclass(frozen=True)
class ImageScore:
    """What was found in one image against what is marked, for one label.

    found_px, marked_px, both_px: prepared pixels.   lesions: marked ones; hit: of them found.
    confidence: of each found lesion, and the number of the marked one that it is (-1 = none).
    position_px, position_mm, size_share: of each hit.
    """

    subject_id: int
    label: str
    found_px: int
    marked_px: int
    both_px: int
    lesions: int
    confidence: tuple[float, ...] = ()
    marked: tuple[int, ...] = ()
    position_px: tuple[float, ...] = ()
    position_mm: tuple[float, ...] = ()
    size_share: tuple[float, ...] = field(default=())

    @property
    def hit(self) -> int:
        return len({one for one in self.marked if one >= 0})

    @property
    def false_positives(self) -> int:
        return sum(one < 0 for one in self.marked)


def score_image(
    subject_id: int, stage: SegmentationStage, found: Sequence[Lesion], prepared: Prepared, target: NDArray[np.uint8]
) -> Iterator[ImageScore]:
    """One score per label of the stage. Shape: target (Z, H, W), values of the stage's labels."""
    spacing = np.asarray(prepared.grid.spacing_mm, np.float64)
    for value, label in stage.labels.items():
        labelled, lesions = ndimage.label(target == value, np.ones((3, 3, 3)))
        marked = np.asarray(labelled, np.int64)
        whole = np.zeros(target.shape, np.bool_)
        confidence, which, at_px, at_mm, sizes = [], [], [], [], []
        taken: set[int] = set()
        mine = sorted((one for one in found if one.label == label), key=lambda one: -one.confidence)
        for lesion in mine:
            mask = np.zeros(target.shape, np.bool_)
            box = tuple(slice(a, a + n) for a, n in zip(lesion.corner, lesion.mask.shape, strict=True))
            mask[box] = lesion.mask
            whole |= mask
            best = _same(mask, marked)
            confidence.append(lesion.confidence)
            which.append(best)
            if best >= 0 and best not in taken:
                taken.add(best)
                true = marked == best + 1
                step = _centre(mask) - _centre(true)
                at_px.append(float(np.linalg.norm(step)))
                known = np.where(step == 0, 0.0, spacing)  # along an axis of one slice nothing can differ
                at_mm.append(float(np.linalg.norm(step * known)))
                sizes.append(abs(float(mask.sum()) / float(true.sum()) - 1))
        hits = target == value
        yield ImageScore(
            subject_id,
            label,
            int(whole.sum()),
            int(hits.sum()),
            int((whole & hits).sum()),
            int(lesions),
            tuple(confidence),
            tuple(which),
            tuple(at_px),
            tuple(one for one in at_mm if np.isfinite(one)),
            tuple(sizes),
        )


def stage_metrics(scores: Sequence[ImageScore]) -> list[dict[str, Any]]:
    """{label, metric, value, n, reason}, of each label and metric of MEANINGS; value None with a reason where there is
    nothing to tell by. n: people, lesions or images that the value is over."""
    labels = dict.fromkeys(one.label for one in scores)
    return [row for label in labels for row in _of_label(label, [one for one in scores if one.label == label])]


def findings_view(stages: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> dict[str, Any]:
    """What templates/findings.html.j2 draws."""
    return {
        "title": title,
        "stages": [
            {
                "name": name,
                "rows": [{**row, "cell": _cell(row), "meaning": MEANINGS[row["metric"]]} for row in rows],
            }
            for name, rows in stages.items()
        ],
    }


def findings_text(stages: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> str:
    """The same for a terminal."""
    lines = [title]
    for name, rows in stages.items():
        lines += [f"  {name}, {row['label']}: {row['metric']:<28}{_cell(row)}" for row in rows]
    return "\n".join(lines)


def _cell(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.3g} ({row['n']:,})" if row["value"] is not None else str(row["reason"])


def _of_label(label: str, scores: Sequence[ImageScore]) -> Iterator[dict[str, Any]]:
    people: dict[int, list[ImageScore]] = {}
    for one in scores:
        people.setdefault(one.subject_id, []).append(one)
    dice = [
        2 * sum(one.both_px for one in mine) / sum(one.found_px + one.marked_px for one in mine)
        for mine in people.values()
        if any(one.marked_px for one in mine)
    ]
    lesions, images = sum(one.lesions for one in scores), len(scores)
    absent = [not one.marked for one in scores if not one.marked_px]
    no_lesion = "no marked lesion"
    yield _row(label, "dice_mean", np.mean(dice) if dice else None, len(dice), no_lesion)
    yield _row(label, "dice_median", np.median(dice) if dice else None, len(dice), no_lesion)
    hit = sum(one.hit for one in scores)
    yield _row(label, "sensitivity", hit / lesions if lesions else None, lesions, no_lesion)
    false = sum(one.false_positives for one in scores)
    yield _row(label, "false_positives_per_image", false / images, images, "")
    at_one = _sensitivity_at(scores, FALSE_POSITIVES) if lesions else None
    yield _row(label, "sensitivity_at_1_fp", at_one, lesions, no_lesion)
    yield _row(
        label, "absent_called_absent", np.mean(absent) if absent else None, len(absent), "no image without a lesion"
    )
    for metric, name, reason in (
        ("position_error_px", "position_px", "no lesion found"),
        ("position_error_mm", "position_mm", "no lesion found in an image of known spacing"),
        ("size_error_share", "size_share", "no lesion found"),
    ):
        values = [value for one in scores for value in getattr(one, name)]
        yield _row(label, metric, np.median(values) if values else None, len(values), reason)


def _row(label: str, metric: str, value: float | np.floating[Any] | None, n: int, reason: str) -> dict[str, Any]:
    told = None if value is None else float(value)
    return {"label": label, "metric": metric, "value": told, "n": n, "reason": None if told is not None else reason}


def _sensitivity_at(scores: Sequence[ImageScore], false_positives: float) -> float:
    """Share of marked lesions found at the lowest confidence at which at most so many false positives an image are."""
    allowed = false_positives * len(scores)
    every = sorted(
        ((c, i, m) for i, one in enumerate(scores) for c, m in zip(one.confidence, one.marked, strict=True)),
        key=lambda entry: -entry[0],
    )
    false, found, best = 0, set[tuple[int, int]](), 0
    for place, (confidence, image, marked) in enumerate(every):
        if marked < 0:
            false += 1
        else:
            found.add((image, marked))
        if false > allowed:
            break
        # Equal confidences are on one side of any threshold together.
        if place + 1 == len(every) or every[place + 1][0] < confidence:
            best = len(found)
    return best / sum(one.lesions for one in scores)


def _same(mask: NDArray[np.bool_], marked: NDArray[np.int64]) -> int:
    """Number (from 0) of the marked lesion that a found one is, by its share of the union; -1 = none."""
    inside = marked[mask]
    best, share = -1, LEAST_OVERLAP
    for number in np.unique(inside[inside > 0]).tolist():
        both = int((inside == number).sum())
        union = int(mask.sum()) + int((marked == number).sum()) - both
        if both / union >= share:
            best, share = number - 1, both / union
    return best


def _centre(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    centre: NDArray[np.float64] = np.argwhere(mask).mean(axis=0)
    return centre
