"""Upstream's files are read in every form they come in, and never run."""

import io
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cxr_server.convert.allow_list import CheckpointRefused
from cxr_server.convert.checkpoint import LEGACY_MAGIC, read_checkpoint
from random_models import FULL_LABELS, random_thresholds

FORMATS = pytest.mark.parametrize("zip_format", [False, True], ids=["legacy", "zip"])


def saved(model: object, zip_format: bool) -> bytes:
    file = io.BytesIO()
    torch.save(model, file, _use_new_zipfile_serialization=zip_format)
    return file.getvalue()


def as_zip(data: bytes, **entries: bytes) -> bytes:
    """A zip file of torch.save around a pickle of our own."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    return file.getvalue()


def as_legacy(data: bytes) -> bytes:
    """A legacy file of torch.save around a pickle of our own."""
    head = [LEGACY_MAGIC, 1001, {"little_endian": True}]
    return b"".join(pickle.dumps(part, 2) for part in head) + data + pickle.dumps([], 2)


def assert_same_state(state: dict, model: nn.Module) -> None:
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
    assert found.attributes == {}


@FORMATS
def test_findings_and_operating_points_are_read_in_all_their_types(zip_format):
    model = nn.Sequential(nn.Linear(2, 2))
    model.targets = list(FULL_LABELS)
    model.pathologies = np.array(FULL_LABELS, dtype=object)
    model.op_threshs = np.array(random_thresholds(18), np.float32)
    attributes = read_checkpoint(saved(model, zip_format)).attributes
    assert attributes["targets"] == attributes["pathologies"] == list(FULL_LABELS)
    assert np.float32(attributes["op_threshs"]).tolist() == list(random_thresholds(18))
    model.targets = np.array(FULL_LABELS)
    model.op_threshs = [np.float32(0.25), 0.5, np.float64("nan")]
    attributes = read_checkpoint(saved(model, zip_format)).attributes
    assert attributes["targets"] == list(FULL_LABELS)
    assert str(attributes["op_threshs"]) == "[0.25, 0.5, nan]"


@FORMATS
def test_parameters_that_are_views_of_one_storage_are_read(zip_format):
    model = nn.Linear(3, 4)
    whole = torch.arange(40.0)
    model.weight = nn.Parameter(whole[5:29:2].reshape(4, 3))
    model.bias = nn.Parameter(whole[30:34])
    assert_same_state(read_checkpoint(saved(model, zip_format)).state, model)
    model.weight = nn.Parameter(torch.arange(12.0).reshape(3, 4).T)
    assert_same_state(read_checkpoint(saved(model, zip_format)).state, model)


@pytest.mark.parametrize("era", ["torchxrayvision.models", "torchvision.models.densenet"])
@FORMATS
def test_the_classes_of_2020_are_read_with_what_torch_wrote_then(
    small_densenet, zip_format, era, monkeypatch
):
    """Classes by their old homes, sources beside them, no attributes of later versions."""
    classes = {type(module) for module in small_densenet.modules()}
    home = sys.modules[era]
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


def test_files_saved_on_a_gpu_and_with_the_backend_of_early_torch_are_read():
    model = nn.Linear(2, 1)
    content = saved(model, False)
    on_gpu = content.replace(b"ctorch\nFloatStorage", b"ctorch.cuda\nFloatStorage")
    assert on_gpu != content
    backend = b"X\x08\x00\x00\x00_backendctorch.nn.backends.thnn\n_get_thnn_function_backend\n)R"
    key = b"X\x08\x00\x00\x00training"
    assert key in on_gpu
    assert_same_state(read_checkpoint(on_gpu.replace(key, backend + key, 1)).state, model)


class Evil:
    """Pickled, it becomes a call."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call[0], tuple(self.call[1:])


MARK = Path("evil-was-here")


def touch(path: str) -> str:
    return f"__import__('pathlib').Path({path!r}).touch()"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / MARK


