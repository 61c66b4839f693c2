"""Distances between all pairs of rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradient.autograd.autocast import autocasts
from gradient.autograd.forwarding import forwarded
from gradient.autograd.modes import is_grad_enabled
from gradient.errors import ArgumentError, DTypeError, ShapeError, sentence
from gradient.ops import linalg, reduce
from gradient.tensor.arguments import number_of, tensor_of
from gradient.tensor.joining import cat

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor

__all__ = ["cdist"]

COMPUTE_MODES = (
    None,
    "use_mm_for_euclid_dist_if_necessary",
    "use_mm_for_euclid_dist",
    "donot_use_mm_for_euclid_dist",
)

FEW = 25
"""Rows up to which Euclidean distances are computed from differences."""

AT_ONCE, ON_DEVICE = 1 << 20, 1 << 24
"""Differences that are in memory at once, if no gradient needs them all: as many as stay in a
CPU's cache, and as many as keep a GPU busy."""


@autocasts("float32")
@forwarded
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """The p-norm distances of all pairs of rows: (..., P, D) and (..., R, D) -> (..., P, R).

    Args:
        compute_mode: how distances of p=2 are computed. By products of the matrices, which is
            faster, and less exact for rows that are nearly equal, if one has more than 25 rows
            ("use_mm_for_euclid_dist_if_necessary", the default) or always
            ("use_mm_for_euclid_dist"); or from differences ("donot_use_mm_for_euclid_dist").
    """
    x: Any = tensor_of("cdist", x1)
    y: Any = tensor_of("cdist", x2)
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1]:
        expected = "matrices, or batches, of rows of one size"
        raise ShapeError(sentence("cdist", expected, f"{tuple(x.shape)} and {tuple(y.shape)}"))
    for each in (x, y):
        if not each.is_floating_point():
            raise DTypeError(sentence("cdist", "a floating-point dtype", each.dtype))
    if x.dtype is not y.dtype:
        expected, got = "tensors of one dtype", f"{x.dtype} and {y.dtype}"
        raise DTypeError(sentence("cdist", expected, got, "cast one with .to()"))
    if compute_mode not in COMPUTE_MODES:
        expected = f"compute_mode one of {', '.join(map(repr, COMPUTE_MODES))}"
        raise ArgumentError(sentence("cdist", expected, repr(compute_mode)))
    if not number_of("cdist", "p", p) >= 0:  # nor NaN
        raise ArgumentError(sentence("cdist", "p of at least 0", p))
    if p == 2 and _by_products(x, y, compute_mode):
        return linalg.euclidean_distances(x, y)
    of_row = max(math.prod(x.shape[:-2]), math.prod(y.shape[:-2])) * math.prod(y.shape[-2:])
    rows = at_once(x, y) / max(of_row, 1)
    if rows >= x.shape[-2]:
        return distances(x.unsqueeze(-2) - y.unsqueeze(-3), p)
    parts = x.split(max(int(rows), 1), -2)
    return cat([distances(part.unsqueeze(-2) - y.unsqueeze(-3), p) for part in parts], -2)


def at_once(*rows: Tensor) -> float:
    """How many differences of rows to hold in memory at once. All, where their gradient will need
    them, and on the device "meta", where they take none."""
    recorded = is_grad_enabled() and any(x.requires_grad for x in rows)
    if recorded or not rows[0].backend.has_values:
        return math.inf
    return AT_ONCE if rows[0].backend.device == "cpu" else ON_DEVICE


def _by_products(x: Tensor, y: Tensor, compute_mode: str | None) -> bool:
    """Whether PyTorch computes these distances by products of the matrices, too."""
    if x.dtype.itemsize < 4 or not x.shape[-1]:
        return False
    if compute_mode in (None, "use_mm_for_euclid_dist_if_necessary"):
        return x.shape[-2] > FEW or y.shape[-2] > FEW
    return compute_mode == "use_mm_for_euclid_dist"


def distances(difference: Tensor, p: float) -> Tensor:
    """The p-norms along the last dimension; 0 if it is empty. Unlike in `norm`, a NaN makes the
    result NaN for p 0, and the gradients NaN for p 1 and inf."""
    if not difference.shape[-1]:
        return difference.sum(-1)
    if p == math.inf:
        return reduce.chebyshev_norm(difference)
    if p == 1:
        return reduce.taxicab_norm(difference)
    if p != 0:
        return difference.norm(p, -1)
    return difference.sign().abs().masked_fill(difference.isnan(), math.nan).sum(-1)
