"""Complex numbers: their parts, conjugates, and discrete Fourier transforms.

A complex array is stored as pairs of real numbers, so most methods work on its bytes read as real
numbers. The transforms are products with the matrix of the definition: accurate, but slow.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradient.backends.composed.shared import is_complex
from gradient.backends.required import Array, RequiredMethods, Shape
from gradient.dtypes import dtype_of


def parts_dtype(dtype: Any) -> np.dtype:
    """The dtype of the real and imaginary parts of a complex dtype."""
    return dtype_of(dtype).to_real().numpy


def complex_dtype(dtype: Any) -> np.dtype:
    """The complex dtype whose parts have this dtype."""
    return dtype_of(dtype).to_complex().numpy


def scale_of(norm: str, n: int, inverse: bool) -> float:
    """The factor of a transform over n elements. `norm` is the direction that is divided by n,
    "backward" or "forward"; with "ortho" both are divided by sqrt(n)."""
    if norm == "ortho":
        return 1 / math.sqrt(n)
    return 1 / n if (norm == "backward") == inverse else 1.0


class ComplexDefaults(RequiredMethods[Array]):
    """Methods of `Backend` that make, take apart and transform complex arrays."""

    def view_as_real(self, x: Array) -> Array:
        """Complex (...) as its parts (..., 2); a view where the library has one."""
        return self.bitcast(self.reshape(x, (*x.shape, 1)), parts_dtype(x.dtype))

    def view_as_complex(self, x: Array) -> Array:
        """Parts (..., 2) as complex (...); a view where the library has one."""
        return self.reshape(self.bitcast(x, complex_dtype(x.dtype)), tuple(x.shape[:-1]))

    def complex(self, real: Array, imag: Array) -> Array:
        """The complex array with these parts, which have the same shape and dtype."""
        shape = (*real.shape, 1)
        parts = [self.reshape(real, shape), self.reshape(imag, shape)]
        return self.view_as_complex(self.concatenate(parts, len(shape) - 1))

    def real(self, x: Array) -> Array:
        """The real part of a complex array."""
        return self.getitem(self.view_as_real(x), (..., 0))

    def imag(self, x: Array) -> Array:
        """The imaginary part of a complex array."""
        return self.getitem(self.view_as_real(x), (..., 1))

    def conj(self, x: Array) -> Array:
        """The conjugate; for real numbers, x itself."""
        return self.complex(self.real(x), -self.imag(x)) if is_complex(x) else x

    # Discrete Fourier transforms -----------------------------------------------------------------

    def fft(self, x: Array, axes: Shape, inverse: bool, norm: str) -> Array:
        """The transform of a complex array along each of `axes`: sum_j x_j e^(-2 pi i j k / n),
        or its inverse, with the other sign."""
        for axis in axes:
            n = x.shape[axis]
            cos, sin = self._waves(n, n, x.dtype)
            sin = -sin if inverse else sin
            rows = self._to_last(x, axis)
            a, b = self.real(rows), self.imag(rows)
            out = self.complex(
                self.matmul(a, cos) + self.matmul(b, sin), self.matmul(b, cos) - self.matmul(a, sin)
            )
            x = self._to_last(out, axis, back=True) * scale_of(norm, n, inverse)
        return x

    def rfft(self, x: Array, axis: int, norm: str) -> Array:
        """The first n // 2 + 1 terms of the transform of a real array along `axis`; the other terms
        are their conjugates."""
        n = x.shape[axis]
        cos, sin = self._waves(n, n // 2 + 1, x.dtype)
        rows = self._to_last(x, axis)
        out = self.complex(self.matmul(rows, cos), -self.matmul(rows, sin))
        return self._to_last(out, axis, back=True) * scale_of(norm, n, False)

    def irfft(self, x: Array, axis: int, n: int, norm: str) -> Array:
        """The n real numbers whose transform has the first n // 2 + 1 terms `x`. The imaginary part
        of the first term has no effect, nor, for even n, that of the last."""
        half = n // 2 + 1
        cos, sin = self._waves(n, half, x.dtype)
        twice = self.asarray(mirrored(n).astype(parts_dtype(x.dtype)))
        rows = self._to_last(x, axis)
        a, b = self.real(rows) * twice, self.imag(rows) * twice
        t = self.permute
        out = self.matmul(a, t(cos, (1, 0))) - self.matmul(b, t(sin, (1, 0)))
        return self._to_last(out, axis, back=True) * scale_of(norm, n, True)

    def _waves(self, n: int, terms: int, dtype: Any) -> tuple[Array, Array]:
        """cos and sin of 2 pi j k / n: (n, terms)."""
        turns = np.outer(np.arange(n), np.arange(terms)) % max(n, 1)
        angles = turns * (2 * math.pi / max(n, 1))
        kind = parts_dtype(dtype)
        return (
            self.asarray(np.cos(angles).astype(kind)),
            self.asarray(np.sin(angles).astype(kind)),
        )

    def _to_last(self, x: Array, axis: int, back: bool = False) -> Array:
        """`x` with `axis` moved to the end, or back from there."""
        order = [i for i in range(len(x.shape)) if i != axis] + [axis]
        if back:
            order = sorted(range(len(order)), key=order.__getitem__)
        return self.permute(x, tuple(order))


def mirrored(n: int) -> np.ndarray:
    """How often each of the first n // 2 + 1 terms occurs in a transform of n real numbers: twice,
    as itself and as a conjugate; but the first, and for even n the last, once."""
    times = np.full(n // 2 + 1, 2)
    times[0] = 1
    if n % 2 == 0:
        times[-1] = 1
    return times


# Elementwise functions of complex numbers, from the required ones; `ElementwiseDefaults` has those
# of real numbers. Branch cuts are those of Kahan, Branch Cuts for Complex Elementary Functions
# (1987).


def expm1(be: Any, z: Any) -> Any:
    """e^x cos y - 1 + i e^x sin y, without cancellation near zero."""
    x, y = be.real(z), be.imag(z)
    half = be.sin(y / 2)
    return be.complex(be.expm1(x) * be.cos(y) - 2 * half * half, be.exp(x) * be.sin(y))


def log1p(be: Any, z: Any) -> Any:
    """log |1 + z| + i times its angle, without cancellation near zero."""
    x, y = be.real(z), be.imag(z)
    return be.complex(be.log1p(x * (2 + x) + y * y) / 2, be.arctan2(y, 1 + x))


def sinh(be: Any, z: Any) -> Any:
    return (be.expm1(z) - be.expm1(-z)) / 2


def cosh(be: Any, z: Any) -> Any:
    return (be.exp(z) + be.exp(-z)) / 2


def arcsinh(be: Any, z: Any) -> Any:
    return be.log(z + be.sqrt(z * z + 1))


def arccosh(be: Any, z: Any) -> Any:
    return be.log(z + be.sqrt(z + 1) * be.sqrt(z - 1))


def sigmoid(be: Any, z: Any) -> Any:
    """1 / (1 + e^-z), or e^z / (1 + e^z) where that cannot overflow."""
    left = be.real(z) < 0
    e = be.exp(be.where(left, z, -z))
    return be.where(left, e, e * 0 + 1) / (1 + e)


def largest_real(be: Any, z: Any, axis: Any) -> Any:
    """The largest real part along `axis`, which stays with size 1."""
    return be.max(be.real(z), axis, True)


def logaddexp(be: Any, a: Any, b: Any) -> Any:
    """log(e^a + e^b) = h + log(1 + e^(l - h)), where h has the larger real part; NaN in both parts
    where a part of a or b is NaN. Of two infinite real parts the sum is taken as it is, and its
    logarithm is b where both are -inf."""
    x, y = be.real(a), be.real(b)
    same = (x == y) & (be.abs(x) == math.inf)
    zero = be.zeros_like(a)
    left = x >= y
    high, low = be.where(left, a, b), be.where(left, b, a)
    gap = be.exp(be.where(same, zero, low - high))
    direct = be.where(
        x < 0, b, be.log(be.exp(be.where(same, a, zero)) + be.exp(be.where(same, b, zero)))
    )
    out = be.where(same, direct, high + be.log1p(gap))
    nan = (x + y) * math.nan
    return be.where((a == a) & (b == b), out, be.complex(nan, nan))


def arctanh(be: Any, z: Any) -> Any:
    return (be.log1p(z) - be.log1p(-z)) / 2


def arcsin(be: Any, z: Any) -> Any:
    return be.arcsinh(z * 1j) * -1j


def arccos(be: Any, z: Any) -> Any:
    return math.pi / 2 - be.arcsin(z)


def arctan(be: Any, z: Any) -> Any:
    return be.arctanh(z * 1j) * -1j
