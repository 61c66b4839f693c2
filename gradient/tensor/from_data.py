"""Make tensors from values: numbers, nested sequences, arrays, tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.autograd.out_argument import creation_op_like
from gradient.autograd.variable import Variable, wrap
from gradient.dtypes import (
    BY_NUMPY,
    DType,
    complex128,
    default_complex_dtype,
    dtype_of,
    float32,
    float64,
    get_default_dtype,
)
from gradient.dtypes.float8 import Float8
from gradient.errors import ArgumentError, NoDType, TypeMismatch, sentence
from gradient.ops import elementwise
from gradient.tensor.arguments import fitting, limits, warn_of_discarded
from gradient.tensor.base import TensorBase
from gradient.tensor.creation import backend_of, finished

if TYPE_CHECKING:
    from gradient.backends import Backend
    from gradient.backends.operators import ArrayOperators
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor
    from gradient.tensor.device import DeviceLike

__all__ = ["as_tensor", "asarray", "tensor"]

PYTHON_NUMBERS = {bool, int, float, complex}


@creation_op_like
def tensor(
    data: Any,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor with a copy of `data`: a number, nested sequences, a NumPy array or a tensor.

    Python floats give the default float dtype, ints int64, bools bool; arrays keep their dtype.
    """
    return finished(*_converted(data, dtype, device, copy=True), requires_grad)


def as_tensor(data: Any, dtype: DTypeLike | None = None, device: DeviceLike = None) -> Tensor:
    """Like `tensor`, but copy only if necessary; a tensor stays in its graph."""
    if isinstance(data, TensorBase):
        return data.to(dtype=dtype, device=device)
    return wrap(*_converted(data, dtype, device, copy=False))


def asarray(
    obj: Any,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    copy: bool | None = None,
    requires_grad: bool | None = None,
) -> Tensor:
    """Like `as_tensor`. `copy=True` always copies, `copy=False` raises if a copy is necessary;
    `requires_grad=False` detaches a tensor from its graph."""
    out = as_tensor(obj, dtype, device)
    if isinstance(obj, Variable):
        shared = out is obj
    else:
        shared = isinstance(obj, np.ndarray) and np.shares_memory(np.asarray(out.array), obj)
    if copy is False and not shared:
        fix = "leave copy out"
        raise ArgumentError(sentence("asarray", "data that needs no copy", type(obj).__name__, fix))
    out = out.clone() if copy and shared else out
    if requires_grad:
        return out if out.requires_grad else out.requires_grad_()
    return out.detach() if requires_grad is False else out


def _converted(
    data: Any, dtype: DTypeLike | None, device: DeviceLike, copy: bool
) -> tuple[ArrayOperators, Backend]:
    kind = None if dtype is None else dtype_of(dtype)
    given = isinstance(data, Variable)
    if (kind is not None and isinstance(kind, Float8)) or (given and data.dtype.is_packed):
        return _converted_float8(data, kind, device, copy)
    wanted = None if kind is None else kind.numpy
    if given:
        source = data.backend
        backend = source if device is None else backend_of(device)
        array = source.copy(data.array) if copy else data.array
        if backend is not source:
            array = backend.asarray(source.to_numpy(array))
        if wanted is not None:
            warn_of_discarded(array.dtype, wanted)
            array = elementwise.astype(wrap(array, backend), dtype=wanted).array
        return array, backend
    backend = backend_of(device)
    if isinstance(data, np.ndarray):
        number_dtype_of("tensor", data)
        if wanted is not None and data.dtype.kind == "c" and wanted.kind not in "cb":
            got, fix = data.dtype, "take its real part"
            raise ArgumentError(sentence("tensor", f"numbers that {wanted} can hold", got, fix))
        host = data.astype(wanted or data.dtype, copy=copy)
        if copy and host.base is not None:
            host = host.copy()
        return backend.asarray(host), backend
    host = _from_python(data, wanted)
    return backend.asarray(host), backend


def _converted_float8(
    data: Any, kind: DType | None, device: DeviceLike, copy: bool
) -> tuple[ArrayOperators, Backend]:
    """Do the same to 8-bit floats or from packed tensors, like `to`."""
    made = data if isinstance(data, Variable) else wrap(*_converted(data, float32, device, copy))
    given: Any = made
    out = given.detach().to(dtype=kind, device=device)
    out = out.clone() if copy and out.array is given.array else out
    return out.array, out.backend


