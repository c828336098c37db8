"""Erases one person from a report: their page, their line in every order of the index, and themselves in its counts."""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from riskpred.errors import InputError, OutputError
from riskpred.report.write import STAGING, is_ours, not_writable, remove_abandoned, undisturbed

_INDEX = "index.html"
_ORDERS = "index*.html"
_FIRST = re.compile(r"index(-page-\d+)?\.html")
# As templates/index_row.html.j2 writes them, one line a person, and templates/index.html.j2 the counts.
_LINE = re.compile(
    r'<tr data-counts="(?P<counts>[a-z0-9 -]+)"><th scope="row">'
    r'<a class="code" href="(?P<pseudonym>[0-9a-f]{12})\.html">'
)
_COUNT = re.compile(r'(?P<before><data class="count" data-count="(?P<name>[a-z0-9-]+)" value=")\d+">[\d,]+(?=</data>)')


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
    """Remove a person's page and index lines from a report; returns how many of these there were.

    Args: folder: that passed `refuse_unlike_report`.   pseudonyms: every name the person may have there.
    Raises: OutputError, when the folder cannot be written.
    """
    removed = 0
    try:
        with undisturbed():
            pages = [page for page in sorted(folder.glob(_ORDERS)) if is_ours(page)]
            # Counted anew, not taken from the old counts: what was stopped halfway is right after another run.
            left = _left([page for page in pages if _FIRST.fullmatch(page.name)], pseudonyms)
            for page in pages:
                removed += _rewrite(page, lambda text: _without(text, pseudonyms, left))
            for pseudonym in sorted(pseudonyms):
                # .html is the page; another ending is something made of it, such as a PDF.
                for page in sorted(folder.glob(f"{pseudonym}.*")):
                    page.unlink()
                    removed += 1
    except OSError as error:
        raise not_writable(folder, error) from None
    return removed


def _left(pages: Sequence[Path], pseudonyms: Collection[str]) -> Counter[str]:
    """The counts without these persons, from the lines of one order, which lists everyone once."""
    found: Counter[str] = Counter()
    for page in pages:
        with page.open(encoding="utf-8") as lines:
            for line in lines:
                match = _LINE.match(line)
                if match and match["pseudonym"] not in pseudonyms:
                    found.update(match["counts"].split())
    return found


def _without(text: str, pseudonyms: Collection[str], left: Counter[str]) -> tuple[str, int, bool]:
    """The index without the person's lines, its counts without them; how many lines these were, and if it changed."""
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if not ((match := _LINE.match(line)) and match["pseudonym"] in pseudonyms)]
    now = _COUNT.sub(lambda found: f'{found["before"]}{left[found["name"]]}">{left[found["name"]]:,}', "".join(kept))
    assert not any(pseudonym in now for pseudonym in pseudonyms), "the index names a person only in their line"
    return now, len(lines) - len(kept), now != text


def _rewrite(file: Path, change: Callable[[str], tuple[str, int, bool]]) -> int:
    """Replace a text file by what `change` makes of it, in one rename; returns what `change` counted."""
    text, removed, changed = change(file.read_text(encoding="utf-8"))
    if changed:
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
