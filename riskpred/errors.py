"""Every exception a user can meet, with its exit code.

A message says what, where, how many; what was wanted, what was got, what to do. It never holds a patient's value or
name: callers put counts, column names, codes of the site's dictionary and row numbers into it, nothing else.
"""


class RiskpredError(Exception):
    """Wrong data, configuration or surroundings: something the user can mend.

    Args:
        what: one sentence: what is wrong, where, in how many rows.
        wanted: what would have been right, and which setting says so.
        got: what was found (a type, a unit, a count; never a patient's value).
        do: what to do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, wanted: str | None = None, got: str | None = None, do: str | None = None) -> None:
        self.what, self.wanted, self.got, self.do = what, wanted, got, do
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The whole text, one labelled line per part, as the command line prints it."""
        lines = [self.what]
        lines += [f"  {label:<6}  {text}" for label, text in self._parts() if text]
        return "\n".join(lines)

    def _parts(self) -> list[tuple[str, str | None]]:
        return [("wanted", self.wanted), ("got", self.got), ("do", self.do)]


class UsageError(RiskpredError):
    """An argument or option of the command line cannot be what was meant."""

    exit_code = 2


class ConfigError(RiskpredError):
    """A YAML file is wrong: unknown key, wrong type, contradiction."""

    exit_code = 10


class InputError(RiskpredError):
    """An input is missing or invalid: a file, a column, a table, too many bad rows."""

    exit_code = 11


class BundleError(RiskpredError):
    """A model bundle is missing, damaged, or does not fit the warehouse."""

    exit_code = 12


class GateError(RiskpredError):
    """The quality gate refused to publish the night."""

    exit_code = 13


class NotAllScored(RiskpredError):
    """The night was published, but someone eligible got no risk."""

    exit_code = 14


class OutputError(RiskpredError):
    """An output is locked or cannot be written."""

    exit_code = 15


class ShapeMismatch(ValueError):
    """Tensors that must agree in shape do not: says the rule, then the fact."""
