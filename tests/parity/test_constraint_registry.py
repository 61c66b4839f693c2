"""`biject_to` and `transform_to`: the transforms to each constraint are PyTorch's, with their
shapes, Jacobians and gradients."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradient

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

CONSTRAINTS: dict[str, Callable[[Any], Any]] = {
    "real": lambda c: c.real,
    "real_vector": lambda c: c.real_vector,
    "positive": lambda c: c.positive,
    "nonnegative": lambda c: c.nonnegative,
    "greater_than": lambda c: c.greater_than(2.0),
    "less_than": lambda c: c.less_than(-1.0),
    "unit_interval": lambda c: c.unit_interval,
    "interval": lambda c: c.interval(-1.0, 3.0),
    "half_open_interval": lambda c: c.half_open_interval(0.0, 1.0),
    "simplex": lambda c: c.simplex,
    "independent": lambda c: c.independent(c.positive, 1),
    "lower_cholesky": lambda c: c.lower_cholesky,
    "positive_definite": lambda c: c.positive_definite,
    "positive_semidefinite": lambda c: c.positive_semidefinite,
    "corr_cholesky": lambda c: c.corr_cholesky,
    "cat": lambda c: c.cat([c.positive, c.unit_interval], -1, [2, 1]),
    "cat of events": lambda c: c.cat([c.real_vector, c.independent(c.positive, 1)], 0, [1, 2]),
    "stack": lambda c: c.stack([c.positive, c.unit_interval, c.real], -1),
    "stack of events": lambda c: c.stack([c.simplex] * 3, 0),
    "boolean": lambda c: c.boolean,
}


def found(package: Any, constraint: Callable[[Any], Any], registry: str) -> dict[str, Any] | None:
    """What the transform makes of numbers; None where there is no transform."""
    d = package.distributions
    wanted = constraint(d.constraints)
    try:
        transform = getattr(d, registry)(wanted)
    except NotImplementedError:
        return None
    numbers = np.random.default_rng(1).standard_normal((3, 3))
    x = package.tensor(numbers, dtype=package.float64, requires_grad=True)
    y = transform(x)
    weights = np.cos(np.arange(y.numel())).reshape(tuple(y.shape))
    (slope,) = package.autograd.grad((y * package.tensor(weights)).sum(), x, retain_graph=True)
    try:
        jacobian = transform.log_abs_det_jacobian(x, y).detach().numpy()
    except NotImplementedError:
        jacobian = None
    return {
        "y": y.detach().numpy(),
        "holds": wanted.check(y).numpy(),
        "x": transform.inv(y).detach().numpy(),
        "gradient": slope.numpy(),
        "jacobian": jacobian,
        "dims": (wanted.event_dim, transform.domain.event_dim, transform.codomain.event_dim),
        "shapes": (
            tuple(transform.forward_shape(x.shape)),
            tuple(transform.inverse_shape(y.shape)),
        ),
        "bijective": transform.bijective,
    }


@pytest.mark.parametrize(
    ("name", "registry"), list(itertools.product(CONSTRAINTS, ["biject_to", "transform_to"]))
)
def test_transforms_to_a_constraint(name: str, registry: str) -> None:
    ours, theirs = (found(package, CONSTRAINTS[name], registry) for package in (gradient, torch))
    if theirs is None:
        assert ours is None
        return
    assert ours is not None and ours["holds"].all()
    for key, wanted in theirs.items():
        if wanted is None or isinstance(wanted, (bool, tuple)):
            assert ours[key] == wanted, key
        else:
            np.testing.assert_allclose(ours[key], wanted, rtol=1e-9, atol=1e-12, err_msg=key)


def test_a_cumulative_distribution_is_a_transform() -> None:
    results = []
    for package in (gradient, torch):
        d = package.distributions
        base = d.Normal(package.tensor(0.5, dtype=package.float64), 2.0)
        transform = d.CumulativeDistributionTransform(base)
        x = package.tensor([-1.0, 0.0, 3.0], dtype=package.float64)
        y = transform(x)
        results.append([y.numpy(), transform.inv(y).numpy(),
                        transform.log_abs_det_jacobian(x, y).numpy()])  # fmt: skip
    np.testing.assert_allclose(*results, rtol=1e-9)


def test_registering_ones_own() -> None:
    for package in (gradient, torch):
        d = package.distributions
        registry = type(d.transform_to)()
        with pytest.raises(NotImplementedError):
            registry(d.constraints.positive)
        registry.register(d.constraints.positive, lambda c, d=d: d.SoftplusTransform())
        assert isinstance(registry(d.constraints.greater_than(3)), d.SoftplusTransform)
        with pytest.raises(TypeError):
            registry.register(3, lambda c, d=d: d.ExpTransform())
