"""`vmap` of functions that look at values in order to check them, or whose results depend on those
of a whole sample: the results of a loop. And what its arguments may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
import support.array_backends  # noqa: F401 (registers the device "handle")
from gradient import distributions
from gradient.errors import ArgumentError, BackendError, DeviceError, ShapeError, TypeMismatch
from gradient.func import grad, jacrev, vmap
from gradient.testing import assert_close

X = gradient.tensor(np.cos(np.arange(36.0)).reshape(3, 4, 3))
MASK = X > 0

CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "quantile": lambda x, mask: x.quantile(0.3, dim=0),
    "quantiles": lambda x, mask: x.quantile(gradient.tensor([0.1, 0.9]).double()),
    "quantile of a sample's own": lambda x, mask: x.quantile(x[:2, 0].abs(), dim=1, keepdim=True),
    "nanquantile": lambda x, mask: x.where(mask, float("nan")).nanquantile(0.3, dim=1),
    "nanmedian": lambda x, mask: x.where(mask, float("nan")).nanmedian(),
    "histc": lambda x, mask: x.histc(4, -1, 1),
    "histc of the sample's range": lambda x, mask: (x * x[0, 0]).histc(5),
    "histc of 0-d samples": lambda x, mask: x[0, 0].histc(2),
    "isin": lambda x, mask: gradient.isin(x.round(decimals=1), x[0].round(decimals=1)),
    "not isin": lambda x, mask: gradient.isin(x.round(), 1.0, invert=True),
    "isin a shared tensor": lambda x, mask: gradient.isin(x.round(), gradient.tensor([0.0, 1.0])),
    "masked_scatter": lambda x, mask: x.masked_scatter(mask, x.flip(0) * 2),
    "masked_scatter of a row": lambda x, mask: x.masked_scatter(mask[:, :1], x.flip(0) * 2),
    "masked_scatter of a shared tensor": lambda x, mask: X[0].masked_scatter(mask, x),
    "masked_scatter by a shared mask": lambda x, mask: x.masked_scatter(MASK[1], x.flip(0)),
    "cov": lambda x, mask: gradient.cov(x.T, aweights=x[:, 0].abs()),
    "cov of counts": lambda x, mask: gradient.cov(x.T, fweights=mask[:, 0] + 1),
    "lstsq": lambda x, mask: gradient.linalg.lstsq(x, x[:, :2] ** 2, driver="gelsd").residuals,
    "multilabel_margin_loss": lambda x, mask: F.multilabel_margin_loss(x, mask.long() * 2 - 1),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    call = CALLS[name]
    x = X + 0.01 * gradient.arange(36).reshape(3, 4, 3)
    wanted = gradient.stack([call(*sample) for sample in zip(x, MASK, strict=True)])
    assert_close(vmap(call)(x, MASK), wanted, rtol=1e-6, equal_nan=True)
    nested = vmap(vmap(call))(x[None], MASK[None])
    assert_close(nested[0], wanted, rtol=1e-6, equal_nan=True)
    if not wanted.is_floating_point() or "histc" in name:
        return

    def loss(x: Any, mask: Any) -> Any:
        out = call(x, mask)
        return (out * gradient.arange(out.numel()).reshape(out.shape)).sum()

    found = vmap(grad(loss))(x, MASK)
    wanted = gradient.stack([grad(loss)(*sample) for sample in zip(x, MASK, strict=True)])
    assert_close(found, wanted, rtol=1e-6, equal_nan=True)


def test_checks_of_values_see_all_samples() -> None:
    with pytest.raises(ArgumentError, match="quantile"):
        vmap(lambda q: X[0].quantile(q))(gradient.tensor([0.5, 1.5]).double())
    with pytest.raises(ArgumentError, match="aweights of at least 0"):
        vmap(lambda w: gradient.cov(X[0, :, 0], aweights=w))(-gradient.ones(2, 4))
    with pytest.raises(ShapeError, match="the mask holds 3 times but source has 2"):
        vmap(lambda m: gradient.zeros(3).masked_scatter(m, gradient.ones(2)))(
            gradient.tensor([[True, False, True], [True, True, True]])
        )
    with pytest.raises(ArgumentError, match="target from -1 to 2"):
        vmap(F.multilabel_margin_loss)(X[:, 0], gradient.tensor([[0, 1, 2], [0, 1, 3], [0, 0, 0]]))
    none = vmap(lambda x: x.masked_scatter(x > 0, x[:0]))(gradient.zeros(0, 3))
    assert none.shape == (0, 3)


DRAWS: dict[str, Callable[[Any], Any]] = {
    "poisson": lambda a: gradient.poisson(a.expand(500)),
    "gamma": lambda a: distributions.Gamma(a, a).rsample((500,)),
    "binomial": lambda a: distributions.Binomial(100, a / 50).sample((500,)),
    "von Mises": lambda a: distributions.VonMises(a * 0 + 1, a).sample((500,)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_by_rejection(name: str) -> None:
    rates = gradient.tensor([2.0, 20.0, 20.0])
    found = vmap(DRAWS[name], randomness="different")(rates)
    assert not found[1].equal(found[2])
    same = vmap(DRAWS[name], randomness="same")(rates)
    assert same[1].equal(same[2])
    for draws, rate in zip(found, rates, strict=True):
        alone = DRAWS[name](rate)
        spread = float(alone.std()) + float(draws.std())
        assert abs(float(draws.mean() - alone.mean())) < 0.25 * spread


def test_out_dims_of_a_single_result_may_be_a_tuple() -> None:
    assert vmap(lambda x: x, out_dims=(1,))(X).shape == (4, 3, 3)
    with pytest.raises(ArgumentError, match="expected out_dims of ints"):
        vmap(lambda x: x, out_dims=(1, 0))(X)


@pytest.mark.parametrize("dims", [True, 1.5, "a", {"y": 0}, {}, [0], {"x": 0, "y": 0}])
def test_in_dims_are_ints_nested_like_the_arguments(dims: Any) -> None:
    with pytest.raises(ArgumentError, match="expected in_dims of ints or None, nested"):
        vmap(lambda tree: tree["x"], (dims,))({"x": X})


def test_batched_arguments_are_on_one_device() -> None:
    with pytest.raises(DeviceError, match="batched arguments on one device"):
        vmap(lambda x, y: x * 2)(X, X.to("handle"))
    found = vmap(lambda x, y: x + y.to("cpu"), (0, None))(X, X[0].to("handle"))
    assert_close(found, X + X[0])


@pytest.mark.parametrize("transform", [vmap, jacrev])
def test_chunk_size_is_a_positive_int(transform: Any) -> None:
    for size in (1.5, "a"):
        with pytest.raises(TypeMismatch, match="chunk_size"):
            transform(lambda x: x, chunk_size=size)
    with pytest.raises(ArgumentError, match="chunk_size None or at least 1"):
        transform(lambda x: x, chunk_size=0)


def test_a_tensor_that_left_its_vmap_is_refused_in_another_one() -> None:
    kept: list[Any] = []
    vmap(lambda x: kept.append(x) or x)(X)
    for use in (lambda y: y + kept[0], lambda y: gradient.cat([kept[0], y])):
        with pytest.raises(BackendError, match="a tensor of another vmap"):
            vmap(use)(X)


def test_what_an_error_interrupts_is_restored() -> None:
    for transform in (vmap, jacrev, gradient.func.jacfwd):
        with pytest.raises(ZeroDivisionError):
            transform(lambda x: x * (1 / 0))(X[0, 0])
    assert gradient.rand(2).backend is X.backend
    assert_close(vmap(lambda x: x * 2)(X), X * 2)
