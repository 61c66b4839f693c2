"""cuBLASLt by its C interface: products with an epilogue (a bias and an activation).

The epilogue is applied to the float32 sums, and the result is rounded once. The heuristic is asked
once for each kind of product, and its choice is cached.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.cuda.cublas import (
    NOT_SUPPORTED,
    NUMBERS,
    OP_N,
    OP_T,
    WORKSPACE,
    Operand,
    Sizes,
    bind,
    check,
    load,
    number_of,
)

EPILOGUE_NONE, EPILOGUE_BIAS, EPILOGUE_RELU_BIAS, EPILOGUE_GELU_BIAS = 1, 4, 6, 36
"""`cublasLtEpilogue_t`. GELU is the approximation by tanh."""
DESC_TRANSA, DESC_TRANSB, DESC_EPILOGUE, DESC_BIAS_POINTER = 3, 4, 7, 8
DESC_A_SCALE_POINTER, DESC_B_SCALE_POINTER, DESC_FAST_ACCUM = 17, 18, 25
LAYOUT_BATCH_COUNT, LAYOUT_STRIDED_BATCH_OFFSET = 5, 6
PREF_MAX_WORKSPACE_BYTES, PREF_REDUCTION_SCHEMES, PREF_MIN_ALIGNMENT_BYTES = 1, 3, (5, 6, 7, 8)
"""Attributes of cublasLt.h; the alignments are those of A, B, C and D."""
REDUCED_AS_COMPUTED = 2
"""`CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE`: where a sum is divided among blocks, its parts
stay in the type that they are added up in."""
MAX_ALIGNMENT = 256
PLANS_KEPT = 512


class HeuristicResult(ctypes.Structure):
    """`cublasLtMatmulHeuristicResult_t`."""

    _fields_ = (
        ("algo", ctypes.c_uint64 * 8),
        ("workspaceSize", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("wavesCount", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


class Plan(NamedTuple):
    """The plan of a kind of product: cuBLASLt's descriptors, and the algorithm of its heuristic."""

    operation: ctypes.c_void_p
    layouts: tuple[ctypes.c_void_p, ...]
    found: HeuristicResult
    algorithm: int
    """Where what was found lies."""


class Float8Operands(NamedTuple):
    """The operands of a product of 8-bit floats: the `cudaDataType` of A and of B, the addresses of
    their float32 scales (0: none), and whether sums may be accumulated in fewer bits.

    In such products A must be transposed, and B not.
    """

    kinds: tuple[int, int]
    scales: tuple[int, int] = (0, 0)
    fast: bool = False


