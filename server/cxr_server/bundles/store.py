"""Store: name of a model -> folder of its bundle. Next: load."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from cxr_server.bundles.fields import NAME_PATTERN
from cxr_server.bundles.load import MANIFEST_NAME, read_manifest
from cxr_server.bundles.manifest import BundleError

PHANTOM = "phantom"
PHANTOM_PATH = Path(__file__).parent / "phantom"  # the bundle that is shipped with the package

SAMPLES_PATH = Path(__file__).parent / "phantom-samples"
"""Radiographs that are shipped with it: PNG files named after the findings planted in them."""

_APP = "cxr-serve"


@dataclass(frozen=True, slots=True)
class WantedModel:
    """A bundle's name or folder, and the name to serve it under; "" for the bundle's own name."""

    name: str
    bundle: str

    @classmethod
    def parse(cls, text: str) -> "WantedModel":
        """Read "BUNDLE" or "NAME=BUNDLE"."""
        name, equals, bundle = text.partition("=")
        if equals and bundle and re.fullmatch(NAME_PATTERN, name):
            return cls(name, bundle)
        return cls("", text)


def bundle_home() -> Path | None:
    """Return the folder of prepared bundles: CXR_BUNDLE_HOME or in the user's data folder.

    Returns None for a user without a home folder.
    """
    if home := os.environ.get("CXR_BUNDLE_HOME"):
        return Path(home)
    with suppress(RuntimeError):  # no HOME, and no entry in /etc/passwd
        return platformdirs.user_data_path(_APP, appauthor=False) / "bundles"
    return None


def cache_home() -> Path | None:
    """Return the folder of compiled models: CXR_CACHE_DIR or in the user's cache folder.

    Returns None for a user without a home folder.
    """
    if home := os.environ.get("CXR_CACHE_DIR"):
        return Path(home)
    with suppress(RuntimeError):
        return platformdirs.user_cache_path(_APP, appauthor=False)
    return None


def resolve(model: str, home: Path | None = None) -> Path:
    """Return the folder of "phantom", a prepared bundle's name or a path. Raises BundleError."""
    if model == PHANTOM:
        return PHANTOM_PATH
    home = home or bundle_home()
    for path in (home / model if home else None, Path(model)):
        try:
            if path and (path / MANIFEST_NAME).is_file():
                return path
        except OSError as error:  # no permission, or an invalid file name
            raise BundleError(f"{path}: {error.strerror or error}") from None
    if Path(model).is_dir():
        raise BundleError(f"{model} is a folder without {MANIFEST_NAME}: it is not a bundle")
    where = f" in {home}" if home else ""
    raise BundleError(f"there is no bundle {model}{where}, and no such folder")


def resolve_all(models: Iterable[str], home: Path | None = None) -> dict[str, Path]:
    """Return the folders of models, each written BUNDLE or NAME=BUNDLE, by the names to serve.

    Raises BundleError, also for two models of one name.
    """
    found: dict[str, Path] = {}
    for text in models:
        wanted = WantedModel.parse(text)
        path = resolve(wanted.bundle, home)
        name = wanted.name or read_manifest(path).name
        if name in found:
            raise BundleError(
                f"two models are called {name}: give one another name, --model NAME=BUNDLE"
            )
        found[name] = path
    return found


def list_bundles(home: Path | None = None) -> dict[str, Path]:
    """Return the folders of all bundles by name, the shipped bundle first. Raises BundleError."""
    found = {PHANTOM: PHANTOM_PATH}
    home = home or bundle_home()
    try:
        folders = sorted(home.iterdir()) if home else []
    except FileNotFoundError:
        folders = []
    except OSError as error:
        raise BundleError(f"{home}: {error.strerror}") from None
    for folder in folders:
        if not folder.name.startswith(".") and _may_be_bundle(folder):  # ".": being written
            found.setdefault(folder.name, folder)
    return found


def _may_be_bundle(folder: Path) -> bool:
    """Whether the folder has a manifest; also if it cannot be read, so that this is reported."""
    try:
        return (folder / MANIFEST_NAME).is_file()
    except OSError:
        return True
