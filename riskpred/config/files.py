"""Finds schemas/ and configs/, in a wheel and in an editable install, and reads YAML without its traps."""

import re
from pathlib import Path
from typing import Any

import yaml

from riskpred.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(folder: str) -> Path:
    """Path of a shipped top-level folder, "schemas" or "configs".

    A wheel carries both inside the package (`_shipped/`); a checkout has them beside it.
    """
    inside, beside = _PACKAGE / "_shipped" / folder, _PACKAGE.parent / folder
    found = inside if inside.is_dir() else beside
    assert found.is_dir(), f"{folder}/ is neither in the package nor beside it"
    return found


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice and reads only true/false as booleans, never yes/no/on/off."""


def _mapping_once(loader: _StrictLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise ConfigError(
                f"{loader.name}: line {key_node.start_mark.line + 1}: the key {key!r} stands twice.",
                wanted="each key once",
                do="remove one of the two",
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_once)
# YAML 1.1 reads no/off as False and 012 as 10; a clinical code may be any of these.
_StrictLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:int")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)


def read_yaml(path: Path) -> Any:
    """Parse one YAML file.

    Raises: ConfigError, when the file is missing, is not YAML, or has a key twice.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file.", wanted="a YAML file", do="check the name of the study folder")
    try:
        with path.open(encoding="utf-8") as stream:
            return yaml.load(stream, Loader=_StrictLoader)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown place"
        raise ConfigError(
            f"{path}: not readable as YAML at {where}.", got=str(getattr(error, "problem", "")), do="mend the file"
        ) from None
