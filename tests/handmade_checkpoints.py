"""Files of torch.save around pickles of our own, made without torch."""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

from cxr_server.convert.checkpoint import LEGACY_MAGIC, LEGACY_PROTOCOL


def word(text: str | bytes) -> bytes:
    """The opcode of a text."""
    text = text.encode() if isinstance(text, str) else text
    return b"X" + struct.pack("<I", len(text)) + text


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
    head = [LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True}]
    return b"".join(pickle.dumps(part, 2) for part in head) + data + pickle.dumps([], 2)


class Evil:
    """Pickled, it becomes a call."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call[0], tuple(self.call[1:])


def touch(path: str) -> str:
    return f"__import__('pathlib').Path({path!r}).touch()"


def number(value: int) -> bytes:
    """The opcode of a signed integer of 64 bits."""
    return b"\x8a\x08" + struct.pack("<q", value)


def state_dict_file(state: Mapping[str, np.ndarray]) -> bytes:
    """What torch.save writes for a state_dict of float32 tensors."""
    data, entries = b"\x80\x02ccollections\nOrderedDict\n)R(", {}
    for key, (name, array) in enumerate(state.items()):
        storage = b"(" + word("storage") + b"ctorch\nFloatStorage\n" + word(str(key)) + word("cpu")
        storage += number(array.size) + b"tQ"
        strides = [stride // array.itemsize for stride in array.strides]
        shape_and_strides = (
            b"(" + b"".join(map(number, values)) + b"t" for values in (array.shape, strides)
        )
        data += word(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(0)
        data += b"".join(shape_and_strides) + b"\x89ccollections\nOrderedDict\n)RtR"
        entries[f"data/{key}"] = array.astype("<f4").tobytes()
    return as_zip(data + b"u.", **entries)
