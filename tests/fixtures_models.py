"""Fixtures: bundles, made once for the whole run."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from cxr_server.bundles import store
from cxr_server.bundles.load import Bundle, load_bundle
from cxr_server.bundles.store import PHANTOM, resolve
from cxr_server.convert.write import write_bundle
from random_weights import described, random_weights

if TYPE_CHECKING:  # torch takes seconds to import; tests without it should not wait for it
    from torch import nn


@pytest.hookimpl(tryfirst=True)  # before -m deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that needs a network of torchxrayvision."""
    for item in items:
        if {"small_densenet", "full_densenet"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("torch")


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without torch, which takes seconds to import where it is installed."""
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of random weights that needs no torch; do not write into it."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    return write_bundle(folder, random_weights(), described())


@pytest.fixture(scope="session")
def phantom_bundle() -> Bundle:
    """The bundle that is shipped. Needs no torch."""
    return load_bundle(resolve(PHANTOM, None))


@pytest.fixture(scope="session")
def unprobed_bundle(phantom_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped bundle without its probe, which any engine may serve; do not write into it."""
    folder = tmp_path_factory.mktemp("bundles") / "unprobed"
    shutil.copytree(phantom_bundle.path, folder)
    unprobed = msgspec.structs.replace(phantom_bundle.manifest, probe=msgspec.UNSET)
    (folder / "model.json").write_text(unprobed.to_json())
    return folder


@pytest.fixture
def unprobed_phantom(unprobed_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let "phantom" name that bundle, for engines that compute something else."""
    monkeypatch.setattr(store, "PHANTOM_PATH", unprobed_bundle)


@pytest.fixture(scope="session")
def small_densenet() -> "nn.Module":
    """torchxrayvision's DenseNet in the phantom's size."""
    from random_models import SMALL, SMALL_LABELS, random_densenet

    return random_densenet(SMALL, len(SMALL_LABELS))


@pytest.fixture(scope="session")
def full_densenet() -> "nn.Module":
    """torchxrayvision's DenseNet-121."""
    from random_models import FULL, FULL_LABELS, random_densenet

    return random_densenet(FULL, len(FULL_LABELS))


@pytest.fixture(scope="session")
def phantom_like_bundle(
    tmp_path_factory: pytest.TempPathFactory, small_densenet: "nn.Module"
) -> Path:
    """A bundle of the phantom's architecture with random weights; do not write into it."""
    from random_models import SMALL_LABELS, write_random_bundle

    folder = tmp_path_factory.mktemp("bundles") / "phantom-like"
    return write_random_bundle(folder, small_densenet, SMALL_LABELS)


@pytest.fixture(scope="session")
def full_bundle(tmp_path_factory: pytest.TempPathFactory, full_densenet: "nn.Module") -> Path:
    """A bundle of a full-size DenseNet-121 with random weights; do not write into it."""
    from random_models import FULL_LABELS, write_random_bundle

    folder = tmp_path_factory.mktemp("bundles") / "random-densenet121"
    return write_random_bundle(folder, full_densenet, FULL_LABELS)
