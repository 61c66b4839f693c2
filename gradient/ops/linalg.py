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
