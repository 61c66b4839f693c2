"""Operators, matrix products, and indices, read and written."""

from __future__ import annotations

from typing import Any

from fuzzing import numbers
from fuzzing.draw import Draw
from fuzzing.program import INPLACE_OPERATORS, OPERATORS, PREFIXES, Array, Statement


def operator(draw: Draw) -> Statement:
    rng = draw.rng
    name = rng.choice(OPERATORS)
    first = draw.tensor("bool" if name in ("&", "|", "^") and rng.random() < 0.6 else "any")
    if name == "@":
        return product(draw, name)
    other = numbers.scalar(rng) if rng.random() < 0.35 else draw.like(draw.value(first))
    pair = (other, first) if rng.random() < 0.3 else (first, other)
    return Statement(name, pair)


def inplace_operator(draw: Draw) -> Statement:
    name = draw.rng.choice(INPLACE_OPERATORS)
    kind = "bool" if name in ("&=", "|=", "^=") and draw.rng.random() < 0.6 else "any"
    first = draw.tensor(kind, writable=True)
    other = numbers.scalar(draw.rng) if draw.rng.random() < 0.35 else draw.like(draw.value(first))
    return Statement(name, (first, other))


def prefix(draw: Draw) -> Statement:
    return Statement(draw.rng.choice(PREFIXES), (draw.tensor(),))


def product(draw: Draw, name: str) -> Statement:
    """A matrix product of tensors whose inner sizes agree."""
    rng = draw.rng
    n, k, m = (rng.choice((0, 1, 2, 3)) if rng.random() < 0.2 else rng.randint(1, 3) for _ in "nkm")
    batch = tuple(rng.randint(1, 2) for _ in range(rng.choice((0, 0, 1, 2))))
    left, right = ((), (k,)), ((k,), ())
    shapes = {
        "@": [((*batch, n, k), (k, m)), ((n, k), (*batch, k, m)), ((k,), (k,)), ((k,), (k, m)),
              ((*batch, n, k), (k,)), ((*batch, n, k), (*(1 for _ in batch), k, m))],
        "mm": [((n, k), (k, m))],
        "bmm": [((2, n, k), (2, k, m))],
        "mv": [((n, k), (k,))],
        "dot": [((k,), (k,))],
        "inner": [((k,), (k,)), ((*batch, n, k), (m, k)), ((n, k), (k,))],
        "outer": [((n,), (m,))],
    }  # fmt: skip
    del left, right
    first, second = rng.choice(shapes["@" if name == "matmul" else name])
    a = draw.of_shape(first, draw.main_dtype())
    b = draw.of_shape(second, draw.dtype_like(draw.world.resolve(a)))
    if name == "@":
        return Statement(name, (a, b))
    return Statement(name if rng.random() < 0.5 else f".{name}", (a, b))


def addmm(draw: Draw, name: str) -> Statement:
    rng = draw.rng
    n, k, m = (rng.randint(1, 3) for _ in "nkm")
    batch = (2,) if name == "baddbmm" else ()
    base = rng.choice(((n, m), (m,), (n, 1), (), (1, m))) if rng.random() < 0.5 else (*batch, n, m)
    dtype = draw.main_dtype()
    args = tuple(draw.of_shape(s, dtype) for s in (base, (*batch, n, k), (*batch, k, m)))
    options = {
        key: rng.choice((0, 1, 2, 0.5, -1)) for key in ("beta", "alpha") if rng.random() < 0.4
    }
    return Statement(name if rng.random() < 0.5 else f".{name}", args, options)


