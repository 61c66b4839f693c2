"""Matrix products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradient.autograd.op import op

if TYPE_CHECKING:
    from gradient.backends import Array, Backend
    from gradient.backends.packed import PackedArray


@op(lambda g, be, b: be.matmul(g, be.matrix_transpose(b)),
    lambda g, be, a: be.matmul(be.matrix_transpose(a), g),
    promotion="same_dtype", core_dims=2, takes_complex=True,
    autocast="lower_precision")  # fmt: skip
def matmul(be: Backend[Array], a: Array, b: Array, /) -> Array:
    """(..., M, K) @ (..., K, N) -> (..., M, N); batch axes broadcast."""
    return be.matmul(a, b)


def _to_rows(be: Backend[Any], ratio: Any, x: Any, y: Any) -> Any:
    """The sum over rows of y of ratio (..., P, R) times the difference of x and y."""
    return x * be.sum(ratio, -1, True) - be.matmul(ratio, y)


def _over_distance(be: Backend[Any], g: Any, out: Any) -> Any:
    """g / out, and 0 for equal rows."""
    return g / be.where(out == 0, be.full((), math.inf, out.dtype), out)


@op(lambda g, be, x, y, out: _to_rows(be, _over_distance(be, g, out), x, y),
    lambda g, be, x, y, out:
    _to_rows(be, be.matrix_transpose(_over_distance(be, g, out)), y, x),
    promotion="same_dtype", core_dims=2)  # fmt: skip
def euclidean_distances(be: Backend[Array], x: Array, y: Array, /) -> Array:
    """The distances of all pairs of rows of x (..., P, D) and y (..., R, D): (..., P, R), by one
    product, |x|^2 + |y|^2 - 2 x.y. Rows that are closer than the rounding of these count as equal,
    or as that far apart."""
    own, others = be.sum(x * x, -1, True), be.sum(y * y, -1, True)
    squares = be.matmul(x, be.matrix_transpose(y)) * -2 + own + be.matrix_transpose(others)
    return be.sqrt(be.maximum(squares, be.full((), 0, squares.dtype)))


@op(lambda g, be, weight: be.linear_input_grad(g, weight),
    lambda g, be, x: be.linear_weight_grad(g, x),
    lambda g: g,
    promotion="same_dtype", packed="weight", takes_complex=True,
    autocast="lower_precision")  # fmt: skip
def linear(be: Backend[Array], x: Array, weight: Array, bias: Array | None = None, /) -> Array:
    """x (..., K) @ weight (N, K).T + bias (N,) -> (..., N). The weight may be packed."""
    return be.linear(x, weight, bias)


@op(lambda g, be, weights, counts: be.grouped_linear_input_grad(g, weights, counts),
    lambda g, be, x, counts: be.grouped_linear_weight_grad(g, x, counts),
    promotion="same_dtype", packed="weights", autocast="lower_precision")  # fmt: skip
def grouped_linear(be: Backend[Array], x: Array, /, *weights: Array, counts: Any) -> Array:
    """Multiply the first counts[0] rows of x (M, K) by weights[0] (N, K).T, the next counts[1] by
    weights[1].T, and so on: (M, N). `counts` is int64 (E,), for E weights, with the sum M."""
    return be.grouped_linear(x, weights, counts)


# Products with a packed weight, which is an option, because it has no gradient. `linear` uses these
# for higher derivatives; each is the transpose of the other.


@op(lambda g, be, weight: be.quantized_matmul_grad(g, weight))
def quantized_matmul(be: Backend[Array], x: Array, /, *, weight: PackedArray) -> Array:
    """x (..., K) @ weight (N, K).T -> (..., N) for a `PackedArray` as weight."""
    return be.quantized_matmul(x, weight)


@op(lambda g, be, weight: be.quantized_matmul(g, weight))
def quantized_matmul_grad(be: Backend[Array], x: Array, /, *, weight: PackedArray) -> Array:
    """x (..., N) @ weight (N, K) -> (..., K) for a `PackedArray` as weight."""
    return be.quantized_matmul_grad(x, weight)
