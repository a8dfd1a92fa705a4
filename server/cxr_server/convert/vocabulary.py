"""Vocabulary: what a saved DenseNet may name, and the data that each call stands for."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cxr_server.convert.inert_pickle import Name, PickleRefused, Record

CLASSES = frozenset(
    [
        Name(module, name)
        for module in ("torchxrayvision.models", "torchvision.models.densenet")
        for name in ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition")
    ]
    + [
        Name(f"torch.nn.modules.{module}", name)
        for module, names in {
            "activation": ("ReLU", "Sigmoid"),
            "batchnorm": ("BatchNorm2d",),
            "container": ("ModuleDict", "ModuleList", "Sequential"),
            "conv": ("Conv2d",),
            "dropout": ("Dropout", "Dropout2d"),
            "linear": ("Identity", "Linear"),
            "pooling": ("AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"),
            "upsampling": ("Upsample",),
        }.items()
        for name in names
    ]
)
"""Modules of a DenseNet, and what has been hung onto one."""

_STORAGE_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<b1",
}
STORAGES = {
    Name(module, name): np.dtype(code)
    for module in ("torch", "torch.cuda")
    for name, code in _STORAGE_TYPES.items()
}
_NDARRAY = Name("numpy", "ndarray")
WORDS = frozenset(STORAGES) | {_NDARRAY}
_DTYPE = re.compile(r"[<>=|]?([fiub][1248]|[US]\d{1,4}|O8?)")


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers that the file keeps apart from its pickle."""

    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor: a view into a storage, checked when the storage is read."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(slots=True, eq=False)
class ArrayRecord:
    """A numpy array; `values` is flat, in C order."""

    values: list[Any] = field(default_factory=list)

    def build(self, state: Any) -> None:
        """Take over what numpy calls the array's state."""
        _, shape, dtype, fortran, raw = state
        if type(dtype) is not DTypeRecord or (fortran and len(shape) > 1):
            raise PickleRefused("it holds an array of an unknown kind")
        if dtype.is_object:
            if type(raw) is not list:
                raise ValueError
            self.values = list(raw)
        else:
            self.values = np.frombuffer(raw, dtype.resolve()).tolist()
        if math.prod(shape) != len(self.values):
            raise ValueError


@dataclass(slots=True, eq=False)
class DTypeRecord:
    """A numpy dtype."""

    code: str
    order: str = "<"

    def build(self, state: Any) -> None:
        """Take over the byte order."""
        _, order, subtype, names, fields = state[:5]
        if (subtype, names, fields) != (None, None, None) or order not in ("<", ">", "|", "="):
            raise PickleRefused("it holds an array of records")
        self.order = order

    @property
    def is_object(self) -> bool:
        """Whether the array holds Python objects."""
        return self.code.lstrip("<>=|").startswith("O")

    def resolve(self) -> np.dtype[Any]:
        """Return the dtype of plain data."""
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


def _ordered_dict(*arguments: Any) -> dict[Any, Any]:
    if arguments == ():
        return {}
    (pairs,) = arguments
    result: dict[Any, Any] = {}
    for key, value in pairs:
        if type(key) is not str and type(key) is not int:
            raise ValueError
        result[key] = value
    return result


def _set(items: Any = ()) -> list[Any]:
    return list(items)


def _encode(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise ValueError
    return text.encode("latin-1")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorView:
    numbers = (offset, *shape, *strides)
    if type(storage) is not Storage or len(shape) != len(strides) or len(shape) > 8:
        raise ValueError
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError
    return TensorView(storage, offset, tuple(shape), tuple(strides))


def _parameter(data: Any, *_: Any) -> Any:
    if type(data) is not TensorView:
        raise ValueError
    return data


def _array(kind: Any, *_: Any) -> ArrayRecord:
    if kind != _NDARRAY:
        raise ValueError
    return ArrayRecord()


def _dtype(code: Any, *_: Any) -> DTypeRecord:
    if type(code) is not str or not _DTYPE.fullmatch(code):
        raise PickleRefused("it holds an array of an unknown kind")
    return DTypeRecord(code)


def _scalar(dtype: Any, raw: Any) -> Any:
    if type(dtype) is not DTypeRecord or dtype.is_object:
        raise ValueError
    (value,) = np.frombuffer(raw, dtype.resolve()).tolist()
    return value


def _nothing(*_: Any) -> Record:
    return Record(Name("", "nothing"))


CALLS: Mapping[Name, Callable[..., Any]] = {
    Name("collections", "OrderedDict"): _ordered_dict,
    Name("__builtin__", "set"): _set,
    Name("builtins", "set"): _set,
    Name("_codecs", "encode"): _encode,
    Name("torch._utils", "_rebuild_tensor"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch._utils", "_rebuild_parameter"): _parameter,
    # An attribute that every module had in early versions of torch.
    Name("torch.nn.backends.thnn", "_get_thnn_function_backend"): _nothing,
    Name("numpy", "dtype"): _dtype,
    Name("numpy.core.multiarray", "_reconstruct"): _array,
    Name("numpy._core.multiarray", "_reconstruct"): _array,
    Name("numpy.core.multiarray", "scalar"): _scalar,
    Name("numpy._core.multiarray", "scalar"): _scalar,
}
"""Calls that torch.save writes, each answered with data."""
