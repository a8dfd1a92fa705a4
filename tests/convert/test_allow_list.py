"""Malicious and exhausting checkpoints are refused, and nothing in them runs. Needs no torch."""

import io
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import pytest

from cxr_server.convert.allow_list import CheckpointRefused
from cxr_server.convert.checkpoint import read_checkpoint
from handmade_checkpoints import Evil, as_legacy, as_zip, number, touch, word

MARK = Path("evil-was-here")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / MARK


def attacks(mark: str) -> dict[str, bytes]:
    """Pickles that leave `mark` behind, or could, in a reader that believes them."""
    import builtins
    import os
    import subprocess

    code = touch(mark)
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


def record_tree(depth: int) -> bytes:
    """A few modules that hold each other twice: a tree of 2**depth modules."""
    new = b"ctorch.nn.modules.container\nSequential\n)\x81"
    text = b"\x80\x02" + new + b"}b"
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


def test_numbers_that_are_missing_short_or_compressed_are_refused():
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