def attacks(mark: str) -> dict[str, bytes]:
    """Pickles that leave `mark` behind, or could, in a reader that believes them."""
    import builtins
    import os
    import subprocess

    code = touch(mark)
    word = lambda text: b"X" + struct.pack("<I", len(text)) + text.encode()  # noqa: E731
    return {
        "os.system": pickle.dumps(Evil(os.system, f"touch {mark}"), 2),
        "subprocess": pickle.dumps(Evil(subprocess.check_call, ["touch", mark]), 2),
        "eval": pickle.dumps(Evil(eval, code), 2),
        "exec": pickle.dumps(Evil(builtins.exec, code), 2),
        "open": pickle.dumps(Evil(open, mark, "w"), 2),
        "inside a list": pickle.dumps([1, {"a": (Evil(eval, code),)}], 2),
        "protocol 0": pickle.dumps(Evil(eval, code), 0),
        "protocol 4": pickle.dumps(Evil(eval, code), 4),
        "protocol 5": pickle.dumps(Evil(eval, code), 5),
        "getattr chain": b"\x80\x02c__builtin__\ngetattr\nc__builtin__\n__import__\n"
        + word("__call__") + b"\x86R" + word("os") + b"\x85R.",
        "dotted name": b"\x80\x04" + word("torch.nn.modules.conv")
        + word("Conv2d.__init__.__globals__") + b"\x93.",
        "torch's own loader": b"\x80\x02ctorch\nload\n" + word(mark) + b"\x85R.",
        "numpy's loader": b"\x80\x02cnumpy\nload\n" + word(mark) + b"\x85R.",
        "torch.jit": b"\x80\x02ctorch.jit._script\nunpackage_script_module\n)R.",
        "operator": b"\x80\x02coperator\nattrgetter\n" + word("x") + b"\x85R.",
        "obj": b"(cos\nsystem\n" + word(f"touch {mark}") + b"o.",
        "inst": b"(" + word(f"touch {mark}") + b"ios\nsystem\n.",
        "newobj_ex": b"\x80\x04ctorch.nn.modules.conv\nConv2d\n)}\x92.",
        "newobj of a function": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        "newobj with arguments": b"\x80\x02ctorch.nn.modules.conv\nConv2d\nK\x01\x85\x81.",
        "call of a class": b"\x80\x02ctorch.nn.modules.conv\nConv2d\n)R.",
        "call of a value": b"\x80\x02K\x01)R.",
        "call of a tuple like a name": b"\x80\x02" + word("os") + word("system") + b"\x86"
        + word(f"touch {mark}") + b"\x85R.",
        "build on a name": b"\x80\x02ccollections\nOrderedDict\n}" + word("__call__")
        + word("x") + b"sb.",
        "slots": b"\x80\x02ctorch.nn.modules.conv\nConv2d\n)\x81N}" + word("__class__")
        + word("x") + b"s\x86b.",
        "persistent name": b"\x80\x02(" + word("storage") + b"cos\nsystem\n" + word("0")
        + word("cpu") + b"K\x01tQ.",
        "extension registry": b"\x80\x02\x82\x01.",
        "buffers": b"\x80\x05\x97.",
    }  # fmt: skip


@pytest.mark.parametrize("attack", attacks("x"))
@pytest.mark.parametrize("wrap", [as_zip, as_legacy], ids=["zip", "legacy"])
def test_a_malicious_pickle_is_refused_and_does_nothing(attack, wrap, mark, monkeypatch, capfd):
    monkeypatch.chdir(mark.parent)
    content = wrap(attacks(str(mark))[attack])
    before = set(sys.modules)
    with pytest.raises(CheckpointRefused):
        read_checkpoint(content)
    assert not mark.exists()
    assert list(mark.parent.iterdir()) == []
    imported = {name for name in set(sys.modules) - before if not name.startswith("encodings.")}
    assert not imported, "a module was imported because a file named it"
    assert capfd.readouterr() == ("", "")


def test_a_method_planted_in_an_object_is_an_attribute_and_no_more(mark):
    """Python's unpickler calls `__setstate__` of what it builds."""
    word = lambda text: b"X" + struct.pack("<I", len(text)) + text  # noqa: E731
    data = b"\x80\x02ctorch.nn.modules.conv\nConv2d\n)\x81}" + word(b"__setstate__")
    data += b"ccollections\nOrderedDict\nsb}" + word(b"x") + b"K\x01sb."
    with pytest.raises(CheckpointRefused, match="no tensors"):
        read_checkpoint(as_zip(data))


def test_the_attacks_are_real(mark):
    """What the test above refuses does run in Python's own unpickler."""
    for attack in ("os.system", "subprocess", "eval", "exec", "protocol 4", "obj", "inst"):
        pickle.loads(attacks(str(mark))[attack])
        assert mark.exists(), attack
        mark.unlink()


@pytest.mark.parametrize("where", ["_modules", "_parameters", "hook"])
def test_malice_hung_onto_an_honest_model_is_refused(where, mark):
    model = nn.Sequential(nn.Linear(2, 2))
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


def record_tree(depth: int) -> bytes:
    """A few modules that hold each other twice: a tree of 2**depth modules."""
    new = b"ctorch.nn.modules.container\nSequential\n)\x81"
    text = b"\x80\x02" + new + b"}b"
    word = lambda name: b"X" + struct.pack("<I", len(name)) + name  # noqa: E731
    for _ in range(depth):
        text += b"q\x000" + new + b"}" + word(b"_modules") + b"}"
        text += word(b"a") + b"h\x00s" + word(b"b") + b"h\x00ssb"
    return text + b"."


