"""Random reads and writes at places: `scatter`, `index_add`, `put` and their kin are as in PyTorch.

Each program draws a tensor of 0 to 3 dimensions, some transposed, and an index, now and then one
that does not fit; the call is in place or gives a copy. Compared are the result, what it was taken
of, the gradients, and that both refuse.
"""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402

PER_TEST = 100
CALLS = (
    "index_add", "index_copy", "index_fill", "index_select", "index_reduce", "gather", "scatter",
    "scatter_add", "scatter_reduce", "take", "put", "masked_fill", "masked_select",
    "masked_scatter", "index_put", "take_along_dim", "slice_scatter",
)  # fmt: skip
READS = ("index_select", "gather", "take", "masked_select", "take_along_dim", "slice_scatter")
DTYPES = ("float64", "float64", "float64", "float32", "int64", "uint8")


class Program:
    """One that a seed says, for a package."""

    def __init__(self, package: Any, seed: int) -> None:
        self.package, self.draw = package, random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.name, self.dtype = self.draw.choice(CALLS), self.draw.choice(DTYPES)
        ndim = self.draw.randint(self.name == "index_put", 3)  # which PyTorch refuses of a number
        self.shape = tuple(self.draw.choice([1, 2, 3, 3, 4]) for _ in range(ndim))
        self.wrong = self.draw.random() < 0.08
        self.dim = self.draw.choice([0, 0, 1, -1])
        self.differentiated = self.dtype == "float64" and self.draw.random() < 0.7
        self.in_place = self.name not in READS and self.draw.random() < 0.5

    def tensor(self, *shape: int) -> Any:
        host = self.numbers.integers(0, 5, shape).astype(np.float64)
        made = self.package.tensor(host.tolist()).to(getattr(self.package, self.dtype))
        return made.reshape(shape)

    def index(self, size: int, *shape: int) -> Any:
        low, high = (-1, size + 1) if self.wrong else (0, size)
        host = self.numbers.integers(low, high, shape)
        return self.package.tensor(host.tolist(), dtype=self.package.int64).reshape(shape)

    def run(self) -> list[Any]:
        x = self.tensor(*self.shape)
        if self.differentiated:
            x.requires_grad_()
        base = x * 1
        y = base.t() if base.ndim == 2 and self.draw.random() < 0.4 else base
        out = self.call(y, tuple(y.shape))
        found = [out, base]
        if self.differentiated and out.requires_grad:
            weights = self.package.arange(1, 1 + out.numel(), dtype=x.dtype).reshape(out.shape)
            found += self.package.autograd.grad((out * out * weights).sum(), [x], allow_unused=True)
        return [
            None if t is None else (str(t.dtype).rpartition(".")[2], t.detach().tolist())
            for t in found
        ]

    def call(self, y: Any, shape: tuple[int, ...]) -> Any:
        name, dim, draw = self.name, self.dim, self.draw
        method = getattr(y, name + "_" * self.in_place)
        axis = dim % len(shape) if shape and dim < len(shape) else 0
        size, count = (shape[axis] if shape else 1), draw.choice([0, 1, 2, 3])
        slices = [count if i == axis else n for i, n in enumerate(shape)]
        if name.startswith("index_") and name != "index_put":
            at = self.index(size, count)
            if name == "index_select":
                return method(dim, at)
            if name == "index_fill":
                return method(dim, at, draw.choice([3, 0, 2]))
            if name == "index_reduce":
                how = draw.choice(["prod", "mean", "amax", "amin"])
                return method(dim, at, self.tensor(*slices), how, include_self=self.wrong)
            return method(dim, at, self.tensor(*slices))
        if name in ("take", "put"):
            at = self.index(max(y.numel(), 1), 2)
            return method(at) if name == "take" else method(at, self.tensor(2), self.wrong)
        if name.startswith("masked"):
            mask = self.index(2, *shape).clamp(0, 1).bool()
            return method(mask, *self.masked(draw)) if name != "masked_select" else method(mask)
        if name == "index_put":
            at = tuple(self.index(n, 2) for n in shape[: draw.randint(1, 3)])
            return method(at, self.tensor(*draw.choice([(), (1,), (2,)])), draw.random() < 0.5)
        if name == "slice_scatter":
            return method(self.tensor(*slices), dim, 0, count)
        part = [n if i == axis else draw.randint(1, n) for i, n in enumerate(slices)]
        at = self.index(size, *part)
        if name == "take_along_dim":
            return method(at.clamp(0, size - 1), dim)
        if name == "gather":
            return method(dim, at)
        more = [0] if name == "scatter_reduce" else [0, 0, 1]  # PyTorch's has no gradient then
        source = self.tensor(*(n + draw.choice(more) for n in part))
        if name == "scatter" and draw.random() < 0.3:
            return method(dim, at, 3)
        if name == "scatter_reduce":
            how = draw.choice(["sum", "prod", "mean", "amax", "amin"])
            return method(dim, at, source, how, include_self=draw.random() < 0.5)
        return method(dim, at, source)

    def masked(self, draw: random.Random) -> tuple[Any, ...]:
        return (draw.choice([0, 1, 7]),) if self.name == "masked_fill" else (self.tensor(40),)


def name_of(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


def outcome(package: Any, seed: int) -> list[Any] | Exception:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Program(package, seed).run()
        except Exception as error:
            return error


@pytest.mark.parametrize("start", range(0, 10 * PER_TEST, PER_TEST))
def test_places_as_pytorch(start: int) -> None:
    compared = 0
    for seed in range(start, start + PER_TEST):
        theirs, ours = outcome(torch, seed), outcome(gradient, seed)
        program = Program(gradient, seed)
        told = f"{seed}: {program.name} of {program.shape} {program.dtype} along {program.dim}"
        if isinstance(theirs, Exception) or isinstance(ours, Exception):
            assert isinstance(ours, (RuntimeError, IndexError)), f"{told}: {theirs!r}, {ours!r}"
            assert isinstance(theirs, Exception), f"{told}: {ours!r}"
            continue
        compared += 1
        for mine, torchs in zip(ours, theirs, strict=True):
            assert (mine is None) is (torchs is None), told
            if mine is not None:
                assert mine[0] == torchs[0], told
                np.testing.assert_allclose(mine[1], torchs[1], rtol=1e-6, err_msg=told)
    assert compared > PER_TEST // 3
