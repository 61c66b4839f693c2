"""Views by the usual arguments, ints one by one, and by all others: the same, or refused."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
from gradient import errors

SAME = {
    "view": (lambda x: x.view(4, 6), lambda x: x.view((np.int64(4), 6)), lambda x: x.view(4, -1)),
    "reshape": (lambda x: x.reshape(6, 4), lambda x: x.reshape([6, -1]),
                lambda x: x.reshape(shape=(6, 4))),
    "flat": (lambda x: x.reshape(-1), lambda x: x.reshape((-1,)), lambda x: x.flatten(),
             lambda x: x.flatten(np.int64(0), -1)),
    "permute": (lambda x: x.permute(2, 0, 1), lambda x: x.permute((2, 0, 1)),
                lambda x: x.permute(-1, np.int64(0), 1), lambda x: x.permute(dims=[2, 0, 1])),
    "transpose": (lambda x: x.transpose(0, 2), lambda x: x.transpose(-3, np.int64(-1)),
                  lambda x: x.swapdims(2, 0), lambda x: x.T),
    "unsqueeze": (lambda x: x.unsqueeze(1), lambda x: x.unsqueeze(np.int64(-3)),
                  lambda x: x[:, None]),
    "expand": (lambda x: x.expand(5, 2, 3, 4), lambda x: x.expand((5, -1, 3, np.int64(-1))),
               lambda x: x.expand(size=[5, 2, 3, 4])),
    "part": (lambda x: x[:, 1:3], lambda x: x[:, np.int64(1):np.int64(3)], lambda x: x[:, 1:3, ...],
             lambda x: x[..., 1:3, :]),
    "number": (lambda x: x[1, 2, 3], lambda x: x[np.int64(1), 2, -1]),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("graph", [False, True])
def test_give_the_same_view(name, graph, device):
    given = gradient.arange(24.0, device=device).reshape(2, 3, 4).clone()
    first, *others = SAME[name]
    for take in (first, *others):
        x = given.clone().requires_grad_(graph)
        y, expected = take(x), first(given)
        assert y.shape == expected.shape and y.tolist() == expected.tolist()
        assert (y.node is not None) is graph and y.view_info[0] is x
        if graph:
            (y * y).sum().backward()
            z = given.clone().requires_grad_()
            (first(z) ** 2).sum().backward()
            assert x.grad.tolist() == z.grad.tolist()
        elif name != "expand":
            y.zero_()


def test_of_a_number(device):
    x = gradient.tensor(2.0, device=device)
    for y in (
        x.permute(()),
        x.permute(dims=()),
        x.reshape(()),
        x.view(()),
        x.expand(()),
        x.T,
        x.t(),
    ):
        assert y.shape == () and y.item() == 2
    for y in (x.reshape(1), x.view(-1), x.flatten(), x.unsqueeze(0), x.expand(1)):
        assert y.shape == (1,)
    s = x.sum()  # of NumPy perhaps a scalar
    view = s.view(1)
    s += 1
    assert view.tolist() == [3]


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.view(True, 24),
        lambda x: x.reshape(2.0, 12),
        lambda x: x.reshape(),
        lambda x: x.permute(),
        lambda x: x.permute(0, True, 2),
        lambda x: x.permute(0, 0, 1),
        lambda x: x.permute(0, 1),
        lambda x: x.transpose(True, 0),
        lambda x: x.transpose(0, 3),
        lambda x: x.unsqueeze(True),
        lambda x: x.unsqueeze(4),
        lambda x: x.flatten(2, 1),
        lambda x: x.flatten(True),
        lambda x: x.expand(),
        lambda x: x.expand(3, 3, 4),
        lambda x: x.expand(True, 2, 3, 4),
        lambda x: x.view(-2, 12),
        lambda x: x.view(-1, -1),
        lambda x: x.view(5, -1),
        lambda x: x.transpose(0, 1).view(24),
        lambda x: x[:, 1.0:2],
        lambda x: x[0, 0, 0, 0],
        lambda x: x[2],
        lambda x: x[::-1, 0],
    ],
)
def test_are_refused(call, device):
    x = gradient.ones(2, 3, 4, device=device)
    for each in (  # what is remembered of good calls lets no other through
        lambda: x.view(1, 24), lambda: x.permute(0, 1, 2), lambda: x.transpose(1, 0),
        lambda: x.unsqueeze(1), lambda: x.flatten(1), lambda: x.expand(1, 2, 3, 4),
    ):  # fmt: skip
        each()
    with pytest.raises((errors.GradientError, TypeError, IndexError, ValueError)):
        call(x)
