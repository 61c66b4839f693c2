"""Differentiable functions at their kinks: expressions, the points, and the known differences.

An expression is of the tensors in `POINTS`, of the package `G` and of its functional `F`. Points
are exact zeros, ties, thresholds, +-1, offsets of 1e6, infinities and NaN. test_kinks_parity.py
compares values, first and second derivatives with PyTorch, and fails for a function without a row.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

INF, NAN = math.inf, math.nan


def columns(*choices: Any) -> tuple[np.ndarray, ...]:
    """Every combination of the choices, each place an array."""
    return tuple(np.array(c, dtype=float) for c in zip(*itertools.product(*choices), strict=True))


def words(text: str) -> list[str]:
    return text.split()


UNARY = [0.0, -0.0, 1, -1, 0.5, -0.5, 2, -2, 3, -3, 6, 20, 0.3, -0.7, 1.5, -1.5, 2.5, 100, -100]
UNARY += [1000, -1000, INF, -INF, NAN, 1e6, -1e6, 1e6 + 0.5, 0.1, 0.9, -6, 4, -4]
PAIR = [0.0, -0.0, 1, -1, 0.5, -0.5, 2, -2, 3, 1.5, 100, INF, -INF, NAN]
LOGITS = [0.0, -0.0, 1, -1, 0.5, -0.5, 2, -2, 3, 0.25, 100, -100, 1e6, INF, -INF, NAN]

A, B = columns(PAIR, PAIR)
P, T = columns([0, 1, 0.5, 0.25, 1e-50, 1 - 1e-16], [0, 1, 0.5, 0.25])
L, U = columns(LOGITS, [0, 1, 0.5])
W, S = columns(LOGITS, [1, -1])
D, E = columns(LOGITS, LOGITS)
X1, X2, X3 = columns(PAIR, PAIR, [1, -1])
ROWS = [[1, 1, 1], [0, 0, 0], [2, 2, 1], [1, 2, 2], [NAN, 1, 1], [1, NAN, NAN], [INF, INF, 1]]
ROWS += [[-INF, -INF, -INF], [0, -0.0, 1], [3, 1, 3, 1, 3], [5], [1e6, 1e6, 1e6 + 1], [0, 2, 0, 3]]

POINTS: dict[str, Any] = {
    "x": np.array(UNARY, dtype=float),
    "a": A,
    "b": B,
    "p": P,  # probabilities, and their targets
    "t": T,
    "l": L,  # logits, and their targets
    "u": U,
    "w": W,  # scores, and their signs
    "s": S,
    "d": D,  # predictions, and their targets
    "e": E,
    "v": np.tile([0, 1, 1e-7, 1e-6, 3, 2, 0.5, 1e6], len(D) // 8),  # variances
    "m": np.stack([X1, X2, X3], 1),
    "n": np.stack([X1, X2], 1),
    "k": X3,
    "r": [np.array(row, dtype=float) for row in ROWS],  # each row on its own
}
"""The tensors of the expressions, by name."""

UNARY_OPS = words(
    """
abs neg sign floor ceil trunc round frac exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal
square sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc erfinv sigmoid relu
logit nan_to_num clone contiguous
"""
)

BINARY_OPS = words(
    """
add sub mul div pow fmod remainder maximum minimum logaddexp atan2 hypot copysign xlogy
nextafter
"""
)

ACTIVATIONS = words(
    """
