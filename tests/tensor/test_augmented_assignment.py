"""`x += y` and its like: what arrays do where they lie gives what ops give, and is noted."""

from __future__ import annotations

import contextlib
import math
import operator
import warnings

import numpy as np
import pytest

import gradient

DIRECT = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}

OPERANDS = {
    "int": lambda x: 2,
    "float": lambda x: -0.75,
    "zero": lambda x: 0.0,
    "infinity": lambda x: float("inf"),
    "NaN": lambda x: float("nan"),
    "of one shape": lambda x: gradient.arange(9.0).reshape(3, 3).to(x.dtype),
    "a row": lambda x: gradient.arange(3.0).to(x.dtype),
    "a number": lambda x: gradient.tensor(3.0, dtype=x.dtype),
    "integers": lambda x: gradient.arange(3),
    "itself": lambda x: x,
    "its transpose": lambda x: x.t(),
    "its row": lambda x: x[1],
}


@pytest.mark.parametrize("given", OPERANDS)
@pytest.mark.parametrize("assign", DIRECT, ids=lambda each: each.__name__)
@pytest.mark.parametrize("dtype", [gradient.float32, gradient.float64, gradient.bfloat16])
def test_gives_what_the_op_gives_in_the_same_memory(assign, given, dtype, device):
    x = gradient.tensor([[0.0, -1.5, 2.0], [3.0, 0.0, 1e30], [-4.0, 5.5, 6.0]], device=device)
    x = x.to(dtype)
    base, row = x, x[0]
    y = OPERANDS[given](x)
    y = y.to(device) if isinstance(y, gradient.Tensor) else y
    with np.errstate(all="ignore"):
        expected = DIRECT[assign](x.clone(), y.clone() if y is x else y)
        x = assign(x, y)
    assert x is base and x.dtype is dtype
    assert gradient.allclose(x.double(), expected.double(), rtol=0, atol=0, equal_nan=True)
    assert gradient.allclose(row.double(), x[0].double(), rtol=0, atol=0, equal_nan=True)


def test_sizes(device):
    for size in ((), (0,), (0, 3), (1,)):
        x = gradient.ones(size, device=device)
        same = x
        x += 2
        assert x is same and x.shape == size and bool((x == 3).all())
    x = gradient.ones(4, 4, device=device)[::2, 1:]
    x *= 3
    assert x.tolist() == [[3, 3, 3]] * 2


def test_what_does_not_fit_is_said_as_by_the_op(device):
    x = gradient.ones(3, device=device)
    with pytest.raises(RuntimeError, match=r"output with shape \[3\] doesn't match"):
        x += gradient.ones(2, 3, device=device)
    with pytest.raises(RuntimeError, match="add"):
        x += gradient.ones(2, device=device)
    assert x.tolist() == [1, 1, 1]


@pytest.mark.cpu_only
def test_read_only_memory_is_not_written():
    x = gradient.ones(1).expand(3)
    with pytest.raises(RuntimeError, match="clone"):
        x += gradient.arange(3.0)


def test_a_graph_notices(device):
    x, w = gradient.ones(3, device=device), gradient.ones(3, device=device, requires_grad=True)
    y = (x * w).sum()
    x += 1
    with pytest.raises(RuntimeError, match=r"saved its 'a'.*add_ .*test_augmented_assignment"):
        y.backward()
    version = x._version
    x -= 1
    assert x._version > version


def test_a_leaf_outside_its_graph(device):
    w = gradient.ones(3, device=device, requires_grad=True)
    with gradient.no_grad():
        w -= 0.5 * gradient.ones(3, device=device)
        w *= w
    assert w.requires_grad and w.is_leaf and w.tolist() == [0.25] * 3
    with pytest.raises(RuntimeError, match="leaf"):
        w += 1


def test_gradients_go_through_it(device):
    w = gradient.ones(3, device=device, requires_grad=True)
    x = gradient.zeros(2, 3, device=device)
    row = x[0]
    row += 2 * w  # a view: what it is of has a graph, too
    x /= 4
    x.sum().backward()
    assert w.grad.tolist() == [0.5] * 3


def test_a_warning_of_numpy_that_is_an_error_comes_after_one_write():
    """And the operator is not applied again."""
    for change, expected in (
        (lambda x: x.__itruediv__(gradient.tensor([0.0, 2.0])), [math.inf, 1.0]),
        (lambda x: x.__imul__(gradient.tensor([3e38, 3.0])), [math.inf, 6.0]),
    ):
        x = gradient.tensor([4.0, 2.0])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with contextlib.suppress(RuntimeError):
                change(x)
        assert x.tolist() in ([4.0, 2.0], expected)


METHODS = {
    operator.iadd: ("add_",),
    operator.isub: ("sub_", "subtract_"),
    operator.imul: ("mul_", "multiply_"),
    operator.itruediv: ("div_", "divide_", "true_divide_"),
}


@pytest.mark.parametrize("given", OPERANDS)
@pytest.mark.parametrize("assign", METHODS, ids=lambda each: each.__name__)
def test_methods_with_one_argument_are_augmented_assignment(assign, given, device):
    for name in METHODS[assign]:
        for dtype in (gradient.float32, gradient.bfloat16):
            x = gradient.tensor([[0.0, -1.5, 2.0], [3.0, 0.0, 1e30], [-4.0, 5.5, 6.0]])
            x = x.to(device, dtype)
            y, other = x.clone(), x.clone()
            x_given, y_given, other_given = (
                each.to(device) if isinstance(each, gradient.Tensor) else each
                for each in map(OPERANDS[given], (x, y, other))
            )
            with np.errstate(all="ignore"):
                assert getattr(x, name)(x_given) is x
                assign(y, y_given)
                getattr(other, name)(other=other_given)
            for same in (y, other):
                assert gradient.allclose(x.double(), same.double(), rtol=0, atol=0, equal_nan=True)


def test_methods_take_what_their_other_forms_take(device):
    x = gradient.full((3,), 7.0, device=device)
    assert x.add_(2, alpha=3).tolist() == [13] * 3
    assert x.sub_(other=1).tolist() == [12] * 3
    assert x.div_(5, rounding_mode="floor").tolist() == [2] * 3
    for wrong in ((), (1, 2), ("a",)):
        with pytest.raises(TypeError):
            x.add_(*wrong)
    with pytest.raises(RuntimeError, match=r"mul_: output with shape \[3\]"):
        x.mul_(gradient.ones(2, 3, device=device))
    assert x.tolist() == [2] * 3
    w = gradient.ones(3, device=device, requires_grad=True)
    with pytest.raises(RuntimeError, match="add_: a leaf"):
        w.add_(1)
    y = (x * w).sum()
    x.add_(1)
    with pytest.raises(RuntimeError, match=r"saved its 'a'.*add_ .*test_augmented_assignment"):
        y.backward()
