"""The dtype of a result: PyTorch's, for every pair of dtypes and kinds of operand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402

DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
)  # fmt: skip
KINDS = {"tensor": (2,), "0-d": ()}
NUMBERS = {"bool": True, "int": 3, "float": 2.5}
OPERANDS = [*itertools.product(KINDS, DTYPES), *(("number", name) for name in NUMBERS)]
TENSORS = [o for o in OPERANDS if o[0] != "number"]


def operand(library: Any, kind: str, name: str) -> Any:
    if kind == "number":
        return NUMBERS[name]
    return library.ones(KINDS[kind], dtype=getattr(library, name))


def name_of(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


@pytest.mark.parametrize("first", TENSORS, ids="-".join)
def test_result_type(first: tuple[str, str]):
    for second in OPERANDS:
        ours = gradient.result_type(operand(gradient, *first), operand(gradient, *second))
        theirs = torch.result_type(operand(torch, *first), operand(torch, *second))
        assert name_of(ours) == name_of(theirs), f"{first} with {second}"
        swapped = gradient.result_type(operand(gradient, *second), operand(gradient, *first))
        assert swapped is ours, f"{second} with {first}"


def test_promote_types():
    for a, b in itertools.product(DTYPES, DTYPES):
        ours = gradient.promote_types(getattr(gradient, a), getattr(gradient, b))
        theirs = torch.promote_types(getattr(torch, a), getattr(torch, b))
        assert name_of(ours) == name_of(theirs), f"{a} with {b}"


def test_can_cast():
    for a, b in itertools.product(DTYPES, DTYPES):
        ours = gradient.can_cast(getattr(gradient, a), getattr(gradient, b))
        assert ours == torch.can_cast(getattr(torch, a), getattr(torch, b)), f"{a} to {b}"


OPERATIONS = {
    "add": lambda lib, a, b: lib.add(a, b),
    "mul": lambda lib, a, b: lib.mul(a, b),
    "sub": lambda lib, a, b: lib.sub(a, b),
    "div": lambda lib, a, b: lib.div(a, b),
    "floor_divide": lambda lib, a, b: lib.floor_divide(a, b),
    "remainder": lambda lib, a, b: lib.remainder(a, b),
    "pow": lambda lib, a, b: lib.pow(a, b),
    "eq": lambda lib, a, b: lib.eq(a, b),
    "lt": lambda lib, a, b: lib.lt(a, b),
    "maximum": lambda lib, a, b: lib.maximum(a, b),
    "where": lambda lib, a, b: lib.where(lib.tensor(True), a, b),
    "atan2": lambda lib, a, b: lib.atan2(a, b),
    "copysign": lambda lib, a, b: lib.copysign(a, b),
    "hypot": lambda lib, a, b: lib.hypot(a, b),
    "logaddexp": lambda lib, a, b: lib.logaddexp(a, b),
    "xlogy": lambda lib, a, b: lib.xlogy(a, b),
    "fmax": lambda lib, a, b: lib.fmax(a, b),
    "heaviside": lambda lib, a, b: lib.heaviside(a, b),
    "float_power": lambda lib, a, b: lib.float_power(a, b),
    "logical_and": lambda lib, a, b: lib.logical_and(a, b),
    "bitwise_or": lambda lib, a, b: lib.bitwise_or(a, b),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations(operation: str):
    """The dtype of the result; where PyTorch refuses, so does gradient, or it gives more."""
    run = OPERATIONS[operation]
    for first, second in itertools.product(TENSORS, OPERANDS):
        try:
            theirs = run(torch, operand(torch, *first), operand(torch, *second))
        except (RuntimeError, TypeError, NotImplementedError):
            continue
        ours = run(gradient, operand(gradient, *first), operand(gradient, *second))
        if operation == "pow" and ours.dtype is gradient.int8 and theirs.dtype is torch.bool:
            continue  # a bool to the power of a bool is an int8 here, as in NumPy
        assert name_of(ours.dtype) == name_of(theirs.dtype), f"{first} with {second}"
        np.testing.assert_allclose(ours.tolist(), theirs.tolist(), rtol=1e-2)


UNARY = (
    "abs", "neg", "exp", "log", "sqrt", "rsqrt", "sin", "tanh", "sigmoid", "floor", "ceil", "round",
    "trunc", "sign", "square", "reciprocal", "isnan", "isinf", "isfinite", "erf", "log1p", "expm1",
    "relu", "logical_not", "bitwise_not", "frac", "sum", "prod", "mean", "cumsum", "cumprod",
    "argmax", "amax", "max", "all", "any", "std", "var", "softmax", "logsumexp", "sort", "median",
    "count_nonzero", "norm",
)  # fmt: skip
ALONG = {"cumsum", "cumprod", "softmax", "logsumexp"}


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.filterwarnings("ignore")
def test_functions_of_one_tensor(name: str):
    for dtype in DTYPES:
        dim = (0,) if name in ALONG else ()
        try:
            theirs = getattr(torch.ones(2, dtype=getattr(torch, dtype)), name)(*dim)
        except (RuntimeError, TypeError, NotImplementedError):
            continue
        ours = getattr(gradient.ones(2, dtype=getattr(gradient, dtype)), name)(*dim)
        if name in ("all", "any") and dtype == "uint8":
            continue  # PyTorch gives uint8, against the array API's bool
        if isinstance(theirs, tuple):
            ours, theirs = ours[0], theirs[0]
        assert name_of(ours.dtype) == name_of(theirs.dtype), dtype


@pytest.mark.parametrize("default", ["float64", "float32", "float16", "bfloat16"])
def test_the_default_dtype(default: str):
    before = gradient.get_default_dtype(), torch.get_default_dtype()
    try:
        gradient.set_default_dtype(getattr(gradient, default))
        torch.set_default_dtype(getattr(torch, default))
        for make in (
            lambda lib: lib.tensor(1.5),
            lambda lib: lib.ones(2),
            lambda lib: lib.arange(3) / 2,
            lambda lib: lib.arange(3) + 1.5,
            lambda lib: lib.arange(0.0, 1.0, 0.25),
            lambda lib: lib.exp(lib.arange(3)),
            lambda lib: lib.tensor([True, False]) * 1.5,
            lambda lib: lib.full((2,), 1.5),
            lambda lib: lib.randn(2),
        ):
            assert name_of(make(gradient).dtype) == name_of(make(torch).dtype)
    finally:
        gradient.set_default_dtype(before[0])
        torch.set_default_dtype(before[1])
