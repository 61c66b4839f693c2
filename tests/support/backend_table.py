"""Calls for every method of a backend that has a composed default, or that a backend speeds up.

`CASES[method]` lists functions that draw a call's arguments: `lambda a: (a(a.rows, 7), -1)` is a
call with a random array of `a.rows` rows in the dtype and memory layout under test, and an axis.
The last argument may be a dict of keywords. A new composed default, and so each override of it,
needs a line here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradient import dtypes
from gradient.backends.options import (
    AdamWOptions,
    AttentionOptions,
    ConvolutionOptions,
    LionOptions,
    PoolingOptions,
    RMSpropOptions,
    SGDOptions,
    SlotMap,
    WindowRanges,
    adaptive_windows,
)
from gradient.backends.packed import PackedArray
from gradient.dtypes import PACKED, DType
from support.array_backends import BareBackend

BARE = BareBackend()

LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.T.copy().T,
    "permuted": lambda x: np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0) if x.ndim else x,
    "sliced": lambda x: np.repeat(np.repeat(x, 2, -1), 2, 0)[::2, ..., ::2] if x.ndim > 1 else x,
    "reversed": lambda x: x[..., ::-1].copy()[..., ::-1] if x.ndim else x,
}
"""The same values, laid out in memory in several ways."""


class Draw:
    """Draws the arguments of one call; the same ones whenever it is made anew."""

    def __init__(self, dtype: str, layout: str = "contiguous", rows: int = 5):
        self.dtype = dtypes.dtype_of(dtype).numpy
        self.rows = rows
        self._layout = LAYOUTS[layout]
        self._random = np.random.default_rng(0)

    def __call__(self, *shape: int, low: float | None = None, high: float = 1.0) -> np.ndarray:
        """Normal numbers; or uniform ones in [low, high)."""
        if low is None:
            values = self._random.standard_normal(shape)
        else:
            values = self._random.uniform(low, high, shape)
        return self._layout(np.asarray(values).astype(self.dtype))

    def wide(self, *shape: int) -> np.ndarray:
        """Normal numbers of 32 bits or more."""
        values = self._random.standard_normal(shape)
        return self._layout(values.astype(np.float64 if self.dtype == np.float64 else np.float32))

    def complex(self, *shape: int) -> np.ndarray:
        """Normal complex numbers whose parts are of 32 bits or more."""
        values = self._random.standard_normal(shape) + 1j * self._random.standard_normal(shape)
        kind = np.complex128 if self.dtype == np.float64 else np.complex64
        return self._layout(values.astype(kind))

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        return self._layout(self._random.integers(low, high, shape))

    def bools(self, *shape: int) -> np.ndarray:
        return self._layout(self._random.random(shape) < 0.5)


Case = Callable[[Draw], tuple[Any, ...]]


def each(low: float | None = None, high: float = 1.0) -> list[Case]:
    """A function of one element, over a range."""
    return [lambda a: (a(a.rows, 67, low=low, high=high),)]


def along(*more: Any) -> list[Case]:
    """A function along an axis: each of three."""
    return [
        lambda a: (a(a.rows, 67), -1, *more),
        lambda a: (a(3, a.rows, 21), 2, *more),
        lambda a: (a(a.rows, 3, 7), 0, *more),
    ]


def for_columns(index: np.ndarray, n: int) -> np.ndarray:
    """One index for each of n columns, in the same memory."""
    return np.broadcast_to(index[..., None], (*index.shape, n))


def reduced_grad(combine: str, include_self: bool, expanded: bool, *lead: int) -> Case:
    """Gradients of what is scattered to the rows of (*lead, 5, 70), some in place of x."""

    def arguments(a: Draw) -> tuple[Any, ...]:
        x, src = a(*lead, 5, 70), a(*lead, 40, 70)
        x, src = ((np.rint(2 * abs(each)) / 2).astype(a.dtype) for each in (x, src))  # ties, zeros
        src[..., 2, 2:5] = np.nan
        index = for_columns(a.integers(0, 4, *lead, 40), 70)
        index = index if expanded else np.ascontiguousarray(index)
        axis, identity = len(lead), {"multiply": 1.0, "maximum": -np.inf, "minimum": np.inf}
        if not include_self:
            x[..., :4, :] = identity[combine]
        out = BARE.reduce_along(x, index, src, axis, combine, identity[combine])
        return a(*lead, 5, 70), x, index, src, out, axis, combine, include_self

    return arguments


def infinite(x: np.ndarray) -> np.ndarray:
    """With infinite numbers, at the beginning of some rows and columns too."""
    x[:9, :9] = -np.inf
    x[5:9, 5], x[20, 20], x[30, 30:33] = np.inf, np.inf, -np.inf
    return x


def with_nan(x: np.ndarray) -> np.ndarray:
    x[..., ::7] = np.nan
    return x


def logsumexp_grad(axis: Any, changed: Callable[..., Any] = lambda x: x) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        x = changed(3 * a(a.rows, 5, 7))
        out = BARE.logsumexp(x, axis, True)
        return a(*out.shape), x, out, axis

    return arguments


def along_pair() -> list[Case]:
    return [
        lambda a: (a(a.rows, 67), -abs(a(a.rows, 67)), -1),
        lambda a: (a(7, a.rows), -abs(a(7, a.rows)), 0),
    ]


def targets(a: Draw, classes: int) -> np.ndarray:
    target = a.integers(0, classes, a.rows)
    target[::3] = -100
    return target


def cross_entropy(smoothing: float) -> Case:
    return lambda a: (3 * a(a.rows, 67), targets(a, 67), -100, smoothing)


def cross_entropy_grad(smoothing: float, in_float32: bool = False) -> Case:
    """`in_float32`: of losses in that dtype, of logits in any."""

    def arguments(a: Draw) -> tuple[Any, ...]:
        logits = 3 * a(a.rows, 67)
        target = targets(a, 67)
        _, high, log_sum = BARE.cross_entropy(logits, target, -100, smoothing)
        high, log_sum = high.astype(a.dtype), log_sum.astype(a.dtype)
        g = a(a.rows).astype(np.float32) if in_float32 and logits.dtype.itemsize == 2 else a(a.rows)
        return g, logits, target, high, log_sum, -100, smoothing

    return arguments


def band(t: int, keys: int) -> np.ndarray:
    """A mask (1, 1, t, keys): row i sees 9 columns up to the one i + 40; some rows see none."""
    row, column = np.arange(t)[:, None], np.arange(keys)
    mask = (column <= row + 40) & (column > row + 31) & (row % 40 != 39)
    return mask[None, None]


def attention(
    queries: int, heads: int = 4, key_heads: int = 2, keys: int = 37, mask: str = "", **options: Any
) -> Case:
    """The arguments of a call; `queries` of them, times a.rows / 5 where that is not very many."""

    def arguments(a: Draw) -> tuple[Any, ...]:
        t = queries * min(a.rows, 50) // 5
        q, k, v = a(2, heads, t, 9), a(2, key_heads, keys, 9), a(2, key_heads, keys, 5)
        masks = {
            "": None,
            "bool": a.bools(t, keys),
            "heads": a.bools(2, heads, t, keys),
            "rows": a.bools(2, 1, t, keys),
            "band": band(t, keys),
            "added": a(2, 1, t, keys),
            "added band": np.where(band(t, keys), a(2, 1, t, keys), a.dtype.type(-np.inf)),
        }
        return q, k, v, masks[mask], AttentionOptions(**{"scale": 0.3, **options})

    return arguments


def attention_grad(queries: int, **options: Any) -> Case:
    forward = attention(queries, **options)

    def arguments(a: Draw) -> tuple[Any, ...]:
        q, k, v, mask, given = forward(a)
        out, high, log_sum = BARE.attention(q, k, v, mask, given)
        high, log_sum = high.astype(q.dtype), log_sum.astype(q.dtype)
        return a(*out.shape), q, k, v, out, high, log_sum, mask, given

    return arguments


ATTENTION: list[dict[str, Any]] = [
    {"queries": 37, "is_causal": True},
    {"queries": 37},
    {"queries": 5, "is_causal": True},
    {"queries": 41, "heads": 3, "key_heads": 3, "keys": 64, "is_causal": True},
    {"queries": 41, "is_causal": True, "window": 7},
    {"queries": 37, "keys": 90, "is_causal": True, "window": 40, "softcap": 1.5},
    {"queries": 60, "keys": 20, "is_causal": True, "window": 9},  # the last rows see nothing
    {"queries": 5, "is_causal": True, "window": 1},
    {"queries": 37, "softcap": 0.7},
    {"queries": 6, "mask": "bool"},
    {"queries": 6, "mask": "heads"},
    {"queries": 37, "mask": "rows", "softcap": 1.5},
    {"queries": 37, "keys": 90, "mask": "band"},  # as behind a cache, with a window
    {"queries": 6, "mask": "added"},
    {"queries": 37, "keys": 90, "mask": "added band"},
    {"queries": 6, "mask": "added", "softcap": 1.5},
]


def stored(a: Draw, codec: str, *shape: int) -> tuple[np.ndarray, ...]:
    """The parts that a cache stores of vectors (..., D): a scale for 32 numbers, or for all."""
    *lead, d = shape
    groups = d // 32 if d % 32 == 0 else 1
    if codec == "float":
        return (a(*shape),)
    scales = [abs(a(*lead, groups)).astype(np.float16) for _ in range(2)]
    if codec == "int8":
        return a.integers(-127, 128, *shape).astype(np.int8), scales[0] / np.float16(127)
    codes = a.integers(0, 256, *lead, d // 2).astype(np.uint8)
    return codes, scales[0] / np.float16(15), -scales[1]


def cached_attention(
    layout: str,
    queries: int = 1,
    *,
    heads: tuple[int, int] = (6, 2),
    size: int = 40,
    slots: int = 300,
    codecs: tuple[str, str] = ("float", "float"),
    **options: Any,
) -> Case:
    """The arguments of a call: ragged rows, in one of the layouts of a cache."""

    def arguments(a: Draw) -> tuple[Any, ...]:
        (h, key_heads), t, b, n = heads, queries, min(a.rows, 3), slots
        window = options.get("window")
        held = np.random.default_rng(1).integers(0, n - t + 1, b)
        positions = held[:, None] + np.arange(t)
        lead: tuple[int, ...] = (b, key_heads, n)
        where = SlotMap(positions, n, n, {})
        if layout == "paged":
            pages = -(-n // 16)
            table = np.random.default_rng(2).permutation(b * pages + 2)[: b * pages]
            where = where._replace(size=16, table=table.reshape(b, pages))
            lead = (b * pages + 2, 16, key_heads)
        elif layout == "ring":
            ring = window + t + 2
            lead = (b, key_heads, 1 + ring)
            where = SlotMap(positions, ring, ring, {}, offset=1, wraps=True)
        elif layout == "later":
            start = np.arange(b) * 117
            where = where._replace(positions=positions + start[:, None], start=start)
        elif layout == "fresh":
            lead = (b, key_heads, t)
            where = SlotMap(np.arange(t) + np.zeros((b, 1), int), t, t, {}, fresh=True)
        elif layout == "even":
            where = SlotMap(np.full((b, 1), n - 1), n, n, {}, see_all=True)
        keys, values = (stored(a, codec, *lead, size) for codec in codecs)
        return a(b, h, t, size), keys, values, where, AttentionOptions(0.2, True, **options)

    return arguments


def rope_update(
    heads: int, key_heads: int, size: int, half: int, *, tokens: int = 1, by: bool = False
) -> Case:
    """The arguments of a call: each row's tokens go to slots of its own, the last to the end."""

    def arguments(a: Draw) -> tuple[Any, ...]:
        b, t, slots = min(a.rows, 3), tokens, 21
        q, k, v = (a(b, h, t, size) for h in (heads, key_heads, key_heads))
        angles = tuple(a(b, 1, t, half) for _ in "cs")
        cache = tuple(a(b, key_heads, slots, size) for _ in "kv")
        positions = np.arange(t) - np.arange(b)[:, None] * (t + 1) + slots - t
        return q, k, v, angles, by, cache, (np.arange(b)[:, None], positions)

    return arguments


def feed_back(run: int, *, numbers: int = 0, counts: int = 0) -> Case:
    """The arguments of a call: tokens of each row, and perhaps numbers of each run, and counts."""

    def arguments(a: Draw) -> tuple[Any, ...]:
        tokens = a.integers(0, 99, a.rows), a.integers(0, 99, a.rows), a.integers(0, 99, 4, a.rows)
        rows = (a.wide(4, numbers), a.wide(numbers)) if numbers else (None, None)
        counted = (a.integers(0, 99, counts), 3) if counts else (None, 0)
        return *tokens, np.array([run]), *rows, *counted

    return arguments


def rope_attention(
    heads: int, key_heads: int, size: int, *, slots: int = 70, half: int = 0, by: bool = False,
    at: int = 40, tokens: int = 1, window: int | None = None,
) -> Case:  # fmt: skip
    """The arguments of a call: one row's token goes to slot `at`, others lie before and behind."""

    def arguments(a: Draw) -> tuple[Any, ...]:
        t, n = tokens, half or size // 2
        q, k, v = (a(1, h, t, size) for h in (heads, key_heads, key_heads))
        angles = tuple(a(1, 1, t, n) for _ in "cs")
        cache = tuple(a(1, key_heads, slots, size) for _ in "kv")
        positions = at + np.arange(t)[None]
        where = SlotMap(positions, slots, slots, {})
        places = np.zeros((1, 1), np.int64), positions
        return q, k, v, angles, by, cache, places, where, AttentionOptions(0.2, True, window)

    return arguments


def cached_attention_grad(layout: str, queries: int = 1, **options: Any) -> Case:
    forward = cached_attention(layout, queries, **options)
    return lambda a: (lambda q, *rest: (a(*q.shape), q, *rest))(*forward(a))


CACHED: list[dict[str, Any]] = [
    {"layout": "static"},
    {"layout": "static", "queries": 5, "window": 33, "softcap": 1.5},
    {"layout": "static", "queries": 130, "heads": (2, 1), "size": 20},
    {"layout": "static", "codecs": ("int8", "int4"), "size": 64, "heads": (3, 3)},
    {"layout": "static", "size": 64, "window": 150, "heads": (14, 2)},
    {"layout": "static", "size": 32, "softcap": 1.5, "heads": (2, 2)},
    {"layout": "static", "queries": 3, "codecs": ("int4", "int8"), "size": 8},
    {"layout": "even"},
    {"layout": "even", "window": 150},
    {"layout": "paged", "queries": 2},
    {"layout": "paged", "queries": 3, "size": 64, "heads": (12, 3)},
    {"layout": "paged", "window": 200, "codecs": ("int8", "int8")},
    {"layout": "ring", "queries": 2, "window": 150},
    {"layout": "ring", "window": 150, "size": 64, "heads": (8, 1)},
    {"layout": "ring", "window": 10, "codecs": ("int8", "int4")},
    {"layout": "later", "queries": 70, "window": 140},
    {"layout": "later", "queries": 3, "size": 64, "heads": (8, 2), "window": 140},
    {"layout": "fresh", "queries": 200},
    {"layout": "fresh", "queries": 41, "window": 7, "softcap": 0.7},
]


