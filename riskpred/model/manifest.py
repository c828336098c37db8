"""A bundle's folder: written beside its place and renamed when whole, every file's SHA-256 in manifest.json."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from riskpred.errors import BundleError, OutputError
from riskpred.records.schema import schema_version

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def dump_json(path: Path, data: Any) -> None:
    """Write JSON with sorted keys and a line end."""
    path.write_text(json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its place when the block ends well, and is removed when it does not.

    Raises: OutputError, when the parent is missing or not writable, or `target` is something else than a bundle.
    """
    refuse_target(target)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".writing", dir=target.parent))
    try:
        yield staging
        # mkdtemp and safetensors write for the owner alone; who may read a bundle is for the umask to say.
        umask = os.umask(0)
        os.umask(umask)
        for path in staging.iterdir():
            path.chmod(0o666 & ~umask)
            _sync(path)
        staging.chmod(0o777 & ~umask)
        _sync(staging)
        _put(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def refuse_target(target: Path) -> None:
    """Check, before hours of work, that a bundle can be written to `target`. Raises: OutputError."""
    if not target.parent.is_dir():
        raise OutputError(f"{target}: its folder does not exist.", wanted="an existing folder", do="make it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{target}: its folder is not writable.", do="choose another place, or change its rights")
    if target.exists() and not (target / MANIFEST).is_file() and not (target.is_dir() and not any(target.iterdir())):
        raise OutputError(
            f"{target}: exists and is not a bundle.",
            wanted="a new path, an empty folder, or a bundle to replace",
            got="a file" if target.is_file() else "a folder without manifest.json",
            do="choose another place",
        )


def _put(staging: Path, target: Path) -> None:
    aside = staging.with_suffix(".replaced")
    if target.exists():
        target.rename(aside)
    try:
        staging.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    _sync(target.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def seal(folder: Path, about: dict[str, Any]) -> None:
    """Write manifest.json over all files that are in the folder."""
    files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    dump_json(folder / MANIFEST, {**about, "format": FORMAT, "schema_version": schema_version(), "files": files})


def verify(folder: Path) -> dict[str, Any]:
    """The manifest, once every file has the bytes it names.

    Raises: BundleError: no bundle there, format or schema version of another release, a file missing or changed.
    """
    if not (folder / MANIFEST).is_file():
        raise BundleError(
            f"{folder}: not a bundle.",
            wanted="a folder with manifest.json, as `riskpred fit` writes it",
            got="no such folder" if not folder.is_dir() else "a folder without manifest.json",
            do="check the path, or run `riskpred fit`",
        )
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files, format_ = dict(manifest["files"]), manifest["format"]
    except (ValueError, KeyError, TypeError):
        raise BundleError(f"{folder / MANIFEST}: damaged.", do="copy the bundle again, or fit again") from None
    if format_ != FORMAT:
        raise BundleError(
            f"{folder}: format of another release.", wanted=f"format {FORMAT}", got=f"format {format_}", do="fit again"
        )
    for name, wanted in sorted(files.items()):
        path = folder / name
        got = sha256(path) if path.is_file() and Path(name).name == name else "no such file"
        if got != wanted:
            raise BundleError(
                f"{path}: not the file that was written.",
                wanted=f"SHA-256 {wanted[:12]}... (manifest.json)",
                got=got if got == "no such file" else f"SHA-256 {got[:12]}...",
                do="copy the bundle again, or fit again",
            )
    if manifest.get("schema_version") != schema_version():
        raise BundleError(
            f"{folder}: made for other table schemas.",
            wanted=f"schema version {schema_version()}",
            got=f"schema version {manifest.get('schema_version')}",
            do="fit again with this release, or use the release that fitted it",
        )
    return manifest
