"""The CUDA backend: CuPy arrays and composed definitions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.array_api import FLOAT32, Array, ArrayAPIBackend
from gradient.backends.required import Index, Shape
from gradient.dtypes import HALF_PRECISION
from gradient.errors import DeviceError


class CudaBackend(ArrayAPIBackend):
    """CuPy arrays on one GPU; work is queued on CuPy's current stream.

    CuPy computes on the thread's current device, so a thread should keep to one GPU: asking for a
    device makes it current.
    """

    name = "cuda"

    def __init__(self, index: int = 0):
        try:
            import cupy
        except ImportError:
            raise DeviceError(
                f"device 'cuda:{index}': CuPy is not installed; "
                "pip install 'gradient-dl[cuda13]' (or cuda12, by your driver)"
            ) from None
        count = cupy.cuda.runtime.getDeviceCount() if cupy.is_available() else 0
        if index >= count:
            raise DeviceError(
                f"device 'cuda:{index}': this machine has {count} usable CUDA devices"
            )
        self.index, self.device, self.xp = index, f"cuda:{index}", cupy
        cupy.cuda.Device(index).use()

    def asarray(self, value: Any, dtype: np.dtype | None = None) -> Array:
        with self.xp.cuda.Device(self.index):
            return self.xp.asarray(value, dtype)

    # What is made lies on the current device, so creation is held to this backend's.

    def empty(self, shape: Shape, dtype: np.dtype) -> Array:
        with self.xp.cuda.Device(self.index):
            return self.xp.empty(shape, dtype)

    def full(self, shape: Shape, value: Any, dtype: np.dtype) -> Array:
        with self.xp.cuda.Device(self.index):
            return self.xp.full(shape, value, dtype)

    def zeros(self, shape: Shape, dtype: np.dtype) -> Array:
        with self.xp.cuda.Device(self.index):
            return self.xp.zeros(shape, dtype)

    def arange(self, start: Any, stop: Any, step: Any, dtype: np.dtype) -> Array:
        with self.xp.cuda.Device(self.index):
            return self.xp.arange(start, stop, step, dtype)

    def to_numpy(self, x: Array) -> np.ndarray:
        return self.xp.asnumpy(x)

    def synchronize(self) -> None:
        self.xp.cuda.Device(self.index).synchronize()

    def storage(self, x: Array) -> Any:
        """The owning array: CuPy's memory objects take no weak references."""
        return x if x.base is None else x.base

    def is_view(self, x: Array) -> bool:
        return x.base is not None

    def matmul(self, a: Array, b: Array) -> Array:
        """CuPy copies 16-bit operands of more than two axes to float32 or refuses them, so they go
        through float32 here in either case."""
        if a.dtype in HALF_PRECISION and (a.ndim > 2 or b.ndim > 2 or a.dtype.kind == "V"):
            return self.xp.matmul(a.astype(FLOAT32), b.astype(FLOAT32)).astype(a.dtype)
        return self.xp.matmul(a, b)

    def index_add(self, x: Array, index: Index, value: Array) -> Array:
        """CuPy adds atomically in 32 and 64 bits only; 16-bit floats go through float32."""
        if x.dtype in HALF_PRECISION:
            wide = x.astype(FLOAT32)
            self.xp.add.at(wide, index, value.astype(FLOAT32))
            return self.assign(x, ..., wide)
        self.xp.add.at(x, index, value)
        return x


# CuPy has no bfloat16 ufuncs: the composed and shared elementwise methods go through float32.
def _through_float32(name: str) -> Callable[..., Any]:
    shared = getattr(ArrayAPIBackend, name)

    @functools.wraps(shared)
    def method(self: CudaBackend, *arrays: Array) -> Array:
        dtype = arrays[0].dtype
        if dtype.kind != "V":
            return shared(self, *arrays)
        return shared(self, *(a.astype(FLOAT32) for a in arrays)).astype(dtype)

    return method


for _name in ("exp", "log", "sqrt", "sin", "cos", "tan", "tanh", "expm1", "log1p", "floor", "ceil"):
    setattr(CudaBackend, _name, _through_float32(_name))
