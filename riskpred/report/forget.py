"""Erases one person from a report: their page, and their line of the index."""

import os
import re
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from riskpred.errors import InputError, OutputError
from riskpred.report.write import STAGING, is_ours, not_writable, remove_abandoned, undisturbed

_INDEX = "index.html"
# As templates/index.html.j2 writes them: one line a person, and how many there are, in title and text.
_LINE = '<tr><th scope="row"><a class="code" href="{pseudonym}.html">'
_COUNTS = (
    re.compile(r"(?P<before><h1>)(?P<count>[\d,]+) (?:person|people)(?=, records up to )"),
    re.compile(r"(?P<before>These are the )(?P<count>[\d,]+) people(?= of highest percentile)"),
)


def refuse_unlike_report(folder: Path) -> None:
    """Check, before anything changes, that a folder holds a report that can be changed now.

    Raises: InputError: no such folder, or no index of ours in it. OutputError: not writable, or being written.
    """
    index = folder / _INDEX
    if not index.is_file() or not is_ours(index):
        raise InputError(
            f"{folder}: not a report; nothing was changed.",
            wanted="a folder that `riskpred report` made",
            got="no such folder" if not folder.is_dir() else f"no {_INDEX} of riskpred",
            do="correct --report",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise not_writable(folder, PermissionError(13, "Permission denied"))
    remove_abandoned(folder)
    if any(folder.glob(f"{STAGING}*")):
        raise OutputError(
            f"{folder}: a report is being made there; nothing was changed.",
            wanted="a report that nobody is writing",
            do="wait for it, then run again: it may hold the person",
        )


def forget_pages(folder: Path, pseudonyms: Collection[str]) -> int:
    """Remove a person's page and index line from a report; returns how many of these there were.

    Args: folder: that passed `refuse_unlike_report`.   pseudonyms: every name the person may have there.
    Raises: OutputError, when the folder cannot be written.
    """
    removed = 0
    try:
        with undisturbed():
            removed += _rewrite(folder / _INDEX, lambda text: _without(text, pseudonyms))
            for pseudonym in sorted(pseudonyms):
                # .html is the page; another ending is something made of it, such as a PDF.
                for page in sorted(folder.glob(f"{pseudonym}.*")):
                    page.unlink()
                    removed += 1
    except OSError as error:
        raise not_writable(folder, error) from None
    return removed


def _without(text: str, pseudonyms: Collection[str]) -> tuple[str, int]:
    """The index without the person's lines, its counts with it; and how many lines these were."""
    starts = tuple(_LINE.format(pseudonym=pseudonym) for pseudonym in pseudonyms)
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(starts)]
    removed = len(lines) - len(kept)
    text = "".join(kept)
    if removed:
        for pattern in _COUNTS:
            text = pattern.sub(lambda found: _fewer(found, removed), text, count=1)
    assert not any(pseudonym in text for pseudonym in pseudonyms), "the index names a person only in their line"
    return text, removed


def _fewer(found: re.Match[str], removed: int) -> str:
    count = max(0, int(found["count"].replace(",", "")) - removed)
    return f"{found['before']}{count:,} {'person' if count == 1 else 'people'}"


def _rewrite(file: Path, change: Callable[[str], tuple[str, int]]) -> int:
    """Replace a text file by what `change` makes of it, in one rename; returns what `change` counted."""
    text, removed = change(file.read_text(encoding="utf-8"))
    if removed:
        mode = file.stat().st_mode & 0o777
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with open(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, mode)
            os.replace(name, file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    return removed