def layer_norm_grad(weighted: bool, columns: int = 67) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        x = a(a.rows, columns)
        _, mean, rstd = BARE.layer_norm(x, None, None, 1e-5)
        return a(a.rows, columns), x, a(columns) if weighted else None, mean, rstd

    return arguments


def batch_norm_grad(weighted: bool, channels: int, *sizes: int) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        x = a(a.rows, channels, *sizes)
        _, mean, rstd = BARE.batch_norm(x, None, None, 1e-5)
        return a(*x.shape), x, a(channels) if weighted else None, mean, rstd

    return arguments


def group_norm(weighted: bool, groups: int, *sizes: int) -> Case:
    return lambda a: (
        *(a(a.rows, 12, *sizes), a(12) if weighted else None, a(12) if weighted else None),
        *(groups, 1e-5),
    )


def group_norm_grad(weighted: bool, groups: int, *sizes: int) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        x, weight, *_ = group_norm(weighted, groups, *sizes)(a)
        _, mean, rstd = BARE.group_norm(x, None, None, groups, 1e-5)
        return a(*x.shape), x, weight, mean, rstd, groups

    return arguments


def lstm(steps: int, size: int) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        states = (a(a.rows, size) for _ in range(2))
        return a(steps, a.rows, 4 * size), *states, a(4 * size, size, low=-0.3, high=0.3)

    return arguments


def lstm_grad(steps: int, size: int) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        x, h, c, weight = lstm(steps, size)(a)
        states, gates = BARE.lstm(x, h, c, weight)
        return a(*states.shape), states, gates, weight

    return arguments


def ctc(steps: int, labels: int) -> Case:
    """Rows of 0 to `labels` labels and up to `steps` steps; some have no alignment."""

    def arguments(a: Draw) -> tuple[Any, ...]:
        text = np.zeros((a.rows, 2 * labels + 1), np.int64)
        text[:, 1::2] = a.integers(1, 4, a.rows, labels)
        lengths = a.integers(0, steps + 1, a.rows), a.integers(0, labels + 1, a.rows)
        return -abs(a(steps, a.rows, 4)), text, *lengths

    return arguments


def ctc_grad(steps: int, labels: int) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        given = ctc(steps, labels)(a)
        losses, alpha = BARE.ctc(*given)
        return a(a.rows), *given, alpha, losses

    return arguments


def gru(steps: int, size: int) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        weight = a(3 * size, size, low=-0.3, high=0.3)
        return a(steps, a.rows, 3 * size), a(a.rows, size), weight, a(3 * size)

    return arguments


def gru_grad(steps: int, size: int) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        x, h, weight, bias = gru(steps, size)(a)
        states, gates = BARE.gru(x, h, weight, bias)
        return a(*states.shape), states, gates, weight

    return arguments


def rnn(steps: int, size: int, relu: bool) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        weight = a(size, size, low=-0.3, high=0.3)
        return a(steps, a.rows, size), a(a.rows, size), weight, relu

    return arguments


def rnn_grad(steps: int, size: int, relu: bool) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        x, h, weight, _ = rnn(steps, size, relu)(a)
        states = BARE.rnn(x, h, weight, relu)
        return a(*states.shape), states, weight, relu

    return arguments


def square(a: Draw, n: int = 7, batch: int | None = None) -> Any:
    """Matrices that are far from singular ones."""
    return a(a.rows if batch is None else batch, n, n) + max(7, n) * np.eye(n, dtype=a.dtype)


