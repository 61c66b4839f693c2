"""The plugin on MLX: `python -m gradient.backends.metal.plugin`, as `gradient` starts it.

Messages are those of the example plugin (`process/numpy_plugin.py`), and so is most of what is done
with them; arrays are MLX's, which computes when something is read.
"""

from __future__ import annotations

import math
import os
from typing import Any

import mlx.core as mx
import numpy as np

from gradient.backends.metal import (
    bounds,
    quantized,  # noqa: F401 (adds its ops)
)
from gradient.backends.metal.fused import FUSED
from gradient.backends.metal.memory import uninitialized
from gradient.backends.metal.ops import DTYPES, OPS, SHAPED, from_numpy, to_numpy
from gradient.backends.process.numpy_plugin import VIEWS, Failed, Plugin, main

PENDING = 512
"""Results after which what is queued is computed, though nothing was read: MLX would go on to
collect them."""


UNSETTLED = 256
"""Doubts after which the older half is looked at, though nothing was read."""


Doubts = frozenset[bounds.Doubt]
WRITES = ("assign", "index_add", "put_along")
"""Ops that see themselves to it that nothing is written where a doubt is right."""


class Incoming:
    """An array whose bytes come in parts."""

    def __init__(self, dtype: str, shape: list[int]):
        self.dtype = DTYPES[dtype]
        bits = np.dtype(np.uint16 if self.dtype == mx.bfloat16 else dtype)
        self.memory = uninitialized(bits, tuple(shape))
        self.bytes = np.array(self.memory, copy=False).reshape(-1).view(np.uint8)
        self.left = self.bytes.size


