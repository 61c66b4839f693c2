"""Numbers that are written to tensors, and fill them: PyTorch's values, and its kinds of error."""

from __future__ import annotations

from typing import Any

import pytest

import gradient

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool",
    "complex64",
)  # fmt: skip
NUMBERS = (
    1j, 1 + 0j, 1e300, -1e39, 3.5e38, 70000.0, 10**400, -(10**400), 2**63, 2**64, -(2**63) - 1,
    -(2**63), 2**31, 300, -1, -200, float("inf"), float("nan"), 2.7, -2.7, True, 2**53 + 1, 10**25,
    -0.0,
)  # fmt: skip
CALLS = {
    "setitem": lambda p, x, v: x.__setitem__(0, v),
    "setitem of all": lambda p, x, v: x.__setitem__(slice(None), v),
    "setitem at an index": lambda p, x, v: x.__setitem__([0], v),
    "setitem at a mask": lambda p, x, v: x.__setitem__(x == 0, v),
    "fill_": lambda p, x, v: x.fill_(v),
    "full_like": lambda p, x, v: p.full_like(x, v),
    "full": lambda p, x, v: p.full((2,), v, dtype=x.dtype),
    "new_full": lambda p, x, v: x.new_full((2,), v),
    "masked_fill": lambda p, x, v: x.masked_fill(x == 0, v),
    "index_fill": lambda p, x, v: x.index_fill(0, p.tensor([0]), v),
    "fill_diagonal_": lambda p, x, v: x.new_zeros(2, 2).fill_diagonal_(v),
}
KINDS = (OverflowError, TypeError, ValueError, RuntimeError)


def outcome(package: Any, dtype: str, name: str, number: Any) -> tuple[str, Exception | None]:
    x = package.zeros(2, dtype=getattr(package, dtype))
    try:
        out = CALLS[name](package, x, number)
    except Exception as error:
        return f"error; x is {x.tolist()}", error
    return str((x.tolist(), None if out is None else out.tolist())), None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CALLS)
def test_numbers_are_written_as_pytorch_writes_them(name: str, dtype: str) -> None:
    for number in NUMBERS:
        expected, error = outcome(torch, dtype, name, number)
        found, own = outcome(gradient, dtype, name, number)
        assert found == expected, number
        if error is not None:
            kind = next(kind for kind in KINDS if isinstance(error, kind))
            assert isinstance(own, kind), number
