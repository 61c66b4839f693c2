"""Rows of the op table for convolution, pooling, batch norm and recurrent layers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from gradient.backends.options import (
    ConvolutionOptions,
    PoolingOptions,
    WindowRanges,
    adaptive_windows,
)
from gradient.dtypes import float32
from gradient.ops import activation, convolution, fused, loss, pooling, recurrent, shape
from gradient.random import rand
from gradient.tensor.generator import Generator
from gradient.testing.row import Row
from gradient.testing.samples import constant


def uniform_numbers(n: int) -> Any:
    """The numbers of key 3 from block 2**40 on (`Backend.uniform`)."""
    generator = Generator().manual_seed(3)
    generator.offset = 2**40
    return rand(n, generator=generator, dtype=float32).numpy()


def batch_norm(x: Any, weight: Any = None, bias: Any = None) -> Any:
    mean, variance = channel_moments(x)[:, :, None]
    normal = (x - mean) / np.sqrt(variance + 1e-5)
    return normal if weight is None else normal * weight[:, None] + bias[:, None]


def channel_moments(x: Any) -> Any:
    return np.stack([x.mean((0, 2)), x.var((0, 2))])


def group_norm(x: Any, weight: Any = None, bias: Any = None) -> Any:
    """Group norm with two groups."""
    rows = x.reshape(len(x), 2, -1)
    rows = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 1e-5)
    normal = rows.reshape(x.shape)
    return normal if weight is None else normal * weight[:, None] + bias[:, None]


def lstm(x: Any, h: Any, c: Any, weight: Any) -> Any:
    hs, cs = [h], [c]
    for part in x:
        i, f, g, o = np.split(part + hs[-1] @ weight.T, 4, -1)
        cs.append(cs[-1] / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i)))
        hs.append(np.tanh(cs[-1]) / (1 + np.exp(-o)))
    return np.stack([np.stack(hs), np.stack(cs)])


def gru(x: Any, h: Any, weight: Any, bias: Any) -> Any:
    hs = [h]
    for part in x:
        xr, xz, xn = np.split(part, 3, -1)
        hr, hz, hn = np.split(hs[-1] @ weight.T + bias, 3, -1)
        z, n = 1 / (1 + np.exp(-xz - hz)), np.tanh(xn + hn / (1 + np.exp(-xr - hr)))
        hs.append((1 - z) * n + z * hs[-1])
    return np.stack(hs)


def lstm_cell(x: Any, h: Any, c: Any, weight_ih: Any, weight_hh: Any, *biases: Any) -> Any:
    return lstm((x @ weight_ih.T + sum(biases))[None], h, c, weight_hh)[:, 1]


def gru_cell(
    x: Any, h: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = 0.0, bias_hh: Any = 0.0
) -> Any:
    return gru((x @ weight_ih.T + bias_ih)[None], h, weight_hh, bias_hh)[1]


def rnn(x: Any, h: Any, weight: Any, relu: bool) -> Any:
    hs = [h]
    for part in x:
        total = part + hs[-1] @ weight.T
        hs.append(np.maximum(total, 0) if relu else np.tanh(total))
    return np.stack(hs)


SLIDE = ConvolutionOptions(stride=(2, 1), padding=((1, 0), (1, 1)), dilation=(1, 2), groups=2)
"""Over (N, 4, 5, 6) by a weight (6, 2, 3, 2): windows of (2, 6)."""


def convolve(x: Any, weight: Any, bias: Any = None) -> Any:
    """Convolution by groups and taps, of an input (N, 4, 5, 6)."""
    x = np.pad(x, ((0, 0), (0, 0), *SLIDE.padding))
    out = np.zeros((len(x), 6, 2, 6))
    for i, j in np.ndindex(3, 2):
        under = x[:, :, i : i + 3 : 2, 2 * j : 2 * j + 6]
        for group in range(2):
            o, c = slice(3 * group, 3 * group + 3), slice(2 * group, 2 * group + 2)
            out[:, o] += np.einsum("nchw,oc->nohw", under[:, c], weight[o, :, i, j])
    return out if bias is None else out + bias[:, None, None]


def transposed_convolve(x: Any, weight: Any) -> Any:
    """Transposed convolution: the adjoint of a convolution, <y, conv(x)> = <conv_t(y), x>."""
    out = np.zeros((len(x), 4, 6, 8))
    for i, j in np.ndindex(3, 2):
        for group in range(2):
            o, c = slice(3 * group, 3 * group + 3), slice(2 * group, 2 * group + 2)
            out[:, c, i : i + 3 : 2, 2 * j : 2 * j + 6] += np.einsum(
                "nohw,oc->nchw", x[:, o], weight[o, :, i, j]
            )
    return out[:, :, 1:, 1:-1]


def weight_gradient(grad: Any, x: Any) -> Any:
    """The gradient of `convolve` for its weight."""
    x = np.pad(x, ((0, 0), (0, 0), *SLIDE.padding))
    out = np.zeros((6, 2, 3, 2))
    for i, j in np.ndindex(3, 2):
        under = x[:, :, i : i + 3 : 2, 2 * j : 2 * j + 6]
        for group in range(2):
            o, c = slice(3 * group, 3 * group + 3), slice(2 * group, 2 * group + 2)
            out[o, :, i, j] = np.einsum("nohw,nchw->oc", grad[:, o], under[:, c])
    return out


def bilinear_sample(x: Any, places: Any) -> Any:
    """Each pixel of x (N, C, H, W), by how near it is to a place: as tents of width 2."""
    column, row = places[..., 0], places[..., 1]
    near = [
        np.maximum(1 - np.abs(at[..., None] - np.arange(n)), 0)
        for at, n in ((row, x.shape[2]), (column, x.shape[3]))
    ]
    return np.einsum("nchw,nph,npw->ncp", x, *near)


CTC_LABELS = np.array([[0, 1, 0, 2, 0], [0, 2, 0, 2, 0], [0, 1, 0, 0, 0]])
CTC_STEPS, CTC_SIZES = np.array([4, 3, 4]), np.array([2, 2, 1])


def ctc(log_probs: Any) -> Any:
    """-log of the sum over all sequences of classes that are the labels after joining equal
    neighbours and leaving out blanks."""
    losses = []
    for n, (labels, steps, size) in enumerate(zip(CTC_LABELS, CTC_STEPS, CTC_SIZES, strict=True)):
        text, total = labels[1 : 2 * size : 2].tolist(), 0.0
        for way in itertools.product(range(3), repeat=int(steps)):
            joined = [c for i, c in enumerate(way) if c and (i == 0 or way[i - 1] != c)]
            if joined == text:
                total += np.exp(sum(log_probs[t, n, c] for t, c in enumerate(way)))
        losses.append(-np.log(total))
    return np.array(losses)


WINDOWS = PoolingOptions(
    kernel=(2, 2), stride=(2, 1), padding=((1, 0), (0, 1)), dilation=(1, 2), least=-math.inf
)


def windows(x: Any) -> Any:
    """The numbers of x (2, 5, 4) in each window and their places, -1 in the padding."""
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


def parts(x: Any, windows: WindowRanges, fill: float) -> Any:
    """The numbers of x (2, 5, 4) in each window, and `fill` outside of it."""
    inside = [
        (np.arange(size) >= np.array(starts)[:, None])
        & (np.arange(size) < np.array(stops)[:, None])
        for starts, stops, size in zip(windows.starts, windows.stops, (5, 4), strict=True)
    ]
    both = inside[0][:, None, :, None] & inside[1][None, :, None, :]
    return np.where(both, x[:, None, None], fill).reshape(len(x), *both.shape[:2], 20)


def means(x: Any, windows: WindowRanges) -> Any:
    return parts(x, windows, 0.0).sum(-1) / np.multiply.outer(*map(np.array, windows.counts))


def adaptive_max_pool_indices(x: Any) -> Any:
    return parts(x, adaptive_windows((5, 4), (3, 3)), -math.inf).argmax(-1)


LOW, HIGH = np.array([0, 0, 1, 2, 2, 4]), np.array([1, 1, 2, 3, 3, 4])
"""Of 5 numbers, the neighbours that each of 6 lies between."""

ROWS = [
    Row(
        "batch_norm",
        fused.batch_norm,
        batch_norm,
        ((4, 3, 5), (3,), (3,)),
        tolerance=64,
    ),  # fmt: skip
    Row(
        "dropout",
        lambda x: activation.dropout(x, key=3, offset=2**40, p=0.25),
        lambda x: x * (uniform_numbers(x.size) >= 0.25).reshape(x.shape) / 0.75,
        ((3, 7),),
        empty=((0, 3),),
        scalar=True,
    ),
    Row("batch_norm", fused.batch_norm, batch_norm, ((4, 3, 5),), note="plain", tolerance=64),
    *[
        Row(
            "group_norm",
            lambda *x: fused.group_norm(*x, groups=2),
            group_norm,
            ((3, 4, 5), *parameters),
            note=note,
            tolerance=64,
        )
        for note, parameters in (("affine", ((4,), (4,))), ("plain", ()))
    ],
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
    *[
        Row(
            "lstm_cell",
            lambda *inputs: shape.stack(*recurrent.lstm_cell(*inputs), axis=0),
            lstm_cell,
            ((2, 3), (2, 2), (2, 2), (8, 3), (8, 2), *biases),
            note=note,
            empty=((0, 3), (0, 2), (0, 2), (8, 3), (8, 2), *biases),
        )
        for note, biases in (("", ((8,), (8,))), ("no biases", ()))
    ],
    *[
        Row(
            "gru_cell",
            recurrent.gru_cell,
            gru_cell,
            ((2, 3), (2, 2), (6, 3), (6, 2), *biases),
            note=note,
            empty=((0, 3), (0, 2), (6, 3), (6, 2), *biases),
        )
        for note, biases in (("", ((6,), (6,))), ("no biases", ()))
    ],
    *[
        Row(
            "rnn",
            lambda x, h, weight, relu=relu: recurrent.rnn(x, h, weight, relu=relu),
            lambda x, h, weight, relu=relu: rnn(x, h, weight, relu),
            ((3, 2, 2), (2, 2), (2, 2)),
            note=note,
            empty=((3, 0, 2), (0, 2), (2, 2)),
        )
        for note, relu in (("", False), ("relu", True))
    ],
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
        "weight_gradient",
        lambda grad, x: convolution.weight_gradient(grad, x, shape=(6, 2, 3, 2), options=SLIDE),
        weight_gradient,
        ((2, 6, 2, 6), (2, 4, 5, 6)),
        tolerance=64,
        empty=((0, 6, 2, 6), (0, 4, 5, 6)),
    ),
    Row(
        "bilinear_sample",
        pooling.bilinear_sample,
        bilinear_sample,
        ((2, 3, 4, 5), (2, 6, 2)),
        tolerance=16,
        empty=((0, 3, 4, 5), (0, 6, 2)),
    ),
    Row(
        "ctc",
        lambda x: loss.ctc(
            x,
            labels=constant(x, CTC_LABELS),
            steps=constant(x, CTC_STEPS),
            sizes=constant(x, CTC_SIZES),
        ),
        ctc,
        ((4, 3, 3),),
        tolerance=16,
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
    *[
        Row(
            "avg_pool",
            lambda x, windows=windows: pooling.avg_pool(x, windows=windows),
            lambda x, windows=windows: means(x, windows),
            ((2, 5, 4),),
            empty=((0, 5, 4),),
            note=note,
        )
        for windows, note in (
            (adaptive_windows((5, 4), (3, 3)), "overlapping"),
            (adaptive_windows((5, 4), (5, 2)), "side by side"),
            (WindowRanges(((-1, 1, 3), (0, 3)), ((1, 3, 5), (3, 6)), ((2, 2, 2), (3, 2))), ""),
        )
    ],
    Row(
        "adaptive_max_pool",
        lambda x: pooling.adaptive_max_pool(x, out_sizes=(3, 3)),
        lambda x: np.max(parts(x, adaptive_windows((5, 4), (3, 3)), -math.inf), -1),
        ((2, 5, 4),),
        empty=((0, 5, 4),),
    ),
    Row(
        "adaptive_max_pool_indices",
        lambda x: pooling.adaptive_max_pool_indices(x, out_sizes=(3, 3)),
        adaptive_max_pool_indices,
        ((2, 5, 4),),
        differentiable=False,
    ),
    Row(
        "resize",
        lambda x, fraction: pooling.resize(
            x, fraction, low=constant(x, LOW), high=constant(x, HIGH), axis=1
        ),
        lambda x, f: (1 - f[:, None]) * x[:, LOW] + f[:, None] * x[:, HIGH],
        ((2, 5, 4), (6,)),
        empty=((0, 5, 4), (6,)),
    ),
    Row(
        "weighted_taps",
        lambda x, w: pooling.weighted_taps(
            x, w, places=(constant(x, LOW), constant(x, HIGH)), axis=1
        ),
        lambda x, w: w[0][:, None] * x[:, LOW] + w[1][:, None] * x[:, HIGH],
        ((2, 5, 4), (2, 6)),
        empty=((0, 5, 4), (2, 6)),
    ),
]
