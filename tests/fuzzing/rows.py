"""Calls that no declaration describes: shapes that fit one another, operators, indices, modules."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from fuzzing import numbers
from fuzzing.draw import Draw
from fuzzing.layers import Row, dropout, functional, module
from fuzzing.operators import (
    addmm,
    einsum,
    getitem,
    inplace_operator,
    operator,
    prefix,
    product,
    setitem,
)
from fuzzing.program import Statement
from support import functional_cases

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
        for name in (
            *("bernoulli_", "normal_", "random_", "uniform_", "exponential_"),
            *("cauchy_", "log_normal_"),
        )
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
