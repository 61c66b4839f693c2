"""NumPy's universal functions of tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.errors import AutogradError
from gradient.tensor.ufuncs import OPERATORS

pytestmark = pytest.mark.cpu_only

ARRAY = np.array([2, 0, -3, 5])
SYMBOLS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "power": operator.pow,
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
}


@pytest.mark.parametrize("ufunc", OPERATORS, ids=lambda each: each.__name__)
def test_operators_with_an_array_on_either_side(ufunc: np.ufunc) -> None:
    symbol = SYMBOLS[ufunc.__name__]
    other = np.array([1, 2, 3, 2])
    expected = ufunc(ARRAY, other)
    for a, b in [
        (ARRAY, gradient.tensor(other)),
        (gradient.tensor(ARRAY), other),
        (gradient.tensor(ARRAY), gradient.tensor(other)),
    ]:
        for found in (symbol(a, b), ufunc(a, b)):
            assert isinstance(found, gradient.Tensor)
            np.testing.assert_allclose(found.numpy(), expected)


def test_operators_keep_the_graph() -> None:
    x = gradient.tensor([1.0, 2.0], requires_grad=True)
    array = np.array([3.0, 5.0], np.float32)
    (np.multiply(array, x) + array * x + np.float32(2) * x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [8.0, 12.0]


def test_functions_give_tensors() -> None:
    x = gradient.tensor([0.0, 0.5, np.nan])
    np.testing.assert_array_equal(np.sin(x).numpy(), np.sin(x.numpy()))
    assert np.isnan(x).tolist() == [False, False, True]
    assert [each.tolist() for each in np.divmod(gradient.tensor([5, 7]), 4)] == [[1, 1], [1, 3]]
    assert np.add.reduce(gradient.ones(3)).item() == 3.0
    assert np.add([1, 2], gradient.tensor([3, 4])).tolist() == [4, 6]
    assert (np.ones((2, 3)) @ gradient.ones(3)).tolist() == [3.0, 3.0]
    assert np.exp(gradient.ones(0)).shape == (0,)
    assert np.sqrt(gradient.tensor(4.0)).shape == ()
    y = np.negative(x[::2])
    y[0] = 7.0  # no memory of x
    assert x[0].item() == 0.0


def test_out_is_an_array() -> None:
    total = np.zeros(2)
    total += gradient.ones(2)
    assert type(total) is np.ndarray and total.tolist() == [1.0, 1.0]
    assert np.add(gradient.ones(2), 1, out=total) is total
    np.add.at(total, [0, 0], gradient.ones(2))
    assert total.tolist() == [4.0, 2.0]
    with pytest.raises(TypeError, match="NotImplemented"):
        np.add(total, 1, out=gradient.ones(2))


def test_what_requires_grad_is_refused() -> None:
    with pytest.raises(AutogradError, match=r"detach\(\)"):
        np.sin(gradient.ones(2, requires_grad=True))
