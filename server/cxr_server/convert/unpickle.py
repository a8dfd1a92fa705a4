"""Unpickle: a file of torch.save -> tensors and attributes, without running it. Next: upstream.

Reads the zip format and the legacy format (before torch 1.6: three small pickles, the object,
the keys of its storages, the storages). Nothing here is torch's or Python's unpickler.
"""

import io
import math
import struct
import zipfile
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cxr_server.convert.inert_pickle import PickleRefused, Record, Vocabulary, read_pickle
from cxr_server.convert.vocabulary import (
    CALLS,
    CLASSES,
    STORAGES,
    WORDS,
    ArrayRecord,
    Storage,
    TensorView,
)

MAX_FILE_BYTES = 1 << 30
MAX_DEPTH = 32
MAX_MEMBERS = 100_000
ATTRIBUTES = ("targets", "pathologies", "labels", "op_threshs", "input_resolution")
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_BROKEN = (
    zipfile.BadZipFile,
    struct.error,
    ArithmeticError,
    LookupError,
    OSError,
    EOFError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What zipfile, struct and numpy raise on files that are not what they claim."""
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class SavedModel:
    """What was in the file.

    Attributes:
        state: The tensors by their names in the module's `state_dict`.
        attributes: Those of `ATTRIBUTES` that the outermost module has: numbers, strings and
            lists of them; None for anything else.
    """

    state: dict[str, NDArray[Any]]
    attributes: dict[str, Any]


def read_saved_model(content: bytes) -> SavedModel:
    """Read a module, or a `state_dict`, that torch.save wrote.

    Raises:
        PickleRefused: The file is broken, or names anything that a DenseNet does not need.
    """
    if len(content) > MAX_FILE_BYTES:
        raise PickleRefused("it is too large")
    try:
        if content.startswith(b"PK\x03\x04"):
            saved, storages = _read_zip(content)
        else:
            saved, storages = _read_legacy(io.BytesIO(content))
        collector = _Collector(storages)
        collector.collect(saved)
    except _BROKEN:
        raise PickleRefused("it is broken") from None
    attributes = saved.state if type(saved) is Record else {}
    return SavedModel(
        collector.state,
        {name: _plain(attributes[name]) for name in ATTRIBUTES if name in attributes},
    )


def _vocabulary(storages: dict[str, Storage]) -> Vocabulary:
    def persistent(identity: Any) -> Any:
        if type(identity) is not tuple or not identity:
            raise ValueError
        if identity[0] == "module":  # a class, with the file and text of its source
            return identity[1]
        kind, word, key, _, count, *view = identity
        if kind != "storage" or word not in STORAGES or view not in ([], [None]):
            raise PickleRefused("it keeps its numbers in an unknown way")
        if type(key) is not str or type(count) is not int or count < 0:
            raise ValueError
        return storages.setdefault(key, Storage(key, STORAGES[word], count))

    return Vocabulary(CLASSES, CALLS, WORDS, persistent)


def _read_zip(content: bytes) -> tuple[Any, dict[str, NDArray[Any]]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries.values())
        if not stored or sum(entry.file_size for entry in entries.values()) > len(content):
            raise PickleRefused("it is compressed, which torch does not do")
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(entries) < len(archive.infolist()):
            raise PickleRefused("it is not a file of torch.save")
        root = pickles[0].removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in entries and archive.read(order) != b"little":
            raise PickleRefused("its numbers are in big-endian order")
        declared: dict[str, Storage] = {}
        saved = read_pickle(io.BytesIO(archive.read(pickles[0])), _vocabulary(declared))
        storages = {}
        for key, storage in declared.items():
            name = f"{root}data/{key}"
            if name not in entries:
                raise PickleRefused("it lacks some of its numbers")
            storages[key] = _numbers(archive.read(name), storage)
    return saved, storages


def _read_legacy(file: BinaryIO) -> tuple[Any, dict[str, NDArray[Any]]]:
    declared: dict[str, Storage] = {}
    vocabulary = _vocabulary(declared)
    if read_pickle(file, vocabulary) != _LEGACY_MAGIC:
        raise PickleRefused("it is not a file of torch.save")
    if read_pickle(file, vocabulary) != _LEGACY_PROTOCOL:
        raise PickleRefused("it is of an unknown version")
    system = read_pickle(file, vocabulary)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise PickleRefused("its numbers are in big-endian order")
    saved = read_pickle(file, vocabulary)
    keys = read_pickle(file, vocabulary)
    if type(keys) is not list or sorted(map(str, keys)) != sorted(declared):
        raise PickleRefused("it lacks some of its numbers")
    storages = {}
    for key in map(str, keys):
        storage = declared[key]
        count = int.from_bytes(file.read(8), "little", signed=True)
        if count != storage.count:
            raise PickleRefused("it is broken")
        storages[key] = _numbers(file.read(count * storage.dtype.itemsize), storage)
    return saved, storages


def _numbers(raw: bytes, storage: Storage) -> NDArray[Any]:
    if len(raw) != storage.count * storage.dtype.itemsize:
        raise PickleRefused("it is cut short")
    return np.frombuffer(raw, storage.dtype)


class _Collector:
    """Gathers the tensors of a module, or of a `state_dict`, under their full names."""

    def __init__(self, storages: dict[str, NDArray[Any]]) -> None:
        self.state: dict[str, NDArray[Any]] = {}
        self._storages = storages
        self._members_left = MAX_MEMBERS
        self._bytes_left = 2 * sum(numbers.nbytes for numbers in storages.values())

    def collect(self, value: Any, prefix: str = "", depth: int = 0) -> None:
        # A few records that hold each other can describe a tree without end.
        if depth > MAX_DEPTH:
            raise PickleRefused("its modules are nested without end")
        if type(value) is Record:
            for group in ("_parameters", "_buffers", "_modules"):
                self.collect(value.state.get(group, {}), prefix, depth + 1)
            return
        if type(value) is not dict:
            raise PickleRefused("it holds no model")
        self._members_left -= len(value) + 1
        if self._members_left < 0:
            raise PickleRefused("its modules are nested without end")
        for name, member in value.items():
            if type(member) is TensorView:
                self._add(f"{prefix}{name}", member)
            elif type(member) is Record:
                self.collect(member, f"{prefix}{name}.", depth + 1)
            elif member is not None:
                raise PickleRefused("it is broken")

    def _add(self, name: str, view: TensorView) -> None:
        numbers = self._storages[view.storage.key]
        self._bytes_left -= math.prod(view.shape) * numbers.itemsize
        if self._bytes_left < 0:
            raise PickleRefused("its tensors are larger than its numbers")
        self.state[name] = _tensor(view, numbers)


def _tensor(view: TensorView, numbers: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of the tensor; a view that leaves its storage or repeats it is refused."""
    count = math.prod(view.shape)
    last = view.offset + sum(
        (size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True)
    )
    if count > len(numbers) or (count and last >= len(numbers)):
        raise PickleRefused("it has a tensor that is larger than its numbers")
    if not count:
        return np.empty(view.shape, numbers.dtype)
    strides = [stride * numbers.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(
        numbers[view.offset :], view.shape, strides, writeable=False
    ).copy()


def _plain(value: Any) -> Any:
    """Return numbers, strings and flat lists of them; None for anything else."""
    if type(value) is ArrayRecord:
        value = value.values
    if type(value) in (list, tuple):
        return list(value) if all(type(item) in _PLAIN for item in value) else None
    return value if type(value) in _PLAIN else None
