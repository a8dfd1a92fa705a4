"""Store: name of a model -> folder of its bundle. Next: load."""

import os
from pathlib import Path

import platformdirs

from cxr_server.bundles.load import MANIFEST_NAME
from cxr_server.bundles.manifest import BundleError

PHANTOM = "phantom"
PHANTOM_PATH = Path(__file__).parent / "phantom"  # the bundle that is shipped with the package

SAMPLES_PATH = Path(__file__).parent / "phantom-samples"
"""Radiographs that are shipped with it: PNG files named after the findings planted in them."""

_APP = "cxr-serve"


def bundle_home() -> Path:
    """Return the folder of prepared bundles: CXR_BUNDLE_HOME or in the user's data folder."""
    home = os.environ.get("CXR_BUNDLE_HOME")
    return Path(home or platformdirs.user_data_path(_APP, appauthor=False) / "bundles")


def cache_home() -> Path:
    """Return the folder of compiled models: CXR_CACHE_DIR or in the user's cache folder."""
    home = os.environ.get("CXR_CACHE_DIR")
    return Path(home or platformdirs.user_cache_path(_APP, appauthor=False))


def resolve(model: str, home: Path | None = None) -> Path:
    """Return the folder of "phantom", a prepared bundle's name or a path. Raises BundleError."""
    if model == PHANTOM:
        return PHANTOM_PATH
    places = ((home or bundle_home()) / model, Path(model))
    for path in places:
        try:
            if (path / MANIFEST_NAME).is_file():
                return path
        except OSError as error:  # not permitted, or no name that a file may have
            raise BundleError(f"{path}: {error.strerror or error}") from None
    if places[1].is_dir():
        raise BundleError(f"{model} is a folder without {MANIFEST_NAME}: it is no bundle")
    raise BundleError(f"there is no bundle {model} in {places[0].parent}, and no such folder")


def list_bundles(home: Path | None = None) -> dict[str, Path]:
    """Return the folders of all bundles by name, the shipped bundle first. Raises BundleError."""
    found = {PHANTOM: PHANTOM_PATH}
    home = home or bundle_home()
    try:
        # What is being written has a name that begins with a dot.
        folders = sorted(path for path in home.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return found
    except OSError as error:
        raise BundleError(f"{home}: {error.strerror}") from None
    for folder in folders:
        # A folder that cannot be looked into may be a bundle, and is named if it is used.
        if not os.access(folder, os.R_OK | os.X_OK) or (folder / MANIFEST_NAME).is_file():
            found.setdefault(folder.name, folder)
    return found
