"""The host's time for calls on a GPU, measured without a GPU.

CuPy's own arrays, which it makes without a driver, over memory that nothing reads; functions of
Python and C that do nothing replace the driver's and cuBLAS's. So the timed work is the host's own:
ops and graph, choice of kernels, arrays, packed arguments, calls of ctypes. It does not include
the time of the driver and of CuPy's memory pool: on an H100 some 2 to 3 microseconds a
launch and 1 an array. Calls that run CuPy's own kernels (integers, mixed dtypes) cannot be measured
so.
"""

from __future__ import annotations

import ctypes
import operator
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np

import gradient
import gradient.functional as F
from bench.cases import Options
from bench.machine import installed
from bench.result import Result
from gradient import backends, optim
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.cublas import Cublas
from gradient.backends.cuda.cublas_lt import CublasLt
from gradient.backends.cuda.runtime import CupyRuntime

DEVICE = "idlecuda"
CALLS = 200  # a sample
ADDRESSES, STEP = 1 << 40, 1 << 12
"""Where the memory of arrays begins, and what the addresses of arrays are multiples of; STEP is any
handle, too."""
NUMBERS = {int, np.float32, np.float64, np.int64}


def run(options: Options) -> Iterator[Result]:
    if not installed("cupy"):
        return
    runtime: Any = IdleRuntime()
    backend = CudaBackend(0, runtime)
    backend.device = DEVICE
    backends.register(DEVICE, lambda index: backend)
    for what, call in calls().items():
        if not options.wants(what):
            continue
        call()  # work that is done only once does not count
        note = f"{counted(runtime, call)}; {steps(call):,} instructions of Python"
        samples = []
        for _ in range(options.rounds(30)):
            began = time.thread_time()
            for _ in range(CALLS):
                call()
            samples.append((time.thread_time() - began) / CALLS * 1e6)
        yield Result(
            case="gpu-host",
            what=what,
            contender="gradient",
            value=median(samples),
            unit="us",
            best=min(samples),
            samples=len(samples),
            note=note,
        )


