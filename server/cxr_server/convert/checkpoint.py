"""Checkpoint: a file of torch.save -> tensors and attributes. Next: convert.

Reads the zip format and the legacy format (before torch 1.6: three small pickles, the object,
the keys of its storages, the storages), without torch. Nothing in the file is run.
"""

import io
import math
import re
import zipfile
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_server.convert.allow_list import CheckpointRefused, Module, Record, Storages, read_pickle

MAX_FILE_BYTES = 1 << 30
MAX_MEMBERS = 100_000
MAX_NAME_LENGTH = 1000
LISTS = ("targets", "pathologies", "op_threshs")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
_DTYPE = re.compile(r"[<>=|]?(?:[fiub][1248]|[US]\d{1,4})")
_PLAIN = (str, int, float, bool, type(None))


class Checkpoint(NamedTuple):
    """The content of the file."""

    state: dict[str, NDArray[Any]]  # tensors by their names in the module's `state_dict`
    lists: dict[str, list[Any]]
    """Those of `LISTS` that the module has: strings, numbers and None, also from numpy arrays."""


def read_checkpoint(content: bytes) -> Checkpoint:
    """Read a module, or a `state_dict`, that torch.save wrote. Raises CheckpointRefused."""
    if len(content) > MAX_FILE_BYTES:
        raise CheckpointRefused("it is too large")
    try:
        read = _read_zip if content.startswith(b"PK\x03\x04") else _read_legacy
        saved, storages = read(io.BytesIO(content))
        state = _tensors(saved, storages)
        found = saved.state if isinstance(saved, Module) else {}
        lists = {name: _list(found[name]) for name in LISTS if name in found}
    except CheckpointRefused:
        raise
    except Exception:  # zipfile, struct, numpy and the unpickler may raise any type
        raise CheckpointRefused("it is corrupt") from None
    if not state:
        raise CheckpointRefused("it holds no tensors")
    return Checkpoint(state, lists)


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
        declared: Storages = {}
        saved = read_pickle(io.BytesIO(archive.read(pickles[0])), declared)
        return saved, {
            key: _numbers(archive.read(f"{root}data/{key}"), *facts)
            for key, facts in declared.items()
        }


def _read_legacy(file: BinaryIO) -> tuple[Any, dict[str, NDArray[Any]]]:
    declared: Storages = {}
    magic, protocol, system, saved, keys = (read_pickle(file, declared) for _ in range(5))
    if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
        raise CheckpointRefused("it is not a file of torch.save")
    if system["little_endian"] is not True:
        raise CheckpointRefused("its numbers are in big-endian order")
    if sorted(keys) != sorted(declared):
        raise CheckpointRefused("it lacks some of its numbers")
    storages = {}
    for key in keys:
        dtype, size = declared[key]
        if int.from_bytes(file.read(8), "little") != size:
            raise CheckpointRefused("it is corrupt")
        storages[key] = _numbers(file.read(size * np.dtype(dtype).itemsize), dtype, size)
    return saved, storages


def _numbers(raw: bytes, dtype: str, size: int) -> NDArray[Any]:
    numbers = np.frombuffer(raw, dtype)
    if len(numbers) != size:
        raise CheckpointRefused("it is cut short")
    return numbers


def _tensors(saved: Any, storages: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the tensors of a module, or of a `state_dict`, under their full names."""
    if not isinstance(saved, Module | dict):
        raise CheckpointRefused("it holds no model")
    state: dict[str, NDArray[Any]] = {}
    bytes_left = 2 * sum(numbers.nbytes for numbers in storages.values())
    members_left = MAX_MEMBERS
    pending: list[tuple[str, Any]] = [("", saved)]
    while pending:
        prefix, value = pending.pop()
        groups = [value]
        if isinstance(value, Module):
            groups = [value.state.get(key, {}) for key in ("_parameters", "_buffers", "_modules")]
        for name, member in chain.from_iterable(map(dict.items, groups)):
            full_name = prefix + name
            members_left -= 1
            # A few modules that contain each other describe an endless tree.
            if members_left < 0 or len(full_name) > MAX_NAME_LENGTH:
                raise CheckpointRefused("its modules are nested without end")
            if isinstance(member, Module):
                pending.append((f"{full_name}.", member))
            elif member is not None:
                state[full_name] = _tensor(member, storages, bytes_left)
                bytes_left -= state[full_name].nbytes
    return state


def _tensor(record: Any, storages: dict[str, NDArray[Any]], bytes_left: int) -> NDArray[Any]:
    """Return a copy of a tensor; a view that leaves or multiplies its storage is refused."""
    if record.name == "_rebuild_parameter":
        record = record.arguments[0]
    if record.name not in ("_rebuild_tensor", "_rebuild_tensor_v2"):
        raise CheckpointRefused("it is corrupt")
    key, offset, shape, strides, *_ = record.arguments
    view = (offset, *shape, *strides)
    if len(shape) > 8 or not all(type(number) is int and number >= 0 for number in view):
        raise CheckpointRefused("it is corrupt")
    numbers = storages[key]
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if count * numbers.itemsize > bytes_left or (count and last >= len(numbers)):
        raise CheckpointRefused("its tensors are larger than its numbers")
    if not count:
        return np.empty(shape, numbers.dtype)
    steps = [step * numbers.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False).copy()


def _list(value: Any) -> list[Any]:
    """Return the items of a flat list, tuple or array; nothing of any other value."""
    items = _from_numpy(value)
    items = [_from_numpy(item) for item in items] if type(items) in (list, tuple) else []
    return items if all(type(item) in _PLAIN for item in items) else []


def _from_numpy(record: Any) -> Any:
    """Return the items of a flat numpy array, the value of a scalar, or anything else as it is."""
    if not isinstance(record, Record) or record.name not in ("_reconstruct", "scalar"):
        return record
    if record.name == "scalar":
        return _items(*record.arguments)[0]
    _, shape, dtype, _, raw = record.state
    items = raw if type(raw) is list else _items(dtype, raw)  # a list holds objects
    return items if shape == (len(items),) else None


def _items(dtype: Record, raw: Any) -> list[Any]:
    code, byte_order = dtype.arguments[0], dtype.state[1]
    if not _DTYPE.fullmatch(code):
        raise CheckpointRefused("it holds an array of an unknown kind")
    if isinstance(raw, Record):  # protocol 2 holds bytes as a call of _codecs.encode
        raw = raw.arguments[0].encode("latin-1")
    items: list[Any] = np.frombuffer(raw, np.dtype(code).newbyteorder(byte_order)).tolist()
    return items
