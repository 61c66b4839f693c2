"""cuBLAS and cuBLASLt for tests where no GPU is: functions of their C signatures, by NumPy.

Each is a C function made of a Python one, with the types of cublas_api.h and cublasLt.h, so that
what the backend passes goes through ctypes both ways. What the real libraries refuse is refused:
leading dimensions below the columns' length, a stream that has no workspace, memory that is none of
the arrays whose addresses were asked for. Where the real ones may add up parts of a sum in the type
of the result, for nobody forbade it, that is done; where they are less exact than their types
(GELU, sums of products of 8-bit floats), so are these.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable
from ctypes import POINTER, c_int, c_int64, c_longlong, c_size_t, c_uint64, c_void_p
from typing import Any

import ml_dtypes
import numpy as np

from support import fake_cupy

KINDS: dict[int, Any] = {
    0: np.float32, 1: np.float64, 2: np.float16, 14: ml_dtypes.bfloat16, 3: np.int8, 10: np.int32,
    28: ml_dtypes.float8_e4m3fn, 29: ml_dtypes.float8_e5m2,
}  # fmt: skip
COMPUTED = {68: np.float32, 77: np.float32, 70: np.float64, 72: np.int32}
INVALID_VALUE, INTERNAL_ERROR, NOT_SUPPORTED = 7, 14, 15

MATRIX = (c_void_p, c_int, c_int64)
BATCHED = (*MATRIX, c_longlong)
HEAD = (c_void_p, c_int, c_int, c_int64, c_int64, c_int64, c_void_p)
SET = (c_void_p, c_int, c_void_p, c_size_t)
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cublasCreate_v2": (POINTER(c_void_p),),
    "cublasSetStream_v2": (c_void_p, c_void_p),
    "cublasSetWorkspace_v2": (c_void_p, c_void_p, c_size_t),
    "cublasSetMathMode": (c_void_p, c_int),
    "cublasGemmEx_64": (*HEAD, *MATRIX, *MATRIX, c_void_p, *MATRIX, c_int, c_int),
    "cublasGemmStridedBatchedEx_64": (
        *HEAD, *BATCHED, *BATCHED, c_void_p, *BATCHED, c_int64, c_int, c_int,
    ),
    "cublasLtCreate": (POINTER(c_void_p),),
    "cublasLtMatmulDescCreate": (POINTER(c_void_p), c_int, c_int),
    "cublasLtMatmulDescSetAttribute": SET,
    "cublasLtMatmulDescDestroy": (c_void_p,),
    "cublasLtMatrixLayoutCreate": (POINTER(c_void_p), c_int, c_uint64, c_uint64, c_int64),
    "cublasLtMatrixLayoutSetAttribute": SET,
    "cublasLtMatrixLayoutDestroy": (c_void_p,),
    "cublasLtMatmulPreferenceCreate": (POINTER(c_void_p),),
    "cublasLtMatmulPreferenceSetAttribute": SET,
    "cublasLtMatmulPreferenceDestroy": (c_void_p,),
    "cublasLtMatmulAlgoGetHeuristic": (*(c_void_p,) * 7, c_int, c_void_p, POINTER(c_int)),
    "cublasLtMatmul": (*(c_void_p,) * 14, c_size_t, c_void_p),
}  # fmt: skip
"""Of cublas_api.h and cublasLt.h, CUDA 13; `test_cublas` looks for the names in the real ones."""
PRODUCTS = ("cublasGemmEx_64", "cublasGemmStridedBatchedEx_64", "cublasLtMatmul")
SIZES = (
    {1: 8, 3: 4, 5: 4, 6: 4, 7: 4, 8: 4},
    {3: 4, 4: 4, 7: 4, 8: 8, 17: 8, 18: 8, 25: 1},
    {5: 4, 6: 8},
)
"""Bytes of the attributes of a preference, an operation and a layout."""


class Refused(Exception):  # noqa: N818
    """A status that a call ends with."""


class Kept(threading.local):
    def __init__(self) -> None:
        self.arrays: list[Any] = []


class Library:
    """Both libraries.

    `calls` has the names of what was called, `launched` those of products; `failing` gives a
    function's name a status to end with; `has_epilogues`: whether cuBLASLt finds how to add a bias.
    """

    def __init__(self, launched: list[str] | None = None) -> None:
        self.calls: list[str] = []
        self.launched = [] if launched is None else launched
        self.computes: list[int] = []
        self.memory: dict[int, int] = {}  # bytes that lie at an address
        self._of_thread = Kept()
        self.failing: dict[str, int] = {}
        self.has_epilogues = True
        self.has_workspace = False
        self.objects: dict[int, dict[Any, Any]] = {}
        self.errors: list[BaseException] = []
        self._numbers = itertools.count(1 << 12)
        for name, types in SIGNATURES.items():
            setattr(self, name, ctypes.CFUNCTYPE(c_int, *types)(self._guarded(name)))

    @property
    def kept(self) -> list[Any]:
        """Arrays whose addresses this thread has asked for since its last product."""
        return self._of_thread.arrays

    def _guarded(self, name: str) -> Callable[..., int]:
        body = getattr(self, f"_{name.removesuffix('_64').removesuffix('_v2')}")

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name in PRODUCTS and fake_cupy.capture.work is not None:
                memory = list(self.kept)  # at the addresses that were given
                fake_cupy.capture.work.append(lambda: (call(*arguments), memory)[1])
                return 0
            if name in PRODUCTS:
                self.launched.append(name)
                self.kept.clear()
            if name in self.failing:
                return self.failing[name]
            try:
                body(*arguments)
            except Refused as refused:
                return int(refused.args[0])
            except BaseException as error:  # noqa: BLE001 (it cannot go through C)
                self.errors.append(error)
                return INTERNAL_ERROR
            return 0

        return call

    def _made(self, out: Any, **holds: Any) -> None:
        number = next(self._numbers)
        self.objects[number] = dict(holds)
        out[0] = number

    def _destroyed(self, number: int) -> None:
        del self.objects[number]

    # cuBLAS --------------------------------------------------------------------------------------

    def _cublasCreate(self, out: Any) -> None:  # noqa: N802
        self._made(out)

    def _cublasSetStream(self, handle: int, stream: int) -> None:  # noqa: N802
        self.objects[handle]["stream"], self.has_workspace = stream, False

    def _cublasSetWorkspace(self, handle: int, where: int, size: int) -> None:  # noqa: N802
        self._is_known(where, size)
        assert where % 256 == 0 or where % 16 == 0
        self.has_workspace = True

    def _cublasSetMathMode(self, handle: int, mode: int) -> None:  # noqa: N802
        self.objects[handle]["math"] = mode

    def _cublasGemmEx(  # noqa: N802
        self, handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int,
        a: int, a_kind: int, lda: int, b: int, b_kind: int, ldb: int, beta: int,
        c: int, c_kind: int, ldc: int, compute: int, algorithm: int,
    ) -> None:  # fmt: skip
        self._cublasGemmStridedBatchedEx(
            handle, ta, tb, m, n, k, alpha, a, a_kind, lda, 0, b, b_kind, ldb, 0, beta,
            c, c_kind, ldc, 0, 1, compute, algorithm,
        )  # fmt: skip

    def _cublasGemmStridedBatchedEx(  # noqa: N802
        self, handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int,
        a: int, a_kind: int, lda: int, stride_a: int, b: int, b_kind: int, ldb: int, stride_b: int,
        beta: int, c: int, c_kind: int, ldc: int, stride_c: int,
        batch: int, compute: int, algorithm: int,
    ) -> None:  # fmt: skip
        assert handle in self.objects and self.has_workspace and algorithm == -1
        assert a_kind == b_kind
        self.computes.append(compute)
        whole = self.objects[handle].get("math", 0) == 16
        for i in range(batch):
            self._product(
                (ta, tb), (m, n, k), (alpha, beta), compute, whole,
                (a + i * stride_a * _width(a_kind), a_kind, lda),
                (b + i * stride_b * _width(b_kind), b_kind, ldb),
                (c + i * stride_c * _width(c_kind), c_kind, ldc),
            )  # fmt: skip

    def _product(
        self, transposed: Any, sizes: Any, factors: Any, compute: int, whole: bool,
        a: Any, b: Any, c: Any,
        finish: Callable[[np.ndarray], np.ndarray] = lambda x: x,
    ) -> None:  # fmt: skip
        m, n, k = sizes
        wide = COMPUTED[compute]
        alpha, beta = (
            np.frombuffer(ctypes.string_at(at, np.dtype(wide).itemsize), wide)[0] for at in factors
        )
        assert (alpha, beta) == (1, 0)
        left = self._matrix(a, (m, k), transposed[0])
        right = self._matrix(b, (k, n), transposed[1])
        out = self._matrix(c, (m, n), 0)
        with np.errstate(all="ignore"):
            left, right = left.astype(wide), right.astype(wide)
            total = left @ right if a[1] not in FLOAT8 else _sum_by_hopper(left, right)
            if not whole:
                parts = (left[:, i::2] @ right[i::2] for i in (0, 1))
                total = sum(part.astype(out.dtype) for part in parts).astype(wide)
            out[...] = finish(total).astype(out.dtype)

    def _matrix(self, given: tuple[int, int, int], shape: Any, transposed: int) -> np.ndarray:
        """op(X), of `shape`, where it lies: by columns, the numbers of each side by side."""
        address, kind, leading = given
        if transposed not in (0, 1):
            raise Refused(INVALID_VALUE)
        rows, columns = shape[::-1] if transposed else shape
        if leading < max(1, rows) or min(rows, columns) < 0:
            raise Refused(INVALID_VALUE)
        dtype = np.dtype(KINDS[kind])
        assert address % dtype.itemsize == 0
        size = ((columns - 1) * leading + rows) * dtype.itemsize
        self._is_known(address, size)
        memory = (ctypes.c_char * size).from_address(address)
        held = np.frombuffer(memory, np.dtype(f"u{dtype.itemsize}"))  # NumPy's own: no float8
        x = np.lib.stride_tricks.as_strided(
            held, (rows, columns), (dtype.itemsize, leading * dtype.itemsize)
        ).view(dtype)
        return x.T if transposed else x

    def _is_known(self, address: int, size: int) -> None:
        if not any(start <= address and address + size <= start + held
                   for start, held in [*self.memory.items()]):  # fmt: skip
            raise AssertionError(f"{size} bytes at {address:#x} are of no array that was named")

    # cuBLASLt ------------------------------------------------------------------------------------

    _cublasLtCreate = _cublasLtMatmulPreferenceCreate = _cublasCreate  # noqa: N815
    _cublasLtMatmulDescDestroy = _cublasLtMatrixLayoutDestroy = _destroyed  # noqa: N815
    _cublasLtMatmulPreferenceDestroy = _destroyed  # noqa: N815

    def _cublasLtMatmulDescCreate(self, out: Any, compute: int, scale: int) -> None:  # noqa: N802
        assert scale == {68: 0, 77: 0, 70: 1, 72: 10}[compute]
        self._made(out, compute=compute)

    def _cublasLtMatrixLayoutCreate(  # noqa: N802
        self, out: Any, kind: int, rows: int, columns: int, leading: int
    ) -> None:
        if leading < rows:
            raise Refused(INVALID_VALUE)
        self._made(out, kind=kind, shape=(rows, columns), leading=leading)

    def _set(self, sizes: dict[int, int], number: int, name: int, at: int, size: int) -> None:
        if sizes.get(name) != size:
            raise Refused(INVALID_VALUE)
        self.objects[number][name] = int.from_bytes(ctypes.string_at(at, size), "little")

    def _cublasLtMatmulPreferenceSetAttribute(self, *given: int) -> None:  # noqa: N802
        self._set(SIZES[0], *given)

    def _cublasLtMatmulDescSetAttribute(self, *given: int) -> None:  # noqa: N802
        self._set(SIZES[1], *given)

    def _cublasLtMatrixLayoutSetAttribute(self, *given: int) -> None:  # noqa: N802
        self._set(SIZES[2], *given)

    def _cublasLtMatmulAlgoGetHeuristic(  # noqa: N802
        self, handle: int, operation: int, a: int, b: int, c: int, d: int, preference: int,
        requested: int, results: int, count: Any,
    ) -> None:  # fmt: skip
        asked = self.objects[preference]
        assert requested == 1 and set(asked) == {1, 3, 5, 6, 7, 8}
        assert all(asked[i].bit_count() == 1 for i in (5, 6, 7, 8))
        how, kinds = self.objects[operation], {self.objects[i]["kind"] for i in (a, b)}
        if not self.has_epilogues or kinds == {29}:
            raise Refused(NOT_SUPPORTED)
        if kinds & {28, 29} and (
            (how[3], how[4]) != (1, 0)
            or any(self.objects[i]["leading"] % 16 for i in (a, b, c))
            or min(asked[i] for i in (5, 6, 7)) < 16
        ):
            raise Refused(NOT_SUPPORTED)
        algorithm = (c_uint64 * 8)(*range(8))
        ctypes.memmove(results, algorithm, 64)
        ctypes.memmove(results + 64, (c_size_t * 1)(1024), 8)
        self.objects[operation]["alignments"] = [asked[i] for i in (5, 6, 7, 8)]
        self.objects[operation]["whole"] = asked[3] == 2
        count[0] = 1

    def _cublasLtMatmul(  # noqa: N802
        self, handle: int, operation: int, alpha: int, a: int, a_layout: int, b: int,
        b_layout: int, beta: int, c: int, c_layout: int, d: int, d_layout: int,
        algorithm: int, workspace: int, size: int, stream: int,
    ) -> None:  # fmt: skip
        assert handle in self.objects and c == d and c_layout == d_layout
        assert list((c_uint64 * 8).from_address(algorithm)) == list(range(8))
        assert size == 1024
        self._is_known(workspace, size)
        how, layouts = self.objects[operation], [self.objects[i] for i in (a_layout, b_layout)]
        of_out = self.objects[d_layout]
        bias = how[8]
        assert bool(bias) == bool(how[7] & 4)
        for address, aligned in zip((a, b, c | bias), how["alignments"], strict=False):
            assert address % aligned == 0
        (m, n), k = of_out["shape"], layouts[0]["shape"][1 - how[3]]
        assert layouts[0]["shape"] == ((k, m) if how[3] else (m, k))
        assert layouts[1]["shape"] == ((n, k) if how[4] else (k, n))
        assert all(layout[5] == 1 for layout in (*layouts, of_out))
        added = self._matrix((bias, of_out["kind"], m), (m, 1), 0) if bias else np.zeros((m, 1))
        scale = 1.0
        for at in filter(None, (how.get(17), how.get(18))):
            self._is_known(at, 4)
            scale *= float(np.frombuffer(ctypes.string_at(at, 4), np.float32)[0])
        self.computes.append(how["compute"])
        self._product(
            (how[3], how[4]), (m, n, k), (alpha, beta), how["compute"], how["whole"],
            *((at, layout["kind"], layout["leading"])
              for at, layout in zip((a, b, d), (*layouts, of_out), strict=True)),
            finish=lambda x: EPILOGUES[how[7]](x.dtype.type(scale) * x + added.astype(x.dtype)),
        )  # fmt: skip


FLOAT8 = 28, 29
STEP, PROMOTED, KEPT_BITS = 32, 128, 14
"""Columns that one instruction of a Hopper multiplies and adds up, those after which sums go on in
float32, and the bits below the largest that are kept of each product until then."""


def _sum_by_hopper(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left @ right, as tensor cores of 2022 add up products of 8-bit floats: what of a product, or
    of the sum so far, lies `KEPT_BITS` below the largest of them is cut off."""
    total = np.zeros((left.shape[0], right.shape[1]), left.dtype)
    for chunk in range(0, left.shape[1], PROMOTED):
        part = np.zeros_like(total)
        for start in range(chunk, min(chunk + PROMOTED, left.shape[1]), STEP):
            at = slice(start, start + STEP)
            terms = left[:, at].T[:, :, None] * right[at][:, None]
            terms = np.concatenate([part[None], terms])
            _, exponent = np.frexp(np.nan_to_num(np.abs(terms)).max(0))
            unit = np.ldexp(left.dtype.type(1), exponent - 1 - KEPT_BITS)
            part = (np.trunc(terms / unit) * unit).sum(0)
        total += part
    return total


HALF_ROOT = float(np.float32(np.sqrt(2 / np.pi)))
"""sqrt(2 / pi) as cuBLASLt has it, for float64, too."""

EPILOGUES: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    4: lambda x: x,
    6: lambda x: np.maximum(x, 0),
    36: lambda x: x * 0.5 * (1 + np.tanh(HALF_ROOT * (x + 0.044715 * x**3))),
}


def _width(kind: int) -> int:
    return np.dtype(KINDS[kind]).itemsize