celu elu gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu relu6 selu
sigmoid silu softplus softshrink softsign tanh tanhshrink
"""
)

NUMBERS = """
x.clamp(0.0, 1.0)  x.clamp(min=0.0)  x.clamp(max=1.0)  x.clamp(1.0, 0.0)  x.clamp(-INF, INF)
x.clamp_min(1.0)  x.clamp_max(1.0)  x.logit(0.1)  x.logit(0.5)  x.round(decimals=1)
x ** 0  x ** 1  x ** 2  x ** 3  x ** -1  x ** -2  x ** 0.5  x ** 1.5  x ** INF  x ** NAN
0 ** x  1 ** x  2.0 ** x  0.5 ** x  (-2.0) ** x  1 / x  0 / x  x / 0  x % 1.0  x % -2.0
x.fmod(1.0)  x.fmod(-2.0)  x.lerp(2 * x, 0.5)  x.nan_to_num(1.0, 2.0, 3.0)  x.float().double()
x.masked_fill(x <= 0, NAN)  G.where(x > 0, x.sqrt(), x * 0)  x.where(x > 0, 2 * x)
G.special.erfcx(x)  G.special.ndtr(x)  G.special.log_ndtr(x)  G.special.entr(x)
x.abs().sqrt()  (x * x).sqrt()  F.relu(x) ** 2  x.sigmoid().log()  x.cumsum(0)  x.sum()  x.mean()
"""

ACTIVATIONS_WITH_OPTIONS = """
F.gelu(x, approximate="tanh")  F.elu(x, 0.3)  F.elu(x, -1.0)  F.celu(x, 0.25)  F.celu(x, -1.0)
F.leaky_relu(x, 0.0)  F.leaky_relu(x, -1.0)  F.threshold(x, 0.0, 0.0)  F.threshold(x, 1.0, 20.0)
F.hardtanh(x, 0.0, 0.5)  F.softplus(x, 2.0, 1.0)  F.softplus(x, 1.0, 0.0)  F.softshrink(x, 0.0)
F.hardshrink(x, 1.0)  F.prelu(a.reshape(1, -1), b)[0]  F.glu(G.stack([a, b], 1))
F.softmax(m, 1)  F.log_softmax(m, 1)  F.softmin(m, 1)  m.softmax(1)  m.log_softmax(1)
F.dropout(x, 0.5, training=False)
"""

PAIRS = """
a.addcmul(a, b)  a.addcdiv(a, b)  a.lerp(b, 0.25)  a.div(b, rounding_mode="trunc")  a.max(b)
a.min(b)  G.where(a > b, a, b)  a.clamp(min=b)  a.clamp(max=b)  a.clamp(b, b + 1)
a.clamp(b, b - 1)  a.clamp(-b, b)  (a * a + b * b).sqrt()  a.rsub(b) if OURS else b - a
G.special.xlog1py(a, b)
F.pairwise_distance(a.unsqueeze(1), b.unsqueeze(1))  F.cosine_similarity(n, n.flip(1))
F.pdist(n)
F.normalize(n)  F.normalize(n, p=3.0)  F.layer_norm(n, (2,))  F.rms_norm(n, (2,))
n.norm(dim=1)  n.norm(0.5, dim=1)  n.norm(1, dim=1)  n.norm(1.5, dim=1)  n.norm(3, dim=1)
n.norm(-1, dim=1)  n.norm(INF, dim=1)  n.norm(-INF, dim=1)
n.amax(1)  n.amin(1)  n.aminmax(dim=1)[0]  n.max(1).values  n.min(1).values  n.median(1).values
n.sort(dim=1, stable=True).values  n.topk(1, 1).values  n.kthvalue(2, 1).values
n.std(1)  n.var(1)  n.prod(1)  n.cumprod(1)  G.stack([a, b, a]).prod(0)  n.logsumexp(1)
n.quantile(0.5, dim=1)  m.quantile(0.25, dim=1)
F.max_pool1d(n.unsqueeze(1), 2)  F.max_pool1d(m.unsqueeze(1), 2, 1, 1)
F.adaptive_max_pool1d(n.unsqueeze(1), 1)
G.cdist(n[:14], n[14:28])
"""

REDUCTIONS = """
r.sum()  r.mean()  r.prod()  r.max()  r.min()  r.amax()  r.amin()  r.median()  r.std()  r.var()
r.norm()  r.norm(1)  r.norm(3)  r.norm(INF)  r.norm(-INF)  r.max(0).values  r.min(0).values
r.median(0).values  r.sort(stable=True).values  r.sort(stable=True, descending=True).values
r.topk(1).values  r.kthvalue(1).values  r.logsumexp(0)  r.quantile(0.5)  r.quantile(0.3)
r.std(unbiased=False)  r.cumprod(0)  r.cumsum(0)  r.prod(0)  r.softmax(0)  r.log_softmax(0)
F.normalize(r, dim=0)  r.logcumsumexp(0)
"""

LOSSES = """
F.binary_cross_entropy(p, t, reduction="none")  F.binary_cross_entropy(p, t.detach())
F.binary_cross_entropy_with_logits(l, u, reduction="none")
F.binary_cross_entropy_with_logits(l, u, reduction="none", pos_weight=G.tensor(3.0))
F.soft_margin_loss(w, s.detach(), reduction="none")
F.multilabel_soft_margin_loss(l.unsqueeze(1), u.unsqueeze(1), reduction="none")
F.multilabel_margin_loss(l.unsqueeze(1), (u * 0).long().unsqueeze(1), reduction="none")  F.rrelu(l)
F.hinge_embedding_loss(w, s.detach(), reduction="none")
F.hinge_embedding_loss(w, s.detach(), margin=0.0, reduction="none")
F.mse_loss(d, e, reduction="none")  F.l1_loss(d, e, reduction="none")
F.smooth_l1_loss(d, e, reduction="none")  F.smooth_l1_loss(d, e, beta=0.5, reduction="none")
F.huber_loss(d, e, reduction="none")  F.huber_loss(d, e, delta=0.5, reduction="none")
F.kl_div(d, e, reduction="none")  F.kl_div(d, e, reduction="none", log_target=True)
F.poisson_nll_loss(d, e, reduction="none")  F.poisson_nll_loss(d, e, full=True, reduction="none")
F.poisson_nll_loss(d, e, log_input=False, reduction="none")
F.gaussian_nll_loss(d, e, v, reduction="none")
F.margin_ranking_loss(a, b, G.sign(a.detach() - 0.1).nan_to_num(), reduction="none")
F.margin_ranking_loss(a, b, G.ones_like(a), margin=1.0, reduction="none")
F.cosine_embedding_loss(n, n.flip(1), k.detach(), reduction="none")
F.cosine_embedding_loss(n, n.flip(1), k.detach(), margin=0.5, reduction="none")
F.multi_margin_loss(m, C, reduction="none")  F.multi_margin_loss(m, C, p=2, reduction="none")
F.triplet_margin_loss(m[:, :1], m[:, 1:2], m[:, 2:], reduction="none")
F.triplet_margin_loss(m[:, :1], m[:, 1:2], m[:, 2:], p=1.0, swap=True, reduction="none")
F.triplet_margin_with_distance_loss(m[:, :1], m[:, 1:2], m[:, 2:], reduction="none")
F.cross_entropy(m, C, reduction="none")  F.cross_entropy(m, C, ignore_index=1, reduction="none")
F.cross_entropy(m, C, reduction="none", label_smoothing=0.1)
F.cross_entropy(m[:8], C[:8], weight=G.tensor([0.0, 1.0, 2.0]).double())
F.cross_entropy(m, G.eye(3)[C], reduction="none")
F.nll_loss(m, C, reduction="none")  F.nll_loss(m, C, ignore_index=1, reduction="none")
"""


def split(text: str) -> list[str]:
    """Expressions, with two spaces or a new line between them."""
    return [e for line in text.splitlines() for e in re.split(r"\s{2,}", line.strip()) if e]


def expressions() -> list[str]:
    found = [f"x.{name}()" for name in UNARY_OPS]
    found += [f"a.{name}(b)" for name in BINARY_OPS]
    found += [f"F.{name}(x)" for name in ACTIVATIONS]
    for text in (NUMBERS, ACTIVATIONS_WITH_OPTIONS, PAIRS, REDUCTIONS, LOSSES):
        found += split(text)
    return found


ELSEWHERE = {
    "eq ne lt le gt ge not_equal less less_equal greater greater_equal": "no gradient",
    "sigmoid_grad": "the gradient of `sigmoid`",
    "astype": "`float`, `double`",
    "sum_of_squares": "the norm of order 2, and `mse_loss`",
    "taxicab_norm": "`cdist` with p=1",
    "chebyshev_norm": "`cdist` with p=INF, where PyTorch leaves NaN out, or subtracts infinities",
    "clamp_between": "`clamp` by tensors",
    "lerp_by": "`lerp` by a number",
    "trunc_divide": "`div` with rounding_mode",
    "floor_divide": "PyTorch has no gradient of it",
    "gumbel_softmax": "random",
    "digamma lgamma": "at poles PyTorch's derivatives are what rounding leaves, such as 6.6e32",
    "argmax argmin argsort all any count_nonzero bincount unique isclose isnan isfinite isinf": (
        "no gradient"
    ),
    "unique_consecutive searchsorted": "no gradient",
}
"""Names that no expression has, with the reason."""


@dataclass(frozen=True)
class Found:
    """Where the answers of an expression differ: arrays, of which each element is one place."""

    order: int  # 0: the value, 1 and 2: derivatives
    theirs: np.ndarray
    ours: np.ndarray
    at: tuple[np.ndarray, ...]  # the points of each place, where inputs and result are alike


@dataclass(frozen=True)
class Known:
    """A difference that we mean, or that PyTorch leaves open, of some expressions."""

    reason: str
    expressions: str
    covers: Callable[[Found], Any]


def nan_there(order: int) -> Callable[[Found], Any]:
    """Derivatives of that order or higher that are NaN in PyTorch, and not here."""
    return lambda f: np.isnan(f.theirs) & ~np.isnan(f.ours) & (f.order >= order)


def nan_here(f: Found) -> Any:
    return np.isnan(f.ours) & ~np.isnan(f.theirs) & (f.order >= 1)


def among(*points: float) -> Callable[[Found], Any]:
    """Places whose first input is one of those points, and a derivative."""
    return lambda f: np.isin(f.at[0], points) & (f.order >= 1)


def within(tolerance: float) -> Callable[[Found], Any]:
    return lambda f: np.isclose(f.theirs, f.ours, rtol=tolerance, equal_nan=True)


def derivative(f: Found) -> Any:
    return np.full(len(f.ours), f.order >= 1)


KNOWN = [
    Known(
        "PyTorch's second derivative is NaN, where ours is a number",
        """
