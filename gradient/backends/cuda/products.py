"""Matrix products by cuBLAS, without copies of operands; with a bias by cuBLASLt."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from gradient.backends import matmul_precision
from gradient.backends.array_api import FLOAT32, Array
from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.cuda.cublas import Operand, Sizes
from gradient.backends.cuda.cublas_lt import EPILOGUE_BIAS, EPILOGUE_GELU_BIAS
from gradient.backends.cuda.launching import FLOATS, LOAD, KernelLauncher
from gradient.backends.packed import PackedArray
from gradient.backends.required import Shape

ACTIVATIONS = {"gelu_tanh": EPILOGUE_GELU_BIAS}
"""What a product may end in (`linear_activation`). Not ReLU: cublasLt.h says max(x, 0) of it, which
is 0 of NaN in CUDA's arithmetic, and so would hide that a step went wrong."""
MAX_CALLS = 16
"""Of cuBLAS for one product of stacks of matrices, before an operand is copied."""
PADDING_PAYS = 64
"""Multiplications by tensor cores for each byte that is copied, from which on it pays to copy
operands to sizes that are multiples of 16 bytes: for others cuBLAS makes 90 to 140 Tflop/s of an
H100's 750 (its kernels `align1`), even where rows begin at 16 bytes."""


class Products(KernelLauncher, AttentionDefaults[Array]):
    """Overrides of the matrix products."""

    def matmul(self, a: Array, b: Array) -> Array:
        if (of_rows := self._of_rows(a, b)) is not None:
            return of_rows
        shape = _result(a, b)
        if shape is None:
            return super().matmul(a, b)
        left = a[None] if a.ndim == 1 else a
        right = b[:, None] if b.ndim == 1 else b
        out = self.empty((*shape, left.shape[-2], right.shape[-1]), a.dtype)
        self._multiply(left, right, out)
        ends = ((left.shape[-2],) if a.ndim > 1 else ()) + (
            (right.shape[-1],) if b.ndim > 1 else ()
        )
        shape = (*shape, *ends)
        return out if out.shape == shape else out.reshape(shape)

    def _of_rows(self, a: Array, b: Array) -> Array | None:
        """The rows of an array times one matrix, in place, with little overhead; None if something
        must be copied, or checked, first."""
        if a.dtype != b.dtype or a.dtype not in FLOATS:
            return None
        call = _call_of_rows(a.shape, a.strides, b.shape, b.strides, a.itemsize)
        if call is None:
            return None
        left, right = self.runtime.address(a), self.runtime.address(b)
        if _by_tensor_cores(a.dtype) and ((left | right) % LOAD or not call.is_in_loads):
            return None
        out = self.empty(call.shape, a.dtype)
        self.runtime.blas.multiply(
            a.dtype, call.sizes, Operand(right, *call.right), Operand(left, *call.left),
            Operand(self.runtime.address(out), False, call.sizes.m),
        )  # fmt: skip
        return out

    def linear(self, x: Array, weight: Array | PackedArray, bias: Array | None = None) -> Array:
        y = None if bias is None else self._biased(x, weight, bias, EPILOGUE_BIAS)
        return super().linear(x, weight, bias) if y is None else y

    def linear_activation(
        self, x: Array, weight: Array | PackedArray, bias: Array, activation: str
    ) -> Array:
        # cuBLASLt's GELU is accurate to about eight digits.
        epilogue = ACTIVATIONS.get(activation) if x.dtype != np.float64 else None
        y = None if epilogue is None else self._biased(x, weight, bias, epilogue)
        return super().linear_activation(x, weight, bias, activation) if y is None else y

    def _biased(
        self, x: Array, weight: Array | PackedArray, bias: Array, epilogue: int
    ) -> Array | None:
        """A product with a bias and an epilogue; None if cuBLASLt has none."""
        if isinstance(weight, PackedArray) or not _has_bias_product(x, weight, bias):
            return None
        out = self.empty((*x.shape[:-1], weight.shape[0]), x.dtype)
        call = _call_of_linear(x, weight)
        if call is None:
            x, weight = self._laid_out(x.reshape((-1, x.shape[-1]))), self._laid_out(weight)
            call = _call_of_linear(x, weight)
            assert call is not None
        bias, address = self.contiguous(bias), self.runtime.address
        done = self.runtime.blas_lt.multiply(
            x.dtype, call.sizes, Operand(address(weight), *call.right),
            Operand(address(x), *call.left), Operand(address(out), False, call.sizes.m),
            address(bias), epilogue,
        )  # fmt: skip
        return out if done else None

    def _multiply(self, a: Array, b: Array, out: Array) -> None:
        """out = a @ b, for arrays of two axes or more."""
        a, b = self._laid_out(a), self._laid_out(b)
        if b.ndim == 2 and self._is_worth_padding(a, b, out):
            (k, n), a = b.shape, a.reshape((-1, a.shape[-1]))
            whole_k, whole_n = _in_loads(k, a), _in_loads(n, a)
            if whole_k > k or not self._begins_at_loads(a):
                a = self._padded(a, a.shape[0], whole_k)
            if (whole_k, whole_n) != (k, n) or not self._begins_at_loads(b):
                b = self._padded(b, whole_k, whole_n)
            if whole_n > n:
                product = self.empty((a.shape[0], whole_n), a.dtype)
                self._multiply_where_they_lie(a, b, product)
                self.assign(out.reshape((-1, n)), ..., product[:, :n])
                return
            out = out.reshape((-1, n))
        self._multiply_where_they_lie(a, b, out)

    def _is_worth_padding(self, a: Array, b: Array, out: Array) -> bool:
        """Whether cuBLAS is faster for sizes padded to multiples of 16 bytes, copies included."""
        k, n = b.shape
        is_k_odd, is_n_odd = (size != _in_loads(size, a) for size in (k, n))
        copied = 0
        if is_k_odd or not self._begins_at_loads(a):
            copied += a.nbytes
        if is_k_odd or is_n_odd or not self._begins_at_loads(b):
            copied += b.nbytes
        if is_n_odd:
            copied += out.nbytes
        return (
            copied > 0
            and out.size > n
            and _by_tensor_cores(out.dtype)
            and out.size * k >= PADDING_PAYS * copied
        )

    def _begins_at_loads(self, x: Array) -> bool:
        """Whether all rows (or columns, if these are contiguous) are aligned to 16 bytes, as the
        fastest tensor-core kernels need."""
        return self.runtime.address(x) % LOAD == 0 and not any(
            step % LOAD
            for size, step in zip(x.shape, x.strides, strict=True)
            if size > 1 and step != x.itemsize
        )

    def _padded(self, x: Array, rows: int, columns: int) -> Array:
        """A zero-padded copy in x's memory order, with rows or columns aligned to 16 bytes."""
        by_columns, _ = _layout(x) or (False, 0)
        if by_columns:
            return self._padded(x.T, columns, rows).T
        (m, n), pitch = x.shape, _in_loads(columns, x)
        out = self.empty((rows, pitch), x.dtype)[:, :columns]
        self.assign(out, (slice(m), slice(n)), x)
        for rest in ((slice(None), slice(n, None)), (slice(m, None), slice(None))):
            if out[rest].size:
                self.assign(out, rest, 0)
        return out

    def _multiply_where_they_lie(self, a: Array, b: Array, out: Array) -> None:
        """The same for operands that cuBLAS can read in place."""
        (m, k), n = a.shape[-2:], b.shape[-1]
        if math.prod(b.shape[:-2]) == 1 and (rows := _as_rows(a)) is not None:
            # One matrix for all: the rows of the batch form a single matrix.
            count, stride = rows
            of_rows = Operand(self.runtime.address(a), False, max(stride, k))
            self._call(a.dtype, Sizes(n, count, k), self._operand(b), of_rows, out, 0)
            return
        axes = _merged(out, a, b)
        if math.prod(axis.size for axis in axes) > MAX_CALLS * max(axis.size for axis in axes):
            a, b = self.contiguous(a), self.contiguous(b)
            axes = _merged(out, a, b)
        inner = max(axes, key=lambda axis: axis.size)
        outer = [axis for axis in axes if axis is not inner]
        left, right = self._operand(a), self._operand(b)
        left, right = left._replace(stride=inner.a), right._replace(stride=inner.b)
        sizes, width = Sizes(n, m, k, inner.size), a.itemsize
        for place in np.ndindex(*(axis.size for axis in outer)):
            at = list(zip(place, outer, strict=True))
            from_a, from_b = (sum(i * axis[part] for i, axis in at) for part in (1, 2))
            self._call(
                a.dtype, sizes,
                right._replace(address=right.address + width * from_b),
                left._replace(address=left.address + width * from_a),
                out, sum(i * axis.out for i, axis in at), inner.out,
            )  # fmt: skip

    def _call(
        self, dtype: np.dtype, sizes: Sizes, a: Operand, b: Operand, out: Array, at: int,
        stride: int = 0,
    ) -> None:  # fmt: skip
        address = self.runtime.address(out) + out.itemsize * at
        self.runtime.blas.multiply(dtype, sizes, a, b, Operand(address, False, sizes.m, stride))

    def _laid_out(self, x: Array) -> Array:
        """x in a layout that cuBLAS can read; a copy if neither rows nor columns are contiguous."""
        return self.contiguous(x) if _layout(x) is None else x

    def _operand(self, x: Array) -> Operand:
        """The first matrix of a stack, in column-major order: a row-major one is transposed."""
        layout = _layout(x)
        assert layout is not None
        return Operand(self.runtime.address(x), *layout)


