"""Calls that no declaration describes: shapes that fit one another, operators, indices, modules."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from fuzzing import numbers
from fuzzing.draw import Draw, Skip
from fuzzing.program import INPLACE_OPERATORS, OPERATORS, PREFIXES, Array, Ref, Statement
from support import functional_cases

Row = Callable[[Draw], Statement]


# Operators and indices


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


# Functions


def small(rng: random.Random) -> Any:
    return rng.choice((0, 1, 2, 3, -1, 5, 0.5, 1.0, -2.0, 2.5, 0.1, 0.3))


def creation(name: str) -> Row:
    """arange, linspace and the like: with numbers that make few elements."""

    def row(draw: Draw) -> Statement:
        rng = draw.rng
        options: dict[str, Any] = {}
        if rng.random() < 0.4:
            options["dtype"] = draw.dtype()
        if rng.random() < 0.2:
            options["requires_grad"] = True
        if name == "arange":
            args = [small(rng)]
            if rng.random() < 0.6:
                args = [small(rng), small(rng) + 3]
                if rng.random() < 0.5:
                    args.append(rng.choice((1, 2, 0.5, 0.3, -1, 0)))
        else:
            args = [small(rng), small(rng), rng.choice((1, 2, 5, 3, 0))]
        return Statement(name, tuple(args), options)

    return row


def sized(name: str) -> Row:
    def row(draw: Draw) -> Statement:
        rng = draw.rng
        shape = numbers.shape(rng, 3)
        args: tuple[Any, ...] = (shape,) if rng.random() < 0.6 or not shape else shape
        if name == "full":
            args = (shape, numbers.scalar(rng))
        if name == "eye":
            args = tuple(rng.randint(0, 3) for _ in range(rng.randint(1, 2)))
        options: dict[str, Any] = {}
        if rng.random() < 0.4:
            options["dtype"] = draw.dtype()
        if rng.random() < 0.2:
            options["requires_grad"] = True
        return Statement(name, args, options, random=name in ("rand", "randn", "empty"))

    return row


def new_sized(name: str) -> Row:
    def row(draw: Draw) -> Statement:
        rng = draw.rng
        args: tuple[Any, ...] = (draw.tensor(), numbers.shape(rng, 3))
        if name == ".new_full":
            args = (*args, numbers.scalar(rng))
        options = {"dtype": draw.dtype()} if rng.random() < 0.4 else {}
        return Statement(name, args, options, random=name == ".new_empty")

    return row


def filled(name: str) -> Row:
    """An in-place function of random numbers: of a copy, of which only dtype and shape are seen."""

    def row(draw: Draw) -> Statement:
        made = draw.push(Statement(".clone", (draw.tensor(),), random=True))
        options = {"p": 0.5} if name == ".bernoulli_" and draw.rng.random() < 0.5 else {}
        return Statement(name, (made,), options, random=True)

    return row


def randint(draw: Draw) -> Statement:
    rng = draw.rng
    return Statement(
        "randint", (rng.randint(-2, 3), rng.randint(0, 5), numbers.shape(rng, 3)), random=True
    )


def quantile(draw: Draw, form: str) -> Statement:
    rng = draw.rng
    first = draw.tensor("floating")
    value = draw.value(first)
    q = rng.choice((0.0, 0.5, 0.3, 1.0))
    if rng.random() < 0.4:
        q = draw.constant((rng.randint(1, 3),), draw.dtype_like(value), "positive")
    options: dict[str, Any] = {}
    if rng.random() < 0.6 and value.ndim:
        options["dim"] = rng.randrange(-value.ndim, value.ndim)
    if rng.random() < 0.3:
        options["keepdim"] = rng.random() < 0.5
    if rng.random() < 0.4:
        options["interpolation"] = rng.choice(("linear", "lower", "higher", "midpoint", "nearest"))
    return Statement(form, (first, q), options)


def unique(draw: Draw, form: str) -> Statement:
    rng = draw.rng
    first = draw.tensor()
    value = draw.value(first)
    options: dict[str, Any] = {}
    for key in ("return_inverse", "return_counts"):
        if rng.random() < 0.4:
            options[key] = rng.random() < 0.7
    if rng.random() < 0.3 and value.ndim:
        options["dim"] = rng.randrange(-value.ndim, value.ndim)
    return Statement(form, (first,), options)


def counting(name: str) -> Row:
    """bincount and one_hot: of whole numbers that are small."""

    def row(draw: Draw) -> Statement:
        rng = draw.rng
        shape = (rng.randint(0, 5),) if name == "bincount" else numbers.shape(rng, 2)
        made = draw.indices(shape, 0 if rng.random() < 0.95 else -1, 4)
        options = {}
        if rng.random() < 0.4:
            options["minlength" if name == "bincount" else "num_classes"] = rng.randint(0, 6)
        return Statement(name, (made,), options)

    return row


def repeated(draw: Draw, form: str) -> Statement:
    rng = draw.rng
    first = draw.tensor()
    value = draw.value(first)
    options: dict[str, Any] = {}
    size = value.numel()
    if value.ndim and rng.random() < 0.7:
        options["dim"] = rng.randrange(-value.ndim, value.ndim)
        size = value.shape[options["dim"]]
    times: Any = rng.randint(0, 3)
    if rng.random() < 0.5:
        times = draw.indices((size,), 0, 3)
    return Statement(form, (first, times), options)


def einops_free(name: str, *more: Callable[[random.Random], Any]) -> Row:
    """A function of one tensor and arguments that are drawn without looking at it."""

    def row(draw: Draw) -> Statement:
        return Statement(name, (draw.tensor(), *(m(draw.rng) for m in more)))

    return row


def gather(draw: Draw, name: str) -> Statement:
    """gather, scatter and their kin: an index no longer than the tensor along other axes."""
    rng = draw.rng
    writes = name.endswith("_")
    first = draw.tensor(writable=writes)
    shape = tuple(draw.value(first).shape)
    dim = rng.randrange(-len(shape), len(shape)) if shape else rng.choice((0, -1))
    high = shape[dim] if shape else 1
    base = name.strip("._")
    if base in ("index_select", "index_add", "index_copy", "index_fill"):
        chosen: tuple[int, ...] = (rng.randint(0, 3),) if rng.random() < 0.9 else ()
        source = list(shape)
        if source:
            source[dim] = chosen[0] if chosen else 1
    else:
        chosen = tuple(
            rng.randint(1, 4) if i == dim % max(len(shape), 1) else rng.randint(min(n, 1), n)
            for i, n in enumerate(shape)
        )
        source = list(chosen)
    at = draw.indices(chosen, 0 if rng.random() < 0.97 else -1, high)
    args: list[Any] = [first, dim, at]
    options: dict[str, Any] = {}
    dtype = draw.dtype_like(draw.value(first))
    if base in ("scatter", "scatter_add", "index_add", "index_copy"):
        if base == "scatter" and rng.random() < 0.4:
            args.append(numbers.scalar(rng))
        else:
            args.append(draw.of_shape(tuple(source), dtype))
        if base == "scatter" and rng.random() < 0.3:
            options["reduce"] = rng.choice(("add", "multiply"))
        if base == "index_add" and rng.random() < 0.4:
            options["alpha"] = rng.choice((2, 0.5, -1, 0))
    if base == "index_fill":
        args.append(numbers.scalar(rng))
    return Statement(name, tuple(args), options)


def masked(draw: Draw, name: str) -> Statement:
    rng = draw.rng
    first = draw.tensor(writable=name.endswith("_"))
    value = draw.value(first)
    shape = tuple(value.shape)
    mask = draw.of_shape(draw.broadcastable(shape), "bool")
    args: list[Any] = [first, mask]
    if "fill" in name:
        args.append(
            numbers.scalar(rng) if rng.random() < 0.7 else draw.of_shape((), draw.dtype_like(value))
        )
    elif "scatter" in name:
        args.append(draw.of_shape((max(value.numel(), 1),), draw.dtype_like(value)))
    return Statement(name, tuple(args))


def where(draw: Draw) -> Statement:
    rng = draw.rng
    first = draw.tensor()
    shape = tuple(draw.value(first).shape)
    mask = draw.of_shape(draw.broadcastable(shape), "bool")
    if rng.random() < 0.1:
        return Statement("where", (mask,))
    other = numbers.scalar(rng) if rng.random() < 0.3 else draw.like(draw.value(first))
    pair = (other, first) if rng.random() < 0.3 else (first, other)
    return Statement("where", (mask, *pair))


def dtype_method(name: str) -> Row:
    return lambda draw: Statement(name, (draw.tensor(),))


def to(draw: Draw) -> Statement:
    rng = draw.rng
    first = draw.tensor()
    what: Any = draw.dtype() if rng.random() < 0.7 else draw.tensor()
    options = {"copy": True} if rng.random() < 0.2 else {}
    return Statement(".to", (first, what), options)


def new_tensor(draw: Draw) -> Statement:
    made = draw.constant(numbers.shape(draw.rng, 2), "float64", "plain")
    return Statement(".new_tensor", (draw.tensor(), _lists(made.data)))


def _lists(data: Any) -> Any:
    return [_lists(d) for d in data] if isinstance(data, tuple) else data


def tensor(name: str) -> Row:
    def row(draw: Draw) -> Statement:
        rng = draw.rng
        style = draw.number_style()
        dtype = rng.choice(("float64", "int64", "bool"))
        made = numbers.array(rng, numbers.shape(rng, 3), dtype, style)
        options = {"dtype": draw.dtype()} if rng.random() < 0.4 else {}
        return Statement(name, (_lists(made.data),), options)

    return row


# Functional


def functional(name: str) -> Row:
    """One of the calls in functional_cases.py, with other numbers in its arrays."""
    cases = [case for case in functional_cases.CASES if case.name == name]
    activation = any(case.name == name for case in functional_cases.ACTIVATIONS)

    def row(draw: Draw) -> Statement:
        rng = draw.rng
        full = f"nn.functional.{name}"
        if activation and rng.random() < 0.5:
            return Statement(full, (draw.tensor(),), softmax_dim(draw, name))
        case = rng.choice(cases)
        dtype = draw.main_dtype() if rng.random() < 0.7 else "float64"
        if dtype not in numbers.FLOATS:
            dtype = "float64"

        def convert(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                if rng.random() < 0.3:  # numbers as they were, for those that must be distributions
                    return draw.push(Statement("array", (literal(value, dtype, draw.grads),)))
                return draw.of_shape(value.shape, dtype)
            if isinstance(value, functional_cases.fixed):
                kind = value.array.dtype.kind
                order = value.array
                if order.ndim and rng.random() < 0.7:
                    order = np.random.default_rng(rng.randrange(99)).permutation(order)
                return literal(order, {"f": dtype, "i": "int64", "b": "bool"}[kind], False)
            return value

        args = tuple(convert(v) for v in case.args)
        options = {k: convert(v) for k, v in case.kwargs.items()}
        if ("loss" in name or "entropy" in name) and rng.random() < 0.4:
            options["reduction"] = rng.choice(("mean", "sum", "none"))
        return Statement(full, args, options)

    return row


def softmax_dim(draw: Draw, name: str) -> dict[str, Any]:
    return {"dim": draw.rng.choice((0, -1))} if "softm" in name else {}


def literal(array: np.ndarray, dtype: str, requires_grad: bool) -> Array:
    flat = array.reshape(-1).tolist()
    if array.dtype.kind == "f":
        flat = [round(v, 3) for v in flat]
    return Array(numbers.nested(flat, array.shape), array.shape, dtype, "contiguous", requires_grad)


def dropout(name: str) -> Row:
    def row(draw: Draw) -> Statement:
        rng = draw.rng
        options = rng.choice(({"p": 0.0}, {"training": False}, {"p": 1.0}))
        return Statement(f"nn.functional.{name}", (draw.tensor("floating"),), options)

    return row


# Modules: constructor arguments, and the shapes of what forward takes

MODULES: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[tuple[int, ...], ...]]] = [
    ("Linear", (3, 2), {}, ((2, 3),)),
    ("Linear", (3, 2), {"bias": False}, ((3,),)),
    ("Bilinear", (2, 3, 2), {}, ((2, 2), (2, 3))),
    ("Conv1d", (2, 3, 2), {}, ((1, 2, 4),)),
    ("Conv1d", (2, 2, 3), {"padding": 1, "padding_mode": "circular"}, ((1, 2, 4),)),
    ("Conv2d", (1, 2, 2), {"stride": 2}, ((2, 1, 4, 3),)),
    ("Conv2d", (2, 2, 2), {"padding": 1, "groups": 2}, ((2, 3, 3),)),
    ("Conv2d", (1, 2, 3), {"padding": "same", "padding_mode": "reflect"}, ((1, 1, 4, 4),)),
    ("Conv3d", (1, 1, 2), {}, ((1, 1, 2, 3, 2),)),
    ("ConvTranspose1d", (2, 1, 2), {"stride": 2}, ((1, 2, 3),)),
    ("ConvTranspose2d", (1, 2, 2), {"output_padding": 1, "stride": 2}, ((1, 1, 2, 2),)),
    ("ConvTranspose3d", (1, 1, 2), {}, ((1, 1, 2, 1, 2),)),
    ("BatchNorm1d", (3,), {}, ((4, 3),)),
    ("BatchNorm1d", (2,), {"affine": False, "momentum": None}, ((2, 2, 3),)),
    ("BatchNorm2d", (2,), {"track_running_stats": False}, ((2, 2, 2, 2),)),
    ("BatchNorm3d", (1,), {}, ((2, 1, 2, 1, 2),)),
    ("InstanceNorm1d", (2,), {}, ((2, 2, 3),)),
    ("InstanceNorm2d", (2,), {"affine": True, "track_running_stats": True}, ((1, 2, 2, 2),)),
    ("InstanceNorm3d", (1,), {}, ((1, 1, 2, 2, 2),)),
    ("LayerNorm", (3,), {}, ((2, 3),)),
    ("LayerNorm", ((2, 3),), {"bias": False}, ((2, 3),)),
    ("RMSNorm", (3,), {}, ((2, 3),)),
    ("GroupNorm", (2, 4), {}, ((2, 4, 3),)),
    ("LocalResponseNorm", (2,), {}, ((1, 3, 4),)),
    ("Embedding", (4, 3), {}, ()),
    ("Embedding", (4, 3), {"padding_idx": 1}, ()),
    ("RNN", (2, 3), {}, ((3, 2, 2),)),
    ("RNN", (2, 2), {"nonlinearity": "relu", "bidirectional": True}, ((3, 2),)),
    ("LSTM", (2, 3), {"num_layers": 2, "batch_first": True}, ((2, 3, 2),)),
    ("LSTM", (2, 2), {"bidirectional": True, "proj_size": 1}, ((3, 2),)),
    ("GRU", (2, 2), {"bidirectional": True}, ((2, 1, 2),)),
    ("RNNCell", (2, 3), {}, ((2, 2),)),
    ("LSTMCell", (2, 3), {}, ((2, 2),)),
    ("GRUCell", (2, 3), {}, ((2,),)),
    ("MultiheadAttention", (4, 2), {}, ((3, 1, 4), (2, 1, 4), (2, 1, 4))),
    ("MultiheadAttention", (2, 1), {"batch_first": True, "bias": False}, ((1, 3, 2),) * 3),
    ("TransformerEncoderLayer", (2, 1, 3, 0.0), {}, ((3, 1, 2),)),
    ("TransformerDecoderLayer", (2, 1, 3, 0.0), {"norm_first": True}, ((2, 1, 2), (3, 1, 2))),
    ("AvgPool1d", (2,), {}, ((1, 2, 5),)),
    ("AvgPool2d", (2,), {"ceil_mode": True}, ((1, 3, 3),)),
    ("AvgPool3d", (2,), {}, ((1, 2, 2, 3),)),
    ("MaxPool1d", (2,), {"return_indices": True}, ((1, 2, 5),)),
    ("MaxPool2d", (2,), {"stride": 1}, ((1, 3, 3),)),
    ("MaxPool3d", (2,), {}, ((1, 2, 2, 3),)),
    ("AdaptiveAvgPool1d", (2,), {}, ((1, 2, 5),)),
    ("AdaptiveAvgPool2d", ((2, None),), {}, ((1, 3, 3),)),
    ("AdaptiveAvgPool3d", (1,), {}, ((1, 2, 2, 3),)),
    ("AdaptiveMaxPool1d", (2,), {}, ((1, 2, 5),)),
    ("AdaptiveMaxPool2d", (2,), {}, ((1, 3, 3),)),
    ("AdaptiveMaxPool3d", (1,), {}, ((1, 2, 2, 3),)),
    ("ReflectionPad1d", (1,), {}, ((1, 3),)),
    ("ReflectionPad2d", (1,), {}, ((1, 3, 2),)),
    ("ReflectionPad3d", (1,), {}, ((1, 2, 3, 2),)),
    ("ReplicationPad1d", ((1, 2),), {}, ((1, 3),)),
    ("ReplicationPad2d", (1,), {}, ((1, 3, 2),)),
    ("ReplicationPad3d", (1,), {}, ((1, 2, 3, 2),)),
    ("CircularPad1d", ((1, 2),), {}, ((1, 3),)),
    ("CircularPad2d", (1,), {}, ((1, 3, 2),)),
    ("CircularPad3d", (1,), {}, ((1, 2, 3, 2),)),
    ("ConstantPad1d", ((1, -1), 0.5), {}, ((1, 3),)),
    ("ConstantPad2d", (1, 2), {}, ((3, 2),)),
    ("ConstantPad3d", (1, 0.0), {}, ((2, 3, 2),)),
    ("ZeroPad1d", (1,), {}, ((1, 3),)),
    ("ZeroPad2d", (1,), {}, ((3, 2),)),
    ("ZeroPad3d", (0,), {}, ((2, 3, 2),)),
    ("Flatten", (), {}, ((2, 1, 3),)),
    ("Unflatten", (1, (2, 2)), {}, ((1, 4),)),
    ("Fold", ((3, 3), 2), {}, ((1, 4, 4),)),
    ("Unfold", (2,), {}, ((1, 1, 3, 3),)),
    ("Upsample", (), {"scale_factor": 2}, ((1, 1, 3),)),
    ("Upsample", (), {"size": (3, 2), "mode": "bilinear"}, ((1, 1, 2, 2),)),
    ("PixelShuffle", (2,), {}, ((1, 4, 1, 2),)),
    ("PixelUnshuffle", (2,), {}, ((1, 1, 2, 4),)),
    ("ChannelShuffle", (2,), {}, ((1, 4, 1, 2),)),
    ("CosineSimilarity", (), {}, ((2, 3), (2, 3))),
    ("PairwiseDistance", (), {}, ((2, 3), (2, 3))),
    ("PReLU", (), {}, ((2, 3),)),
    ("PReLU", (3,), {}, ((2, 3),)),
    ("Softmax", (), {"dim": -1}, ((2, 3),)),
    ("LogSoftmax", (), {"dim": 0}, ((2, 3),)),
    ("Softmin", (), {"dim": 0}, ((2, 3),)),
    ("Softmax2d", (), {}, ((1, 2, 1, 3),)),
    ("Threshold", (0.0, 1.0), {}, ((2, 3),)),
    ("GLU", (), {}, ((2, 4),)),
    *((name, (), {}, ((2, 3),)) for name in (
        "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity",
        "LeakyReLU", "LogSigmoid", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus",
        "Softshrink", "Softsign", "Tanh", "Tanhshrink",
    )),
    *((name, (), {"reduction": reduction}, ((2, 3),) * count) for name, count in (
        ("MSELoss", 2), ("L1Loss", 2), ("SmoothL1Loss", 2), ("HuberLoss", 2),
        ("BCEWithLogitsLoss", 2),
        ("KLDivLoss", 2), ("SoftMarginLoss", 2),
        ("HingeEmbeddingLoss", 2), ("PoissonNLLLoss", 2),
        ("MultiLabelSoftMarginLoss", 2), ("TripletMarginLoss", 3), ("CrossEntropyLoss", 2),
        ("BCELoss", 2), ("MarginRankingLoss", 3), ("GaussianNLLLoss", 3),
        ("TripletMarginWithDistanceLoss", 3),
    ) for reduction in ("mean", "none")),
    *((name, (p,), {}, ((2, 3, 2),)) for name in (
        "Dropout", "Dropout1d", "AlphaDropout") for p in (0.0, 1.0)),
    ("Dropout2d", (0.0,), {}, ((1, 2, 2, 2),)),
    ("NLLLoss", (), {}, ((2, 3),)),
    ("MultiMarginLoss", (), {}, ((2, 3),)),
    ("CosineEmbeddingLoss", (), {}, ((2, 3), (2, 3))),
    ("Dropout3d", (0.0,), {}, ((1, 2, 2, 2, 1),)),
]  # fmt: skip

POSITIVE = {"BCELoss", "GaussianNLLLoss"}
CLASSES = {"CrossEntropyLoss": 3, "NLLLoss": 3, "MultiMarginLoss": 3}


def module(draw: Draw) -> Statement:
    """A module, made and called."""
    rng = draw.rng
    name, args, options, shapes = rng.choice(MODULES)
    made = draw.push(Statement(f"nn.{name}", args, options))
    if rng.random() < 0.25:
        draw.push(Statement(".eval", (made,)))
    inputs: list[Any] = []
    for shape in shapes:
        if name in POSITIVE:
            inputs.append(
                draw.push(
                    Statement("array", (numbers.array(rng, shape, "float64", "positive", True),))
                )
            )
        else:
            inputs.append(draw.of_shape(shape, "float64"))
    if name == "Embedding":
        inputs.append(draw.indices(numbers.shape(rng, 2), 0, 4))
    if name in CLASSES and len(inputs) == 1:
        inputs.append(draw.indices((2,), 0, 3))
    if name == "CosineEmbeddingLoss":
        inputs.append(Array((1, -1), (2,), "int64"))
    return Statement("call", (made, *inputs))


ROWS: dict[str, Row] = {
    "operator": operator,
    "inplace operator": inplace_operator,
    "prefix": prefix,
    "getitem": getitem,
    "setitem": setitem,
    "module": module,
    "where": where,
    "nn.functional.channel_shuffle": lambda draw: Statement(
        "nn.functional.channel_shuffle", (draw.of_shape((1, 4, 1, 2), "float64"), 2)
    ),
    "torch.to": to,
    "to": to,
    "new_tensor": new_tensor,
    **{
        name: filled(f".{name}")
        for name in ("bernoulli_", "normal_", "random_", "uniform_", "exponential_")
    },
    "randint": randint,
    "einsum": einsum,
    "addmm": lambda draw: addmm(draw, "addmm"),
    "baddbmm": lambda draw: addmm(draw, "baddbmm"),
    "bincount": counting("bincount"),
    "nn.functional.one_hot": counting("nn.functional.one_hot"),
    "quantile": lambda draw: quantile(draw, draw.rng.choice(("quantile", ".quantile"))),
    "unique": lambda draw: unique(draw, draw.rng.choice(("unique", ".unique"))),
    "repeat_interleave": lambda draw: repeated(
        draw, draw.rng.choice(("repeat_interleave", ".repeat_interleave"))
    ),
    **{name: creation(name) for name in ("arange", "linspace", "logspace")},
    **{name: sized(name) for name in ("zeros", "ones", "full", "eye", "rand", "randn", "empty")},
    **{
        name: new_sized(f".{name}")
        for name in ("new_zeros", "new_ones", "new_full", "new_empty")
    },
    **{name: tensor(name) for name in ("tensor", "as_tensor", "asarray")},
    **{
        name: (lambda draw, name=name: product(draw, name))
        for name in ("matmul", "mm", "bmm", "mv", "dot", "inner", "outer")
    },
    **{
        name: (
            lambda draw, name=name: gather(
                draw, f".{name}" if name.endswith("_") or draw.rng.random() < 0.5 else name
            )
        )
        for base in ("scatter", "scatter_add", "index_add", "index_copy", "index_fill")
        for name in (base, f"{base}_")
    },
    **{
        name: (lambda draw, name=name: gather(draw, draw.rng.choice((name, f".{name}"))))
        for name in ("gather", "index_select")
    },
    **{
        name: (lambda draw, name=name: masked(draw, f".{name}"))
        for name in (
            "masked_fill", "masked_fill_", "masked_scatter", "masked_scatter_", "masked_select",
        )
    },
    **{
        name: dtype_method(f".{name}")
        for name in (
            "bfloat16", "bool", "byte", "char", "double", "float", "half", "int", "long", "short",
            "tolist", "nelement", "detach", "detach_", "requires_grad_",
        )
    },
    **{
        f"attr.{name}": dtype_method(f"attr.{name}")
        for name in (
            "T", "mT", "shape", "ndim", "dtype", "is_leaf", "requires_grad", "data", "itemsize",
            "nbytes",
        )
    },
    **{
        f"nn.functional.{name}": dropout(name)
        for name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout")
    },
    **{
        f"nn.functional.{name}": functional(name)
        for name in {case.name for case in functional_cases.CASES}
    },
}  # fmt: skip


def refs(value: Any) -> bool:
    return isinstance(value, Ref)


__all__ = ["MODULES", "ROWS", "Skip"]
