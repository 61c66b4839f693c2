"""Functions that make tensors of the shape, dtype, device and order in memory of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.autograd.out_argument import creation_op_like
from gradient.dtypes import PackedDType, dtype_of
from gradient.tensor.arguments import fitting, number_of, tensor_of
from gradient.tensor.creation import backend_of, finished, maker, turned_back
from gradient.tensor.float8 import maker_of

if TYPE_CHECKING:
    import numpy as np

    from gradient.autograd.variable import Number, Variable
    from gradient.backends import Backend
    from gradient.dtypes import DType
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor
    from gradient.tensor.device import DeviceLike
    from gradient.tensor.float8 import Maker

__all__ = ["empty_like", "full_like", "ones_like", "zeros_like"]


def backend_like(input: Variable, device: DeviceLike) -> Backend:
    """Return the backend of `device`: that of `input` if it is the same device, also in `vmap`."""
    if device is None or (other := backend_of(device)).device == input.backend.device:
        return input.backend
    return other


def order_like(op: str, x: Any, strided: bool, memory_format: object) -> list[int] | None:
    """Return the order in memory of the dimensions of an array like x, outermost first: that of x,
    or that of `memory_format`. None means row-major."""
    if memory_format is not None:
        from gradient.tensor.layout import order_in, preserve_format  # few programs name one

        order = order_in(op, memory_format, x.shape)
        if memory_format is not preserve_format:
            return order
    if not strided or (flags := x.flags) is None or flags.c_contiguous:
        return None
    from gradient.backends.memory_order import dimension_order  # rarely needed

    return dimension_order(x.shape, x.strides)


def _like(
    op: str, input: Tensor, dtype: DTypeLike | None, device: DeviceLike, memory_format: object
) -> tuple[tuple[int, ...], Maker, np.dtype | DType, Backend, list[int] | None]:
    """Return what makes an array like that of `input`: its shape with the dimensions in their order
    in memory, the maker, the dtype, the backend, and that order (None: row-major)."""
    array = tensor_of(op, input).array
    backend = backend_like(input, device)
    make: Any = backend
    kind = array.dtype
    if dtype is not None:
        make, kind = maker(backend, dtype)
    elif isinstance(kind, PackedDType):
        make = maker_of(op, array, backend)
    shape, order = array.shape, None
    if memory_format is not None or (
        backend.strided and (flags := array.flags) is not None and not flags.c_contiguous
    ):
        order = order_like(op, array, backend.strided and make is backend, memory_format)
        if order is not None:
            shape = tuple(shape[d] for d in order)
    return shape, make, kind, backend, order


@creation_op_like
def empty_like(
    input: Tensor,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    memory_format: object = None,
) -> Tensor:
    """An uninitialised tensor of the shape, dtype, device and order in memory of `input`."""
    shape, make, kind, backend, order = _like("empty_like", input, dtype, device, memory_format)
    array = make.empty(shape, kind)
    if order is not None:
        array = turned_back(array, backend, order)
    return finished(array, backend, requires_grad)


@creation_op_like
def zeros_like(
    input: Tensor,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    memory_format: object = None,
) -> Tensor:
    """Zeros of the shape, dtype, device and order in memory of `input`."""
    shape, make, kind, backend, order = _like("zeros_like", input, dtype, device, memory_format)
    array = make.zeros(shape, kind)
    if order is not None:
        array = turned_back(array, backend, order)
    return finished(array, backend, requires_grad)


@creation_op_like
def ones_like(
    input: Tensor,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    memory_format: object = None,
) -> Tensor:
    """Ones of the shape, dtype, device and order in memory of `input`."""
    shape, make, kind, backend, order = _like("ones_like", input, dtype, device, memory_format)
    array = make.ones(shape, kind)
    if order is not None:
        array = turned_back(array, backend, order)
    return finished(array, backend, requires_grad)


@creation_op_like
def full_like(
    input: Tensor,
    fill_value: Tensor | Number,
    *,
    dtype: DTypeLike | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    memory_format: object = None,
) -> Tensor:
    """Make a tensor filled with `fill_value`, of the shape, dtype, device and order in memory of
    `input`."""
    shape, make, kind, backend, order = _like("full_like", input, dtype, device, memory_format)
    fill_value = number_of("full_like", "fill_value", fill_value, takes_complex=True)
    fill_value = fitting("full_like", "fill_value", fill_value, dtype_of(kind))
    array = turned_back(make.full(shape, fill_value, kind), backend, order)
    return finished(array, backend, requires_grad)
