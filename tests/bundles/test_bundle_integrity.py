"""A bundle is exactly what was written, or it is refused."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import platformdirs
import pytest

from cxr_server.bundles.load import Bundle, file_entry, load_bundle
from cxr_server.bundles.manifest import BundleError, Manifest
from cxr_server.bundles.store import (
    PHANTOM_PATH,
    bundle_home,
    cache_home,
    list_bundles,
    resolve,
)
from cxr_server.inference.typicality import load_reference


@pytest.fixture
def bundle(phantom_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(phantom_bundle.path, tmp_path / "bundle"))


def sealed(content: dict) -> str:
    """The canonical text of a manifest with this content, its SHA-256 included."""
    body = msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n"
    seal = {"manifest_sha256": hashlib.sha256(body.encode()).hexdigest()}
    return msgspec.json.format(msgspec.json.encode(content | seal), indent=1).decode() + "\n"


def content_of(bundle: Path) -> dict:
    content = msgspec.json.decode((bundle / "model.json").read_bytes())
    del content["manifest_sha256"]
    return content


def reseal(bundle: Path, change: Callable[[dict], None]) -> None:
    """Change the manifest and make its own hash fit, as an attacker would."""
    content = content_of(bundle)
    change(content)
    (bundle / "model.json").write_text(sealed(content))


def test_a_manifest_that_was_not_changed_is_sealed_as_the_server_does_it(bundle):
    text = (bundle / "model.json").read_text()
    assert sealed(content_of(bundle)) == text
    assert Manifest.from_json(text).to_json() == text


def test_a_bundle_is_read_whole(bundle):
    bundle = load_bundle(bundle)
    assert set(bundle.manifest.files) == {
        "weights.safetensors",
        "openvino/model.xml",
        "openvino/model.bin",
        "probe.png",
        "reference.npz",
    }
    assert bundle.manifest.evidence_side == 7
    assert len(bundle.manifest.thresholds) == len(bundle.manifest.bias) == 6


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


def test_every_single_byte_of_the_manifest_counts(bundle):
    text = (bundle / "model.json").read_text()
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
        files = content["files"] | {path: content["files"]["openvino/model.xml"]}
        content["files"] = dict(sorted(files.items()))

    reseal(bundle, claim)
    with pytest.raises(BundleError, match=r"outside the bundle|missing"):
        load_bundle(bundle)


DENSENET = {
    "family": "densenet",
    "growth_rate": 8,
    "block_config": [3, 4],
    "num_init_features": 16,
    "bn_size": 4,
}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", 3, "format 3"),
        ("format", True, "format"),
        ("name", "a/b", "name"),
        ("version", "", "version"),
        ("labels", [], "labels"),
        ("labels", ["Mass"] * 6, "twice"),
        ("labels", "Mass", "labels"),
        ("labels", ["Mass\u202e", "B", "C", "D", "E", "F"], "labels"),
        ("class_indices", [0, 0, 1, 2, 3, 4], "ascending"),
        ("class_indices", [1, 0, 2, 3, 4, 5], "ascending"),
        ("class_indices", [0, 1, 2, 3, 4], "one value for each finding"),
        ("class_indices", [-1, 0, 1, 2, 3, 4], "class_indices"),
        ("thresholds", [0.0] * 6, "thresholds"),
        ("thresholds", [1.0] * 6, "thresholds"),
        ("thresholds", ["0.5"] * 6, "thresholds"),
        ("thresholds", [0.5] * 5, "one value for each finding"),
        ("bias", [1e99] * 6, "bias"),
        ("bias", [0.5] * 5, "bias"),
        ("input_side_px", 0, "input_side_px"),
        ("input_side_px", "224", "input_side_px"),
        ("phantom", "no", "phantom"),
        ("network", {}, "architecture None"),
        ("network", DENSENET | {"family": "vit_b_16"}, "architecture 'vit_b_16'"),
        ("network", DENSENET | {"growth_rate": 0}, "growth_rate"),
        ("network", DENSENET | {"block_config": []}, "block_config"),
        ("network", DENSENET | {"dropout": 1}, "dropout"),
        ("network", {"family": "densenet"}, "growth_rate"),
        ("files", [], "files"),
        ("files", {}, r"weights\.safetensors"),
        ("upstream", {"file_name": "x"}, "upstream"),
        ("reliability", {"Cough": {"level": "weak", "note": ""}}, "reliability"),
        ("reliability", {"Mass": {"level": "superb", "note": ""}}, "superb"),
        ("notices", ["two\nlines"], "notices"),
        ("create_time", "2026-13-01T00:00:00Z", "month"),
        ("create_time", "yesterday", "create_time"),
        ("probe", None, "probe"),
        ("probe", {"file": "probe.png", "scores": [0.5] * 5}, "one score for each finding"),
        ("probe", {"file": "probe.png", "scores": [1.5] * 6}, "scores"),
        ("probe", {"file": "other.png", "scores": [0.5] * 6}, "must name the file of probe"),
        ("surprise", 1, "surprise"),
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused_by_name_though_its_hash_fits(
    bundle, field, value, message
):
    reseal(bundle, lambda content: content.update({field: value}))
    with pytest.raises(BundleError, match=f"model.json.*{message}"):
        load_bundle(bundle)


FIELDS = set(Manifest.__struct_fields__) - {"probe", "reference", "refit", "quantization"}


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_a_manifest_without_a_field_is_refused(bundle, field):
    reseal(bundle, lambda content: content.pop(field))
    with pytest.raises(BundleError, match=r"model\.json"):
        load_bundle(bundle)


def test_a_bundle_without_a_reference_is_read(bundle):
    (bundle / "reference.npz").unlink()

    def without(content):
        del content["reference"], content["files"]["reference.npz"]

    reseal(bundle, without)
    assert load_reference(load_bundle(bundle)) is None


def test_a_reference_of_other_weights_is_refused(bundle):
    reseal(bundle, lambda content: content["reference"].update(weights_sha256="0" * 64))
    with pytest.raises(BundleError, match="reference was made with other weights"):
        load_bundle(bundle)


def test_a_reference_that_cannot_be_read_is_refused(bundle):
    file = bundle / "reference.npz"
    file.write_bytes(b"PK\x03\x04")
    entry = {"sha256": file_entry(file).sha256, "bytes": 4}
    reseal(bundle, lambda content: content["files"].update({"reference.npz": entry}))
    with pytest.raises(BundleError, match=r"reference\.npz"):
        load_reference(load_bundle(bundle))


def test_a_bundle_without_a_probe_is_read(bundle):
    reseal(bundle, lambda content: content.pop("probe"))
    assert not load_bundle(bundle).manifest.probe


def test_a_manifest_without_its_own_hash_is_refused(bundle):
    content = msgspec.json.encode(content_of(bundle))
    (bundle / "model.json").write_bytes(msgspec.json.format(content, indent=1) + b"\n")
    with pytest.raises(BundleError, match="changed"):
        load_bundle(bundle)


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


def test_bundles_are_found_by_name_and_by_folder(bundle, monkeypatch):
    monkeypatch.setenv("CXR_BUNDLE_HOME", str(bundle.parent))
    assert resolve("bundle") == bundle
    assert resolve(str(bundle)) == bundle
    assert resolve("phantom") == PHANTOM_PATH
    assert list_bundles() == {"phantom": PHANTOM_PATH, "bundle": bundle}
    with pytest.raises(BundleError, match=f"no bundle nosuch in {bundle.parent}"):
        resolve("nosuch")
    with pytest.raises(BundleError, match=r"is a folder without model\.json"):
        resolve(str(bundle / "openvino"))


def test_an_error_names_the_folder_the_file_and_what_to_do(bundle):
    weights = bundle / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BundleError, match=f"^{bundle}: weights.safetensors: .*prepare the bundle"):
        load_bundle(bundle)
    weights.unlink()
    with pytest.raises(BundleError, match=f"^{bundle}: weights.safetensors is missing: prepare"):
        load_bundle(bundle)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BundleError, match=rf"^{tmp_path / 'none'}: No such file or directory"):
        load_bundle(tmp_path / "none")


@pytest.fixture
def closed() -> Iterator[Path]:
    """A bundle's folder that this process, even if it is root's, cannot read."""
    user = os.geteuid()
    with TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name, "closed")
        folder.mkdir()
        (folder / "model.json").touch()
        folder.chmod(0)
        folder.parent.chmod(0o755)
        if not user:
            os.seteuid(65_534)
        yield folder
        os.seteuid(user)
        folder.chmod(0o700)


def test_a_folder_of_bundles_that_cannot_be_read_is_named(closed):
    with pytest.raises(BundleError, match=f"{closed}: Permission denied"):
        list_bundles(closed)


def test_a_bundle_that_cannot_be_read_is_listed_and_its_fault_told(closed):
    assert list_bundles(closed.parent) == {"phantom": PHANTOM_PATH, "closed": closed}
    with pytest.raises(BundleError, match="Permission denied"):
        resolve("closed", closed.parent)


def test_bundles_and_caches_lie_where_the_platform_keeps_them(tmp_path, monkeypatch):
    for name in ("CXR_BUNDLE_HOME", "CXR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert bundle_home() == Path(platformdirs.user_data_dir("cxr-serve", False)) / "bundles"
    assert cache_home() == Path(platformdirs.user_cache_dir("cxr-serve", False))


def test_the_shipped_bundle_is_whole_small_and_marked_as_a_phantom():
    bundle = load_bundle(PHANTOM_PATH)
    assert bundle.manifest.name == "phantom"
    assert bundle.manifest.phantom
    assert {"Cardiomegaly", "Effusion", "Pneumothorax", "Nodule", "Mass", "Consolidation"} <= set(
        bundle.manifest.labels
    )
    assert sum(path.stat().st_size for path in PHANTOM_PATH.rglob("*") if path.is_file()) < 2e6
