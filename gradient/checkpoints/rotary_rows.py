"""Row orders of query, key and value matrices, and the conversions between them.

Rotary positions rotate pairs of a head's D numbers. LLaMA's own code pairs neighbours, 2i and 2i+1;
Hugging Face's pairs i with i + D/2, and stores the matrices' rows in the order that makes both the
same. llama2.c and GGUF files keep LLaMA's order.
"""

from __future__ import annotations

import numpy as np


def halves_from_pairs(heads: int, size: int) -> np.ndarray:
    """Return which rows, in this order, turn a matrix of pairs into one of halves: (heads * size,).

    >>> halves_from_pairs(1, 6).tolist()
    [0, 2, 4, 1, 3, 5]
    """
    rows = np.arange(heads * size).reshape(heads, size // 2, 2)
    return rows.transpose(0, 2, 1).reshape(-1)


def pairs_from_halves(heads: int, size: int) -> np.ndarray:
    """Return the rows that turn a matrix of halves into one of pairs: the inverse.

    >>> pairs_from_halves(1, 6).tolist()
    [0, 3, 1, 4, 2, 5]
    """
    rows = np.arange(heads * size).reshape(heads, 2, size // 2)
    return rows.transpose(0, 2, 1).reshape(-1)


def groups_from_stacked(heads: int, kv_heads: int, size: int) -> np.ndarray:
    """Return the rows that turn stacked queries, keys and values into groups of heads.

    A group is the queries that share a key-value head, its key and its value: GPT-NeoX's and
    Falcon's order.

    >>> groups_from_stacked(4, 2, 1).tolist()
    [0, 1, 4, 6, 2, 3, 5, 7]
    """
    rows = np.arange((heads + 2 * kv_heads) * size).reshape(-1, size)
    queries, keys, values = np.split(rows, [heads, heads + kv_heads])
    queries = queries.reshape(kv_heads, -1, size)
    return np.concatenate([queries, keys[:, None], values[:, None]], axis=1).reshape(-1)


def stacked_from_groups(heads: int, kv_heads: int, size: int) -> np.ndarray:
    """Return the rows that turn groups of heads into stacked queries, keys and values."""
    return groups_from_stacked(heads, kv_heads, size).argsort()
