"""`cxr-server models`: lists prepared bundles, each verified, and the catalogue."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.manifest import BundleError
from cxr_server.bundles.refit import Refit
from cxr_server.bundles.store import PHANTOM, PHANTOM_PATH, bundle_home, list_bundles
from cxr_server.convert.catalog import CATALOG


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--bundle-home", type=Path, metavar="DIR", help="folder of bundles")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the list. Returns 0, or 1 if the folder of bundles cannot be read."""
    home = args.bundle_home or bundle_home()
    status, found = 0, {PHANTOM: PHANTOM_PATH}
    try:
        found = list_bundles(home)
    except BundleError as error:
        status = 1
        print(f"cxr-server: {error}", file=sys.stderr)
    bundles = [_describe(name, path) for name, path in found.items()]
    catalog = [
        {key: getattr(entry, key) for key in ("name", "trained_on", "url", "sha256", "card")}
        | {"prepared": entry.name in found}
        for entry in CATALOG.values()
    ]
    if args.json:
        where = home and str(home)
        content = {"bundle_home": where, "bundles": bundles, "catalog": catalog}
        print(json.dumps(content, indent=2))
    else:
        _print_table(home, bundles, catalog)
    return status


def _describe(name: str, path: Path) -> dict[str, Any]:
    """Describe a bundle after reading all of its files."""
    shipped = path == PHANTOM_PATH
    model: dict[str, Any] = {"name": name, "path": str(path), "shipped": shipped, "error": None}
    try:
        manifest = load_bundle(path).manifest
    except BundleError as error:
        return model | {"error": str(error)}
    return model | {
        "version": manifest.version,
        "architecture": manifest.network.name,
        "labels": list(manifest.labels),
        "phantom": manifest.phantom,
        "weights_sha256": manifest.weights_sha256,
        "verified": manifest.upstream.verified if manifest.upstream else None,
        "refit": _refit(manifest.refit) if manifest.refit else None,
        "quantization": msgspec.to_builtins(manifest.quantization or None),
    }


def _refit(refit: Refit) -> dict[str, Any]:
    names = ("parent_name", "parent_version", "labels_title", "labels_sha256")
    counts = ("image_count", "patient_count", "calibration_method")
    return {name: getattr(refit, name) for name in (*names, *counts)}


def _print_table(
    home: Path | None, bundles: list[dict[str, Any]], catalog: list[dict[str, Any]]
) -> None:
    width = max(len(entry["name"]) for entry in (*bundles, *catalog)) + 2
    print("Bundles:")
    for model in bundles:
        if model["error"]:
            text = f"BROKEN: {model['error']}"
        else:
            where = "shipped with cxr-server" if model["shipped"] else model["path"]
            count = len(model["labels"])
            text = f"{model['architecture']}, {count} findings, version {model['version']}; "
            if refit := model["refit"]:
                text += f"refitted from {refit['parent_name']} {refit['parent_version']} to "
                text += f"{refit['labels_title']} ({refit['image_count']} images); "
            if made := model["quantization"]:
                differences = made["differences"]
                most = differences["max_probability"]
                text += f"int8 of {made['parent_name']} {made['parent_version']}, "
                text += f"probabilities within {most:.4f}"
                if calibrated := differences.get("max_calibrated_probability"):
                    text += f", calibrated ones within {calibrated:.4f}"
                text += "; "
            text += where
        print(f"  {model['name']:{width}}{text}")
    into = home or "the folder that CXR_BUNDLE_HOME names (this user has no home folder)"
    print(f"Can be prepared with `cxr-server prepare NAME`, into {into}:")
    for entry in catalog:
        note = "" if entry["sha256"] else "; SHA-256 not known"
        done = "; prepared" if entry["prepared"] else ""
        print(f"  {entry['name']:{width}}{entry['trained_on']}{note}{done}")
    print("Their model cards are in docs/models of cxr-serve's source.")
