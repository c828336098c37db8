"""The strict, frozen pydantic model that every configuration file is read into, and its error text."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from riskpred.config.files import read_yaml
from riskpred.errors import ConfigError


class Strict(BaseModel):
    """A configuration block: unknown keys are errors, types are not coerced, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=Strict)


def parse(kind: type[Model], data: Any, where: str) -> Model:
    """Validate already parsed YAML or JSON against a model; `where` names the file in the error.

    Raises: ConfigError, listing each key that is wrong, what was wanted there and what to do.
    """
    try:
        # JSON mode of strict: lists become tuples, strings become dates and enums, nothing else is coerced.
        return kind.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in item['loc']) or '(top)'}: {item['msg']}" for item in error.errors()
        ]
        unknown = [item for item in error.errors() if item["type"] == "extra_forbidden"]
        raise ConfigError(
            f"{where}: {len(problems)} thing{'s' if len(problems) > 1 else ''} wrong.",
            wanted=f"keys of {kind.__name__}: {', '.join(kind.model_fields)}" if unknown else None,
            got="; ".join(problems[:8]),
            do="remove or correct these keys" if unknown else "correct these values",
        ) from None


def load(kind: type[Model], path: Path) -> Model:
    """Read one YAML file into a model. Raises: ConfigError."""
    data = read_yaml(path)
    return parse(kind, {} if data is None else data, str(path))
