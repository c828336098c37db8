"""The data sets of the benchmark: which study, whose rows, how they are parted, and which ablations stand beside."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[3]


class Design(Enum):
    """How rows become training and test rows."""

    FOLDS = "grouped, stratified folds over everyone, repeated"
    CYCLES = "each survey cycle held out in turn"
    HELD_OUT = "trained on the splits train and tuning, scored once on held_out"


@dataclass(frozen=True)
class BenchmarkSet:
    """One set: a study, perhaps without some of its inputs, on some of its people.

    Attributes:
        data: folder in the real data folder; "" = simulated.
        splits: splits of the warehouse whose subjects take part; () = everyone.
        without_modalities, without_codes: left out of features.yaml: what a model trained without them is worth.
        only_with: modality that a row must have to take part.
        any_death: the one outcome is death of any cause, in place of the study's.
        absent: name of a scenario -> modalities that the fitted model is not given when it scores.
        subsets: name -> (least, greatest) age in years, inclusive: recomputed from the same predictions.
        age_sex: codes of the columns that the floor `age_sex` reads.
        of: set that this one is an ablation of, with the same rows and folds; "" = a set in its own right.
        counts: whether it is one of the nine tabular and series sets of the first two targets.
    """

    name: str
    study: str
    data: str
    design: Design = Design.FOLDS
    splits: tuple[str, ...] = ()
    without_modalities: tuple[str, ...] = ()
    without_codes: tuple[str, ...] = ()
    only_with: str = ""
    any_death: bool = False
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    subsets: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    age_sex: tuple[str, ...] = ("age_years", "GENDER//*")
    of: str = ""
    counts: bool = False


_TRAINING: Final = ("train", "tuning")
_LABS: Final = ("labs", "labs_series")
_ALL_SERIES: Final = ("vitals", "vitals_series", "labs", "labs_series")
_ACTIVITY: Final = ("activity", "series")
_NAFLD_SERIES: Final = ("LAB//HDL", "VITAL//SBP", "LAB//FIB4", "SURVEY//SMOKING", "DX//*")
"""What is measured over time, and the pattern of all diagnoses; which diagnoses there are stays among the static."""

_ALL: Final = (
    BenchmarkSet("framingham", "framingham", "framingham", counts=True),
    BenchmarkSet("framingham_exams", "framingham_exams", "framingham", counts=True),
    BenchmarkSet("metabric", "metabric", "deepsurv_benchmarks", counts=True),
    BenchmarkSet("gbsg", "gbsg", "deepsurv_benchmarks", counts=True),
    BenchmarkSet("support", "support", "deepsurv_benchmarks", counts=True),
    BenchmarkSet("nafld", "nafld", "nafld", absent={"without series": ("series",)}, counts=True),
    BenchmarkSet("nafld-no_series", "nafld", "nafld", without_modalities=("series",), of="nafld"),
    BenchmarkSet(
        "nafld-static", "nafld", "nafld", without_modalities=("series",), without_codes=_NAFLD_SERIES, of="nafld"
    ),
    BenchmarkSet(
        "nhanes_mortality",
        "nhanes_mortality",
        "nhanes_mortality",
        absent={"without activity": _ACTIVITY},
        subsets={"aged 40-79": (40.0, 80.0)},
        counts=True,
    ),
    BenchmarkSet(
        "nhanes_mortality-no_activity",
        "nhanes_mortality",
        "nhanes_mortality",
        without_modalities=_ACTIVITY,
        of="nhanes_mortality",
    ),
    BenchmarkSet("nhanes_accelerometry", "nhanes_mortality", "nhanes_mortality", only_with="activity", any_death=True),
    BenchmarkSet(
        "nhanes_accelerometry-no_activity",
        "nhanes_mortality",
        "nhanes_mortality",
        only_with="activity",
        any_death=True,
        without_modalities=_ACTIVITY,
        of="nhanes_accelerometry",
    ),
    BenchmarkSet("nhanes_phq9", "nhanes_phq9", "nhanes_phq9", counts=True),
    BenchmarkSet("nhanes_phq9_by_cycle", "nhanes_phq9", "nhanes_phq9", Design.CYCLES),
    BenchmarkSet(
        "physionet2012",
        "physionet2012",
        "physionet2012",
        splits=_TRAINING,
        absent={"without labs": _LABS, "without any series": _ALL_SERIES},
        counts=True,
    ),
    BenchmarkSet(
        "physionet2012-no_labs",
        "physionet2012",
        "physionet2012",
        splits=_TRAINING,
        without_modalities=_LABS,
        of="physionet2012",
    ),
    BenchmarkSet(
        "physionet2012-no_series",
        "physionet2012",
        "physionet2012",
        splits=_TRAINING,
        without_modalities=_ALL_SERIES,
        of="physionet2012",
    ),
    BenchmarkSet("physionet2012_b", "physionet2012", "physionet2012", Design.HELD_OUT),
    # Findings have a benchmark of their own (tests/benchmarks/imaging/lgg_death.py): this one trains no segmentation.
    BenchmarkSet(
        "lgg_mri", "lgg_mri", "lgg_mri", without_modalities=("findings",), absent={"without image": ("image",)}
    ),
    BenchmarkSet("lgg_mri-no_image", "lgg_mri", "lgg_mri", without_modalities=("image", "findings"), of="lgg_mri"),
    BenchmarkSet("hannover_cxr", "hannover_cxr", "hannover_cxr"),
    BenchmarkSet("hospital", "hospital", "", Design.HELD_OUT),
)

SETS: Final = {one.name: one for one in _ALL}


def data_folder(one: BenchmarkSet) -> Path:
    """The source files: $RISKPRED_TEST_DATA, else ../shared/data."""
    root = os.environ.get("RISKPRED_TEST_DATA")
    return (Path(root) if root else REPOSITORY.parent / "shared" / "data") / one.data


def chosen(names: str) -> list[BenchmarkSet]:
    """Sets of a comma-separated list; "all", or a name followed by * for a set with its ablations.

    Raises: SystemExit, naming what is not there.
    """
    found: dict[str, BenchmarkSet] = {}
    for name in names.split(","):
        if name == "all":
            found |= SETS
        elif name.endswith("*"):
            found |= {key: one for key, one in SETS.items() if name[:-1] in (key, one.of)}
        elif name in SETS:
            found[name] = SETS[name]
        else:
            raise SystemExit(f"no set {name}; there are: all, {', '.join(SETS)}")
    return list(found.values())
