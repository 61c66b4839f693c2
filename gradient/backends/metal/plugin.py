"""The plugin on MLX. `gradient` starts it by `python -m gradient.backends.metal.plugin`.

It extends the example plugin (`process/numpy_plugin.py`), which handles most messages. Its arrays
are MLX's, which are computed lazily: when something is read.
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
"""The number of queued results at which their computation starts even if nothing is read."""


UNRESOLVED = 256
"""The number of unresolved checks at which the older half is resolved even if nothing is read."""


Checks = frozenset[bounds.Check]
WRITES = ("assign", "index_add", "put_along")
"""Ops that write nothing by themselves if a check fails."""


class Incoming:
    """An array whose bytes arrive in parts."""

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
        self.unresolved: list[bounds.Check] = []
        """Pending checks of indices and divisors, in the order of their messages."""
        self.checks: dict[int, Checks] = {}
        """By id: the array has failed if one of these checks fails."""
        self.running = False  # whether a graph runs, which has arrays of its own
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
        """Compute the arrays in `wanted`, and start the computation of pending ones."""
        arrays = [self.arrays.get(number) for number in self.pending]
        self.pending = []
        mx.async_eval([x for x in arrays if isinstance(x, mx.array)])
        if len(self.unresolved) > UNRESOLVED and not self.running:
            self.resolve(UNRESOLVED // 2)
        mx.eval([x for x in map(self.arrays.get, wanted) if isinstance(x, mx.array)])

    def check_limit(self, name: str, more: int) -> None:
        # MLX runs out of memory only while computing; its CPU device then ends the process.
        if more > self.memory and name not in (*VIEWS, "full"):
            raise MemoryError(f"{more} bytes are more than the device's memory, {self.memory}")
        super().check_limit(name, more)

    def describe(self, error: Exception, op: str) -> list[Any]:
        if isinstance(error, RuntimeError) and "alloc" in str(
            error
        ):  # MLX has no exception type for this
            error = MemoryError(str(error))
        return super().describe(error, op)

    def used(self) -> int:
        return sum(x.nbytes for x in self.arrays.values() if isinstance(x, mx.array))

    # Ops -----------------------------------------------------------------------------------------

    def on_op(self, name: str, outs: list[Any], inputs: list[Any], options: Any) -> None:
        if self.checks:
            bounds.inherited.update(*(self.checks.get(x, ()) for x in inputs if type(x) is int))
        before = {number: self.arrays[number] for number, _, _ in outs if number in inputs}
        super().on_op(name, outs, inputs, options)
        for check in bounds.added:
            check.message, check.op = self.messages, name
        self.unresolved += bounds.added
        checks = frozenset(bounds.inherited.union(bounds.added))
        for number, _, _ in outs:
            if number not in before:
                self.note(number, checks)
            elif checks and name not in WRITES:
                self.keep(number, before[number], checks)
        bounds.added.clear()
        bounds.inherited.clear()

    def note(self, number: int, checks: Checks) -> None:
        """Store the checks that an array depends on."""
        if checks and not isinstance(self.arrays[number], Failed):
            self.checks[number] = checks
        elif self.checks:
            self.checks.pop(number, None)

    def keep(self, number: int, before: Any, checks: Checks) -> None:
        """Let an id denote its previous array, `before`, if a check fails."""
        x = self.arrays[number]
        if isinstance(x, mx.array) and isinstance(before, mx.array):
            self.arrays[number] = mx.where(bounds.any_fails(checks), before, x)

    def resolve(self, left: int = 0) -> None:
        """Read all checks except the last `left`. Arrays that depend on a failed check fail."""
        count = len(self.unresolved) - left
        resolved, self.unresolved = self.unresolved[:count], self.unresolved[count:]
        bounds.forget_combined()
        mx.eval([check.bad for check in resolved])
        failed = {}
        for check in resolved:
            if (error := check.error()) is not None:
                answer = self.describe(error, check.op)
                answer[3] = check.message
                failed[check] = Failed(answer)
                if self.error is None or self.error[3] > check.message:
                    self.error = answer
        for number, checks in list(self.checks.items()):
            found = next((failed[check] for check in failed if check in checks), None)
            if found is not None:
                self.arrays[number] = found
            self.note(number, checks.difference(resolved))

    def tells(self, numbers: list[int]) -> bool:
        if self.unresolved:
            self.resolve()
        return super().tells(numbers)

    def on_free(self, numbers: list[int]) -> None:
        super().on_free(numbers)
        if self.checks:
            for number in numbers:
                self.checks.pop(number, None)

    def compute(self, name: str, outs: list[Any], given: list[Any], options: Any) -> list[Any]:
        dtypes = [DTYPES[dtype] for _, dtype, _ in outs]
        nbytes = sum(
            math.prod(shape) * dtype.size for (_, _, shape), dtype in zip(outs, dtypes, strict=True)
        )
        self.check_limit(name, nbytes)
        own = next((x.dtype for x in given if isinstance(x, mx.array)), dtypes[0])
        if self.gpu and mx.float64 in (own, *dtypes):  # Metal has no float64
            with mx.stream(mx.cpu):
                return self._compute(name, outs, dtypes, own, given, options)
        return self._compute(name, outs, dtypes, own, given, options)

    def _compute(
        self, name: str, outs: list[Any], dtypes: list[Any], own: Any, given: list[Any],
        options: Any,
    ) -> list[Any]:  # fmt: skip
        given = [number(x[0], own) if isinstance(x, list) else x for x in given]
        if all(0 in shape for _, _, shape in outs):  # many MLX functions refuse empty arrays
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
        given, results, outer = self.graphs[graph][0], self.graphs[graph][2], self.checks
        before = {number: self.arrays[number] for number in outputs if number in inputs}
        pairs = zip(given, inputs, strict=True)
        self.checks = {own: outer[number] for own, number in pairs if number in outer}
        self.running = True
        super().on_run(graph, inputs, outputs, numbers)
        self.running = False
        inner, self.checks = self.checks, outer
        for own, number in zip(results, outputs, strict=True):
            checks = inner.get(own, frozenset())
            if number not in before:
                self.note(number, checks)
            elif checks:
                self.keep(number, before[number], checks)
        self.pending = pending + outputs  # without the ids inside the graph
        self.start([])


def device_memory() -> int:
    """The device's memory in bytes: all of the machine's, which it shares."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def number(value: Any, dtype: Any) -> Any:
    """A Python number as a 0-d array of a dtype."""
    if dtype == mx.float64 or isinstance(value, int) and abs(value) >= 2**31:
        kind = np.float64 if dtype == mx.float64 else np.uint64 if value > 0 else np.int64
        return from_numpy(np.asarray(value, kind)).astype(dtype)
    return mx.array(value).astype(dtype)


if __name__ == "__main__":
    main(MLXPlugin)
