"""Writes a report: chooses the subjects, renders beside the target folder, moves the files in when all are there."""

import fcntl
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from riskpred.errors import InputError, OutputError
from riskpred.progress import Progress, Silent
from riskpred.report.index import write_index
from riskpred.report.language import text
from riskpred.report.model_card import card_page, model_card
from riskpred.report.pdf import printer
from riskpred.report.read import Scores, card_of
from riskpred.report.render import GENERATOR, page
from riskpred.report.summarise import run_facts, summarise

MODEL = "model.html"
_PAGE = re.compile(r"([0-9a-f]{12}|index(-[a-z0-9-]+)?|model)\.html|[0-9a-f]{12}\.pdf")
STAGING = ".riskpred-report-"
"""Starts the name of the folder in which a report is being made."""
_LOCK = ".lock"
_BUNDLE = "manifest.json"
"""The file that makes a folder a bundle (riskpred/model, which reports do not load)."""
_AT_ONCE = 200
"""Subjects whose rows are held in memory together."""


@dataclass(frozen=True)
class Report:
    """What was written. run: the ledger facts of the night; model: its model card; chosen: in words, whose pages."""

    index: Path
    pages: int
    chosen: str
    run: dict[str, Any]
    model: dict[str, Any]


def write_report(
    scores: Path,
    into: Path,
    subject: int | None = None,
    top: int | None = None,
    progress: Progress | None = None,
    each: Callable[[dict[str, Any]], None] | None = None,
    lang: str = "en",
    pdf: bool = False,
) -> Report:
    """Make a page per subject and an index from the latest published run of `scores`.

    Afterwards `into` holds exactly this report: pages of an earlier one are replaced or removed, files that are
    not ours are left alone. Until every page is rendered nothing in `into` changes, so Ctrl-C leaves the old report.

    Args:
        subject: this one alone; a subject that was considered but not scored gets a page that says why.
        top: the N of highest percentile. Neither: all with feature reasons, or everyone scored if nobody has any.
        each: called with every page's dict, in the order of the pages.
        lang: one of language.LANGUAGES.
        pdf: also a PDF beside each page.

    Raises:
        UsageError: `pdf`, and what makes one is not installed (see pdf.py).
        InputError: `scores` is missing, locked, not ours, or `subject` is not in the run.
        OutputError: `into` cannot be written.
    """
    progress = progress or Silent()
    printed = printer(lang, GENERATOR) if pdf else None
    with Scores.open(scores) as opened:
        subjects, chosen = _choose(opened, subject, top)
        with _staging(into) as staging:
            try:
                written = list(_render(opened, subjects, chosen, staging, progress, each, lang, printed))
            except OSError as error:
                raise not_writable(into, error) from None
            _publish(staging, into, written)
        return Report(into / "index.html", len(subjects), chosen, run_facts(opened.run), card_of(opened.run))


def _choose(scores: Scores, subject: int | None, top: int | None) -> tuple[list[int], str]:
    if subject is not None:
        if not scores.considered(subject):
            raise InputError(
                f"{scores.path}: the latest run did not consider this subject.",
                wanted="a subject_id of its table `eligibility`",
                do="look the person up in `eligibility`, or score a warehouse that holds them",
            )
        return [subject], text("This report was made for one person.")
    if top is not None:
        found = scores.top(top)
        return found, text("These are the people of highest percentile at the longest time span.")
    explained = scores.explained()
    if explained:
        return explained, text("These are the people whose reasons were computed fact by fact.")
    return scores.scored(), text("These are all people who were scored.")


def _render(
    scores: Scores,
    subjects: Sequence[int],
    chosen: str,
    staging: Path,
    progress: Progress,
    each: Callable[[dict[str, Any]], None] | None,
    lang: str,
    printed: Callable[[str], bytes] | None,
) -> Iterator[str]:
    """Write every page and the index into `staging`; yields the file names, the index last."""
    done = 0
    for first in range(0, len(subjects), _AT_ONCE):
        for rows in scores.rows(subjects[first : first + _AT_ONCE]).values():
            summary = summarise(scores.run, rows)
            name = summary["pseudonym"]
            html = page(summary, lang)
            (staging / f"{name}.html").write_text(html, encoding="utf-8")
            if printed:
                (staging / f"{name}.pdf").write_bytes(printed(html))
                yield f"{name}.pdf"
            if each:
                each(summary)
            yield f"{name}.html"
            done += 1
            if printed or done % _AT_ONCE == 0 or done == len(subjects):
                progress.step("pages", done, len(subjects))
    shown = model_card(scores.run, lang)
    (staging / MODEL).write_text(card_page(shown, card_of(scores.run), lang, index=True), encoding="utf-8")
    yield MODEL
    yield from write_index(scores, subjects, chosen, staging, lang)


@contextmanager
def _staging(into: Path) -> Iterator[Path]:
    """A new folder on the same disk (a hidden one inside `into`), removed at the end whatever happens.

    A process that is killed cannot remove its own: the next report does, for a page of a patient must not lie there
    unseen. While its maker lives the folder's lock file is locked; the system unlocks it when the maker dies.
    """
    if into.exists() and not into.is_dir():
        raise OutputError(f"{into}: is a file.", wanted="a folder for the report", do="give another --into")
    if (into / _BUNDLE).is_file():
        raise OutputError(
            f"{into}: is a bundle; a page in it would make it unusable.",
            wanted="a folder for the report",
            do="give another --into",
        )
    made = not into.exists()
    try:
        into.mkdir(parents=True, exist_ok=True)
        remove_abandoned(into)
        folder = Path(tempfile.mkdtemp(prefix=STAGING, dir=into))
        lock = _lock(folder)
    except OSError as error:
        raise not_writable(into, error) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        if made and not any(into.iterdir()):
            into.rmdir()


def _lock(folder: Path) -> int:
    """Descriptor of the folder's lock file, which appears under its name only once it is locked."""
    made = folder / f"{_LOCK}.new"
    lock = os.open(made, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    made.rename(folder / _LOCK)
    return lock


def remove_abandoned(into: Path) -> None:
    """Remove what killed makers of a report left in its folder; that of one who is at work is left alone."""
    for folder in into.glob(f"{STAGING}*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # about to be made and still empty, not a folder of ours, or another user's
        try:
            # Whoever makes a report there right now keeps the lock, or has just removed the folder.
            with suppress(BlockingIOError, FileNotFoundError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
        finally:
            os.close(lock)


def _publish(staging: Path, into: Path, written: Sequence[str]) -> None:
    """Move the files in, index last, then remove pages of an earlier report that this one no longer has."""
    kept = set(written)
    with undisturbed():
        try:
            for name in written:
                (staging / name).replace(into / name)
            for old in into.iterdir():
                if _PAGE.fullmatch(old.name) and old.name not in kept and is_ours(old):
                    old.unlink()
        except OSError as error:
            raise not_writable(into, error) from None


def is_ours(file: Path) -> bool:
    """Whether a file is a page that `riskpred report` made: it says so at its beginning, a PDF at its end."""
    with file.open("rb") as stream:
        if file.suffix == ".pdf":
            stream.seek(max(0, file.stat().st_size - 1000))
        return GENERATOR.encode() in stream.read(1000)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and termination wait: moving the files takes milliseconds, and a half-moved report helps nobody."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def not_writable(into: Path, error: OSError) -> OutputError:
    """What is said when a report's folder cannot be written."""
    return OutputError(
        f"{into}: cannot be written ({error.strerror or type(error).__name__}).",
        wanted="a folder in which files may be made, on a disk with room",
        do="check its rights and the free space, or give another --into",
    )
