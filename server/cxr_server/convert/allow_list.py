"""Allow-list: pickle bytes -> plain data and inert records. Next: checkpoint.

`pickle.Unpickler` imports the globals that a file names and calls them. `find_class` is its
documented hook: here it returns stand-ins for the globals on the list, which only record what
the file says, and refuses every other name. No class of torch or numpy is ever looked up.

A scan of the opcodes comes first. It bounds the work and refuses what torch.save does not write.
One way to waste time is left: a dictionary key of tuples that contain each other, whose hash takes
exponential time. It can only delay the operator who converts such a file.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, NoReturn

MAX_OPCODES = 1_000_000
"""More than ten times what a DenseNet takes."""
# fmt: off
OPCODES = {
    "PROTO", "FRAME", "STOP", "MARK", "POP", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1",
    "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_DICT",
    "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS",
    "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL",
    "STACK_GLOBAL", "BINPERSID", "NEWOBJ", "REDUCE", "BUILD",
}
# fmt: on
MODULES = {
    **dict.fromkeys(
        ("torchxrayvision.models", "torchvision.models.densenet"),
        ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition"),
    ),
    "torch.nn.modules.activation": ("ReLU", "Sigmoid"),
    "torch.nn.modules.batchnorm": ("BatchNorm2d",),
    "torch.nn.modules.container": ("ModuleDict", "ModuleList", "Sequential"),
    "torch.nn.modules.conv": ("Conv2d",),
    "torch.nn.modules.dropout": ("Dropout", "Dropout2d"),
    "torch.nn.modules.linear": ("Identity", "Linear"),
    "torch.nn.modules.pooling": ("AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"),
    "torch.nn.modules.upsampling": ("Upsample",),
}
"""nn.Module classes of published checkpoints; an object becomes a `Module`."""
CALLS = {
    "_codecs": ("encode",),
    "torch._utils": ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"),
    "torch.nn.backends.thnn": ("_get_thnn_function_backend",),  # written before torch 1.0
    "numpy": ("dtype",),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
}
"""Functions of published checkpoints; a call becomes a `Record`."""
# fmt: off
STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1",
    "BoolStorage": "<b1",
}
# fmt: on
"""Element type of each of torch's storages."""
NAMES = {"torch": (*STORAGES,), "torch.cuda": (*STORAGES,), "numpy": ("ndarray",)}
"""Globals that may only be mentioned; each becomes a `Name`."""


class CheckpointRefused(Exception):
    """The checkpoint uses a global or opcode that is not allowed, or is corrupt."""


class Name(NamedTuple):
    """A global that is mentioned."""

    module: str
    name: str


class Storage(NamedTuple):
    """Numbers that the file keeps apart from its pickle."""

    key: str
    dtype: str
    size: int


class Record:
    """A call that the file describes: the function's name, its arguments, and a later state."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _NotCallable(type):
    def __call__(cls, *_: Any) -> NoReturn:
        raise CheckpointRefused("it calls a class")


class Module(metaclass=_NotCallable):
    """An nn.Module that the file describes, of whatever class: its attributes."""

    __slots__ = ("state",)
    state: dict[str, Any]

    def __new__(cls, *arguments: Any) -> "Module":
        """Return a module without attributes; called by the unpickler alone."""
        if arguments:
            raise CheckpointRefused("it makes an object with arguments")
        module = object.__new__(cls)
        module.state = {}
        return module

    def __setstate__(self, state: Any) -> None:
        if type(state) is not dict:
            raise CheckpointRefused("it sets attributes that are no dictionary")
        self.state = state


class _Dict(dict[Any, Any]):
    """An OrderedDict; the attributes that torch gives it are dropped."""

    __slots__ = ()

    def __setstate__(self, _: Any) -> None:
        pass


class _Function:
    """Stands for an allowed function, so that a file reaches nothing but its call."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[tuple[Any, ...]], Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(arguments)

    def __setstate__(self, _: Any) -> NoReturn:
        raise CheckpointRefused("it sets the state of a function")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, storages: dict[str, Storage]) -> None:
        super().__init__(file, encoding="latin-1")
        self._storages = storages
        self._pairs_left = MAX_OPCODES

    def find_class(self, module: str, name: str) -> Any:
        if name in MODULES.get(module, ()):
            return Module
        if name in CALLS.get(module, ()):
            return _Function(lambda arguments: Record(name, arguments))
        if name in NAMES.get(module, ()):
            return Name(module, name)
        if (module, name) == ("collections", "OrderedDict"):
            return _Function(self._ordered_dict)
        if (module, name) in (("builtins", "set"), ("__builtin__", "set")):
            return _Function(lambda arguments: Record(name, arguments))
        raise CheckpointRefused(f"it names {module!r:.100} {name!r:.100}, which is not allowed")

    def persistent_load(self, identity: Any) -> Any:
        """Return a storage, or the class that a legacy file saves with its source code."""
        if type(identity) is not tuple or not identity:
            raise CheckpointRefused("it is corrupt")
        if identity[0] == "module":
            return identity[1]
        kind, name, key, _, size, *view = identity
        if kind != "storage" or type(name) is not Name or view not in ([], [None]):
            raise CheckpointRefused("it keeps its numbers in an unknown way")
        if type(key) is not str or type(size) is not int or size < 0:
            raise CheckpointRefused("it is corrupt")
        return self._storages.setdefault(key, Storage(key, STORAGES[name.name], size))

    def _ordered_dict(self, arguments: tuple[Any, ...]) -> _Dict:
        """Return the dictionary of ()  or of ([[key, value], ...],), which Python 2 wrote."""
        pairs = arguments[0] if arguments else []
        self._pairs_left -= len(pairs)
        if self._pairs_left < 0 or not all(type(key) in (str, int) for key, _ in pairs):
            raise CheckpointRefused("it is corrupt")
        return _Dict(pairs)


def read_pickle(file: BinaryIO, storages: dict[str, Storage]) -> Any:
    """Read one pickle from `file` and leave `file` behind its end.

    Args:
        file: A seekable file.
        storages: Filled with the storages that the pickle mentions, by key.

    Raises:
        CheckpointRefused: It holds anything but data and what is on the lists.
        Exception: It is corrupt. The unpickler raises whatever misuse of a stand-in leads to.
    """
    start = file.tell()
    _check_opcodes(file)
    end = file.tell()
    file.seek(start)
    return _Unpickler(io.BytesIO(file.read(end - start)), storages).load()


def _check_opcodes(file: BinaryIO) -> None:
    for position, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name not in OPCODES:
            raise CheckpointRefused(f"it uses the opcode {opcode.name}, which is not allowed")
        # The unpickler allocates its memo by the largest index.
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > position:
            raise CheckpointRefused("it is corrupt")
        if position > MAX_OPCODES:
            raise CheckpointRefused("it is longer than any model file")
