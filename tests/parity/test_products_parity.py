"""Products that are added by weight, and einsum's two forms, under both packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

from support.both_packages import assert_alike  # noqa: E402

SIZES = {
    "addmm": ((2, 2), (2, 3), (3, 2)),
    "addmv": ((2,), (2, 3), (3,)),
    "addbmm": ((2, 2), (4, 2, 3), (4, 3, 2)),
    "baddbmm": ((2, 8, 8), (2, 8, 9), (2, 9, 8)),  # smaller ones PyTorch multiplies by itself
    "addr": ((2, 3), (2,), (3,)),
}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.0])
@pytest.mark.parametrize(("beta", "alpha"), [(0, 1), (1, 0), (0, 0), (0.5, 0)])
@pytest.mark.parametrize("name", SIZES)
def test_what_a_weight_of_zero_stands_before(name, beta, alpha, value):
    def weighted(t: Any) -> Any:
        x, a, b = (
            t.full(size, value if weight == 0 else 2.0, dtype=t.float64, requires_grad=True)
            for size, weight in zip(SIZES[name], (beta, alpha, alpha), strict=True)
        )
        out = getattr(t, name)(x, a, b, beta=beta, alpha=alpha)
        return (out, *t.autograd.grad(out, [x, a, b], t.ones_like(out)))

    assert_alike(weighted)


@pytest.mark.parametrize("name", ["addmm", "addmv", "addbmm", "baddbmm"])
def test_products_of_nothing(name):
    def weighted(t: Any) -> Any:
        sizes = [tuple(0 if n in (3, 9) else n for n in size) for size in SIZES[name]]
        x, a, b = (t.full(size, float("nan")) for size in sizes)
        return getattr(t, name)(x, a, b, beta=0)

    assert_alike(weighted)


def ab(t: Any) -> Any:
    return t.arange(6.0).reshape(2, 3), t.arange(12.0).reshape(3, 4)


SUBLISTS: dict[str, Callable[[Any], Any]] = {
    "an output": lambda t: (lambda a, b: t.einsum(a, [0, 1], b, [1, 2], [0, 2]))(*ab(t)),
    "its order": lambda t: (lambda a, b: t.einsum(a, [0, 1], b, [1, 2], [2, 0]))(*ab(t)),
    "none": lambda t: (lambda a, b: t.einsum(a, [5, 1], b, [1, 2]))(*ab(t)),
    "both cases of letters": lambda t: (lambda a, b: t.einsum(a, [40, 30], b, [30, 2]))(*ab(t)),
    "one operand": lambda t: t.einsum(ab(t)[0], [0, 1], [1]),
    "tuples": lambda t: t.einsum(ab(t)[0], (1, 0)),
    "nothing left": lambda t: t.einsum(ab(t)[0], [0, 1], []),
    "the rest": lambda t: t.einsum(t.ones(2, 2, 3), [..., 0], ab(t)[1], [0, 1], [..., 1]),
    "a diagonal": lambda t: t.einsum(ab(t)[1][:, :3], [7, 7], [7]),
    "a number too large": lambda t: t.einsum(ab(t)[0], [0, 52]),
    "a number below zero": lambda t: t.einsum(ab(t)[0], [-1, 0]),
    "a fraction": lambda t: t.einsum(ab(t)[0], [0, 1.5]),
    "a word": lambda t: t.einsum(ab(t)[0], [0, "i"]),
    "no list": lambda t: t.einsum(ab(t)[0]),
    "a list short": lambda t: t.einsum(ab(t)[0], [0]),
    "an output of no operand": lambda t: t.einsum(ab(t)[0], [0, 1], [2]),
}


@pytest.mark.parametrize("name", SUBLISTS)
def test_einsum_by_numbers(name):
    assert_alike(SUBLISTS[name])


def test_einsum_of_an_operand_without_its_list():
    import gradient

    a = gradient.ones(2, 3)
    with pytest.raises(ValueError, match="einsum: expected a list of numbers after each operand"):
        gradient.einsum(a, [0, 1], a)