def calls() -> dict[str, Callable[[], object]]:
    """Calls of a training step of GPT-2 in bfloat16, and others."""
    rows, width, classes = 16 * 1024, 768, 50257

    def made(*shape: int, dtype: Any = gradient.bfloat16, grad: bool = False) -> gradient.Tensor:
        return gradient.empty(*shape, dtype=dtype, device=DEVICE, requires_grad=grad)

    def alone(function: Callable[[], object]) -> Callable[[], object]:
        def call() -> None:
            with gradient.no_grad():
                function()

        return call

    def both(function: Callable[[], Any], *leaves: gradient.Tensor) -> Callable[[], object]:
        g = made(*function().shape, dtype=function().dtype)

        def call() -> None:
            for leaf in leaves:
                leaf.grad = None
            function().backward(g)

        return call

    found: dict[str, Callable[[], object]] = {}

    def case(name: str, function: Callable[[], Any], *leaves: gradient.Tensor) -> None:
        found[name] = alone(function)
        if leaves:
            found[f"{name}, and gradients"] = both(function, *leaves)

    a, b, row = (made(rows, width, dtype=gradient.float32) for _ in range(3))
    row = made(width, dtype=gradient.float32)
    half = made(rows, width)
    mask = made(rows, width, dtype=gradient.bool)
    for name, function in {
        "x + y": lambda: a + b,
        "x * 2": lambda: a * 2,
        "1 - x": lambda: 1 - a,
        "x > 0": lambda: a > 0,
        "x + y of one row": lambda: a + row,
        "x + y of bfloat16": lambda: half + half,
        "x * 2 of bfloat16": lambda: half * 2,
        "x.exp()": lambda: a.exp(),
        "-x": lambda: -a,
        "x ** 2": lambda: a**2,
        "maximum(x, y)": lambda: gradient.maximum(a, b),
        "where(mask, x, y)": lambda: gradient.where(mask, a, b),
        "x += y": lambda: operator.iadd(a, b),
        "x.add_(y)": lambda: a.add_(b),
        "mask.float()": lambda: mask.float(),
        "zeros": lambda: gradient.zeros(rows, width, device=DEVICE),
        "ones": lambda: gradient.ones(rows, width, device=DEVICE),
    }.items():
        case(name, function)
    x = made(rows, width, grad=True)
    norm_weight, norm_bias = (made(width, grad=True) for _ in range(2))
    case("layer norm", lambda: F.layer_norm(x, (width,), norm_weight, norm_bias),
         x, norm_weight, norm_bias)  # fmt: skip
    case("RMS norm", lambda: F.rms_norm(x, (width,), norm_weight), x, norm_weight)
    weight, bias = made(4 * width, width, grad=True), made(4 * width, grad=True)
    case("linear layer with a bias", lambda: F.linear(x, weight, bias), x, weight, bias)
    other = made(4 * width, width, grad=True)
    case("linear layer", lambda: F.linear(x, other), x, other)
    case("GELU", lambda: F.gelu(x, approximate="tanh"), x)
    q, k, v = (made(16, 12, 1024, 64, grad=True) for _ in range(3))
    attend = F.scaled_dot_product_attention
    case("attention", lambda: attend(q, k, v, is_causal=True), q, k, v)
    case("dropout", lambda: F.dropout(x, 0.1), x)
    logits = made(1024, classes, grad=True)
    target = made(1024, dtype=gradient.int64)
    case("cross-entropy", lambda: F.cross_entropy(logits, target, reduction="none"), logits)
    table, ids = made(classes, width, grad=True), made(rows, dtype=gradient.int64)
    found["gradient of an embedding"] = lambda: table.backend.embedding_grad(
        x.array, ids.array, classes
    )
    few, places, values = made(5, width), made(50, dtype=gradient.int64), made(50, width)
    case("index_add_ of 50 rows", lambda: few.index_add_(0, places, values))
    image = made(64, 256, 14, 14, grad=True)
    for what, kernel in (("3 x 3", made(256, 256, 3, 3, grad=True)),
                         ("depthwise", made(256, 1, 3, 3, grad=True))):  # fmt: skip
        convolve = partial(F.conv2d, image, kernel, padding=1, groups=256 // kernel.shape[1])
        case(f"convolution, {what}", convolve, image, kernel)
    case("sum of all", lambda: x.sum())
    case("softmax", lambda: F.softmax(x, -1), x)
    parameters = [made(width, width, grad=True) for _ in range(16)]
    for p in parameters:
        p.grad = made(width, width)
    optimizer = optim.AdamW(parameters, lr=1e-3)
    found["AdamW over 16 tensors"] = optimizer.step
    mlp = gradient.nn.Sequential(
        gradient.nn.Linear(256, 512, device=DEVICE),
        gradient.nn.ReLU(),
        gradient.nn.Linear(512, 10, device=DEVICE),
    )
    inputs = made(64, 256, dtype=gradient.float32)
    labels = made(64, dtype=gradient.int64)
    of_mlp = optim.AdamW(mlp.parameters(), lr=1e-3)

    def step() -> None:
        of_mlp.zero_grad()
        F.cross_entropy(mlp(inputs), labels).backward()
        of_mlp.step()

    found["a step of an MLP (256, 512, 10) with AdamW"] = step
    return found


class IdleRuntime(CupyRuntime):
    """CuPy's arrays, for a GPU that does nothing."""

    def __init__(self) -> None:
        import cupy

        memory = cupy.cuda.memory
        nobodys = memory.UnownedMemory(ADDRESSES, 1 << 41, None, 0)

        self.allocated = self.arrays = 0

        def allocate(size: int) -> Any:
            begin = self.allocated
            self.allocated = (begin + (size // STEP + 1) * STEP) % (1 << 40)
            self.arrays += 1
            return memory.MemoryPointer(nobodys, begin)

        cupy.cuda.set_allocator(allocate)
        self._begin(_idle(cupy), 0, 1)
        self._device = SimpleNamespace(
            compute_capability="90",
            use=lambda: None,
            attributes={"MaxSharedMemoryPerBlockOptin": 227 << 10, "MultiProcessorCount": 132},
        )
        self.blas = Cublas(self, IdleLibrary())
        self.blas_lt = CublasLt(self, self.blas, IdleLibrary())

    def _load(self, family: str, name: str, dtype: str) -> Any:
        function = self._functions[name] = IdleFunction()
        return function

    def clear(self, x: Any) -> None:
        pass


class IdleFunction:
    """What CuPy's function does with its arguments, by parts of CuPy: of numbers it makes what
    points to them, in some 0.25 us; what points already it takes in 0.02."""

    ptr = STEP

    def __init__(self) -> None:
        from cupy._core._scalar import CScalar

        self._number = CScalar

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], values: Any, shared_mem: int = 0
    ) -> None:
        number = self._number
        for value in values:
            if type(value) in NUMBERS:
                number(value)


def _idle(cupy: Any) -> Any:
    """The module, with replacements for functions that need a driver."""
    stream = SimpleNamespace(ptr=0)
    cuda = SimpleNamespace(
        function=cupy.cuda.function,
        driver=SimpleNamespace(funcSetAttribute=max, CUDADriverError=RuntimeError),
        get_current_stream=lambda: stream,
        runtime=SimpleNamespace(getDevice=int, memcpyAsync=max, memcpyDeviceToDevice=3),
        Device=cupy.cuda.Device,
    )
    made = SimpleNamespace(**vars(cupy))
    made.cuda, made.zeros, made.empty = cuda, cupy.ndarray, cupy.ndarray
    return made


class IdleLibrary:
    """Replaces cuBLAS and cuBLASLt. (`isascii` of a handle returns 0, success.)"""

    def __getattr__(self, name: str) -> Any:
        if "Create" in name:
            return lambda out, *_: _put(out, STEP)
        if name.endswith("GetHeuristic"):
            return lambda *given: _put(given[-1], 1)
        return ctypes.CDLL(None)["isascii"]


def _put(where: Any, value: int) -> int:
    """Write to the target of a ctypes pointer; return 0, success."""
    where._obj.value = value
    return 0


def steps(call: Callable[[], object]) -> int:
    """Interpreter instructions of a call, without those of this file."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode" and frame.f_code.co_filename != __file__
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return count


def counted(runtime: Any, call: Callable[[], object]) -> str:
    """The number of kernels and products that a call queues, and of arrays that it makes."""
    counts = dict.fromkeys(("kernels", "products"), 0)
    arrays = runtime.arrays

    def counting(of: Any, method: str, what: str) -> Callable[[], None]:
        function = getattr(of, method)

        def call(*args: Any, **options: Any) -> Any:
            counts[what] += 1
            return function(*args, **options)

        setattr(of, method, call)
        return lambda: setattr(of, method, function)

    undo = [
        counting(IdleFunction, "__call__", "kernels"),
        counting(runtime.blas, "multiply", "products"),
        counting(runtime.blas_lt, "multiply", "products"),
    ]
    call()
    for each in undo:
        each()
    counts["arrays"] = runtime.arrays - arrays
    return ", ".join(f"{n} {what}" for what, n in counts.items() if n)
