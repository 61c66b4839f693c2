"""cuBLAS by its C interface: products of matrices of any layout, without a copy.

CuPy's own products copy transposed operands, do not support bfloat16 with more than two axes, and
cannot be captured in a graph, as cuBLAS allocates memory during a call. Here each stream has a
workspace of fixed size from the start, so a call only queues work.

cuBLAS uses column-major order. A row-major result (M, N) is there its transpose (N, M), so the call
computes C^T = B^T A^T: the operands are exchanged, and none is copied.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, NamedTuple

import numpy as np

from gradient.backends import matmul_precision
from gradient.dtypes import bfloat16, float16, float32, float64, int8
from gradient.errors import BackendError, DeviceError

OP_N, OP_T = 0, 1
DEFAULT_ALGORITHM = -1
COMPUTE_32F, COMPUTE_64F, COMPUTE_32I, COMPUTE_32F_FAST_TF32 = 68, 70, 72, 77
"""`cublasOperation_t`, `cublasGemmAlgo_t` and `cublasComputeType_t` of cublas_api.h."""

NO_REDUCED_SUMS = 16
"""`CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION` of `cublasMath_t`: where a sum is divided
among blocks, its parts stay in the type that they are added up in."""

WORKSPACE = 32 << 20
"""Bytes of each stream's workspace: what NVIDIA asks for on a Hopper GPU, and more than others
need."""

STATUS = {
    1: ("CUBLAS_STATUS_NOT_INITIALIZED", "the GPU could not be set up: is its memory full?"),
    3: ("CUBLAS_STATUS_ALLOC_FAILED", "the GPU's memory is full"),
    7: ("CUBLAS_STATUS_INVALID_VALUE", "sizes or leading dimensions that it does not take"),
    8: ("CUBLAS_STATUS_ARCH_MISMATCH", "this GPU has no such product"),
    11: ("CUBLAS_STATUS_MAPPING_ERROR", "an earlier kernel failed"),
    13: ("CUBLAS_STATUS_EXECUTION_FAILED", "an earlier kernel failed, or this one"),
    14: ("CUBLAS_STATUS_INTERNAL_ERROR", "an earlier kernel failed, or memory is short"),
    15: ("CUBLAS_STATUS_NOT_SUPPORTED", "it has no such product"),
    16: ("CUBLAS_STATUS_LICENSE_ERROR", "its licence was not found"),
}
"""`cublasStatus_t`: the names, and what they mean of a product."""
NOT_SUPPORTED = 15


class Number(NamedTuple):
    """The types of a product: the `cudaDataType` of operands and of the result, the compute type,
    and the addresses of 1 and 0 in it."""

    kind: int
    result: int
    compute: int
    scale: int
    one: int
    zero: int


_constants: list[Any] = []
"""Keeps the ones and zeros where their addresses say they are."""


def _number(kind: int, result: int, compute: int, scale: int, c_type: Any) -> Number:
    _constants.extend(found := (c_type(1), c_type(0)))
    return Number(kind, result, compute, scale, *map(ctypes.addressof, found))


NUMBERS = {
    float32.numpy: _number(0, 0, COMPUTE_32F, 0, ctypes.c_float),
    float64.numpy: _number(1, 1, COMPUTE_64F, 1, ctypes.c_double),
    float16.numpy: _number(2, 2, COMPUTE_32F, 0, ctypes.c_float),
    bfloat16.numpy: _number(14, 14, COMPUTE_32F, 0, ctypes.c_float),
    int8.numpy: _number(3, 10, COMPUTE_32I, 10, ctypes.c_int32),
}
"""By dtype. 16-bit floats are added up in float32, int8 in int32, which the result has too."""


def number_of(dtype: np.dtype) -> Number:
    """The types for a dtype now; `set_float32_matmul_precision` decides on TF32."""
    number = NUMBERS[dtype]
    if dtype == float32.numpy and matmul_precision.allows_tf32():
        return number._replace(compute=COMPUTE_32F_FAST_TF32)
    return number


class Operand(NamedTuple):
    """A matrix for cuBLAS: column-major with leading dimension `leading`, or `transposed`; and the
    stride from one matrix of a batch to the next, in elements."""

    address: int
    transposed: bool
    leading: int
    stride: int = 0


class Sizes(NamedTuple):
    """The sizes of a product (m, k) @ (k, n), in column-major order; and the batch size."""

    m: int
    n: int
    k: int
    batch: int = 1


class Cublas:
    """cuBLAS on one GPU.

    runtime    `CupyRuntime`: the current stream, memory, and a context of its device
    library    the library's functions; None: load it from NVIDIA's packages or the CUDA toolkit, as
               CuPy does
    """

    def __init__(self, runtime: Any, library: Any = None):
        self._runtime = runtime
        library = load("cublas") if library is None else library
        pointer, integer, count = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
        matrix = (pointer, integer, count)
        batched = (*matrix, ctypes.c_longlong)
        head = (pointer, integer, integer, count, count, count, pointer)
        tail = (integer, integer)
        self._gemm = bind(
            library, "cublasGemmEx_64", *head, *matrix, *matrix, pointer, *matrix, *tail
        )
        self._gemm_batched = bind(
            library, "cublasGemmStridedBatchedEx_64",
            *head, *batched, *batched, pointer, *batched, count, *tail,
        )  # fmt: skip
        self._set_stream = bind(library, "cublasSetStream_v2", pointer, pointer)
        self._set_workspace = bind(
            library, "cublasSetWorkspace_v2", pointer, pointer, ctypes.c_size_t
        )
        set_math = bind(library, "cublasSetMathMode", pointer, integer)
        create = bind(library, "cublasCreate_v2", ctypes.POINTER(pointer))
        self._lock = threading.Lock()  # only one thread at a time may use a handle
        self._stream: int | None = None
        self._workspaces: dict[int, Any] = {}
        handle = pointer()
        with runtime.on_device():
            check("cublasCreate", create(ctypes.byref(handle)))
            check("cublasSetMathMode", set_math(handle, NO_REDUCED_SUMS))
        self._handle = handle

    def workspace(self, stream: int) -> int:
        """The address of a stream's workspace. Call this before a capture begins on the stream, so
        that no memory is allocated during it."""
        if stream not in self._workspaces:
            self._workspaces[stream] = self._runtime.reserve(WORKSPACE)
        return self._runtime.address(self._workspaces[stream])

    def multiply(self, dtype: np.dtype, sizes: Sizes, a: Operand, b: Operand, c: Operand) -> None:
        """Queue c = a @ b on the current stream, of operands of `dtype`; by columns."""
        number = number_of(dtype)
        with self._lock, self._runtime.on_device():
            self._use(self._runtime.stream())
            if sizes.batch == 1:
                status = self._gemm(
                    self._handle, int(a.transposed), int(b.transposed), *sizes[:3], number.one,
                    a.address, number.kind, a.leading, b.address, number.kind, b.leading,
                    number.zero, c.address, number.result, c.leading,
                    number.compute, DEFAULT_ALGORITHM,
                )  # fmt: skip
            else:
                status = self._gemm_batched(
                    self._handle, int(a.transposed), int(b.transposed), *sizes[:3], number.one,
                    a.address, number.kind, a.leading, a.stride,
                    b.address, number.kind, b.leading, b.stride,
                    number.zero, c.address, number.result, c.leading, c.stride,
                    sizes.batch, number.compute, DEFAULT_ALGORITHM,
                )  # fmt: skip
        if status:
            check(f"a product of {dtype} matrices, {sizes}", status)

    def _use(self, stream: int) -> None:
        """Queue the next calls on a stream. (Setting a stream resets the workspace.)"""
        if stream == self._stream:
            return
        where = self.workspace(stream)
        check("cublasSetStream", self._set_stream(self._handle, stream))
        check("cublasSetWorkspace", self._set_workspace(self._handle, where, WORKSPACE))
        self._stream = stream


def bind(library: Any, name: str, *types: Any) -> Any:
    """A function of a library that returns a `cublasStatus_t`, with its argument types."""
    try:
        function = getattr(library, name)
    except AttributeError:
        raise DeviceError(f"cuBLAS has no {name}: expected the one of CUDA 12 or later") from None
    function.argtypes, function.restype = types, ctypes.c_int
    return function


def load(name: str) -> Any:
    """Load NVIDIA's library "cublas" or "cublasLt", from its package or the CUDA toolkit."""
    from cuda import pathfinder

    try:
        return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib(name).abs_path)
    except (pathfinder.DynamicLibNotFoundError, OSError) as error:
        raise DeviceError(
            f"{name} was not found; pip install 'gradient-dl[cuda13]' (or cuda12, by your driver)"
        ) from error


def check(what: str, status: int) -> None:
    """Raise an error if cuBLAS failed, with the call, the status code and its meaning."""
    if status:
        name, meaning = STATUS.get(status, (f"status {status}", "a code that is not documented"))
        raise BackendError(f"cuBLAS refused {what}: {name}, {meaning}")
