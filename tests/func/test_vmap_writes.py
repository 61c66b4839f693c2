"""`vmap` of functions that write in place to what they are given: memory, views and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.func import vmap
from gradient.testing import assert_close

ROWS = np.sin(np.arange(12.0)).reshape(3, 4)


NEW: dict[str, Callable[[Any], Any]] = {
    "zeros_like": lambda x: gradient.zeros_like(x, device=x.device),
    "empty_like": lambda x: gradient.empty_like(x, device="cpu", dtype=x.dtype),
    "new_zeros": lambda x: x.new_zeros(4, device=x.device),
    "new_full": lambda x: x.new_full((1, 4), 2.0, device="cpu")[0],
    "new_tensor": lambda x: x.new_tensor([1.0] * 4, device=x.device),
}


@pytest.mark.parametrize("name", NEW)
def test_new_tensors_on_the_device_of_a_sample_are_written(name: str) -> None:
    x = gradient.tensor(ROWS)
    assert_close(vmap(lambda a: NEW[name](a).copy_(a))(x), x)


def test_the_layout_is_that_of_a_sample() -> None:
    x = gradient.tensor(np.arange(24.0).reshape(3, 2, 4))
    seen: list[Any] = []

    def function(a: Any) -> Any:
        seen.extend([a.is_contiguous(), a.t().is_contiguous()])
        return a.t().contiguous().view(-1)

    assert_close(vmap(function)(x), gradient.stack([a.t().reshape(-1) for a in x]))
    assert seen == [True, False]
    seen.clear()
    found = vmap(function, 1)(x.movedim(0, 1).contiguous())
    assert_close(found, gradient.stack([a.t().reshape(-1) for a in x]))
