"""Rules for methods whose results depend on one element of each array, and for random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.backends.batched.array import BatchedArray
from gradient.backends.batched.base import Batching, Shape
from gradient.errors import ArgumentError, sentence

BROADCASTING = (
    "abs", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "ceil", "conj",
    "copysign", "cos", "cosh", "entr", "erf", "erfc", "erfcx", "erfinv", "exp", "exp2", "expm1",
    "floor", "floor_divide", "fmod", "gammainc", "gammaincc", "hypot", "imag", "isfinite", "isnan",
    "lgamma", "digamma", "log", "log10", "log1p", "log2", "log_ndtr", "logaddexp", "maximum",
    "minimum", "ndtr", "ndtri", "nextafter", "power", "real", "remainder", "reciprocal_power",
    "round", "sign", "signbit", "sin", "sinh", "sqrt", "tan", "tanh", "trunc", "where", "xlog1py",
    "xlogy", "zeta", "polygamma", "bessel_i", "bessel_ie", "sigmoid", "logsigmoid", "relu",
    "hardtanh", "leaky_relu", "hardsigmoid", "hardswish", "elu", "softplus", "silu", "gelu",
    "addcdiv", "addcmul", "lerp", "clamp", "hardshrink", "softshrink", "bitcast", "view_as_real",
    "view_as_complex", "unpack",
)  # fmt: skip
"""Methods that broadcast, given arrays and then numbers or words. (Those that read two numbers as
one work on the last axis, which is one of the samples.)"""

OF_EQUAL_SHAPES = (
    "sigmoid_grad", "logsigmoid_grad", "relu_grad", "hardtanh_grad", "leaky_relu_grad",
    "hardsigmoid_grad", "hardswish_grad", "elu_grad", "softplus_grad", "silu_grad", "gelu_grad",
    "clamp_grad", "hardshrink_grad", "complex",
)  # fmt: skip
"""Methods that are given arrays of one shape, so that shared ones must be repeated."""


def no_random_numbers() -> ArgumentError:
    """Return the error for a function that draws random numbers with `randomness="error"`."""
    expected = "a function without random numbers, or randomness 'different' or 'same'"
    return ArgumentError(sentence("vmap", expected, "randomness 'error'"))


def is_array(x: Any) -> bool:
    return hasattr(x, "shape")


def _broadcasting(name: str) -> Callable[..., Any]:
    def method(self: Batching, *given: Any, **options: Any) -> Any:
        values, batched = self.aligned(*given)
        return BatchedArray(self, getattr(self.inner, name)(*values, **options), batched)

    method.__name__ = name
    return method


def _of_equal_shapes(name: str) -> Callable[..., Any]:
    def method(self: Batching, *given: Any, **options: Any) -> Any:
        batched = self.is_batched(*given)
        if batched:
            given = tuple([self.whole(x) if is_array(x) else x for x in given])
        else:
            given = tuple(self.values(*given))
        return BatchedArray(self, getattr(self.inner, name)(*given, **options), batched)

    method.__name__ = name
    return method


class ElementwiseRules(Batching):
    """The methods above, casts, creation, and random numbers."""

    def asarray(self, value: Any, dtype: np.dtype | None = None) -> Any:
        if type(value) is BatchedArray and value.be is self:
            return value if dtype is None else self.astype(value, dtype)
        return self.shared(self.inner.asarray(value, dtype))

    def astype(self, x: Any, dtype: np.dtype) -> Any:
        value, batched = self.split(x)
        out = self.inner.astype(value, dtype)
        return x if out is value else BatchedArray(self, out, batched)

    def copy(self, x: Any) -> Any:
        value, batched = self.split(x)
        return BatchedArray(self, self.inner.copy(value), batched)

    def clone(self, x: Any) -> Any:
        value, batched = self.split(x)
        return BatchedArray(self, self.inner.clone(value), batched)

    def _made(self, method: str, shape: Shape, *given: Any) -> Any:
        """A new array, with a place for each sample: it may be written to. Numbers are shared."""
        make, shape = getattr(self.inner, method), tuple(shape)
        if not shape:
            return self.shared(make(shape, *given))
        return self.batch(make((self.size, *shape), *given))

    def full(self, shape: Shape, value: Any, dtype: np.dtype) -> Any:
        return self._made("full", shape, value, dtype)

    def zeros(self, shape: Shape, dtype: np.dtype) -> Any:
        return self._made("zeros", shape, dtype)

    def empty(self, shape: Shape, dtype: np.dtype) -> Any:
        return self._made("empty", shape, dtype)

    def ones(self, shape: Shape, dtype: np.dtype) -> Any:
        return self._made("ones", shape, dtype)

    def arange(self, start: Any, stop: Any, step: Any, dtype: np.dtype) -> Any:
        return self.shared(self.inner.arange(start, stop, step, dtype))

    # Random numbers ------------------------------------------------------------------------------

    def _samples_differ(self) -> bool:
        """Whether each sample gets numbers of its own."""
        if self.randomness == "error":
            raise no_random_numbers()
        return self.randomness == "different"

    def philox(self, key: int, offset: int, blocks: int) -> Any:
        return self.shared(self.inner.philox(key, offset, blocks))

    def _drawn(self, method: str, key: int, offset: int, n: int, of: Any) -> tuple[Any, int]:
        draw = getattr(self.inner, method)
        if not self._samples_differ():
            array, blocks = draw(key, offset, n, of)
            return self.shared(array), blocks
        size = self.size
        array, blocks = draw(key, offset, size * n, of)
        return self.batch(self.inner.reshape(array, (size, n))), blocks

    def uniform(self, key: int, offset: int, n: int, dtype: np.dtype) -> tuple[Any, int]:
        return self._drawn("uniform", key, offset, n, dtype)

    def normal(self, key: int, offset: int, n: int, dtype: np.dtype) -> tuple[Any, int]:
        return self._drawn("normal", key, offset, n, dtype)

    def integers(self, key: int, offset: int, n: int, span: int) -> tuple[Any, int]:
        return self._drawn("integers", key, offset, n, span)

    def dropout(self, key: int, offset: int, x: Any, p: float) -> tuple[Any, int]:
        value, batched = self.split(x)
        if self._samples_differ():
            y, blocks = self.inner.dropout(key, offset, self.whole(x), p)
            return self.batch(y), blocks
        if not batched:
            y, blocks = self.inner.dropout(key, offset, value, p)
            return self.shared(y), blocks
        ones = self.inner.ones(tuple(x.shape), x.dtype)
        kept, blocks = self.inner.dropout(key, offset, ones, p)
        return x * kept, blocks

    def check_range(self, x: Any, low: float, high: float, op: str, name: str) -> None:
        self.inner.check_range(self.values(x)[0], low, high, op, name)

    def check_true(self, holds: Any, message: str) -> None:
        self.inner.check_true(self.values(holds)[0], message)

    # Memory --------------------------------------------------------------------------------------

    def accumulate(self, x: Any, y: Any) -> Any:
        (a, of_a), (b, of_b) = self.split(x), self.split(y)
        if of_b and not of_a:
            return x + y
        return BatchedArray(self, self.inner.accumulate(a, b), of_a)

    def storage(self, x: Any) -> Any:
        return self.inner.storage(self.values(x)[0])

    def is_view(self, x: Any) -> bool:
        return self.inner.is_view(self.values(x)[0])

    def is_view_of(self, x: Any, base: Any) -> bool:
        shares = self.inner.is_view_of(*self.values(x, base))
        if shares and type(base) is BatchedArray and not base.batched:
            base.viewed = True
        return shares

    def offset_in(self, x: Any, base: Any) -> int:
        return self.inner.offset_in(*self.values(x, base))

    def writable(self, x: Any) -> Any:
        value, batched = self.split(x)
        own = self.inner.writable(value)
        return x if own is value else BatchedArray(self, own, batched)


for _name in BROADCASTING:
    setattr(ElementwiseRules, _name, _broadcasting(_name))
for _name in OF_EQUAL_SHAPES:
    setattr(ElementwiseRules, _name, _of_equal_shapes(_name))
