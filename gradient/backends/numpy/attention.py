"""Attention by kernels."""

from __future__ import annotations

import numpy as np

from gradient.backends.composed.attention import AttentionDefaults
from gradient.backends.numpy import kernels, threads
from gradient.backends.options import AttentionOptions
from gradient.dtypes import HALF_PRECISION

MIN_SCORES = 1 << 12
"""Scores (B H T S) below which the composed definition is quick enough."""
MIN_ROWS = 2
"""Query rows below which it is quicker: a decoding step's products are of matrices and vectors,
which BLAS makes without the kernels' copies."""


class AttentionKernels(AttentionDefaults[np.ndarray]):
    """Overrides of `composed.attention`."""

    def attention(
        self,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        mask: np.ndarray | None = None,
        options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not (_supported(q, k, v) and _mask_supported(mask, options)):
            return super().attention(q, k, v, mask, options)
        if q.dtype in HALF_PRECISION:
            q32, k32, v32 = _to_float32(q, k, v)
            out, high, log_sum = self.attention(q32, k32, v32, mask, options)
            return out.astype(q.dtype), high, log_sum
        attention = kernels.load("attention")

        q, k, v = map(_heads, (q, k, v))
        b, heads = k.shape[:2]
        # In q's memory order: if q's heads are a transposed view, merging them again is free.
        out = _like(q, v.shape[3])
        high, log_sum = np.empty((2, *q.shape[:3]), q.dtype)
        threads.parallel_for(
            attention.attention, b * heads, 1,
            q, k, v, *_options(q, k, options), *_masks(mask, q, k),
            out, high, log_sum,
        )  # fmt: skip
        return out, high[..., None], log_sum[..., None]

    def attention_grad(
        self,
        g: np.ndarray,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        out: np.ndarray,
        high: np.ndarray,
        log_sum: np.ndarray,
        mask: np.ndarray | None = None,
        options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not (_supported(q, k, v, g, out) and _mask_supported(mask, options)):
            return super().attention_grad(g, q, k, v, out, high, log_sum, mask, options)
        if q.dtype in HALF_PRECISION:
            g, q32, k32, v32, out, high, log_sum = _to_float32(g, q, k, v, out, high, log_sum)
            gq, gk, gv = self.attention_grad(g, q32, k32, v32, out, high, log_sum, mask, options)
            return gq.astype(q.dtype), gk, gv
        attention = kernels.load("attention")

        q, k, v, out = map(_heads, (q, k, v, out))
        if g.strides != out.strides:  # so that kernels are compiled for one layout less
            g = np.positive(g, out=_like(out, out.shape[3]))
        b, heads = k.shape[:2]
        gq, gk, gv = (_like(x, x.shape[3]) for x in (q, k, v))
        threads.parallel_for(
            attention.attention_grad, b * heads, 1,
            g, q, k, v, out,
            *(x.reshape(q.shape[:3]).astype(q.dtype, copy=False) for x in (high, log_sum)),
            *_options(q, k, options), *_masks(mask, q, k), gq, gk, gv,
        )  # fmt: skip
        return gq, gk, gv


def _heads(x: np.ndarray) -> np.ndarray:
    """`x` itself if its rows are contiguous, else a copy: numba would compile for each layout."""
    return x if x.strides[-1] == x.itemsize and x.flags.behaved else np.array(x, order="C")


def _like(x: np.ndarray, columns: int) -> np.ndarray:
    """An array for results in x's memory order, with `columns` columns and contiguous rows. (For an
    axis on which x is expanded, NumPy's `empty_like` would make rows strided.)"""
    out = np.empty_like(x, shape=(*x.shape[:3], columns), subok=False)
    return out if out.strides[-1] == out.itemsize else np.empty(out.shape, out.dtype)


def _options(
    q: np.ndarray, k: np.ndarray, o: AttentionOptions
) -> tuple[np.floating, bool, int, np.floating]:
    """scale, is_causal, window and softcap in the types that the kernels are compiled for."""
    everything, number = q.shape[2] + k.shape[2], q.dtype.type
    window = o.window if o.window is not None and o.is_causal else everything
    return number(o.scale), bool(o.is_causal), min(window, everything), number(o.softcap or 0)


def _masks(mask: np.ndarray | None, q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, int, int]:
    """A mask for the kernels, (M, T, S), and its steps in M to the next batch and head."""
    if mask is None:
        return np.empty((1, 0, 0), np.bool_), 0, 0
    if mask.dtype != np.bool_:
        mask = mask.astype(q.dtype, copy=False)
    mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    batch, heads = mask.shape[:2]
    if mask.shape[2:] != (q.shape[2], k.shape[2]):
        # Else not: what NumPy broadcasts may not be written, and numba would compile for that, too.
        mask = np.broadcast_to(mask, (batch, heads, q.shape[2], k.shape[2]))
    masks = np.ascontiguousarray(mask).reshape(-1, q.shape[2], k.shape[2])
    return masks, heads if batch > 1 else 0, 1 if heads > 1 else 0


def _to_float32(*arrays: np.ndarray) -> list[np.ndarray]:
    """Convert 16-bit arrays to float32, for computing."""
    return [x.astype(np.float32, copy=False) for x in arrays]


def _mask_supported(mask: np.ndarray | None, options: AttentionOptions) -> bool:
    """Whether the kernels take a mask: of bools, or of numbers added to scores without softcap."""
    return mask is None or (
        type(mask) is np.ndarray
        and not options.is_causal
        and (
            mask.dtype == np.bool_
            or (not options.softcap and (mask.dtype in (*kernels.FLOATS, *HALF_PRECISION)))
        )
        and mask.flags.behaved
    )


def _supported(q: np.ndarray, *others: np.ndarray) -> bool:
    b, h, t, _ = q.shape
    return (
        b * h * t * others[0].shape[2] >= MIN_SCORES
        and t >= MIN_ROWS
        and (q.dtype in kernels.FLOATS or q.dtype in HALF_PRECISION)
        and all(o.dtype == q.dtype for o in others)
        and kernels.available()
    )
