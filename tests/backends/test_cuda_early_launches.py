"""Kernels that begin before the ones before them have ended: what they may do by then."""

from __future__ import annotations

import ctypes
import math
import shutil
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gradient.backends.cuda import driver
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.fused import FEW_BLOCKS
from gradient.backends.cuda.quantized import codebook
from gradient.backends.cuda.runtime import CupyRuntime
from gradient.backends.expression import ElementwiseCall, End, Expression, Input, Result
from support.backend_table import (
    Draw,
    cached_attention,
    feed_back,
    packed,
    rope_attention,
    rope_update,
)
from support.cuda_emulation import EmulatedRuntime, ending_at_waits, is_wrong, launch, library

pytestmark = pytest.mark.cpu_only
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels")


class Watched(EmulatedRuntime):
    """Notes early launches."""

    def __init__(self) -> None:
        super().__init__()
        self.early: list[tuple[Any, ...]] = []

    def launch(self, family: str, kernel: str, dtype: str, grid: Any, block: int, *arguments: Any,
               shared: int = 0, early: bool = False) -> None:  # fmt: skip
        if early:
            name = f"{kernel}_{dtype}"
            self.early.append((library(family), name, grid, block, arguments, shared))
        super().launch(family, kernel, dtype, grid, block, *arguments, shared=shared, early=early)

    def launch_source(
        self, source: str, grid: Any, block: int, *arguments: Any, early: bool = False
    ) -> None:
        if early:
            self.early.append((library("fused", source), "fused", grid, block, arguments, 0))
        super().launch_source(source, grid, block, *arguments, early=early)


def arrays_of(values: Any) -> list[np.ndarray]:
    if isinstance(values, np.ndarray):
        return [values]
    parts = values if isinstance(values, (list, tuple)) else getattr(values, "parts", ())
    return [x for part in parts for x in arrays_of(part)]


def products(rows: int, kind: str, **options: Any) -> Callable[..., Any]:
    def call(be: Any, a: Draw) -> tuple[str, Any]:
        weights = [a(37, 256) if kind == "numbers" else packed(a, kind, 37, 256) for _ in range(2)]
        norm = None if options.get("residual") else a(256)
        if options.get("residual"):
            options["residual"] = a(rows, 37)
            weights = weights[:1]
        weights = [w if kind == "numbers" else be.arranged(w) for w in weights]
        be.projections(a(rows, 256), weights, norm, 1e-5, **options)
        return "product", (weights, norm)

    return call


def update(be: Any, a: Draw) -> tuple[str, Any]:
    be.rope_update(*rope_update(4, 2, 16, 8)(a))
    return "rope_update", ()


def both(be: Any, a: Draw) -> tuple[str, Any]:
    be.rope_attention(*rope_attention(4, 2, 64)(a))
    return "rope_attention", ()


def attention(slots: int) -> Callable[..., Any]:
    def call(be: Any, a: Draw) -> tuple[str, Any]:
        be.cached_attention(*cached_attention("static", slots=slots)(a))
        return "attention" if slots < 257 else "join_parts", ()

    return call


def choice(columns: int) -> Callable[..., Any]:
    def call(be: Any, a: Draw) -> tuple[str, Any]:
        be.argmax(a(1, columns), -1)
        return "argmax_of_parts" if columns > 40_000 else "argmax_rows", ()

    return call


def feedback(be: Any, a: Draw) -> tuple[str, Any]:
    arguments = feed_back(2, numbers=3, counts=2)(a)
    be.feed_back(*arguments)
    return "feed_back", arguments[3]  # the number of the run, which no other kernel writes


def row_of_an_embedding(be: Any, a: Draw) -> tuple[str, Any]:
    be.quantized_embedding(be.arranged(packed(a, "q4_0", 37, 256)), np.array([[5]]))
    return "unpack", codebook("q4_0")  # which is passed by value


def fused(*ends: End) -> Callable[..., Any]:
    def call(be: Any, a: Draw) -> tuple[str, Any]:
        product = ElementwiseCall("mul", (Input(0), Input(1)), "f")
        steps = product, ElementwiseCall("cos", (Result(0),), "f")
        x, y = (a(3, 64).astype(np.float32) for _ in range(2))
        be.fused(x, y, expression=Expression(steps, ("f", "f"), (Result(1),), ends))
        return "fused", ()

    return call