x.logit()  x.logit(0.1)  x.logit(0.5)  a.pow(b)  0 ** x  a.logaddexp(b)  a.atan2(b)  F.mish(x)
a.addcdiv(a, b)  F.cosine_similarity(n, n.flip(1))  F.normalize(n)  F.normalize(r, dim=0)
n.norm(dim=1)  n.norm(1.5, dim=1)  n.norm(3, dim=1)  r.norm()  r.norm(3)
n.std(1)  r.std()  r.std(unbiased=False)  a.copysign(b)  r.logcumsumexp(0)
""",
        nan_there(2),
    ),
    Known(
        "Slopes are differences whose digits cancel where x is large: of log_ndtr in PyTorch",
        "G.special.erfcx(x)  G.special.log_ndtr(x)",
        lambda f: (f.order > 0) & (abs(f.at[0]) >= 100),
    ),
    Known(
        "PyTorch divides the product by the factor: inf / inf",
        "n.prod(1)  G.stack([a, b, a]).prod(0)  r.prod()  r.prod(0)  r.cumprod(0)",
        nan_there(1),
    ),
    Known(
        "PyTorch's gradient of a norm of p < 1 is NaN for the zeros beside infinities and NaN",
        "n.norm(0.5, dim=1)  n.norm(-1, dim=1)",
        nan_there(1),
    ),
    Known(
        "PyTorch computes e^-tx, which overflows; ours is -logsigmoid(tx)",
        'F.soft_margin_loss(w, s.detach(), reduction="none")',
        lambda f: ~np.isfinite(f.theirs),
    ),
    Known(
        "PyTorch masks log t and Stirling's term after they became NaN; by the target only",
        """
