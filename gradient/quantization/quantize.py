"""Make packed tensors: from numbers, by rounding to nearest, or from existing parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradient import backends
from gradient.backends.numpy import threads
from gradient.backends.packed import PackedArray, arranged_for, is_packed
from gradient.dtypes import PackedDType, dtype_of, float32
from gradient.errors import ArgumentError, DTypeError, TypeMismatch
from gradient.tensor import Tensor
from gradient.tensor.packed import float_dtype_of

__all__ = ["packed_tensor", "quantize"]

CHUNK = 1 << 16
"""Weights packed at a time: all that a search for scales keeps of them fits in the cache."""


def quantize(tensor: Tensor, dtype: PackedDType | str) -> Tensor:
    """Return a packed copy of a float tensor, each weight rounded to the nearest value of `dtype`.

    The scales minimise the error of the weights alone (see `gradient.dtypes.packed`). The
    result has no gradient; `F.embedding` returns its rows in the dtype that the tensor had.

    Args:
        tensor: (..., N, K) on any device, K a multiple of `dtype.block_size`. A packed tensor is
            packed again, from its unpacked values.
        dtype: a packed dtype, or its name, such as "q4_k".

    Raises:
        ShapeError: K does not fit.
        ArgumentError: a weight is not finite, or too large for a scale in 16 bits.
    """
    if not isinstance(tensor, Tensor):
        raise TypeMismatch(f"quantize: expected a Tensor, got {type(tensor).__name__}")
    kind = _packed("quantize", dtype)
    if tensor.dtype is kind:
        return tensor.detach()
    if kind.elementwise:
        return tensor.detach().to(kind)
    if not tensor.dtype.is_floating_point:
        raise DTypeError(f"quantize: expected a floating-point tensor, got {tensor.dtype}")
    shape = tuple(tensor.shape)
    parts = [np.empty(size, numpy) for size, numpy in kind.parts_of(shape)]
    n, k = math.prod(shape[:-1]), shape[-1]
    leading = len(shape) - 1
    matrices = [part.reshape(n, *part.shape[leading:]) for part in parts]
    values_of = _reader(tensor, n, k)
    cpu = backends.get("cpu")
    step = max(1, CHUNK // max(k, 1))

    def pack(chunk: int) -> None:
        rows = slice(chunk * step, min((chunk + 1) * step, n))
        values = values_of(rows)
        if not np.isfinite(values).all():
            raise ArgumentError(
                f"quantize: expected finite weights, got nan or infinity in rows {rows.start} to "
                f"{rows.stop - 1}"
            )
        for matrix, part in zip(matrices, cpu.pack(values, kind), strict=True):
            matrix[rows] = part

    if n:  # the first rows here, as the pool's threads must not compile kernels
        pack(0)
    threads.run(-(-n // step) - 1, lambda i: pack(i + 1))
    backend = tensor.backend
    packed = tuple(backend.asarray(part) for part in parts)
    array = PackedArray(kind, shape, packed, float_dtype_of(tensor))
    return Tensor._wrap(arranged_for(backend, array), backend)


def _reader(tensor: Tensor, n: int, k: int) -> Callable[[slice], np.ndarray]:
    """A function from rows of the tensor, seen as (n, k), to their float32 values on the host."""
    backend, array = tensor.backend, tensor.array
    if is_packed(array):
        leading = array.ndim - 1
        parts = [backend.reshape(p, (n, *p.shape[leading:])) for p in array.parts]
        flat = PackedArray(array.dtype, (n, k), tuple(parts), layout=array.layout)
        return lambda rows: backend.to_numpy(backend.unpack(flat.rows(backend, (rows,))))
    host = np.asarray(backend.to_numpy(array)).reshape(n, k)
    return lambda rows: host[rows].astype(float32.numpy)


def packed_tensor(
    parts: Any, dtype: PackedDType | str, shape: Sequence[int], device: Any = None
) -> Tensor:
    """Return a packed tensor of existing parts, such as those of a file: nothing is copied.

    Args:
        parts: tensors or NumPy arrays in the order of `dtype.parts_of(shape)`; a single one may be
            without a tuple. GGUF's formats have one, uint8 (..., N, K / block_size, block_bytes).
        dtype: a packed dtype, or its name.
        shape: the logical shape (..., N, K).
        device: the device of the result; default: that of the parts.

    Raises:
        ShapeError: the parts are not those of the shape; both are listed.
    """
    kind = _packed("packed_tensor", dtype)
    given = tuple(parts) if isinstance(parts, tuple | list) else (parts,)
    wrong = [p for p in given if not isinstance(p, Tensor | np.ndarray)]
    if wrong:
        raise TypeMismatch(
            f"packed_tensor: expected tensors or arrays as parts, got {type(wrong[0]).__name__}"
        )
    on = {part.backend for part in given if isinstance(part, Tensor)}
    backend = next(iter(on)) if len(on) == 1 else backends.get("cpu")
    arrays = tuple(
        part.array
        if isinstance(part, Tensor) and part.backend is backend
        else backend.asarray(np.asarray(part))
        for part in given
    )
    array = PackedArray(kind, tuple(int(n) for n in shape), arrays)
    out = Tensor._wrap(arranged_for(backend, array), backend)
    return out if device is None else out.to(device=device)


def _packed(caller: str, dtype: Any) -> PackedDType:
    found = dtype_of(dtype)
    if not isinstance(found, PackedDType):
        raise DTypeError(f"{caller}: expected a packed dtype such as gradient.q8_0, got {found}")
    return found
