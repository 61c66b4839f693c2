"""The CPU backend on NumPy."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from gradient.backends import small_calls
from gradient.backends.array_api import Array, ArrayAPIBackend
from gradient.backends.numpy import blas, memory
from gradient.backends.numpy.alignments import AlignmentKernels
from gradient.backends.numpy.along import AlongKernels
from gradient.backends.numpy.attention import AttentionKernels
from gradient.backends.numpy.batch_norm import BatchNormKernels
from gradient.backends.numpy.bfloat16_products import Bfloat16Products
from gradient.backends.numpy.blas import MatmulOnThreads
from gradient.backends.numpy.bounds import CheckedIndices
from gradient.backends.numpy.cached_attention import CachedAttentionKernels
from gradient.backends.numpy.casts import CastKernels
from gradient.backends.numpy.combinations import CombinationKernels
from gradient.backends.numpy.convolution import ConvolutionKernels
from gradient.backends.numpy.copies import CopyKernels
from gradient.backends.numpy.decompositions import DecompositionsOnOneThread
from gradient.backends.numpy.elementary import ElementaryKernels
from gradient.backends.numpy.elementwise import ElementwiseKernels
from gradient.backends.numpy.few_numbers import FewNumbers
from gradient.backends.numpy.folding import FoldingKernels
from gradient.backends.numpy.fourier import FourierKernels
from gradient.backends.numpy.fused import FUSING
from gradient.backends.numpy.gemm import GemmKernels
from gradient.backends.numpy.grid_sampling import GridSamplingKernels
from gradient.backends.numpy.grouped import GroupedKernels
from gradient.backends.numpy.indexed_sums import IndexedSums
from gradient.backends.numpy.linear import LinearKernels, is_small
from gradient.backends.numpy.log_sums import LogSumKernels
from gradient.backends.numpy.losses import LossKernels
from gradient.backends.numpy.norms import NormKernels
from gradient.backends.numpy.one_pass import OnePass
from gradient.backends.numpy.optimizers import OptimizerKernels
from gradient.backends.numpy.packed import PackedKernels
from gradient.backends.numpy.packing import PackingKernels
from gradient.backends.numpy.padding import PaddingKernels
from gradient.backends.numpy.panels import PanelKernels
from gradient.backends.numpy.pooling import PoolingKernels
from gradient.backends.numpy.recurrent import RecurrentKernels
from gradient.backends.numpy.reductions import ReductionKernels
from gradient.backends.numpy.remainders import RemainderKernels
from gradient.backends.numpy.rng import RandomKernels
from gradient.backends.numpy.rope import RopeKernels
from gradient.backends.numpy.scans import ScanKernels
from gradient.backends.numpy.selection import SelectionKernels, rows_of, takes_rows
from gradient.backends.numpy.small_products import SmallProducts
from gradient.backends.numpy.special import SpecialKernels
from gradient.backends.numpy.variance import VarianceKernels
from gradient.backends.packed import PackedArray
from gradient.backends.required import Index, Shape

FEW_INDICES = 1 << 10
"""Indices up to which NumPy's own look at the largest costs less than another one."""

SMALL = 4096
"""Elements up to which a copy costs less than NumPy's bookkeeping for a view."""


