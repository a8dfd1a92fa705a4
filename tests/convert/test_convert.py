"""Prepare makes bundles that score as torchxrayvision does, or makes nothing."""

import argparse
import hashlib
import math
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from cxr_server.bundles.load import Bundle, load_bundle
from cxr_server.bundles.manifest import BundleError, Upstream
from cxr_server.commands import prepare as command
from cxr_server.convert import parity
from cxr_server.convert.catalog import CATALOG, OPERATING_POINTS, OUTPUTS, RELIABILITY_ALL
from cxr_server.convert.checkpoint import Checkpoint
from cxr_server.convert.convert import describe, interpret, prepare
from cxr_server.convert.source import Source
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.engines.torch.network import xrv
from random_models import (
    FULL_LABELS,
    SMALL,
    SMALL_LABELS,
    random_densenet,
    random_images,
    random_thresholds,
)

NIH = "densenet121-res224-nih"


@pytest.fixture
def small_model(small_densenet: nn.Module) -> nn.Module:
    """The shared network, with labels and operating points as upstream's files carry them."""
    small_densenet.targets = small_densenet.pathologies = list(SMALL_LABELS)
    small_densenet.op_threshs = torch.tensor(random_thresholds(6))
    yield small_densenet
    small_densenet.op_threshs = None
    del small_densenet.targets, small_densenet.pathologies


@pytest.fixture(scope="module")
def eighteen() -> nn.Module:
    """A small network with the 18 outputs of the catalogue's models."""
    return random_densenet(SMALL, 18, seed=1)


def saved(model: nn.Module, folder: Path, *, zip_format: bool = True) -> Path:
    path = folder / "upstream.pt"
    torch.save(model, path, _use_new_zipfile_serialization=zip_format)
    return path


def prepared(model: nn.Module, folder: Path, name: str = "mine", **options: object) -> Bundle:
    zip_format = options.pop("zip_format", True)
    file = saved(model, folder, zip_format=zip_format)
    source = Source(name=name, file=file, downloads=folder / "downloads", **options)
    return load_bundle(prepare(source, folder / "bundle"))


def openvino_scores(bundle: Bundle, images: np.ndarray) -> np.ndarray:
    engine = choose_engine(bundle, "openvino")
    try:
        return parity.engine_scores(engine, bundle, images)
    finally:
        engine.close()


