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
    for path in ((home or bundle_home()) / model, Path(model)):
        if (path / MANIFEST_NAME).is_file():
            return path
    raise BundleError(
        f"model {model} is not prepared: run `cxr-server prepare {model}`, "
        "or give the folder of a bundle (`cxr-server models` lists them)"
    )


def list_bundles(home: Path | None = None) -> dict[str, Path]:
    """Return the folders of all bundles by name, the shipped bundle first."""
    found = {PHANTOM: PHANTOM_PATH}
    for manifest in sorted((home or bundle_home()).glob(f"*/{MANIFEST_NAME}")):
        if not manifest.parent.name.startswith("."):  # being written
            found.setdefault(manifest.parent.name, manifest.parent)
    return found