@needs_compiler
@pytest.mark.parametrize(
    "call",
    [
        choice(100),
        choice(50_000),
        feedback,
        row_of_an_embedding,
        fused(),
        fused(End("sum", Result(1), False, False)),
        fused(End("max", Result(1), True, False)),
        products(1, "numbers"),
        products(3, "numbers", gated=True),
        products(1, "numbers", residual=True),
        products(1, "q4_0"),
        products(1, "q4_0", gated=True),
        products(1, "q8_0", residual=True),
        products(1, "q4_k"),
        products(1, "q6_k"),
        products(1, "int4_group", gated=True),
        update,
        both,
        attention(100),
        attention(600),
    ],
)
def test_until_they_wait_they_write_nothing_and_read_weights_only(call: Any) -> None:
    be = CudaBackend(0, Watched())
    name, weights = call(be, Draw("bfloat16"))
    known = {x.ctypes.data for x in arrays_of(weights)}
    assert name in be.runtime.early[-1][1]
    for kernels, kernel, grid, block, arguments, shared in be.runtime.early:
        before = [x.tobytes() for x in arguments if isinstance(x, np.ndarray)]
        with ending_at_waits(kernels) as ended:
            launch(kernels, kernel, grid, block, *arguments, shared=shared)
            assert ended() == math.prod(grid) * block  # all threads
            assert before == [x.tobytes() for x in arguments if isinstance(x, np.ndarray)]
            without = [
                None if isinstance(x, np.ndarray) and x.ctypes.data not in known else x
                for x in arguments
            ]

            def reads(
                kernels: Any = kernels, how: Any = (kernel, grid, block, *without),
                shared: int = shared,
            ) -> bool:  # fmt: skip
                launch(kernels, *how, shared=shared)
                return False

            assert not is_wrong(reads)


@needs_compiler
@pytest.mark.parametrize("columns", [64, 63])
def test_a_fused_kernel_may_read_before_it_waits(columns: int) -> None:
    """It writes nothing by then, and some of its threads wait."""
    be, a = CudaBackend(0, Watched()), Draw("float32")
    product = ElementwiseCall("mul", (Input(0), Input(1)), "f")
    expression = Expression((product,), ("f", "f"), (Result(0),))
    x, y = a(3, columns), a(3, columns)
    (out,) = be.fused(x, y, expression=expression, early_reads=True)
    np.testing.assert_array_equal(out, x * y)
    [(kernels, kernel, grid, block, arguments, _)] = be.runtime.early
    out[...] = 7
    with ending_at_waits(kernels) as ended:
        launch(kernels, kernel, grid, block, *arguments)
        assert ended() == (3 * columns) // 4 + (columns % 4 > 0) * (3 * columns % 4 > 0)
    assert np.all(out == 7)


@needs_compiler
def test_weights_that_may_be_moved_before_are_not_read_early() -> None:
    """Blocks that no GPU has taken apart yet, and parts that do not begin at 16 bytes."""
    be, a = CudaBackend(0, Watched()), Draw("bfloat16")
    blocks = packed(a, "q4_0", 37, 64)
    apart = be.arranged(blocks)
    for weight in (blocks, apart.rows(be, (slice(1, None),)), apart):
        be.projections(a(1, 64), [weight])
    assert len(be.runtime.early) == 1
    assert be.runtime.early[0][4][6] is apart.parts[0]


def test_structures_lie_as_the_driver_has_them() -> None:
    assert ctypes.sizeof(driver.LaunchAttribute) == 72
    assert driver.LaunchAttribute.value.offset == 8
    config = driver.LaunchConfig
    offsets = (config.shared.offset, config.stream.offset, config.attributes.offset)
    assert (*offsets, config.count.offset) == (24, 32, 40, 48)


