"""Tensors of 8-bit floats: casts to and from them, and their product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from gradient.autograd.explain import packed_refused
from gradient.autograd.modes import mode
from gradient.autograd.variable import Variable, wrap
from gradient.backends.packed import PackedArray, is_packed
from gradient.dtypes import BY_NUMPY, DType, dtype_of, float32, uint8
from gradient.dtypes.float8 import Float8
from gradient.errors import ArgumentError, AutogradError, DTypeError, ShapeError, sentence
from gradient.tensor.arguments import tensor_of

if TYPE_CHECKING:
    from gradient.backends import Backend
    from gradient.backends.operators import ArrayOperators
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor

    class Maker(Protocol):
        """The maker of arrays of a dtype: a backend, or `Codes`."""

        def full(self, shape: tuple[int, ...], number: Any, dtype: Any, /) -> object: ...
        def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> object: ...
        def ones(self, shape: tuple[int, ...], dtype: Any, /) -> object: ...
        def empty(self, shape: tuple[int, ...], dtype: Any, /) -> object: ...


def converted(tensor: Variable, dtype: DType) -> Tensor:
    """Convert `tensor` to `dtype`, if one of the two dtypes is an 8-bit float or packed."""
    be, array = tensor.backend, tensor.array
    if is_packed(array):
        if not array.dtype.elementwise:
            raise packed_refused("to", array)
        unpacked: Any = wrap(be.unpack(array), be)
        return unpacked.to(dtype=dtype)
    if not isinstance(dtype, Float8):
        raise DTypeError(
            f"to: {dtype} is a packed dtype; make such a tensor by gradient.quantization."
            f"quantize(tensor, {dtype.name!r})"
        )
    if tensor.node is not None and mode.grad:
        raise AutogradError(
            f"to: 8-bit floats carry no gradient, and this tensor requires one; cast x.detach() to "
            f"{dtype}, or do it in an autograd.Function"
        )
    array = array.real if array.dtype.kind == "c" else array
    return wrap(encoded(be, be.astype(array, float32.numpy), dtype), be)


def view_as_bits(tensor: Variable, dtype: DType) -> Tensor:
    """Do `tensor.view(dtype)`, if one of the two dtypes is an 8-bit float or packed."""
    array: Any = tensor.array
    for each in (BY_NUMPY[array.dtype], dtype):
        if not each.elementwise:
            raise DTypeError(f"view: {each} is a packed dtype, whose elements share blocks")
    codes: Any = tensor
    if is_packed(array):
        codes = wrap(array.parts[0], tensor.backend)
        codes.view_info = (tensor, None, {})
    if not isinstance(dtype, Float8):
        return codes.view(dtype)
    codes = codes.view(uint8)
    out = wrap(PackedArray(dtype, array.shape, (codes.array,)), tensor.backend)
    out.view_info = (tensor, None, {})
    return out


class Codes:
    """Makes arrays of 8-bit floats, with a backend's methods."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def full(self, shape: tuple[int, ...], number: float, dtype: Float8) -> PackedArray:
        codes = self.backend.full(shape, dtype.code_of(number), uint8.numpy)
        return PackedArray(dtype, shape, (codes,))

    def zeros(self, shape: tuple[int, ...], dtype: Float8) -> PackedArray:
        return self.full(shape, 0.0, dtype)

    empty = zeros

    def ones(self, shape: tuple[int, ...], dtype: Float8) -> PackedArray:
        return self.full(shape, 1.0, dtype)


def maker_of(op: str, array: Any, backend: Any) -> Maker:
    """Return the maker of arrays of the dtype of `array`, the backend or `Codes`; raise for dtypes
    with blocks."""
    if not is_packed(array):
        return backend
    if not array.dtype.elementwise:
        raise packed_refused(op, array)
    return Codes(backend)


def where_float8(condition: Tensor, a: Any, b: Any) -> Tensor:
    """Do `where(condition, a, b)` if one or both are 8-bit floats of one dtype, and the other is a
    number."""
    (dtype, *others) = {x.dtype for x in (a, b) if isinstance(x, Variable)}
    if others or not isinstance(dtype, Float8):
        raise DTypeError(sentence("where", "tensors of one dtype of 8 bits", [dtype, *others]))
    a, b = (view_as_bits(x, uint8) if isinstance(x, Variable) else dtype.code_of(x) for x in (a, b))
    like: Any = a if isinstance(a, Variable) else b
    codes = like.where(condition, b) if like is a else like.where(~condition, a)
    return wrap(PackedArray(dtype, codes.shape, (codes.array,)), codes.backend)


