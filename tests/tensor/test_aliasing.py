"""Whether results share memory with their inputs, for every public function and method."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import absent
from support.aliasing_table import (
    NO_TENSORS,
    ONLY_HERE,
    expressions,
    kind_of,
    names,
    results,
    rows,
    tensors,
)
from support.public import public

pytestmark = pytest.mark.cpu_only

ROWS = [*rows(), *((expression, "copy", False) for expression in expressions(ONLY_HERE))]


@pytest.mark.parametrize("kind", ["copy", "view", "itself"])
def test_results_share_memory_as_the_table_says(kind):
    wrong = {}
    for expression, expected, optional in ROWS:
        if expected != kind:
            continue
        given = tensors(gradient)
        for tensor in given.values():
            tensor.numpy()  # so that even one number is an array with memory of its own
        try:
            found = {kind_of(r, given) for r in results(gradient, F, expression, given)}
        except gradient.errors.GradientError:
            if not optional:
                raise
            continue
        if found != {kind}:
            wrong[expression] = found
    assert wrong == {}


def test_copies_are_no_views():
    """A result with memory of its own can be detached in place, as no base shows what it shows."""
    views = []
    for expression, expected, optional in ROWS:
        given = tensors(gradient)
        try:
            found = results(gradient, F, expression, given) if expected == "copy" else ()
        except gradient.errors.GradientError:
            assert optional
            continue
        views += [expression for t in found if getattr(t, "view_info", None) is not None]
    assert views == []


def test_every_function_and_method_has_a_row():
    names_of_all = {name for name in dir(gradient.Tensor) if not name.startswith("_")}
    names_of_all -= set(absent.NO_METHODS)
    names_of_all |= {
        name
        for name, value in public(gradient).items()
        if callable(value) and not isinstance(value, type)
    }
    names_of_all |= public(F).keys()
    known = names([expression for expression, *_ in ROWS]) | set(NO_TENSORS)
    assert sorted(names_of_all - known) == []


def test_a_view_of_the_bits():
    x = gradient.tensor([1.0, -2.0])
    bits = x.view(gradient.int32)
    assert bits.tolist() == np.array([1.0, -2.0], np.float32).view(np.int32).tolist()
    bits[1] = 0
    assert x.tolist() == [1.0, 0.0]
    x.view(gradient.int64).fill_(0)
    assert x.tolist() == [0.0, 0.0]


def test_windows_are_a_view_with_a_gradient():
    x = gradient.arange(5.0).requires_grad_()
    windows = (x * 1).unfold(0, 3, 1)
    assert windows.tolist() == [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]
    (windows * gradient.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [1.0, 11.0, 111.0, 110.0, 100.0]
    y = gradient.zeros(4)
    y.unfold(0, 2, 2)[1].add_(1)
    assert y.tolist() == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("alive", [0, 1, 63, 64, 100, 127, 128])
def test_dead_views_are_forgotten_and_live_ones_are_not(alive):
    base = gradient.zeros(4, 4)
    kept = [base[i % 4] for i in range(alive)]
    for _ in range(300):
        base.t()
        base.chunk(3)
        assert len(base.views) <= max(128, 4 * (alive + 4))
    base.copy_(gradient.ones(4, 4, requires_grad=True))
    assert all(view.requires_grad for view in kept)


def test_a_view_that_becomes_another_view_in_place_follows_its_base():
    base, w = gradient.zeros(4, 2), gradient.arange(8.0).reshape(4, 2).requires_grad_()
    view = base.view(2, 4)
    view.t_()
    base.copy_(w * 2)
    weights = gradient.arange(8.0).reshape(4, 2)
    (view * weights).sum().backward()
    assert w.grad.tolist() == (2 * weights.t().reshape(4, 2)).tolist()
