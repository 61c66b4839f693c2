"""The op table: at least one row for every op. A new op adds its row here and nothing else.

The tests run each row forward against its reference, and its gradient and second gradient against
differences, on every backend, dtype and layout; `gradient check` runs the gradients.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from gradient.autograd.variable import wrap
from gradient.backends.options import AttentionOptions, ConvolutionOptions, PoolingOptions, SlotMap
from gradient.backends.packed import PackedArray
from gradient.dtypes import q8_0
from gradient.ops import (
    activation,
    comparison,
    convolution,
    decompositions,
    elementwise,
    fused,
    index,
    linalg,
    loss,
    pooling,
    recurrent,
    reduce,
    shape,
    trigonometry,
)
from gradient.testing import special_rows
from gradient.testing.row import Row

PAIR = ((3, 4), (3, 4))
ONE = ((3, 4),)
EMPTY = ((0, 4),)
EMPTIES = ((0, 4), (0, 4))


def elementwise_op(name: str) -> Any:
    """An op of one element at a time, by its name."""
    families = (elementwise, trigonometry, activation, comparison, loss)
    return next(getattr(family, name) for family in families if hasattr(family, name))


def unary(op: str, reference: Any, low: float = -2.0, high: float = 2.0, **more: Any) -> Row:
    """An elementwise op of one input."""
    options = {"empty": EMPTY, "scalar": True, **more}
    return Row(op, elementwise_op(op), reference, ONE, low=low, high=high, **options)


def binary(op: str, reference: Any, low: float = -2.0, high: float = 2.0, **more: Any) -> Row:
    """An elementwise op of two inputs."""
    options = {"empty": EMPTIES, "scalar": True, **more}
    return Row(op, elementwise_op(op), reference, PAIR, low=low, high=high, **options)


def question(op: str, reference: Any, **more: Any) -> Row:
    """An elementwise op without a gradient."""
    n = 1 if op in ("isnan", "isfinite", "isinf", "logical_not", "bitwise_not") else 2
    make = unary if n == 1 else binary
    return make(op, reference, differentiable=False, **{"kind": "int", **more})


def reduction(op: str, reference: Any, axis: Any, keepdims: bool = False, **more: Any) -> Row:
    """A reduction of a (3, 4, 2) input."""

    def run(x: Any) -> Any:
        return getattr(reduce, op)(x, axis=axis, keepdims=keepdims)

    def expected(x: Any) -> Any:
        return reference(x, axis=axis, keepdims=keepdims)

    note = f"axis={axis}" + (", keepdims" if keepdims else "")
    return Row(op, run, expected, ((3, 4, 2),), note=note, **more)


# NumPy references for what NumPy does not have ---------------------------------------------------

erf = np.vectorize(math.erf, otypes=[float])
erfinv = np.vectorize(lambda x: NormalDist().inv_cdf((x + 1) / 2) / math.sqrt(2), "d")


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(x: Any, axis: int) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def normal_cdf(x: Any) -> Any:
    return 0.5 * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layer_norm(x: Any, weight: Any = 1.0, bias: Any = 0.0) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def rms_norm(x: Any, weight: Any = 1.0) -> Any:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * weight


def batch_norm(x: Any, weight: Any = None, bias: Any = None) -> Any:
    mean, variance = channel_moments(x)[:, :, None]
    normal = (x - mean) / np.sqrt(variance + 1e-5)
    return normal if weight is None else normal * weight[:, None] + bias[:, None]


def lstm(x: Any, h: Any, c: Any, weight: Any) -> Any:
    hs, cs = [h], [c]
    for part in x:
        i, f, g, o = np.split(part + hs[-1] @ weight.T, 4, -1)
        cs.append(cs[-1] / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i)))
        hs.append(np.tanh(cs[-1]) / (1 + np.exp(-o)))
    return np.stack([np.stack(hs), np.stack(cs)])


def symmetric(x: Any) -> Any:
    """A positive definite matrix."""
    return x @ x.swapaxes(-1, -2) if isinstance(x, np.ndarray) else x @ x.mT


def with_values(matrix: Any, values: Any) -> Any:
    return np.concatenate([matrix, values[..., None, :]], -2)


def svd_rows(x: Any) -> Any:
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return np.concatenate([with_values(u, s), vh.swapaxes(-1, -2)], -2)


def qr_rows(x: Any) -> Any:
    q, r = np.linalg.qr(x)
    return np.concatenate([q, r.swapaxes(-1, -2)], -2)


def gru(x: Any, h: Any, weight: Any, bias: Any) -> Any:
    hs = [h]
    for part in x:
        xr, xz, xn = np.split(part, 3, -1)
        hr, hz, hn = np.split(hs[-1] @ weight.T + bias, 3, -1)
        z, n = 1 / (1 + np.exp(-xz - hz)), np.tanh(xn + hn / (1 + np.exp(-xr - hr)))
        hs.append((1 - z) * n + z * hs[-1])
    return np.stack(hs)


def rnn(x: Any, h: Any, weight: Any, relu: bool) -> Any:
    hs = [h]
    for part in x:
        total = part + hs[-1] @ weight.T
        hs.append(np.maximum(total, 0) if relu else np.tanh(total))
    return np.stack(hs)


def channel_moments(x: Any) -> Any:
    return np.stack([x.mean((0, 2)), x.var((0, 2))])


SLIDE = ConvolutionOptions(stride=(2, 1), padding=((1, 0), (1, 1)), dilation=(1, 2), groups=2)
"""Over (N, 4, 5, 6) by a weight (6, 2, 3, 2): windows of (2, 6)."""


def convolve(x: Any, weight: Any, bias: Any = None) -> Any:
    """Group by group and tap by tap, of an input (N, 4, 5, 6)."""
    x = np.pad(x, ((0, 0), (0, 0), *SLIDE.padding))
    out = np.zeros((len(x), 6, 2, 6))
    for i, j in np.ndindex(3, 2):
        under = x[:, :, i : i + 3 : 2, 2 * j : 2 * j + 6]
        for group in range(2):
            o, c = slice(3 * group, 3 * group + 3), slice(2 * group, 2 * group + 2)
            out[:, o] += np.einsum("nchw,oc->nohw", under[:, c], weight[o, :, i, j])
    return out if bias is None else out + bias[:, None, None]


def transposed_convolve(x: Any, weight: Any) -> Any:
    """What gives the same product with an input as x with its convolution."""
    out = np.zeros((len(x), 4, 6, 8))
    for i, j in np.ndindex(3, 2):
        for group in range(2):
            o, c = slice(3 * group, 3 * group + 3), slice(2 * group, 2 * group + 2)
            out[:, c, i : i + 3 : 2, 2 * j : 2 * j + 6] += np.einsum(
                "nohw,oc->nchw", x[:, o], weight[o, :, i, j]
            )
    return out[:, :, 1:, 1:-1]


WINDOWS = PoolingOptions(
    kernel=(2, 2), stride=(2, 1), padding=((1, 0), (0, 1)), dilation=(1, 2), least=-math.inf
)


def windows(x: Any) -> Any:
    """The numbers of x (2, 5, 4) under each window and where they are, -1 in the padding."""
    places = np.broadcast_to(np.arange(20).reshape(5, 4), x.shape)
    taps = []
    for array, padding in ((x, -math.inf), (places, -1)):
        padded = np.pad(array, ((0, 0), *WINDOWS.padding), constant_values=padding)
        parts = [padded[:, i : i + 5 : 2, 2 * j : 2 * j + 3] for i, j in np.ndindex(2, 2)]
        taps.append(np.stack(parts, -1))
    return taps


def max_pool_indices(x: Any) -> Any:
    values, places = windows(x)
    return np.take_along_axis(places, values.argmax(-1)[..., None], -1)[..., 0]


TARGET = np.array([1, 0, 3])
IGNORED = np.array([1, -100, 3])


def cross_entropy(x: Any, target: Any, smoothing: float = 0.0) -> Any:
    logp = np.log(softmax(x, 1))
    picked = -logp[np.arange(len(target)), np.maximum(target, 0)]
    loss = (1 - smoothing) * picked - smoothing * logp.mean(1)
    return np.where(target >= 0, loss, 0.0)


def attend(q: Any, k: Any, v: Any, mask: Any = None, **options: Any) -> Any:
    """The op, with the options by their names."""
    mask = None if mask is None else constant(q, mask)
    return fused.attention(q, k, v, mask=mask, options=AttentionOptions(0.5, **options))


def attention(q: Any, k: Any, v: Any, mask: Any = None, added: Any = 0.0, cap: Any = None) -> Any:
    groups = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, groups, 1), np.repeat(v, groups, 1)
    scores = q @ k.swapaxes(-1, -2) * 0.5
    scores = (scores if cap is None else cap * np.tanh(scores / cap)) + added
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    return softmax(scores, -1) @ v


CAUSAL = np.tril(np.ones((3, 3), bool))
BAND = CAUSAL & np.triu(np.ones((3, 3), bool), -1)
BIAS = np.linspace(-1, 1, 9).reshape(3, 3)
HEADS = ((2, 4, 3, 4), (2, 2, 3, 4), (2, 2, 3, 5))
ANGLES = np.linspace(0, 3, 6).reshape(3, 2)
KEYS, VALUES = np.cos(np.arange(160.0)).reshape(2, 2, 2, 5, 4)
SCALES = 2.0 ** np.arange(-3, 3).reshape(3, 2)
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)


def rope(x: Any) -> Any:
    a, b = x[..., :2], x[..., 2:]
    return np.concatenate([a * COS - b * SIN, b * COS + a * SIN], -1)


def rope_partial(x: Any) -> Any:
    return np.concatenate([rope(x[..., :4]), x[..., 4:]], -1)


def rope_interleaved(x: Any) -> Any:
    a, b = x[..., ::2], x[..., 1::2]
    return np.stack([a * COS - b * SIN, b * COS + a * SIN], -1).reshape(x.shape)


def constant(x: Any, value: np.ndarray) -> Any:
    """A NumPy constant as an array of x's backend (floats in x's dtype)."""
    dtype = x.array.dtype if value.dtype.kind == "f" else None
    return x.backend.asarray(value.astype(dtype) if dtype is not None else value)


def cached(q: Any) -> Any:
    """Attention over a cache of five slots, whose queries are the last three."""
    positions = constant(q, np.array([[2, 3, 4], [2, 3, 4]]))
    return fused.cached_attention(
        q,
        keys=(constant(q, KEYS),),
        values=(constant(q, VALUES),),
        slots=SlotMap(positions, 5, 5, {}),
        options=AttentionOptions(scale=0.5),
    )


def thirds(rows: int) -> np.ndarray:
    """Counts of three groups that have `rows` rows together; the second has none."""
    return np.array([rows - rows // 3, 0, rows // 3])


def last(rows: int) -> np.ndarray:
    """Counts of three groups, of which the last has all rows."""
    return np.array([0, 0, rows])


def grouped_linear(x: Any, weights: Any, counts: np.ndarray) -> Any:
    which = np.repeat(np.arange(len(weights)), counts)
    return np.einsum("mk,mnk->mn", x, np.stack(weights)[which])


# A packed weight, of numbers that q8_0 holds exactly: 127 is the largest of each block

PACKED = np.linspace(-126, 126, 5 * 64).round().reshape(5, 64) / 64
PACKED[:, ::32] = 127 / 64


def packed(x: Any) -> PackedArray:
    """PACKED as a packed array of x's backend."""
    parts = q8_0.pack(PACKED.astype(np.float32))
    return PackedArray(q8_0, PACKED.shape, tuple(x.backend.asarray(part) for part in parts))


