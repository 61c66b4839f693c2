"""How distributions draw: moments of many draws, with fixed seeds, and their gradients.

Densities are compared with PyTorch's in tests/parity/test_distributions.py.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import distributions as d
from gradient.distributions.gamma_sampling import implicit_gradient

DRAWS = 20_000


def double(*values: Any) -> Any:
    return gradient.tensor(values, dtype=gradient.float64)


DRAWN = [
    d.Normal(double(0.5, -2.0), double(1.0, 3.0)),
    d.LogNormal(double(0.1), double(0.5)),
    d.HalfNormal(double(2.0)),
    d.Uniform(double(-1.0, 2.0), double(4.0, 3.0)),
    d.Exponential(double(0.5, 3.0)),
    d.Laplace(double(1.0), double(2.0)),
    d.Gumbel(double(1.0), double(2.0)),
    d.StudentT(double(9.0), double(1.0), double(2.0)),
    d.Gamma(double(0.2, 1.0, 7.5), double(1.0, 2.0, 0.5)),
    d.Chi2(double(3.0)),
    d.Beta(double(0.5, 2.0), double(0.5, 5.0)),
    d.Dirichlet(double([0.3, 1.0, 4.0], [2.0, 2.0, 0.1])),
    d.Bernoulli(double(0.2, 0.9)),
    d.Binomial(double(3, 10), double(0.2, 0.9)),
    d.Geometric(double(0.3, 0.9)),
    d.NegativeBinomial(double(2.5, 4.0), double(0.2, 0.7)),
    d.Poisson(double(0.3, 5.0, 70.0, 300.0)),
    d.OneHotCategorical(double([0.2, 0.5, 0.3], [0.7, 0.1, 0.2])),
    d.Multinomial(5, double([0.2, 0.5, 0.3], [0.7, 0.1, 0.2])),
    d.MultivariateNormal(double(1.0, -1.0), double([2.0, 0.8], [0.8, 1.0])),
    d.MixtureSameFamily(d.Categorical(double(0.3, 0.7)), d.Normal(double(-2.0, 3.0), double(1, 2))),
    d.Independent(d.Normal(double(0.5, -2.0), double(1.0, 3.0)), 1),
    d.LowRankMultivariateNormal(double(1, -1), double([0.5], [2.0]), double(0.3, 1.0)),
    d.FisherSnedecor(double(3.0), double(20.0)),
    d.InverseGamma(double(9.0), double(2.0)),
    d.Kumaraswamy(double(0.5, 2.0), double(0.5, 5.0)),
    d.Pareto(double(2.0), double(9.0)),
    d.Weibull(double(2.0, 1.0), double(1.5, 0.8)),
    d.GeneralizedPareto(double(1.0, 0.0), double(2.0, 1.0), double(0.1, -0.4)),
    d.ContinuousBernoulli(double(0.1, 0.5, 0.9)),
    d.Wishart(double(3.5, 6.0), double([2.0, 0.8], [0.8, 1.0])),
]


@pytest.mark.parametrize("drawn", DRAWN, ids=[type(each).__name__ for each in DRAWN])
def test_draws_have_the_mean_and_the_variance(drawn: Any) -> None:
    """Both within five of their standard errors, that of the variance by the fourth moment."""
    gradient.manual_seed(7)
    x = drawn.sample((DRAWS,)).numpy()
    assert bool(drawn.support.check(gradient.from_numpy(x)).all())
    deviation = x.std(0)
    assert np.all(abs(x.mean(0) - drawn.mean.numpy()) < 5 * deviation / math.sqrt(DRAWS))
    fourth = ((x - x.mean(0)) ** 4).mean(0) - deviation**4
    error = 5 * np.sqrt(np.maximum(fourth, 0) / DRAWS) + 1e-12
    assert np.all(abs(x.var(0) - drawn.variance.numpy()) < error)


def test_draws_of_correlations() -> None:
    """An element of a correlation matrix is 2 b - 1, b of a beta distribution (Lewandowski et al.
    2009, section 2)."""
    gradient.manual_seed(3)
    for dim, concentration in ((2, 0.7), (3, 1.0), (4, 2.5)):
        factors = d.LKJCholesky(dim, double(concentration)).sample((DRAWS,))[:, 0]
        correlations = (factors @ factors.mT).numpy()
        np.testing.assert_allclose(np.einsum("nii->ni", correlations), 1, rtol=1e-12)
        shape = concentration - 1 + dim / 2
        variance = 1 / (2 * shape + 1)
        for i, j in itertools.combinations(range(dim), 2):
            drawn = correlations[:, i, j]
            assert abs(drawn.mean()) < 5 * math.sqrt(variance / DRAWS)
            assert abs(drawn.var() - variance) < 5 * variance * math.sqrt(2 / DRAWS)


def test_draws_of_angles() -> None:
    """The density integrates to 1, and the circular moments are those of it and of the draws."""
    gradient.manual_seed(4)
    concentrations = [1e-7, 0.3, 1.0, 5.0, 100.0, 1e6]
    drawn = d.VonMises(double(3.0), double(*concentrations))
    wide = np.linspace(-math.pi, math.pi, 200_001)[:-1]
    width = np.minimum(math.pi, 12 / np.sqrt(concentrations))  # of where the density is not 0
    angles = 3.0 + wide[:, None] / math.pi * width
    density = drawn.log_prob(gradient.tensor(angles)).exp().numpy()
    step = 2 * width / len(wide)
    np.testing.assert_allclose(density.sum(0) * step, 1, rtol=1e-10)
    cosine = (density * np.cos(angles - 3.0)).sum(0) * step
    np.testing.assert_allclose(drawn.variance.numpy(), 1 - cosine, rtol=1e-6, atol=1e-12)
    x = drawn.sample((DRAWS,)).numpy()
    assert x.min() >= -math.pi and x.max() <= math.pi
    for found, expected in ((np.cos(x - 3.0), cosine), (np.sin(x - 3.0), 0)):
        error = found.std(0) / math.sqrt(DRAWS)
        assert np.all(abs(found.mean(0) - expected) < 5 * error)


def test_draws_are_those_of_the_seed() -> None:
    policy = d.Categorical(logits=gradient.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    gradient.manual_seed(3)
    first = policy.sample((50,))
    gradient.manual_seed(3)
    assert gradient.equal(policy.sample((50,)), first)
    assert first.shape == (50, 2) and first.dtype == gradient.int64
    counts = [(first[:, 0] == k).sum().item() for k in range(3)]
    assert counts[0] < counts[2]
    assert policy.sample((0,)).shape == (0, 2)


def test_draws_of_vectors_have_the_covariance() -> None:
    gradient.manual_seed(1)
    covariance = double([2.0, 0.8], [0.8, 1.0])
    given = {
        "covariance_matrix": covariance,
        "precision_matrix": gradient.tensor(np.linalg.inv(covariance.numpy())),
        "scale_tril": gradient.tensor(np.linalg.cholesky(covariance.numpy())),
    }
    for name, matrix in given.items():
        drawn = d.MultivariateNormal(double(1.0, -1.0), **{name: matrix})
        x = drawn.sample((DRAWS,)).numpy()
        np.testing.assert_allclose(np.cov(x.T), covariance.numpy(), atol=0.08)
        np.testing.assert_allclose(drawn.covariance_matrix.numpy(), covariance.numpy())


@pytest.mark.parametrize("concentration", [0.05, 0.6, 1.0, 3.7, 40.0, 199.0, 1500.0])
def test_the_gradient_of_a_gamma_draw(concentration: float) -> None:
    """By a change of the concentration at a constant value of the distribution function, which is
    the series of it in gradient/distributions/gamma_sampling.py summed by NumPy in two ways."""
    gradient.manual_seed(5)
    z = d.Gamma(double(*[concentration] * 5), double(1.0)).sample()

    def cdf(a: float, z: Any) -> Any:
        terms = [z**0 * -math.lgamma(a + 1)]
        count = int(z.max() + 20 * math.sqrt(z.max()) + 100)
        for n in range(1, count):
            terms.append(terms[-1] + np.log(z) - math.log(a + n))
        return np.exp(np.array(terms) + a * np.log(z) - z).sum(0)

    x, step = z.numpy(), concentration * 1e-5
    by_a = (cdf(concentration + step, x) - cdf(concentration - step, x)) / (2 * step)
    density = np.exp((concentration - 1) * np.log(x) - x - math.lgamma(concentration))
    found = implicit_gradient(double(*[concentration] * 5), z).numpy()
    np.testing.assert_allclose(found, -by_a / density, rtol=1e-5 if concentration < 200 else 2e-3)


def test_gradients_of_draws_are_those_of_moments() -> None:
    gradient.manual_seed(2)
    a = double(2.5).requires_grad_()
    d.Gamma(a, double(2.0)).rsample((DRAWS,)).mean().backward()
    np.testing.assert_allclose(a.grad.numpy(), [0.5], rtol=0.03)
    concentration = double(2.0, 3.0, 5.0).requires_grad_()
    d.Dirichlet(concentration).rsample((DRAWS,))[:, 0].mean().backward()
    np.testing.assert_allclose(concentration.grad.numpy(), [0.08, -0.02, -0.02], atol=0.005)
    probs = double([0.2, 0.5, 0.3]).requires_grad_()
    drawn = d.OneHotCategoricalStraightThrough(probs).rsample()
    assert drawn.sum().item() == 1
    (drawn * double(1.0, 2.0, 3.0)).sum().backward()
    assert probs.grad is not None and abs(probs.grad.sum()) > 0.1
    assert not d.Normal(a, 1.0).sample().requires_grad
    with pytest.raises(NotImplementedError, match="Poisson has no rsample"):
        d.Poisson(a).rsample()


def test_the_entropy_of_counts() -> None:
    probs = [0.2, 0.5, 0.3]
    counts = [c for c in itertools.product(range(5), repeat=3) if sum(c) == 4]
    drawn = d.Multinomial(4, double(*probs))
    log_prob = drawn.log_prob(double(*counts))
    assert log_prob.exp().sum().item() == pytest.approx(1)
    with pytest.raises(ValueError, match="one int of at least 0 for the whole batch, got -1"):
        d.Multinomial(-1, double(*probs))
    assert drawn.entropy().item() == pytest.approx(-(log_prob.exp() * log_prob).sum().item())


def test_a_transform_with_a_cache_is_inverted_exactly() -> None:
    tanh = d.TanhTransform(cache_size=1)
    squashed = d.TransformedDistribution(d.Normal(gradient.zeros(3), 20.0), [tanh])
    gradient.manual_seed(0)
    action = squashed.rsample()
    assert bool((action.abs() == 1).any())  # where atanh gives infinities
    assert bool(squashed.log_prob(action).isfinite().all())
    assert tanh == d.TanhTransform() and tanh != d.ExpTransform() and tanh.inv.inv is tanh
    assert d.AffineTransform(0.0, 2.0) != d.AffineTransform(0.0, 3.0)


def test_repr() -> None:
    assert repr(d.Normal(0.0, gradient.ones(2))) == (
        "Normal(loc: gradient.Size([2]), scale: gradient.Size([2]))"
    )


def test_divergences_of_wishart_distributions() -> None:
    a, b = double([2.0, 0.3], [0.3, 1.0]), double([1.0, -0.2], [-0.2, 0.7])

    def divergence(*given: Any) -> Any:
        n, scale, m, other = given
        p, q = (d.Wishart(k, scale_tril=x.tril()) for k, x in ((n, scale), (m, other)))
        return d.kl_divergence(p, q)

    own, other = (gradient.linalg.cholesky(x).requires_grad_() for x in (a, b))
    n, m = (gradient.tensor(k, dtype=a.dtype, requires_grad=True) for k in (4.5, 3.5))
    assert divergence(n, own, n, own).item() == pytest.approx(0, abs=1e-14)
    gradient.manual_seed(0)
    p, q = d.Wishart(n.detach(), a), d.Wishart(m.detach(), b)
    x = p.sample((DRAWS,))
    estimate = (p.log_prob(x) - q.log_prob(x)).mean().item()
    assert divergence(n, own, m, other).item() == pytest.approx(estimate, rel=0.05)
    assert gradient.autograd.gradcheck(divergence, (n, own, m, other))


def test_an_infinite_divergence_has_no_gradient() -> None:
    alpha = double(0.5, 1.5, 3.0).requires_grad_()
    scale = double(1.0, 2.0, 1.5).requires_grad_()
    for q in (d.Exponential(double(2.0)), d.Normal(double(1.0), double(2.0))):
        found = d.kl_divergence(d.Pareto(scale, alpha), q)
        for grad in gradient.autograd.grad(found.sum(), (scale, alpha)):
            assert grad.isfinite().all() and grad[0] == 0 and grad[2] != 0


def test_densities_at_infinity() -> None:
    infinity = double(math.inf)
    assert d.Gamma(double(1.0), double(2.0)).log_prob(infinity).item() == -math.inf
    poisson = d.Poisson(infinity, validate_args=False)
    assert poisson.log_prob(double(0.0)).item() == -math.inf
