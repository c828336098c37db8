"""Packaged studies made small enough for a test: the same YAML but for sizes, steps, epochs and folds."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from riskpred.config.files import read_yaml, shipped

Overrides = dict[str, dict[str, Any]]

_SMALL_UNET = {"widths": [8, 16, 32]}
_QUICK = {"epochs": 2, "patience": 2, "batch_size": 8}
_SMALL_CNN = {"image": {"channels": [8, 16]}}
_MEMBERS = {"members": 2, "training": _QUICK}
_FAST = {"learning_rate": 0.004, "average": 0.9}
_NODULES: dict[str, Any] = {
    "nodules": {
        "steps": [{"step": "reorient"}, {"step": "crop_lung", "margin_mm": 5}, {"step": "window", "preset": "lung"}],
        "network": _SMALL_UNET,
        "training": {"steps": 160, "batch_size": 4, "patch": [16, 32, 32], **_FAST},
        "folds": 2,
        "flip_averaging": False,
    }
}
_TUMOUR: dict[str, Any] = {
    "tumour": {
        "network": _SMALL_UNET,
        "training": {"steps": 120, "batch_size": 2, "patch": [32, 32, 32], **_FAST},
        "folds": 2,
        "flip_averaging": False,
    }
}

TINY: dict[str, Overrides] = {
    "busi": {
        "features.yaml": {"modalities": {"image": {"size": 32}}},
        "network.yaml": {"encoders": _SMALL_CNN, **_MEMBERS, "cross_validation": {"folds": 2}},
    },
    "aptos": {
        "features.yaml": {"modalities": {"image": {"size": 32}}},
        "network.yaml": {"encoders": _SMALL_CNN, **_MEMBERS},
    },
    "messidor2": {
        "features.yaml": {"modalities": {"image": {"size": 32}}},
        "network.yaml": {"encoders": _SMALL_CNN, **_MEMBERS},
    },
    "cbis_ddsm": {
        "features.yaml": {"modalities": {"image": {"size": [48, 32]}}},
        "imaging.yaml": {
            "segmentation": {
                "lesions": {
                    "size": [80, 56],
                    "network": {**_SMALL_UNET, "stem": 1},
                    "training": {"steps": 60, "batch_size": 4, "patch": [80, 56], **_FAST},
                    "window": {"size": [80, 56]},
                    "folds": 2,
                    "flip_averaging": False,
                }
            }
        },
        "network.yaml": {"encoders": _SMALL_CNN, **_MEMBERS},
    },
    "luna16": {"imaging.yaml": {"segmentation": _NODULES}, "network.yaml": _MEMBERS},
    "lidc": {"imaging.yaml": {"segmentation": _NODULES}, "network.yaml": _MEMBERS},
    "fracatlas": {
        "imaging.yaml": {
            "segmentation": {
                "fractures": {
                    "size": 96,
                    "network": _SMALL_UNET,
                    "training": {
                        "steps": 60,
                        "batch_size": 4,
                        "patch": [64, 64],
                        **_FAST,
                    },
                    "window": {"size": [96, 96]},
                    "flip_averaging": False,
                }
            }
        },
        "network.yaml": _MEMBERS,
    },
    "coca": {
        "imaging.yaml": {
            "segmentation": {
                "calcium": {
                    "steps": [
                        {"step": "reorient"},
                        {"step": "crop_body", "above": -500},
                        {"step": "window", "preset": "calcium"},
                    ],
                    "slices": 20,
                    "network": {"widths": [8, 16, 32], "context": 1},
                    "training": {"steps": 80, "batch_size": 8, "patch": [64, 64], "average": 0.9},
                    "folds": 2,
                    "flip_averaging": False,
                }
            }
        },
        "network.yaml": _MEMBERS,
    },
    "brats": {
        "features.yaml": {"modalities": {"image": {"size": [12, 16, 16]}}},
        "imaging.yaml": {"segmentation": _TUMOUR},
        "network.yaml": {"encoders": _SMALL_CNN, **_MEMBERS},
    },
    "brats_survival": {"imaging.yaml": {"segmentation": _TUMOUR}, "network.yaml": _MEMBERS},
}
"""What of each study's files a test overrides: sizes, steps, epochs, folds and members, never what is read or asked."""


def tiny(study: str, folder: Path) -> Path:
    """A copy of a packaged study at FOLDER with its `TINY` settings."""
    shutil.copytree(shipped("configs") / "studies" / study, folder)
    for name, changes in TINY[study].items():
        path = folder / name
        whole = _over(read_yaml(path), changes)
        path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return folder


def _over(known: Any, changes: Any) -> Any:
    """Mappings are merged, anything else is replaced."""
    if not isinstance(known, dict) or not isinstance(changes, dict):
        return changes
    return {**known, **{key: _over(known.get(key), value) for key, value in changes.items()}}