small_matrices: list[Case] = [
    *(lambda a, n=n: (square(a, n, 4200 // n)[:, ::-1],) for n in (1, 2, 3, 4, 16)),
    lambda a: (square(a, 4, 300).swapaxes(-1, -2).reshape(3, 100, 4, 4),),
]
"""Many matrices, in whose columns the largest number is not the first."""


def triangular(a: Draw, n: int, lower: bool) -> Any:
    """A triangular matrix that is far from a singular one."""
    return (np.tril if lower else np.triu)(a(n, n) / n) + 2 * np.eye(n, dtype=a.dtype)


def positive_definite(a: Draw, batch: int | None = None, n: int = 7) -> Any:
    x = a(a.rows if batch is None else batch, n, n)
    return x + x.swapaxes(-1, -2) + max(14, 2 * n) * np.eye(n, dtype=a.dtype)


def rms_norm_grad(weighted: bool, columns: int = 67) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        x = a(a.rows, columns)
        _, rstd = BARE.rms_norm(x, None, 1e-5)
        return a(a.rows, columns), x, a(columns) if weighted else None, rstd

    return arguments


class Convolution:
    """The arguments of a convolution and of its gradients: the rows are images, up to a few."""

    def __init__(
        self,
        sizes: tuple[int, ...],
        kernel: tuple[int, ...],
        channels: tuple[int, int] = (4, 6),
        *,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        values: Callable[[np.ndarray], np.ndarray] = np.asarray,
    ):
        self.values = values
        self.sizes, self.kernel, self.bias, axes = sizes, kernel, bias, len(sizes)
        self.inputs, self.outputs = channels
        each = (stride,) * axes, (padding,) * axes, (dilation,) * axes
        self.options = ConvolutionOptions(*each, groups)
        self.weight_shape = (self.outputs, self.inputs // groups, *kernel)

    def x(self, a: Draw) -> np.ndarray:
        return self.values(a(min(a.rows, 9), self.inputs, *self.sizes))

    def g(self, a: Draw) -> np.ndarray:
        windows = self.options.windows(self.sizes, self.kernel)
        return self.values(a(min(a.rows, 9), self.outputs, *windows))

    def forward(self, a: Draw) -> tuple[Any, ...]:
        bias = a(self.outputs) if self.bias else None
        return self.x(a), a(*self.weight_shape), bias, self.options

    def input_grad(self, a: Draw) -> tuple[Any, ...]:
        return self.g(a), a(*self.weight_shape), self.x(a).shape, self.options

    def weight_grad(self, a: Draw) -> tuple[Any, ...]:
        return self.g(a), self.x(a), self.weight_shape, self.options


def one_channel_nan(x: np.ndarray) -> np.ndarray:
    x[:, 1] = np.nan
    return x


def some_infinite(x: np.ndarray) -> np.ndarray:
    if x.size:
        x[0, 0, 3, 3], x[0, 1, 5, 6], x[-1, 2, -1, -1] = np.inf, -np.inf, np.nan
    return x


def some_nan(x: np.ndarray) -> np.ndarray:
    x.reshape(-1)[::17] = np.nan
    return x


CONVOLUTIONS = [
    Convolution((17, 23), (3, 3), bias=True),
    Convolution((17, 23), (3, 2), stride=2, padding=(1, 2), dilation=2, groups=2),
    Convolution((41,), (5,), (3, 130), stride=3, padding=(2, 2), bias=True),
    Convolution((5, 9, 11), (3, 2, 3), stride=2, padding=(1, 1)),
    Convolution((4, 4), (3, 3), (38, 45), padding=(1, 1)),
    Convolution((9, 9), (1, 1), (7, 20)),
    Convolution((9, 9), (1, 1), (7, 20), stride=2),
    Convolution((17, 17), (1, 1), (64, 70), bias=True),
    Convolution((300,), (1,), (65, 71)),
    Convolution((9, 10), (3, 3), (8, 8), stride=2, padding=(1, 1), groups=8),
    Convolution((9, 10), (2, 3), (4, 8), padding=(2, -1), groups=4),
    Convolution((17, 23), (4, 4), stride=5),
    Convolution((9, 40), (3, 3), (4, 8), padding=(1, 1), groups=4, bias=True),
    Convolution((9, 37), (5, 2), (6, 6), stride=2, dilation=2, padding=(2, 3), groups=6),
    Convolution((9, 37), (3, 3), (8, 4), padding=(1, 1), groups=4, bias=True),
    Convolution((4, 3, 5), (2, 1, 3), (5, 5), padding=(1, 1), groups=5),
    Convolution((53,), (7,), (3, 3), padding=(3, 3), groups=3, bias=True),
    Convolution((9, 37), (3, 3), (3, 3), padding=(1, 1), groups=3, values=one_channel_nan),
    # With outputs enough for a direct one, forward and by the input.
    Convolution((9, 37), (3, 3), (28, 32), padding=(1, 1), bias=True),
    Convolution((6, 4), (3, 3), (58, 60), stride=2, padding=(1, 1), groups=2, bias=True),
    Convolution((61,), (5,), (26, 90), dilation=2, padding=(2, 4)),
    Convolution((3, 5, 4), (2, 2, 2), (24, 31), padding=(1, 0)),
    Convolution((5, 7), (3, 3), (32, 32), stride=2, padding=(1, 1), values=one_channel_nan),
    Convolution((7, 33), (3, 3), (32, 32), padding=(1, 1), groups=2, bias=True),
    Convolution((5, 28), (3, 3), (24, 24), padding=(1, 1), groups=2),
    Convolution((9, 7), (3, 3), (32, 32), padding=(1, 1), groups=2, values=one_channel_nan),
    Convolution((9, 8), (5, 2), (16, 16), dilation=2, padding=(3, 2)),
    Convolution((8, 4), (3, 3), (48, 48), padding=(1, 1), groups=3, bias=True),
    Convolution((7, 34), (3, 3), (72, 44), stride=2, padding=(1, 1), bias=True),
    Convolution((19,), (3,), (140, 44), padding=(1, 1), values=some_nan),
    # Windows side by side, whose gradient by the input is a product.
    Convolution((12, 17), (2, 2), (64, 40), stride=2, bias=True),
    Convolution((41, 47), (4, 4), (3, 64), stride=4),
    Convolution((4, 13, 18), (2, 2, 2), (12, 64), stride=2, values=one_channel_nan),
    Convolution((130,), (3,), (66, 33), stride=3),
    # Depthwise, a plane at a time.
    Convolution((9, 37), (3, 3), (5, 5), padding=(1, 1), groups=5, values=some_infinite),
    Convolution((12, 33), (3, 3), (5, 5), stride=2, padding=(1, 1), groups=5, values=some_infinite),
    Convolution((9, 16), (3, 3), (3, 3), stride=2, padding=(2, 1), groups=3, bias=True),
    Convolution((8, 8), (3, 3), (6, 6), stride=2, padding=(1, 0), groups=6),
    Convolution((7, 18), (3, 3), (3, 3), padding=(2, 0), groups=3),
    Convolution((3, 3), (3, 3), (4, 4), padding=(0, 0), groups=4),
    # By Winograd's method, forward and by the input.
    Convolution((13, 18), (3, 3), (32, 64), padding=(1, 1), bias=True),
    Convolution((13, 8), (3, 3), (64, 32), padding=(2, 0)),
    Convolution((12, 16), (3, 3), (32, 32), padding=(1, 1), bias=True, values=some_infinite),
]


def max_pool(
    kernel: tuple[int, ...],
    stride: int | tuple[int, ...] = 1,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
    values: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Case:
    axes = len(kernel)
    strides = (stride,) * axes if isinstance(stride, int) else stride
    each = strides, (padding,) * axes, (dilation,) * axes
    options = PoolingOptions(kernel, *each, -np.inf)
    sizes = (5, 9, 11)[-axes:] if axes < 3 or padding[0] else (5, 9, 71)
    return lambda a: (values(a(min(a.rows, 70), 13, *sizes)), options)


def max_pool_grad(*arguments: Any, **options: Any) -> Case:
    forward = max_pool(*arguments, **options)

    def grad(a: Draw) -> tuple[Any, ...]:
        x, given = forward(a)
        y, indices = BARE.max_pool(x, given)
        return a(*y.shape), indices, x.shape, given

    return grad


def with_infinities(x: np.ndarray) -> np.ndarray:
    """And NaN, among many other numbers."""
    x.flat[3::97], x.flat[5::89], x.flat[7::101] = np.inf, -np.inf, np.nan
    return x


def avg_pool(kernel: tuple[int, ...], stride: int, padding: int, sizes: tuple[int, ...]) -> Case:
    """Windows that reach into the padding, which counts, and out of it, which does not."""
    starts = [tuple(range(-padding, size + padding - 1, stride)) for size in sizes]
    stops = [tuple(i + k for i in first) for first, k in zip(starts, kernel, strict=True)]
    counts = [
        tuple(min(end, size + padding) - i for i, end in zip(*ends, strict=True))
        for size, *ends in zip(sizes, starts, stops, strict=True)
    ]
    windows = WindowRanges(tuple(starts), tuple(stops), tuple(counts))
    return lambda a: (with_infinities(a(min(a.rows, 70), 13, *sizes)), windows)


def adaptive_avg_pool(sizes: tuple[int, ...], out: tuple[int, ...]) -> Case:
    windows = adaptive_windows(sizes, out)
    return lambda a: (with_infinities(a(min(a.rows, 70), 13, *sizes)), windows)


def avg_pool_grad(forward: Case) -> Case:
    def grad(a: Draw) -> tuple[Any, ...]:
        x, windows = forward(a)
        lead, _ = windows.split(x.shape)
        return with_infinities(a(*lead, *windows.windows)), x.shape, windows

    return grad


def adaptive_max_pool(
    sizes: tuple[int, ...],
    out: tuple[int, ...],
    values: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Case:
    return lambda a: (values(a(min(a.rows, 70), 13, *sizes)), out)


def adaptive_max_pool_grad(*arguments: Any) -> Case:
    forward = adaptive_max_pool(*arguments)

    def grad(a: Draw) -> tuple[Any, ...]:
        x, out = forward(a)
        y, indices = BARE.adaptive_max_pool(x, out)
        return a(*y.shape), indices, x.shape, out

    return grad


def one_weight_each(dtype: np.dtype) -> np.ndarray:
    """Rows of many parts with a weight in one or two columns, of none, of NaN and of infinity."""
    weights = np.zeros((9, 12289), dtype)
    for row, column in enumerate((0, 4095, 4096, 8191, 8192, 12288)):
        weights[row, column] = 3
    weights[5, 4100] = 1e-3
    weights[7, (2, 12288)] = 1, np.nan
    weights[8, (2, 5000, 12288)] = 1, np.inf, 1
    return weights


def with_ties(x: np.ndarray) -> np.ndarray:
    """Few different numbers, infinities and NaN among them."""
    kinds = np.array([-np.inf, -np.inf, -np.inf, -1, 0, 1, np.inf, np.nan], x.dtype)
    return kinds[(np.abs(x.astype(np.float32)) * 1000).astype(int) % 8]


def every_kind_of_number(a: Draw, n: int) -> np.ndarray:
    """(3, n): numbers of all sizes and both signs, zeros, infinities and NaNs of both signs, a row
    in order, and one in the other order."""
    x = a(3, n).astype(np.float64)
    x[0] *= 10.0 ** (np.arange(n) % 81 - 45)
    x[0, ::7], x[0, 1::14], x[0, 2::11], x[0, 3::13] = 0.0, -0.0, np.inf, -np.inf
    x[0, 5::29], x[0, 6::31] = np.nan, np.copysign(np.nan, -1)
    x[1], x[2] = np.sort(x[1]), np.sort(x[2])[::-1]
    with np.errstate(over="ignore"):
        return x.astype(a.dtype)


LARGE_EXTREMES: list[Case] = [
    *[lambda a, axis=axis: (a(3, 70, 90), axis, True) for axis in (0, 1, 2, None, (0, 1))],
    *[lambda a, n=n: (a(-(-20000 // n), n), 1) for n in (1, 3, 17, 64, 1000, 20000)],
    lambda a: (with_ties(a(170, 100)), 0),
    *[lambda a, axis=axis: (every_kind_of_number(a, 40000), axis) for axis in (0, 1)],
]
"""Of so many numbers that kernels compare them."""

POOLS: list[tuple[Any, ...]] = [
    ((2, 2), 2),
    ((3, 3), 2, (1, 1)),
    ((3, 2), 1, (1, 2), 2),
    ((4,), 3, (2, 2)),
    ((2, 3, 2), 2, (1, 1)),
    ((2, 2), 1, (1, 1), 10),  # some windows step over the whole input
    ((4, 6), 2, (2, 3), 1, with_ties),  # more rows and columns than are read at a time
    ((2, 5), 3, (0, 2), 2, with_infinities),
    ((2, 2), 2, (0, 0), 1, with_ties),
    ((3, 3), 2, (1, 2), 1, with_ties),
    ((2, 3), 1, (0, 0), 1, with_ties),
    *[((9, 11), 1, (0, 0), 1, values) for values in (np.asarray, with_infinities, np.rint)],
    ((11,), 11),
    *[
        ((n,), stride, (padding, padding), dilation, values)
        for n, stride, padding, dilation in (
            (2, 2, 0, 1),
            (3, 2, 1, 1),
            (3, 1, 1, 1),
            (4, 3, 2, 1),
            (2, 1, 1, 2),
            (3, 2, 1, 3),
            (5, 5, 2, 1),
            (2, 3, 0, 1),
        )
        for values in (np.asarray, with_infinities, with_ties)
    ],
    *[((2, 2, 2), 2, (0, 0), 1, values) for values in (np.asarray, with_infinities, with_ties)],
    *[((1, 2, 2), (1, 2, 2), (0, 0), 1, values) for values in (with_infinities, with_ties)],
    ((1, 2, 2), 2),
]

AVERAGES: list[Case] = [
    avg_pool((2, 2), 2, 0, (8, 12)),
    avg_pool((3, 3), 2, 1, (9, 11)),
    avg_pool((4, 3), 1, 1, (5, 6)),
    avg_pool((1, 2), 3, 0, (7, 10)),
    avg_pool((3,), 1, 0, (19,)),
    avg_pool((2, 2, 3), 2, 1, (4, 5, 6)),
    adaptive_avg_pool((8, 9), (7, 3)),
    adaptive_avg_pool((5, 6), (7, 1)),
    adaptive_avg_pool((6, 4), (3, 4)),
    adaptive_avg_pool((4, 5, 6), (2, 3, 4)),
    adaptive_avg_pool((7, 5), (0, 3)),
]

ADAPTIVE: list[tuple[Any, ...]] = [
    ((8, 9), (7, 3)),
    ((5, 6), (7, 1)),
    ((8, 9), (3, 4), with_ties),
    ((4, 5, 6), (2, 3, 4), with_ties),
    ((40,), (7,), with_ties),
    ((7, 5), (0, 3)),
]


def rounded(a: Draw, masters: list[np.ndarray]) -> list[np.ndarray]:
    """Parameters in the dtype under test, for which there are masters."""
    return [np.asarray(x, a.dtype) for x in masters]


def adamw(found_inf: float | None = None, masters: bool = False, **options: Any) -> Case:
    settings = {
        "lr": 1e-2,
        "beta1": 0.9,
        "beta2": 0.95,
        "eps": 1e-8,
        "weight_decay": 0.1,
        "step": 3,
    }

    def arguments(a: Draw) -> tuple[Any, ...]:
        shapes = [(a.rows, 67), (3,), (), (2, 3, 4)]
        stored = a.wide if masters else a
        p, m, v = ([stored(*s) for s in shapes] for _ in range(3))
        g, v = [a(*s) for s in shapes], [np.asarray(x * x + 0.01, x.dtype) for x in v]
        numbers = AdamWOptions(**{**settings, **options})
        steps = [np.asarray(t, np.float32) for t in (0, 2, 7, 1000)]
        told = (None, None) if found_inf is None else (steps, np.asarray(found_inf, np.float32))
        return p, g, m, v, numbers, *told, *([rounded(a, p)] if masters else [])

    return arguments


THIRD = np.asarray(1 / 3, np.float32)


def flag(found: int) -> np.ndarray:
    return np.asarray(found, np.float32)


def loss_scale(scale: float, good_steps: int, found_inf: bool) -> Case:
    """A scale that is to change by 2 and 0.3, after three good steps."""

    def arguments(a: Draw) -> tuple[Any, ...]:
        numbers = np.asarray(scale, np.float32), np.asarray(good_steps, np.int32)
        return *numbers, np.asarray(found_inf, np.float32), 2.0, 0.3, 3

    return arguments


def sgd(buffers: bool, found_inf: int | None = None, masters: bool = False, **options: Any) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        shapes = [(a.rows, 7), (3,), ()]
        stored = a.wide if masters else a
        params, momentum = ([stored(*s) for s in shapes] for _ in range(2))
        grads, copies = [a(*s) for s in shapes], [rounded(a, params)] if masters else []
        told = None if found_inf is None else flag(found_inf)
        numbers = SGDOptions(**{"lr": 0.1, **options})
        return params, grads, momentum if buffers else None, numbers, told, *copies

    return arguments


def rmsprop(
    buffers: bool, centered: bool, found_inf: int | None = None, masters: bool = False,
    **options: Any,
) -> Case:  # fmt: skip
    def arguments(a: Draw) -> tuple[Any, ...]:
        shapes = [(a.rows, 7), (3,), ()]
        stored = a.wide if masters else a
        params, velocities, means = ([stored(*s) for s in shapes] for _ in range(3))
        grads, squares = [a(*s) for s in shapes], [np.asarray(1 + x * x, x.dtype) for x in means]
        steps = [np.asarray(t, np.float32) for t in (0, 2, 7)]
        told = (None, None) if found_inf is None else (steps, flag(found_inf))
        copies = [rounded(a, params)] if masters else []
        numbers = RMSpropOptions(**{"lr": 0.1, "alpha": 0.9, "eps": 1e-3, **options})
        lists = params, grads, squares, velocities if buffers else None, means if centered else None
        return *lists, numbers, *told, *copies

    return arguments


def lion(found_inf: int | None = None, masters: bool = False, **options: Any) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        shapes = [(a.rows, 7), (3,), ()]
        stored = a.wide if masters else a
        params, averages = ([stored(*s) for s in shapes] for _ in range(2))
        told = None if found_inf is None else flag(found_inf)
        copies = [rounded(a, params)] if masters else []
        numbers = LionOptions(**{"lr": 0.1, "beta1": 0.9, "beta2": 0.99, **options})
        return params, [a(*s) for s in shapes], averages, numbers, told, *copies

    return arguments


def counts(rows: int) -> np.ndarray:
    """Of four groups with `rows` rows together; the second has none."""
    sizes = [rows // 2, 0, rows // 3]
    return np.array([*sizes, rows - sum(sizes)])


def rotation(interleaved: bool, still: int = 0) -> Case:
    return lambda a: (a(2, 3, a.rows, 8 + still), a(a.rows, 4), a(a.rows, 4), interleaved)


def rotation_of_rows(heads: int) -> Case:
    """Each row of the batch has positions of its own."""
    return lambda a: (a(2, 3, a.rows, 8), a(2, heads, a.rows, 4), a(2, heads, a.rows, 4))


def packed(a: Draw, name: str, *shape: int) -> PackedArray:
    """Normal weights, packed; whatever dtype and layout are under test."""
    dtype = dtypes.dtype_of(name)
    values = np.ascontiguousarray(a(*shape), np.float32)
    return PackedArray(dtype, shape, dtype.pack(values))


def float8(a: Draw, kind: str, rows: int, columns: int) -> PackedArray:
    """Normal numbers of 8 bits, whatever dtype and layout are under test."""
    dtype: Any = dtypes.dtype_of(f"float8_{kind}")
    values = np.ascontiguousarray(a(rows, columns), np.float32).astype(dtype.element)
    return PackedArray(dtype, values.shape, (values.view(np.uint8),))


def transpose(x: PackedArray) -> PackedArray:
    """A matrix of 8-bit floats, transposed: a view."""
    return PackedArray(x.dtype, x.shape[::-1], (x.parts[0].T,))


def scaled_product(
    k: int, n: int, kinds: tuple[str, str] = ("e4m3fn", "e4m3fn"), by_rows: bool = False,
    bias: bool = True, transposed: bool = True,
) -> Case:  # fmt: skip
    def case(a: Draw) -> tuple[Any, ...]:
        left = float8(a, kinds[0], a.rows, k)
        right = float8(a, kinds[1], *((n, k) if transposed else (k, n)))
        shapes = ((a.rows, 1), (1, n)) if by_rows else ((), ())
        scales = [np.asarray(np.abs(a(*shape)), np.float32) for shape in shapes]
        return (
            left, transpose(right) if transposed else right, *scales,
            a(n) if bias else None, a.dtype,
        )  # fmt: skip

    return case


WINDOWS = ((3, 2), (2, 1), (1, 2))
FLOAT64 = np.dtype(np.float64)
ON = 1 << 40

LOW, HIGH = np.array([0, 0, 1, 2, 2, 4]), np.array([1, 1, 2, 3, 3, 4])
"""Of 5 numbers, the neighbours that each of 6 lies between."""


def resized(axis: int, values: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        sizes = (a.rows, 7, 3)
        x = values(a(*sizes[:axis], 5, *sizes[axis:]))
        return x, a(6, low=0, high=1), LOW, HIGH, axis

    return arguments


def resized_grad(axis: int, values: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        sizes = (a.rows, 7, 3)
        g = values(a(*sizes[:axis], 6, *sizes[axis:]))
        return g, a(6, low=0, high=1), LOW, HIGH, 5, axis

    return arguments


TAPS = tuple(np.array(at) for at in ([0, 0, 1, 2, 2, 4], [1, 1, 2, 3, 3, 4], [4, 0, 4, 0, 1, 1]))
"""Of 5 numbers, the three of which each of 6 is a sum."""


def taps(axis: int, values: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        sizes = (a.rows, 7, 3)
        x = values(a(*sizes[:axis], 5, *sizes[axis:]))
        return x, a(3, 6, low=-1, high=1), TAPS, axis

    return arguments


def taps_grad(axis: int, values: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Case:
    def arguments(a: Draw) -> tuple[Any, ...]:
        sizes = (a.rows, 7, 3)
        g = values(a(*sizes[:axis], 6, *sizes[axis:]))
        return g, a(3, 6, low=-1, high=1), TAPS, 5, axis

    return arguments


ELUS = [(1.0, 1.0, 1.0), (1.6732632423543772, 1.0, 1.0507009873554805), (-0.5, -0.5, 1.0)]
"""alpha, stretch and scale of elu, selu and celu."""


def at_kinks(a: Draw) -> np.ndarray:
    """(rows, 67) numbers about 0, and some where activations have kinks or are not finite."""
    x = a(a.rows, 67, low=-5, high=5)
    edges = [0.0, -0.0, 3.0, -3.0, 1e-6, -1e-6, np.inf, -np.inf, np.nan]
    x[:2, : len(edges)] = edges
    return x


def about_one(x: np.ndarray) -> np.ndarray:
    """Numbers of moderate products, and a zero, an infinity and NaN among them."""
    x = (1 + x.astype(np.float64) / 32).astype(x.dtype)
    x.flat[11::1009], x.flat[13::2003], x.flat[17::3001] = 0, np.inf, np.nan
    return x


PRODUCTS: list[Case] = [
    lambda a: (about_one(a(a.rows, 67)), -1),
    lambda a: (about_one(a(a.rows, 67)), 0),
    lambda a: (about_one(a(3, min(a.rows, 99), 21)), 1),
    lambda a: (about_one(a(min(a.rows, 50), 3, 4, 5)), (1, 2)),
    lambda a: (about_one(a(min(a.rows, 50), 3, 4)), (0, 2)),
    lambda a: (about_one(a(7, 3)), None),
    lambda a: (about_one(a(min(a.rows, 9), 6)),),
]

PAIRS: list[Case] = [
    *(lambda a: (3 * a(a.rows, 67), a(a.rows, 67)), lambda a: (a(3, 5000), a(3, 5000))),
    *(lambda a: (a(0, 3), a(0, 3)), lambda a: (a(), a())),
    lambda a: (np.log(a(a.rows, 67)), a(a.rows, 67)),  # NaN
    lambda a: (1 / np.floor(a(a.rows, 67)), a(a.rows, 67)),  # infinities
    *(lambda a: (a(a.rows, 7), a(7)), lambda a: (a(7), a(a.rows, 7))),
]


BOUNDS: list[Any] = [(-3.0, 3.0), (0.0, None), (None, -0.1), (1.0, -1.0), (-0.0, 2)]
"""`min` and `max` of `clamp`."""

AROUND = "reflect", "replicate", "circular"
PADS: list[Any] = [
    ((), ((1, 0), (2, 3))),
    ((6, 5), ((0, 0), (0, 0), (5, 1), (0, 4))),
    ((4, 3, 6), ((0, 0), (0, 0), (1, 2), (2, 0), (3, 3))),
    ((6,), ((0, 0), (0, 0), (0, 5))),
]
"""Axes after (rows, 7), and the widths of a padding."""


def pads(a: Draw, axes: Any, widths: Any) -> tuple[Any, ...]:
    return a(a.rows, 7, *axes), widths


def padded(a: Draw, axes: Any, widths: Any, mode: str) -> tuple[Any, ...]:
    shape = (a.rows, 7, *axes)
    return a(*(n + sum(w) for n, w in zip(shape, widths, strict=True))), shape, widths, mode


WEIGHTS: list[Any] = [(), (1,), (67,)]


def half_of(x: np.ndarray, axis: int) -> np.ndarray:
    return np.split(x, [x.shape[axis] // 2], axis)[0]


HUBER = (1.0, 1.0), (0.25, 0.25), (0.0, 1.0)
"""`delta` and `divisor` of `huber_loss`, `smooth_l1_loss` and `l1_loss`."""


def number(a: Draw, value: float) -> Any:
    """Python's, which takes the dtype of what stands beside it; but NumPy has a float64 of it and
    bfloat16."""
    return np.asarray(value, a.dtype) if a.dtype.name == "bfloat16" else value


LARGEST: list[Case] = [
    lambda a: (with_ties(a(a.rows, 67)), 0) if a.rows else (a(1, 67), 0),
    lambda a: (with_ties(a(3, 50, 33)), 1, True),
    lambda a: (a(min(a.rows, 50), 3, 700), -2),
    lambda a: (with_ties(a(9, 41)), 1),
    lambda a: (np.log(a(a.rows, 67)), 1),  # several NaN in a row
    lambda a: (np.log(a(3, 40, 37)), 1), lambda a: (np.log(a(7, 40)),),
    lambda a: (np.full((3, 50), -np.inf, a.dtype), 1), lambda a: (a(), None, True),
    lambda a: (a(0, 67), 1), lambda a: (a(3, 0, 40), 0, True),
    lambda a: (with_ties(a(2, 70001)), 1), lambda a: (a.integers(0, 5, 4, 33), 1),
]  # fmt: skip

OTHER = {
    "float32": dtypes.bfloat16.numpy,
    "float64": np.dtype(np.float32),
    "float16": np.dtype(np.float32),
    "bfloat16": np.dtype(np.float16),
}
"""A dtype to cast to."""
COPIED: list[Case] = [
    lambda a: (a(a.rows, 67),),
    lambda a: (a(a.rows, 3, 4, 16).transpose(0, 2, 1, 3),),  # runs of 16 bytes
    lambda a: (a(a.rows, 70).T,),
    lambda a: (a(2, a.rows, 9, 40).transpose(0, 2, 3, 1),),  # channels last
    lambda a: (a(2, 7, a.rows, 40)[..., 3:].transpose(2, 0, 3, 1),),
    lambda a: (a(2, a.rows, 5, 20).transpose(0, 3, 2, 1),),
    lambda a: (a(a.rows, 40)[:, 1:33],),
    lambda a: (a(2 * a.rows, 9)[::-2, ::3],),
    lambda a: (np.broadcast_to(a(a.rows, 1, 8), (a.rows, 3, 8)),),
    lambda a: (
        a(2, a.rows, 2, 3, 2, 3, 2, 2)[..., ::2, :, ::2, :, :].transpose(0, 2, 1, 4, 3, 7, 5, 6),
    ),
    lambda a: (a(3, 1500)[:, 1:1301],),
    lambda a: (a(),),
]

OF_ONE_ROW = ("q4_0", "q8_0", "q4_k", "q5_k", "q6_k", "int8_channel", "int4_group")
"""Packed formats, beside q4_0, that a GPU multiplies a row by in a launch with norms and gates."""

CASES: dict[str, list[Case]] = {
    "resize": [*(resized(axis) for axis in (1, 2, 3)), resized(3, one_channel_nan)],
    "resize_grad": [*(resized_grad(axis) for axis in (1, 2, 3)), resized_grad(2, one_channel_nan)],
    "resize_fraction_grad": [
        lambda a: (a(a.rows, 6, 3), a(a.rows, 5, 3), LOW, HIGH, 1),
    ],
    "weighted_taps": [*(taps(axis) for axis in (1, 2, 3)), taps(3, one_channel_nan)],
    "weighted_taps_grad": [*(taps_grad(axis) for axis in (1, 2, 3)), taps_grad(2, one_channel_nan)],
    "weighted_taps_weights_grad": [lambda a: (a(a.rows, 6, 3), a(a.rows, 5, 3), TAPS, 1)],
    "bilinear_sample": [
        lambda a: (a(2, 3, 5, 6), a(2, a.rows, 2, low=-2, high=7)),
        lambda a: (a(2, 3, a.rows, 6), a(2, 600, 2, low=-2, high=7)),
        lambda a: (a(1, 11, 4, 4), np.rint(a(1, a.rows, 2, low=-2, high=7)).astype(a.dtype)),
    ],
    "bilinear_sample_grad": [
        lambda a: (a(2, 3, a.rows), a(2, a.rows, 2, low=-2, high=7), (2, 3, 5, 6)),
        lambda a: (a(1, 11, a.rows), a(1, a.rows, 2, low=-2, high=7), (1, 11, 4, 4)),
    ],
    "bilinear_sample_places_grad": [
        lambda a: (a(2, 3, a.rows), a(2, 3, 5, 6), a(2, a.rows, 2, low=-2, high=7)),
        lambda a: (a(1, 11, a.rows), a(1, 11, 4, 4), a(1, a.rows, 2, low=-2, high=7)),
    ],
    # Convolution
    "convolution": [c.forward for c in CONVOLUTIONS],
    "convolution_input_grad": [c.input_grad for c in CONVOLUTIONS],
    "convolution_weight_grad": [c.weight_grad for c in CONVOLUTIONS],
    # Complex numbers
    "view_as_real": [lambda a: (a.complex(a.rows, 3),), lambda a: (np.asarray(a.complex()),)],
    "view_as_complex": [lambda a: (a.wide(a.rows, 3, 2),), lambda a: (a.wide(2),)],
    "complex": [lambda a: (a.wide(a.rows, 3), a.wide(a.rows, 3)), lambda a: (a.wide(), a.wide())],
    "real": [lambda a: (a.complex(a.rows, 3),)],
    "imag": [lambda a: (a.complex(a.rows, 3),)],
    "conj": [lambda a: (a.complex(a.rows, 3),), lambda a: (a.wide(a.rows, 3),)],
    "fft": [
        lambda a: (a.complex(a.rows, 8), (1,), False, "backward"),
        lambda a: (a.complex(16, 70, 40), (2, 0), True, "ortho"),
        lambda a: (a.complex(a.rows, 7, 3), (2, 1), False, "ortho"),
        lambda a: (a.complex(3, a.rows, 1), (0,), False, "forward"),
        lambda a: (a.complex(4, a.rows, 6), (0, 2), True, "backward"),
        lambda a: (a.complex(a.rows, 9), (1,), True, "ortho"),
        lambda a: (a.complex(a.rows, 6), (1,), True, "forward"),
        *[lambda a, n=n: (a.complex(37, n), (1,), n % 2 == 0, "ortho")
          for n in (1, 2, 3, 5, 12, 16, 30, 31, 37, 49, 64, 77, 242, 512)],
        *[lambda a, inner=inner: (a.complex(5, 24, inner), (1,), False, "backward")
          for inner in (3, 8, 16, 21)],
    ],
    "rfft": [
        *[lambda a, n=n: (a.wide(37, n), 1, "backward")
          for n in (1, 2, 3, 4, 6, 9, 16, 22, 30, 62, 37, 64, 74, 121, 400, 512)],
        lambda a: (a.wide(6, 40, 9), 1, "ortho"),
        lambda a: (a.wide(a.rows, 8), 1, "backward"),
        lambda a: (a.wide(a.rows, 7), 1, "ortho"),
        lambda a: (a.wide(5, a.rows), 0, "forward"),
        lambda a: (a.wide(70, 3, 256), 2, "ortho"),
    ],
    "irfft": [
        *[lambda a, n=n: (a.complex(37, n // 2 + 1), 1, n, "backward")
          for n in (1, 2, 3, 4, 6, 9, 16, 22, 30, 62, 37, 64, 74, 121, 400, 512)],
        lambda a: (a.complex(9, 70, 129), 1, 139, "ortho"),
        lambda a: (a.complex(a.rows, 5), 1, 8, "backward"),
        lambda a: (a.complex(a.rows, 5), 1, 9, "ortho"),
        lambda a: (a.complex(3, a.rows), 0, 4, "forward"),
        lambda a: (a.complex(a.rows, 1), 1, 1, "backward"),
    ],
    # Pooling
    "max_pool": [max_pool(*p) for p in POOLS],
    "max_pool_grad": [max_pool_grad(*p) for p in POOLS],
    "avg_pool": AVERAGES,
    "avg_pool_grad": [avg_pool_grad(case) for case in AVERAGES],
    "adaptive_max_pool": [adaptive_max_pool(*p) for p in ADAPTIVE],
    "adaptive_max_pool_grad": [adaptive_max_pool_grad(*p) for p in ADAPTIVE],
    # Batch normalisation
    "channel_moments": [
        lambda a: (a(a.rows, 7, 3, 5),),
        lambda a: (a(a.rows, 7),),
        lambda a: (a(a.rows, 37),),
        lambda a: (a(300, 67),),
    ],
    "batch_norm": [
        lambda a: (a(a.rows, 7, 3, 5), a(7), a(7), 1e-5),
        lambda a: (a(a.rows, 37), a(37), None, 1e-5),
        lambda a: (a(300, 67), None, a(67), 1e-5),
        lambda a: (a(a.rows, 7), None, None, 1e-5),
    ],
    "batch_norm_grad": [
        *(batch_norm_grad(True, 7, 3, 5), batch_norm_grad(False, 7)),
        *(batch_norm_grad(True, 37), batch_norm_grad(False, 67)),
    ],
    # Recurrent layers
    **{
        method: [case(True, 3, 3, 5), case(False, 4), case(True, 1, 40), case(True, 12, 7)]
        for method, case in (("group_norm", group_norm), ("group_norm_grad", group_norm_grad))
    },
    "lstm": [lstm(3, 7), lstm(1, 20), lstm(5, 9)],
    "lstm_grad": [lstm_grad(3, 7), lstm_grad(1, 20), lstm_grad(5, 9)],
    "ctc": [ctc(7, 3), ctc(1, 1), ctc(5, 0)],
    "ctc_grad": [ctc_grad(7, 3), ctc_grad(1, 1), ctc_grad(5, 0)],
    "gru": [gru(3, 7), gru(1, 20), gru(5, 9)],
    "gru_grad": [gru_grad(3, 7), gru_grad(1, 20), gru_grad(5, 9)],
    "rnn": [rnn(3, 7, False), rnn(1, 20, True), rnn(5, 9, True)],
    "rnn_grad": [rnn_grad(3, 7, False), rnn_grad(1, 20, True), rnn_grad(5, 9, True)],
    # Decompositions
    "inv": [lambda a: (square(a),), *small_matrices],
    "solve": [
        *(lambda a: (square(a), a(a.rows, 7, 3)), lambda a: (square(a), a(7, 1))),
        *(lambda a, n=n: (square(a, n, 4200 // n), a(4200 // n, n, 2)) for n in (1, 2, 3, 16)),
    ],
    "solve_triangular": [
        lambda a: (triangular(a, 70, True), a(70, 3), True),
        lambda a: (triangular(a, 37, False), a(37, 1), False),
        lambda a: (triangular(a, 70, True).T, a(7, 70).T, False),
        lambda a: (triangular(a, 40, True), a(40, 201), True),
        lambda a: (triangular(a, 40, False), a(40, 70), False),
        lambda a: (triangular(a, 33, True).T, a(33, 45), False),
        lambda a: (triangular(a, 29, False).T, a(29, 16), True),
        lambda a: (square(a) * np.tri(7, dtype=a.dtype), a(a.rows, 7, 3), True),
    ],
    "cholesky": [
        lambda a: (positive_definite(a),),
        *(lambda a, n=n: (positive_definite(a, 2, n),) for n in (1, 33, 70)),
    ],
    "lu": [lambda a: (square(a),), lambda a: (a(a.rows, 7, 4),), lambda a: (a(a.rows, 4, 7),)],
    "lu_pivots": [lambda a: (a(a.rows, 7, 4),), lambda a: (a(4, 7),)],
    "logabsdet": [lambda a: (square(a),), *small_matrices],
    "det_sign": [lambda a: (square(a),), *small_matrices],
    "det": [lambda a: (square(a),), *small_matrices],
    "cofactor": [lambda a: (square(a),)],
    "eigh": [lambda a: (positive_definite(a),)],
    "eig": [lambda a: (np.triu(a(4, 4)) + np.diag(np.arange(4.0)).astype(a.dtype),)],
    "svd": [lambda a: (a(a.rows, 7, 4),), lambda a: (a(a.rows, 4, 7),)],
    "qr": [lambda a: (a(a.rows, 7, 4),)],
    "pinv": [lambda a: (a(a.rows, 7, 4), 0.0, 1e-3)],
    # Numbers
    "isnan": [lambda a: (np.log(a(a.rows, 7)),)],
    "isfinite": [lambda a: (1 / np.floor(a(a.rows, 7)),)],
    "abs": each(-3, 3),
    "sign": each(),
    "floor": each(-3, 3),
    "ceil": each(-3, 3),
    "trunc": each(-3, 3),
    "round": [
        *each(-3, 3),
        lambda a: (np.arange(-2.5, 3, 0.5).astype(a.dtype),),
    ],
    "fmod": [
        lambda a: (3 * a(a.rows, 7), a(7)),
        lambda a: (a(a.rows, 7), number(a, -0.75)),
        lambda a: (3 * a(5, 9), with_ties(a(5, 9))),
    ],
    **{
        method: [
            lambda a: (3 * a(a.rows, 7), a(7)),
            lambda a: (a(a.rows, 7), number(a, -0.75)),
            lambda a: (3 * a(5, 9), with_ties(a(5, 9))),
            lambda a: (with_ties(a(5, 9)), a(9)),
            lambda a: (
                np.asarray([[30000], [1], [-7.5], [0]], a.dtype),
                np.asarray([3, -2], a.dtype),
            ),
            lambda a: (a.integers(-9, 9, a.rows, 7), a.integers(1, 5, 7)),
            lambda a: (a.integers(-9, 9, a.rows, 7), -4),
        ]
        for method in ("remainder", "floor_divide")
    },
    "maximum": [lambda a: (a(a.rows, 7), a(7)), lambda a: (with_nan(a(a.rows, 7)), a(a.rows, 7))],
    "minimum": [lambda a: (a(a.rows, 7), a(7)), lambda a: (with_nan(a(a.rows, 7)), a(a.rows, 7))],
    "clone": COPIED,
    "copy": COPIED,
    "astype": [
        *(lambda a, case=case: (*case(a), OTHER[str(a.dtype)]) for case in COPIED),
        *(lambda a, dtype=dtype: (a(a.rows, 67), np.dtype(dtype)) for dtype in OTHER.values()),
        lambda a: (a.integers(-9, 9, a.rows, 7), OTHER[str(a.dtype)]),
        lambda a: (a(a.rows, 7, low=-9, high=9), np.dtype(np.int64)),
        lambda a: (np.asarray([-1.5, 300.7, 255.9, -300, 3.9, 0], a.dtype), np.dtype(np.uint8)),
    ],
    "assign": [
        *(lambda a, case=case: (np.zeros(case(a)[0].shape, a.dtype), ..., *case(a))
          for case in COPIED),
        *[lambda a, value=value: (a(300, 300), (a.bools(300, 300),), np.asarray(value, a.dtype))
          for value in (2, np.nan)],
        lambda a: (a(300, 300), (np.arange(90_000).reshape(300, 300) % 3 == 1,), a(30_000)),
        lambda a: (a(40, 300, 7), (slice(None), a.integers(0, 300, 250)), a(40, 250, 7)),
        lambda a: (a(300, 300), (slice(None), a.integers(0, 300, 400)), a(300, 400)),
        lambda a: (a(300, 300), (slice(None), a.integers(-300, 300, 40)), a(300, 40)),
        lambda a: (a(a.rows, 67), (slice(None), slice(3, 35)), a(a.rows, 32)),
        lambda a: (a(a.rows, 67), (..., slice(None, None, -2)), a(a.rows, 34)),
        lambda a: (a(a.rows, 24), (slice(None), slice(8, 16)), a.wide(8)),
        lambda a: (a(a.rows, 3, 8), (slice(None), 1, None), a(a.rows, 1, 1)),
        lambda a: (a(a.rows, 8), ..., a()),
        lambda a: (a(a.rows, 7), 0 if a.rows else ..., a(7)),
        lambda a: (a(a.rows, 7), slice(1, None), a.integers(-9, 9, 1, 7)),
        lambda a: (a(3, a.rows), a.integers(0, 3, 2), a(2, a.rows)),
        lambda a: (a(a.rows, 7), ..., a(a.rows, 7)),
        lambda a: (a(a.rows, 7), ..., a(7)),
        lambda a: (a(a.rows, 7), (slice(None), 3), -1.5),
        lambda a: (a(a.rows, 7), (slice(None), slice(None, None, -2)), a(4)),
        lambda a: (a(11, 7), (a.integers(-11, 11, 1), slice(2)), a(2)),
        lambda a: (a(11, 7), (a.bools(11),), 2.5),
        lambda a: (a(11, 7), (a.integers(0, 11, 4), a.integers(0, 7, 4)), 2.5),
    ],
    "concatenate": [
        lambda a: ([a(a.rows, 64), a(a.rows, 0), a(a.rows, 32), a(a.rows, 7)], 1),
        lambda a: ([a(a.rows, 3, 8), a(5, 3, 8)], 0),
        lambda a: ([a(3, a.rows, 8), a.wide(3, 2, 8)], -2),
        lambda a: ([a(a.rows, 3)] * 20, 1),
        *[lambda a, axis=axis: ([a(3, a.rows, 67), a(3, a.rows, 67)], axis) for axis in (0, -2, 2)],
    ],
    "reshape": [
        lambda a: (a(a.rows, 3, 4, 16).transpose(0, 2, 1, 3), (a.rows, 4, 48)),
        lambda a: (a(a.rows, 3, 4).transpose(1, 0, 2), (3, -1)),
        lambda a: (a(a.rows, 12), (a.rows, 1, 3, 4, 1)),
        lambda a: (a(1), ()),
    ],
    "addcmul": [
        lambda a: (a(a.rows, 7), a(7), a(a.rows, 7), 0.3),
        *(lambda a, v=v: (a(a.rows, 67), a(a.rows, 67), a(a.rows, 67), v) for v in (1, -0.3)),
    ],
    "addcdiv": [
        lambda a: (a(a.rows, 7), a(7), a(a.rows, 7, low=0.5), 0.3),
        *(lambda a, v=v: (*(a(a.rows, 67, low=0.5) for _ in range(3)), v) for v in (1, -0.3)),
    ],
    "lerp": [
        *(lambda a, w=w: (a(a.rows, 67), a(a.rows, 67), number(a, w)) for w in (0.3, 0.5, 1.0)),
        *(lambda a: (a(a.rows, 67), a(a.rows, 67), a(a.rows, 67, low=-1, high=2)),),
        *(lambda a: (a(a.rows, 67), a(67), a(a.rows, 1)), lambda a: (a(7), a(7), a())),
    ],
    "where": [
        lambda a: (a.bools(a.rows, 67), a(a.rows, 67), with_nan(a(a.rows, 67))),
        lambda a: (a.bools(a.rows, 7), a(a.rows, 7), a(7)),
        lambda a: (a.bools(a.rows, 7), a(), a(a.rows, 7)),
        lambda a: (a.bools(a.rows, 7), a(a.rows, 7), a()),
        lambda a: (a.bools(a.rows, 7), number(a, -0.5), a(a.rows, 7)),
        lambda a: (a.bools(a.rows, 7), a(a.rows, 7), number(a, float("-inf"))),
        lambda a: (a.bools(a.rows, 7), a(), a()),
        lambda a: (a.bools(7), a(a.rows, 7), a()),
        lambda a: (a.bools(a.rows, 7), a.integers(0, 9, a.rows, 7), a.integers(0, 9, 7)),
        *[lambda a, size=size: (a.bools(*size), a(), a(300, 300))
          for size in ((300, 1), (1, 300), (300,), (1, 1))],
        *(lambda a: (a.bools(0, 7), a(0, 7), a()), lambda a: (np.asarray(a.bools()), a(), a(3))),
    ],
    # Exponentials and logarithms
    "exp": [*each(-5, 5), lambda a: (9 * a.complex(a.rows, 7),)],
    "log": each(0.01, 9),
    "sqrt": each(0, 9),
    "expm1": [*each(-5, 5), *each(-1e-3, 1e-3)],
    "log1p": [*each(-0.9, 9), *each(-1e-3, 1e-3)],
    "exp2": each(-5, 5),
    "log2": each(0.01, 9),
    "log10": each(0.01, 9),
    "logaddexp": [lambda a: (a(a.rows, 7), a(7))],
    # Trigonometric and hyperbolic
    "sin": each(-5, 5),
    "cos": each(-5, 5),
    "tan": each(-1.4, 1.4),
    "arctan": each(-5, 5),
    "arcsin": each(-0.95, 0.95),
    "arccos": each(-0.95, 0.95),
    "sinh": [*each(-3, 3), *each(-1e-3, 1e-3)],
    "cosh": each(-3, 3),
    "tanh": each(-5, 5),
    "arcsinh": [*each(-5, 5), *each(-1e-3, 1e-3)],
    "arccosh": each(1.1, 9),
    "arctanh": [*each(-0.95, 0.95), *each(-1e-3, 1e-3)],
    "erf": each(-4, 4),
    "erfc": each(-4, 4),
    "erfinv": each(-0.99, 0.99),
    "arctan2": [lambda a: (a(a.rows, 7), a(7)), lambda a: (a(a.rows, 7), a(a.rows, 1))],
    "hypot": [lambda a: (a(a.rows, 7), a(7))],
    "copysign": [lambda a: (a(a.rows, 7), a(7))],
    "nextafter": [
        lambda a: (a(a.rows, 7), a(7)),
        lambda a: (np.floor(a(a.rows, 7)), np.floor(a(a.rows, 1))),
        lambda a: (1 / np.floor(a(a.rows, 7)), np.floor(a(7))),
    ],
    "signbit": each(-1, 1),
    "erfcx": [*each(-4, 4), *each(4, 40)],
    "ndtr": each(-4, 4),
    "log_ndtr": [*each(-4, 4), *each(-40, -4)],
    "ndtri": [*each(0.03, 0.97), *each(0.0001, 0.01)],
    "entr": each(-1, 4),
    "xlogy": [lambda a: (a(a.rows, 7), a(a.rows, 7, low=0.1, high=4))],
    "xlog1py": [lambda a: (a(a.rows, 7), a(a.rows, 7, low=-0.9, high=4))],
    "lgamma": [*each(0.1, 30), *each(-3, -0.1)],
    "digamma": [*each(0.1, 30), *each(-2.9, -2.1)],
    "polygamma": [
        *(lambda a, n=n: (a(a.rows, 7, low=0.1, high=30), n) for n in (0, 1, 2)),
        lambda a: (a(a.rows, 7, low=-2.9, high=-2.1), 1),
    ],
    "gammainc": [lambda a: (a(a.rows, 7, low=0.1, high=30), a(a.rows, 7, low=0.1, high=30))],
    "gammaincc": [lambda a: (a(a.rows, 7, low=0.1, high=30), a(a.rows, 7, low=0.1, high=30))],
    "zeta": [lambda a: (a(a.rows, 7, low=1.5, high=6), a(a.rows, 7, low=0.2, high=30))],
    "bessel_i": [lambda a, n=n: (a(a.rows, 7, low=-30, high=30), n) for n in (0, 1, 2, 3)],
    "bessel_ie": [lambda a, n=n: (a(a.rows, 7, low=-30, high=30), n) for n in (0, 1, 2, 3)],
    "power": [lambda a: (a(a.rows, 7, low=0, high=4), a(a.rows, 7))],
    "reciprocal_power": [lambda a: (a.integers(-3, 4, a.rows, 7), a.integers(-3, 4, 7))],
    # Activations
    "sigmoid": each(-20, 20),
    "sigmoid_grad": [lambda a: (a(a.rows, 67), a(a.rows, 67, low=0, high=1))],
    "logsigmoid": [*each(-20, 20), *each(-700, 700), lambda a: (1 / np.floor(a(a.rows, 67)),)],
    "logsigmoid_grad": [lambda a: (a(a.rows, 67), a(a.rows, 67, low=-20, high=20))],
    "relu": each(-20, 20),
    "softplus": [*each(-9, 9), lambda a: (a(a.rows, 7, low=-9, high=9), 2.0, 4.0)],
    "softplus_grad": [
        lambda a: (a(a.rows, 67), a(a.rows, 67, low=-30, high=30)),
        lambda a: (a(a.rows, 7), a(a.rows, 7, low=-9, high=9), 2.0, 4.0),
    ],
    "relu_grad": [lambda a: (a(a.rows, 67), np.maximum(a(a.rows, 67), 0))],
    "clamp": [lambda a, o=o: (at_kinks(a), *o) for o in BOUNDS],
    "clamp_grad": [lambda a, o=o: (a(a.rows, 67), at_kinks(a), *o) for o in BOUNDS],
    "hardshrink": [lambda a, o=o: (at_kinks(a), *o) for o in ((-3.0, 3.0, 0.5), (0.0, 0.0, 0.0))],
    "hardshrink_grad": [lambda a: (a(a.rows, 67), at_kinks(a), -math.inf, 3.0)],
    "softshrink": [lambda a, lambd=lambd: (at_kinks(a), lambd) for lambd in (0.0, 3.0, 0.5)],
    "prelu": [lambda a, n=n: (at_kinks(a).reshape(-1, 67), a(*n)) for n in WEIGHTS] + [
        lambda a, n=n: (a(a.rows, 5, 7), a(n, 1)) for n in (1, 5)],
    "prelu_grad": [
        *(lambda a, n=n: (a(a.rows, 67), at_kinks(a), a(*n)) for n in WEIGHTS),
        *(lambda a, n=n: (a(a.rows, 5, 7), a(a.rows, 5, 7), a(n, 1)) for n in (1, 5)),
    ],
    "glu": [lambda a, k=k: (3 * a(6, a.rows, 6, 34), k) for k in (0, 2, 3)],
    "glu_grad": [
        lambda a, k=k: (half_of(a(6, a.rows, 6, 34), k), 3 * a(6, a.rows, 6, 34), k)
        for k in (0, 2, 3)
    ],
    "hardtanh": [lambda a: (at_kinks(a), -3.0, 3.0), lambda a: (at_kinks(a), 0.0, 0.0)],
    "hardtanh_grad": [lambda a: (a(a.rows, 67), at_kinks(a), -3.0, 3.0)],
    "leaky_relu": [lambda a, slope=slope: (at_kinks(a), slope) for slope in (0.01, -2.0, 0.0)],
    "leaky_relu_grad": [
        lambda a, slope=slope: (a(a.rows, 67), at_kinks(a), slope) for slope in (0.01, -2.0, 0.0)
    ],
    "hardsigmoid": [lambda a: (at_kinks(a),)],
    "hardsigmoid_grad": [lambda a: (a(a.rows, 67), at_kinks(a))],
    "hardswish": [lambda a: (at_kinks(a),)],
    "hardswish_grad": [lambda a: (a(a.rows, 67), at_kinks(a))],
    "elu": [lambda a, o=o: (at_kinks(a), *o) for o in ELUS],
    "elu_grad": [lambda a, o=o: (a(a.rows, 67), at_kinks(a), *o) for o in ELUS],
    "silu": each(-20, 20),
    "silu_grad": [lambda a: (a(a.rows, 67), 3 * a(a.rows, 67))],
    "gelu": [lambda a, how=how: (3 * a(a.rows, 67), how) for how in ("none", "tanh")],
    "gelu_grad": [
        lambda a, how=how: (a(a.rows, 67), 3 * a(a.rows, 67), how) for how in ("none", "tanh")
    ],
    # Softmax and cross-entropy
    "softmax": [*along(), lambda a: (a(a.rows, 320), -1)],
    "softmax_grad": [*along_pair(), lambda a: (a(a.rows, 320), a(a.rows, 320), 1)],
    "log_softmax": [*along(), lambda a: (a(a.rows, 320), -1)],
    "log_softmax_grad": [*along_pair(), lambda a: (a(a.rows, 320), -abs(a(a.rows, 320)), 1)],
    "logsumexp": [
        *(*along(), *along(True), lambda a: (a(3, a.rows, 7), (0, 2))),
        lambda a: (a(3, a.rows, 7), 1),
        lambda a: (40 * a(5, a.rows), 0),
        lambda a: (with_infinities(a(a.rows, 5, 70)), 1),
        lambda a: (with_nan(a(a.rows, 67)), -1),
        lambda a: (with_infinities(a(a.rows, 67)), (0, 1)),
    ],
    "logsumexp_grad": [
        *(logsumexp_grad(axis) for axis in (-1, 1, 0, (0, 1), (1, 2))),
        *(logsumexp_grad(axis, with_infinities) for axis in (-1, 1, 0)),
        *(logsumexp_grad(axis, with_nan) for axis in (2, 1)),
    ],
    "nll": [
        lambda a: (a(a.rows, 67), targets(a, 67), -100),
        lambda a: (with_infinities(a(a.rows, 67)), a.integers(0, 67, a.rows), 7),
    ],
    "nll_grad": [
        lambda a: (a(a.rows), (a.rows, 67), targets(a, 67), -100),
        lambda a: (a(a.rows), (a.rows, 67), a.integers(0, 67, a.rows), 7),
    ],
    "cross_entropy": [cross_entropy(0.0), cross_entropy(0.1)],
    "cross_entropy_in_float32": [cross_entropy(0.0), cross_entropy(0.1)],
    "mean_cross_entropy": [cross_entropy(0.0), cross_entropy(0.1)],
    "mean_of_counted": [lambda a: (a(a.rows), targets(a, 67), -100)],
    "cross_entropy_grad": [
        *(cross_entropy_grad(0.0), cross_entropy_grad(0.1)),
        *(cross_entropy_grad(0.0, in_float32=True), cross_entropy_grad(0.1, in_float32=True)),
    ],
    # Normalisation
    "layer_norm": [
        lambda a: (a(a.rows, 67), a(67), a(67), 1e-5),
        lambda a: (a(2, a.rows, 21), a(21), None, 1e-5),
        lambda a: (a(a.rows, 67), None, None, 1e-5),
        lambda a: (a(a.rows, 320), a(320), a(320), 1e-5),
    ],
    "layer_norm_grad": [layer_norm_grad(True), layer_norm_grad(False), layer_norm_grad(True, 320)],
    "rms_norm": [
        lambda a: (a(a.rows, 67), a(67), 1e-5),
        lambda a: (a(a.rows, 67), a(67), 1e-5, True),
        lambda a: (a(2, a.rows, 21), None, 1e-5),
        lambda a: (a(a.rows, 320), a(320), 1e-5, True),
    ],
    "rms_norm_grad": [rms_norm_grad(True), rms_norm_grad(False), rms_norm_grad(True, 320)],
    # Products, embeddings, attention
    "matmul": [
        lambda a: (a(a.rows, 67), a(67, 131)),
        lambda a: (a(19, 67), a(67, 5 * a.rows)),
        lambda a: (a(3, a.rows, 67), a(3, 67, 31)),
        lambda a: (a(2, 1, a.rows, 67), a(3, 67, 31)),
        lambda a: (a(3, a.rows, 67), a(67, 31)),
        lambda a: (a(3, a.rows, 1), a(2, 1, 1, 31)),
        lambda a: (a(67), a(67, a.rows)),
        lambda a: (a(a.rows, 67), a(67)),
    ],
    "linear": [
        lambda a: (a(a.rows, 67), a(131, 67), a(131)),
        lambda a: (a(2, a.rows, 67), a(131, 67)),
        lambda a: (a(67), a(31, 67), a(31)),
        lambda a: (a(a.rows, 64), packed(a, "q8_0", 31, 64), a(31)),
        lambda a: (a(2, 72), a(131, 72), a(131)),
        lambda a: (a(1, 1, 320), packed(a, "q4_0", 131, 320)),
    ],
    "projections": [
        lambda a: (a(1, 1, 320), [a(n, 320) for n in (64, 17, 21)], a(320), 1e-5, True),
        *(lambda a, rows=rows: (a(rows, 72), [a(67, 72), a(67, 72)], a(72), 1e-5, False, True)
          for rows in (1, 3)),
        lambda a: (a(4, 2096), [a(9, 2096)], None, 0.0, False, False, a(4, 9)),
        lambda a: (a(2, a.rows, 67), [a(31, 67), a(33, 67)], a(67), 1e-5, True),
        lambda a: (a(320), [packed(a, "q4_0", 131, 320)] * 2, a(320), 1e-5, True, True),
        lambda a: (a(1, 4480), [packed(a, "q4_0", 17, 4480)], None, 0.0, False, False, a(1, 17)),
        *(lambda a, kind=kind: (a(1, 768), [packed(a, kind, n, 768) for n in (37, 5)], a(768), 1e-5)
          for kind in OF_ONE_ROW),
        *(lambda a, kind=kind, norm=norm: (
            a(256), [packed(a, kind, 37, 256)] * 2, a(256) if norm else None, 1e-5, False, True)
          for kind in OF_ONE_ROW for norm in (True, False)),
        lambda a: (a(a.rows, 64), [packed(a, "q8_0", 31, 64)], None, 0.0, False, False,
                   a(a.rows, 31)),
    ],
    "linear_activation": [
        *(lambda a, name=name: (a(a.rows, 67), a(131, 67), a(131), name)
          for name in ("relu", "gelu_tanh")),
        lambda a: (a(2, a.rows, 67), a(31, 67), a(31), "gelu_tanh"),
        lambda a: (a(67), a(31, 67), a(31), "gelu_tanh"),
        lambda a: (a(a.rows, 64), packed(a, "q8_0", 31, 64), a(31), "gelu_tanh"),
    ],
    "linear_weight_grad": [lambda a: (a(2, a.rows, 131), a(2, a.rows, 67))],
    "grouped_linear": [
        lambda a: (a(a.rows, 67), [a(31, 67) for _ in range(4)], counts(a.rows)),
        lambda a: (a(a.rows, 64), [packed(a, "q8_0", 31, 64)] * 4, counts(a.rows)),
    ],
    "grouped_linear_weight_grad": [
        lambda a: (a(a.rows, 31), a(a.rows, 67), counts(a.rows)),
    ],
    "grouped_linear_input_grad": [
        lambda a: (a(a.rows, 31), [a(31, 67) for _ in range(4)], counts(a.rows)),
        lambda a: (a(a.rows, 31), [packed(a, "q8_0", 31, 64)] * 4, counts(a.rows)),
    ],
    "linear_input_grad": [
        lambda a: (a(2, a.rows, 131), a(131, 67)),
        lambda a: (a(2, a.rows, 31), packed(a, "q8_0", 31, 64)),
    ],
    "embedding": [
        lambda a: (a(a.rows, 67), a.integers(0, a.rows, 3, 4)),
        *[lambda a, n=n: (a(300, n), a.integers(0, 300, 2, 700)) for n in (64, 67)],
        lambda a: (packed(a, "q6_k", 7, 256), a.integers(0, 7, a.rows)),
    ],
    "embedding_grad": [
        lambda a: (a(3, a.rows, 67), a.integers(0, 11, 3, a.rows), 11),
        *[lambda a, n=n: (a(40, n), a.integers(0, 300, 40), 300) for n in (1, 16, 515)],
        lambda a: (a(0, 67), a.integers(0, 11, 0), 11),
        lambda a: (a(3, 0), a.integers(0, 5, 3), 5),
    ],
    "rows": [
        lambda a: (a(a.rows, 67), a.integers(-a.rows, a.rows, 3, 4)),
        *[lambda a, n=n: (a(300, n), a.integers(0, 300, 1400)) for n in (3, 64, 67)],
        lambda a: (a(300, 64), a.integers(-300, 300, 1400)),
        lambda a: (a(300, 64), a.integers(0, 2, 300) == 1),
        lambda a: (a(9, 64), a.integers(0, 9, 0)),
    ],
    "index_add": [
        lambda a: (a(11, 67), (a.integers(-11, 11, a.rows),), a(a.rows, 67)),
        *[lambda a, n=n: (a(300, n), (a.integers(0, 300, 40),), a(40, n)) for n in (1, 16, 515)],
        lambda a: (a(11, 6), (slice(None), a.integers(0, 6, a.rows)), a(11, a.rows)),
        lambda a: (a(11, 6), (a.integers(0, 11, a.rows),), a(6)),
        lambda a: (a(300, 8, 9), (a.integers(-300, 300, 70),), a(70, 8, 9)),
        lambda a: (a(30, 8, 20), (a.integers(0, 30, 900), a.integers(0, 8, 900)), a(900, 20)),
        lambda a: (a(30, 8, 20), (a.integers(0, 30, 70, 1), a.integers(0, 8, 4)), a(70, 4, 20)),
        lambda a: (a(30, 8), (a.integers(0, 30, 5000), a.integers(-8, 8, 5000)), a(5000)),
        lambda a: (a(90, 70), (a.integers(0, 2, 90) == 1,), a(70)),
        lambda a: (a(3, 11, 7), (slice(None), a.integers(0, 11, a.rows)), a(3, a.rows, 7)),
        lambda a: (a(3, 11), (slice(None), a.integers(0, 11, a.rows)), a(3, a.rows)),
        lambda a: (a(3, 11, 2), (..., a.integers(-11, 11, a.rows), slice(None)), a(3, a.rows, 2)),
        lambda a: (
            *(a(2, 5, 6, 3), (..., a.integers(0, 5, a.rows, 1), a.integers(0, 6, 4), slice(None))),
            a(2, a.rows, 4, 3),
        ),
    ],
    "full": [lambda a: ((3, 4), 2.5, a.dtype), lambda a: ((), 7, np.dtype(np.int64))],
    "arange": [lambda a: (0, 7, 2, a.dtype), lambda a: (5, 0, -1, np.dtype(np.int64))],
    "take_along": [
        lambda a: (a(a.rows, 67), for_columns(a.integers(0, a.rows, 11), 67), 0),
        lambda a: (
            a(3, 7, 2, 5), np.broadcast_to(a.integers(0, 7, 3, a.rows, 1, 1), (3, a.rows, 2, 5)), 1
        ),
        lambda a: (a(a.rows, 67), for_columns(a.integers(0, a.rows, 11), 60), 0),
        lambda a: (a(a.rows, 67), for_columns(a.integers(0, 67, a.rows), 5), 1),
        lambda a: (a(5, a.rows, 3), a.integers(0, a.rows, 5, 4001, 3), 1),  # rows of several parts
        lambda a: (a(3, a.rows, 130), a.integers(0, a.rows, 3, a.rows, 130), 1),
        lambda a: (a(a.rows, 67), a.integers(0, a.rows, 3, 67), 0),
        lambda a: (a(a.rows, 9, 4), a.integers(0, 9, a.rows, 20, 4), 1),
        lambda a: (a(a.rows, 9), a.integers(0, 9, a.rows, 9), -1),
        lambda a: (a(a.rows, 9), a.integers(0, 9, a.rows - 1, 3), 1),
        *(lambda a: (a(0, 9), a.integers(0, 9, 0, 3), 1), lambda a: (a(9), a.integers(0, 9, 0), 0)),
    ],
    "pick": [
        lambda a: (a(5, a.rows, 3), a.integers(0, 3, 5, a.rows), 2),
        lambda a: (a(a.rows, 67), a.integers(0, 67, a.rows, 1), 1),
        lambda a: (a(a.rows, 67), a.integers(0, a.rows, 67), 0),
        *(lambda a: (a(9), a.integers(0, 9), 0), lambda a: (a(0, 9), a.integers(0, 9, 0), 1)),
    ],
    "reduce_along": [
        *[
            lambda a, combine=combine, one=one: (
                a(5, 70), for_columns(a.integers(0, 5, 2 * a.rows), 70),
                a(2 * a.rows, 70, low=0.9), 0, combine, one,
            )
            for combine, one in (("multiply", 1.0), ("maximum", -np.inf), ("minimum", np.inf))
        ],
        lambda a: (
            a(2, 3, 4, 600), np.broadcast_to(a.integers(0, 3, 2, 9, 1, 1), (2, 9, 4, 600)),
            with_nan(a(2, 9, 4, 600)), 1, "maximum", -np.inf,
        ),
        lambda a: (
            a(5, 70), for_columns(a.integers(0, 5, 9), 60), a(9, 60), 0, "minimum", np.inf
        ),
        lambda a: (a(5, 70), a.integers(0, 5, 8, 70), a(8, 70, low=0.5), 0, "multiply", 1.0),
        lambda a: (a(a.rows, 9), a.integers(0, 9, a.rows, 5), a(a.rows, 5), 1, "maximum", -np.inf),
        lambda a: (a(4, 5, 99), a.integers(0, 5, 4, 40, 99), a(4, 40, 99), 1, "minimum", np.inf),
        lambda a: (a(2, 5, 9), a.integers(0, 5, 2, 20, 6), a(2, 20, 6), 1, "minimum", np.inf),
        lambda a: (a(11), a.integers(0, 11, 0), a(0), 0, "minimum", np.inf),
    ],
    "reduce_along_grad": [
        *[
            reduced_grad(combine, include_self, expanded)
            for combine in ("multiply", "maximum", "minimum")
            for include_self in (True, False)
            for expanded in (True, False)
        ],
        *(reduced_grad("multiply", True, True, 2), reduced_grad("maximum", False, True, 2)),
        lambda a: (a(4), a(4), a.integers(0, 4, 0), a(0), a(4), 0, "minimum", True),
        lambda a: (a(4), a(4), a.integers(0, 4, 0), a(0), a(4), 0, "multiply", True),
    ],
    "count_along": [
        lambda a: (a.integers(0, 5, 20, 7), (5, 7), 0, a.dtype),
        lambda a: (for_columns(a.integers(0, 9, 2, a.rows), 7), (2, 9, 7), 1, a.dtype),
        lambda a: (for_columns(a.integers(0, 9, 0), 7), (9, 7), 0, np.dtype(np.int64)),
        lambda a: (a.integers(0, 9, 20), (9,), 0, np.dtype(np.int64)),
    ],
    "put_along": [
        lambda a: (a(11, 67), for_columns(a.integers(0, 11, a.rows), 67), a(a.rows, 67), 0, True),
        lambda a: (
            a(2, 9, 3, 5), np.broadcast_to(a.integers(0, 9, 2, 40, 1, 1), (2, 40, 3, 5)),
            a(2, 40, 3, 5), 1, True,
        ),
        lambda a: (a(11, 67), for_columns(a.integers(0, 11, a.rows), 60), a(a.rows, 60), 0, True),
        lambda a: (a(2, 5, 150), a.integers(0, 5, 2, 20, 150), a(2, 20, 150), 1, True),
        lambda a: (a(a.rows, 9, 4), a.integers(0, 9, a.rows, 20, 4), a(a.rows, 20, 4), 1, True),
        lambda a: (a(a.rows, 9), a.integers(0, 9, a.rows, 9), a(a.rows, 9), -1, True),
        lambda a: (a(a.rows, 9), a.integers(0, 9, a.rows, 2), a(a.rows, 5), 1, True),
        lambda a: (a(11, 7), a.integers(0, 11, 5, 6), a(5, 7), 0, True),
        lambda a: (a(a.rows, 9), a.integers(0, 9, a.rows, 20), a(a.rows, 20), 1, False),
        lambda a: (a(3, a.rows, 9), a.integers(0, 9, 3, a.rows, 2), a(3, a.rows, 2), -1, False),
        lambda a: (a(5, 9, a.rows), a.integers(0, 9, 5, 3, a.rows), a(5, 3, a.rows), 1, False),
        lambda a: (a(11, 7), a.integers(0, 11, 20, 6), a(20, 6), 0, True),
        lambda a: (a(70, 99), a.integers(0, 70, 80, 99), a(80, 99), 0, False),
        lambda a: (a(3, 70, 9), a.integers(0, 70, 3, 60, 9), a(3, 60, 9), 1, False),
        lambda a: (a(4, 9, 3, 2), a.integers(0, 9, 3, 30, 3, 1), a(3, 30, 3, 1), 1, True),
    ],
    "rope": [
        *(rotation(False), rotation(True), rotation(False, 3), rotation(True, 2)),
        *(rotation_of_rows(1), rotation_of_rows(3)),
        lambda a: (a(2, 3, a.rows, 8), a(1, 1, 1, 4), a(1, 1, 1, 4)),
        *[
            lambda a, d=d, by=by: (a(2, 3, a.rows, d), *[a(1, 1, a.rows, 16) for _ in "cs"], by)
            for d in (32, 48)
            for by in (False, True)
        ],
    ],
    "rope_update": [
        rope_update(4, 2, 16, 8),
        rope_update(3, 3, 10, 5, tokens=3),
        rope_update(6, 2, 64, 16, tokens=2, by=True),
    ],
    "feed_back": [
        feed_back(0),
        feed_back(3, numbers=300),
        feed_back(2, counts=2),
        feed_back(3, numbers=1, counts=200),
    ],
    "attention": [attention(**options) for options in ATTENTION],
    "attention_grad": [attention_grad(**options) for options in ATTENTION],
    "rope_attention": [
        rope_attention(8, 2, 64),
        rope_attention(3, 3, 32, half=8, at=0, by=True),
        rope_attention(16, 1, 96, slots=9, at=8),
        rope_attention(4, 2, 128, slots=600, at=517, window=100),
        rope_attention(4, 2, 40, tokens=3),
    ],
    "cached_attention": [cached_attention(**options) for options in CACHED],
    "cached_attention_grad": [cached_attention_grad(**options) for options in CACHED],
    "stored_vectors": [
        lambda a, codec=codec: (stored(a, codec, a.rows, 3, 64), a.dtype)
        for codec in ("float", "int8", "int4")
    ],
    # Packed weights: every format, alone and multiplied with one row, a few and many
    "pack": [lambda a, d=d: (np.ascontiguousarray(a(3, 7, 256), np.float32), d) for d in PACKED],
    "unpack": [lambda a, name=d.name: (packed(a, name, 3, 7, 256), a.dtype) for d in PACKED],
    "quantized_matmul": [
        *[lambda a, name=d.name: (a(a.rows, 256), packed(a, name, 37, 256)) for d in PACKED],
        lambda a: (a(2, a.rows, 64), packed(a, "q4_0", 131, 64)),
        lambda a: (a(512), packed(a, "q4_k", 600, 512)),
    ],
    "int8_matmul": [
        *[lambda a, name=d.name: (a(a.rows, 256), packed(a, name, 37, 256)) for d in PACKED],
        lambda a: (a(2, a.rows, 64), packed(a, "q4_0", 131, 64)),
        lambda a: (a(96), packed(a, "q8_0", 600, 96)),
        lambda a: (a(a.rows, 70), packed(a, "int8_channel", 40, 70)),
    ],
    "quantized_matmul_grad": [
        *[lambda a, name=d.name: (a(a.rows, 37), packed(a, name, 37, 256)) for d in PACKED],
        *[lambda a, name=d.name: (a(65, 37), packed(a, name, 37, 256)) for d in PACKED],
        lambda a: (a(2, a.rows, 600), packed(a, "q4_k", 600, 512)),
        lambda a: (a(5, 100, 300), packed(a, "q5_0", 300, 96)),
    ],
    "scaled_matmul": [
        *(scaled_product(64, 48, bias=bias) for bias in (True, False)),
        scaled_product(32, 16, ("e5m2", "e4m3fn")),
        scaled_product(32, 16, ("e5m2", "e5m2")),
        scaled_product(64, 48, by_rows=True),
        scaled_product(64, 48, transposed=False, bias=False),
        *(scaled_product(5, 16), scaled_product(16, 5), scaled_product(0, 16)),
    ],
    "quantized_embedding": [
        lambda a, name=d.name: (packed(a, name, 11, 256), a.integers(0, 11, 3, a.rows))
        for d in PACKED
    ],
    # Creation, reductions, shape
    "empty": [],  # its values are not defined
    "zeros": [lambda a: ((3, 4), a.dtype), lambda a: ((), a.dtype)],
    "cleared": [
        lambda a, s=s: (s, a.dtype) for s in ((3, 4), (), (0, 5), (513, 300), (263001,))
    ],
    "ones": [lambda a: ((3, 4), a.dtype), lambda a: ((), a.dtype)],
    "zeros_like": each(),
    "ones_like": each(),
    "accumulate": [lambda a: (a(a.rows, 7), a(7))],
    "sum": [
        *(lambda a: (a(a.rows, 67),), *along(), *along(True)),
        *[lambda a, axis=axis: (a(3, 60, 70, 2), axis) for axis in ((1, 2), (2, 3), (0, 2), (), 1)],
        *[lambda a, axis=axis: (a(2, 5000, 3), axis) for axis in (1, None, (-2, -1), (0, 1))],
        *[lambda a, n=n: (a(a.rows, n), 1) for n in (2, 5, 16, 31, 32)],  # short rows
        *[lambda a, n=n: (a(601, n), 0) for n in (2, 3, 16, 36)],  # few columns
        *[lambda a, n=n: (a(601, 3, n), 1) for n in (2, 3, 16)],  # and few rows of them
        *(lambda a: (a(601, 3, 4, 5), (1, 3)), lambda a: (a(2, 601, 3, 4), (0, 2))),
        *(lambda a: (a(4, 3, 5), (0, 2)), lambda a: (a(3, 2000), 1)),
        *(lambda a: (a(53, 20, 4, 4), (2, 3)), lambda a: (1 / np.floor(abs(a(a.rows, 19))), 1)),
        *(lambda a: (a(0, 3), 0), lambda a: (a(3, 0, 2), 1, True), lambda a: (a(),)),
        lambda a: (np.log(a(a.rows, 67)), 0),  # NaN
        lambda a: (1 / np.floor(abs(a(a.rows, 67))), 1),  # infinities
        *(lambda a: (a.integers(-9, 9, a.rows, 7), 1), lambda a: (a.bools(3, 2), 0)),
    ],
    "prod": PRODUCTS,
    "prod_of_others": PRODUCTS,
    "sum_of_squares": [
        *(lambda a: (a(a.rows, 67),), lambda a: (a(3, 5000),), lambda a: (a(0, 3),)),
        *(lambda a: (a(),), lambda a: (np.log(a(a.rows, 67)),)),
        *(lambda a: (a(a.rows, 67), -1), lambda a: (a(a.rows, 67), 0, True)),
        *(lambda a: (a(3, 9000), 1, True), lambda a: (a(a.rows, 8, 9), (1, 2))),
    ],
    "squared_error": PAIRS,
    "scaled_gap": [lambda a, pair=pair: (a(), *pair(a)) for pair in PAIRS],
    "huber_error": [lambda a, pair=pair, o=o: (*pair(a), *o) for pair in PAIRS for o in HUBER],
    "huber_error_grad": [
        lambda a, pair=pair, o=o: (a(), *pair(a), *o) for pair in PAIRS for o in HUBER
    ],
    "logistic_error": PAIRS,
    "logistic_error_grad": [lambda a, pair=pair: (a(), *pair(a)) for pair in PAIRS],
    "cumsum": [
        *along(),
        *[lambda a, axis=axis: (np.flip(a(3, 60, 70), axis), axis) for axis in range(3)],
        *(lambda a: (a(2, 3, 600), 1), lambda a: (a(5, 5000), 1), lambda a: (a(7), 0)),
        *(lambda a: (a(0, 3), 0), lambda a: (a(3, 0, 2), 2)),
        *(lambda a: (np.log(a(a.rows, 67)), 0), lambda a: (np.log(abs(np.rint(a(3, 4500)))), 1)),
        *(lambda a: (a.integers(-9, 9, a.rows, 7), 1), lambda a: (a.bools(3, 2), 0)),
    ],
    "max": [
        lambda a: (a(601, 3, 4), 1),
        *LARGE_EXTREMES,
        *(lambda a: (a(a.rows, 67),), *along(), lambda a: (a(2, 1500), 1)),
        lambda a: (a(0, 3, 2), (1, -1), True),
    ],
    "min": [
        lambda a: (a(601, 3, 4), 1),
        *LARGE_EXTREMES,
        *(lambda a: (a(a.rows, 67),), *along(), lambda a: (a(2, 1500), 1)),
        lambda a: (a(0, 3, 2), -2),
    ],
    "mean": [lambda a: (a(a.rows, 67),), *along(True)],
    "var": [lambda a: (a(a.rows, 67),), lambda a: (a(a.rows, 7), -1, 0, True)],
    "std": [lambda a: (a(a.rows, 67),), lambda a: (a(a.rows, 7), -1, 0, True)],
    "all": [
        *(lambda a, axis=axis: (a.bools(3, 2, 40), axis) for axis in (None, 0, 1, 2, (0, -1))),
        *(lambda a: (a.bools(0, 3), 0, True), lambda a: (a(0, 3), 0), lambda a: (a(a.rows, 67),)),
        *(lambda a: (np.asarray(a.bools()),), lambda a: (a.bools(40, 3).T, 1)),
    ],
    "any": [
        *(lambda a, axis=axis: (a.bools(3, 2, 40), axis) for axis in (None, 0, 1, 2, (0, -1))),
        *(lambda a: (a.bools(0, 3), 0, True), lambda a: (a(0, 3), 0), lambda a: (a(a.rows, 67),)),
        *(lambda a: (np.asarray(a.bools()),), lambda a: (a.bools(40, 3).T, 1)),
    ],
    "median": [lambda a: (a(a.rows + 1, 7),), lambda a: (np.log(a(a.rows + 1, 7)),)],
    "argmax": LARGEST,
    "argmin": [
        *LARGEST,
        lambda a: (a(a.rows, 67), 1),
        lambda a: (a.bools(3, 2), 0), lambda a: (a(7),)],
    "likeliest": [
        lambda a: (every_kind_of_number(a, 9),),
        lambda a: (a(a.rows, 67),),
        lambda a: (a(2, 40000),),
        lambda a: (with_ties(a(2, 40001)),),
        lambda a: (np.array([[-np.inf, -np.inf], [-np.inf, 0], [0, np.nan], [np.nan, np.inf],
                             [np.inf, 1], [-0.0, 0]], a.dtype),),
    ],
    "argsort": [
        *[lambda a, n=n: (every_kind_of_number(a, n), 1) for n in (8, 40, 41, 300, 5000)],
        lambda a: (every_kind_of_number(a, 1500), 0),
        *(lambda a: (a(a.rows, 67), -1), lambda a: (with_ties(a(2, a.rows, 33)), 1)),
        *(lambda a: (with_ties(a(2, 5000)), 1), lambda a: (a(3, 4099), -1)),
        *(lambda a: (with_ties(a(4096)), 0), lambda a: (a(2, 4097), 1), lambda a: (a(1), 0)),
        *(lambda a: (np.copysign(a.dtype.type(0), a(77)), 0), lambda a: (a(0, 3), 0)),
        *[
            lambda a, kind=kind: (a.integers(0, 200, 70, a.rows).astype(kind) - 100, 0)
            for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
        ],
        *[
            lambda a, kind=kind: (a.integers(0, 200, 4100, min(a.rows, 5)).astype(kind) - 100, 0)
            for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
        ],
        *[lambda a, bits=bits: (a.integers(0, 2**bits, 70_000), 0) for bits in (3, 40, 63)],
        lambda a: (a.integers(0, 2**63, 70_000) % 9000 << 50, 0),  # many ties of the first bits
        lambda a: (np.repeat(a.integers(0, 2**63, 35_000), 2), 0),
        lambda a: (a.integers(0, 2**63, 70_000).astype(np.uint64) * np.uint64(2), 0),
        lambda a: (a.integers(-(2**62), 2**62, 4, 3000), 1),
        lambda a: (a.bools(2, 70), 1),
    ],
    "topk": [
        *[lambda a, k=k, best=best: (a(2, 5000), k, 1, best)
          for k in (1, 33, 1024, 1500) for best in (True, False)],
        lambda a: (with_ties(a(2, 5000)), 700, 1, True),
        lambda a: (with_ties(a(5000, 2)), 1000, 0, False),
        lambda a: (a.integers(-3, 3, 5000), 99, 0, True),
        *[lambda a, best=best: (a(a.rows, 2000), 50, -1, best) for best in (True, False)],
        *[lambda a, best=best: (a.integers(0, 50, 1500, 3), 99, 0, best) for best in (True, False)],
        lambda a: (np.where(a(2, 1200) > 3, a.dtype.type(np.nan), a(2, 1200)), 7, 1, True),
        lambda a: (np.where(a(2, 1200) > 1, a.dtype.type(np.nan), a(2, 1200)), 7, 1, True),
        lambda a: (np.floor(a(2, 3000)), 64, 1, True),  # most elements are equal to others
        *[lambda a, by=by: (np.sort(a(2, 3000), -1)[:, ::by], 40, -1, True) for by in (1, -1)],
        lambda a: (np.log(np.floor(a(2, 1500))), 9, 1, True),  # NaN and both infinities
        lambda a: (a(a.rows, 8), 2, 1, True),
        *[lambda a, n=n: (every_kind_of_number(a, 64 * n).reshape(-1, n), 2, 1, True)
          for n in (2, 3, 8, 64)],
        lambda a: (np.log(np.floor(a(100 * a.rows, 9))), 9, 1, True),
        lambda a: (np.floor(a(10 * a.rows, 99)), 40, 1, True),
        *[lambda a, k=k: (every_kind_of_number(a, 1500), k, 1, True) for k in (1, 10, 64)],
        lambda a: (a(4, 3), 0, 0, True),
    ],
    "cumprod": [
        *(lambda a: (a(3, 4, 5), 1), lambda a: (a(3, 0), -1), lambda a: (a(3, 7, 300), 1)),
        *[lambda a, n=n: (a(n, 900), 1) for n in (5, 8)],
        lambda a: (with_ties(a(70, 90)), 0),
    ],
    "recurrent_sum": [
        *(lambda a: (a(3, 4, 5), a(3, 3, 5), 1), lambda a: (a(3, 0), a(3, 0), 1)),
        *[lambda a, n=n: (a(n, 90), a(n, 89), 1) for n in (5, 8, 70)],
        *(lambda a: (a(3, 1), a(3, 0), 1), lambda a: (a(7, 600), a(6, 600), 0)),
        *(lambda a: (a(a.rows, 9), np.abs(a(a.rows, 8)), 1), lambda a: (a(5000), a(4999), 0)),
        lambda a: (a(2, 70, 90), np.rint(a(2, 69, 90)), 1),
    ],
    "logcumsumexp": [
        *[lambda a, i=i: (3 * a(3, 7, 300), i) for i in range(3)],
        *(lambda a: (a(3, 0), 1), lambda a: (a(3, 1), 1), lambda a: (a(5000), 0)),
        *[lambda a, n=n: (9 * a(n, 35), 1) for n in (1, 16, 70)],
        *[lambda a, i=i: (infinite(a(40, 50)), i) for i in range(2)],
        *(lambda a: (with_nan(a(5, 70)), 1), lambda a: (100 * a(a.rows, 67), 1)),
    ],
    "running_extreme": [
        *[lambda a, i=i, best=best: (with_ties(a(3, 7, 300)), i, best)
          for i in range(3) for best in (True, False)],
        *[lambda a, best=best: (every_kind_of_number(a, 1500), 1, best) for best in (True, False)],
        lambda a: (a.integers(-9, 9, 70, 90), 0, True),
        *(lambda a: (a(a.rows, 67), -1, True), lambda a: (a(0, 3), 0, True)),
    ],
    "searchsorted": [
        *[lambda a, n=n, right=right: (np.sort(a(n)), a(50, 90), right)
          for n in (1, 2, 7, 64, 300) for right in (True, False)],
        lambda a: (np.sort(np.rint(a(3, 40))), np.rint(a(3, 1500)), True),
        lambda a: (np.sort(with_ties(a(40))), with_ties(a(5000)), False),
        lambda a: (np.sort(a.integers(-9, 9, 40)), a.integers(-9, 9, 5000), False),
        *(lambda a: (np.sort(a(a.rows)), a(), True), lambda a: (a(0), a(3), False)),
    ],
    "bincount": [
        lambda a: (a.integers(0, 9, 12), a.integers(0, 12, 70), None),
        lambda a: (a.integers(0, 1, 9), a.integers(0, 9, 300_000).astype(np.int32), None),
        lambda a: (a.wide(9), a.integers(0, 9, 70), a.wide(70)),
        lambda a: (a.integers(0, 1, 0), a.integers(0, 9, 0), None),
        lambda a: (a.integers(0, 1, 3), a.integers(0, 9, 0), None),
    ],
    "compress": [
        *(lambda a: (a(a.rows, 67), a.bools(a.rows, 67)), lambda a: (a(70, 90), a.bools(70, 90))),
        lambda a: (a(0, 3), a.bools(0, 3)),
    ],
    "select": [
        *[lambda a, i=i: (a(7, 8, 9), a.integers(0, 7, 20), i) for i in range(3)],
        lambda a: (a(3, 4), a.integers(0, 3, 0), 1),
    ],
    "writable": [lambda a: (a(3),), lambda a: (a(),)],
    "squeeze": [lambda a: (a(1, 1), None), lambda a: (a(1, 3, 1), (-1,))],
    "unsqueeze": [lambda a: (a(3, 4), -1), lambda a: (a(3, 4), 0)],
    "matrix_transpose": [lambda a: (a(2, 3, 4),)],
    "expand": [lambda a: (a(1, 7), (a.rows, 7)), lambda a: (a(7), (800, 7))],
    "stack": [lambda a: ([a(3, 4), a(3, 4)], -1)],
    "joined": [
        lambda a: ([a(3, 4), a(3, 2)], -1),
        lambda a: (np.split(a(3, 4), [1, 2], 1), 1),
        lambda a: (np.split(a(3, 4), [1], 0), 0),
    ],
    "flip": [lambda a: (a(3, 4), (0,)), lambda a: (a(3, 4), (-1, 0))],
    "broadcast_to": [
        lambda a: (a(3, 1), (2, 3, 4)),
        lambda a: (a(), (2, 3)),
        lambda a: (a(3, 4), (1, 3, 4)),
        lambda a: (a(4), (0, 4)),
        lambda a: (a(1, 3, 1, 4), (2, 3, 5, 4)),
    ],
    "diagonal": [lambda a, k=k: (a(2, 3, 4), k) for k in (0, 2, -1, 5)],
    "triangle": [
        *(lambda a, low=low: (a(2, 4, 5), 1, low) for low in (True, False)),
        *(lambda a, d=d: (a(a.rows, 3, 7), d, d > 0) for d in (-9, -1, 0, 4, 9)),
        *(lambda a: (a(0, 3, 2), 0, True), lambda a: (a(3, 0), 0, False)),
    ],
    "pad": [
        lambda a: (a(3, 4), ((1, 2), (0, 1)), 7.0),
        lambda a: (a(a.rows, 3, 5, 37), ((0, 0), (0, 0), (1, 2), (3, 0)), -1.5),
        lambda a: (a(a.rows, 3, 16), ((0, 0), (0, 3), (20, 17)), float("inf")),
        *[lambda a, n=n: (a(a.rows, 1, n), ((0, 0), (1, 0), (0, 5))) for n in (1, 15, 16, 17, 33)],
        lambda a: (a(a.rows, 3, 4), ((1, 1), (0, 0), (0, 2)), 2.0),
        *(lambda a: (a(7), ((2, 1),), float("nan")), lambda a: (a(0, 3), ((0, 0), (1, 1)))),
        *(lambda a: (a(), ()), lambda a: (a.integers(-9, 9, 3, 4), ((0, 1), (2, 0)), 3)),
        lambda a: (a(a.rows, 4), ((0, 0), (0, 0))),
    ],
    "pad_around": [lambda a, mode=mode, o=o: (*pads(a, *o), mode) for mode in AROUND for o in PADS],
    "pad_around_grad": [
        lambda a, mode=mode, o=o: padded(a, *o, mode) for mode in AROUND for o in PADS
    ],
    "roll": [lambda a, o=o: (a(a.rows, 5, 40), *o) for o in ((1, 0), (2, 1), (1, 2), (39, 2))],
    "place": [
        lambda a: (a(2, 3), (4, 3), (slice(1, 3),)),
        lambda a: (a(5, 3), (4, 3), (a.integers(0, 4, 5),)),
    ],
    **dict.fromkeys(
        ("check_indices", "checked_indices"),
        [lambda a: (a.integers(0, 4, 6), 0, 4), lambda a: (a.integers(0, 4, 0), 0, 0)],
    ),
    "check_range": [lambda a: (abs(a(3, 4)), 0, 9, "op", "x"), lambda a: (a(0), 0, 1, "op", "x")],
    "check_true": [lambda a: (abs(a(3, 4)) >= 0, "message"), lambda a: (a(0) > 0, "message")],
    "as_strided": [
        lambda a: (a(a.rows, 7), (3, 4), (2, 1), 5),
        lambda a: (a(a.rows, 7), (3, 4), (0, 8), 1),
        lambda a: (a(a.rows, 7), (), (), 2),
        lambda a: (a(a.rows, 7), (2, 0), (1, 1), 0),
    ],
    "sliding_window": [
        lambda a: (a(2, 7, 3), 1, 3, 2),
        lambda a: (a(7), 0, 2, 3),
        lambda a: (a(2, 4), 1, 4, 1),
        lambda a: (a(2, 4), 0, 0, 1),
    ],
    "unfold": [
        lambda a: (a(a.rows, 3, 7, 6), *WINDOWS),
        lambda a: (a(2, a.rows, 9), (3,), (2,), (2,)),
        lambda a: (a(2, a.rows, 4, 5, 6), (2, 3, 1), (1, 2, 2), (2, 1, 1)),
    ],
    "fold": [
        lambda a: (a(a.rows, 3, 6, 3, 4), (a.rows, 3, 7, 6), *WINDOWS),
        lambda a: (a(2, a.rows, 3, 3), (2, a.rows, 9), (3,), (2,), (2,)),
        lambda a: (
            *(a(2, a.rows, 6, 2, 2, 3), (2, a.rows, 4, 5, 6)),
            *((2, 3, 1), (1, 2, 2), (2, 1, 1)),
        ),
    ],
    # Random numbers
    "philox": [
        lambda a: (0, 0, a.rows),
        lambda a: (0x0123456789ABCDEF, ON, 3 * a.rows),
        lambda a: (2**64 - 1, 7, a.rows),
    ],
    "uniform": [
        lambda a: (5, ON, 67 * a.rows, a.dtype),
        lambda a: (5, 1, 3, FLOAT64),
        lambda a: (7**20, 2**32 - 20, 4 * a.rows + 3, a.dtype),
    ],
    "normal": [lambda a: (5, ON, 67 * a.rows, a.dtype), lambda a: (5, 1, 3, FLOAT64)],
    "dropout": [
        lambda a: (5, ON, a(a.rows, 67), 0.1),
        lambda a: (7**20, 2**32 - 20, a(3, 5, a.rows), 0.75),
        lambda a: (2**64 - 1, 3, with_ties(a(a.rows, 9)), 0.5),
        lambda a: (5, 1, a(), 0.5),
    ],
    "integers": [
        *(lambda a: (5, ON, 67 * a.rows, 1000), lambda a: (5, 1, 3, 2**63)),
        *[lambda a, span=span: (5, ON, 70_001, span)
          for span in (1, 2, 3, 2**32 - 1, 2**32 + 1, 2**63 - 1, 2**63)],
    ],
    "categorical": [
        lambda a: (a(a.rows, 67, low=0.0), a(a.rows, low=0.0)),
        lambda a: (np.maximum(a(3, 9000), a.dtype.type(0)), a(3, low=0.0)),
        lambda a: (np.eye(33, dtype=a.dtype)[::2], a(17, low=0.0)),
        lambda a: (one_weight_each(a.dtype), a(9, low=0.0)),
        lambda a: (np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, np.nan, 1], [1, np.inf, 1]],
                            a.dtype), np.array([0, 0, 0.5, 0.5, 0.25], a.dtype)),
    ],
    # Optimiser steps
    "adamw_step": [
        adamw(), adamw(decoupled=False), adamw(maximize=True), adamw(weight_decay=0.0),
        adamw(found_inf=0.0), adamw(found_inf=1.0), adamw(decoupled=False, found_inf=0.0),
        adamw(masters=True), *(adamw(masters=True, decoupled=False, found_inf=x) for x in (0, 1)),
    ],
    "sgd_step": [
        sgd(False),
        sgd(True, momentum=0.9, weight_decay=0.1),
        sgd(True, momentum=0.9, dampening=0.5, first=True),
        sgd(True, momentum=0.9, nesterov=True, maximize=True),
        sgd(False, weight_decay=0.1, maximize=True),
        *(sgd(True, found, momentum=0.9) for found in (0, 1)),
        *[
            sgd(moving, found, masters=True, momentum=0.9, weight_decay=0.1)
            for moving in (True, False) for found in (None, 0, 1)
        ],
    ],
    "rmsprop_step": [
        rmsprop(False, False),
        rmsprop(True, False, momentum=0.9, weight_decay=0.1),
        rmsprop(False, True, maximize=True),
        rmsprop(True, True, momentum=0.9),
        *(rmsprop(True, True, found, momentum=0.9) for found in (0, 1)),
        *(rmsprop(False, True, found, masters=True) for found in (None, 0, 1)),
        *(rmsprop(True, False, found, True, momentum=0.9) for found in (None, 0)),
        rmsprop(True, True, 0, masters=True, momentum=0.9, weight_decay=0.1),
    ],
    "total_norm": [lambda a: ([a(a.rows, 7), a(3), a(), a(0, 2)],), lambda a: ([a(0)],)],
    "foreach_mul": [
        lambda a: ([a(a.rows, 7), a(3), a(), a(0, 2)], a()),
        lambda a: ([a(a.rows, 7).T], a()),
        lambda a: (
            [a(a.rows, 7), np.asarray([np.inf, np.nan, -0.0, 6e-8], a.dtype)],
            np.ones((), a.dtype),
        ),
    ],
    "foreach_unscale": [
        lambda a: ([a(a.rows, 7), a(3), a(), a(0, 2)], THIRD, flag(0)),
        lambda a: ([a(a.rows, 7).T], THIRD, flag(1)),
        lambda a: ([a(a.rows, 7), np.asarray(np.inf, a.dtype)], THIRD, flag(0)),
        lambda a: ([a(a.rows, 7), np.asarray([1.0, np.nan], a.dtype)], THIRD, flag(0)),
    ],
    "update_scale": [
        loss_scale(64.0, 0, False), loss_scale(64.0, 2, True), loss_scale(64.0, 2, False),
        loss_scale(2e38, 2, False), loss_scale(0.7, 2, False), loss_scale(0.7, 0, True),
    ],
    "lion_step": [
        lion(), lion(kept=0.9), lion(maximize=True), *(lion(found) for found in (0, 1)),
        *(lion(found, masters=True, kept=0.9) for found in (None, 0, 1)),
    ],
}  # fmt: skip


def call(backend: Any, method: str, arguments: tuple[Any, ...]) -> list[np.ndarray]:
    """The arrays of a call's result, and then its arguments' as they are after it."""
    *values, keywords = arguments if isinstance(arguments[-1], dict) else (*arguments, {})
    given = [carry(backend, value) for value in values]
    keywords = {name: carry(backend, value) for name, value in keywords.items()}
    result = getattr(backend, method)(*given, **keywords)
    return [backend_array(backend, x) for x in leaves((result, given))]


@contextmanager
def case_of(method: str, case: object) -> Iterator[None]:
    """An error within says of which case it is: all of a method are one test."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{method}, case {case}")
        raise


def carry(backend: Any, value: Any) -> Any:
    """Arrays, in lists and tuples too, as the backend has them."""
    if isinstance(value, PackedArray):
        return value.map(lambda part: carry(backend, part))
    if isinstance(value, np.ndarray):
        return value if backend.device in ("cpu", "bare") else backend.asarray(value)
    if type(value) in (list, tuple):
        return type(value)(carry(backend, v) for v in value)
    if isinstance(value, SlotMap):
        return SlotMap(*(carry(backend, v) for v in value))._replace(masks={})
    return value


def leaves(value: Any) -> list[Any]:
    if type(value) in (list, tuple):
        return [leaf for v in value for leaf in leaves(v)]
    if isinstance(value, PackedArray):
        return list(value.parts)
    if isinstance(value, SlotMap):
        return leaves((value.positions, value.table, value.start))
    if value is None or hasattr(value, "_fields"):  # options: a named tuple
        return []
    return [] if isinstance(value, (slice, type(...), np.dtype, DType, str)) else [value]


def backend_array(backend: Any, x: Any) -> np.ndarray:
    if isinstance(x, (bool, int, float)):
        return np.asarray(x)
    return np.asarray(backend.to_numpy(x))
