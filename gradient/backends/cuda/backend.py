"""The CUDA backend: CuPy's arrays, our kernels, and composed definitions for the rest."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from gradient.backends.array_api import Array, ArrayAPIBackend
from gradient.backends.cuda.assignment import Assignment
from gradient.backends.cuda.batch_norm import BatchNormKernels
from gradient.backends.cuda.convolution import ConvolutionKernels
from gradient.backends.cuda.copies import CopyKernels
from gradient.backends.cuda.cross_entropy import CrossEntropyKernels
from gradient.backends.cuda.draws import RandomKernels
from gradient.backends.cuda.elementwise import ElementwiseKernels
from gradient.backends.cuda.extremes import ExtremeKernels
from gradient.backends.cuda.fused import FusedKernels
from gradient.backends.cuda.grouped import GroupedKernels
from gradient.backends.cuda.indexed import IndexedKernels
from gradient.backends.cuda.launching import FLOATS
from gradient.backends.cuda.norms import NormKernels
from gradient.backends.cuda.optimizers import OptimizerKernels
from gradient.backends.cuda.pooling import PoolingKernels
from gradient.backends.cuda.quantized import QuantizedKernels
from gradient.backends.cuda.rope_attention import RopeAttentionKernels
from gradient.backends.cuda.row_products import RowProducts
from gradient.backends.cuda.runtime import CupyRuntime
from gradient.backends.cuda.scaled_products import ScaledProducts
from gradient.backends.cuda.sorting import SortingKernels
from gradient.backends.cuda.sums import SumKernels
from gradient.backends.required import Shape
from gradient.dtypes import bfloat16

BFLOAT16 = bfloat16.numpy


class CudaBackend(
    RowProducts,
    RopeAttentionKernels,
    CopyKernels,
    NormKernels,
    CrossEntropyKernels,
    OptimizerKernels,
    ElementwiseKernels,
    ConvolutionKernels,
    PoolingKernels,
    GroupedKernels,
    FusedKernels,
    QuantizedKernels,
    BatchNormKernels,
    IndexedKernels,
    RandomKernels,
    SortingKernels,
    ExtremeKernels,
    ScaledProducts,
    SumKernels,
    Assignment,
    ArrayAPIBackend,
):
    """CuPy arrays on one GPU; work is queued on CuPy's current stream of it.

    CuPy computes on the thread's current GPU. Where a machine has several, `cuda.multi_gpu` sees to
    it that this is the backend's.
    """

    name = "cuda"
    reads_wait = True
    repeats_are_read_only = False
    mixes_floats = True
    device_numbers = frozenset(
        {"adamw_step", "sgd_step", "rmsprop_step", "lion_step", "uniform", "normal", "dropout"}
    )
    """Methods whose numbers that change from step to step may lie on the device, 0-d."""

    def __init__(self, index: int = 0, runtime: Any = None):
        self.runtime = CupyRuntime(index) if runtime is None else runtime
        self.device, self.xp = f"cuda:{index}", self.runtime.xp
        self._fault = self.zeros((1,), np.dtype(np.int32))
        self._fault_on_host: np.ndarray | None = None
        self._fault_given = False
        self._owners: dict[int, tuple[weakref.ref[Any], Any]] = {}
        self.transfers = 0
        """How often values went to the host or came from it: a graph would keep the first ones."""

    def asarray(self, value: Any, dtype: np.dtype | None = None) -> Array:
        self.transfers += not isinstance(value, self.xp.ndarray)
        if isinstance(value, np.ndarray) and self.runtime.is_pinned(value):
            value = np.array(value)  # the host may write to it as soon as this returns
        return self.xp.asarray(value, dtype)

    # What is made lies on the current device: `MultiGpuBackend` sees to which that is.

    def empty(self, shape: Shape, dtype: np.dtype) -> Array:
        return self.runtime.new_array(shape, dtype)

    def full(self, shape: Shape, value: Any, dtype: np.dtype) -> Array:
        return self.xp.full(shape, value, dtype)

    def zeros(self, shape: Shape, dtype: np.dtype) -> Array:
        return self.xp.zeros(shape, dtype)

    def arange(self, start: Any, stop: Any, step: Any, dtype: np.dtype) -> Array:
        return self.xp.arange(start, stop, step, dtype)

    def graph_recorder(self) -> Any:
        """What captures work as a graph (`cuda.graphs`): for the executor of plans."""
        return self.runtime.graph_recorder()

    def launch_graph(self, graph: Any) -> None:
        """Queue what was captured. A kernel in it may set the index fault, as it might before."""
        graph.launch()
        self._fault_given = True

    def refill(self, out: Array, value: Any) -> None:
        """Have `out`, of whose memory `value` has none, be `value`, which has its shape."""
        value = self.asarray(value)
        if not self._copied(value, out):
            self.assign(out, ..., value)

    def holders(self, x: Array) -> tuple[Any, ...]:
        """Objects of which another reference is held as long as somebody has x, a view of it, or,
        for another stream, its memory."""
        owner: Any = self.storage(x)
        memory: Any = x.data
        return x, owner, memory, owner.data, memory.mem

    def to_numpy(self, x: Array) -> np.ndarray:
        """A copy on the host, which waits for the work queued before it. An index out of range that
        a kernel met since the last copy is told now, as the kernel could not."""
        self.transfers += 1
        fault = self._queued_fault()
        values = self.runtime.to_numpy(x)
        self._raise_fault(fault)
        return values

    def queue_to_numpy(self, x: Array) -> np.ndarray:
        """A copy on the host that waits for nothing: its values come after the work queued before
        it, which `synchronize` waits for."""
        self.transfers += 1
        return self.runtime.queue_to_numpy(x)

    def queue_from_numpy(self, x: np.ndarray) -> Array:
        """A copy on the device. Pinned memory (`pin`) must stay as it is until it is made."""
        self.transfers += 1
        return self.runtime.queue_from_numpy(x)

    def pin(self, x: np.ndarray) -> np.ndarray:
        """A copy in page-locked memory of the host, which the device copies from by itself."""
        out = self.runtime.pinned(x.shape, x.dtype)
        out[...] = x
        return out

    def is_pinned(self, x: np.ndarray) -> bool:
        return self.runtime.is_pinned(x)

    def record_stream(self, x: Array, stream: Any) -> None:
        """Have the memory of x not be used anew before a stream, of CuPy's, is done with it."""
        self.runtime.record_stream(x, stream)

    def synchronize(self) -> None:
        self.transfers += 1
        fault = self._queued_fault()
        self.runtime.synchronize()
        self._raise_fault(fault)

    def index_fault(self) -> Array:
        self._fault_given = True
        return self._fault

    def _queued_fault(self) -> np.ndarray | None:
        """The fault on the host, which is there after the next wait: one wait serves both. None if
        no kernel was given it since the last look."""
        if not self._fault_given:
            return None
        self._fault_given = False
        if self._fault_on_host is None:
            self._fault_on_host = self.runtime.pinned((1,), self._fault.dtype)
        return self.runtime.queue_to_numpy(self._fault, self._fault_on_host)

    def _raise_fault(self, fault: np.ndarray | None) -> None:
        """Raise IndexError if a kernel has set the fault."""
        if fault is not None and fault[0]:
            self.assign(self._fault, ..., 0)
            raise IndexError(
                f"{self.device}: an index or a target that an op got earlier was out of range; "
                "run the same on the CPU to see which"
            )

    def storage(self, x: Array) -> Any:
        """The owning array: CuPy's memory objects take no weak references."""
        root = x if x.base is None else x.base
        known = self._owners.get(id(root))
        return root if known is None else known[1]

    def strided_view(self, x: Array, shape: Shape, strides: tuple[int, ...]) -> Array:
        """A view. CuPy makes an array of x's memory that has no base: whose it is, is kept here as
        long as that lives, and what is given has it as its base."""
        made = super().strided_view(x, shape, strides)
        key = id(made)
        self._owners[key] = weakref.ref(made, lambda _: self._owners.pop(key)), self.storage(x)
        return made[...]

    def address(self, x: Array) -> int:
        """Where the first element lies, in the GPU's memory."""
        found: int = self.runtime.address(x)
        return found

    def offset_in(self, x: Any, base: Any) -> int:
        return int(x.data.ptr - base.data.ptr) // int(x.itemsize)

    def is_view(self, x: Array) -> bool:
        return x.base is not None

    def joined(self, arrays: list[Array], axis: int) -> Array:
        first, size = arrays[0], 0
        for x in arrays:
            if not (
                isinstance(x, self.xp.ndarray)
                and x.base is not None
                and x.base is first.base
                and x.strides == first.strides
                and x.ndim > 0
                and self.address(x) == self.address(first) + size * first.strides[axis]
            ):
                return self.concatenate(arrays, axis)
            size += x.shape[axis]
        shape = list(first.shape)
        shape[axis] = size
        return self.strided_view(first, tuple(shape), first.strides)

    # Where CuPy has no function of bfloat16, it computes in float32 and gives that.

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        a, b = (  # where one is a number
            self.full((), x, like.dtype) if isinstance(x, (bool, int, float, complex)) else x
            for x, like in ((a, b), (b, a))
        )
        if a.dtype == b.dtype == BFLOAT16:
            return self.xp.where(condition, _bits(a), _bits(b)).view(BFLOAT16)
        return self.xp.where(condition, a, b)

    def astype(self, x: Array, dtype: np.dtype) -> Array:
        if dtype.char == "B" and x.dtype in FLOATS:
            x = x.astype(np.int64)  # numbers beyond uint8 wrap; of those below 0 CUDA makes 0
        return super().astype(x, dtype)

    # CuPy divides first, whose rounding the remainder then has, and NaN where b is infinite. ------

    def remainder(self, a: Array, b: Array) -> Array:
        if _kind(a, b) != "f":
            return super().remainder(a, b)
        rest = self.fmod(a, b)
        return self.where(_is_beside(rest, b), rest + b, rest)

    def floor_divide(self, a: Array, b: Array) -> Array:
        if _kind(a, b) != "f":
            return super().floor_divide(a, b)
        if isinstance(b, (int, float)) and b == 0:
            return a / b
        rest = self.fmod(a, b)
        whole = (a - rest) / b  # an integer, but for rounding
        whole = self.round(self.where(_is_beside(rest, b), whole - 1, whole))
        return whole if isinstance(b, (int, float)) else self.where(b == 0, a / b, whole)

    # CuPy refuses the maximum of no numbers even where none is asked for, of no rows; and to
    # transform none.

    def fft(self, x: Array, axes: Shape, inverse: bool, norm: str) -> Array:
        if x.size == 0 and all(x.shape[axis] for axis in axes):
            return self.empty(x.shape, x.dtype)
        return super().fft(x, axes, inverse, norm)


def _kind(a: Any, b: Any) -> str:
    """ "f" where one of them is an array of floats."""
    return "f" if any(getattr(x, "dtype", None) in FLOATS for x in (a, b)) else ""


def _is_beside(rest: Array, b: Any) -> Array:
    """Where what C's fmod leaves has not the sign of b."""
    return (rest != 0) & ((rest < 0) != (b < 0))


def _bits(x: Array) -> Array:
    return x.view(np.dtype(np.uint16))