def packed_tensor(x: Any) -> Any:
    return wrap(packed(x), x.backend)


# Indices for the indexing ops (a (3, 4) input) --------------------------------------------------

ROWS = np.array([2, 0, 2])
COLUMNS = np.array([[0, 3], [1, 1], [2, 0]])
MASK = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]], bool)
WINDOW = {"kernel": (2, 2), "stride": (1, 2), "dilation": (1, 1)}


def unfold(x: Any) -> Any:
    n, c, h, w = x.shape
    out = np.empty((n, c, 4, h - 1, (w - 2) // 2 + 1))
    for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        out[:, :, k] = x[:, :, i : i + h - 1, j : j + w - 1 : 2]
    return out


def fold(x: Any) -> Any:
    out = np.zeros((1, 2, 4, 5))
    for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        out[:, :, i : i + 3, j : j + 3 : 2] += x[:, :, k]
    return out


def scattered(x: Any, value: Any, add: bool) -> Any:
    out = x.copy()
    for i, j in np.ndindex(COLUMNS.shape):
        at = (i, COLUMNS[i, j])
        out[at] = out[at] + value[i, j] if add else value[i, j]
    return out


def summed_at(x: Any, value: Any) -> Any:
    out = x.copy()
    np.add.at(out, (ROWS,), value)
    return out


def replaced(x: Any, value: Any) -> Any:
    out = x.copy()
    out[1:, ::2] = value
    return out


def placed(x: Any) -> Any:
    out = np.zeros((3, 4))
    np.add.at(out, (ROWS,), x)
    return out


TABLE = [
    # Arithmetic
    binary("add", np.add),
    Row("add", elementwise.add, np.add, ((3, 4), (4,)), note="broadcast", empty=((0, 4), (4,))),
    binary("sub", np.subtract),
    binary("mul", np.multiply),
    Row("mul", elementwise.mul, np.multiply, ((2, 1, 4), (3, 1)), note="broadcast"),
    binary("div", np.divide, 0.5, 2),
    binary("pow", np.power, 0.5, 2, tolerance=64),
    Row("addcmul", elementwise.addcmul, lambda x, a, b: x + a * b, ((3, 4),) * 3),
    Row("lerp", elementwise.lerp, lambda x, end, w: x + (end - x) * w, ((3, 4), (4,), (3, 1))),
    Row(
        "addcmul",
        lambda x, a, b: elementwise.addcmul(x, a, b, value=-0.7),
        lambda x, a, b: x - 0.7 * a * b,
        ((4,), (3, 1), (3, 4)),
        note="a value",
    ),
    Row("addcdiv", elementwise.addcdiv, lambda x, a, b: x + a / b, ((3, 4),) * 3, low=0.5),
    Row(
        "addcdiv",
        lambda x, a, b: elementwise.addcdiv(x, a, b, value=-0.7),
        lambda x, a, b: x - 0.7 * a / b,
        ((4,), (3, 1), (3, 4)),
        note="a value",
        low=0.5,
    ),
    unary("neg", np.negative),
    binary("remainder", np.remainder, 0.5, 2, tolerance=64),
    binary("fmod", np.fmod, 0.5, 2, tolerance=64),
    binary("floor_divide", np.floor_divide, 0.5, 2, differentiable=False),
    binary("trunc_divide", lambda a, b: np.trunc(a / b), 0.5, 2, differentiable=False),
    unary("abs", np.abs),
    binary("hypot", np.hypot),
    binary("copysign", np.copysign),
    unary("sign", np.sign),
    unary("floor", np.floor),
    unary("ceil", np.ceil),
    unary("trunc", np.trunc),
    unary("round", np.rint),
    Row("astype", lambda x: elementwise.astype(x, dtype=np.dtype("float64")), lambda x: x, ONE),
    unary("clone", np.copy),
    unary("contiguous", np.copy),
    # Exponentials and logarithms
    unary("exp", np.exp),
    unary("exp2", np.exp2),
    unary("expm1", np.expm1),
    unary("log", np.log, 0.2, 3),
    unary("log2", np.log2, 0.2, 3),
    unary("log10", np.log10, 0.2, 3),
    unary("log1p", np.log1p, -0.5, 3),
    binary("logaddexp", np.logaddexp),
    unary("sqrt", np.sqrt, 0.2, 3),
    unary("rsqrt", lambda x: 1 / np.sqrt(x), 0.2, 3),
    unary("reciprocal", np.reciprocal, 0.2, 3),
    # Trigonometric and hyperbolic
    unary("sin", np.sin),
    unary("cos", np.cos),
    unary("tan", np.tan, -1, 1),
    unary("asin", np.arcsin, -0.8, 0.8),
    unary("acos", np.arccos, -0.8, 0.8),
    unary("atan", np.arctan),
    binary("atan2", np.arctan2, 0.3, 2),
    unary("sinh", np.sinh),
    unary("cosh", np.cosh),
    unary("tanh", np.tanh),
    unary("asinh", np.arcsinh),
    unary("acosh", np.arccosh, 1.3, 3),
    unary("atanh", np.arctanh, -0.8, 0.8),
    unary("erf", erf),
    unary("erfc", np.vectorize(math.erfc, otypes=[float])),
    unary("erfinv", erfinv, -0.9, 0.9),
    # Activations
    unary("sigmoid", sigmoid),
    unary("logit", lambda x: np.log(x / (1 - x)), 0.1, 0.9),
    unary("logsigmoid", lambda x: np.log(sigmoid(x))),
    unary("relu", lambda x: np.maximum(x, 0)),
    unary("softplus", lambda x: np.log1p(np.exp(x))),
    unary("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6),
    unary("silu", lambda x: x * sigmoid(x)),
    unary("gelu", lambda x: x * normal_cdf(x)),
    Row("gelu", lambda x: activation.gelu(x, approximate="tanh"), gelu_tanh, ONE, note="tanh"),
    # Losses of one element
    binary(
        "binary_cross_entropy", lambda x, t: -(t * np.log(x) + (1 - t) * np.log1p(-x)), 0.1, 0.9
    ),
    # Choosing
    binary("maximum", np.maximum),
    binary("minimum", np.minimum),
    Row(
        "where",
        lambda a, b: elementwise.where(a, b, condition=constant(a, MASK)),
        lambda a, b: np.where(MASK, a, b),
        PAIR,
    ),
    Row(
        "clamp",
        lambda x: elementwise.clamp(x, min=-0.9, max=1.1),
        lambda x: np.clip(x, -0.9, 1.1),
        ONE,
        empty=EMPTY,
        scalar=True,
    ),
    Row(
        "clamp_between",
        lambda x, low, high: elementwise.clamp_between(x, low, high),
        lambda x, low, high: np.minimum(np.maximum(x, low), high),
        ((3, 4), (4,), (3, 1)),
    ),
    # Questions
    question("eq", np.equal),
    question("ne", np.not_equal),
    question("lt", np.less),
    question("le", np.less_equal),
    question("gt", np.greater),
    question("ge", np.greater_equal),
    question("bitwise_and", np.bitwise_and),
    question("bitwise_or", np.bitwise_or),
    question("bitwise_xor", np.bitwise_xor),
    question("bitwise_not", np.invert),
    question("logical_and", np.logical_and),
    question("logical_or", np.logical_or),
    question("logical_xor", np.logical_xor),
    question("logical_not", np.logical_not),
    question("isnan", np.isnan, kind="float"),
    question("isfinite", np.isfinite, kind="float"),
    question("isinf", np.isinf, kind="float"),
    # Reductions
    reduction("sum", np.sum, None),
    reduction("sum", np.sum, 1, empty=((3, 0, 2),)),
    reduction("sum", np.sum, (0, 2), True),
    reduction("mean", np.mean, None),
    reduction("mean", np.mean, (1, 2)),
    reduction("var", lambda x, axis, keepdims: x.var(axis, ddof=1, keepdims=keepdims), None),
    reduction(
        "var", lambda x, axis, keepdims: x.var(axis, ddof=1, keepdims=keepdims), (0, 2), True
    ),
    reduction("std", lambda x, axis, keepdims: x.std(axis, ddof=1, keepdims=keepdims), None),
    reduction("std", lambda x, axis, keepdims: x.std(axis, ddof=1, keepdims=keepdims), 1),
    reduction("prod", np.prod, None, tolerance=64),
    reduction("prod", np.prod, 1, True, empty=((3, 0, 2),)),
    Row("chebyshev_norm", reduce.chebyshev_norm, lambda x: np.abs(x).max(-1), ONE),
    Row("max", reduce.max, np.max, ONE),
    Row("min", reduce.min, np.min, ONE),
    Row("median", reduce.median, lambda x: np.sort(x, None)[(x.size - 1) // 2], ONE),
    reduction("amax", np.max, None),
    reduction("amax", np.max, 1),
    reduction("amin", np.min, (0, 1), True),
    reduction(
        "logsumexp", lambda x, axis, keepdims: np.log(np.exp(x).sum(axis, keepdims=keepdims)), 1
    ),  # fmt: skip
    reduction("argmax", lambda x, axis, keepdims: np.argmax(x, axis), 1, differentiable=False),
    reduction("argmin", lambda x, axis, keepdims: np.argmin(x, axis), 1, differentiable=False),
    reduction("all", np.all, 1, differentiable=False, kind="bool", empty=((3, 0, 2),)),
    reduction("any", np.any, 1, differentiable=False, kind="bool", empty=((3, 0, 2),)),
    Row("cumsum", lambda x: reduce.cumsum(x, axis=1), lambda x: np.cumsum(x, 1), ONE, empty=EMPTY),
    Row("cumprod", lambda x: reduce.cumprod(x, axis=1), lambda x: np.cumprod(x, 1), ONE),
    Row(
        "argsort",
        lambda x: reduce.argsort(x, axis=1),
        lambda x: np.argsort(x, 1),
        ONE,
        differentiable=False,
        empty=EMPTY,
    ),
    Row(
        "topk",
        lambda x: reduce.topk(x, k=2, axis=1),
        lambda x: np.argsort(-x, 1)[:, :2],
        ONE,
        differentiable=False,
    ),
    # Shape
    Row("reshape", lambda x: shape.reshape(x, shape=(2, 6)), lambda x: x.reshape(2, 6), ONE),
    Row(
        "permute",
        lambda x: shape.permute(x, axes=(2, 0, 1)),
        lambda x: x.transpose(2, 0, 1),
        ((3, 4, 2),),
        empty=((3, 0, 2),),
    ),
    Row(
        "broadcast_to",
        lambda x: shape.broadcast_to(x, shape=(2, 3, 4)),
        lambda x: np.broadcast_to(x, (2, 3, 4)),
        ((3, 1),),
    ),
    Row(
        "concatenate",
        lambda a, b: shape.concatenate(a, b, axis=1),
        lambda a, b: np.concatenate([a, b], 1),
        ((3, 4), (3, 2)),
        empty=((3, 0), (3, 2)),
    ),
    Row(
        "split",
        lambda x: _product(shape.split(x, sizes=[2, 2], axis=1)),
        lambda x: x[:, :2] * x[:, 2:],
        ONE,
        empty=EMPTY,
    ),
    Row("flip", lambda x: shape.flip(x, axis=(0, 1)), lambda x: x[::-1, ::-1], ONE, empty=EMPTY),
    Row(
        "pad",
        lambda x: shape.pad(x, widths=((1, 0), (2, 1)), value=0.5),
        lambda x: np.pad(x, ((1, 0), (2, 1)), constant_values=0.5),
        ONE,
        empty=EMPTY,
    ),
    Row(
        "diagonal",
        lambda x: shape.diagonal(x, offset=1),
        lambda x: np.diagonal(x, 1, -2, -1),
        ((2, 3, 4),),
        empty=((2, 0, 4),),
    ),
    Row(
        "triangle",
        lambda x: shape.triangle(x, diagonal=-1, lower=True),
        lambda x: np.tril(x, -1),
        ONE,
        note="lower",
    ),  # fmt: skip
    Row(
        "triangle",
        lambda x: shape.triangle(x, diagonal=1, lower=False),
        lambda x: np.triu(x, 1),
        ((2, 3, 4),),
        note="upper",
    ),  # fmt: skip
    Row("unfold", lambda x: shape.unfold(x, **WINDOW), unfold, ((1, 2, 4, 5),)),
    Row("fold", lambda x: shape.fold(x, shape=(1, 2, 4, 5), **WINDOW), fold, ((1, 2, 4, 3, 2),)),
    Row(
        "sliding_window",
        lambda x: shape.sliding_window(x, axis=1, size=3, step=2),
        lambda x: np.lib.stride_tricks.sliding_window_view(x, 3, 1)[:, ::2],
        ((2, 6, 3),),
    ),
    # Indexing
    Row(
        "getitem",
        lambda x: index.getitem(x, index=(slice(1, None), None, slice(0, 4, 2))),
        lambda x: x[1:, None, 0:4:2],
        ONE,
        note="basic",
    ),  # fmt: skip
    Row(
        "getitem",
        lambda x: index.getitem(x, index=(constant(x, ROWS),)),
        lambda x: x[ROWS],
        ONE,
        note="repeated",
    ),  # fmt: skip
    Row(
        "getitem",
        lambda x: index.getitem(x, index=(constant(x, MASK),)),
        lambda x: x[MASK],
        ONE,
        note="mask",
    ),  # fmt: skip
    Row("place", lambda x: index.place(x, shape=(3, 4), index=(constant(x, ROWS),)), placed, ONE),
    Row(
        "setitem",
        lambda x, v: index.setitem(x, v, index=(slice(1, None), slice(None, None, 2))),
        replaced,
        ((3, 4), (2, 1)),
    ),
    Row(
        "index_add", lambda x, v: index.index_add(x, v, index=(constant(x, ROWS),)), summed_at, PAIR
    ),  # fmt: skip
    Row(
        "take_along",
        lambda x: index.take_along(x, index=constant(x, COLUMNS), axis=1),
        lambda x: np.take_along_axis(x, COLUMNS, 1),
        ONE,
    ),
    Row(
        "put_along",
        lambda x, v: index.put_along(x, v, index=constant(x, COLUMNS), axis=1, add=True),
        lambda x, v: scattered(x, v, True),
        ((3, 4), (3, 2)),
        note="add",
    ),
    Row(
        "put_along",
        lambda x, v: index.put_along(
            x, v, index=constant(x, np.array([[0, 3], [1, 2], [2, 0]])), axis=1, add=False
        ),
        lambda x, v: _put(x, v, np.array([[0, 3], [1, 2], [2, 0]])),
        ((3, 4), (3, 2)),
    ),
    Row(
        "embedding",
        lambda w: index.embedding(w, indices=constant(w, COLUMNS)),
        lambda w: w[COLUMNS],
        ((4, 5),),
    ),  # fmt: skip
    # Matrix products
    *(
        Row(name, getattr(decompositions, name), reference, ((2, 3, 3),), tolerance=256)
        for name, reference in (
            ("inv", np.linalg.inv),
            ("det", np.linalg.det),
            ("logabsdet", lambda x: np.linalg.slogdet(x)[1]),
            ("cofactor", lambda x: np.linalg.det(x)[:, None, None] * np.linalg.inv(x).mT),
            ("svdvals", lambda x: np.linalg.svd(x)[1]),
        )
    ),
    Row("solve", decompositions.solve, np.linalg.solve, ((3, 3), (2, 3, 2)), tolerance=256),
    *(
        Row(
            name,
            lambda x, op=name: getattr(decompositions, op)(symmetric(x)),
            reference,
            ((2, 3, 3),),
            tolerance=256,
        )
        for name, reference in (
            ("cholesky", lambda x: np.linalg.cholesky(symmetric(x))),
            ("eigh", lambda x: with_values(*np.linalg.eigh(symmetric(x))[::-1])),
            ("eigvalsh", lambda x: np.linalg.eigvalsh(symmetric(x))),
        )
    ),
    *(
        Row("svd", decompositions.svd, svd_rows, (size,), note=note, tolerance=256)
        for note, size in (("", (2, 3, 3)), ("tall", (4, 2)), ("wide", (2, 4)))
    ),
    Row("qr", decompositions.qr, qr_rows, ((2, 4, 3),), tolerance=256),
    Row(
        "pinv",
        lambda x: decompositions.pinv(x, atol=0.0, rtol=1e-6),
        np.linalg.pinv,
        ((2, 4, 3),),
        tolerance=256,
    ),
    Row("matmul", linalg.matmul, np.matmul, ((3, 4), (4, 2)), empty=((0, 4), (4, 2))),
    Row("matmul", linalg.matmul, np.matmul, ((2, 1, 3, 4), (3, 4, 2)), note="batch"),
    Row(
        "linear",
        linalg.linear,
        lambda x, w, b: x @ w.T + b,
        ((2, 3, 4), (5, 4), (5,)),
        empty=((0, 4), (5, 4), (5,)),
    ),  # fmt: skip
    Row("linear", linalg.linear, lambda x, w: x @ w.T, ((3, 4), (5, 4)), note="no bias"),
    *[
        Row(
            "grouped_linear",
            lambda x, *w, counts=counts: linalg.grouped_linear(
                x, *w, counts=constant(x, counts(x.shape[0]))
            ),
            lambda x, *w, counts=counts: grouped_linear(x, w, counts(x.shape[0])),
            ((7, 4), (5, 4), (5, 4), (5, 4)),
            note=counts.__name__,
            empty=((0, 4), (5, 4), (5, 4), (5, 4)),
        )
        for counts in (thirds, last)
    ],
    *[
        Row(
            op,
            lambda x, op=op: getattr(linalg, op)(x, weight=packed(x)),
            lambda x, w=w: x @ w,
            ((3, n),),
            empty=((0, n),),
            tolerance=64,
        )
        for op, w, n in (("quantized_matmul", PACKED.T, 64), ("quantized_matmul_grad", PACKED, 5))
    ],
    Row(
        "linear",
        lambda x, b: linalg.linear(x, packed_tensor(x), b),
        lambda x, b: x @ PACKED.T + b,
        ((2, 3, 64), (5,)),
        note="packed",
        empty=((0, 64), (5,)),
        tolerance=64,
    ),
    Row(
        "grouped_linear",
        lambda x: linalg.grouped_linear(
            x, *[packed_tensor(x)] * 3, counts=constant(x, thirds(x.shape[0]))
        ),
        lambda x: x @ PACKED.T,
        ((7, 64),),
        note="packed",
        empty=((0, 64),),
        tolerance=64,
    ),
    # Fused
    Row("softmax", lambda x: fused.softmax(x, axis=1), lambda x: softmax(x, 1), ONE, empty=EMPTY),
    Row("softmax", lambda x: fused.softmax(x, axis=0), lambda x: softmax(x, 0), ONE, note="axis 0"),
    Row(
        "log_softmax",
        lambda x: fused.log_softmax(x, axis=1),
        lambda x: np.log(softmax(x, 1)),
        ONE,
        empty=EMPTY,
    ),  # fmt: skip
    Row(
        "layer_norm",
        fused.layer_norm,
        layer_norm,
        ((3, 4), (4,), (4,)),
        tolerance=64,
        empty=((0, 4), (4,), (4,)),
    ),  # fmt: skip
    Row("layer_norm", fused.layer_norm, layer_norm, ((3, 4),), note="plain", tolerance=64),
    Row("rms_norm", fused.rms_norm, rms_norm, ((3, 4), (4,)), empty=((0, 4), (4,))),
    Row("rms_norm", fused.rms_norm, rms_norm, ONE, note="plain"),
    Row(
        "rms_norm",
        lambda x, weight: fused.rms_norm(x, weight, round_first=True),
        rms_norm,
        ((3, 4), (4,)),
        note="round_first",
    ),
    Row(
        "batch_norm",
        fused.batch_norm,
        batch_norm,
        ((4, 3, 5), (3,), (3,)),
        tolerance=64,
    ),  # fmt: skip
    Row("batch_norm", fused.batch_norm, batch_norm, ((4, 3, 5),), note="plain", tolerance=64),
    Row(
        "lstm",
        recurrent.lstm,
        lstm,
        ((3, 2, 8), (2, 2), (2, 2), (8, 2)),
        empty=((3, 0, 8), (0, 2), (0, 2), (8, 2)),
    ),
    Row(
        "gru",
        recurrent.gru,
        gru,
        ((3, 2, 6), (2, 2), (6, 2), (6,)),
        empty=((3, 0, 6), (0, 2), (6, 2), (6,)),
    ),
    Row(
        "rnn",
        recurrent.rnn,
        lambda x, h, weight: rnn(x, h, weight, False),
        ((3, 2, 2), (2, 2), (2, 2)),
        empty=((3, 0, 2), (0, 2), (2, 2)),
    ),
    Row(
        "rnn",
        lambda x, h, weight: recurrent.rnn(x, h, weight, relu=True),
        lambda x, h, weight: rnn(x, h, weight, True),
        ((3, 2, 2), (2, 2), (2, 2)),
        note="relu",
        empty=((3, 0, 2), (0, 2), (2, 2)),
    ),
    Row(
        "channel_moments",
        fused.channel_moments,
        channel_moments,
        ((4, 3, 5),),
        differentiable=False,
    ),  # fmt: skip
    Row(
        "convolution",
        lambda x, weight, bias: convolution.convolution(x, weight, bias, options=SLIDE),
        convolve,
        ((2, 4, 5, 6), (6, 2, 3, 2), (6,)),
        tolerance=64,
        empty=((0, 4, 5, 6), (6, 2, 3, 2), (6,)),
    ),
    Row(
        "convolution",
        lambda x, weight: convolution.convolution(x, weight, options=SLIDE),
        convolve,
        ((2, 4, 5, 6), (6, 2, 3, 2)),
        note="plain",
        tolerance=64,
    ),
    Row(
        "transposed_convolution",
        lambda x, weight: convolution.transposed_convolution(
            x, weight, shape=(x.shape[0], 4, 5, 6), options=SLIDE
        ),
        transposed_convolve,
        ((2, 6, 2, 6), (6, 2, 3, 2)),
        tolerance=64,
        empty=((0, 6, 2, 6), (6, 2, 3, 2)),
    ),
    Row(
        "max_pool",
        lambda x: pooling.max_pool(x, options=WINDOWS),
        lambda x: windows(x)[0].max(-1),
        ((2, 5, 4),),
        empty=((0, 5, 4),),
    ),
    Row(
        "max_pool_indices",
        lambda x: pooling.max_pool_indices(x, options=WINDOWS),
        max_pool_indices,
        ((2, 5, 4),),
        differentiable=False,
    ),
    Row(
        "cross_entropy",
        lambda x: loss.cross_entropy(x, target=constant(x, IGNORED)),
        lambda x: cross_entropy(x, IGNORED),
        ONE,
    ),  # fmt: skip
    Row(
        "cross_entropy",
        lambda x: loss.cross_entropy(x, target=constant(x, TARGET), label_smoothing=0.1),
        lambda x: cross_entropy(x, TARGET, 0.1),
        ONE,
        note="smoothed",
    ),
    Row(
        "cached_attention",
        cached,
        lambda q: attention(q, KEYS, VALUES, np.tri(3, 5, 2, dtype=bool)),
        ((2, 4, 3, 4),),
    ),
    Row(
        "stored_vectors",
        lambda x: fused.stored_vectors(
            x, scales=(x.backend.asarray(SCALES.astype(np.float16)),), dtype=np.dtype(np.float64)
        ),
        lambda x: x * np.repeat(SCALES, 2, 1),
        ((3, 4),),
        kind="int",
        differentiable=False,
    ),
    Row(
        "attention",
        lambda q, k, v: attend(q, k, v),
        attention,
        HEADS,
    ),
    Row(
        "attention",
        lambda q, k, v: fused.attention(
            q, k, v, options=AttentionOptions(scale=0.5, is_causal=True)
        ),
        lambda q, k, v: attention(q, k, v, CAUSAL),
        HEADS,
        note="causal",
    ),
    Row(
        "attention",
        lambda q, k, v: fused.attention(
            q, k, v, mask=constant(q, BIAS), options=AttentionOptions(scale=0.5)
        ),
        lambda q, k, v: attention(q, k, v, None, BIAS),
        HEADS,
        note="added mask",
    ),
    Row(
        "attention",
        lambda q, k, v: fused.attention(
            q, k, v, options=AttentionOptions(scale=0.5, is_causal=True, window=2)
        ),
        lambda q, k, v: attention(q, k, v, BAND),
        HEADS,
        note="window",
    ),
    Row(
        "attention",
        lambda q, k, v: fused.attention(
            q, k, v, options=AttentionOptions(scale=0.5, is_causal=True, softcap=1.5)
        ),
        lambda q, k, v: attention(q, k, v, CAUSAL, cap=1.5),
        HEADS,
        note="softcap",
    ),
    Row(
        "attention",
        lambda q, k, v: fused.attention(
            q, k, v, mask=constant(q, BIAS), options=AttentionOptions(scale=0.5, softcap=1.5)
        ),
        lambda q, k, v: attention(q, k, v, None, BIAS, cap=1.5),
        HEADS,
        note="softcap, added mask",
    ),
    Row(
        "rope",
        lambda x: fused.rope(x, cos=constant(x, COS), sin=constant(x, SIN)),
        rope,
        ((2, 3, 4),),
    ),
    Row(
        "rope",
        lambda x: fused.rope(x, cos=constant(x, COS), sin=constant(x, SIN), interleaved=True),
        rope_interleaved,
        ((2, 3, 4),),
        note="interleaved",
    ),
    Row(
        "rope",
        lambda x: fused.rope(x, cos=constant(x, COS), sin=constant(x, SIN)),
        rope_partial,
        ((2, 3, 7),),
        note="partial",
    ),
    *special_rows.ROWS,
]


def _product(parts: Any) -> Any:
    return elementwise.mul(parts[0], parts[1])


def _put(x: Any, value: Any, at: np.ndarray) -> Any:
    out = x.copy()
    np.put_along_axis(out, at, value, 1)
    return out
