"""A bundle's folder: written beside its place and renamed when whole, every file's SHA-256 in manifest.json.

manifest.json protects itself too: its `digest` is the SHA-256 of its JSON without that field.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, Final

from riskpred.errors import BundleError, OutputError
from riskpred.model.evaluation import is_evaluation
from riskpred.records.schema import schema_version

FORMAT: Final = 6
MANIFEST: Final = "manifest.json"
DIGEST: Final = "digest"
_WRITING: Final = ".writing"
_REPLACED: Final = ".replaced"


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def dump_json(path: Path, data: Any) -> None:
    """Write JSON with sorted keys and a line end."""
    path.write_text(_rendered(data), encoding="utf-8")


def _rendered(data: Any) -> str:
    return json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n"


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its place when the block ends well, and is removed when it does not.

    What earlier, killed writes of this target left beside it is removed last: until the new bundle stands, the old
    one may be among it.

    Raises: OutputError, when the parent is missing or not writable, or `target` is something else than a bundle.
    """
    refuse_target(target)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_WRITING, dir=target.parent))
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
    aside = staging.with_suffix(_REPLACED)
    if target.exists():
        target.rename(aside)
    try:
        staging.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    _sync(target.parent)
    _remove_leftovers(target)


def _remove_leftovers(target: Path) -> None:
    """Remove folders named as `new_folder` names them for this target, and nothing else."""
    # 8 characters of this alphabet are what tempfile puts between prefix and suffix.
    ours = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}({re.escape(_WRITING)}|{re.escape(_REPLACED)})")
    for path in target.parent.iterdir():
        if ours.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def seal(folder: Path, about: dict[str, Any]) -> None:
    """Write manifest.json over all files that are in the folder, with its own digest."""
    files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    # As JSON gives it back, so that the digest is of what a reader sees (keys are text, sorted as text).
    written = _rendered({**about, "format": FORMAT, "schema_version": schema_version(), "files": files})
    manifest = json.loads(written)
    dump_json(folder / MANIFEST, {**manifest, DIGEST: manifest_digest(manifest)})


def manifest_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 of the manifest's JSON as `dump_json` writes it, without its field `digest`."""
    rest = {key: value for key, value in manifest.items() if key != DIGEST}
    return hashlib.sha256(_rendered(rest).encode()).hexdigest()


def verify(folder: Path, required: Set[str], further: re.Pattern[str] | None = None) -> dict[str, Any]:
    """The manifest, once it and every file have the bytes that were written, and exactly the required files are there.

    An evaluation.json may lie beside them: it names the bundle, not the bundle it.

    Args:
        required: names of a bundle's files, without manifest.json.
        further: names that may stand there as well; those that manifest.json lists must.

    Raises: BundleError: no bundle there, format or schema version of another release, a file missing, changed or added.
    """
    manifest = _read_manifest(folder, required, further)
    for name, wanted in sorted(manifest["files"].items()):
        got = sha256(folder / name)
        if got != wanted:
            raise _changed(folder / name, f"SHA-256 {wanted[:12]}... (manifest.json)", f"SHA-256 {got[:12]}...")
    if manifest["schema_version"] != schema_version():
        raise BundleError(
            f"{folder}: made for other table schemas.",
            wanted=f"schema version {schema_version()}",
            got=f"schema version {manifest['schema_version']}",
            do="fit again with this release, or use the release that fitted it",
        )
    return manifest


def _same_files(folder: Path, required: Set[str], listed: Set[str]) -> None:
    """Raises: BundleError, unless the required, the listed and the regular files of the folder are the same."""
    there = {
        path.name: path.is_file()
        for path in folder.iterdir()
        if path.name != MANIFEST and not (is_evaluation(path.name) and path.is_file())
    }
    for name in sorted(required | listed | there.keys()):
        if name not in required:
            wanted, got = (
                "only the files of a bundle",
                "an extra file" if name in there else "an extra entry of manifest.json",
            )
        elif not there.get(name, False):
            wanted, got = "a file", "something else than a file" if name in there else "no such file"
        elif name not in listed:
            wanted, got = "its SHA-256 in manifest.json", "no entry"
        else:
            continue
        raise _changed(folder / name, wanted, got)


def _changed(path: Path, wanted: str, got: str) -> BundleError:
    return BundleError(
        f"{path}: not the file that was written.", wanted=wanted, got=got, do="copy the bundle again, or fit again"
    )


def _read_manifest(folder: Path, required: Set[str], further: re.Pattern[str] | None) -> dict[str, Any]:
    """manifest.json as `seal` wrote it, with an entry for each required file. Raises: BundleError."""
    if not (folder / MANIFEST).is_file():
        raise BundleError(
            f"{folder}: not a bundle.",
            wanted="a folder with manifest.json, as `riskpred fit` writes it",
            got="no such folder" if not folder.is_dir() else "a folder without manifest.json",
            do="check the path, or run `riskpred fit`",
        )
    try:
        text = (folder / MANIFEST).read_bytes().decode("utf-8")
        manifest: dict[str, Any] = json.loads(text)
        format_, listed, got = manifest["format"], dict(manifest["files"]).keys(), manifest_digest(manifest)
    except (ValueError, KeyError, TypeError):
        raise BundleError(f"{folder / MANIFEST}: damaged.", do="copy the bundle again, or fit again") from None
    if format_ != FORMAT:
        raise BundleError(
            f"{folder}: format of another release.", wanted=f"format {FORMAT}", got=f"format {format_}", do="fit again"
        )
    # Before the digest: a dropped entry is better named than "manifest.json has changed".
    more = {name for name in listed if further is not None and further.fullmatch(name)}
    _same_files(folder, required | more, listed)
    wanted = manifest.get(DIGEST)
    if wanted != got:
        stated = f"SHA-256 {wanted[:12]}..." if isinstance(wanted, str) else "a SHA-256"
        raise _changed(folder / MANIFEST, f"{stated} (its field {DIGEST})", f"SHA-256 {got[:12]}...")
    # The digest is of the content; other spacing or a key written twice would still give another bundle.sha256.
    if text != _rendered(manifest):
        raise _changed(folder / MANIFEST, "JSON as `riskpred fit` writes it", "the same content in other bytes")
    return manifest
