"""Matrix products on the pool's threads, with the BLAS library limited to one thread a call.

NumPy's usual library, OpenBLAS, has its own threads, which spin for a while after each product.
They would take processors from the kernels between products (with two cores, a kernel then takes
twice as long). And the last bits of a product depend on their number. So large products are split
here into parts of a fixed size, one BLAS call each. Other libraries (Accelerate, MKL) keep their
own threads.
"""

from __future__ import annotations

import ctypes
import functools
import glob
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.numpy import threads
from gradient.backends.packed import PackedArray
from gradient.locks import new_lock

ONE_THREAD = 1 << 18
"""Multiplications up to which OpenBLAS itself uses one thread."""
MANY_THREADS = 1 << 24
"""Multiplications from which waking the pool pays."""

_TYPES = frozenset(map(np.dtype, "fdFD"))
"""Of numbers that OpenBLAS multiplies."""


class MatmulOnThreads(AttentionDefaults[np.ndarray]):
    """Overrides of the matrix products."""

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if _large(a, b) and openblas() is not None:
            return matmul(a, b)
        if a.dtype.kind == "c" and openblas() is not None:
            # OpenBLAS shares out those of 4096 multiplications, each matrix of a batch by itself.
            with one_blas_thread():
                return super().matmul(a, b)
        return super().matmul(a, b)

    def linear(
        self, x: np.ndarray, weight: np.ndarray | PackedArray, bias: np.ndarray | None = None
    ) -> np.ndarray:
        """Add the bias while each part of the product is still in the cache."""
        if (
            bias is None
            or bias.dtype != x.dtype
            or isinstance(weight, PackedArray)
            or not _large(x, weight, transposed=True)
            or openblas() is None
        ):
            return super().linear(x, weight, bias)
        y = matmul(x.reshape(-1, x.shape[-1]), weight.T, bias)
        return y.reshape(*x.shape[:-1], weight.shape[0])


def _large(a: np.ndarray, b: np.ndarray, transposed: bool = False) -> bool:
    """Whether OpenBLAS would use its own threads for `a @ b` (or `a @ b.T`)."""
    columns = b.shape[-2 if transposed else -1] if b.ndim > 1 else 0
    return (
        a.size * columns > ONE_THREAD
        and b.size > 0
        and a.ndim > 1
        and a.dtype == b.dtype
        and a.dtype in _TYPES
        and a.shape[-1] == b.shape[-1 if transposed else -2]
    )


def as_rows(a: Any, b: Any) -> np.ndarray | None:
    """The rows of all matrices of `a`, if each is multiplied by the same matrix b: one product of
    many rows takes less time than many of few. None if that needs a copy."""
    if a.ndim < 3 or b.ndim != 2 or type(a) is not np.ndarray:
        return None
    if not a.flags.c_contiguous or a.size == 0 or a.dtype.char not in "fd":
        return None
    rows: np.ndarray = a.reshape(-1, a.shape[-1])
    return rows


def are_outer(a: Any, b: Any) -> bool:
    """Whether several products are each of one column and one row: NumPy multiplies matrix after
    matrix by a slow loop."""
    return (
        a.ndim > 2
        and b.ndim > 1
        and a.shape[-1] == 1 == b.shape[-2]
        and type(a) is type(b) is np.ndarray
        and a.dtype == b.dtype
        and a.dtype.char in "fd"
    )


def matmul(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """a (..., M, K) @ b (..., K, N) (+ bias (N,)), computed in parts along the leading axis of a
    batch, else along the longer of M and N. The result is written to `out`, if given."""
    if a.ndim == b.ndim == 2 and a.size * b.shape[1] < MANY_THREADS:
        with one_blas_thread():  # in one part
            out = np.matmul(a, b, out)
        return out if bias is None else np.add(out, bias, out)
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    if out is None:
        out = np.empty(shape, a.dtype)
    if out.ndim > 2:
        a = np.broadcast_to(a, shape[:-2] + a.shape[-2:])
        b = np.broadcast_to(b, shape[:-2] + b.shape[-2:])
        if shape[0] == 1:
            matmul(a[0], b[0], bias, out[0])
            return out
        size, piece = shape[0], 1
    elif shape[0] >= shape[1]:
        size, piece = shape[0], _piece(shape[0])
    else:
        size, piece = shape[1], _piece(shape[1])
    by_columns = out.ndim == 2 and shape[0] < shape[1]
    if a.size * shape[-1] < MANY_THREADS:
        piece = size

    def part(i: int) -> None:
        some = slice(i * piece, (i + 1) * piece)
        if by_columns:
            y = np.matmul(a, b[:, some], out=out[:, some])
        else:
            y = np.matmul(a[some], b if b.ndim == 2 else b[some], out=out[some])
        if bias is not None:
            np.add(y, bias[some] if by_columns else bias, out=y)

    with one_blas_thread():
        threads.run(-(-size // piece), part)
    return out


def _piece(n: int) -> int:
    """The length of the parts of an axis of length n. With longer parts, BLAS packs the other
    operand less often; shorter ones keep more threads busy."""
    parts = 1 if n < 64 else 2 if n < 256 else 4 if n < 2048 else 8 if n < 16384 else 16
    return -(-n // (parts * 16)) * 16


# The library -------------------------------------------------------------------------------------


@functools.cache
def openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """OpenBLAS's functions that get and set its number of threads; None if NumPy uses another
    library."""
    for path in _libraries():
        try:
            library = ctypes.PyDLL(path)  # already loaded: this only finds its handle
        except OSError:
            continue
        for prefix in ("scipy_openblas", "openblas"):
            for suffix in ("64_", "_64", ""):
                get = getattr(library, f"{prefix}_get_num_threads{suffix}", None)
                set_ = getattr(library, f"{prefix}_set_num_threads{suffix}", None)
                if get is not None and set_ is not None:
                    return get, set_
    return None


def _libraries() -> Iterator[str]:
    """Candidate files of NumPy's OpenBLAS: those in its wheel, then those mapped in memory."""
    package = os.path.dirname(np.__file__)
    for folder in (package + ".libs", os.path.join(package, ".dylibs")):
        yield from glob.glob(os.path.join(folder, "*openblas*"))
    if os.path.exists("/proc/self/maps"):
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            yield from sorted({line.split()[-1] for line in maps if "openblas" in line})


_lock = new_lock()
_calls = 0
_before = 1


class one_blas_thread:  # noqa: N801 (reads as `with one_blas_thread():`)
    """Context that limits OpenBLAS to one thread a call, until the last of nested or concurrent
    contexts ends. (A generator would take twice as long.)"""

    def __enter__(self) -> None:
        global _calls, _before
        if (functions := openblas()) is None:
            return
        get, set_ = functions
        with _lock:
            _calls += 1
            if _calls == 1:
                _before = get()
                set_(1)

    def __exit__(self, *exc: object) -> None:
        global _calls
        if (functions := openblas()) is None:
            return
        with _lock:
            _calls -= 1
            if _calls == 0:
                functions[1](_before)


def _give_threads_back() -> None:
    """Restore OpenBLAS's threads in a forked child, which has no threads in a context."""
    global _calls
    functions = openblas() if _calls else None
    if functions is not None:
        functions[1](_before)
    _calls = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_give_threads_back)
