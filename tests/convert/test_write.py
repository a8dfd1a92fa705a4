"""Weights become a bundle whose scores equal an independent forward pass, or nothing. No torch."""

from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from cxr_server.bundles import architectures as parameters
from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.manifest import BundleError
from cxr_server.convert import architectures
from cxr_server.convert.architectures import Family
from cxr_server.convert.architectures.graph import Graph
from cxr_server.convert.parity import TOLERANCE, check_images, check_parity, numpy_scores
from cxr_server.convert.write import write_bundle
from cxr_server.inference.engines.registry import ENGINES, choose_engine
from cxr_server.inference.verify import verify_engine
from random_weights import described, random_weights, shapes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


@pytest.mark.usefixtures("without_torch")
def test_a_written_bundle_holds_the_weights_and_scores_as_the_numpy_forward_pass(folder):
    differences = {}
    state = random_weights()
    write_bundle(folder, state, described(), lambda b: differences.update(check_parity(b)))
    bundle = load_bundle(folder)
    assert bundle.manifest.bias == tuple(state["classifier.bias"].tolist())
    assert bundle.manifest.evidence_side == 8  # 64 px, halved three times
    assert differences["openvino and numpy"] < TOLERANCE
    scores = numpy_scores(bundle.manifest, state, check_images(64))
    assert np.ptp(scores, axis=0).min() > 100 * TOLERANCE, "other images must score differently"


def test_a_written_bundle_holds_a_drawn_image_and_what_every_engine_must_say_of_it(folder):
    for seed in (0, 1):
        write_bundle(folder, random_weights(seed=seed), described())
        bundle = load_bundle(folder)
        file = bundle.file(bundle.manifest.probe.file)
        assert file.stat().st_size < 50_000
        with Image.open(file) as image:
            assert (image.mode, image.size) == ("L", (320, 320))
            assert np.ptp(np.asarray(image)) > 100
        with closing(choose_engine(bundle, "openvino")) as engine:
            difference = verify_engine(engine, bundle)
        assert difference is not None
        assert difference < TOLERANCE


def test_a_preprocessing_that_is_not_implemented_leaves_no_bundle(folder):
    with pytest.raises(BundleError, match="needs the preprocessing other-v1"):
        write_bundle(folder, random_weights(), described(preprocessing_id="other-v1"))
    assert list(folder.parent.iterdir()) == []


def test_what_only_training_needs_is_left_out(folder):
    extra = {"features.norm0.num_batches_tracked": np.int64(7), "op_threshs": np.ones(3)}
    write_bundle(folder, random_weights() | extra, described())
    one = load_bundle(folder).manifest
    write_bundle(folder, random_weights(), described())
    assert load_bundle(folder).manifest.weights_sha256 == one.weights_sha256


def missing(state: dict) -> None:
    del state["features.norm5.bias"]


def additional(state: dict) -> None:
    state["head.weight"] = np.zeros(3, np.float32)


def in_color(state: dict) -> None:
    state["features.conv0.weight"] = np.zeros((8, 3, 7, 7), np.float32)


def not_finite(state: dict) -> None:
    state["features.conv0.weight"][0, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing, "features.norm5.bias has the shape None"),
        (additional, "it has no head.weight"),
        (in_color, r"features.conv0.weight has the shape \(8, 3, 7, 7\) instead of \(8, 1, 7, 7\)"),
        (not_finite, "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name_and_leave_nothing(folder, change, message):
    state = random_weights()
    change(state)
    with pytest.raises(BundleError, match=message):
        write_bundle(folder, state, described())
    assert list(folder.parent.iterdir()) == []


def test_a_bundle_that_is_rejected_leaves_the_one_that_was_there(folder):
    write_bundle(folder, random_weights(), described())
    before = load_bundle(folder).manifest

    def reject(_: object) -> None:
        raise BundleError("no")

    with pytest.raises(BundleError, match="no"):
        write_bundle(folder, random_weights(seed=1), described(), reject)
    assert load_bundle(folder).manifest == before
    write_bundle(folder, random_weights(seed=1), described())
    assert load_bundle(folder).manifest.weights_sha256 != before.weights_sha256
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.usefixtures("without_torch")
def test_a_graph_that_differs_from_the_weights_is_noticed(folder, monkeypatch):
    monkeypatch.setattr(Graph, "relu", lambda self, x: x)
    with pytest.raises(BundleError, match="openvino and numpy differ by"):
        write_bundle(folder, random_weights(), described(), check_parity)
    assert list(folder.parent.iterdir()) == []


def test_a_folder_that_is_no_bundle_is_never_replaced(folder):
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(BundleError, match="is not a bundle"):
        write_bundle(folder, random_weights(), described())
    assert (folder / "thesis.txt").read_text() == "precious"


def test_every_user_may_read_a_bundle(folder):
    write_bundle(folder, random_weights(), described())
    for path in [folder, *folder.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


class Plain(msgspec.Struct, frozen=True, tag_field="family", tag="plain"):
    """A second family: one convolution."""

    width: int
    name: str = "plain4"


def plain_features(network: Plain, layers: Any, x: Any) -> Any:
    return layers.relu(layers.conv(x, "body", network.width, 3, norm="norm", stride=8))


PLAIN = Family(
    recognize=lambda state: (Plain(width=len(state["body.weight"])), dict(state)),
    features=plain_features,
)


def test_a_second_family_is_one_entry_in_each_table(folder, monkeypatch):
    random = np.random.default_rng(0)
    with monkeypatch.context() as patch:
        patch.setitem(parameters.ARCHITECTURES, "plain", Plain)
        patch.setitem(architectures.FAMILIES, Plain, PLAIN)
        state = {
            name: random.uniform(0.1, 1, shape).astype("f4")
            for name, shape in shapes(Plain(width=4), 3).items()
        }
        state["body.weight"] = random.normal(0, 0.001, (4, 1, 3, 3)).astype("f4")
        write_bundle(folder, state, described(Plain(width=4)), check_parity)
        bundle = load_bundle(folder)
        assert bundle.manifest.network == Plain(width=4)
        assert bundle.manifest.network.name == "plain4"
        engine = choose_engine(bundle, "openvino")
        assert engine.evidence(check_images(64, 1)).shape == (1, 3, 8, 8)
        engine.close()
        if all(map(importable, ENGINES["torch"].packages)):
            assert "no module for the architecture plain4" in ENGINES["torch"].why_not(bundle)
    with pytest.raises(BundleError, match="architecture 'plain' is not implemented"):
        load_bundle(folder)


def importable(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None
