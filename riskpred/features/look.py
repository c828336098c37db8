"""One stage looks at one image: file, prepared pixels, probabilities and lesions, or values; always alone, in fp32.

What else is read beside an image changes nothing in what is found in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np

from riskpred.config.radiomics import RadiomicsStage
from riskpred.config.segmentation import ImagingConfig, SegmentationStage
from riskpred.features.findings import FindingSource
from riskpred.features.looked import Looked, kept
from riskpred.imaging.decode import Wanted, decode_one
from riskpred.imaging.lesions import Lesion, lesions, with_intensity
from riskpred.imaging.paths import ImageProblem, inside
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.radiomics import MEASURING, Radiomics
from riskpred.imaging.read import read_picture
from riskpred.imaging.segment import Segmenter
from riskpred.records.chunk import ImageRow

LOOKING: Final = 1
"""Raised whenever segment.py, lesions.py or this file may find other lesions with the same weights."""


Looker = Segmenter | Radiomics
"""Who looks for one stage."""


def lookers(config: ImagingConfig, segmenters: Mapping[str, Segmenter]) -> dict[str, Looker]:
    """Who looks for each stage of imaging.yaml. Args: segmenters: of each stage that has a network."""
    assert segmenters.keys() == config.segmentation.keys(), "every stage of segmentation has its network"
    return {**segmenters, **{name: Radiomics(stage) for name, stage in config.radiomics.items()}}


def wanted(
    stage: SegmentationStage | RadiomicsStage, row: ImageRow, image_root: Path, known: tuple[str, ...] = ()
) -> Wanted:
    """The image as the stage reads it. known: SHA-256 of bytes that need no decoding."""
    return Wanted(image_root, row.path, stage.recipe(row.image_type), known, row.series)


def look(looker: Looker, prepared: Prepared, row: ImageRow, image_root: Path) -> Looked | ImageProblem:
    """What a stage finds in an image. The file is read once more where it shows a lesion: for its intensities."""
    if isinstance(looker, Radiomics):
        return replace(kept([], prepared), values=tuple(looker.values(prepared).items()))
    found = lesions(looker.probabilities(prepared), prepared.grid, looker.stage)
    return measured(looker.stage, found, prepared, row, image_root)


def measured(
    stage: SegmentationStage, found: list[Lesion], prepared: Prepared, row: ImageRow, image_root: Path
) -> Looked | ImageProblem:
    """What `look` makes of the lesions found in an image."""
    if found:
        try:
            picture = read_picture(inside(image_root, row.path, folders=True), stage.channels, row.series)
        except ImageProblem as problem:  # it was there a moment ago
            return ImageProblem(problem.reason, problem.wanted)
        found = with_intensity(found, picture, prepared.grid)
    return kept(found, prepared)


def signature(looker: Looker, decoder: str) -> str:
    """Hash of all that decides what is found in a file's bytes: weights, settings, how it is decoded.

    Args: decoder: versions of what decodes files (`imaging.versions.decoder_version`).
    """
    if isinstance(looker, Radiomics):
        by = f"radiomics {MEASURING} scikit-image {version('scikit-image')}"
        return sha256(f"{by}\0{decoder}\0{looker.stage.model_dump_json()}\0".encode()).hexdigest()
    digest = sha256(f"findings {LOOKING}\0{decoder}\0{looker.stage.model_dump_json()}\0".encode())
    for r, network in enumerate(looker.networks):
        for name, tensor in sorted(network.state_dict().items()):
            array = np.ascontiguousarray(tensor.numpy())
            digest.update(f"{r} {name} {array.dtype} {array.shape}\0".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


class Finder(FindingSource):
    """A bundle's stages; what was found in an image is remembered, so that a second pass costs nothing.

    Args: segmenters: one for each stage of the config that has a network.
    """

    def __init__(self, config: ImagingConfig, segmenters: Mapping[str, Segmenter]) -> None:
        super().__init__(config)
        self._lookers = lookers(config, segmenters)
        self._known: dict[tuple[str, Path, ImageRow], Looked | ImageProblem] = {}

    def looked(self, stage: str, images: Sequence[ImageRow], image_root: Path) -> list[Looked | ImageProblem]:
        """What a stage finds in each image."""
        return [self._one(stage, row, image_root) for row in images]

    def _one(self, stage: str, row: ImageRow, image_root: Path) -> Looked | ImageProblem:
        key = stage, image_root, row
        if key not in self._known:
            looker = self._lookers[stage]
            result = decode_one(wanted(looker.stage, row, image_root)).result
            assert result is not None, "no file's bytes were called known"
            found = result if isinstance(result, ImageProblem) else look(looker, result, row, image_root)
            self._known[key] = found
        return self._known[key]
