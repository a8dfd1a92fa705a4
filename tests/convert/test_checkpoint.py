"""Checkpoints of torch.save are read in every form they come in, and never run."""

import io
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from cxr_server.convert.allow_list import CheckpointRefused
from cxr_server.convert.catalog import OUTPUTS
from cxr_server.convert.checkpoint import read_checkpoint
from handmade_checkpoints import Evil, touch

pytestmark = pytest.mark.torch

POINTS = np.linspace(0.02, 0.6, 18, dtype=np.float32).tolist()
FORMATS = pytest.mark.parametrize("zip_format", [False, True], ids=["legacy", "zip"])


@pytest.fixture
def nn() -> Any:
    from torch import nn

    return nn


def saved(model: object, zip_format: bool) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(model, file, _use_new_zipfile_serialization=zip_format)
    return file.getvalue()


def assert_same_state(state: dict, model: Any) -> None:
    expected = model.state_dict()
    assert set(state) == set(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(state[name], tensor.numpy(), err_msg=name)


@FORMATS
def test_a_saved_densenet_is_read_to_the_bit(small_densenet, zip_format):
    assert_same_state(read_checkpoint(saved(small_densenet, zip_format)).state, small_densenet)


@FORMATS
def test_a_state_dict_is_read_too(small_densenet, zip_format):
    found = read_checkpoint(saved(small_densenet.state_dict(), zip_format))
    assert_same_state(found.state, small_densenet)
    assert found.lists == {}


@FORMATS
def test_findings_and_operating_points_are_read_in_all_their_types(nn, zip_format):
    model = nn.Sequential(nn.Linear(2, 2))
    model.targets = list(OUTPUTS)
    model.pathologies = np.array(OUTPUTS, dtype=object)
    model.op_threshs = np.array(POINTS, np.float32)
    attributes = read_checkpoint(saved(model, zip_format)).lists
    assert attributes["targets"] == attributes["pathologies"] == list(OUTPUTS)
    assert np.float32(attributes["op_threshs"]).tolist() == POINTS
    model.targets = np.array(OUTPUTS)
    model.op_threshs = [np.float32(0.25), 0.5, np.float64("nan")]
    attributes = read_checkpoint(saved(model, zip_format)).lists
    assert attributes["targets"] == list(OUTPUTS)
    assert str(attributes["op_threshs"]) == "[0.25, 0.5, nan]"


@FORMATS
def test_parameters_that_are_views_of_one_storage_are_read(nn, zip_format):
    from torch import arange

    model = nn.Linear(3, 4)
    whole = arange(40.0)
    model.weight = nn.Parameter(whole[5:29:2].reshape(4, 3))
    model.bias = nn.Parameter(whole[30:34])
    assert_same_state(read_checkpoint(saved(model, zip_format)).state, model)
    model.weight = nn.Parameter(arange(12.0).reshape(3, 4).T)
    assert_same_state(read_checkpoint(saved(model, zip_format)).state, model)


@pytest.mark.parametrize("era", ["torchxrayvision.models", "torchvision.models.densenet"])
@FORMATS
def test_the_classes_of_2020_are_read_with_what_torch_wrote_then(
    small_densenet, zip_format, era, monkeypatch
):
    """Classes by their old homes, sources beside them, no attributes of later versions."""
    classes = {type(module) for module in small_densenet.modules()}
    home = import_module(era)
    for cls in classes:
        if cls.__module__ == "torchxrayvision.models":
            monkeypatch.setattr(cls, "__module__", era)
            monkeypatch.setattr(home, cls.__name__, cls)  # pickle insists on finding it there
    removed = []
    for module in small_densenet.modules():
        later = [name for name in vars(module) if name.startswith(("_non_persistent", "_is_full"))]
        removed.append((module, {name: vars(module).pop(name) for name in later}))
    try:
        content = saved(small_densenet, zip_format)
    finally:
        for module, attributes in removed:
            vars(module).update(attributes)
    assert era.encode() in content
    assert b"\x00_non_persistent_buffers_set" not in content
    assert_same_state(read_checkpoint(content).state, small_densenet)


def test_files_saved_on_a_gpu_and_with_the_backend_of_early_torch_are_read(nn):
    model = nn.Linear(2, 1)
    content = saved(model, False)
    on_gpu = content.replace(b"ctorch\nFloatStorage", b"ctorch.cuda\nFloatStorage")
    assert on_gpu != content
    backend = b"X\x08\x00\x00\x00_backendctorch.nn.backends.thnn\n_get_thnn_function_backend\n)R"
    key = b"X\x08\x00\x00\x00training"
    assert key in on_gpu
    assert_same_state(read_checkpoint(on_gpu.replace(key, backend + key, 1)).state, model)


@pytest.mark.parametrize("where", ["_modules", "_parameters", "hook"])
def test_a_malicious_attribute_in_a_valid_checkpoint_is_refused(nn, where, tmp_path):
    model = nn.Sequential(nn.Linear(2, 2))
    mark = tmp_path / "evil-was-here"
    evil = Evil(eval, touch(str(mark)))
    if where == "hook":
        model._forward_hooks[0] = evil
    else:
        vars(model)[where]["evil"] = evil
    for zip_format in (False, True):
        content = saved(model, zip_format)
        with pytest.raises(CheckpointRefused, match="eval"):
            read_checkpoint(content)
    assert not mark.exists()


@FORMATS
def test_a_file_that_is_cut_short_is_refused(small_densenet, zip_format):
    content = saved(small_densenet, zip_format)
    for part in (0.001, 0.1, 0.3, 0.6, 0.9, 0.99999):
        with pytest.raises(CheckpointRefused):
            read_checkpoint(content[: int(part * len(content))])


def test_no_mutation_of_an_honest_file_gets_past_as_anything_but_data(nn):
    """Byte flips end in a refusal or in tensors, never in another exception."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm2d(2))
    random = np.random.default_rng(0)
    outcomes = set()
    for zip_format in (False, True):
        content = np.frombuffer(saved(model, zip_format), np.uint8)
        for _ in range(400):
            changed = content.copy()
            for offset in random.integers(0, len(content), random.integers(1, 4)):
                changed[offset] = random.integers(256)
            try:
                state = read_checkpoint(changed.tobytes()).state
                outcomes.add(all(type(array) is np.ndarray for array in state.values()))
            except CheckpointRefused:
                outcomes.add("refused")
    assert outcomes == {True, "refused"}