@pytest.mark.parametrize("zip_format", [False, True], ids=["legacy", "zip"])
def test_a_prepared_bundle_scores_as_the_model_itself(small_model, tmp_path, zip_format):
    images = random_images(3, seed=11)
    with torch.inference_mode():
        expected = small_model(images).numpy()
    bundle = prepared(small_model, tmp_path, zip_format=zip_format)
    found = openvino_scores(bundle, images.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    manifest = bundle.manifest
    assert manifest.labels == SMALL_LABELS
    assert manifest.thresholds == random_thresholds(6)
    assert manifest.upstream.verified == "local-file"
    content = (tmp_path / "upstream.pt").read_bytes()
    assert manifest.upstream.sha256 == hashlib.sha256(content).hexdigest()
    assert manifest.upstream.bytes == len(content)


def test_without_operating_points_a_score_is_the_probability(small_model, tmp_path):
    small_model.op_threshs = None
    bundle = prepared(small_model, tmp_path)
    assert set(bundle.manifest.thresholds) == {0.5}
    assert any("0.5 is assumed" in notice for notice in bundle.manifest.notices)
    images = random_images(2, seed=12)
    with torch.inference_mode():
        expected = torch.sigmoid(small_model(images)).numpy()
    np.testing.assert_allclose(openvino_scores(bundle, images.numpy()), expected, atol=1e-4)


def test_outputs_without_label_or_operating_point_are_dropped(small_model, tmp_path):
    small_model.targets = ["Cardiomegaly", "", "Pneumothorax", "Nodule", "Mass", ""]
    small_model.op_threshs = torch.tensor([0.1, 0.2, float("nan"), 0.3, 0.4, float("nan")])
    bundle = prepared(small_model, tmp_path)
    assert bundle.manifest.labels == ("Cardiomegaly", "Nodule", "Mass")
    assert bundle.manifest.class_indices == (0, 3, 4)
    images = random_images(2, seed=13)
    with torch.inference_mode():
        expected = small_model(images).numpy()[:, [0, 3, 4]]
    np.testing.assert_allclose(openvino_scores(bundle, images.numpy()), expected, atol=1e-4)


def state_of(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def test_a_catalogue_model_gets_torchxrayvisions_labels_and_operating_points(eighteen):
    checkpoint = Checkpoint(state_of(eighteen), {"targets": ["not these"] * 18})
    model = interpret(checkpoint, CATALOG[NIH])
    source = Source(name=NIH, downloads=Path())
    described = describe(source, model, Upstream("x.pt", "0" * 64, 1, "given"))
    known = xrv.models.model_urls[NIH]
    kept = [i for i, label in enumerate(known["labels"]) if label]
    assert len(kept) == 14
    assert described.labels == tuple(known["labels"][i] for i in kept)
    assert described.class_indices == tuple(kept)
    points = np.float32([known["op_threshs"][i] for i in kept])
    np.testing.assert_array_equal(np.float32(described.thresholds), points)
    assert described.reliability["Pneumonia"].level == "weak"
    assert any("No Finding" in notice for notice in described.notices)


def test_parts_named_as_before_torchvision_0_3_are_read(small_densenet):
    new = state_of(small_densenet)
    old = {re.sub(r"(layer\d+\.(?:norm|conv))([12])", r"\1.\2", key): new[key] for key in new}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    found = interpret(Checkpoint(old, {"targets": list(SMALL_LABELS)}))
    assert found.network == SMALL
    assert found.state.keys() == new.keys()
    for name, array in found.state.items():
        np.testing.assert_array_equal(array, new[name])


def test_operating_points_are_read_from_an_attribute_too(small_densenet):
    attributes = {"pathologies": list(SMALL_LABELS), "op_threshs": list(random_thresholds(6))}
    found = interpret(Checkpoint(state_of(small_densenet), attributes))
    assert found.thresholds == random_thresholds(6)


def test_the_catalogue_is_torchxrayvisions():
    densenets = {name for name in xrv.models.model_urls if name.startswith("densenet")}
    assert set(CATALOG) == set(OPERATING_POINTS) == densenets
    assert list(OUTPUTS) == xrv.models.DenseNet.targets
    for name, entry in CATALOG.items():
        known = xrv.models.model_urls[name]
        assert entry.url == known["weights_url"]
        points = [None if math.isnan(point) else point for point in known["op_threshs"]]
        assert list(OPERATING_POINTS[name]) == points
        pairs = zip(OUTPUTS, points, strict=True)
        assert known["labels"] == [label if point else "" for label, point in pairs]
    assert set(RELIABILITY_ALL) == set(FULL_LABELS)


def nothing_in(folder: Path) -> bool:
    return [path.name for path in folder.iterdir() if path.name != "upstream.pt"] == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("densenet121-res224-all", {}, "it is not used"),
        ("densenet121-res224-all", {"trust": True}, "it is not used"),
        ("densenet121-res224-all", {"sha256": "1" * 64}, "not the known hash"),
        (NIH, {}, "give --sha256"),
        (NIH, {"sha256": "1" * 64}, "it is not used"),
        ("mine", {"sha256": "1" * 64}, "it is not used"),
        ("phantom", {}, "not a name"),
        ("../mine", {}, "not a name"),
    ],
)
def test_a_file_that_is_not_vouched_for_is_not_read(eighteen, tmp_path, name, options, message):
    with pytest.raises(BundleError, match=message):
        prepared(eighteen, tmp_path, name, **options)
    assert nothing_in(tmp_path)


def test_a_given_hash_that_fits_is_written_down(eighteen, tmp_path, monkeypatch):
    monkeypatch.setattr("cxr_server.convert.convert.check_parity", lambda *_: {})
    sha256 = hashlib.sha256(saved(eighteen, tmp_path).read_bytes()).hexdigest()
    file = tmp_path / "upstream.pt"
    source = Source(name=NIH, file=file, sha256=sha256.upper(), downloads=tmp_path)
    manifest = load_bundle(prepare(source, tmp_path / "bundle")).manifest
    assert (manifest.upstream.verified, manifest.upstream.sha256) == ("given", sha256)


