"""The methods by name: which module fits each, which sets it suits, and which code it stands on."""

import ast
import hashlib
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from riskpred.config.network import NetworkConfig
from riskpred.config.study import ModelConfig, study_folder
from tests.benchmarks.accuracy.sets import REPOSITORY, BenchmarkSet
from tests.benchmarks.accuracy.task import Result, Task

HERE: Final = Path(__file__).resolve().parent
OURS: Final = "riskpred"
UNTREATED: Final = "riskpred_untreated"
NEURAL: Final = "joint_lstm_cnn"
FLOOR: Final = "age_sex"

_ROOMS: Final = tuple(f"riskpred/{room}" for room in ("model", "fit", "config", "features"))
_COX: Final = ("riskpred/fit/peer.py", "riskpred/model/peer.py", "riskpred/model/spline.py")


@dataclass(frozen=True)
class Method:
    """module: below this package, with the function `entry`. code: files and folders of the repository that its
    predictions depend on besides. spline: whether it reads the knots and penalties of network.yaml."""

    name: str
    module: str
    entry: str = "fit"
    code: tuple[str, ...] = ()
    spline: bool = False
    suits: Callable[[BenchmarkSet, ModelConfig], bool] = lambda spec, config: True

    def fit(self, task: Task) -> Result:
        found = importlib.import_module(f"{__package__}.{self.module}")
        result: Result = getattr(found, self.entry)(task)
        return result

    def fingerprint(self, spec: BenchmarkSet, config: ModelConfig) -> str:
        """Changes when the method's code or its settings do; comments, docstrings and layout do not count.

        Args:
            config: `rows.config_of(spec)`.
        """
        found = hashlib.blake2b(digest_size=12)
        own = [HERE / f"{self.module.replace('.', '/')}.py", *(REPOSITORY / name for name in self.code)]
        for path in sorted(_modules(own)):
            found.update(f"{path.relative_to(REPOSITORY)}\n{code_of(path)}\n".encode())
        if self.name in (OURS, UNTREATED):
            for path in sorted(study_folder(spec.study).glob("*.yaml")):
                found.update(path.read_bytes())
            found.update(repr(sorted(spec.absent.items())).encode())
        if self.spline:
            found.update(repr(_spline_settings(config.network)).encode())
        return found.hexdigest()


def _spline_settings(network: NetworkConfig) -> tuple[object, ...]:
    knots = [getattr(encoder, "knots", None) for encoder in network.encoders.values()]
    return network.training.ridge_grid, knots


def _peer(name: str, *code: str, spline: bool = False) -> Method:
    shared = ("problem.py", "tuning.py", "horizons.py")
    own = tuple(f"{_HERE_NAME}/peers/{one}" for one in shared)
    return Method(name, f"peers.{name}", code=own + code, spline=spline)


def _has_more_than_tables(spec: BenchmarkSet, config: ModelConfig) -> bool:
    return any(one.kind != "tabular" for one in config.features.modalities.values())


def _has_follow_up(spec: BenchmarkSet, config: ModelConfig) -> bool:
    # Where every outcome is known at once it would be the peer `logistic` by another name, and slower.
    return any(not one.known_at_once for one in config.outcomes.groups)


def _has_scenarios(spec: BenchmarkSet, config: ModelConfig) -> bool:
    return bool(spec.absent)


_HERE_NAME: Final = str(HERE.relative_to(REPOSITORY))

_ALL: Final = (
    Method(OURS, "ours", code=_ROOMS),
    Method(UNTREATED, "ours", "fit_untreated", code=_ROOMS, suits=_has_scenarios),
    replace(_peer("spline_cox", *_COX, spline=True), suits=_has_follow_up),
    _peer(FLOOR, *_COX, f"{_HERE_NAME}/peers/spline_cox.py", spline=True),
    _peer("logistic", "riskpred/model/spline.py"),
    _peer("rsf"),
    _peer("xgboost_cox"),
    _peer("lightgbm_ipcw"),
    _peer("catboost_ipcw"),
    Method(NEURAL, f"peers.{NEURAL}", suits=_has_more_than_tables),
)

METHODS: Final = {one.name: one for one in _ALL}
PEERS: Final = ("spline_cox", "rsf", "xgboost_cox", "lightgbm_ipcw", "catboost_ipcw", "logistic")
"""The single peers among which inner folds choose."""


def chosen(names: str) -> list[Method]:
    """Methods of a comma-separated list; "all", "peers" (all but riskpred).

    Raises: SystemExit, naming what is not there.
    """
    found: dict[str, Method] = {}
    for name in names.split(","):
        if name == "all":
            found |= METHODS
        elif name == "peers":
            found |= {key: one for key, one in METHODS.items() if key not in (OURS, UNTREATED)}
        elif name in METHODS:
            found[name] = METHODS[name]
        else:
            raise SystemExit(f"no method {name}; there are: all, peers, {', '.join(METHODS)}")
    return list(found.values())


def _modules(paths: Iterable[Path]) -> set[Path]:
    return {module for path in paths for module in (path.rglob("*.py") if path.is_dir() else [path])}


@cache
def code_of(path: Path) -> str:
    """A module's code without comments, docstrings, types and layout: what can change a number."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)