def einsum(draw: Draw) -> Statement:
    rng = draw.rng
    equation, shapes = rng.choice((
        ("ij,jk->ik", ((2, 3), (3, 2))), ("ij->ji", ((2, 3),)), ("ii->i", ((3, 3),)),
        ("ii", ((3, 3),)), ("bij,bjk", ((2, 2, 3), (2, 3, 1))), ("i,j", ((2,), (3,))),
        ("...ij,...jk->...ik", ((2, 1, 3), (3, 2))), ("ij->", ((2, 3),)),
        ("ij,ij->i", ((2, 3), (2, 3))),
        ("a,ab,bc->c", ((2,), (2, 3), (3, 2))), ("i j -> j i", ((2, 3),)),
        ("ij,kj->ik", ((2, 0), (3, 0))),
    ))  # fmt: skip
    dtype = draw.main_dtype()
    return Statement("einsum", (equation, *(draw.of_shape(s, dtype) for s in shapes)))


def index_item(draw: Draw, size: int) -> Any:
    rng = draw.rng
    kind = rng.choices(
        ("int", "slice", "none", "list", "tensor", "mask", "zero"), (6, 7, 2, 3, 4, 2, 1)
    )[0]
    high = max(size, 1)
    if kind == "int":
        return rng.randint(-high, high - 1) if rng.random() < 0.97 else high + 1
    if kind == "slice":
        ends = (None, 0, 1, 2, -1, -2, high)
        step = (
            rng.choice((None, None, None, 1, 2, 3)) if rng.random() < 0.97 else rng.choice((0, -1))
        )
        return slice(rng.choice(ends), rng.choice(ends), step)
    if kind == "none":
        return None
    if kind == "list":
        return [
            rng.randint(-high, high - 1)
            for _ in range(rng.randint(0 if rng.random() < 0.1 else 1, 3))
        ]
    if kind == "tensor":
        shape = rng.choice(((2,), (3,), (1,), (2, 2), (1, 2), (0,)))
        dtype = rng.choice(("int64", "int64", "int32")) if rng.random() < 0.95 else "uint8"
        made = draw.indices(shape, -high, high)
        return (
            Array(made.data, made.shape, dtype) if dtype != "uint8" else draw.indices(shape, 0, 1)
        )
    if kind == "mask":
        return draw.constant((size,), "bool", "plain")
    return draw.indices((), -high, high)


def index(draw: Draw, shape: tuple[int, ...]) -> Any:
    rng = draw.rng
    if rng.random() < 0.08:
        return draw.constant(shape[: rng.randint(0, len(shape))], "bool", "plain")
    if rng.random() < 0.03:
        return rng.random() < 0.5
    count = rng.randint(0, len(shape)) if shape else rng.randint(0, 1)
    items: list[Any] = []
    axis = 0
    while axis < count and axis < len(shape):
        made = index_item(draw, shape[axis])
        items.append(made)
        axis += made is not None
    if rng.random() < 0.25:
        at = rng.randint(0, len(items))
        # What stands behind the ellipsis belongs to the last axes.
        behind = [m for m in items[at:] if m is not None]
        sizes = shape[len(shape) - len(behind) :]
        items = items[:at] + [Ellipsis, *(index_item(draw, n) for n in sizes)]
    if rng.random() < 0.15:
        items.insert(rng.randint(0, len(items)), None)
    if len(items) == 1 and rng.random() < 0.6:
        return items[0]
    return tuple(items)


def getitem(draw: Draw) -> Statement:
    first = draw.tensor()
    return Statement("getitem", (first, index(draw, tuple(draw.value(first).shape))))


def setitem(draw: Draw) -> Statement:
    rng = draw.rng
    first = draw.tensor(writable=True)
    value = draw.value(first)
    where = index(draw, tuple(value.shape))
    try:
        got = draw.world.execute(Statement("getitem", (first, where)))
    except Exception:
        return Statement("setitem", (first, where, 0))
    shape = tuple(got.shape)
    if rng.random() < 0.35:
        return Statement("setitem", (first, where, numbers.scalar(rng)))
    more = (1,) * rng.randint(1, 2)
    shape = more + shape if rng.random() < 0.15 else draw.broadcastable(shape)
    return Statement("setitem", (first, where, draw.of_shape(shape, draw.dtype_like(value))))
