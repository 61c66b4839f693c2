"""`vmap` of functions that write in place to what they are given: memory, views and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.errors import AutogradError
from gradient.func import vmap
from gradient.testing import assert_close

ROWS = np.sin(np.arange(12.0)).reshape(3, 4)
WEIGHTS = gradient.tensor(np.cos(np.arange(12.0)).reshape(3, 4))


def item(x: Any, w: Any) -> Any:
    x[2] = w[0].clone() * x[1].clone()
    return x.clone() ** 2


def view_of_view(x: Any, w: Any) -> Any:
    x[1:][1:].add_(w[0])
    return x


def reshaped(x: Any, w: Any) -> Any:
    x.view(2, 2)[1].mul_(3.0)
    return x.clone() ** 2


def by_itself(x: Any, w: Any) -> Any:
    x[1:].mul_(x[0].clone())
    return x.clone() * w.clone()


def copied(x: Any, w: Any) -> Any:
    x.copy_(w.clone() * x.clone())
    return x.clone()


def zeroed(x: Any, w: Any) -> Any:
    x[:2].zero_()
    return x.clone() ** 2


def to_shared(x: Any, w: Any) -> Any:
    w.mul_(2.0)
    return x.clone() * w.clone()


def to_part_of_shared(x: Any, w: Any) -> Any:
    w[1:].mul_(w[0].clone())
    return x.clone() * w.clone()


def once(function: Callable[..., Any], rows: Any, w: Any) -> Any:
    """What `vmap` does with a function that writes to the shared w: it writes once."""
    function(rows[0], w)
    return gradient.stack([row.clone() * w.clone() for row in rows])


@pytest.mark.parametrize("batch", ["rows", "columns", "a copy with other strides"])
@pytest.mark.parametrize(
    "function",
    [item, view_of_view, reshaped, by_itself, copied, zeroed, to_shared, to_part_of_shared],
)
def test_gradients_go_through_what_a_function_writes(
    function: Callable[..., Any], batch: str
) -> None:
    found: list[list[Any]] = []
    for loop in (False, True):
        x, w = gradient.tensor(ROWS).requires_grad_(), gradient.tensor(ROWS[0]).requires_grad_()
        base, shared = x * 1.0, w * 1.0
        view = base[0]  # taken before
        given = {"rows": base, "columns": base.t()}.get(batch)
        if given is None:
            given = base.t().contiguous().t() * 1.0
        dim = int(batch == "columns")
        if function is reshaped and batch != "rows":
            return  # its samples are not contiguous
        if not loop:
            out = vmap(function, (dim, None))(given, shared)
        elif function in (to_shared, to_part_of_shared):
            out = once(function, given.unbind(dim), shared)
        else:
            out = gradient.stack([function(row, shared).clone() for row in given.unbind(dim)])
        loss = (out * WEIGHTS).sum() + (base * WEIGHTS * 2).sum() + (view * view).sum()
        loss = loss + (shared**2).sum() + (given**3).sum()
        grads = gradient.autograd.grad(loss, (x, w), create_graph=True)
        squares = sum((g * g).sum() for g in grads)
        second = gradient.autograd.grad(squares, (x, w), materialize_grads=True)
        found.append([t.detach() for t in (out, base, view, given, shared, *grads, *second)])
    assert_close(found[0], found[1])


def test_a_shared_result_of_no_samples_has_its_gradient() -> None:
    w = gradient.ones(2).requires_grad_()
    vmap(lambda x, w: w * 3, (0, None), None)(gradient.zeros(0, 2), w).sum().backward()
    assert_close(w.grad, gradient.full((2,), 3.0))


def test_a_leaf_is_not_written_unless_under_no_grad() -> None:
    x = gradient.ones(3, 2).requires_grad_()
    for function in (lambda r: r.mul_(2), lambda r: r[:1].mul_(2)):
        with pytest.raises(AutogradError, match="leaf"):
            vmap(function)(x)
        with pytest.raises(AutogradError, match="leaf"):
            vmap(lambda y, r, f=function: f(r), (0, None))(gradient.ones(2), x)
    assert x.equal(gradient.ones(3, 2))
    with gradient.no_grad():
        vmap(lambda r: r.mul_(2))(x)
    assert x.equal(gradient.full((3, 2), 2.0))


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
        seen.extend([a.is_contiguous(), a.t().is_contiguous(), a[1:].storage_offset()])
        return a.t().contiguous().view(-1)

    assert_close(vmap(function)(x), gradient.stack([a.t().reshape(-1) for a in x]))
    assert seen == [True, False, 4]
    seen.clear()
    found = vmap(function, 1)(x.movedim(0, 1).contiguous())
    assert_close(found, gradient.stack([a.t().reshape(-1) for a in x]))
    part = vmap(lambda a: a[1:].as_strided((2,), (2,)))(x)
    assert_close(part, gradient.stack([a[1, ::2] for a in x]))
