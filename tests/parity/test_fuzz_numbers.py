"""Random reductions, and operators of mixed operands, are as in PyTorch.

The numbers hold ties, NaN, infinities and both zeros; the operands are tensors of every dtype, 0-d
ones and Python's numbers, written in place through views or not. Compared are dtypes, shapes,
values and gradients, and whether a call is refused.
"""

from __future__ import annotations

import operator
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402

PER_TEST = 100
FLOATS, INTEGERS = (
    ("float64", "float32", "float16", "bfloat16"),
    ("int64", "int32", "int8", "uint8"),
)
DTYPES = (*FLOATS, *INTEGERS, "bool")
SPECIAL = (0.0, -0.0, 1.0, 1.0, 2.0, -1.0, 3.0, float("inf"), float("-inf"), float("nan"))
PLAIN = (0.0, 1.0, 1.0, 2.0, 3.0, 2.0)
SHAPES = ((), (1,), (3,), (4,), (2, 3), (3, 2), (1, 3), (2, 0), (0,), (2, 2, 3), (3, 1))
TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 1e-5}
REDUCTIONS: dict[str, Callable[[Any, Any, dict[str, Any]], Any]] = {
    **{
        name: lambda p, x, how, name=name: getattr(p, name)(x, **how)
        for name in (
            *("sum", "prod", "mean", "amax", "amin", "max", "min", "any", "all", "nansum"),
            *("nanmean", "std", "var", "aminmax"),
        )
    },
    "argmax": lambda p, x, how: x.argmax(**how) if x.dtype != p.bool else x,
    "argmin": lambda p, x, how: x.argmin(**how) if x.dtype != p.bool else x,
    "cumsum": lambda p, x, how: x.cumsum(how.get("dim", 0)),
    "cumprod": lambda p, x, how: x.detach().cumprod(how.get("dim", 0)),
    "cummax": lambda p, x, how: x.cummax(how.get("dim", 0)) if x.numel() else x,
    "sort": lambda p, x, how: p.sort(x, dim=how.get("dim", 0), stable=True),
    "logsumexp": lambda p, x, how: x.logsumexp(how.get("dim", 0)),
    "median": lambda p, x, how: x.float().median(how.get("dim", 0))[0],
    "norm": lambda p, x, how: p.linalg.vector_norm(x, 2, **how),
    "maximum": lambda p, x, how: p.maximum(x, x.flip(0) if x.ndim else x),
    "fmin": lambda p, x, how: p.fmin(x, x.flip(0) if x.ndim else x),
}
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "pow": operator.pow, "eq": operator.eq,
    "lt": operator.lt, "and": operator.and_, "iadd": operator.iadd, "isub": operator.isub,
    "imul": operator.imul, "itruediv": operator.itruediv, "ifloordiv": operator.ifloordiv,
}  # fmt: skip


def tensor(package: Any, numbers: Any, dtype: str) -> Any:
    made = package.tensor(np.asarray(numbers).tolist(), dtype=package.float64)
    return made.reshape(np.shape(numbers)).to(getattr(package, dtype))


def drawn(package: Any, draw: random.Random) -> tuple[Any, bool]:
    """A tensor, and whether its gradient is asked for."""
    shape, dtype = draw.choice(SHAPES), draw.choice(DTYPES)
    pool = SPECIAL if dtype in FLOATS and draw.random() < 0.6 else PLAIN
    host = np.array([draw.choice(pool) for _ in range(int(np.prod(shape)))])
    x = tensor(package, host.reshape(shape), dtype)
    return x, dtype == "float64" and pool is PLAIN


def reduced(package: Any, seed: int) -> tuple[Any, list[Any]]:
    draw = random.Random(seed)
    name, dim = draw.choice(list(REDUCTIONS)), draw.choice([None, 0, -1, 1])
    x, differentiated = drawn(package, draw)
    how = {} if dim is None else {"dim": dim, "keepdim": draw.random() < 0.5}
    if differentiated:
        x.requires_grad_()
    out = REDUCTIONS[name](package, x, how)
    outs = list(out) if isinstance(out, (list, tuple)) else [out]
    total = sum((t * 1.5).sum() for t in outs if t.requires_grad)
    if differentiated and isinstance(total, type(x)):
        outs += package.autograd.grad(total, [x])
    return (name, how, tuple(x.shape), str(x.dtype)), outs


def combined(package: Any, seed: int) -> tuple[Any, list[Any]]:
    draw = random.Random(seed)
    name, kind = draw.choice(list(OPERATORS)), draw.choice(["tensor", "0-d", "number"])
    x, _ = drawn(package, draw)
    view = x[0] if x.ndim and x.shape[0] and draw.random() < 0.4 else x
    other: Any = draw.choice([0, 1, 2, 3, 0.5, -1.5, True])
    if kind != "number":
        shape = tuple(view.shape) if kind == "tensor" else ()
        other = tensor(package, np.full(shape, draw.choice([1.0, 2.0, 3.0])), draw.choice(DTYPES))
    return (name, tuple(x.shape), str(x.dtype), other), [OPERATORS[name](view, other), x]


def outcome(program: Any, package: Any, seed: int) -> tuple[Any, list[Any] | Exception]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return program(package, seed)
        except Exception as error:
            return seed, error


@pytest.mark.parametrize("program", [reduced, combined])
@pytest.mark.parametrize("start", range(0, 10 * PER_TEST, PER_TEST))
def test_numbers_as_pytorch(start: int, program: Any) -> None:
    compared = 0
    for seed in range(start, start + PER_TEST):
        (told, theirs), (_, ours) = (outcome(program, each, seed) for each in (torch, gradient))
        if isinstance(theirs, NotImplementedError):
            continue  # PyTorch has no kernel of the dtype
        if isinstance(theirs, Exception) or isinstance(ours, Exception):
            assert isinstance(ours, Exception), f"{seed}: {theirs!r}, {ours!r}"
            assert isinstance(theirs, Exception), f"{seed}: {told}: {ours!r}"
            continue
        compared += 1
        for mine, torchs in zip(ours, theirs, strict=True):
            dtype = str(torchs.dtype).partition(".")[2]
            assert str(mine.dtype).partition(".")[2] == dtype, f"{seed}: {told}"
            assert tuple(mine.shape) == tuple(torchs.shape), f"{seed}: {told}"
            by = TOLERANCE.get(dtype, 1e-9)
            np.testing.assert_allclose(
                mine.tolist(), torchs.tolist(), rtol=by, atol=by, err_msg=f"{seed}: {told}"
            )
    assert compared > PER_TEST // 3
