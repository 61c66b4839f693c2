"""Calls of attention whose heads, lengths, masks and dtypes a test chooses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gradient.backends.options import AttentionOptions
from support.backend_table import BARE, Draw, band

MASKS: list[dict[str, Any]] = [
    {"is_causal": True, "window": 1},
    {"is_causal": True, "window": 7},
    {"is_causal": True, "window": 40, "softcap": 1.5},
    {"softcap": 0.7},
    {"mask": "bool"},
    {"mask": "heads", "softcap": 1.5},
    {"mask": "band"},  # some rows see nothing
    {"mask": "added"},
    {"mask": "float32", "softcap": 1.5},
]
"""Options, and the masks that `given` makes."""

LAYOUTS = {
    "heads behind positions": lambda x: np.swapaxes(np.swapaxes(x, 1, 2).copy(), 1, 2),
    "part of a row": lambda x: np.concatenate([x, x, x], -1)[..., x.shape[-1] : 2 * x.shape[-1]],
    "part of a cache": lambda x: np.concatenate([x, x], 2)[:, :, 5 : 5 + x.shape[2]],
    "odd places": lambda x: np.concatenate([x, x], -1)[..., 3 : 3 + x.shape[-1]],
    "columns first": lambda x: np.swapaxes(np.swapaxes(x, 2, 3).copy(), 2, 3),
    "the same for all": lambda x: np.broadcast_to(x[:1, :1], x.shape),
    "backwards": lambda x: x[:, :, ::-1],
}
"""How arrays of the same numbers may lie in memory."""

CODECS = [("float", "float"), ("int8", "int8"), ("int4", "int4"), ("float", "int8")]
"""Of the keys and the values of a cache."""


class Given(NamedTuple):
    """The arguments of a call and the gradient of its result."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    g: np.ndarray
    mask: np.ndarray | None
    options: AttentionOptions


def given(
    dtype: str,
    queries: int,
    keys: int,
    width: int = 32,
    value_width: int | None = None,
    heads: tuple[int, int] = (2, 1),
    mask: str = "",
    **options: Any,
) -> Given:
    a, (h, hk), e = Draw(dtype), heads, value_width or width
    q, k, v = a(2, h, queries, width), a(2, hk, keys, width), a(2, hk, keys, e)
    masks = {
        "": None,
        "bool": a.bools(queries, keys),
        "heads": a.bools(2, h, queries, keys),
        "band": band(queries, keys),
        "added": a(2, 1, queries, keys),
        "float32": a(2, 1, queries, keys).astype(np.float32),
    }
    how = AttentionOptions(**{"scale": width**-0.5, **options})
    return Given(q, k, v, a(2, h, queries, e), masks[mask], how)


def with_gradients(be: Any, x: Given) -> list[np.ndarray]:
    """The result and its statistics, and gradients from those of the definition."""
    forward = be.attention(x.q, x.k, x.v, x.mask, x.options)
    kept = BARE.attention(x.q, x.k, x.v, x.mask, x.options)
    grads = be.attention_grad(x.g, x.q, x.k, x.v, *kept, x.mask, x.options)
    return [*forward, *(grad.astype(x.q.dtype) for grad in grads)]
