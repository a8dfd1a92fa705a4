"""Prepare makes bundles that score as torchxrayvision does, or makes nothing."""

import hashlib
import math
import re
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from cxr_server.__main__ import main
from cxr_server.bundles.load import Bundle, load_bundle
from cxr_server.bundles.manifest import BundleError, Upstream
from cxr_server.convert import parity
from cxr_server.convert.catalog import CATALOG, OUTPUTS
from cxr_server.convert.checkpoint import Checkpoint
from cxr_server.convert.convert import interpret, prepare
from cxr_server.convert.source import Source
from cxr_server.inference.engines.registry import choose_engine

if TYPE_CHECKING:
    from torch import nn

pytestmark = pytest.mark.torch

SMALL_LABELS = ("Cardiomegaly", "Effusion", "Pneumothorax", "Nodule", "Mass", "Consolidation")
POINTS = tuple(np.linspace(0.02, 0.6, 6, dtype=np.float32).tolist())
NIH = "densenet121-res224-nih"
MINE = Source(name="mine", downloads=Path())
UPSTREAM = Upstream("x.pt", "0" * 64, 1, "given")


@pytest.fixture
def small_model(small_densenet: "nn.Module") -> "nn.Module":
    """The shared network, with labels and operating points as upstream's files carry them."""
    import torch

    small_densenet.targets = small_densenet.pathologies = list(SMALL_LABELS)
    small_densenet.op_threshs = torch.tensor(POINTS)
    yield small_densenet
    small_densenet.op_threshs = None
    del small_densenet.targets, small_densenet.pathologies


@pytest.fixture(scope="module")
def eighteen() -> "nn.Module":
    """A small network with the 18 outputs of the catalogue's models."""
    from random_models import SMALL, random_densenet

    return random_densenet(SMALL, 18, seed=1)


