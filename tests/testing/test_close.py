"""`assert_close` of structures, and `make_tensor`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.testing import assert_allclose, assert_close, make_tensor

x, y = gradient.tensor([1.0, 2.0]), gradient.tensor([1.0, 3.0])


@pytest.mark.parametrize(
    ("actual", "expected", "options"),
    [
        ([x, y], (x, y), {}),
        ({"a": [x, 1.0], "b": None}, {"b": None, "a": (x, 1.0 + 1e-9)}, {}),
        ([], (), {}),
        (x, x.numpy(), {}),
        (np.ones(2), [1.0, 1.0], {}),
        ([1.0, float("nan")], [1.0, float("nan")], {"equal_nan": True}),
        ([x, [y]], [x, [x]], {"atol": 1.0, "rtol": 0}),
        (gradient.ones(2, 2), gradient.ones(2, 2).t(), {}),
        (True, True, {"check_layout": False, "allow_subclasses": False}),
    ],
)
def test_what_is_close(actual: Any, expected: Any, options: Any) -> None:
    assert_close(actual, expected, **options)


@pytest.mark.parametrize(
    ("actual", "expected", "options", "message"),
    [
        ([x, y], [x, x], {}, r"^item \[1\]: 1 of 2 elements differ"),
        ({"a": [x, y]}, {"a": [x, x]}, {}, r"^item \['a'\]\[1\]: 1 of 2"),
        ([x], [x, y], {}, "lengths differ: 1 and expected 2"),
        ({"a": 1}, {"b": 1}, {}, r"""missing \["'b'"\], additional \["'a'"\]"""),
        ([x], [x.double()], {}, r"item \[0\]: dtypes differ"),
        (x, y, {"msg": "loss"}, "^loss\n1 of 2"),
        (x, y, {"msg": lambda said: f"seed 3: {said}"}, "^seed 3: 1 of 2"),
        (
            gradient.ones(2, 2),
            gradient.ones(2, 2).t(),
            {"check_stride": True},
            r"strides differ: \(2, 1\) and expected \(1, 2\)",
        ),
        (True, False, {}, "1 of 1 elements differ"),
        (2**63 - 1, 2**63 - 2, {}, "9223372036854775807.*expected .*9223372036854775806"),
        ([5, 2**62], [5, 2**62 + 1], {}, r"item \[1\]: 1 of 1 elements differ"),
        ([None], [x], {}, r"item \[0\]: None, expected tensor"),
        (x, None, {}, "expected None"),
    ],
)
def test_what_is_not(actual: Any, expected: Any, options: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_close(actual, expected, **options)


def test_words_are_not_compared() -> None:
    with pytest.raises(TypeError, match="assert_close: expected tensors, arrays and numbers"):
        assert_close("a", "a")
    with pytest.raises(TypeError, match="assert_close"):
        assert_close(["a"], [x])


def test_the_older_form_looks_at_values_alone() -> None:
    assert_allclose(x, [1.0, 2.0])
    assert_allclose(x.double(), x)
    assert_allclose(float("nan"), float("nan"))
    with pytest.raises(AssertionError, match="1 of 2"):
        assert_allclose(x, y)


RANGES = {
    "bool": (0, 1), "uint8": (0, 9), "int8": (-9, 9), "int64": (-9, 9),
    "float16": (-9, 9), "bfloat16": (-9, 9), "float32": (-9, 9), "float64": (-9, 9),
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_values_are_in_the_range_of_their_dtype(name: str) -> None:
    dtype, (least, most) = getattr(gradient, name), RANGES[name]
    drawn = make_tensor(50, 40, dtype=dtype, device="cpu")
    assert (drawn.shape, drawn.dtype) == ((50, 40), dtype)
    assert least <= drawn.double().min() < drawn.double().max() <= most
    assert make_tensor((0, 3), dtype=dtype).shape == (0, 3)
    assert make_tensor((), dtype=dtype).shape == make_tensor(dtype=dtype).shape == ()


def test_limits_of_values() -> None:
    ints = make_tensor(200, dtype=gradient.int32, low=-2.5, high=2.5)
    assert sorted(set(ints.tolist())) == [-2, -1, 0, 1, 2]
    bytes_ = make_tensor(500, dtype=gradient.int8, low=-math.inf, high=math.inf)
    assert bytes_.min() < -100 and bytes_.max() > 100
    assert make_tensor(9, dtype=gradient.int8, low=3, high=4, exclude_zero=True).tolist() == [3] * 9
    ones = make_tensor(20, dtype=gradient.bool, low=0, high=1, exclude_zero=True)
    assert ones.all()
    half = make_tensor(5000, dtype=gradient.bfloat16, low=0.0, high=1.0)
    assert half.max() < 1
    wide = make_tensor(100, dtype=gradient.float64, low=-1e308, high=1e309)
    assert wide.isfinite().all() and wide.max() > 1e307
    parts = make_tensor(100, dtype=gradient.complex64, low=2, high=3)
    assert parts.real.min() >= 2 and parts.imag.max() < 3
    assert make_tensor(2, dtype=gradient.float32, low=1, high=1).tolist() == [1, 1]


def test_layout_and_gradient() -> None:
    apart = make_tensor(2, 3, dtype=gradient.float32, noncontiguous=True, requires_grad=True)
    assert apart.stride() == (6, 2) and not apart.is_contiguous()
    assert apart.is_leaf and apart.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float32", "low": 1, "high": 0}, "low below high, got 1 and 0"),
        ({"dtype": "int32", "low": 1, "high": 1}, "low below high"),
        ({"dtype": "float32", "low": float("nan")}, "limits that are numbers"),
        ({"dtype": "int32", "requires_grad": True}, "a floating-point dtype where requires_grad"),
        (
            {"dtype": "float32", "noncontiguous": True, "memory_format": "channels_last"},
            "exclude each other",
        ),
    ],
)
def test_refused_arguments(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_tensor(2, **options)
