"""A bundle is exactly what was written, or it is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr_server.bundles.load import BundleError, load_bundle
from cxr_server.bundles.manifest import Manifest
from cxr_server.bundles.store import PHANTOM_PATH, list_bundles, resolve
from cxr_server.inference.scoring import readout


@pytest.fixture
def bundle(phantom_like_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(phantom_like_bundle, tmp_path / "bundle"))


def reseal(bundle: Path, change: Callable[[dict], None]) -> None:
    """Change the manifest and make its own hash fit, as somebody who means harm would."""
    content = json.loads((bundle / "model.json").read_text())
    change(content)
    del content["manifest_sha256"]
    from cxr_server.bundles import manifest
    from cxr_server.bundles.fields import Fields

    text = json.dumps(content | {"manifest_sha256": "0" * 64})
    try:
        resealed = manifest._read(Fields.parse(text)).to_json()
    except BundleError:  # what the manifest itself refuses needs no seal
        resealed = text
    (bundle / "model.json").write_text(resealed)


def test_a_written_bundle_loads_and_says_what_was_written(phantom_like_bundle):
    bundle = load_bundle(phantom_like_bundle)
    assert set(bundle.manifest.files) == {
        "weights.safetensors",
        "openvino/model.xml",
        "openvino/model.bin",
    }
    assert bundle.manifest.evidence_side == 7
    assert Manifest.from_json(bundle.manifest.to_json()) == bundle.manifest
    read = readout(bundle.manifest)
    assert read.labels == bundle.manifest.labels
    assert read.thresholds_k.shape == read.bias_k.shape == (6,)


def test_a_byte_changed_anywhere_is_refused(bundle):
    for path in [path for path in bundle.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        for part in (0.0, 0.1, 0.37, 0.5, 0.83, 1.0):
            offset = int(part * (len(content) - 1))
            changed = bytearray(content)
            changed[offset] ^= 0x01
            path.write_bytes(changed)
            with pytest.raises(BundleError):
                load_bundle(bundle)
        path.write_bytes(content)
    load_bundle(bundle)


def test_every_single_byte_of_the_manifest_counts(phantom_like_bundle):
    text = (phantom_like_bundle / "model.json").read_text()
    for offset in range(len(text)):
        changed = text[:offset] + chr(ord(text[offset]) ^ 1) + text[offset + 1 :]
        with pytest.raises(BundleError):
            Manifest.from_json(changed)


def test_added_white_space_in_the_manifest_is_refused(bundle):
    path = bundle / "model.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(BundleError, match=r"model\.json was changed"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["weights.safetensors", "openvino/model.bin", "model.json"])
def test_a_missing_or_longer_or_shorter_file_is_refused(bundle, name):
    path = bundle / name
    content = path.read_bytes()
    for changed in (content + b"\0", content[:-1], b""):
        path.write_bytes(changed)
        with pytest.raises(BundleError):
            load_bundle(bundle)
    path.unlink()
    with pytest.raises(BundleError):
        load_bundle(bundle)


def test_a_file_that_the_manifest_does_not_list_is_refused(bundle):
    (bundle / "openvino" / "extension.so").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"extension\.so is not listed"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["weights.safetensors", "openvino", "model.json"])
def test_symbolic_links_are_refused_even_to_the_right_content(bundle, tmp_path, name):
    (bundle / name).rename(tmp_path / "elsewhere")
    (bundle / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/hostname", "openvino/../../secret", "a//b", "./a", "a\\b", "", "."]
)
def test_a_path_outside_of_the_bundle_is_refused(bundle, path):
    (bundle.parent / "secret").write_bytes(b"secret")

    def claim(content: dict) -> None:
        content["files"][path] = content["files"]["openvino/model.xml"]

    reseal(bundle, claim)
    with pytest.raises(BundleError, match=r"outside the bundle|missing"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("format", True),
        ("name", "a/b"),
        ("version", ""),
        ("labels", []),
        ("labels", ["Mass"] * 6),
        ("labels", "Mass"),
        ("class_indices", [0, 0, 1, 2, 3, 4]),
        ("class_indices", [0, 1, 2, 3, 4]),
        ("class_indices", [0, 1, 2, 3, 4, -1]),
        ("thresholds", [0.0] * 6),
        ("thresholds", [1.0] * 6),
        ("thresholds", ["0.5"] * 6),
        ("thresholds", [0.5] * 5),
        ("bias", [1e99] * 6),
        ("input_side_px", 0),
        ("input_side_px", 224.0),
        ("phantom", "no"),
        ("network", {}),
        ("network", {"growth_rate": 8}),
        ("files", []),
        ("files", {}),
        ("weights_sha256", "0" * 64),
        ("weights_sha256", "G" * 64),
        ("upstream", {"file_name": "x"}),
        ("reliability", {"Cough": {"level": "weak", "note": ""}}),
        ("reliability", {"Mass": {"level": "superb", "note": ""}}),
        ("notices", ["two\nlines"]),
        ("create_time", "2026-13-01T00:00:00Z"),
        ("create_time", "yesterday"),
        ("surprise", 1),
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused_though_its_hash_fits(bundle, field, value):
    reseal(bundle, lambda content: content.update({field: value}))
    with pytest.raises(BundleError, match=r"model\.json|made by a newer"):
        load_bundle(bundle)


@pytest.mark.parametrize("field", [*Manifest.__dataclass_fields__, "manifest_sha256"])
def test_a_manifest_without_a_field_is_refused(phantom_like_bundle, field):
    content = json.loads((phantom_like_bundle / "model.json").read_text())
    del content[field]
    with pytest.raises(BundleError):
        Manifest.from_json(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"format": NaN}', '{"a": 1, "a": 2}', "[" * 5000, '"x"']
)
def test_text_that_is_no_manifest_is_refused(text):
    with pytest.raises(BundleError):
        Manifest.from_json(text)


def test_a_huge_manifest_is_refused_unread(bundle):
    (bundle / "model.json").write_bytes(b" " * (2 << 20))
    with pytest.raises(BundleError, match="too long"):
        load_bundle(bundle)


def test_bundles_are_found_by_name_and_by_folder(phantom_like_bundle, monkeypatch):
    home = phantom_like_bundle.parent
    monkeypatch.setenv("CXR_BUNDLE_HOME", str(home))
    assert resolve("phantom-like") == phantom_like_bundle
    assert resolve(str(phantom_like_bundle)) == phantom_like_bundle
    assert resolve("phantom") == PHANTOM_PATH
    assert list_bundles()["phantom-like"] == phantom_like_bundle
    with pytest.raises(BundleError, match="cxr-server prepare densenet121-res224-all"):
        resolve("densenet121-res224-all")


def test_the_shipped_bundle_is_whole_small_and_marked_as_a_phantom():
    bundle = load_bundle(PHANTOM_PATH)
    assert bundle.manifest.name == "phantom"
    assert bundle.manifest.phantom
    assert {"Cardiomegaly", "Effusion", "Pneumothorax", "Nodule", "Mass", "Consolidation"} <= set(
        bundle.manifest.labels
    )
    assert sum(path.stat().st_size for path in PHANTOM_PATH.rglob("*") if path.is_file()) < 2e6