def scored(model: "nn.Module", seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images and what `model(x)` of torchxrayvision returns for them."""
    import torch

    from random_models import random_images

    images = random_images(2, seed)
    with torch.inference_mode():
        return images.numpy(), model(images).numpy()


def new_densenet(class_count: int, **changes: int) -> "nn.Module":
    from cxr_server.inference.engines.torch.network import xrv
    from random_models import SMALL

    return xrv.models.DenseNet(num_classes=class_count, **msgspec.structs.asdict(SMALL) | changes)


def saved(model: "nn.Module", folder: Path, *, zip_format: bool = True) -> Path:
    import torch

    path = folder / "upstream.pt"
    torch.save(model, path, _use_new_zipfile_serialization=zip_format)
    return path


def prepared(model: "nn.Module", folder: Path, name: str = "mine", **options: object) -> Bundle:
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
    images, expected = scored(small_model, seed=11)
    bundle = prepared(small_model, tmp_path, zip_format=zip_format)
    np.testing.assert_allclose(openvino_scores(bundle, images), expected, atol=1e-4, rtol=0)
    manifest = bundle.manifest
    assert manifest.labels == SMALL_LABELS
    assert manifest.thresholds == POINTS
    assert manifest.upstream.verified == "local-file"
    content = (tmp_path / "upstream.pt").read_bytes()
    assert manifest.upstream.sha256 == hashlib.sha256(content).hexdigest()
    assert manifest.upstream.bytes == len(content)


def test_without_operating_points_a_score_is_the_probability(small_model, tmp_path):
    small_model.op_threshs = None
    bundle = prepared(small_model, tmp_path)
    assert set(bundle.manifest.thresholds) == {0.5}
    assert any("0.5 is assumed" in notice for notice in bundle.manifest.notices)
    images, logits = scored(small_model, seed=12)
    expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(openvino_scores(bundle, images), expected, atol=1e-4)


def test_outputs_without_label_or_operating_point_are_dropped(small_model, tmp_path):
    import torch

    small_model.targets = ["Cardiomegaly", "", "Pneumothorax", "Nodule", "Mass", ""]
    small_model.op_threshs = torch.tensor([0.1, 0.2, float("nan"), 0.3, 0.4, float("nan")])
    bundle = prepared(small_model, tmp_path)
    assert bundle.manifest.labels == ("Cardiomegaly", "Nodule", "Mass")
    assert bundle.manifest.class_indices == (0, 3, 4)
    images, expected = scored(small_model, seed=13)
    found = openvino_scores(bundle, images)
    np.testing.assert_allclose(found, expected[:, [0, 3, 4]], atol=1e-4)


def test_the_full_size_network_gives_torchxrayvisions_evidence(full_bundle, full_densenet):
    import torch

    from random_models import random_images

    images = random_images(2, seed=14)
    with torch.inference_mode():
        features = torch.relu(full_densenet.features(images))
        weights = full_densenet.classifier.weight
        expected = torch.einsum("kc,nchw->nkhw", weights, features).numpy()
    engine = choose_engine(load_bundle(full_bundle), "openvino")
    found = np.concatenate([engine.evidence(image[None]) for image in images.numpy()])
    engine.close()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def state_of(model: "nn.Module") -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def test_a_catalogue_model_gets_torchxrayvisions_labels_and_operating_points(eighteen):
    checkpoint = Checkpoint(state_of(eighteen), {"targets": ["not these"] * 18})
    described, _ = interpret(checkpoint, Source(name=NIH, downloads=Path()), UPSTREAM)
    from cxr_server.inference.engines.torch.network import xrv

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
    found, state = interpret(Checkpoint(old, {"targets": list(SMALL_LABELS)}), MINE, UPSTREAM)
    assert found.network.block_config == (3, 4, 6, 4)
    assert state.keys() == new.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(array, new[name])


def test_operating_points_are_read_from_an_attribute_too(small_densenet):
    attributes = {"pathologies": list(SMALL_LABELS), "op_threshs": list(POINTS)}
    found, _ = interpret(Checkpoint(state_of(small_densenet), attributes), MINE, UPSTREAM)
    assert found.thresholds == POINTS


def test_the_catalogue_is_torchxrayvisions():
    from cxr_server.inference.engines.torch.network import xrv

    densenets = {name for name in xrv.models.model_urls if name.startswith("densenet")}
    assert set(CATALOG) == densenets
    assert list(OUTPUTS) == xrv.models.DenseNet.targets
    for name, entry in CATALOG.items():
        known = xrv.models.model_urls[name]
        assert entry.url == known["weights_url"]
        points = entry.operating_points
        assert known["labels"] == [label if label in points else "" for label in OUTPUTS]
        pairs = zip(OUTPUTS, known["op_threshs"], strict=True)
        assert points == {label: point for label, point in pairs if not math.isnan(point)}
        assert set(entry.reliability) <= set(points)
    assert set(CATALOG["densenet121-res224-all"].reliability) == set(OUTPUTS)


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
def test_an_unverified_file_is_not_read(eighteen, tmp_path, name, options, message):
    with pytest.raises(BundleError, match=message):
        prepared(eighteen, tmp_path, name, **options)
    assert nothing_in(tmp_path)


def test_a_matching_sha256_is_recorded(eighteen, tmp_path, monkeypatch):
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


def other_module(kind: str, *sizes: int) -> "nn.Module":
    from torch import nn

    return getattr(nn, kind)(*sizes)


def three_channels() -> "nn.Module":
    model = new_densenet(18, in_channels=3)
    model.targets = list(OUTPUTS)
    return model


def more_biases_than_rows() -> "nn.Module":
    from torch import nn, zeros

    model = new_densenet(5)
    model.classifier.bias = nn.Parameter(zeros(6))
    model.targets = list(SMALL_LABELS)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(other_module, "Linear", 2, 2), "no DenseNet"),
        (partial(other_module, "Conv1d", 1, 1, 1), "Conv1d"),
        (three_channels, r"conv0.weight has the shape \(16, 3, 7, 7\) instead of \(16, 1, 7, 7\)"),
        (partial(new_densenet, 5), "5 outputs"),
        (more_biases_than_rows, "cannot be converted"),
    ],
    ids=["linear", "other module", "colour", "unnamed outputs", "ragged classifier"],
)
def test_a_file_that_is_no_servable_densenet_is_refused(
    make: Callable[[], Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=message):
        prepared(make(), tmp_path)
    assert nothing_in(tmp_path)


@pytest.mark.parametrize("reference", ["numpy", "torchxrayvision"])
def test_engines_that_differ_from_a_reference_leave_no_bundle(
    small_model, tmp_path, monkeypatch, reference
):
    home = {"numpy": parity, "torchxrayvision": torch_network()}[reference]
    real = getattr(home, f"{reference}_scores")
    monkeypatch.setattr(home, f"{reference}_scores", lambda *args: real(*args) + 2e-4)
    with pytest.raises(BundleError, match=f"openvino and {reference} differ by 2"):
        prepared(small_model, tmp_path)
    assert nothing_in(tmp_path)


def torch_network() -> Any:
    from cxr_server.inference.engines.torch import network

    return network


PAIRS = [
    f"{engine} and {reference}: equal"
    for engine in ("openvino", "torch")
    for reference in ("numpy", "torchxrayvision")
]


@pytest.fixture
def homes(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CXR_BUNDLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def test_the_command_prints_what_it_checked_and_fills_the_cache(small_model, homes, capsys):
    assert main(["prepare", "mine", "--from", str(saved(small_model, homes))]) == 0
    printed = capsys.readouterr().out
    for part in ("SHA-256", "local-file", "6 findings", *PAIRS, "mine"):
        assert part in printed
    assert load_bundle(homes / "home" / "mine").manifest.name == "mine"
    assert list((homes / "cache").rglob("*.blob"))


LABELS_OF_ONE_S_OWN = ("Implant", "Drain", "Rib Fracture")


@pytest.mark.parametrize(
    ("saved_as", "zip_format"),
    [("module", False), ("state_dict", True)],
    ids=["legacy module", "zipped state_dict"],
)
def test_a_fine_tuned_densenet_with_findings_of_ones_own_is_converted(
    homes, saved_as, zip_format, capsys
):
    """As docs/how-to/convert-your-own-model.md says."""
    import torch

    from random_models import SMALL, random_densenet

    model = random_densenet(SMALL, len(LABELS_OF_ONE_S_OWN), seed=5)
    content = model if saved_as == "module" else model.state_dict()
    file = homes / "mine.pt"
    torch.save(content, file, _use_new_zipfile_serialization=zip_format)
    words = ["prepare", "mine", "--from", str(file)]
    assert main(words) == 1
    assert "--labels" in capsys.readouterr().err
    assert main([*words, "--labels", ", ".join(LABELS_OF_ONE_S_OWN)]) == 0
    bundle = load_bundle(homes / "home" / "mine")
    assert bundle.manifest.labels == LABELS_OF_ONE_S_OWN
    images, logits = scored(model, seed=6)
    expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(openvino_scores(bundle, images), expected, atol=1e-4)


def test_a_catalogue_model_keeps_its_findings(eighteen, tmp_path):
    with pytest.raises(BundleError, match="--labels is not accepted"):
        prepared(eighteen, tmp_path, NIH, labels=("A",) * 18)


def test_findings_that_are_named_twice_are_refused(small_model, tmp_path):
    with pytest.raises(BundleError, match="named twice"):
        prepared(small_model, tmp_path, labels=("A",) * 6)
    assert nothing_in(tmp_path)


def test_attributes_of_a_wrong_type_are_no_findings(small_model, tmp_path):
    small_model.targets = small_model.pathologies = 6
    with pytest.raises(BundleError, match="0 findings"):
        prepared(small_model, tmp_path)
