"""imaging.yaml: what a segmentation stage may say, and what is refused with its reason."""

from typing import Any

import pytest

from riskpred.config.model import parse
from riskpred.config.segmentation import ImagingConfig
from riskpred.errors import ConfigError

STAGE: dict[str, Any] = {"image_types": ["MR"], "size": 64, "labels": {"1": "tumour"}}


def read(**changes: Any) -> ImagingConfig:
    return parse(ImagingConfig, {"segmentation": {"brain": {**STAGE, **changes}}}, "imaging.yaml")


def test_a_stage_needs_few_words_and_knows_how_its_images_are_prepared() -> None:
    stage = read().segmentation["brain"]
    assert (stage.names, stage.labels, stage.dims) == (("tumour",), {1: "tumour"}, 2)
    assert stage.recipe("MR").size == (64, 64)
    assert [step.step for step in stage.recipe("MR").steps] == ["percentiles"]
    assert read(volume="whole").segmentation["brain"].recipe("MR").size == (64, 64, 64)
    assert ImagingConfig().segmentation == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": {"1": "none"}}, "none"),
        ({"labels": {"1": "a", "2": "a"}}, "name of its own"),
        ({"labels": {"0": "a"}}, "1 to 255"),
        ({"network": {"context": 1}}, "volume: slices"),
        ({"training": {"patch": [16, 16, 16]}}, "training.patch has 2 numbers"),
        ({"volume": "whole", "window": {"size": [16, 16]}}, "window.size has 3 numbers"),
        ({"training": {"augmentation": {"flips": ["slices"]}}}, "volume: whole"),
        ({"size": [8, 8, 8]}, "size has two numbers"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**changes)
    assert said in str(caught.value)
