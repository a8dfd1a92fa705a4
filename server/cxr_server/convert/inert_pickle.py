"""Inert pickle: pickle bytes -> plain data and records. Next: unpickle.

Python's unpickler imports what a file names and calls it. This reader is a machine of its
own for the part of the pickle language that torch.save writes. A name in the file never
becomes anything but a `Name`; calls are made only to the functions in `calls`, which build
data; objects become `Record`s of their attributes. Everything else is refused.
"""

import pickletools
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

MAX_OPERATIONS = 1_000_000
"""More than ten times what a DenseNet takes."""
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = frozenset(
    ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING")
) | frozenset(
    ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class PickleRefused(Exception):
    """The file names or does what a model file has no business with, or is broken."""


class Name(NamedTuple):
    """A global that the file names, never looked up."""

    module: str
    name: str


@dataclass(slots=True, eq=False)
class Record:
    """An object that the file describes: the name of its class and its attributes."""

    kind: Name
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a file may name.

    Attributes:
        classes: Classes whose objects are recorded.
        calls: Functions that the file may call, and what stands in for each.
        words: Names that may only be mentioned.
        persistent: Turns a persistent id into data.
    """

    classes: Set[Name]
    calls: Mapping[Name, Callable[..., Any]]
    words: Set[Name]
    persistent: Callable[[Any], Any]

    def name(self, module: str, name: str) -> Name:
        """Return the name if the file may use it."""
        found = Name(module, name)
        if found in self.calls or found in self.classes or found in self.words:
            return found
        raise PickleRefused(f"it names {module!r:.100} {name!r:.100}, which no model file needs")


def read_pickle(file: BinaryIO, vocabulary: Vocabulary) -> Any:
    """Read one pickle from `file`, which is left behind its end.

    Raises:
        PickleRefused: It holds anything but data in the vocabulary.
    """
    machine = _Machine(vocabulary)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MAX_OPERATIONS:
                raise PickleRefused("it is longer than any model file")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError):
        raise PickleRefused("it is broken") from None
    raise PickleRefused("it is cut short")


class _Machine:
    """The stack, the memo, and what each operation does to them."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._work = 0

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError
        return value

    def step(self, operation: str, argument: Any) -> None:
        if operation in _LITERALS:
            self._stack.append(argument)
        elif operation in _CONSTANTS:
            self._stack.append(_CONSTANTS[operation])
        elif operation in _EMPTY:
            self._stack.append(_EMPTY[operation]())
        elif operation in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[operation])]
            self._stack.append(tuple(reversed(items)))
        elif method := getattr(self, f"_do_{operation.lower()}", None):
            method(argument)
        else:
            raise PickleRefused(f"it uses the operation {operation}, which torch does not write")

    def _do_proto(self, version: int) -> None:
        if not 2 <= version <= 5:
            raise PickleRefused("it is of an unknown version")

    def _do_frame(self, _: int) -> None:
        pass

    def _do_mark(self, _: None) -> None:
        self._stack.append(_MARK)

    def _do_pop(self, _: None) -> None:
        self._stack.pop()

    def _do_binput(self, index: int) -> None:
        self._memo[index] = self._top()

    _do_long_binput = _do_binput

    def _do_memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._top()

    def _do_binget(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _do_long_binget = _do_binget

    def _do_tuple(self, _: None) -> None:
        self._stack.append(tuple(self._to_mark()))

    def _do_append(self, _: None) -> None:
        self._extend([self.pop()])

    def _do_appends(self, _: None) -> None:
        self._extend(self._to_mark())

    def _do_setitem(self, _: None) -> None:
        value = self.pop()
        self._update([self.pop(), value])

    def _do_setitems(self, _: None) -> None:
        self._update(self._to_mark())

    def _do_global(self, names: str) -> None:
        self._stack.append(self._vocabulary.name(*names.split(" ", 1)))

    def _do_stack_global(self, _: None) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise ValueError
        self._stack.append(self._vocabulary.name(module, name))

    def _do_binpersid(self, _: None) -> None:
        self._stack.append(self._vocabulary.persistent(self.pop()))

    def _do_newobj(self, _: None) -> None:
        arguments, kind = self.pop(), self.pop()
        if type(kind) is not Name or kind not in self._vocabulary.classes or arguments != ():
            raise PickleRefused("it makes an object of something that is not a known class")
        self._stack.append(Record(kind))

    def _do_reduce(self, _: None) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not Name or function not in self._vocabulary.calls:
            raise PickleRefused("it calls something that is not a known function")
        if type(arguments) is not tuple:
            raise ValueError
        self._spend(arguments)
        self._stack.append(self._vocabulary.calls[function](*arguments))

    def _do_build(self, _: None) -> None:
        state, target = self.pop(), self._top()
        self._spend(state)
        if type(target) is Record and type(state) is dict:
            target.state.update(state)
        elif build := getattr(target, "build", None):
            build(state)
        elif type(target) is not dict:  # attributes of an OrderedDict are of no use here
            raise PickleRefused("it sets the state of something that has none")

    def _spend(self, argument: Any) -> None:
        """Count what is copied: a large value that is used again and again costs each time."""
        parts = argument if type(argument) is tuple else (argument,)
        self._work += sum(len(part) for part in parts if hasattr(part, "__len__"))
        if self._work > MAX_OPERATIONS:
            raise PickleRefused("it is longer than any model file")

    def _top(self) -> Any:
        if self._stack[-1] is _MARK:
            raise ValueError
        return self._stack[-1]

    def _to_mark(self) -> list[Any]:
        position = len(self._stack) - 1
        while self._stack[position] is not _MARK:
            position -= 1
            if position < 0:
                raise ValueError
        items = self._stack[position + 1 :]
        del self._stack[position:]
        return items

    def _extend(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise ValueError
        target.extend(items)

    def _update(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not dict or len(items) % 2:
            raise ValueError
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing nested tuples can take for ever; a model's dictionaries have plain keys.
            if type(key) is not str and type(key) is not int:
                raise PickleRefused("it has a dictionary with keys that are not plain")
            target[key] = value
