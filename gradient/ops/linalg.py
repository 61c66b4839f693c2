"""Matrix products."""

from __future__ import annotations

from gradient.autograd.op import op
from gradient.ops.autocast import lowered


@lowered
@op(lambda g, be, b: be.matmul(g, be.swap_last(b)),
    lambda g, be, a: be.matmul(be.swap_last(a), g),
    numbers="same")  # fmt: skip
def matmul(be, a, b, /):
    """(..., M, K) @ (..., K, N) -> (..., M, N); batch axes broadcast."""
    return be.matmul(a, b)


@lowered
@op(lambda g, be, weight: be.linear(g, be.permute(weight, (1, 0))),
    lambda g, be, x: be.linear_weight_grad(g, x),
    lambda g: g,
    numbers="same")  # fmt: skip
def linear(be, x, weight, bias=None, /):
    """x (..., K) @ weight (N, K).T + bias (N,) -> (..., N)."""
    return be.linear(x, weight, bias)


@lowered
@op(lambda g, be, weights, counts:
        be.grouped_linear(g, [be.permute(w, (1, 0)) for w in weights], counts),
    lambda g, be, x, counts: be.grouped_linear_weight_grad(g, x, counts),
    numbers="same")  # fmt: skip
def grouped_linear(be, x, /, *weights, counts):
    """The first counts[0] rows of x (M, K) by weights[0] (N, K).T, the next by weights[1].T, and
    so on: (M, N). `counts` (E,) int64, one a weight; they add up to M."""
    return be.grouped_linear(x, weights, counts)
