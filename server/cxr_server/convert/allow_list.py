"""Allow-list: pickle bytes -> plain data and inert records. Next: checkpoint.

`pickle.Unpickler` imports the globals that a file names and calls them. `find_class` is its
documented hook: here it returns stand-ins for the globals on the list, which only record what
the file says, and refuses every other name. No class of torch or numpy is ever looked up.

A scan of the opcodes comes first. It bounds the work and refuses what torch.save does not write.
One way to waste time is left: a dictionary key of tuples that contain each other, whose hash takes
exponential time. It can only delay the operator who converts such a file.
"""

import pickle
import pickletools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, BinaryIO

MAX_OPCODES = 1_000_000  # more than ten times what a DenseNet takes
# fmt: off
OPCODES = {
    "PROTO", "FRAME", "STOP", "MARK", "POP", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1",
    "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_DICT",
    "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS",
    "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL",
    "STACK_GLOBAL", "BINPERSID", "NEWOBJ", "REDUCE", "BUILD",
}
STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1",
    "BoolStorage": "<b1",
}
"""Element type of each of torch's storages."""
_DENSENET = ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition")
GLOBALS = {
    "torchxrayvision.models": _DENSENET,
    "torchvision.models.densenet": _DENSENET,
    "torch.nn.modules.activation": ("ReLU", "Sigmoid"),
    "torch.nn.modules.batchnorm": ("BatchNorm2d",),
    "torch.nn.modules.container": ("ModuleDict", "ModuleList", "Sequential"),
    "torch.nn.modules.conv": ("Conv2d",),
    "torch.nn.modules.dropout": ("Dropout", "Dropout2d"),
    "torch.nn.modules.linear": ("Identity", "Linear"),
    "torch.nn.modules.pooling": ("AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"),
    "torch.nn.modules.upsampling": ("Upsample",),
    "torch": (*STORAGES,),
    "torch.cuda": (*STORAGES,),
    "torch._utils": ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"),
    "torch.nn.backends.thnn": ("_get_thnn_function_backend",),  # written before torch 1.0
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "_codecs": ("encode",),
    "collections": ("OrderedDict",),
    "builtins": ("set",),
    "__builtin__": ("set",),
}
"""The allow-list: globals of published checkpoints, by module."""
# fmt: on
Storages = dict[str, tuple[str, int]]
"""Element type and size of each storage that a pickle refers to."""


class CheckpointRefused(Exception):
    """The checkpoint uses a global or opcode that is not allowed, or is corrupt."""


class Record:
    """A global that the file names, or a call of one: its name, arguments and later state."""

    def __init__(self, name: str, *arguments: Any) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None

    def __call__(self, *arguments: Any) -> "Record":
        """Return the call."""
        return Record(self.name, *arguments)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Module:
    """An nn.Module of any class that the file describes: its attributes."""

    # Not set by __init__, which the unpickler does not call. Without one, arguments are refused.
    state: Mapping[str, Any] = MappingProxyType({})

    def __setstate__(self, state: Any) -> None:
        self.state = state


class OrderedDict(dict[Any, Any]):
    """An OrderedDict, made empty; the attributes that torch gives it are dropped."""

    def __init__(self) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, storages: Storages) -> None:
        super().__init__(file, encoding="latin-1")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if name not in GLOBALS.get(module, ()):
            raise CheckpointRefused(f"it names {module!r:.100} {name!r:.100}, which is not allowed")
        if module.startswith(("torch.nn.modules.", "torchvision.", "torchxrayvision.")):
            return Module
        return OrderedDict if name == "OrderedDict" else Record(name)

    def persistent_load(self, identity: Any) -> Any:
        """Return the key of a storage, or a class that a legacy file saves with its source code."""
        if identity[0] == "module":
            return identity[1]
        kind, element, key, _, size, *view = identity
        if kind != "storage" or view not in ([], [None]):
            raise CheckpointRefused("it keeps its numbers in an unknown way")
        if type(key) is not str or type(size) is not int or size < 0:
            raise CheckpointRefused("it is corrupt")
        self._storages.setdefault(key, (STORAGES[element.name], size))
        return key


def read_pickle(file: BinaryIO, storages: Storages) -> Any:
    """Read one pickle from a seekable file, leave the file behind its end, and fill `storages`.

    Raises CheckpointRefused if it holds anything but data and what is on the lists. If it is
    corrupt, the unpickler may raise any exception.
    """
    start = file.tell()
    for position, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name not in OPCODES:
            raise CheckpointRefused(f"it uses the opcode {opcode.name}, which is not allowed")
        # The unpickler allocates its memo by the largest index.
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > position:
            raise CheckpointRefused("it is corrupt")
        if position > MAX_OPCODES:
            raise CheckpointRefused("it is longer than any model file")
    file.seek(start)
    return _Unpickler(file, storages).load()
