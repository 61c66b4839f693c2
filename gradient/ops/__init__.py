"""Every differentiable op, forward and gradient formula side by side, by family."""

from gradient.ops import (
    activation,
    comparison,
    decompositions,
    elementwise,
    fused,
    index,
    linalg,
    loss,
    recurrent,
    reduce,
    shape,
    special,
    trigonometry,
)

__all__ = [
    "activation",
    "comparison",
    "decompositions",
    "elementwise",
    "fused",
    "index",
    "linalg",
    "loss",
    "recurrent",
    "reduce",
    "shape",
    "special",
    "trigonometry",
]