def test_a_trusted_download_says_so_in_the_bundle(eighteen, tmp_path, monkeypatch):
    monkeypatch.setattr("cxr_server.convert.convert.check_parity", lambda *_: {})
    saved(eighteen, tmp_path)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        url = f"http://127.0.0.1:{server.server_port}/upstream.pt"
        downloads = tmp_path / "downloads"
        source = Source(name=NIH, url=url, trust=True, downloads=downloads)
        manifest = load_bundle(prepare(source, tmp_path / "bundle")).manifest
        server.shutdown()
    assert manifest.upstream.verified == "trusted-download"
    assert manifest.upstream.file_name == CATALOG[NIH].file_name
    assert list(downloads.iterdir()) == []


def three_channels() -> nn.Module:
    return xrv.models.DenseNet(num_classes=6, in_channels=3, **msgspec.structs.asdict(SMALL))


def not_finite() -> nn.Module:
    model = xrv.models.DenseNet(num_classes=18, **msgspec.structs.asdict(SMALL))
    model.features.conv0.weight.data[0, 0, 0, 0] = float("nan")
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(2, 2), "no DenseNet"),
        (lambda: nn.Conv1d(1, 1, 1), "Conv1d"),
        (three_channels, "grey channel"),
        (not_finite, "not finite"),
        (lambda: xrv.models.DenseNet(num_classes=5, **msgspec.structs.asdict(SMALL)), "5 outputs"),
    ],
    ids=["linear", "other module", "colour", "nan", "unnamed outputs"],
)
def test_a_file_that_is_no_servable_densenet_is_refused(make, message, tmp_path):
    with pytest.raises(BundleError, match=message):
        prepared(make(), tmp_path)
    assert nothing_in(tmp_path)


def test_engines_that_differ_from_torchxrayvision_leave_no_bundle(
    small_model, tmp_path, monkeypatch
):
    real = parity.engine_scores
    monkeypatch.setattr(parity, "engine_scores", lambda *args: real(*args) + 2e-4)
    with pytest.raises(BundleError, match="differs from torchxrayvision by 2"):
        prepared(small_model, tmp_path)
    assert nothing_in(tmp_path)


def test_a_failure_leaves_the_bundle_that_was_there(small_model, tmp_path, monkeypatch):
    monkeypatch.setattr("cxr_server.convert.convert.check_parity", lambda *_: {})
    first = prepared(small_model, tmp_path)
    with pytest.raises(BundleError):
        prepared(nn.Linear(2, 2), tmp_path)
    assert load_bundle(tmp_path / "bundle").manifest == first.manifest
    small_model.op_threshs = None
    assert prepared(small_model, tmp_path).manifest.thresholds == (0.5,) * 6
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "upstream.pt"}


def test_a_folder_that_is_no_bundle_is_never_replaced(small_model, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.txt").write_text("precious")
    with pytest.raises(BundleError, match="is not a bundle"):
        prepared(small_model, tmp_path)
    assert (tmp_path / "bundle" / "thesis.txt").read_text() == "precious"


def test_everybody_may_read_a_bundle(phantom_like_bundle):
    for path in [phantom_like_bundle, *phantom_like_bundle.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


@pytest.fixture
def homes(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CXR_BUNDLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def test_the_command_prints_what_it_checked_and_fills_the_cache(small_model, homes, capsys):
    assert run("mine", "--from", str(saved(small_model, homes))) == 0
    printed = capsys.readouterr().out
    for part in ("SHA-256", "local-file", "6 findings", "openvino: equal", "torch: equal", "mine"):
        assert part in printed
    assert load_bundle(homes / "home" / "mine").manifest.name == "mine"
    assert list((homes / "cache").rglob("*.blob"))


@pytest.mark.parametrize(
    "words", [["unheard-of"], [NIH], ["mine", "--from", "missing.pt"], ["mine", "--from", __file__]]
)
def test_the_command_fails_with_one_line(words, homes, capsys):
    assert run(*words) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("cxr-server: ")
    assert printed.err.count("\n") == 1
