"""`Tensor(...)`, `FloatTensor(...)` and `x.new(...)`: what is data and what is a shape."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest

import gradient

FORMS: dict[str, Any] = {
    "Tensor": lambda *data, **options: gradient.Tensor(*data, **options),
    "FloatTensor": lambda *data, **options: gradient.FloatTensor(*data, **options),  # type: ignore[attr-defined]
    "new": lambda *data, **options: gradient.zeros(1).new(*data, **options),
}
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@each_form
def test_a_shape_is_not_data(form: Any) -> None:
    shape = gradient.zeros(4, 2).shape
    assert form(shape).shape == form(size=(4, 2)).shape == form(4, np.int64(2)).shape == (4, 2)
    assert form(gradient.tensor(4), 2).shape == (4, 2)
    assert form(gradient.Size([])).shape == () and form().shape == (0,)
    assert form(3, device="cpu").shape == (3,)


@each_form
@pytest.mark.parametrize("data", [[4, 2], (4, 2), np.array([4, 2]), deque([4, 2]), range(4, 1, -2)])
def test_a_sequence_is_data(form: Any, data: Any) -> None:
    assert form(data).tolist() == [4.0, 2.0] and form(data).dtype is gradient.float32


@each_form
def test_a_tensor_is_shared(form: Any) -> None:
    x = gradient.ones(3)
    y = form(x)
    x[0] = 5
    assert y.tolist() == [5.0, 1.0, 1.0] and y is not x
    x.requires_grad_()
    form(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1.0] * 3


def test_which_dtypes_are_shared() -> None:
    whole = gradient.ones(2, dtype=gradient.int64)
    assert gradient.Tensor(whole).dtype is gradient.int64
    for name in ("FloatTensor", "new"):
        with pytest.raises(
            TypeError, match="expected a Tensor of gradient.float32, got gradient.i"
        ):
            FORMS[name](whole)


@each_form
@pytest.mark.parametrize("data", [2.5, True, None, "ab", b"ab", {1, 2}])
def test_what_is_neither_is_refused(form: Any, data: Any) -> None:
    with pytest.raises(TypeError, match="a sequence, an array, a Tensor, or sizes, got"):
        form(data)


def test_tensor_as_a_type_is_the_default_dtype():
    x = gradient.ones(2, dtype=gradient.int64).type(gradient.Tensor)
    assert x.dtype is gradient.float32 and x.type(gradient.Tensor) is x
