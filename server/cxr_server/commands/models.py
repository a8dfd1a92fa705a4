"""`cxr-server models`: lists prepared bundles and the catalogue."""

import argparse
import json
from pathlib import Path
from typing import Any

from cxr_server.bundles.load import read_manifest
from cxr_server.bundles.manifest import BundleError
from cxr_server.bundles.store import bundle_home, list_bundles
from cxr_server.convert.catalog import CATALOG


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--bundle-home", type=Path, metavar="DIR", help="folder of bundles")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the list. Returns 0."""
    home = args.bundle_home or bundle_home()
    bundles = {name: _describe(name, path) for name, path in list_bundles(home).items()}
    catalog = [
        {key: getattr(entry, key) for key in ("name", "trained_on", "url", "sha256")}
        | {"prepared": entry.name in bundles}
        for entry in CATALOG.values()
    ]
    if args.json:
        content = {"bundle_home": str(home), "bundles": list(bundles.values()), "catalog": catalog}
        print(json.dumps(content, indent=2))
        return 0
    print(f"Bundles (in {home}):")
    for name, model in bundles.items():
        if model["error"]:
            text = f"BROKEN: {model['error']}"
        else:
            count = len(model["labels"])
            text = f"{model['architecture']}, {count} findings, version {model['version']}"
        print(f"  {name:26} {text}")
    print("Can be prepared with `cxr-server prepare NAME`:")
    for entry in catalog:
        note = "" if entry["sha256"] else "; SHA-256 not known"
        done = "; prepared" if entry["prepared"] else ""
        print(f"  {entry['name']:26} {entry['trained_on']}{note}{done}")
    return 0


def _describe(name: str, path: Path) -> dict[str, Any]:
    """Describe a bundle by its manifest alone; `doctor` verifies the files."""
    model: dict[str, Any] = {"name": name, "path": str(path), "error": None}
    try:
        manifest = read_manifest(path)
    except BundleError as error:
        return model | {"error": str(error)}
    return model | {
        "version": manifest.version,
        "architecture": manifest.network.name,
        "labels": list(manifest.labels),
        "phantom": manifest.phantom,
        "weights_sha256": manifest.weights_sha256,
        "verified": manifest.upstream.verified if manifest.upstream else None,
    }