def encoded(be: Any, values: Any, dtype: Float8) -> PackedArray:
    """Round float32 numbers to 8-bit floats."""
    return PackedArray(dtype, tuple(values.shape), (dtype.encode(be, values),))


def _scaled_mm(
    input: Tensor,
    mat2: Tensor,
    scale_a: Tensor,
    scale_b: Tensor,
    bias: Tensor | None = None,
    scale_result: Tensor | None = None,
    out_dtype: DTypeLike | None = None,
    use_fast_accum: bool = False,
) -> Tensor:
    """Multiply two matrices of 8-bit floats, each with a scale: PyTorch's `_scaled_mm`.

    (scale_a * input) @ (scale_b * mat2) + bias, summed in float32 and rounded once. A GPU of
    compute capability 8.9 or later multiplies the 8-bit numbers directly if K and N are multiples
    of 16. A row-major input and a column-major mat2 (`weight.t()`) are read without a copy.

    Args:
        input: (M, K), float8_e4m3fn or float8_e5m2.
        mat2: (K, N), likewise.
        scale_a: one number; or (M, 1) if scale_b is (1, N).
        scale_b: one number, or (1, N).
        bias: (N,).
        out_dtype: the dtype of the result; by default that of `input`.
        use_fast_accum: let a GPU sum in fewer bits.

    Raises:
        DTypeError: a matrix does not have 8-bit floats.
        ShapeError: shapes do not fit.
        ArgumentError: `scale_result` is given for a result of 8 bits: PyTorch divides by it on the
            CPU and multiplies by it on a GPU.
    """
    op = "_scaled_mm"
    a, b = tensor_of(op, input), tensor_of(op, mat2)
    for name, each in (("input", a), ("mat2", b)):
        if not isinstance(each.dtype, Float8):
            raise DTypeError(sentence(op, f"8-bit floats as {name}", each.dtype))
        if each.ndim != 2:
            raise ShapeError(sentence(op, f"a matrix as {name}", tuple(each.shape)))
    (m, k), (inner, n) = a.shape, b.shape
    if k != inner:
        got = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ShapeError(sentence(op, "input (M, K) and mat2 (K, N)", got))
    target = a.dtype if out_dtype is None else dtype_of(out_dtype)
    if not target.is_floating_point or not target.elementwise:
        raise DTypeError(sentence(op, "a floating-point dtype as out_dtype", target))
    if scale_result is not None and isinstance(target, Float8):
        raise ArgumentError(
            f"{op}: scale_result means different things on PyTorch's devices; scale the result of "
            "out_dtype=float32 and cast it"
        )
    be: Any = a.backend
    added = None
    if bias is not None:
        added = tensor_of(op, bias)
        if added.numel() != n:
            raise ShapeError(sentence(op, f"a bias of {n} numbers", tuple(added.shape)))
        added = added.detach().reshape(n).array
    scales = _scales(tensor_of(op, scale_a), tensor_of(op, scale_b), m, n)
    rounded = float32 if isinstance(target, Float8) else target
    out = be.scaled_matmul(a.array, b.array, *scales, added, rounded.numpy, use_fast_accum)
    return wrap(encoded(be, out, target) if isinstance(target, Float8) else out, be)


def _scales(a: Tensor, b: Tensor, m: int, n: int) -> tuple[ArrayOperators, ArrayOperators]:
    """Return the scales of a product in the form that `Backend.scaled_matmul` takes."""
    single = a.numel() == b.numel() == 1
    if not single and ((*a.shape, *b.shape) != (m, 1, 1, n)):
        raise ShapeError(
            sentence(
                "_scaled_mm",
                f"scales of one number each, or scale_a of ({m}, 1) and scale_b of (1, {n})",
                f"{tuple(a.shape)} and {tuple(b.shape)}",
            )
        )
    scales = [each.detach().float() for each in (a, b)]
    return tuple(each.reshape(()).array if single else each.array for each in scales)
