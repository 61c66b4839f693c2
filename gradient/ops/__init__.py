"""Every differentiable op, forward and gradient formula side by side, by family.

What layers and losses alone use (convolution, loss, pooling, recurrent) is imported with them.
"""

from gradient.ops import (
    activation,
    comparison,
    complex_numbers,
    decompositions,
    elementwise,
    fused,
    index,
    linalg,
    reduce,
    shape,
    special,
    trigonometry,
)

__all__ = [
    "activation",
    "comparison",
    "complex_numbers",
    "decompositions",
    "elementwise",
    "fused",
    "index",
    "linalg",
    "reduce",
    "shape",
    "special",
    "trigonometry",
]