class MLXPlugin(Plugin):
    name = "mlx"
    ops = {**SHAPED, **OPS, **FUSED}
    dtypes = DTYPES

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[int] = []
        self.reading: tuple[int, np.ndarray] = (0, np.empty(0, np.uint8))
        self.unsettled: list[bounds.Doubt] = []
        """What is not known yet of indices and divisors, in the order of their messages."""
        self.doubts: dict[int, Doubts] = {}
        """By id of array, which has failed if one of them is right."""
        self.running = False  # a graph, whose arrays are its own
        self.gpu = mx.default_device() == mx.gpu
        self.memory = device_memory()

    # Arrays --------------------------------------------------------------------------------------

    def on_put(self, number: int, dtype: str, shape: list[int], data: bytes) -> None:
        kind = DTYPES[dtype]
        bits = np.frombuffer(data, np.uint16 if kind == mx.bfloat16 else dtype)
        x = from_numpy(bits)
        self.arrays[number] = (x.view(kind) if kind == mx.bfloat16 else x).reshape(shape)

    def on_new(self, number: int, dtype: str, shape: list[int]) -> None:
        try:
            self.check_limit("new", math.prod(shape) * DTYPES[dtype].size)
            self.arrays[number] = Incoming(dtype, shape)
        except Exception as error:
            self.arrays[number] = failed = Failed(self.describe(error, "new"))
            self.error = self.error or failed.error

    def on_write(self, number: int, start: int, at: int, count: int) -> None:
        x = self.arrays[number]
        if isinstance(x, Incoming):
            x.bytes[start : start + count] = self.region[at : at + count]
            x.left -= count
            if not x.left:
                bf16 = x.dtype == mx.bfloat16
                self.arrays[number] = x.memory.view(x.dtype) if bf16 else x.memory
        self.answer("ok")

    def on_get(self, number: int) -> None:
        if not self.tells([number]):
            self.start([number])
            self.answer("ok", to_numpy(self.arrays[number]).tobytes())

    def on_read(self, number: int, start: int, at: int, count: int) -> None:
        if self.reading[0] != number or not start:
            whole = np.ascontiguousarray(to_numpy(self.arrays[number]))
            self.reading = number, whole.reshape(-1).view(np.uint8)
        self.region[at : at + count] = self.reading[1][start : start + count]
        if start + count == self.reading[1].size:
            self.reading = 0, np.empty(0, np.uint8)
        self.answer("ok")

    def on_sync(self, numbers: list[int] | None) -> None:
        if not self.tells(numbers or []):
            self.start(numbers or [])
            if numbers is None:
                mx.synchronize()
            self.answer("ok", self.messages)

    def start(self, wanted: list[int]) -> None:
        """Compute what is wanted, and go on with what is pending."""
        arrays = [self.arrays.get(number) for number in self.pending]
        self.pending = []
        mx.async_eval([x for x in arrays if isinstance(x, mx.array)])
        if len(self.unsettled) > UNSETTLED and not self.running:
            self.settle(UNSETTLED // 2)
        mx.eval([x for x in map(self.arrays.get, wanted) if isinstance(x, mx.array)])

    def check_limit(self, name: str, more: int) -> None:
        # MLX finds out as it computes, and its CPU device ends the process.
        if more > self.memory and name not in (*VIEWS, "full"):
            raise MemoryError(f"{more} bytes are more than the device's memory, {self.memory}")
        super().check_limit(name, more)

    def describe(self, error: Exception, op: str) -> list[Any]:
        if isinstance(error, RuntimeError) and "alloc" in str(error):  # MLX has no type for it
            error = MemoryError(str(error))
        return super().describe(error, op)

    def used(self) -> int:
        return sum(x.nbytes for x in self.arrays.values() if isinstance(x, mx.array))

    # Ops -----------------------------------------------------------------------------------------

    def on_op(self, name: str, outs: list[Any], inputs: list[Any], options: Any) -> None:
        if self.doubts:
            bounds.inherited.update(*(self.doubts.get(x, ()) for x in inputs if type(x) is int))
        before = {number: self.arrays[number] for number, _, _ in outs if number in inputs}
        super().on_op(name, outs, inputs, options)
        for doubt in bounds.asked:
            doubt.message, doubt.op = self.messages, name
        self.unsettled += bounds.asked
        doubts = frozenset(bounds.inherited.union(bounds.asked))
        for number, _, _ in outs:
            if number not in before:
                self.note(number, doubts)
            elif doubts and name not in WRITES:
                self.keep(number, before[number], doubts)
        bounds.asked.clear()
        bounds.inherited.clear()

    def note(self, number: int, doubts: Doubts) -> None:
        """Note what an array is of no use for, if it is right."""
        if doubts and not isinstance(self.arrays[number], Failed):
            self.doubts[number] = doubts
        elif self.doubts:
            self.doubts.pop(number, None)

    def keep(self, number: int, before: Any, doubts: Doubts) -> None:
        """Have an id stand for what it did if a doubt is right."""
        x = self.arrays[number]
        if isinstance(x, mx.array) and isinstance(before, mx.array):
            self.arrays[number] = mx.where(bounds.any_of(doubts), before, x)

    def settle(self, left: int = 0) -> None:
        """Look at all doubts but the last `left`: of those that are right, the arrays fail."""
        count = len(self.unsettled) - left
        looked_at, self.unsettled = self.unsettled[:count], self.unsettled[count:]
        bounds.forget_combined()
        mx.eval([doubt.bad for doubt in looked_at])
        failed = {}
        for doubt in looked_at:
            if (error := doubt.error()) is not None:
                told = self.describe(error, doubt.op)
                told[3] = doubt.message
                failed[doubt] = Failed(told)
                if self.error is None or self.error[3] > doubt.message:
                    self.error = told
        for number, doubts in list(self.doubts.items()):
            found = next((failed[doubt] for doubt in failed if doubt in doubts), None)
            if found is not None:
                self.arrays[number] = found
            self.note(number, doubts.difference(looked_at))

    def tells(self, numbers: list[int]) -> bool:
        if self.unsettled:
            self.settle()
        return super().tells(numbers)

    def on_free(self, numbers: list[int]) -> None:
        super().on_free(numbers)
        if self.doubts:
            for number in numbers:
                self.doubts.pop(number, None)

    def compute(self, name: str, outs: list[Any], given: list[Any], options: Any) -> list[Any]:
        dtypes = [DTYPES[dtype] for _, dtype, _ in outs]
        nbytes = sum(
            math.prod(shape) * dtype.size for (_, _, shape), dtype in zip(outs, dtypes, strict=True)
        )
        self.check_limit(name, nbytes)
        own = next((x.dtype for x in given if isinstance(x, mx.array)), dtypes[0])
        if self.gpu and mx.float64 in (own, *dtypes):  # which Metal does not have
            with mx.stream(mx.cpu):
                return self._compute(name, outs, dtypes, own, given, options)
        return self._compute(name, outs, dtypes, own, given, options)

    def _compute(
        self, name: str, outs: list[Any], dtypes: list[Any], own: Any, given: list[Any],
        options: Any,
    ) -> list[Any]:  # fmt: skip
        given = [number(x[0], own) if isinstance(x, list) else x for x in given]
        if all(0 in shape for _, _, shape in outs):  # much of MLX refuses empty arrays
            results = [mx.zeros(shape) for _, _, shape in outs]
        elif name in SHAPED:
            results = [SHAPED[name](*given, dtypes[0], tuple(outs[0][2]))]
        elif name in FUSED:
            results = FUSED[name](*given, **options)
        else:
            results = [OPS[name](*given, **options)]
        found = []
        for (_, _, shape), dtype, x in zip(outs, dtypes, results, strict=True):
            if tuple(x.shape) != tuple(shape):
                raise ValueError(f"{name} gave {x.shape}, not {tuple(shape)}")
            found.append(x if x.dtype == dtype else x.astype(dtype))
        self.pending += [number for number, _, _ in outs]
        if len(self.pending) > PENDING:
            self.start([])
        return found

    def on_run(self, graph: int, inputs: list[int], outputs: list[int], numbers: list[Any]) -> None:
        pending, self.pending = self.pending, []
        given, results, outer = self.graphs[graph][0], self.graphs[graph][2], self.doubts
        before = {number: self.arrays[number] for number in outputs if number in inputs}
        pairs = zip(given, inputs, strict=True)
        self.doubts = {own: outer[number] for own, number in pairs if number in outer}
        self.running = True
        super().on_run(graph, inputs, outputs, numbers)
        self.running = False
        inner, self.doubts = self.doubts, outer
        for own, number in zip(results, outputs, strict=True):
            doubts = inner.get(own, frozenset())
            if number not in before:
                self.note(number, doubts)
            elif doubts:
                self.keep(number, before[number], doubts)
        self.pending = pending + outputs  # those inside are its own
        self.start([])


def device_memory() -> int:
    """Bytes that the device has; it shares the machine's."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def number(value: Any, dtype: Any) -> Any:
    """A number as an array of a dtype."""
    if dtype == mx.float64 or isinstance(value, int) and abs(value) >= 2**31:
        kind = np.float64 if dtype == mx.float64 else np.uint64 if value > 0 else np.int64
        return from_numpy(np.asarray(value, kind)).astype(dtype)
    return mx.array(value).astype(dtype)


if __name__ == "__main__":
    main(MLXPlugin)
