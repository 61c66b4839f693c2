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

    def __init__(be, index: int = 0):
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
        be.index, be.device, be.xp = index, f"cuda:{index}", cupy
        cupy.cuda.Device(index).use()

    def asarray(be, value: Any, dtype: np.dtype | None = None) -> Array:
        with be.xp.cuda.Device(be.index):
            return be.xp.asarray(value, dtype)

    # What is made lies on the current device, so creation is held to this backend's.

    def empty(be, shape: Shape, dtype: np.dtype) -> Array:
        with be.xp.cuda.Device(be.index):
            return be.xp.empty(shape, dtype)

    def full(be, shape: Shape, value: Any, dtype: np.dtype) -> Array:
        with be.xp.cuda.Device(be.index):
            return be.xp.full(shape, value, dtype)

    def zeros(be, shape: Shape, dtype: np.dtype) -> Array:
        with be.xp.cuda.Device(be.index):
            return be.xp.zeros(shape, dtype)

    def arange(be, start: Any, stop: Any, step: Any, dtype: np.dtype) -> Array:
        with be.xp.cuda.Device(be.index):
            return be.xp.arange(start, stop, step, dtype)

    def to_numpy(be, x: Array) -> np.ndarray:
        return be.xp.asnumpy(x)

    def synchronize(be) -> None:
        be.xp.cuda.Device(be.index).synchronize()

    def storage(be, x: Array) -> Any:
        """The owning array: CuPy's memory objects take no weak references."""
        return x if x.base is None else x.base

    def is_view(be, x: Array) -> bool:
        return x.base is not None

    def matmul(be, a: Array, b: Array) -> Array:
        """CuPy copies 16-bit operands of more than two axes to float32 or refuses them, so they go
        through float32 here in either case."""
        if a.dtype in HALF_PRECISION and (a.ndim > 2 or b.ndim > 2 or a.dtype.kind == "V"):
            return be.xp.matmul(a.astype(FLOAT32), b.astype(FLOAT32)).astype(a.dtype)
        return be.xp.matmul(a, b)

    def index_add(be, x: Array, index: Index, value: Array) -> Array:
        """CuPy adds atomically in 32 and 64 bits only; 16-bit floats go through float32."""
        if x.dtype in HALF_PRECISION:
            wide = x.astype(FLOAT32)
            be.xp.add.at(wide, index, value.astype(FLOAT32))
            return be.assign(x, ..., wide)
        be.xp.add.at(x, index, value)
        return x


# CuPy has no bfloat16 ufuncs: the composed and shared elementwise methods go through float32.
def _through_float32(name: str) -> Callable[..., Any]:
    shared = getattr(ArrayAPIBackend, name)

    @functools.wraps(shared)
    def method(be: CudaBackend, *arrays: Array) -> Array:
        dtype = arrays[0].dtype
        if dtype.kind != "V":
            return shared(be, *arrays)
        return shared(be, *(a.astype(FLOAT32) for a in arrays)).astype(dtype)

    return method


for _name in ("exp", "log", "sqrt", "sin", "cos", "tan", "tanh", "expm1", "log1p", "floor", "ceil"):
    setattr(CudaBackend, _name, _through_float32(_name))
