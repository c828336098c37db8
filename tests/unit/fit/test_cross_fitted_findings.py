"""A subject's own marks never train the network that makes their findings: shown by a network that learns by heart."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray

from riskpred.config.segmentation import ImagingConfig, SegmentationStage
from riskpred.config.study import load_model_config
from riskpred.errors import InputError
from riskpred.features.looked import Looked
from riskpred.fit import findings as module
from riskpred.fit.data import training_subjects
from riskpred.fit.findings import CrossFitted, FittedStages, fit_stages
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import Prepared
from riskpred.imaging.segment import Segmenter
from riskpred.progress import Progress, Silent
from riskpred.records.schema import table_schema
from riskpred.records.warehouse import Warehouse
from tests.circles import HELD_OUT, SUBJECTS, Hospital, circles


@dataclass
class ByHeart:
    """Marks exactly what was marked in a picture that it was trained on, and nothing in any other."""

    stage: SegmentationStage
    networks: tuple[Any, ...] = ()
    seen: dict[bytes, NDArray[np.uint8]] = field(default_factory=dict)

    def probabilities(self, prepared: Prepared) -> NDArray[np.float32]:
        known = self.seen.get(np.asarray(prepared.pixels).tobytes())
        shape = (len(self.stage.labels), len(prepared.pixels), *prepared.pixels.shape[2:])
        return np.zeros(shape, np.float32) if known is None else (known[None] == 1).astype(np.float32)


@dataclass(frozen=True)
class FittedByHeart:
    segmenter: ByHeart
    fold_models: tuple[ByHeart, ...]


def learn_by_heart(
    stage: SegmentationStage, examples: Sequence[Any], folds: NDArray[np.int64], seed: int, progress: Progress
) -> FittedByHeart:
    def of(wanted: NDArray[np.bool_]) -> ByHeart:
        mine = [examples[i] for i in np.flatnonzero(wanted)]
        return ByHeart(stage, (), {np.asarray(e.prepared.pixels).tobytes(): e.target for e in mine})

    every = np.ones(len(folds), np.bool_)
    return FittedByHeart(of(every), tuple(of(folds != fold) for fold in range(stage.folds)))


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    monkeypatch.setattr(module, "fit_segmentation", learn_by_heart)
    return circles(tmp_path)


def config_of(hospital: Hospital) -> ImagingConfig:
    return load_model_config(str(hospital.study)).imaging


def fitted(hospital: Hospital) -> tuple[FittedStages, dict[str, int]]:
    """The stages, and how many lesions training is told of in each of its images."""
    with Warehouse.open(hospital.warehouse) as source:
        stages = fit_stages(config_of(hospital), source, training_subjects(source), 1, Silent())
        assert stages is not None
        images = [row for chunk in source.chunks(subjects=training_subjects(source)) for row in sum(chunk.images, ())]
        found = stages.source.looked("discs", images, source.image_root)
    assert not any(isinstance(one, ImageProblem) for one in found)
    return stages, {row.image_id: len(one.lesions) for row, one in zip(images, found, strict=True)}  # type: ignore[union-attr]


def test_findings_of_training_come_from_a_network_that_never_saw_the_subject(hospital: Hospital) -> None:
    stages, told = fitted(hospital)
    assert len(told) == 2 * (len(SUBJECTS) - len(HELD_OUT))
    assert set(told.values()) == {0}, "by heart it marks only what trained it"
    by_all = stages.segmenters["discs"]
    assert isinstance(by_all, ByHeart)
    assert len(by_all.seen) == len(told), "all folds together saw every one"
    quality = {row["metric"]: row["value"] for row in stages.card["discs"]["quality"]}
    assert quality["dice_mean"] == 0, "its quality is told of people it never saw"


def test_an_image_that_was_judged_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = circles(tmp_path)
    config = config_of(hospital)
    with Warehouse.open(hospital.warehouse) as source:
        people = training_subjects(source)
        stages = fit_stages(config, source, people, 1, Silent())
        assert stages is not None
        images = [row for chunk in source.chunks(subjects=people) for row in sum(chunk.images, ())]
        fold = {subject: place for place, subject in enumerate(people.tolist())}
        anew = CrossFitted(config, {"discs": fold}, {"discs": [stages.source.of("discs", one) for one in fold]})
        wanted = anew.looked("discs", images, source.image_root)
        monkeypatch.setattr(Segmenter, "probabilities", lambda *_: pytest.fail("looked at twice"))
        assert stages.source.looked("discs", images, source.image_root) == wanted
    assert sum(len(one.lesions) for one in wanted if isinstance(one, Looked)) > len(images) / 2


def test_people_of_one_group_are_in_one_fold(hospital: Hospital) -> None:
    # Subject 2 has the very pictures and marks of subject 1: only as one group is each kept from the other's network.
    with duckdb.connect(str(hospital.warehouse)) as connection:
        connection.execute("UPDATE images SET path = replace(path, 's2v', 's1v') WHERE subject_id = 2")
        connection.execute("UPDATE annotations SET path = replace(path, 's2v', 's1v') WHERE subject_id = 2")
    together = {}
    for partner in (3, 4, 6, 7, 8, 9):  # dealt with others, 1 and 2 would not always be in one fold
        with duckdb.connect(str(hospital.warehouse)) as connection:
            connection.execute("DROP TABLE IF EXISTS subject_groups")
            connection.execute(table_schema("warehouse", "subject_groups").ddl())
            connection.execute(
                f"INSERT INTO subject_groups (subject_id, group_id) VALUES (1, 90{partner}), (2, 90{partner})"
            )
        _, told = fitted(hospital)
        together[partner] = told["s1v0"] + told["s2v0"]
    assert set(together.values()) == {0}


def test_a_mask_that_cannot_be_read_costs_its_image(hospital: Hospital) -> None:
    (hospital.warehouse.parent / "s1v0_mask.png").write_bytes(b"no picture")
    stages, told = fitted(hospital)
    said = stages.card["discs"]
    assert sum(said["left_out"].values()) == 1
    assert said["images"] == len(told) - 1


def test_a_stage_without_marks_says_what_it_wants(hospital: Hospital) -> None:
    with duckdb.connect(str(hospital.warehouse)) as connection:
        connection.execute("DELETE FROM annotations WHERE kind = 'mask'")
    with pytest.raises(InputError, match="segmentation discs has nothing to learn from") as raised:
        fitted(hospital)
    assert "disc marked in `annotations`" in str(raised.value.wanted)
