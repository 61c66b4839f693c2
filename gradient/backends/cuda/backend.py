"""The CUDA backend: CuPy's arrays, our kernels, and composed definitions for the rest."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.array_api import Array, ArrayAPIBackend
from gradient.backends.cuda.arithmetic import CupyNumber
from gradient.backends.cuda.assignment import Assignment
from gradient.backends.cuda.batch_norm import BatchNormKernels
from gradient.backends.cuda.convolution import ConvolutionKernels
from gradient.backends.cuda.copies import CopyKernels
from gradient.backends.cuda.cross_entropy import CrossEntropyKernels
from gradient.backends.cuda.draws import RandomKernels
from gradient.backends.cuda.elementwise import ElementwiseKernels
from gradient.backends.cuda.extremes import ExtremeKernels
from gradient.backends.cuda.feedback import FeedbackKernels
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

STREAM_OF_THREAD = 2
"""`cudaStreamPerThread`: each thread means its own by it."""


class Transfers(threading.local):
    """A number of each thread's own: another one reads tokens while this one captures a graph."""

    count = 0


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
    FeedbackKernels,
    ScaledProducts,
    SumKernels,
    Assignment,
    ArrayAPIBackend,
):
    """CuPy arrays on one GPU; work is queued on CuPy's current stream of it.

    CuPy computes on the thread's current GPU. On a machine with several, `cuda.multi_gpu` makes the
    backend's GPU the current one.
    """

    name = "cuda"
    reads_wait = True
    repeats_are_read_only = False
    mixes_floats = True
    wide_number = CupyNumber
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
        self._of_thread = Transfers()

    @property
    def transfers(self) -> int:
        """How often this thread's values went to the host or came from it: a graph would keep the
        first ones."""
        return self._of_thread.count

    @transfers.setter
    def transfers(self, count: int) -> None:
        self._of_thread.count = count

    def asarray(self, value: Any, dtype: np.dtype | None = None) -> Array:
        self.transfers += not isinstance(value, self.xp.ndarray)
        if isinstance(value, np.ndarray) and self.runtime.is_pinned(value):
            value = np.array(value)  # the host may write to it as soon as this returns
        made: Array = self.xp.asarray(value, dtype)
        return made if made is value else self.runtime.with_operators(made)

    # New arrays are on the current device, which `MultiGpuBackend` sets.

    def empty(self, shape: Shape, dtype: np.dtype) -> Array:
        return self.runtime.new_array(shape, dtype)

    def arange(self, start: Any, stop: Any, step: Any, dtype: np.dtype) -> Array:
        return self.xp.arange(start, stop, step, dtype)

    def queue(self) -> Any:
        stream = self.runtime.stream()
        return (stream, threading.get_ident()) if stream == STREAM_OF_THREAD else stream

    def graph_recorder(self) -> Any:
        """Return a recorder that captures work as a CUDA graph (`cuda.graphs`), for plans."""
        return self.runtime.graph_recorder()

    def launch_graph(self, graph: Any) -> None:
        """Queue a captured graph. Its kernels may set the index fault, as in eager mode."""
        graph.launch()
        self._fault_given = True

    def refill(self, out: Array, value: Any) -> None:
        """Copy `value` to `out`, of the same shape and other memory."""
        value = self.asarray(value)
        if not self._copied(value, out):
            self.assign(out, ..., value)

    def holders(self, x: Array) -> tuple[Any, ...]:
        """Objects that gain a reference while x, a view of it, or (for another stream) its memory
        is in use."""
        owner: Any = self.storage(x)
        memory: Any = x.data
        return x, owner, memory, owner.data, memory.mem

    def to_numpy(self, x: Array) -> np.ndarray:
        """Copy to the host, after waiting for the queued work. If a kernel met an index out of
        range since the last copy, IndexError is raised now, as kernels cannot raise errors."""
        self.transfers += 1
        fault = self._queued_fault()
        values = self.runtime.to_numpy(x)
        self._raise_fault(fault)
        return values

    def queue_to_numpy(self, x: Array) -> np.ndarray:
        """Copy to the host without waiting: the values are valid after `synchronize`."""
        self.transfers += 1
        return self.runtime.queue_to_numpy(x)

    def read_later(self, x: Array) -> Callable[..., np.ndarray]:
        """Queue a copy to the host, and one of the index fault; the returned function waits for
        them, and raises IndexError as `to_numpy` does, but once."""
        self.transfers += 1
        faults = [self._fault] if self._fault_given else []
        self._fault_given = False
        read = self.runtime.read_later(x, *faults)

        def values(check: bool = True) -> np.ndarray:
            copies = read()
            if len(copies) > 1:
                fault = copies.pop()
                if check:
                    self._raise_fault(fault)
                else:
                    self._fault_given = True  # it is still set on the device
            return copies[0]

        return values

    def queue_from_numpy(self, x: np.ndarray) -> Array:
        """Copy to the device. Pinned memory (`pin`) must not change until the copy is done."""
        self.transfers += 1
        return self.runtime.queue_from_numpy(x)

    def pin(self, x: np.ndarray) -> np.ndarray:
        """Copy to page-locked host memory, from which the device copies asynchronously."""
        out = self.runtime.pinned(x.shape, x.dtype)
        out[...] = x
        return out

    def is_pinned(self, x: np.ndarray) -> bool:
        return self.runtime.is_pinned(x)

    def record_stream(self, x: Array, stream: Any) -> None:
        """Do not reuse the memory of x before the queued work of a CuPy stream is done."""
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
        """Queue a copy of the index fault to the host, so that one wait serves both copies. None if
        no kernel could have set it since the last check."""
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
        """The owning array, as CuPy's memory objects allow no weak references."""
        root = x if x.base is None else x.base
        known = self._owners.get(id(root))
        return root if known is None else known[1]

    def strided_view(self, x: Array, shape: Shape, strides: tuple[int, ...]) -> Array:
        """A view. CuPy makes an array of x's memory without a base; so its owner is kept here as
        long as that array lives, and a view of it is returned, which has it as its base."""
        made = super().strided_view(x, shape, strides)
        key = id(made)
        self._owners[key] = weakref.ref(made, lambda _: self._owners.pop(key)), self.storage(x)
        return self.runtime.with_operators(made[...])

    def address(self, x: Array) -> int:
        """The address of the first element in the GPU's memory."""
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

    def astype(self, x: Array, dtype: np.dtype) -> Array:
        if dtype.char == "B" and x.dtype in FLOATS:
            x = x.astype(np.int64)  # numbers beyond uint8 wrap; CUDA casts those below 0 to 0
        return super().astype(x, dtype)

    # CuPy computes it from a quotient, with its rounding error, and NaN where b is infinite. ------

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
        whole = (a - rest) / b  # an integer, up to rounding
        whole = self.round(self.where(_is_beside(rest, b), whole - 1, whole))
        return whole if isinstance(b, (int, float)) else self.where(b == 0, a / b, whole)

    # CuPy refuses maxima over an empty axis even if there are no rows, and empty transforms.

    def fft(self, x: Array, axes: Shape, inverse: bool, norm: str) -> Array:
        if x.size == 0 and all(x.shape[axis] for axis in axes):
            return self.empty(x.shape, x.dtype)
        return super().fft(x, axes, inverse, norm)


def _kind(a: Any, b: Any) -> str:
    """ "f" if one of them is an array of floats."""
    return "f" if any(getattr(x, "dtype", None) in FLOATS for x in (a, b)) else ""


def _is_beside(rest: Array, b: Any) -> Array:
    """Where the remainder of C's fmod does not have the sign of b."""
    return (rest != 0) & ((rest < 0) != (b < 0))