class CublasLt:
    """cuBLASLt on one GPU. Arguments as of `Cublas`; `blas` has the streams' workspaces."""

    def __init__(self, runtime: Any, blas: Any, library: Any = None):
        self._runtime, self._blas = runtime, blas
        library = load("cublasLt") if library is None else library
        pointer, integer, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
        new, set_types = ctypes.POINTER(pointer), (pointer, integer, pointer, size)
        self._new_operation = bind(library, "cublasLtMatmulDescCreate", new, integer, integer)
        self._set_operation = bind(library, "cublasLtMatmulDescSetAttribute", *set_types)
        self._free_operation = bind(library, "cublasLtMatmulDescDestroy", pointer)
        self._new_layout = bind(
            library, "cublasLtMatrixLayoutCreate",
            new, integer, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64,
        )  # fmt: skip
        self._set_layout = bind(library, "cublasLtMatrixLayoutSetAttribute", *set_types)
        self._free_layout = bind(library, "cublasLtMatrixLayoutDestroy", pointer)
        self._new_preference = bind(library, "cublasLtMatmulPreferenceCreate", new)
        self._set_preference = bind(library, "cublasLtMatmulPreferenceSetAttribute", *set_types)
        self._free_preference = bind(library, "cublasLtMatmulPreferenceDestroy", pointer)
        self._choose = bind(
            library, "cublasLtMatmulAlgoGetHeuristic", *(pointer,) * 7, integer,
            ctypes.POINTER(HeuristicResult), ctypes.POINTER(integer),
        )  # fmt: skip
        self._multiply = bind(library, "cublasLtMatmul", *(pointer,) * 14, size, pointer)
        create = bind(library, "cublasLtCreate", new)
        self._lock = threading.Lock()
        self._plans: dict[tuple[Any, ...], Plan | None] = {}
        with runtime.on_device():
            self._handle = _made("cublasLtCreate", create)

    def multiply(
        self,
        dtype: np.dtype,
        sizes: Sizes,
        a: Operand,
        b: Operand,
        c: Operand,
        bias: int,
        epilogue: int = EPILOGUE_BIAS,
        float8: Float8Operands | None = None,
    ) -> bool:
        """Queue c = activation(a @ b + bias) on the current stream, in column-major order. `bias`
        is the address of m numbers, one for each row, or 0 (`EPILOGUE_NONE`). `dtype` is the
        result's, and the operands' unless they are `float8`. Return False if cuBLASLt has no such
        product."""
        number = number_of(dtype) if float8 is None else NUMBERS[dtype]
        key = (
            dtype, number.compute, sizes, epilogue, float8 and (float8.kinds, float8.fast),
            a[1:], b[1:], c[1:],
            _alignment(a.address), _alignment(b.address), _alignment(c.address | bias),
        )  # fmt: skip
        with self._lock, self._runtime.on_device():
            try:
                plan = self._plans[key]
            except KeyError:
                plan = self._plan(key, number, sizes, (a, b, c), bias, epilogue, float8)
                self._keep(key, plan)
            if plan is None:
                return False
            stream = self._runtime.stream()
            self._point(plan.operation, bias, float8)
            status = self._multiply(
                self._handle, plan.operation, number.one, a.address, plan.layouts[0],
                b.address, plan.layouts[1], number.zero, c.address, plan.layouts[2],
                c.address, plan.layouts[2], plan.algorithm,
                self._blas.workspace(stream), plan.found.workspaceSize, stream,
            )  # fmt: skip
        if status:
            check(f"a product of {dtype} matrices, {sizes}, with a bias", status)
        return True

    def _plan(
        self,
        key: tuple[Any, ...],
        number: Any,
        sizes: Sizes,
        operands: tuple[Operand, ...],
        bias: int,
        epilogue: int,
        float8: Float8Operands | None,
    ) -> Plan | None:
        """The plan of cuBLASLt's heuristic; None if it has no algorithm."""
        operation = _made(
            "cublasLtMatmulDescCreate", self._new_operation, number.compute, number.scale
        )
        for name, operand in zip((DESC_TRANSA, DESC_TRANSB), operands, strict=False):
            value = ctypes.c_int(OP_T if operand.transposed else OP_N)
            _set(self._set_operation, operation, name, value)
        _set(self._set_operation, operation, DESC_EPILOGUE, ctypes.c_int(epilogue))
        self._point(operation, bias, float8)
        kinds = (number.kind,) * 3
        if float8 is not None:
            kinds = (*float8.kinds, number.kind)
            _set(self._set_operation, operation, DESC_FAST_ACCUM, ctypes.c_int8(float8.fast))
        m, n, k, batch = sizes
        layouts = []
        for kind, shape, operand in zip(kinds, ((m, k), (k, n), (m, n)), operands, strict=True):
            rows, columns = reversed(shape) if operand.transposed else shape
            layout = _made(
                "cublasLtMatrixLayoutCreate", self._new_layout,
                kind, rows, columns, operand.leading,
            )  # fmt: skip
            _set(self._set_layout, layout, LAYOUT_BATCH_COUNT, ctypes.c_int32(batch))
            _set(
                self._set_layout, layout, LAYOUT_STRIDED_BATCH_OFFSET,
                ctypes.c_int64(operand.stride),
            )  # fmt: skip
            layouts.append(layout)
        preference = _made("cublasLtMatmulPreferenceCreate", self._new_preference)
        _set(self._set_preference, preference, PREF_MAX_WORKSPACE_BYTES, ctypes.c_size_t(WORKSPACE))
        schemes = ctypes.c_uint32(REDUCED_AS_COMPUTED)
        _set(self._set_preference, preference, PREF_REDUCTION_SCHEMES, schemes)
        alignments = (*key[-3:], key[-1])
        for name, alignment in zip(PREF_MIN_ALIGNMENT_BYTES, alignments, strict=True):
            _set(self._set_preference, preference, name, ctypes.c_uint32(alignment))
        found, count = HeuristicResult(), ctypes.c_int(0)
        status = self._choose(
            self._handle, operation, *layouts, layouts[2], preference, 1,
            ctypes.byref(found), ctypes.byref(count),
        )  # fmt: skip
        self._free_preference(preference)
        plan = Plan(operation, tuple(layouts), found, ctypes.addressof(found))
        if status == NOT_SUPPORTED or (status == 0 and count.value == 0):
            self._free(plan)
            return None
        check(f"to plan a product of {sizes}", status)
        return plan

    def _point(self, operation: Any, bias: int, float8: Float8Operands | None) -> None:
        """Set the addresses of a product's bias and scales."""
        _set(self._set_operation, operation, DESC_BIAS_POINTER, ctypes.c_void_p(bias))
        if float8 is not None:
            a, b = map(ctypes.c_void_p, float8.scales)
            _set(self._set_operation, operation, DESC_A_SCALE_POINTER, a)
            _set(self._set_operation, operation, DESC_B_SCALE_POINTER, b)

    def _keep(self, key: tuple[Any, ...], plan: Plan | None) -> None:
        while len(self._plans) >= PLANS_KEPT:
            oldest = self._plans.pop(next(iter(self._plans)))
            if oldest is not None:
                self._free(oldest)
        self._plans[key] = plan

    def _free(self, plan: Plan) -> None:
        self._free_operation(plan.operation)
        for layout in plan.layouts:
            self._free_layout(layout)


def _made(name: str, create: Any, *arguments: Any) -> ctypes.c_void_p:
    """Call a function of the library that creates an object; return its handle."""
    made = ctypes.c_void_p()
    check(name, create(ctypes.byref(made), *arguments))
    return made


def _set(function: Any, of: ctypes.c_void_p, name: int, value: Any) -> None:
    status = function(of, name, ctypes.addressof(value), ctypes.sizeof(value))
    if status:
        check(f"attribute {name} of a product", status)


def _alignment(address: int) -> int:
    """The alignment of an address: a power of two, at most 256."""
    return min(address & -address, MAX_ALIGNMENT) if address else MAX_ALIGNMENT
