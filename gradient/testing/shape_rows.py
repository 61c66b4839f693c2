"""Rows of the op table for ops that move elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.ops import elementwise, shape
from gradient.testing.row import Row
from gradient.testing.samples import EMPTY, ONE

WINDOW = {"kernel": (2, 2), "stride": (1, 2), "dilation": (1, 1)}


def unfold(x: Any) -> Any:
    n, c, h, w = x.shape
    out = np.empty((n, c, 4, h - 1, (w - 2) // 2 + 1), x.dtype)
    for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        out[:, :, k] = x[:, :, i : i + h - 1, j : j + w - 1 : 2]
    return out


def fold(x: Any) -> Any:
    out = np.zeros((1, 2, 4, 5), x.dtype)
    for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        out[:, :, i : i + 3, j : j + 3 : 2] += x[:, :, k]
    return out


def _product(parts: Any) -> Any:
    return elementwise.mul(parts[0], parts[1])


ROWS = [
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
        "stack",
        lambda a, b: shape.stack(a, b, axis=1),
        lambda a, b: np.stack([a, b], 1),
        ((3, 4), (3, 4)),
        empty=((3, 0), (3, 0)),
    ),
    Row(
        "unbind",
        lambda x: _product(shape.unbind(x, indices=shape.slice_indices(x.shape[1], 1), axis=1)),
        lambda x: x[:, 0] * x[:, 1],
        ONE,
        empty=((0, 2),),
    ),
    Row(
        "split",
        lambda x: _product(shape.split(x, indices=shape.piece_indices([2, 2], 1), axis=1)),
        lambda x: x[:, :2] * x[:, 2:],
        ONE,
        empty=EMPTY,
    ),
    Row("flip", lambda x: shape.flip(x, axis=(0, 1)), lambda x: x[::-1, ::-1], ONE, empty=EMPTY),
    Row("roll", lambda x: shape.roll(x, by=1, axis=1), lambda x: np.roll(x, 1, 1), ONE),
    Row(
        "pad",
        lambda x: shape.pad(x, widths=((1, 0), (2, 1)), value=0.5),
        lambda x: np.pad(x, ((1, 0), (2, 1)), constant_values=0.5),
        ONE,
        empty=EMPTY,
    ),
    *[
        Row(
            "pad_around",
            lambda x, mode=mode: shape.pad_around(x, widths=((1, 0), (2, 1)), mode=mode),
            lambda x, way=way: np.pad(x, ((1, 0), (2, 1)), way),
            ONE,
            note=mode,
        )
        for mode, way in (("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap"))
    ],
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
        "unfold",
        lambda x: shape.unfold(x, **WINDOW),
        unfold,
        ((1, 2, 4, 5),),
        note="complex",
        kind="complex",
    ),
    Row(
        "fold",
        lambda x: shape.fold(x, shape=(1, 2, 4, 5), **WINDOW),
        fold,
        ((1, 2, 4, 3, 2),),
        note="complex",
        kind="complex",
    ),
    Row(
        "as_strided",
        lambda x: shape.as_strided(x, size=(3, 4), stride=(2, 1), offset=1),
        lambda x: x.reshape(-1)[1 + 2 * np.arange(3)[:, None] + np.arange(4)],
        ((2, 5),),
    ),
    Row(
        "as_strided",
        lambda x: shape.as_strided(x, size=(2, 3), stride=(4, 0), offset=2),
        lambda x: np.repeat(x.reshape(-1)[[2, 6]][:, None], 3, 1),
        ((2, 5),),
        note="stride of 0",
    ),
    Row(
        "sliding_window",
        lambda x: shape.sliding_window(x, axis=1, size=3, step=2),
        lambda x: np.lib.stride_tricks.sliding_window_view(x, 3, 1)[:, ::2],
        ((2, 6, 3),),
    ),
]