class CallOfRows(NamedTuple):
    """A product with one matrix: the result's shape, sizes in cuBLAS's column-major order, the
    factors' layouts (`_layout`), and whether all rows, or columns, are whole loads of 16 bytes."""

    shape: Shape
    sizes: Sizes
    left: tuple[bool, int]
    right: tuple[bool, int]
    is_in_loads: bool


@functools.lru_cache(4096)
def _call_of_rows(
    a: Shape, a_steps: Shape, b: Shape, b_steps: Shape, width: int
) -> CallOfRows | None:
    """The product of arrays of these sizes and strides, with elements of `width` bytes."""
    if len(a) < 2 or len(b) != 2 or a[-1] != b[0] or 0 in a or 0 in b:
        return None
    rows, (k, n) = math.prod(a[:-1]), b
    shape = (*a[:-1], n)
    if len(a) > 2:  # leading axes must be mergeable
        expected = tuple(math.prod(a[i + 1 :]) * width for i in range(len(a)))
        if a_steps != expected:
            return None
        a, a_steps = (rows, k), (k * width, width)
    left, right = _layout_of(a, a_steps, width), _layout_of(b, b_steps, width)
    if left is None or right is None:
        return None
    steps = zip((*a, *b), (*a_steps, *b_steps), strict=True)
    pitches = [step for size, step in steps if size > 1 and step != width]
    is_in_loads = not any(each % LOAD for each in (k * width, n * width, *pitches))
    return CallOfRows(shape, Sizes(n, rows, k), left, right, is_in_loads)


