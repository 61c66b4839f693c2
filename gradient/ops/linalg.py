"""Matrix products."""

from __future__ import annotations

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
