"""Store: the name of a model -> the folder of its bundle. Next: load."""

import os
from pathlib import Path

from cxr_server.bundles.fields import BundleError
from cxr_server.bundles.load import MANIFEST_NAME

PHANTOM = "phantom"
PHANTOM_PATH = Path(__file__).parent.parent / "phantom" / "bundle"
"""The bundle that is shipped inside the package."""


def bundle_home() -> Path:
    """Return where `prepare` puts bundles: CXR_BUNDLE_HOME or the user's data folder."""
    if home := os.environ.get("CXR_BUNDLE_HOME"):
        return Path(home)
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data, "cxr-serve", "bundles")


def cache_home() -> Path:
    """Return where engines keep compiled models: CXR_CACHE_DIR or the user's cache folder."""
    if home := os.environ.get("CXR_CACHE_DIR"):
        return Path(home)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache, "cxr-serve")


def resolve(model: str, home: Path | None = None) -> Path:
    """Return the folder of "phantom", of a prepared bundle's name, or of a path.

    Raises:
        BundleError: There is no such bundle; the message says how to get it.
    """
    if model == PHANTOM:
        return PHANTOM_PATH
    if os.sep in model or model in (".", ".."):
        path = Path(model)
        if not (path / MANIFEST_NAME).is_file():
            raise BundleError(f"there is no bundle at {path}")
        return path
    path = (home or bundle_home()) / model
    if (path / MANIFEST_NAME).is_file():
        return path
    if (Path(model) / MANIFEST_NAME).is_file():
        return Path(model)
    raise BundleError(
        f"model {model} is not prepared: run `cxr-server prepare {model}`, "
        "or give the folder of a bundle (`cxr-server models` lists what there is)"
    )


def list_bundles(home: Path | None = None) -> dict[str, Path]:
    """Return the folders of all bundles by name, the shipped one first."""
    found = {PHANTOM: PHANTOM_PATH} if (PHANTOM_PATH / MANIFEST_NAME).is_file() else {}
    folder = home or bundle_home()
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if not path.name.startswith(".") and (path / MANIFEST_NAME).is_file():
                found.setdefault(path.name, path)
    return found
