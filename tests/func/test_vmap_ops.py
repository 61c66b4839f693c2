"""Every op under `vmap`, by its rows in `gradient.testing.TABLE`: the values and gradients of a
loop over the samples, wherever the batch is, for arguments that all samples share, and nested."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradient
from gradient import func
from gradient.func import grad
from gradient.testing import TABLE, Row, assert_close

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

DIFFERENTIABLE = [row for row in TABLE if row.differentiable]
SAMPLES = 3


def vmap(function: Any, in_dims: Any = 0, out_dims: Any = 0) -> Any:
    """`vmap` with random numbers, as the row of dropout gives the place of its own."""
    return func.vmap(function, in_dims, out_dims, "same")


def by_name(row: Row) -> str:
    return row.name


def batches(row: Row, *lead: int) -> list[Any]:
    """The inputs of several samples."""
    return [gradient.tensor(a) for a in row.samples([(*lead, *s) for s in row.shapes])]


def looped(row: Row, inputs: list[Any], dims: list[int | None]) -> Any:
    return gradient.stack([row.run(*sample(inputs, dims, i)) for i in range(SAMPLES)])


def sample(inputs: list[Any], dims: list[int | None], i: int) -> list[Any]:
    return [x if d is None else x.select(d, i).clone() for x, d in zip(inputs, dims, strict=True)]


def close(found: Any, wanted: Any) -> None:
    assert found.dtype is wanted.dtype
    assert_close(found.detach(), wanted.detach(), rtol=1e-11, atol=1e-11, equal_nan=True)


@pytest.mark.parametrize("row", TABLE, ids=by_name)
def test_values(row: Row) -> None:
    inputs = batches(row, SAMPLES)
    dims: list[int | None] = [0] * len(inputs)
    wanted = looped(row, inputs, dims)
    close(vmap(row.run)(*inputs), wanted)
    close(vmap(row.run, out_dims=-1)(*inputs).movedim(-1, 0), wanted)
    last = [x.movedim(0, -1).contiguous() for x in inputs]
    close(vmap(row.run, in_dims=-1)(*last), wanted)


@pytest.mark.parametrize("row", [r for r in TABLE if len(r.shapes) > 1], ids=by_name)
def test_values_where_samples_share_an_argument(row: Row) -> None:
    for at in range(len(row.shapes)):
        inputs = batches(row, SAMPLES)
        for one in (True, False):  # one argument is batched; one is not
            dims: list[int | None] = [0 if (i == at) is one else None for i in range(len(inputs))]
            given = [
                x if d is not None else x[0].clone() for x, d in zip(inputs, dims, strict=True)
            ]
            close(vmap(row.run, tuple(dims))(*given), looped(row, given, dims))


@pytest.mark.parametrize("row", TABLE, ids=by_name)
def test_values_of_samples_of_samples(row: Row) -> None:
    inputs = batches(row, 2, SAMPLES)
    dims: list[int | None] = [0] * len(inputs)
    wanted = gradient.stack([looped(row, [x[i] for x in inputs], dims) for i in range(2)])
    close(vmap(vmap(row.run))(*inputs), wanted)
    close(vmap(vmap(row.run), in_dims=1, out_dims=1)(*inputs), wanted)


def weighted(row: Row) -> Any:
    """The op's result as one number."""

    def run(*inputs: Any) -> Any:
        out = row.run(*inputs)
        out = gradient.view_as_real(out) if out.is_complex() else out
        weights = np.linspace(-1, 2, int(np.prod(out.shape))).reshape(tuple(out.shape))
        return (out * gradient.tensor(weights, dtype=out.dtype)).sum()

    return run


def of_parts(function: Any) -> Any:
    """A function of complex numbers as one of their real and imaginary parts."""
    return lambda *parts: function(*map(gradient.view_as_complex, parts))


def leaves(inputs: list[Any]) -> list[Any]:
    return [x.clone().requires_grad_() for x in inputs]


@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=by_name)
def test_gradients_of_samples(row: Row) -> None:
    """vmap of grad, where every argument is differentiated, for batched and for shared ones.
    (Complex ones by their real and imaginary parts.)"""
    inputs, f = batches(row, SAMPLES), weighted(row)
    if row.kind == "complex":
        inputs, f = [gradient.view_as_real(x) for x in inputs], of_parts(f)
    numbers = tuple(range(len(inputs)))
    for shared in (None, *(numbers if len(inputs) > 1 else ())):
        dims = [None if i == shared else 0 for i in numbers]
        given = [x if d is not None else x[0].clone() for x, d in zip(inputs, dims, strict=True)]
        wanted = [
            gradient.autograd.grad(f(*own), own, materialize_grads=True)
            for own in (leaves(sample(given, dims, i)) for i in range(SAMPLES))
        ]
        found = vmap(grad(f, numbers), tuple(dims))(*given)
        for mine, others in zip(found, zip(*wanted, strict=True), strict=True):
            close(mine, gradient.stack(list(others)))


@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=by_name)
def test_gradients_through_vmap(row: Row) -> None:
    """grad of vmap: for arguments with a batch, and for those that the samples share."""
    inputs, f = batches(row, SAMPLES), weighted(row)
    numbers = range(len(inputs))
    for shared in (None, *(numbers if len(inputs) > 1 else ())):
        dims = [None if i == shared else 0 for i in numbers]
        given = leaves([x if d is not None else x[0] for x, d in zip(inputs, dims, strict=True)])
        losses = [f(*[x if d is None else x[i] for x, d in zip(given, dims, strict=True)])
                  for i in range(SAMPLES)]  # fmt: skip
        factors = gradient.tensor([1.0, -2.0, 0.5], dtype=losses[0].dtype)
        wanted = gradient.autograd.grad((gradient.stack(losses) * factors).sum(), given)
        for again in (False, True):
            out = vmap(f, tuple(dims))(*given)
            found = gradient.autograd.grad((out * factors).sum(), given, create_graph=again)
            for mine, other in zip(found, wanted, strict=True):
                close(mine, other)
