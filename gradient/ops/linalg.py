"""Matrix products."""

from __future__ import annotations

from gradient.autograd.op import op
from gradient.ops.autocast import lowered


@lowered
@op(lambda g, be, b: be.matmul(g, be.matrix_transpose(b)),
    lambda g, be, a: be.matmul(be.matrix_transpose(a), g),
    numbers="same")  # fmt: skip
def matmul(be, a, b, /):
    """(..., M, K) @ (..., K, N) -> (..., M, N); batch axes broadcast."""
    return be.matmul(a, b)


@lowered
@op(lambda g, be, weight: be.linear_input_grad(g, weight),
    lambda g, be, x: be.linear_weight_grad(g, x),
    lambda g: g,
    numbers="same")  # fmt: skip
def linear(be, x, weight, bias=None, /):
    """x (..., K) @ weight (N, K).T + bias (N,) -> (..., N). The weight may be packed."""
    return be.linear(x, weight, bias)


@lowered
@op(lambda g, be, weights, counts: be.grouped_linear_input_grad(g, weights, counts),
    lambda g, be, x, counts: be.grouped_linear_weight_grad(g, x, counts),
    numbers="same")  # fmt: skip
def grouped_linear(be, x, /, *weights, counts):
    """The first counts[0] rows of x (M, K) by weights[0] (N, K).T, the next by weights[1].T, and
    so on: (M, N). `counts` (E,) int64, one a weight; they add up to M."""
    return be.grouped_linear(x, weights, counts)


# Products with a packed weight, which is an option: it has no gradient. `linear` calls these where
# its gradient is differentiated again; each is the transpose of the other.


@op(lambda g, be, weight: be.quantized_matmul_grad(g, weight))
def quantized_matmul(be, x, /, *, weight):
    """x (..., K) @ weight (N, K).T -> (..., N), where the weight is a `PackedArray`."""
    return be.quantized_matmul(x, weight)


@op(lambda g, be, weight: be.quantized_matmul(g, weight))
def quantized_matmul_grad(be, x, /, *, weight):
    """x (..., N) @ weight (N, K) -> (..., K), where the weight is a `PackedArray`."""
    return be.quantized_matmul_grad(x, weight)
