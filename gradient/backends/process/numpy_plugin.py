"""A plugin on NumPy in one file, as an example for other languages. docs/plugin-protocol.md
describes the messages. It needs nothing of this package."""

from __future__ import annotations

import math
import mmap
import operator
import os
import select
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import msgpack
import numpy as np

VERSION = 1
KINDS = {MemoryError: "memory", NotImplementedError: "unsupported", IndexError: "index",
         ValueError: "value", ZeroDivisionError: "value"}  # fmt: skip
Function = Callable[..., Any]
DTYPES = {name: np.dtype(name) for name in (
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float16", "float32", "float64")} | {"bfloat16": np.dtype(ml_dtypes.bfloat16)}  # fmt: skip
HALF = ("float16", "bfloat16")


def wide(function: Function) -> Function:
    """Decorator: compute 16-bit floats in float32; the final cast rounds the result once."""

    def run(*arrays: Any, **options: Any) -> Any:
        arrays = tuple(x.astype(np.float32) if x.dtype.name in HALF else x for x in arrays)
        return function(*arrays, **options)

    return run


def reduction(function: Function) -> Function:
    return wide(lambda x, axes, keepdims: function(x, axis=tuple(axes), keepdims=keepdims))


def index_of(items: list[Any], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Decode an index: numbers, None, ["slice", start, count, step], ["array", n]."""
    found: list[Any] = []
    for item in items:
        if not isinstance(item, list):
            found.append(item)
        elif item[0] == "array":
            found.append(arrays[item[1]])
        else:
            _, start, count, step = item
            stop = start + count * step
            found.append(slice(start, None if stop < 0 else stop, step))
    return tuple(found)


def put(x: Any, index: tuple[Any, ...], value: Any, add: bool) -> Any:
    x = x.copy()  # arrays are immutable
    (np.add.at if add else operator.setitem)(x, index, value)
    return x


def in_range(x: Any, axis: int, size: int) -> Any:
    if (wrong := x[(x < 0) | (x >= size)]).size:
        raise IndexError(f"index {wrong[0]} is out of bounds for axis {axis} with size {size}")
    return x


def along(index: Any, axis: int, size: int) -> tuple[Any, ...]:
    """The full index: `index` for `axis`, and the element's own position for other axes."""
    grid = np.ogrid[tuple(map(slice, index.shape))]
    return *grid[:axis], in_range(index, axis, size), *grid[axis + 1 :]


def divisor(a: Any, b: Any) -> Any:
    if b.dtype.kind in "iu" and a.size and not b.all():
        raise ZeroDivisionError("integers divided by 0")
    return b


SHAPED: dict[str, Function] = {  # these are given the result's dtype and shape
    "full": lambda value, dtype, shape: np.full(shape, value, dtype),
    "arange": lambda start, step, dtype, shape: start + np.arange(*shape, dtype=dtype) * step,
    "reshape": lambda x, dtype, shape: x.reshape(shape),
    "broadcast_to": lambda x, dtype, shape: np.broadcast_to(x, shape),
    "bitcast": lambda x, dtype, shape: np.ascontiguousarray(x).view(dtype).reshape(shape),
}
VIEWS = ("reshape", "permute", "broadcast_to", "copy", "getitem")
FUNCTIONS = ("exp", "log", "sqrt", "sin", "cos", "tanh", "floor", "abs", "arctan2", "maximum",
             "minimum", "where")  # fmt: skip
OPERATORS = ("add", "sub", "mul", "truediv", "pow", "lshift", "rshift", "xor", "eq", "ne", "lt",
             "le", "gt", "ge", "neg", "invert")  # fmt: skip
OPS: dict[str, Function] = {  # results are cast to the dtype in the message
    **SHAPED,
    **{name: getattr(np, name) for name in FUNCTIONS},
    **{name: getattr(operator, name) for name in OPERATORS},
    **{"and": operator.and_, "or": operator.or_},
    **{name: reduction(getattr(np, name)) for name in ("sum", "prod", "max", "min")},
    "argmax": lambda x, axis: np.argmax(x, axis),
    "cumsum": wide(np.cumsum),
    "argsort": wide(lambda x, axis: np.argsort(x, axis, kind="stable")),
    "matmul": wide(np.matmul),
    "permute": lambda x, axes: x.transpose(axes),
    "concatenate": lambda *arrays, axis: np.concatenate(arrays, axis),
    **dict.fromkeys(("copy", "astype"), lambda x: x),  # every result is cast
    "getitem": lambda x, *arrays, index: x[index_of(index, arrays)],
    "assign": lambda x, v, *arrays, index: put(x, index_of(index, arrays), v, False),
    "index_add": lambda x, v, *arrays, index: put(x, index_of(index, arrays), v, True),
    "in_range": in_range,
    "take_along": lambda x, index, axis: x[along(index, axis, x.shape[axis])],
    "put_along": lambda x, i, v, axis, add: put(x, along(i, axis, x.shape[axis]), v, add),
    "floordiv": lambda a, b: a // divisor(a, b),
    "mod": lambda a, b: a % divisor(a, b),
}
SHAPED["new"] = lambda dtype, shape: np.empty(shape, dtype)  # a message, not an op


def cast(x: Any, dtype: np.dtype) -> Any:
    if dtype.char == "B" and x.dtype.char == "d":
        x = x.astype(np.int64)  # numbers beyond uint8 wrap
    return x.astype(dtype, copy=False)


class Failed(NamedTuple):
    """Replaces an array that could not be computed: the error."""

    error: list[Any]


class Plugin:
    """Handles messages. (The plugin on MLX is a subclass with other arrays.)"""

    name = "numpy"
    ops: dict[str, Function] = OPS
    dtypes: dict[str, Any] = DTYPES

    def __init__(self) -> None:
        self.socket = socket.socket(fileno=os.dup(0))
        fd, size = map(int, os.environ["GRADIENT_PLUGIN_MEMORY"].split(":"))
        self.region = np.frombuffer(mmap.mmap(fd, size), np.uint8)
        self.arrays: dict[int, Any] = {}
        self.graphs: dict[int, tuple[list[int], list[Any], list[int]]] = {}
        self.numbers: list[Any] = []  # of the running graph
        self.error: list[Any] | None = None  # the first one not yet sent to the client
        self.messages = 0
        self.limit: int | None = None

    def serve(self) -> None:
        unpacker = msgpack.Unpacker(use_list=True, max_buffer_size=1 << 30, strict_map_key=False)
        while data := self.socket.recv(1 << 18):
            unpacker.feed(data)
            for kind, *rest in unpacker:
                try:
                    getattr(self, "on_" + kind)(*rest)
                except Exception as error:  # in a request: the answer is the error
                    self.answer(*self.describe(error, kind))
                self.messages += 1

    def describe(self, error: Exception, op: str) -> list[Any]:
        kind = next((kind for cls, kind in KINDS.items() if isinstance(error, cls)), "error")
        return ["error", kind, f"{type(error).__name__}: {error}", self.messages, op]

    def answer(self, *message: Any) -> None:
        self.socket.sendall(msgpack.packb(message))

    def on_hello(self, version: int, device: str, region: int) -> None:
        has = {"ops": [*self.ops], "dtypes": [*self.dtypes]}
        self.answer("ok", {"version": VERSION, "name": self.name} | has)

    def on_put(self, number: int, dtype: str, shape: list[int], data: bytes) -> None:
        self.arrays[number] = np.frombuffer(data, self.dtypes[dtype]).reshape(shape)

    def on_new(self, number: int, dtype: str, shape: list[int]) -> None:
        self.on_op("new", [[number, dtype, shape]], [], None)

    def on_write(self, number: int, start: int, at: int, count: int) -> None:
        x = self.arrays[number]
        if not isinstance(x, Failed):
            x.reshape(-1).view(np.uint8)[start : start + count] = self.region[at : at + count]
        self.answer("ok")

    def on_get(self, number: int) -> None:
        if not self.tells([number]):
            self.answer("ok", self.arrays[number].tobytes())

    def on_read(self, number: int, start: int, at: int, count: int) -> None:
        x = self.arrays[number] = np.ascontiguousarray(self.arrays[number])
        self.region[at : at + count] = x.reshape(-1).view(np.uint8)[start : start + count]
        self.answer("ok")

    def on_sync(self, numbers: list[int] | None) -> None:
        if not self.tells(numbers or []):
            self.answer("ok", self.messages)

    def tells(self, numbers: list[int]) -> bool:
        """Whether the answer is an error: the first unsent one, or one of an array in `numbers`."""
        error, self.error = self.error, None
        for x in (self.arrays[number] for number in numbers):
            error = error or (x.error if isinstance(x, Failed) else None)
        if error:
            self.answer(*error)
        return error is not None

    def on_free(self, numbers: list[int]) -> None:
        for number in numbers:
            self.arrays.pop(number, None)

    def on_stat(self) -> None:
        counts = {"arrays": len(self.arrays), "messages": self.messages, "bytes": self.used()}
        self.answer("ok", counts)

    def on_limit(self, nbytes: int | None) -> None:
        self.limit = nbytes
        self.answer("ok")

    def used(self) -> int:
        """The bytes of memory in use, counting shared memory once."""
        arrays = [x for x in self.arrays.values() if isinstance(x, np.ndarray)]
        owners = {id(owner): owner for owner in (x if x.base is None else x.base for x in arrays)}
        return sum(getattr(owner, "nbytes", 0) for owner in owners.values())

    def on_op(self, name: str, outs: list[Any], inputs: list[Any], options: Any) -> None:
        given = [self.arrays[x] if isinstance(x, int) else self.numbered(x) for x in inputs]
        failed = next((x for x in given if isinstance(x, Failed)), None)
        results: Any = ()
        try:
            if failed is None:
                results = self.compute(name, outs, given, self.numbered(options or {}))
        except Exception as error:
            failed = Failed(self.describe(error, name))
            self.error = self.error or failed.error
        if failed is None:
            self.arrays.update(zip((number for number, _, _ in outs), results, strict=True))
        else:  # arrays that it would have overwritten keep their values
            self.arrays |= {number: failed for number, _, _ in outs if number not in inputs}

    def compute(self, name: str, outs: list[Any], given: list[Any], options: Any) -> list[Any]:
        ((_, dtype_name, shape),) = outs
        dtype = self.dtypes[dtype_name]
        self.check_limit(name, math.prod(shape) * dtype.itemsize)
        own = next((x.dtype for x in given if isinstance(x, np.ndarray)), dtype)  # for numbers
        given = [np.asarray(x[0]).astype(own) if isinstance(x, list) else x for x in given]
        shaped = {"dtype": dtype, "shape": tuple(shape)} if name in SHAPED else options
        function = SHAPED.get(name) or self.ops[name]
        result = cast(np.asarray(function(*given, **shaped)), dtype)
        assert result.shape == tuple(shape), f"{name} gave {result.shape}, not {tuple(shape)}"
        return [result]

    def check_limit(self, name: str, more: int) -> None:
        if self.limit is not None and name not in VIEWS and self.used() + more > self.limit:
            raise MemoryError(f"{more} bytes more would be over the limit of {self.limit}")

    def numbered(self, x: Any) -> Any:
        """Options with the graph run's n-th number in place of {"number": n}."""
        if isinstance(x, dict):
            if x.keys() == {"number"}:
                return self.numbers[x["number"]]
            return {key: self.numbered(value) for key, value in x.items()}
        return [self.numbered(each) for each in x] if isinstance(x, list) else x

    def on_graph(self, graph: int, inputs: list[int], messages: Any, outputs: list[int]) -> None:
        self.graphs[graph] = inputs, messages, outputs

    def on_run(self, graph: int, inputs: list[int], outputs: list[int], numbers: list[Any]) -> None:
        own_inputs, messages, own_outputs = self.graphs[graph]
        given = [self.arrays[number] for number in inputs]
        arrays, self.arrays = self.arrays, dict(zip(own_inputs, given, strict=True))
        self.numbers = numbers
        for kind, *rest in messages:
            getattr(self, "on_" + kind)(*rest)
        made = [self.arrays[number] for number in own_outputs]
        self.arrays, self.numbers = arrays, []
        for number, x in zip(outputs, made, strict=True):
            if not (isinstance(x, Failed) and number in inputs):
                self.arrays[number] = x

    def on_forget(self, graph: int) -> None:
        self.graphs.pop(graph, None)


def end_with_client() -> None:
    """End this process when the client closes its socket, even during an op."""
    (poll := select.poll()).register(0, 0)  # report only a hang-up
    poll.poll()
    os._exit(0)


def main(plugin: type[Plugin]) -> None:
    np.seterr(all="ignore")
    sys.stdout = sys.stderr  # keep prints of libraries out of the messages
    threading.Thread(target=end_with_client, daemon=True).start()
    plugin().serve()


if __name__ == "__main__":
    main(Plugin)
