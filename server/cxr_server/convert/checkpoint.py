"""Checkpoint: a file of torch.save -> tensors and attributes. Next: convert.

Reads the zip format and the legacy format (before torch 1.6: three small pickles, the object,
the keys of its storages, the storages), without torch. Nothing in the file is run.
"""

import io
import math
import re
import zipfile
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cxr_server.convert.allow_list import CheckpointRefused, Module, Record, Storage, read_pickle

MAX_FILE_BYTES = 1 << 30
MAX_DEPTH = 32
MAX_MEMBERS = 100_000
ATTRIBUTES = ("targets", "pathologies", "op_threshs")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
_DTYPE = re.compile(r"[<>=|]?(?:[fiub][1248]|[US]\d{1,4}|O8?)")
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The content of the file.

    Attributes:
        state: The tensors by their names in the module's `state_dict`.
        attributes: Those of `ATTRIBUTES` that the outermost module has: numbers, strings and
            lists of them; None for anything else.
    """

    state: dict[str, NDArray[Any]]
    attributes: dict[str, Any]


def read_checkpoint(content: bytes) -> Checkpoint:
    """Read a module, or a `state_dict`, that torch.save wrote.

    Raises:
        CheckpointRefused: The file is corrupt, or names anything that is not on the allow-list.
    """
    if len(content) > MAX_FILE_BYTES:
        raise CheckpointRefused("it is too large")
    try:
        read = _read_zip if content.startswith(b"PK\x03\x04") else _read_legacy
        saved, storages = read(io.BytesIO(content))
        collector = _Collector(storages)
        collector.collect(saved)
        found = saved.state if isinstance(saved, Module) else {}
        attributes = {name: _plain(found[name]) for name in ATTRIBUTES if name in found}
    except CheckpointRefused:
        raise
    except Exception:  # zipfile, struct, numpy and the unpickler raise anything on such files
        raise CheckpointRefused("it is corrupt") from None
    if not collector.state:
        raise CheckpointRefused("it holds no tensors")
    return Checkpoint(collector.state, attributes)


def _read_zip(file: BinaryIO) -> tuple[Any, dict[str, NDArray[Any]]]:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries.values())
        file_size = file.seek(0, io.SEEK_END)
        if not stored or sum(entry.file_size for entry in entries.values()) > file_size:
            raise CheckpointRefused("it is compressed, which torch does not do")
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(entries) < len(archive.infolist()):
            raise CheckpointRefused("it is not a file of torch.save")
        root = pickles[0].removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in entries and archive.read(order) != b"little":
            raise CheckpointRefused("its numbers are in big-endian order")
        declared: dict[str, Storage] = {}
        saved = read_pickle(io.BytesIO(archive.read(pickles[0])), declared)
        storages = {}
        for key, storage in declared.items():
            name = f"{root}data/{key}"
            if name not in entries:
                raise CheckpointRefused("it lacks some of its numbers")
            storages[key] = _numbers(archive.read(name), storage)
    return saved, storages


def _read_legacy(file: BinaryIO) -> tuple[Any, dict[str, NDArray[Any]]]:
    declared: dict[str, Storage] = {}
    if read_pickle(file, declared) != LEGACY_MAGIC:
        raise CheckpointRefused("it is not a file of torch.save")
    if read_pickle(file, declared) != LEGACY_PROTOCOL:
        raise CheckpointRefused("it is of an unknown version")
    system = read_pickle(file, declared)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise CheckpointRefused("its numbers are in big-endian order")
    saved = read_pickle(file, declared)
    keys = read_pickle(file, declared)
    if type(keys) is not list or sorted(map(str, keys)) != sorted(declared):
        raise CheckpointRefused("it lacks some of its numbers")
    storages = {}
    for key in map(str, keys):
        storage = declared[key]
        if int.from_bytes(file.read(8), "little", signed=True) != storage.size:
            raise CheckpointRefused("it is corrupt")
        storages[key] = _numbers(
            file.read(storage.size * np.dtype(storage.dtype).itemsize), storage
        )
    return saved, storages


def _numbers(raw: bytes, storage: Storage) -> NDArray[Any]:
    if len(raw) != storage.size * np.dtype(storage.dtype).itemsize:
        raise CheckpointRefused("it is cut short")
    return np.frombuffer(raw, storage.dtype)


class _Collector:
    """Collects the tensors of a module, or of a `state_dict`, under their full names."""

    def __init__(self, storages: dict[str, NDArray[Any]]) -> None:
        self.state: dict[str, NDArray[Any]] = {}
        self._storages = storages
        self._members_left = MAX_MEMBERS
        self._bytes_left = 2 * sum(numbers.nbytes for numbers in storages.values())

    def collect(self, value: Any, prefix: str = "", depth: int = 0) -> None:
        # A few modules that contain each other describe an endless tree.
        if depth > MAX_DEPTH:
            raise CheckpointRefused("its modules are nested without end")
        if isinstance(value, Module):
            for group in ("_parameters", "_buffers", "_modules"):
                self.collect(value.state.get(group, {}), prefix, depth + 1)
            return
        if not isinstance(value, dict):
            raise CheckpointRefused("it holds no model")
        self._members_left -= len(value) + 1
        if self._members_left < 0:
            raise CheckpointRefused("its modules are nested without end")
        for name, member in value.items():
            if isinstance(member, Module):
                self.collect(member, f"{prefix}{name}.", depth + 1)
            elif member is not None:
                self.state[f"{prefix}{name}"] = self._tensor(member)

    def _tensor(self, record: Any) -> NDArray[Any]:
        """Return a copy of a tensor; a view that leaves or multiplies its storage is refused."""
        if record.name == "_rebuild_parameter":
            record = record.arguments[0]
        if record.name not in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            raise CheckpointRefused("it is corrupt")
        storage, offset, shape, strides, *_ = record.arguments
        view = (offset, *shape, *strides)
        if len(shape) > 8 or not all(type(number) is int and number >= 0 for number in view):
            raise CheckpointRefused("it is corrupt")
        numbers = self._storages[storage.key]
        count = math.prod(shape)
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        self._bytes_left -= count * numbers.itemsize
        if self._bytes_left < 0 or (count and last >= len(numbers)):
            raise CheckpointRefused("its tensors are larger than its numbers")
        if not count:
            return np.empty(shape, numbers.dtype)
        steps = [step * numbers.itemsize for step in strides]
        view_of = np.lib.stride_tricks.as_strided
        return view_of(numbers[offset:], shape, steps, writeable=False).copy()


def _plain(value: Any) -> Any:
    """Return numbers, strings and flat lists of them; None for anything else."""
    value = _unwrap(value)
    if type(value) in (list, tuple):
        items = [_unwrap(item) for item in value]
        return items if all(type(item) in _PLAIN for item in items) else None
    return value if type(value) in _PLAIN else None


def _unwrap(record: Any) -> Any:
    """Return the items of a numpy array, the value of a numpy scalar, or anything else as it is."""
    if not isinstance(record, Record) or record.name not in ("_reconstruct", "scalar"):
        return record
    if record.name == "scalar":
        dtype, raw = record.arguments
        return np.frombuffer(_bytes(raw), _dtype(dtype)).tolist()[0]
    _, shape, dtype, fortran, raw = record.state
    if fortran and len(shape) > 1:
        raise CheckpointRefused("it holds an array of an unknown kind")
    values = raw if type(raw) is list else np.frombuffer(_bytes(raw), _dtype(dtype)).tolist()
    if math.prod(shape) != len(values):
        raise CheckpointRefused("it is corrupt")
    return values


def _dtype(record: Any) -> np.dtype[Any]:
    code, *_ = record.arguments
    _, order, subtype, names, fields = record.state[:5]
    if record.name != "dtype" or not _DTYPE.fullmatch(code) or code.lstrip("<>=|").startswith("O"):
        raise CheckpointRefused("it holds an array of an unknown kind")
    if (subtype, names, fields) != (None, None, None) or order not in ("<", ">", "|", "="):
        raise CheckpointRefused("it holds an array of records")
    dtype: np.dtype[Any] = np.dtype(code).newbyteorder(order)
    return dtype


def _bytes(raw: Any) -> bytes:
    """Return bytes, which Python 2's protocol holds as text and a call of `_codecs.encode`."""
    if isinstance(raw, Record) and raw.name == "encode":
        text, encoding = raw.arguments
        if encoding not in ("latin1", "latin-1"):
            raise CheckpointRefused("it is corrupt")
        raw = text.encode("latin-1")
    if type(raw) is not bytes:
        raise CheckpointRefused("it is corrupt")
    return raw
