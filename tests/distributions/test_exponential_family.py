"""ExponentialFamily: entropies from natural parameters, and the classes that are of the family."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
from gradient import distributions as d


class Exponential(d.Exponential):
    """With the entropy of its natural parameter, -rate."""

    entropy = d.ExponentialFamily.entropy
    _mean_carrier_measure = 0.0

    @property
    def _natural_params(self) -> tuple[gradient.Tensor, ...]:
        return (-self.rate,)

    def _log_normalizer(self, x: gradient.Tensor) -> gradient.Tensor:  # type: ignore[override]
        return -(-x).log()


def test_an_entropy_from_natural_parameters() -> None:
    rate = gradient.tensor([[0.5, 2.0, 7.0]], dtype=gradient.float64)
    found = Exponential(rate).entropy()
    assert found.shape == (1, 3)
    np.testing.assert_allclose(found.tolist(), d.Exponential(rate).entropy().tolist())
    with pytest.raises(NotImplementedError):
        d.ExponentialFamily((2,)).entropy()


def test_which_classes_are_of_the_family() -> None:
    family = {
        name
        for name in dir(d)
        if isinstance(getattr(d, name), type) and issubclass(getattr(d, name), d.ExponentialFamily)
    }
    assert family == {
        "Bernoulli", "Beta", "Chi2", "ContinuousBernoulli", "Dirichlet", "Exponential",
        "ExponentialFamily", "Gamma", "Normal", "Poisson", "Wishart",
    }  # fmt: skip


def test_parameters_of_dependent_constraints_are_not_checked() -> None:
    class Own(d.Distribution):
        arg_constraints = {"v": d.constraints.dependent, "scale": d.constraints.positive}

        def __init__(self, v: gradient.Tensor, scale: gradient.Tensor) -> None:
            self.v, self.scale = v, scale
            super().__init__(v.shape)

    assert Own(gradient.tensor([-1.0]), gradient.tensor(1.0)).batch_shape == (1,)
    with pytest.raises(ValueError, match="scale"):
        Own(gradient.tensor([-1.0]), gradient.tensor(-1.0))
