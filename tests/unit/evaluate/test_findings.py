"""Findings against marks: every figure from a picture small enough to count by hand."""

import numpy as np
import pytest

from riskpred.config.model import parse
from riskpred.config.segmentation import SegmentationStage
from riskpred.evaluate.findings import ImageScore, score_image, stage_metrics
from riskpred.imaging.lesions import Lesion
from riskpred.imaging.picture import Grid
from riskpred.imaging.prepare import Prepared

STAGE = parse(SegmentationStage, {"image_types": ["CT"], "labels": {1: "nodule"}, "size": 10}, "stage")


def prepared(spacing: tuple[float, float, float] = (np.nan, 2.0, 1.0)) -> Prepared:
    grid = Grid(np.zeros(3), np.ones(3), np.array(spacing), np.zeros(3), np.eye(3), np.array([1, 10, 10]))
    return Prepared(np.zeros((1, 1, 10, 10), np.float32), grid, (0.0,), ((0, 1), (0, 10), (0, 10)))


def lesion(row: int, col: int, height: int, width: int, confidence: float = 0.9) -> Lesion:
    """A found rectangle. What the score does not read is left unknown."""
    unknown = dict.fromkeys(
        ("area_px", "area_mm2", "volume_mm3", "longest_diameter_mm", "row", "col", "slice", "x_mm", "y_mm", "z_mm",
         "mean_intensity"),
        np.nan,
    )  # fmt: skip
    mask = np.ones((1, height, width), np.bool_)
    return Lesion(
        lesion=1, label="nodule", confidence=confidence, outlines={}, corner=(0, row, col), mask=mask, **unknown
    )


def marked(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    target = np.zeros((1, 10, 10), np.uint8)
    for row, col, height, width in boxes:
        target[0, row : row + height, col : col + width] = 1
    return target


def one(found: list[Lesion], target: np.ndarray, subject: int = 1) -> ImageScore:
    (score,) = score_image(subject, STAGE, found, prepared(), target)
    return score


def values(scores: list[ImageScore]) -> dict[str, float | None]:
    return {row["metric"]: row["value"] for row in stage_metrics(scores)}


def test_a_shifted_lesion_is_found_and_its_errors_measured() -> None:
    score = one([lesion(2, 3, 4, 4)], marked((2, 2, 4, 4)))
    assert (score.found_px, score.marked_px, score.both_px) == (16, 16, 12)
    assert (score.lesions, score.hit, score.false_positives) == (1, 1, 0)
    assert score.position_px == (1.0,)
    assert score.position_mm == (1.0,), "one column of 1 mm; the unknown thickness of a slice adds nothing"
    found = values([score])
    assert found["dice_mean"] == pytest.approx(2 * 12 / 32)
    assert found["size_error_share"] == 0


def test_what_is_found_elsewhere_is_false_and_what_is_marked_is_missed() -> None:
    score = one([lesion(7, 7, 2, 2)], marked((0, 0, 3, 3)))
    assert (score.hit, score.false_positives) == (0, 1)
    found = values([score])
    assert (found["sensitivity"], found["false_positives_per_image"], found["dice_mean"]) == (0, 1, 0)


def test_one_large_lesion_is_one_hit_not_two() -> None:
    score = one([lesion(0, 0, 10, 10)], marked((0, 0, 5, 5), (6, 6, 4, 4)))
    assert (score.lesions, score.hit, score.false_positives) == (2, 1, 0)


def test_sensitivity_at_one_false_positive_stops_at_the_second() -> None:
    """One image, marks A and B: sure of a false one, then A, then a second false one, then B."""
    found = [lesion(0, 8, 2, 2, 0.95), lesion(0, 0, 3, 3, 0.9), lesion(8, 0, 2, 2, 0.8), lesion(6, 6, 3, 3, 0.7)]
    score = one(found, marked((0, 0, 3, 3), (6, 6, 3, 3)))
    result = values([score])
    assert result["sensitivity"] == 1
    assert result["sensitivity_at_1_fp"] == 0.5
    # A second image without anything allows one false positive more.
    assert values([score, one([], marked())])["sensitivity_at_1_fp"] == 1


def test_dice_is_of_a_persons_images_together() -> None:
    whole, missed = one([lesion(0, 0, 4, 4)], marked((0, 0, 4, 4))), one([], marked((0, 0, 2, 4)))
    assert values([whole, missed])["dice_mean"] == pytest.approx(2 * 16 / (16 + 16 + 8))


def test_without_a_lesion_there_is_a_reason_and_no_figure() -> None:
    rows = {row["metric"]: row for row in stage_metrics([one([], marked()), one([lesion(0, 0, 2, 2)], marked(), 2)])}
    assert rows["dice_mean"] == {
        "label": "nodule", "metric": "dice_mean", "value": None, "n": 0, "reason": "no marked lesion",
    }  # fmt: skip
    assert rows["absent_called_absent"]["value"] == 0.5
    assert rows["false_positives_per_image"]["value"] == 0.5
