"""Rows of the op table for indexing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradient.ops import index
from gradient.testing.row import Row
from gradient.testing.samples import MASK, ONE, PAIR, constant

REPEATED = np.array([2, 0, 2])
COLUMNS = np.array([[0, 3], [1, 1], [2, 0]])


def scattered(x: Any, value: Any, add: bool) -> Any:
    out = x.copy()
    for i, j in np.ndindex(COLUMNS.shape):
        at = (i, COLUMNS[i, j])
        out[at] = out[at] + value[i, j] if add else value[i, j]
    return out


def summed_at(x: Any, value: Any) -> Any:
    out = x.copy()
    np.add.at(out, (REPEATED,), value)
    return out


def replaced(x: Any, value: Any) -> Any:
    out = x.copy()
    out[1:, ::2] = value
    return out


def placed(x: Any) -> Any:
    out = np.zeros((3, 4))
    np.add.at(out, (REPEATED,), x)
    return out


def joined(x: Any, value: Any, join: Callable[[Any, Any], Any]) -> Any:
    out = x.copy()
    for i, row in enumerate(REPEATED):
        out[row] = join(out[row], value[i])
    return out


def _reduced(x: Any, value: Any, combine: str, identity: float) -> Any:
    at = np.broadcast_to(REPEATED[:, None], (3, 4))  # whole rows
    options: dict[str, Any] = {"combine": combine, "identity": identity, "include_self": True}
    return index.reduce_along(x, value, index=constant(x, at), axis=0, **options)


def _put(x: Any, value: Any, at: np.ndarray) -> Any:
    out = x.copy()
    np.put_along_axis(out, at, value, 1)
    return out


ROWS = [
    Row(
        "getitem",
        lambda x: index.getitem(x, index=(slice(1, None), None, slice(0, 4, 2))),
        lambda x: x[1:, None, 0:4:2],
        ONE,
        note="basic",
    ),  # fmt: skip
    Row(
        "getitem",
        lambda x: index.getitem(x, index=(constant(x, REPEATED),)),
        lambda x: x[REPEATED],
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
    Row(
        "select",
        lambda x: index.select(x, index=constant(x, REPEATED), axis=1),
        lambda x: x[:, REPEATED],
        ONE,
    ),
    Row("compress", lambda x: index.compress(x, mask=constant(x, MASK)), lambda x: x[MASK], ONE),
    Row(
        "place", lambda x: index.place(x, shape=(3, 4), index=(constant(x, REPEATED),)), placed, ONE
    ),
    Row(
        "setitem",
        lambda x, v: index.setitem(x, v, index=(slice(1, None), slice(None, None, 2))),
        replaced,
        ((3, 4), (2, 1)),
    ),
    Row(
        "index_add",
        lambda x, v: index.index_add(x, v, index=(constant(x, REPEATED),)),
        summed_at,
        PAIR,
    ),  # fmt: skip
    Row(
        "take_along",
        lambda x: index.take_along(x, index=constant(x, COLUMNS), axis=1),
        lambda x: np.take_along_axis(x, COLUMNS, 1),
        ONE,
    ),
    Row(
        "pick",
        lambda x: index.pick(x, index=constant(x, COLUMNS[:, 0]), axis=1),
        lambda x: x[range(3), COLUMNS[:, 0]],
        ONE,
    ),
    Row(
        "pick",
        lambda x: index.pick(x, index=constant(x, np.array([[0, 2, 1, 1]])), axis=0),
        lambda x: np.take_along_axis(x, np.array([[0, 2, 1, 1]]), 0),
        ONE,
        note="keeping the axis",
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
        "reduce_along",
        lambda x, v: _reduced(x, v, "multiply", 1.0),
        lambda x, v: joined(x, v, np.multiply),
        PAIR,
    ),
    Row(
        "reduce_along",
        lambda x, v: _reduced(x, v, "maximum", -np.inf),
        lambda x, v: joined(x, v, np.maximum),
        PAIR,
        note="largest",
    ),
    Row(
        "embedding",
        lambda w: index.embedding(w, indices=constant(w, COLUMNS)),
        lambda w: w[COLUMNS],
        ((4, 5),),
    ),  # fmt: skip
]