class NumpyBackend(
    SmallProducts,
    GroupedKernels,
    PanelKernels,
    LinearKernels,
    GemmKernels,
    MatmulOnThreads,
    Bfloat16Products,
    ConvolutionKernels,
    BatchNormKernels,
    PoolingKernels,
    FoldingKernels,
    GridSamplingKernels,
    RecurrentKernels,
    AlignmentKernels,
    ElementwiseKernels,
    ElementaryKernels,
    RemainderKernels,
    SpecialKernels,
    CombinationKernels,
    LossKernels,
    LogSumKernels,
    NormKernels,
    AttentionKernels,
    IndexedSums,
    CachedAttentionKernels,
    RopeKernels,
    PackedKernels,
    PackingKernels,
    FewNumbers,
    RandomKernels,
    PaddingKernels,
    SelectionKernels,
    VarianceKernels,
    AlongKernels,
    CheckedIndices,
    OptimizerKernels,
    ReductionKernels,
    ScanKernels,
    OnePass,
    CopyKernels,
    CastKernels,
    DecompositionsOnOneThread,
    FourierKernels,
    ArrayAPIBackend,
):
    """NumPy arrays on the host; kernels and threads compute large ones.

    Full reductions may return NumPy scalars, which count as arrays.
    """

    fusing = FUSING
    name = "numpy"
    device = "cpu"
    xp = np
    # (Not `lerp` and its kin, whose kernels round once where the definition rounds twice.)
    composed_in_plans = frozenset(("clamp", "clamp_grad", "hardshrink", "hardshrink_grad"))
    kept_whole = ArrayAPIBackend.kept_whole | {
        *(
            "accumulate",
            "ctc",
            "ctc_grad",
            "embedding",
            "cross_entropy",
            "cross_entropy_grad",
            "dropout",
            "integers",
            "nll",
            "nll_grad",
            "normal",
            "philox",
            "reduce_along",
            "std",
            "topk",
            "uniform",
            "var",
        )
    }

    def __init__(self) -> None:
        memory.keep_freed()

    # Bound directly to C functions, whose parameters have other names: this saves a Python call on
    # the hottest path.
    arange: Any = staticmethod(np.arange)
    asarray: Any = staticmethod(np.asarray)
    empty: Any = staticmethod(np.empty)
    zeros: Any = staticmethod(np.zeros)

    def matmul(self, a: Array, b: Array) -> Array:
        is_small = a.dtype.char in "fd" and (
            a.size + b.size < SMALL or (b.ndim and a.size * b.shape[-1] <= blas.ONE_THREAD)
        )
        if is_small and type(a) is np.ndarray and a.ndim == 2 and b.ndim == 2:
            return a.dot(b)  # 0.3 us faster than the ufunc
        if a.ndim > 2:
            if (rows := blas.as_rows(a, b)) is not None:
                return self.matmul(rows, b).reshape(*a.shape[:-1], b.shape[-1])
            if blas.are_outer(a, b):
                return np.multiply(a, b)
        return np.matmul(a, b) if is_small else super().matmul(a, b)

    def linear(self, x: Array, weight: Array | PackedArray, bias: Array | None = None) -> Array:
        """Compute small products directly, as no kernel takes them."""
        if is_small(weight, x) and not small_calls.are_repeated():
            if x.ndim != 2:
                return super(MatmulOnThreads, self).linear(x, weight, bias)
            y = x.dot(weight.T)
            return y if bias is None else y + bias
        return super().linear(x, weight, bias)

    def embedding(self, weight: Array | PackedArray, indices: Array) -> Array:
        """Take whole rows, by NumPy's faster method, or by all threads if there are many."""
        if not isinstance(weight, np.ndarray) or not weight.flags.c_contiguous:
            return super().embedding(weight, indices)
        if takes_rows(weight, indices):
            rows = rows_of(weight, indices)
            if rows is not None:
                return rows
        elif 0 < indices.size < FEW_INDICES and indices.item(indices.argmin()) >= 0:
            try:
                return weight.take(indices, 0)
            except IndexError:  # an index too large: raise our error
                pass
        self.check_indices(indices, 0, weight.shape[0])
        return weight.take(indices, 0)

    def clone(self, x: Array) -> Array:
        """Copy contiguous arrays by their method, in half of the function's time."""
        if type(x) is np.ndarray and x.flags.c_contiguous:
            return x.copy()
        return super().clone(x)

    def ones(self, shape: Shape, dtype: np.dtype) -> Array:
        return _filled(shape, 1, dtype) if shape else dtype.type(1)

    def full(self, shape: Shape, value: Any, dtype: np.dtype) -> Array:
        if dtype.char in "fd" and (type(value) is float or type(value) is int):
            return np.array(value, dtype) if shape == () else _filled(shape, value, dtype)
        return np.full(shape, value, dtype)

    def expand(self, x: Array, shape: Shape) -> Array:
        """Copy small arrays: an assignment is faster than making a view."""
        if math.prod(shape) > SMALL:
            return np.broadcast_to(x, shape)
        out = np.empty(shape, x.dtype)
        out[...] = x
        return out

    def broadcast_to(self, x: Array, shape: Shape) -> Array:
        """Use NumPy's constructor, which takes a seventh of its function's time, for dtypes that
        it knows."""
        if type(x) is not np.ndarray or not x.flags.c_contiguous or x.dtype.kind == "V":
            return super().broadcast_to(x, shape)
        strides = _strides(x.shape, x.strides, shape)
        if strides is None:
            return super().broadcast_to(x, shape)
        out: Any = np.ndarray(shape, x.dtype, x, 0, strides)
        out.setflags(False)  # elements share memory, so read-only (positional: 0.2 us less)
        return out

    def assign_shared(self, x: Array, index: Index, value: Any, shown_by: list[Array]) -> bool:
        shown = _unlocked(x[index], value) if any(map(_repeats, shown_by)) else None
        if shown is not None:
            shown[...] = value
        return shown is not None

    def diagonal(self, x: Array, offset: int) -> Array:
        """A view, writable if x is; NumPy's own is read-only."""
        out = np.diagonal(x, offset, -2, -1)
        out.flags.writeable = x.flags.writeable
        return out

    def writable(self, x: Array) -> Array:
        """An array for a NumPy scalar, which full reductions return."""
        return np.array(x) if isinstance(x, np.generic) else x

    def storage(self, x: Array) -> Any:
        while (owner := getattr(x, "base", None)) is not None:
            x = owner
        return x

    def offset_in(self, x: Array, base: Array) -> int:
        return (x.ctypes.data - base.ctypes.data) // x.itemsize

    def is_view(self, x: Array) -> bool:
        owner = getattr(x, "base", None)
        return owner is not None and not isinstance(owner, memory.Loan)

    def is_view_of(self, x: Array, base: Array) -> bool:
        # Not `x.base is not None`: a reshape that copies returns a view of its copy.
        owner = x.base
        return owner is not None and (
            owner is base or owner is base.base or self.storage(owner) is self.storage(base)
        )


