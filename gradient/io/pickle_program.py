"""A pickle read as data: a description of its objects, without making them.

A pickle is a program for a small stack machine, and two of its instructions call any function that
it names; so unpickling an untrusted file runs its code. Here the same
instructions are executed with containers and numbers only. A function's name becomes a `Symbol`, a
call becomes a `Call` with its arguments; the caller decides which of them have a
meaning. Nothing is imported, looked up or called.

The instructions are those of Python's `pickletools`, where each is documented.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gradient.errors import FileFormatError


@dataclass(frozen=True, slots=True)
class Symbol:
    """A global name, such as torch.FloatStorage."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Call:
    """A call in the pickle. `state` is what it would then set on the result."""

    function: Any
    args: Any
    state: Any = None
    items: list[Any] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<{self.function} object, not built>"


@dataclass(frozen=True, slots=True, eq=False)
class Persistent:
    """A reference to something outside of the pickle, such as a tensor's storage."""

    id: Any


#: Classes whose objects are treated as plain dicts.
_DICTS = {Symbol("collections", "OrderedDict"), Symbol("builtins", "dict")}
_MARK = object()
#: Types of keys: only those whose hash takes a bounded time (nested tuples' does not).
_KEYS = (str, int, float, bytes, type(None))
_KEY_BITS = 64  # of integers; writing a longer one out takes time that is quadratic in its length
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,
    "MARK": lambda: _MARK,
}
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip


def read_program(data: bytes, where: str) -> Any:
    """Return a pickle's content: dicts, lists, tuples, numbers, texts; `Call`s for the rest.

    Args:
        data: the pickle.
        where: its name in errors.

    Raises:
        FileFormatError: it is truncated or malformed.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return machine.stack[-1]
            machine.step(opcode.name, argument)
    except FileFormatError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{where} is not a proper pickle: {error}") from None
    raise FileFormatError(f"{where} is not a proper pickle: it ends too soon")


class _Machine:
    """The stack and the memo, and an instruction's effect on them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            stack.append(argument)
        else:
            effect = getattr(self, f"do_{name.lower()}", None)
            if effect is None:
                raise ValueError(f"it holds {name}, which no file of weights needs")
            effect(argument)

    # Each method below is an instruction, named as in pickletools ---------------------------

    def do_proto(self, version: int) -> None:
        """Nothing to do: instructions of all versions are supported."""

    def do_frame(self, size: int) -> None:
        """Nothing to do: a frame is a hint for reading ahead."""

    def do_put(self, slot: int) -> None:
        self.memo[int(slot)] = self.stack[-1]

    do_binput = do_long_binput = do_put

    def do_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_get(self, slot: int) -> None:
        self.stack.append(self.memo[int(slot)])

    do_binget = do_long_binget = do_get

    def do_pop(self, _: None) -> None:
        self.stack.pop()

    def do_pop_mark(self, _: None) -> None:
        self.marked()

    def do_dup(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def do_tuple(self, _: None) -> None:
        self.stack.append(tuple(self.marked()))

    def do_tuple1(self, _: None) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def do_tuple2(self, _: None) -> None:
        self.stack[-2:] = [tuple(self.top(2))]

    def do_tuple3(self, _: None) -> None:
        self.stack[-3:] = [tuple(self.top(3))]

    def do_list(self, _: None) -> None:
        self.stack.append(self.marked())

    do_frozenset = do_list

    def do_dict(self, _: None) -> None:
        made: dict[Any, Any] = {}
        _set_items(made, self.marked())
        self.stack.append(made)

    def do_append(self, _: None) -> None:
        value = self.stack.pop()
        _extend(self.stack[-1], [value])

    def do_appends(self, _: None) -> None:
        values = self.marked()
        _extend(self.stack[-1], values)

    do_additems = do_appends

    def do_setitem(self, _: None) -> None:
        pair = self.top(2)
        del self.stack[-2:]
        _set_items(self.stack[-1], pair)

    def do_setitems(self, _: None) -> None:
        pairs = self.marked()
        _set_items(self.stack[-1], pairs)

    def do_global(self, name: str) -> None:
        module, _, attribute = name.partition(" ")
        self.stack.append(Symbol(module, attribute))

    def do_stack_global(self, _: None) -> None:
        module, name = self.top(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a global's name is no text")
        self.stack[-2:] = [Symbol(module, name)]

    def do_reduce(self, _: None) -> None:
        function, args = self.top(2)
        # An OrderedDict's items follow one by one; given at once, it has them as pairs.
        empty = isinstance(function, Symbol) and function in _DICTS and args == ()
        self.stack[-2:] = [{} if empty else Call(function, args)]

    do_newobj = do_reduce

    def do_newobj_ex(self, _: None) -> None:
        function, args, _named = self.top(3)
        self.stack[-3:] = [Call(function, args)]

    def do_build(self, _: None) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Call):
            self.stack[-1].state = state

    def do_binpersid(self, _: None) -> None:
        self.stack[-1:] = [Persistent(self.stack[-1])]

    # -----------------------------------------------------------------------------------------

    def top(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("it takes more from its stack than was put there")
        return self.stack[-count:]

    def marked(self) -> list[Any]:
        """Remove and return everything above the last mark, and remove the mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise IndexError("it closes a group that it did not open")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values


def _extend(container: Any, values: list[Any]) -> None:
    target = container.items if isinstance(container, Call) else container
    if not isinstance(target, list):
        raise TypeError(f"it appends to a {type(container).__name__}")
    target.extend(values)


def _set_items(container: Any, flat: list[Any]) -> None:
    """Set key, value, key, value, ... in a dict; for an object that is not made, store them."""
    if len(flat) % 2:
        raise ValueError("a key has no value")
    if isinstance(container, Call):
        container.items.extend(flat)
        return
    if not isinstance(container, dict):
        raise TypeError(f"it sets an item of a {type(container).__name__}")
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        if not isinstance(key, _KEYS):
            raise TypeError(f"a {type(key).__name__} is used as a key")
        if isinstance(key, int) and key.bit_length() > _KEY_BITS:
            raise ValueError(f"an integer of {key.bit_length():,} bits is used as a key")
        container[key] = value
