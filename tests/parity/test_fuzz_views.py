"""Random programs of views and in-place writes: values and gradients as PyTorch's.

A program makes views, copies and new results of a few tensors and overwrites some of them. Its loss
is a sum over all of them at the end, differentiated once and twice. Each program runs under both
packages. What PyTorch accepts, we must; where it refuses, since a value that a gradient needs was
overwritten, or as a leaf would be, there is nothing to compare.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402

Step = Callable[[Any, Any, Any, float], Any]
"""(tensor, another one, the second weight, a number in [0, 1)) -> a new tensor, or None."""


def _item(t: Any, u: Any, w: Any, r: float) -> Any:
    return t[int(r * t.shape[0])] if t.ndim else t.view(1)


def _assign(t: Any, u: Any, w: Any, r: float) -> None:
    if t.ndim:
        t[int(r * t.shape[0])] = (u * u).mean()


VIEWS: dict[str, Step] = {
    "flatten": lambda t, u, w, r: t.reshape(-1),
    "item": _item,
    "tail": lambda t, u, w, r: t[1:] if t.ndim and t.shape[0] > 1 else t[...],
    "every_other": lambda t, u, w, r: t[::2] if t.ndim else t[None],
    "transpose": lambda t, u, w, r: t.transpose(0, -1) if t.ndim else t.unsqueeze(0),
    "unsqueeze": lambda t, u, w, r: t.unsqueeze(-1),
    "narrow": lambda t, u, w, r: t.narrow(0, 0, 1).squeeze(0) if t.ndim else t.reshape(()),
    "diagonal": lambda t, u, w, r: t.diagonal() if t.ndim == 2 else t.unsqueeze(0),
}
WRITES: dict[str, Step] = {
    "scale_": lambda t, u, w, r: t.mul_(1 + r),
    "zero_": lambda t, u, w, r: t.zero_(),
    "sin_": lambda t, u, w, r: t.sin_(),
    "add_": lambda t, u, w, r: t.add_(u.detach().sum() * r + w.sum()),
    "add_other_": lambda t, u, w, r: t.add_(u.sum() * r),
    "mul_weight_": lambda t, u, w, r: t.mul_(w.sum() * 0.1),
    "copy_": lambda t, u, w, r: t.copy_((u * r).sum().expand(t.shape)),
    "copy_other_": lambda t, u, w, r: t.copy_(u) if t.shape == u.shape else None,
    "copy_weight_": lambda t, u, w, r: t.copy_(w) if t.shape == w.shape else None,
    "assign": _assign,
    "fill_": lambda t, u, w, r: t.fill_(r),
}
RESULTS: dict[str, Step] = {
    "exp": lambda t, u, w, r: (t * 0.1).exp(),
    "add": lambda t, u, w, r: t + u.sum(),
    "clone": lambda t, u, w, r: t.clone(),
    "constant": lambda t, u, w, r: t.detach().clone(),
}
SAVING: dict[str, Step] = {"square": lambda t, u, w, r: t * t}
"""What keeps its input's value, so that a later write to it is refused: rare, or all is."""


def program(seed: int) -> list[tuple[str, float, float, float]]:
    """Names of steps, each with the numbers that choose its operands."""
    rng = random.Random(seed)
    kinds = [VIEWS] * 8 + [WRITES] * 8 + [RESULTS] * 4 + [SAVING]
    return [
        (rng.choice(list(rng.choice(kinds))), rng.random(), rng.random(), rng.random())
        for _ in range(rng.randint(4, 14))
    ]


STEPS = {**VIEWS, **WRITES, **RESULTS, **SAVING}
REFUSED = (
    "modified by an inplace operation",
    "overwrote it in place",
    "a leaf Variable that requires",
)


def run(library: Any, seed: int) -> list[np.ndarray] | None:
    """The loss, its gradients for two weights, and of the first one's gradient again; None where
    the library refuses."""
    numbers = np.random.default_rng(seed)
    x = library.tensor(numbers.standard_normal((3, 2)), requires_grad=True)
    w = library.tensor(numbers.standard_normal(2), requires_grad=True)
    tensors = [x * 1, w * 2]
    try:
        for name, first, second, r in program(seed):
            t, u = (tensors[int(at * len(tensors))] for at in (first, second))
            made = STEPS[name](t, u, w, r)
            if made is not None:
                tensors.append(made)
        loss = sum((t * (i + 1)).sum() * 0.01 for i, t in enumerate(tensors))
        grads = library.autograd.grad(loss, [x, w], create_graph=True, allow_unused=True)
        penalty = sum((g * g).sum() for g in grads if g is not None)
        seconds = [None, None]
        if getattr(penalty, "requires_grad", False):
            seconds = library.autograd.grad(penalty, [x, w], allow_unused=True)
    except RuntimeError as error:
        if not any(words in str(error) for words in REFUSED):
            raise
        return None
    shapes = [(), (3, 2), (2,), (3, 2), (2,)]
    return [
        np.zeros(shape) if v is None else v.detach().numpy()
        for v, shape in zip([loss, *grads, *seconds], shapes, strict=True)
    ]


@pytest.mark.parametrize("start", range(0, 600, 50))
def test_views_and_writes_as_pytorch(start: int):
    compared = 0
    for seed in range(start, start + 50):
        theirs, ours = run(torch, seed), run(gradient, seed)
        told = f"program {seed}: {[step[0] for step in program(seed)]}"
        assert theirs is None or ours is not None, f"{told}: refused"
        if theirs is None or not all(np.isfinite(v).all() for v in theirs):
            continue
        compared += 1
        for mine, torchs in zip(ours or (), theirs, strict=True):
            np.testing.assert_allclose(mine, torchs, rtol=1e-7, atol=1e-9, err_msg=told)
    assert compared >= 25