def _filled(shape: Shape, value: float, dtype: np.dtype) -> Array:
    """By methods: NumPy's functions around them take twice as long, where there are few numbers."""
    out = np.empty(shape, dtype)
    out.fill(value)
    return out


@functools.lru_cache
def _strides(own: Shape, strides: Shape, shape: Shape) -> Shape | None:
    """The strides of a broadcast view of `shape` of an array of these sizes and strides; None if
    nothing is repeated, or the shapes do not match."""
    lead = len(shape) - len(own)
    if lead < 0 or shape == (1,) * lead + own or 0 in shape:
        return None
    if any(n not in (1, wanted) for n, wanted in zip(own, shape[lead:], strict=True)):
        return None
    kept = [0 if n == 1 else step for n, step in zip(own, strides, strict=True)]
    return (*(0,) * lead, *kept)


def _unlocked(shown: Any, value: Any) -> Array | None:
    """A writable view of `shown`, part of an array that is read-only because it shows elements
    several times; if this part shows each once, or `value` is one number. Else None."""
    owner = shown
    while isinstance(base := getattr(owner, "base", None), np.ndarray):
        owner = base
    if owner is shown or not (owner.flags.writeable and owner.flags.c_contiguous):
        return None
    if np.size(value) != 1 and _repeats(shown):
        return None
    start = shown.ctypes.data - owner.ctypes.data
    memory = owner.reshape(-1).view(np.uint8)
    if not 0 <= start < max(memory.size, 1):  # a copy, selected by index arrays
        return None
    return np.ndarray(shown.shape, shown.dtype, memory, start, shown.strides)


def _repeats(x: Array) -> bool:
    """Whether two elements of an array may share memory."""
    steps = sorted((abs(step), n) for step, n in zip(x.strides, x.shape, strict=True) if n > 1)
    reach = x.itemsize
    for step, n in steps:
        if step < reach:
            return True
        reach += (n - 1) * step
    return False
