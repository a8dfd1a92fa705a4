"""Load: bundle folder -> verified Bundle. Next: engines.

A bundle consists of exactly the files that its manifest lists, each with the listed size and
SHA-256, all of them plain files inside the folder. Loading needs no network and no parser that
could run code.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cxr_server.bundles.manifest import BundleError, FileEntry, Manifest

MANIFEST_NAME = "model.json"
MAX_MANIFEST_BYTES = 1 << 20
_REMEDY = "prepare the bundle again, or copy it from where it is complete"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model whose files have all been verified."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Return the path of a file that the manifest lists; BundleError if it lists none."""
        if name not in self.manifest.files:
            raise BundleError(f"bundle {self.manifest.name} has no {name}")
        return self.path / name


def load_bundle(path: Path) -> Bundle:
    """Read and verify the bundle in a folder, in about 50 ms for 60 MB.

    Raises BundleError, which names the folder, the file and what to do.
    """
    with _naming(path):
        root = path.resolve()
        return Bundle(root, _verified(root))


def read_manifest(path: Path) -> Manifest:
    """Read what the bundle in a folder says of itself, and verify no other file of it.

    Raises BundleError as `load_bundle` does.
    """
    with _naming(path):
        return _read_manifest(path)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise what is wrong as a BundleError that names the folder or the file."""
    try:
        yield
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None
    except OSError as error:
        raise BundleError(f"{error.filename or path}: {error.strerror}") from None


def _verified(root: Path) -> Manifest:
    """Return the manifest of a bundle after comparing every file with it. Raises OSError, too."""
    present = _files_in(root)
    manifest = _read_manifest(root)
    # A listed name that leads out of the folder is never among those that are present.
    listed = {*manifest.files, MANIFEST_NAME}
    if missing := sorted(listed - present):
        raise BundleError(f"{missing[0]} is missing: {_REMEDY}")
    if unlisted := sorted(present - listed):
        raise BundleError(f"{unlisted[0]} is not listed in {MANIFEST_NAME}: remove it")
    for name, entry in manifest.files.items():
        if file_entry(root / name) != entry:
            raise BundleError(f"{name}: size or SHA-256 differs from {MANIFEST_NAME}: {_REMEDY}")
    return manifest


def _read_manifest(folder: Path) -> Manifest:
    with (folder / MANIFEST_NAME).open("rb") as file:
        content = file.read(MAX_MANIFEST_BYTES + 1)
    if len(content) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST_NAME} is too long")
    try:
        return Manifest.from_json(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise BundleError(f"{MANIFEST_NAME} is not UTF-8 text") from None


def _files_in(root: Path) -> set[str]:
    """Return the files below `root`. Raises BundleError for links, devices and sockets."""
    found: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=_fail):
        for path in (Path(folder, name) for name in (*folders, *files)):
            name = path.relative_to(root).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                found.add(name)
            elif not stat.S_ISDIR(mode):
                raise BundleError(f"{name} is not a plain file")
    return found


def _fail(error: OSError) -> None:
    raise error


def file_entry(path: Path) -> FileEntry:
    """Return the SHA-256 and size of a file. Raises OSError."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(digest, file.tell())
