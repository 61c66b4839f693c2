"""Handles of arrays in a plugin: a shape, a dtype, operators, and an id.

The plugin's arrays are immutable and share no memory. Views and writes are emulated here: a view
stores its base and an op; the plugin computes its values when they are needed, and again after a
write. A write through a view gives the owner of the memory a new array, with new values in the part
of the view.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.memory_order import row_major
from gradient.backends.process import shapes
from gradient.backends.process.client import BATCH, Client
from gradient.backends.process.connection import msgpack
from gradient.backends.process.protocol import NAMES, PluginError
from gradient.backends.process.run_numbers import Number, kind_of, value_of
from gradient.backends.recording_backend import OPERATORS, REFLECTED, OpaqueArray
from gradient.backends.required import Shape
from gradient.source_lines import getframe, inside


class Flags(NamedTuple):
    """The flags of an array's memory, as in NumPy."""

    c_contiguous: bool
    writeable: bool


class Handle(OpaqueArray):
    """An array in a plugin.

    client    the client of the plugin
    shape, dtype
    steps     strides in elements; None: contiguous
    base      the handle that owns the memory; None: this one
    readonly  whether it is a copy where NumPy returns a view: writes would be lost
    """

    __slots__ = (
        "__weakref__", "_id", "base", "client", "dtype", "how", "parent", "readonly", "seen",
        "shape", "steps", "version",
    )  # fmt: skip
    __array_ufunc__ = None  # NumPy leaves operators to this class

    client: Client
    shape: Shape
    dtype: np.dtype
    steps: shapes.Strides | None
    base: Handle | None
    parent: Handle
    how: tuple[str, dict[str, Any]]
    _id: int
    readonly: bool
    seen: int
    version: int

    def __del__(self) -> None:
        if self._id:
            self.client.freed.append(self._id)

    def __repr__(self) -> str:
        return f"<array {self.shape} {self.dtype} in a plugin>"

    def __bool__(self) -> bool:
        raise TypeError("an array in a plugin has no truth value; read it by to_numpy")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("an array in a plugin is none of NumPy's; read it by to_numpy")

    __hash__ = object.__hash__

    # Python's operators are set below.

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides in bytes, as in NumPy. (The plugin's memory may be laid out differently.)"""
        size = self.dtype.itemsize
        return tuple(step * size for step in self.steps or row_major(self.shape))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def flags(self) -> Flags:
        own = self.steps is None or self.steps == row_major(self.shape)
        return Flags(own or 0 in self.shape, not _refuses_writes(self))

    # Ids and views -------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        """The plugin's id of the current values. For a view, they are computed first, if this was
        not done since the last write."""
        base = self.base
        if base is None or self.seen == base.version:
            return self._id
        with self.client.lock:  # other threads must not use the id before its op is queued
            if self.seen != base.version:
                parent, number = self.parent.id, self._id or self.client.new_id()
                name, options = self.how
                out = (number, NAMES[self.dtype], self.shape)
                self.client.op(name, (out,), (parent,), options)
                self._id, self.seen = number, base.version
        return self._id

    def view(
        self,
        shape: Shape,
        steps: shapes.Strides | None,
        name: str,
        options: dict[str, Any],
        dtype: np.dtype | None = None,
    ) -> Handle:
        """A view of this array, by an op that moves no elements."""
        out = new(Handle)
        out._id, out.seen = 0, -1  # not computed yet
        out.client, out.shape, out.steps = self.client, shape, steps
        out.dtype = self.dtype if dtype is None else dtype
        out.base = self if self.base is None else self.base
        out.parent, out.how = self, (name, options)
        return out

    def views(self) -> Iterator[Handle]:
        """This view, the view that it is a view of, and so on, without the owner of the memory."""
        view = self
        while view.base is not None:
            yield view
            view = view.parent

    @property
    def repeats(self) -> bool:
        """Whether two elements of the array share memory."""
        steps = self.steps or ()
        return 0 not in self.shape and any(
            n > 1 and not step for n, step in zip(self.shape, steps, strict=bool(steps))
        )

    def written(self) -> None:
        """Note that the id has new values, and write them to the array of which this is a view."""
        if self.base is None:
            self.version += 1
            return
        chain = list(self.views())
        for view in chain:
            parent, (name, options) = view.parent, view.how
            given: tuple[Any, ...]
            out = (parent._id, NAMES[parent.dtype], parent.shape)
            if name == "getitem":
                name, given = "assign", (parent._id, view._id)
            elif name == "permute":
                order = options["axes"]
                back = tuple(order.index(i) for i in range(len(order)))
                given, options = (view._id,), {"axes": back}
            elif name == "broadcast_to":
                name, given, options = "reshape", (view._id,), {}
            else:  # reshape, bitcast
                given = (view._id,)
            self.client.op(name, (out,), given, options)
        base = self.base
        base.version += 1
        for view in chain:
            view.seen = base.version


new = object.__new__


def made(client: Client, number: int, shape: Shape, dtype: np.dtype) -> Handle:
    """Make the handle of an id."""
    out = new(Handle)
    out.client, out._id, out.shape, out.dtype = client, number, shape, dtype
    out.steps = out.base = None
    out.version = 0
    out.readonly = False
    return out


Input = Handle | list[Any] | None
"""An op's input: an array, [a number], or None if it is not given."""


def ids(client: Client, inputs: Sequence[Input]) -> tuple[Any, ...]:
    """Inputs as in messages. (The caller must keep the inputs alive until the op is queued.)"""
    found: list[Any] = []
    for x in inputs:
        if type(x) is not Handle:
            found.append(x)
        elif x.client is client:
            found.append(x._id if x.base is None else x.id)
        else:
            raise PluginError(
                "an array of another plugin, or of one that was restarted: its memory is not there"
            )
    return tuple(found)


def op(
    client: Client,
    name: str,
    shape: Shape,
    dtype: np.dtype,
    inputs: Sequence[Input],
    options: dict[str, Any] | None = None,
) -> Handle:
    """Queue an op with one result; return its handle."""
    given = ids(client, inputs)
    number = client.new_id()
    client.op(name, ((number, NAMES[dtype], shape),), given, options)
    return made(client, number, shape, dtype)


def ops(
    client: Client,
    name: str,
    results: Sequence[tuple[Shape, np.dtype]],
    inputs: Sequence[Input],
    options: dict[str, Any] | None = None,
) -> tuple[Handle, ...]:
    """Queue an op with several results; return their handles."""
    given = ids(client, inputs)
    outs = [made(client, client.new_id(), shape, dtype) for shape, dtype in results]
    client.op(name, [(x._id, NAMES[x.dtype], x.shape) for x in outs], given, options)
    return tuple(outs)


def _refuses_writes(x: Handle) -> bool:
    return (x if x.base is None else x.base).readonly or any(view.repeats for view in x.views())


def rewrite(x: Handle, name: str, inputs: Sequence[Input], options: dict[str, Any] | None) -> None:
    """Queue an op whose first input is `x`, and assign its result to `x`."""
    if _refuses_writes(x):
        raise ValueError("assignment destination is read-only")
    given = ids(x.client, (x, *inputs))
    x.client.op(name, ((given[0], NAMES[x.dtype], x.shape),), given, options)
    x.written()


def cast(x: Handle, dtype: np.dtype) -> Handle:
    return x if x.dtype == dtype else op(x.client, "astype", x.shape, dtype, (x,))


# Operators ---------------------------------------------------------------------------------------

NUMBERS = (bool, int, float, Number)


class Settled(NamedTuple):
    """The facts about an operator that follow from the shapes and dtypes of its operands."""

    shape: Shape
    common: np.dtype  # of the operands
    dtype: np.dtype  # of the result
    casts: bool  # whether operands must be cast
    pack: Callable[..., bytes] | None  # of (head, id, middle, a, between, b, end); None: slow way
    head: bytes
    middle: bytes
    between: bytes
    end: bytes


_known: dict[Any, Settled] = {}
_ID, _NIL = b"\xcf", b"\xc0"  # msgpack: uint64, nil
_ENCODED: dict[Any, tuple[str, bytes]] = {
    np.dtype: ("Q", _ID), float: ("d", b"\x91\xcb"), int: ("q", b"\x91\xd3"),
}  # fmt: skip
"""By kind of operand: its `struct` format, and the msgpack bytes before it. (A number is sent as an
array of one element.)"""


def _result(key: tuple[Any, ...]) -> Settled:
    """The facts without the packed message."""
    name, shape, dtype, other_shape, other = key
    if name == "matmul":
        common = result = shapes.common_dtype(dtype, other)
        shape = shapes.matmul(shape, other_shape)
    else:
        common, result = shapes.operator_dtypes(name, dtype, other)
        if other_shape is not None:
            shape = shapes.broadcast(shape, other_shape)
    casts = any(isinstance(x, np.dtype) and x != common for x in (dtype, other))
    return Settled(shape, common, result, casts, None, b"", b"", b"", b"")


def _settle(key: tuple[Any, ...]) -> Settled:
    found = _result(key)
    name, _, dtype, _, other = key
    shape, common, result, casts = found[:4]
    kinds = [_ENCODED.get(np.dtype if isinstance(x, np.dtype) else x) for x in (dtype, other)]
    if not casts and (one := kinds[0]) is not None and (two := kinds[1]) is not None:
        pack = msgpack().packb
        (first, before_first), (second, between) = one, two
        head = b"\x95" + pack("op") + pack(name) + b"\x91\x93" + _ID
        middle = pack(NAMES[result]) + pack(shape) + b"\x92" + before_first
        layout = f">{len(head)}sQ{len(middle)}s{first}{len(between)}s{second}1s"
        found = Settled(
            shape, common, result, casts, struct.Struct(layout).pack, head, middle, between, _NIL
        )
    if len(_known) > 4096:
        _known.clear()
    _known[key] = found
    return found


def binary(name: str, a: Any, b: Any) -> Any:
    """Queue an operator on two handles, or a handle and a number."""
    if type(a) is Handle:
        client = a.client
        if type(b) is Handle:
            key: tuple[Any, ...] = (name, a.shape, a.dtype, b.shape, b.dtype)
        else:
            if isinstance(b, np.generic):
                return binary(name, a, put(client, np.asarray(b)))
            if type(b) is complex:
                return binary(name, a, _complex(client, b, a.dtype))
            if type(b) not in NUMBERS:
                return NotImplemented
            key = (name, a.shape, a.dtype, None, kind_of(b))
    else:
        if isinstance(a, np.generic):
            return binary(name, put(b.client, np.asarray(a)), b)
        if type(a) is complex:
            return binary(name, _complex(b.client, a, b.dtype), b)
        if type(a) not in NUMBERS:
            return NotImplemented
        key, client = (name, b.shape, kind_of(a), None, b.dtype), b.client
    if type(client) is not Client:
        return _any_binary(client, name, a, b, _result(key))
    found = _known.get(key)
    if found is None:
        found = _settle(key)
    shape, common, dtype, casts, pack, head, middle, between, end = found
    if pack is None:
        return _any_binary(client, name, a, b, found)
    given = a, b
    # For speed, the rest inlines `ids`, `Client.post` and `made`.
    if type(a) is Handle:
        a = a._id if a.base is None else a.id
    if type(b) is Handle:
        b = b._id if b.base is None and b.client is client else ids(client, (b,))[0]
    out = new(Handle)
    out.client, out.shape, out.dtype = client, shape, dtype
    out.steps = out.base = None
    out.version = 0
    out.readonly = False
    out._id = number = client.new_id()
    try:
        data = pack(head, number, middle, a, between, b, end)
    except struct.error:  # an integer of more than 64 bits
        return _any_binary(client, name, *given, found)
    frame: FrameType | None = getframe(2)
    while frame is not None and inside[frame.f_code.co_filename]:
        frame = frame.f_back
    if frame is None:
        client.post(data, None)
        return out
    queue = client.queue
    queue.append((data, frame.f_code, frame.f_lasti))
    if len(queue) >= BATCH:
        client.flush()
    return out


def _any_binary(client: Client, name: str, a: Any, b: Any, known: Settled) -> Handle:
    """The general way, for operands that must be cast, and other kinds of numbers."""
    if known.casts:
        a, b = (cast(x, known.common) if type(x) is Handle else x for x in (a, b))
    return op(client, name, known.shape, known.dtype, [_input(a), _input(b)])


def _input(x: Any) -> Input:
    return x if type(x) is Handle else [x]


def power(a: Any, b: Any) -> Any:
    """a ** b. For integers with a negative exponent, 1 / a^-b, rounded towards zero."""
    if any(type(x) is not Handle and type(x) not in NUMBERS for x in (a, b)):
        return binary("pow", a, b)
    kind, exponent = (x.dtype if type(x) is Handle else np.dtype(kind_of(x)) for x in (a, b))
    if kind.kind not in "biu" or exponent.kind != "i":
        return binary("pow", a, b)
    if type(b) is not Handle:
        if value_of(b) < 0:
            raise ValueError("Integers to negative integer powers are not allowed.")
        return binary("pow", a, b)
    n: Any = b
    unit = a == 1 if kind.kind != "i" else (a == 1) | (a == -1)
    rest = n >= 0
    return binary("pow", a, n * rest) * rest + binary("pow", a, n & 1) * unit * (n < 0)


def _complex(client: Client, number: complex, beside: np.dtype) -> Handle:
    """A complex number, which messages have none of, as an array of its dtype beside another."""
    return put(client, np.asarray(number, np.result_type(beside, number)))


def put(client: Client, array: np.ndarray) -> Handle:
    """Copy an array to the plugin."""
    return made(client, client.put(array), array.shape, array.dtype)


def _operator(name: str, reflected: bool) -> Callable[[Handle, Any], Any]:
    def forward(self: Handle, other: Any) -> Any:
        return binary(name, self, other)

    def backward(self: Handle, other: Any) -> Any:
        return binary(name, other, self)

    return backward if reflected else forward


def _unary(name: str) -> Callable[[Handle], Handle]:
    def method(self: Handle) -> Handle:
        _, dtype = shapes.operator_dtypes(name, self.dtype, None)  # raises where NumPy does
        return op(self.client, name, self.shape, dtype, (self,))

    return method


for _name in OPERATORS:
    _method = _unary(_name) if _name in ("neg", "invert") else _operator(_name, False)
    setattr(Handle, f"__{_name}__", _method)
for _name in REFLECTED:
    setattr(Handle, f"__r{_name}__", _operator(_name, True))
setattr(Handle, "__pow__", power)  # noqa: B010 (as those above)
setattr(Handle, "__rpow__", lambda self, other: power(other, self))  # noqa: B010
