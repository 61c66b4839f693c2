"""Whether results share memory with their inputs, for every public function and method."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import absent
from gradient.tensor.views import list_views, listing
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
    list_views()
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


@pytest.fixture
def unlisted():
    """As in a process that has not yet needed the views of a tensor."""
    before = list(listing)
    listing.clear()
    yield
    listing[:] = before


@pytest.mark.usefixtures("unlisted")
@pytest.mark.parametrize("frozen", [False, True])
def test_views_are_found_when_their_base_comes_into_a_graph(frozen):
    base, w = gradient.zeros(4, 2), gradient.ones(4, 2, requires_grad=True)
    first, (row, *_) = base.t(), base.unbind()
    of_view = first[0]
    assert base.views is None and not listing
    if frozen:
        gc.freeze()
    base.copy_(w)
    assert listing and all(v.requires_grad for v in (first, row, of_view, base[1:]))
    (first.sum() + row.sum() * 10 + of_view.sum() * 100).backward()
    assert w.grad.tolist() == [[111.0, 11.0], [101.0, 1.0], [101.0, 1.0], [101.0, 1.0]]


@pytest.mark.usefixtures("unlisted")
def test_a_view_of_a_leaf_stays_as_it_is():
    w = gradient.ones(4, requires_grad=True)
    view = w[1:]
    w.requires_grad_(False)
    assert view.requires_grad and not listing
    assert not hasattr(w, "_viewed")


@pytest.mark.usefixtures("unlisted")
@pytest.mark.parametrize(
    "enter",
    [
        lambda x, w: x.requires_grad_(),
        lambda x, w: x.add_(w),
        lambda x, w: x[1].mul_(w[1]),
        lambda x, w: x.t_().add_(w.t()),
        lambda x, w: x.view(-1).__setitem__(slice(0, 2), w[0]),
    ],
)
def test_each_way_into_a_graph_finds_the_views(enter):
    x, w = gradient.zeros(2, 2), gradient.ones(2, 2, requires_grad=True)
    view = x[:1]
    enter(x, w)
    assert view.requires_grad
    del view
    assert all(ref() is None or ref().requires_grad for ref in x.views or ())


@pytest.mark.usefixtures("unlisted")
def test_a_view_is_freed_at_once():
    x = gradient.zeros(2, 2)
    view = x[:1]
    ref = weakref.ref(view)
    gc.disable()
    try:
        del view
        assert ref() is None
    finally:
        gc.enable()