class Driver:
    """The driver's library, which keeps what it is given."""

    def __init__(self, status: int):
        self.status, self.launched = status, []

    def cuLaunchKernelEx(self, config: Any, function: Any, pointers: Any, _: Any) -> int:  # noqa: N802
        c = config._obj
        values = (ctypes.cast(pointers[0], ctypes.POINTER(ctypes.c_void_p))[0],
                  ctypes.cast(pointers[1], ctypes.POINTER(ctypes.c_longlong))[0],
                  ctypes.cast(pointers[2], ctypes.POINTER(ctypes.c_double))[0],
                  ctypes.cast(pointers[3], ctypes.POINTER(ctypes.c_void_p))[0])  # fmt: skip
        grid, block = (c.grid_x, c.grid_y, c.grid_z), (c.block_x, c.block_y, c.block_z)
        attribute = c.attributes[0]
        self.launched.append((grid, block, c.shared, c.stream, c.count, attribute.number,
                              attribute.value, function.value, values))  # fmt: skip
        return self.status


class Function:
    ptr = 77

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: Any, **__: Any) -> None:
        self.calls += 1


def runtime_of(function: Function) -> CupyRuntime:
    import threading

    runtime = CupyRuntime.__new__(CupyRuntime)
    runtime._thread, runtime._functions = threading.local(), {"kernel_float32": function}
    runtime._shared_allowed = {"kernel_float32": 4096}
    runtime.count, runtime.launches_early = 1, True
    runtime._pointer = runtime.integer = int  # NumPy's arrays stand for CuPy's
    stream = SimpleNamespace(ptr=9)
    runtime._early, runtime.attributes = set(), []
    attributes = SimpleNamespace(funcSetAttribute=lambda *given: runtime.attributes.append(given))
    runtime.xp = SimpleNamespace(
        ndarray=np.ndarray,
        cuda=SimpleNamespace(get_current_stream=lambda: stream, driver=attributes),
    )
    runtime.use = lambda: None
    runtime.address = lambda x: x.ctypes.data
    return runtime


@pytest.mark.parametrize("status", [0, 1])
def test_kernels_of_graphs_are_launched_early(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no more, once the driver refuses one."""
    function, library = Function(), Driver(status)
    monkeypatch.setattr(driver, "driver", lambda: library)
    runtime, x = runtime_of(function), np.zeros(3, np.float32)
    given = ("family", "kernel", "float32", (5, 2), 128, x, np.int64(-3), np.float64(0.5), None)
    runtime.launch(*given, shared=64, early=True)
    assert not library.launched  # for it is in no graph
    assert function.calls == 1 and not runtime.attributes
    with runtime.capturing():
        runtime.launch(*given, shared=64)
        runtime.launch(*given, shared=64, early=True)
        runtime.launch(*given, shared=64, early=True)
    values = (x.ctypes.data, -3, 0.5, None)
    launched = ((5, 2, 1), (128, 1, 1), 64, 9, 1, 6, 1, 77, values)
    assert library.launched == [launched] * (1 if status else 2)
    assert function.calls == (4 if status else 2)
    assert runtime.attributes == [(77, 9, 100)]  # all shared memory, as overlapping kernels need it
    runtime.launch(*given, shared=64, early=True)
    assert function.calls == (5 if status else 3)


def test_a_fused_kernel_of_a_graph_is_launched_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its part of shared memory: a source serves large arrays, too."""
    function, library = Function(), Driver(0)
    monkeypatch.setattr(driver, "driver", lambda: library)
    runtime, x = runtime_of(function), np.zeros(3, np.float32)
    runtime._functions |= {"one source": function, "another": function}
    given = ((5,), 256, x, 3, np.float64(0.5), None)
    runtime.launch_source("one source", *given, early=True)
    assert not library.launched  # for it is in no graph
    with runtime.capturing():
        runtime.launch_source("one source", *given)
        for source in ("one source", "another", "another"):
            runtime.launch_source(source, *given, early=True)
    launched = ((5, 1, 1), (256, 1, 1), 0, 9, 1, 6, 1, 77, (x.ctypes.data, 3, 0.5, None))
    assert library.launched == [launched] * 3
    assert function.calls == 2 and not runtime.attributes


@needs_compiler
def test_a_fused_kernel_of_many_blocks_is_not_launched_early() -> None:
    be, a = CudaBackend(0, Watched()), Draw("float32")
    expression = Expression((ElementwiseCall("neg", (Input(0),), "f"),), ("f",), (Result(0),))
    for blocks, early in ((FEW_BLOCKS, 1), (FEW_BLOCKS + 1, 0)):
        be.runtime.early.clear()
        be.fused(a(blocks * 1024), expression=expression)
        assert len(be.runtime.early) == early