def _from_python(data: Any, wanted: np.dtype | None) -> np.ndarray:
    """Convert nested sequences of numbers, tensors and arrays to an array."""
    own: set[DType] = set()  # dtypes of tensors, arrays and NumPy scalars in the sequences
    nested = isinstance(data, (list, tuple))
    if nested:
        data = _without_tensors(data, own)
    elif hasattr(data, "dtype"):
        own.add(number_dtype_of("tensor", data))
    try:
        host = np.array(data)
    except ValueError:
        raise ArgumentError(
            "tensor: expected a rectangular nesting of sequences, got rows of unequal length"
        ) from None
    kind = host.dtype.kind
    if kind == "u" and not own or kind == "O" and _culprit(data) == "int":
        raise ArgumentError("tensor: expected ints from -2**63 to 2**63 - 1, got a larger one")
    if kind in "USOMm":
        raise NoDType(f"tensor: could not infer dtype of {_culprit(data)}")
    if wanted is not None:
        if kind == "c" and wanted.kind not in "cb":
            got = host.ravel()[0].item() if host.size else "complex numbers"
            raise ArgumentError(sentence("tensor", f"numbers that {wanted} can hold", got))
        return held(host, wanted).astype(wanted)
    python_float = host.dtype is float64.numpy and float64 not in own
    if python_float or (host.size == 0 and nested and not own):
        return host.astype(get_default_dtype().numpy)
    if host.dtype is complex128.numpy and not own & {complex128, float64}:
        return host.astype(default_complex_dtype().numpy)
    number_dtype_of("tensor", host)
    return host


def number_dtype_of(caller: str, array: Any) -> DType:
    """Return our dtype for an array or scalar of another library, such as NumPy."""
    dtype = array.dtype
    if not isinstance(dtype, np.dtype) or dtype in BY_NUMPY:
        return dtype_of(dtype)
    strange = {"U": "strings", "S": "bytes", "O": "Python objects", "M": "dates",
               "m": "durations", "V": "records"}  # fmt: skip
    got = strange.get(dtype.kind, "numbers" if dtype.isnative else "numbers of another byte order")
    fix = "convert it with .astype()" if dtype.kind in "Ofiuc" else ""
    expected = "an array of floats, complex numbers, integers or bools"
    raise TypeMismatch(sentence(caller, expected, f"one of {got} ({dtype})", fix))


def held(host: np.ndarray, wanted: np.dtype) -> np.ndarray:
    """Return `host`; raise if the integer dtype `wanted` cannot hold one of its numbers."""
    if wanted.kind in "iu" and host.size and not np.can_cast(host.dtype, wanted):
        low, high = limits(dtype_of(wanted))
        low = -high if wanted.kind == "u" and host.dtype.kind == "i" else low
        beyond = host[~((host >= low) & (host <= high))]  # includes NaN
        if beyond.size:
            fitting("tensor", "data", beyond.flat[0].item(), dtype_of(wanted))
    return host


def _without_tensors(data: Any, own: set[DType]) -> list[object]:
    """Replace one-element tensors in nested sequences by numbers; add their dtypes to `own`."""
    if set(map(type, data)) <= PYTHON_NUMBERS:
        return data
    result = []
    for value in data:
        if isinstance(value, (list, tuple)):
            value = _without_tensors(value, own)
        elif isinstance(value, TensorBase):
            if value.numel() != 1:
                raise ArgumentError(
                    "tensor: expected tensors of one element in a sequence, got shape "
                    f"{tuple(value.array.shape)}; use stack() to join larger ones"
                )
            own.add(value.dtype)
            number = value.item()
            value = number if value.array.dtype.kind == "V" else value.array.dtype.type(number)
        elif hasattr(value, "dtype"):
            own.add(number_dtype_of("tensor", value))
        result.append(value)
    return result


def _culprit(data: Any) -> str:
    while isinstance(data, (list, tuple)) and data:
        strange = [v for v in data if type(v) not in PYTHON_NUMBERS]
        data = strange[0] if strange else data[0]
    return type(data).__name__