F.kl_div(d, e, reduction="none")  F.poisson_nll_loss(d, e, full=True, reduction="none")
""",
        nan_there(1),
    ),
    Known(
        "the edge of the domain and beyond: 1 / sqrt((x - 1) (x + 1)) keeps its digits near 1",
        "x.acosh()",
        among(1.0, -1.0),
    ),
    Known(
        "PyTorch's second derivative at 0 takes the slope of the side that its first does not",
        "F.prelu(a.reshape(1, -1), b)[0]",
        among(0.0),
    ),
    Known(
        "ours adds or multiplies infinite terms that PyTorch does not have",
        "r.cumprod(0)",
        nan_here,
    ),
    Known(
        "the variance of one number is NaN, and so are its derivatives",
        "r.var()",
        nan_here,
    ),
    Known(
        "which of several equal elements is chosen is not defined; ours is the first",
        "r.topk(1).values  r.kthvalue(1).values",
        derivative,
    ),
    Known(
        "PyTorch multiplies with 1/6 in float32",
        "F.hardsigmoid(x)",
        within(1e-7),
    ),
    Known(
        "at PyTorch's bound of 1e-12 for x (1 - x), and beyond, no derivative is exact",
        'F.binary_cross_entropy(p, t, reduction="none")  F.binary_cross_entropy(p, t.detach())',
        derivative,
    ),
]