EXHAUSTING = {
    "deep lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "modules that hold each other": record_tree(30),
    "a module that holds itself": b"\x80\x02ctorch.nn.modules.container\nSequential\n)\x81q\x00}"
    b"X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00ah\x00ssb.",
    "a list copied again and again": b"\x80\x02](" + b"K\x01" * 50_000 + b"eq\x000"
    + b"cbuiltins\nset\nq\x01" + b"h\x01h\x00\x85R0" * 5_000 + b".",
    "a state set again and again": b"\x80\x02}(" + b"".join(
        b"J" + struct.pack("<i", i) + b"N" for i in range(20_000)
    ) + b"uq\x000ctorch.nn.modules.conv\nConv2d\n)\x81" + b"h\x00b" * 50_000 + b".",
    "operations without end": b"\x80\x02" + b"N0" * 1_000_000 + b"N.",
    "a text of 8 exabytes": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
    "a text of 4 gigabytes": b"\x80\x02X\xff\xff\xff\xffx.",
    "a frame of 8 exabytes": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b".",
    "a memo index of 4 billion": b"\x80\x02Nr\xff\xff\xff\xffj\xfe\xff\xff\xff.",
    "an empty stack": b"\x80\x02.",
    "marks alone": b"\x80\x02((((t.",
    "nothing": b"",
    "text": b"hello",
    "no end": b"\x80\x02K\x01",
}  # fmt: skip


@pytest.mark.parametrize("name", EXHAUSTING)
@pytest.mark.parametrize("wrap", [as_zip, as_legacy], ids=["zip", "legacy"])
def test_a_pickle_made_to_exhaust_its_reader_is_refused(name, wrap):
    content = wrap(EXHAUSTING[name])
    with pytest.raises(CheckpointRefused):
        read_checkpoint(content)


def tensor_pickle(count: int, offset: int, size: int, stride: int, copies: int = 1) -> bytes:
    """A state_dict with tensors that view one storage of `count` numbers."""
    word = lambda name: b"X" + struct.pack("<I", len(name)) + name  # noqa: E731
    number = lambda value: b"\x8a\x08" + struct.pack("<q", value)  # noqa: E731
    storage = b"(" + word(b"storage") + b"ctorch\nFloatStorage\n" + word(b"0") + word(b"cpu")
    storage += number(count) + b"tQ"
    view = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset)
    view += number(size) + b"\x85" + number(stride) + b"\x85\x89}tR"
    items = b"".join(word(b"t%d" % i) + b"h\x00" for i in range(copies))
    return b"\x80\x02" + view + b"q\x000}(" + items + b"u."


def test_tensors_that_leave_or_multiply_their_storage_are_refused():
    data = {"data/0": bytes(4 * 1000)}
    whole = read_checkpoint(as_zip(tensor_pickle(1000, 0, 1000, 1), **data))
    assert whole.state["t0"].shape == (1000,)
    for numbers in (
        (1000, 1, 1000, 1),
        (1000, 0, 1001, 1),
        (1000, 0, 501, 2),
        (1000, 0, 1 << 40, 0),
        (1000, -1, 10, 1),
        (1000, 999, 10, -1),
        (1000, 0, -1, 1),
        (1000, 1 << 62, 1, 1),
        (1000, 0, 1000, 1, 3),
    ):
        with pytest.raises(CheckpointRefused):
            read_checkpoint(as_zip(tensor_pickle(*numbers), **data))


def test_numbers_that_are_missing_short_or_compressed_are_refused(small_densenet):
    honest = tensor_pickle(1000, 0, 1000, 1)
    for entries in ({}, {"data/0": b""}, {"data/0": bytes(3999)}, {"data/0": bytes(4001)}):
        with pytest.raises(CheckpointRefused):
            read_checkpoint(as_zip(honest, **entries))
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", honest)
        archive.writestr("archive/data/0", bytes(50 << 20))
    with pytest.raises(CheckpointRefused, match="compressed"):
        read_checkpoint(bomb.getvalue())
    for zip_format in (False, True):
        content = saved(small_densenet, zip_format)
        for part in (0.001, 0.1, 0.3, 0.6, 0.9, 0.99999):
            with pytest.raises(CheckpointRefused):
                read_checkpoint(content[: int(part * len(content))])


def test_no_mutation_of_an_honest_file_gets_past_as_anything_but_data():
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