def _call_of_linear(x: Array, weight: Array) -> CallOfRows | None:
    """The same for the rows of x times the transpose of a weight."""
    return _call_of_rows(
        x.shape, x.strides, weight.shape[::-1], weight.strides[::-1], x.itemsize
    )  # fmt: skip


class Axis(NamedTuple):
    """An axis of a batch of products: its size, and the strides along it, in elements."""

    size: int
    a: int
    b: int
    out: int


def _result(a: Array, b: Array) -> Shape | None:
    """The leading axes of a @ b; None if cuBLAS cannot compute it, or the shapes do not match."""
    if not (a.dtype == b.dtype and a.dtype in FLOATS and a.ndim and b.ndim and a.size and b.size):
        return None
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        return None
    try:
        return np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        return None


def _has_bias_product(x: Array, weight: Array, bias: Array | None) -> bool:
    return (
        bias is not None
        and x.dtype == weight.dtype == bias.dtype
        and x.dtype in FLOATS
        and x.size > 0
        and weight.size > 0
        and weight.ndim == 2
        and x.ndim > 0
        and x.shape[-1] == weight.shape[1]
        and bias.shape == weight.shape[:1]
    )


def _by_tensor_cores(dtype: np.dtype) -> bool:
    return dtype.itemsize == 2 or (dtype == FLOAT32 and matmul_precision.allows_tf32())


def _in_loads(size: int, x: Array) -> int:
    """The size rounded up to whole loads of 16 bytes."""
    each = LOAD // x.itemsize
    return -(-size // each) * each


def _layout(x: Array) -> tuple[bool, int] | None:
    """The layout of an array's matrices: whether they are column-major, and their leading
    dimension, in elements. None if neither rows nor columns are contiguous."""
    return _layout_of(x.shape[-2:], x.strides[-2:], x.itemsize)


def _layout_of(shape: Shape, strides: Shape, width: int) -> tuple[bool, int] | None:
    """The same for a matrix of this shape and these strides."""
    rows, columns = shape
    by_row, by_column = (stride // width for stride in strides)
    if (columns == 1 or by_column == 1) and (rows == 1 or by_row >= columns):
        return False, by_row if rows > 1 else columns
    if (rows == 1 or by_row == 1) and (columns == 1 or by_column >= rows):
        return True, by_column if columns > 1 else rows
    return None


def _as_rows(x: Array) -> tuple[int, int] | None:
    """The number of rows of all matrices of an array, and their stride in elements; None if they
    are not evenly spaced, or matrices are column-major."""
    by_columns, stride = _layout(x) or (True, 0)
    if by_columns:
        return None
    count = 1
    for size, step in zip(x.shape[-2::-1], x.strides[-2::-1], strict=True):
        if size == 1:
            continue
        if count == 1:
            stride = step // x.itemsize
        elif step != count * stride * x.itemsize:
            return None
        count *= size
    return (count, stride) if stride >= x.shape[-1] else None


def _merged(out: Array, a: Array, b: Array) -> list[Axis]:
    """The leading axes of a product, at least one, with adjacent axes merged if possible; the last
    axis of `out` first."""
    axes: list[Axis] = []
    for back in range(3, out.ndim + 1):
        size = out.shape[-back]
        if size == 1:
            continue
        axis = Axis(size, *(_step(x, back) for x in (a, b, out)))
        last = axes[-1] if axes else None
        if last and all(axis[i] == last[i] * last.size for i in (1, 2, 3)):
            axes[-1] = last._replace(size=last.size * size)
        else:
            axes.append(axis)
    return axes or [Axis(1, 0, 0, 0)]


def _step(x: Array, back: int) -> int:
    """The stride, in elements, of an axis counted from the last; 0 if it is broadcast."""
    if back > x.ndim or x.shape[-back] == 1:
        return 0
    return x.strides[-back] // x.itemsize
