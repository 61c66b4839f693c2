"""Distributions: densities, moments, divergences and their gradients are PyTorch's.

How they draw is tested by moments in tests/distributions/test_distributions.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import distributions

pytestmark = [
    pytest.mark.parity,
    # PyTorch's Wishart says so of draws that are not singular.
    pytest.mark.filterwarnings("ignore:Singular sample detected"),
    pytest.mark.filterwarnings("ignore:Low df values detected"),
]
torch = pytest.importorskip("torch")

VECTOR, MATRIX = [0.3, -1.2, 2.0], [[2.0, 0.5, 0.1], [0.5, 1.5, -0.3], [0.1, -0.3, 1.0]]
PROBS = [[0.2, 0.5, 0.3], [0.05, 0.05, 0.9]]
LOGITS = [[0.5, -1.0, 2.0], [3.0, 0.0, 0.0]]
POSITIVE = [0.3, 1.0, 4.5]
TRIL = [[1.2, 0.0, 0.0], [0.3, 0.8, 0.0], [-0.5, 0.1, 2.0]]
FACTOR = [[0.5], [-1.0], [0.2]]
CORRELATED = [[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, -0.28, 0.96]]

Row = tuple[str, dict[str, Any], Any]
ROWS: list[Row] = [
    ("Normal", {"loc": VECTOR, "scale": POSITIVE}, [-1.0, 0.5, 3.0]),
    ("Normal", {"loc": VECTOR, "scale": 2.0}, [[-1.0, 0.5, 3.0]] * 2),
    ("LogNormal", {"loc": VECTOR, "scale": POSITIVE}, [0.2, 1.0, 9.0]),
    ("HalfNormal", {"scale": POSITIVE}, [0.2, 1.0, 9.0]),
    ("Uniform", {"low": VECTOR, "high": [1.0, 0.0, 5.0]}, [0.5, -1.0, 2.0]),
    ("Exponential", {"rate": POSITIVE}, [0.2, 1.0, 9.0]),
    ("Laplace", {"loc": VECTOR, "scale": POSITIVE}, [-1.0, 0.5, 3.0]),
    ("Gumbel", {"loc": VECTOR, "scale": POSITIVE}, [-1.0, 0.5, 3.0]),
    ("Cauchy", {"loc": VECTOR, "scale": POSITIVE}, [-1.0, 0.5, 3.0]),
    ("StudentT", {"df": [1.5, 2.5, 30.0], "loc": VECTOR, "scale": POSITIVE}, [-1.0, 0.5, 3.0]),
    ("Gamma", {"concentration": POSITIVE, "rate": [1.0, 0.5, 2.0]}, [0.2, 1.0, 9.0]),
    ("Chi2", {"df": POSITIVE}, [0.2, 1.0, 9.0]),
    ("Beta", {"concentration1": POSITIVE, "concentration0": [2.0, 1.0, 0.5]}, [0.2, 0.5, 0.9]),
    ("Dirichlet", {"concentration": [POSITIVE, [0.2, 0.3, 0.4]]}, PROBS),
    ("Bernoulli", {"probs": [0.2, 0.5, 0.9]}, [1.0, 0.0, 1.0]),
    ("Bernoulli", {"logits": VECTOR}, [1.0, 0.0, 1.0]),
    ("Binomial", {"total_count": 5, "probs": [0.2, 0.5, 0.9]}, [1.0, 0.0, 5.0]),
    ("Binomial", {"total_count": 5, "logits": VECTOR}, [1.0, 0.0, 5.0]),
    ("Geometric", {"probs": [0.2, 0.5, 0.9]}, [1.0, 0.0, 4.0]),
    ("Geometric", {"logits": VECTOR}, [1.0, 0.0, 4.0]),
    ("NegativeBinomial", {"total_count": 2.5, "probs": [0.2, 0.5, 0.9]}, [1.0, 0.0, 4.0]),
    ("Poisson", {"rate": POSITIVE}, [1.0, 0.0, 4.0]),
    ("Categorical", {"probs": PROBS}, [2, 0]),
    ("Categorical", {"logits": LOGITS}, [[2, 0], [1, 1]]),
    ("OneHotCategorical", {"probs": PROBS}, [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    ("OneHotCategoricalStraightThrough", {"logits": LOGITS}, [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
    ("Multinomial", {"total_count": 4, "probs": PROBS}, [[1.0, 2.0, 1.0], [0.0, 0.0, 4.0]]),
    ("RelaxedBernoulli", {"temperature": 0.5, "probs": [0.2, 0.5, 0.9]}, [0.1, 0.4, 0.8]),
    ("RelaxedBernoulli", {"temperature": 0.5, "logits": VECTOR}, [0.1, 0.4, 0.8]),
    ("RelaxedOneHotCategorical", {"temperature": 0.5, "logits": LOGITS}, PROBS),
    ("MultivariateNormal", {"loc": VECTOR, "covariance_matrix": MATRIX}, [VECTOR, POSITIVE]),
    ("MultivariateNormal", {"loc": VECTOR, "precision_matrix": MATRIX}, [VECTOR, POSITIVE]),
    ("MultivariateNormal", {"loc": [VECTOR, POSITIVE], "scale_tril": TRIL}, POSITIVE),
    (
        "LowRankMultivariateNormal",
        {"loc": VECTOR, "cov_factor": FACTOR, "cov_diag": POSITIVE},
        [VECTOR, POSITIVE],
    ),
    (
        "LowRankMultivariateNormal",
        {"loc": [VECTOR, POSITIVE], "cov_factor": FACTOR, "cov_diag": POSITIVE},
        POSITIVE,
    ),
    ("FisherSnedecor", {"df1": [1.5, 3.0, 30.0], "df2": [1.5, 3.0, 9.0]}, [0.2, 1.0, 9.0]),
    ("HalfCauchy", {"scale": POSITIVE}, [0.2, 1.0, 9.0]),
    ("InverseGamma", {"concentration": POSITIVE, "rate": [1.0, 0.5, 2.0]}, [0.2, 1.0, 9.0]),
    (
        "Kumaraswamy",
        {"concentration1": POSITIVE, "concentration0": [2.0, 1.5, 0.5]},
        [0.2, 0.5, 0.9],
    ),
    ("LogisticNormal", {"loc": [0.1, -0.4], "scale": [1.0, 0.5]}, PROBS),
    ("Pareto", {"scale": [0.5, 1.0, 2.0], "alpha": POSITIVE}, [0.6, 1.0, 9.0]),
    ("Weibull", {"scale": POSITIVE, "concentration": [1.0, 0.5, 2.0]}, [0.2, 1.0, 9.0]),
    ("ContinuousBernoulli", {"probs": [0.2, 0.5, 0.9]}, [0.0, 0.3, 1.0]),
    ("ContinuousBernoulli", {"logits": VECTOR}, [0.0, 0.3, 1.0]),
    ("LKJCholesky", {"dim": 3, "concentration": POSITIVE}, CORRELATED),
    ("Wishart", {"df": [2.5, 5.0], "covariance_matrix": MATRIX}, [MATRIX, MATRIX]),
    ("Wishart", {"df": 4.5, "precision_matrix": MATRIX}, MATRIX),
    ("Wishart", {"df": 3.0, "scale_tril": [TRIL, TRIL]}, MATRIX),
]

COMPOSED: dict[str, tuple[Callable[..., Any], dict[str, Any], Any]] = {
    "Independent": (
        lambda d, loc, scale: d.Independent(d.Normal(loc, scale), 1),
        {"loc": [VECTOR, POSITIVE], "scale": POSITIVE},
        [VECTOR, POSITIVE],
    ),
    "squashed normal": (
        lambda d, loc, scale: d.TransformedDistribution(
            d.Normal(loc, scale), [d.transforms.TanhTransform(), d.AffineTransform(1.0, -2.0)]
        ),
        {"loc": VECTOR, "scale": POSITIVE},
        [0.5, -0.3, 2.0],
    ),
    "logistic normal": (
        lambda d, loc, scale: d.TransformedDistribution(
            d.Normal(loc, scale), d.StickBreakingTransform()
        ),
        {"loc": [0.1, -0.4], "scale": [1.0, 0.5]},
        PROBS,
    ),
    "powers": (
        lambda d, a, b: d.TransformedDistribution(
            d.Exponential(a * b),
            [d.PowerTransform(2.0), d.ExpTransform().inv, d.SoftplusTransform()],
        ),
        {"a": POSITIVE, "b": POSITIVE},
        [0.5, 1.3, 2.0],
    ),
    "reshaped": (
        lambda d, loc, scale: d.TransformedDistribution(
            d.Independent(d.Normal(loc, scale), 1),
            [d.ReshapeTransform((4,), (2, 2)), d.SigmoidTransform()],
        ),
        {"loc": [0.1, -0.4, 0.3, 2.0], "scale": 0.5},
        [[[0.2, 0.5], [0.4, 0.9]]] * 2,
    ),
    "mixture": (
        lambda d, logits, loc, scale: d.MixtureSameFamily(
            d.Categorical(logits=logits), d.Normal(loc, scale)
        ),
        {"logits": LOGITS, "loc": [VECTOR, POSITIVE], "scale": POSITIVE},
        [0.5, 1.5],
    ),
    "mixture of vectors": (
        lambda d, probs, loc, tril: d.MixtureSameFamily(
            d.Categorical(probs), d.MultivariateNormal(loc, scale_tril=tril)
        ),
        {"probs": [0.25, 0.75], "loc": [VECTOR, POSITIVE], "tril": TRIL},
        [VECTOR, POSITIVE],
    ),
}


def cases() -> Iterator[Any]:
    for name, given, value in ROWS:
        options = ", ".join(given)

        def build(d: Any, name: str = name, **given: Any) -> Any:
            return getattr(d, name)(**given)

        yield pytest.param(build, given, value, id=f"{name}({options})")
    for name, (build, given, value) in COMPOSED.items():
        yield pytest.param(build, given, value, id=name)


def tensors(package: Any, given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        if isinstance(value, int)
        else package.tensor(value, dtype=package.float64, requires_grad=True)
        for name, value in given.items()
    }


def equal(found: Any, wanted: Any, what: str) -> None:
    assert tuple(found.shape) == tuple(wanted.shape), what
    # PyTorch's trigamma, in gradients of entropies, errs by 1e-9.
    np.testing.assert_allclose(
        found.detach().numpy(), wanted.detach().numpy(), rtol=1e-8, atol=1e-11, err_msg=what
    )


def compare(ours: Any, theirs: Any, found: Any, wanted: Any, what: str) -> None:
    """Values, and gradients by all parameters."""
    equal(found, wanted, what)
    assert found.requires_grad == wanted.requires_grad, what
    if not wanted.requires_grad or not bool(torch.isfinite(wanted).all()):
        return
    weights = np.cos(np.arange(wanted.numel())).reshape(tuple(wanted.shape))
    mine = gradient.autograd.grad(
        found, list(ours.values()), gradient.tensor(weights), retain_graph=True, allow_unused=True
    )
    others = torch.autograd.grad(
        wanted, list(theirs.values()), torch.tensor(weights), retain_graph=True, allow_unused=True
    )
    for name, one, other in zip(ours, mine, others, strict=True):
        if other is None or one is None:
            assert one is None or not one.detach().numpy().any(), f"{what} by {name}"
            assert other is None or not other.numpy().any(), f"{what} by {name}"
        else:
            equal(one, other, f"gradient of {what} by {name}")


QUESTIONS = ("mean", "variance", "stddev", "mode", "entropy", "perplexity", "enumerate_support")
BY_VALUE = ("log_prob", "cdf")
ABSENT = {
    "Gamma": ("cdf",),
    "Chi2": ("cdf",),
    "InverseGamma": ("cdf",),
    "Multinomial": ("entropy", "perplexity"),
}
"""The incomplete gamma function, which has no gradient for its first argument (compared by itself),
and what PyTorch computes in float32."""


@pytest.mark.parametrize(
    "build",
    [
        lambda d, x: d.Gamma(x.new_tensor([0.5, 2.0, 30.0]), x.new_tensor([1.0, 3.0, 0.1])),
        lambda d, x: d.Chi2(x.new_tensor([1.0, 2.0, 7.0])),
        lambda d, x: d.InverseGamma(x.new_tensor([0.5, 2.0, 7.0]), x.new_tensor([1.0, 3.0, 0.1])),
    ],
)
def test_cdf_of_gammas(build: Callable[..., Any]) -> None:
    found = []
    for package, d in ((gradient, distributions), (torch, torch.distributions)):
        x = package.tensor([[0.3, 1.0, 5.0], [1e-9, 50.0, 1e6]], dtype=package.float64)
        x.requires_grad_()
        values = build(d, x.detach()).cdf(x)
        (slopes,) = package.autograd.grad(values.sum(), x)
        found.append([values.detach().numpy(), slopes.numpy()])
    np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize(("build", "given", "value"), list(cases()))
def test_distribution(build: Callable[..., Any], given: Any, value: Any) -> None:
    ours, theirs = tensors(gradient, given), tensors(torch, given)
    mine, other = build(distributions, **ours), build(torch.distributions, **theirs)
    ours = {k: v for k, v in ours.items() if not isinstance(v, int)}
    theirs = {k: v for k, v in theirs.items() if not isinstance(v, int)}
    at, there = gradient.tensor(np.asarray(value)), torch.tensor(np.asarray(value))
    for batch in (None, (2, *other.batch_shape)):
        if batch is not None:
            mine, other = mine.expand(batch), other.expand(batch)
        assert tuple(mine.batch_shape) == tuple(other.batch_shape)
        assert tuple(mine.event_shape) == tuple(other.event_shape)
        assert mine.has_rsample == other.has_rsample
        assert mine.has_enumerate_support == other.has_enumerate_support
        for name in (*QUESTIONS, *BY_VALUE):
            arguments = ((at,), (there,)) if name in BY_VALUE else ((), ())
            if name in ABSENT.get(type(mine).__name__, ()):
                continue
            try:
                wanted = getattr(other, name)
                wanted = wanted(*arguments[1]) if callable(wanted) else wanted
            except NotImplementedError:
                continue
            found = getattr(mine, name)
            found = found(*arguments[0]) if callable(found) else found
            compare(ours, theirs, found, wanted, name)
        for shape in ((), (3, 1)):
            assert tuple(mine.sample(shape).shape) == tuple(other.sample(shape).shape)
            if mine.has_rsample:
                assert mine.rsample(shape).requires_grad
                assert mine.rsample(shape).dtype == gradient.float64
            assert str(mine.sample().dtype) == str(other.sample().dtype).replace(
                "torch", "gradient"
            )


def test_generalized_pareto() -> None:
    """In float32: PyTorch's takes no other."""
    found = []
    for package, d in ((gradient, distributions), (torch, torch.distributions)):
        given = [VECTOR, POSITIVE, [0.3, -0.2, 0.0]]
        parameters = [package.tensor(value, requires_grad=True) for value in given]
        excess = d.GeneralizedPareto(*parameters)
        x, u = package.tensor([0.5, -1.0, 3.0]), package.tensor([0.1, 0.5, 0.9])
        values = [excess.log_prob(x), excess.cdf(x), excess.icdf(u), excess.log_cdf(x),
                  excess.log_survival_function(x), excess.mean, excess.variance, excess.entropy(),
                  excess.mode]  # fmt: skip
        assert excess.rsample((2,)).requires_grad and excess.sample((2,)).shape == (2, 3)
        assert bool(excess.support.check(excess.sample((50,))).all())
        slopes = package.autograd.grad(sum(value.sum() for value in values), parameters)
        found.append([x.detach().numpy() for x in (*values, *slopes)])
        with pytest.raises(ValueError, match="scale"):
            d.GeneralizedPareto(parameters[0], -parameters[1], parameters[2])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)


def test_von_mises() -> None:
    """To 2e-6: PyTorch has Bessel functions to so many digits."""
    found = []
    for package, d in ((gradient, distributions), (torch, torch.distributions)):
        loc = package.tensor(VECTOR, dtype=package.float64, requires_grad=True)
        k = package.tensor([1e-3, 2.0, 50.0], dtype=package.float64, requires_grad=True)
        angles = d.VonMises(loc, k)
        log_prob = angles.log_prob(package.tensor([[-1.0, 0.5, 3.0]] * 2, dtype=package.float64))
        (log_prob.sum() + angles.variance.sum()).backward()
        assert angles.sample((4,)).shape == (4, 3) and not angles.sample().requires_grad
        shown = [log_prob.detach(), angles.variance.detach(), loc.grad, k.grad, angles.mean]
        found.append([x.detach().numpy() for x in shown])
        with pytest.raises(NotImplementedError):
            angles.entropy()
        with pytest.raises(ValueError, match="concentration"):
            d.VonMises(loc, -k)
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["Normal", "Laplace", "Cauchy", "Gumbel", "LogNormal"])
def test_quantiles(name: str) -> None:
    given = {"loc": VECTOR, "scale": POSITIVE}
    ours, theirs = tensors(gradient, given), tensors(torch, given)
    mine, other = getattr(distributions, name)(**ours), getattr(torch.distributions, name)(**theirs)
    at = [[0.1, 0.5, 0.9]]
    found = mine.icdf(gradient.tensor(at, dtype=gradient.float64))
    compare(ours, theirs, found, other.icdf(torch.tensor(at, dtype=torch.float64)), "icdf")


def named(pair: list[dict[str, Any]]) -> dict[str, Any]:
    """The tensors among the parameters of both."""
    return {
        f"{name} {i}": value
        for i, given in enumerate(pair)
        for name, value in given.items()
        if not isinstance(value, int)
    }


DIVERGENCES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("Normal", {"loc": VECTOR, "scale": POSITIVE}, {"loc": 0.5, "scale": [1.0, 2.0, 3.0]}),
    ("HalfNormal", {"scale": POSITIVE}, {"scale": [1.0, 2.0, 3.0]}),
    ("LogNormal", {"loc": VECTOR, "scale": POSITIVE}, {"loc": 0.5, "scale": [1.0, 2.0, 3.0]}),
    ("Laplace", {"loc": VECTOR, "scale": POSITIVE}, {"loc": 0.5, "scale": [1.0, 2.0, 3.0]}),
    ("Gumbel", {"loc": VECTOR, "scale": POSITIVE}, {"loc": 0.5, "scale": [1.0, 2.0, 3.0]}),
    ("Exponential", {"rate": POSITIVE}, {"rate": [1.0, 2.0, 3.0]}),
    ("Poisson", {"rate": POSITIVE}, {"rate": [1.0, 2.0, 3.0]}),
    ("Geometric", {"probs": [0.2, 0.5, 0.9]}, {"probs": [0.3, 0.4, 0.1]}),
    ("Uniform", {"low": VECTOR, "high": 3.0}, {"low": [-2.0, -3.0, 2.5], "high": 4.0}),
    ("Bernoulli", {"probs": [0.2, 0.5, 0.9]}, {"logits": VECTOR}),
    ("Binomial", {"total_count": 3, "probs": [0.2, 0.5]}, {"total_count": 3, "probs": [0.3, 0.7]}),
    ("Categorical", {"probs": PROBS}, {"logits": LOGITS}),
    ("OneHotCategorical", {"logits": LOGITS}, {"probs": PROBS}),
    ("Gamma", {"concentration": POSITIVE, "rate": 2.0}, {"concentration": 1.5, "rate": POSITIVE}),
    ("Beta", {"concentration1": POSITIVE, "concentration0": 2.0},
     {"concentration1": 1.5, "concentration0": POSITIVE}),
    ("Dirichlet", {"concentration": POSITIVE}, {"concentration": [2.0, 0.4, 1.0]}),
    ("MultivariateNormal", {"loc": VECTOR, "covariance_matrix": MATRIX},
     {"loc": [POSITIVE, VECTOR], "scale_tril": TRIL}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "p", "q"), DIVERGENCES, ids=[row[0] for row in DIVERGENCES])
def test_divergence(name: str, p: Any, q: Any) -> None:
    ours, theirs = ([tensors(package, g) for g in (p, q)] for package in (gradient, torch))
    found = distributions.kl_divergence(*(getattr(distributions, name)(**g) for g in ours))
    wanted = torch.distributions.kl_divergence(
        *(getattr(torch.distributions, name)(**g) for g in theirs)
    )
    mine, other = named(ours), named(theirs)
    compare(mine, other, found, wanted, f"divergence of {name}")


BETAS = {"concentration1": [0.6, 1.5, 4.0], "concentration0": [2.0, 0.5, 3.0]}
FAMILIES: dict[str, list[dict[str, Any]]] = {
    "Beta": [BETAS],
    "ContinuousBernoulli": [{"probs": [0.2, 0.5, 0.9]}, {"logits": [-3.0, 0.001, 4.0]}],
    "Exponential": [{"rate": POSITIVE}],
    "Gamma": [{"concentration": POSITIVE, "rate": [2.0, 0.3, 1.0]}],
    "Gumbel": [{"loc": VECTOR, "scale": POSITIVE}],
    "Laplace": [{"loc": VECTOR, "scale": POSITIVE}],
    "Normal": [{"loc": [0.3, -2.0, 1.0], "scale": [1.0, 0.2, 4.0]}],
    "Pareto": [{"scale": [0.5, 1.0, 2.0], "alpha": [3.0, 1.5, 0.5]}, {"scale": 0.1, "alpha": 4.0}],
    "Uniform": [
        {"low": [0.2, 0.3, 2.5], "high": [0.7, 2.0, 4.0]},
        {"low": [-1.0, 0.0, 0.0], "high": [2.0, 1.0, 0.5]},
    ],
    "Poisson": [{"rate": POSITIVE}],
    "Bernoulli": [{"probs": [0.2, 0.5, 0.9]}],
    "Binomial": [{"total_count": 3, "probs": [0.2, 0.5, 0.9]}],
    "Cauchy": [{"loc": VECTOR, "scale": POSITIVE}, {"loc": 0.5, "scale": [1.0, 2.0, 3.0]}],
    "MultivariateNormal": [{"loc": VECTOR, "covariance_matrix": MATRIX}],
    "LowRankMultivariateNormal": [
        {"loc": VECTOR, "cov_factor": [[1.0], [0.3], [-0.5]], "cov_diag": POSITIVE},
        {"loc": [VECTOR, POSITIVE], "cov_factor": [[0.2, 1], [1, 0], [3, 2]], "cov_diag": POSITIVE},
    ],
}
REGISTERED = [
    (p.__name__, q.__name__)
    for p, q in torch.distributions.kl._KL_REGISTRY
    if p.__name__ in FAMILIES and q.__name__ in FAMILIES
]


def test_every_formula_of_pytorch_is_here() -> None:
    ours = {(p.__name__, q.__name__) for p, q in distributions.kl.FORMULAS}
    theirs = {(p.__name__, q.__name__) for p, q in torch.distributions.kl._KL_REGISTRY}
    assert theirs - ours == {("ExponentialFamily", "ExponentialFamily")}


@pytest.mark.parametrize(("p", "q"), REGISTERED, ids=lambda name: name)
def test_divergence_between_families(p: str, q: str) -> None:
    for given in FAMILIES[p]:
        for other in FAMILIES[q]:
            ours, theirs = ([tensors(lib, g) for g in (given, other)] for lib in (gradient, torch))
            mine = [getattr(distributions, n)(**g) for n, g in zip((p, q), ours, strict=True)]
            them = [
                getattr(torch.distributions, n)(**g) for n, g in zip((p, q), theirs, strict=True)
            ]
            found = distributions.kl_divergence(*mine)
            wanted = torch.distributions.kl_divergence(*them)
            if wanted.isinf().all():  # in PyTorch of the shape of one of p's parameters
                wanted = wanted.expand(tuple(found.shape))
            compare(named(ours), named(theirs), found, wanted, f"divergence of {p} and {q}")


def test_divergences_of_composed_ones() -> None:
    found = []
    for package, d in ((gradient, distributions), (torch, torch.distributions)):
        a, b = package.tensor([[0.1, 0.2]]), package.tensor([1.0, 3.0])
        p, q = d.Independent(d.Normal(a, b), 1), d.Independent(d.Normal(b, b), 1)
        tanh = d.TanhTransform()
        squashed = [d.TransformedDistribution(each, tanh) for each in (p, q)]
        found.append([d.kl_divergence(p, q).numpy(), d.kl_divergence(*squashed).numpy()])
        with pytest.raises(NotImplementedError):
            d.kl_divergence(d.Normal(0.0, 1.0), d.Categorical(package.ones(2)))
        with pytest.raises(NotImplementedError):
            d.kl_divergence(squashed[0], d.TransformedDistribution(q, d.ExpTransform()))
    np.testing.assert_allclose(*found, rtol=1e-6)


MISTAKES: list[Callable[[Any, Any], Any]] = [
    lambda p, d: d.Normal(0.0, -1.0),
    lambda p, d: d.Normal(float("nan"), 1.0),
    lambda p, d: d.HalfNormal(-1.0),
    lambda p, d: d.LogNormal(0.0, -1.0),
    lambda p, d: d.RelaxedBernoulli(0.5, 1.5),
    lambda p, d: d.HalfNormal(1.0).log_prob(p.tensor(-1.0)),
    lambda p, d: d.Normal("0", 1.0),
    lambda p, d: d.Uniform(1.0, 1.0),
    lambda p, d: d.Bernoulli(1.5),
    lambda p, d: d.Bernoulli(0.5, 0.5),
    lambda p, d: d.Bernoulli(),
    lambda p, d: d.Bernoulli(0.5).log_prob(p.tensor(0.5)),
    lambda p, d: d.Categorical(p.tensor([0.5, -0.5])),
    lambda p, d: d.Categorical(p.tensor(0.5)),
    lambda p, d: d.Categorical(p.ones(3)).log_prob(p.tensor(3)),
    lambda p, d: d.Categorical(p.ones(3)).log_prob(p.tensor(0.5)),
    lambda p, d: d.Gamma(0.0, 1.0),
    lambda p, d: d.Beta(1.0, -1.0),
    lambda p, d: d.Beta(1.0, 1.0).log_prob(p.tensor(1.5)),
    lambda p, d: d.Dirichlet(p.tensor([0.0, 1.0])),
    lambda p, d: d.Dirichlet(p.tensor(1.0)),
    lambda p, d: d.Dirichlet(p.ones(2)).log_prob(p.ones(2)),
    lambda p, d: d.MultivariateNormal(p.zeros(2), -p.eye(2)),
    lambda p, d: d.MultivariateNormal(p.zeros(2)),
    lambda p, d: d.MultivariateNormal(p.zeros(2), p.eye(2)).log_prob(p.zeros(3)),
    lambda p, d: d.Normal(p.zeros(2), 1.0).log_prob(p.zeros(3)),
    lambda p, d: d.Normal(0.0, 1.0).log_prob(2.0),
    lambda p, d: d.Independent(d.Normal(0.0, 1.0), 1),
    lambda p, d: d.Poisson(-1.0),
    lambda p, d: d.Poisson(1.0).log_prob(p.tensor(0.5)),
    lambda p, d: d.MixtureSameFamily(d.Categorical(p.ones(2)), d.Normal(p.zeros(3), 1.0)),
    lambda p, d: d.ReshapeTransform((3,), (2, 2)),
]


@pytest.mark.parametrize("mistake", range(len(MISTAKES)))
def test_mistakes_raise(mistake: int) -> None:
    with pytest.raises(ValueError):
        MISTAKES[mistake](torch, torch.distributions)
    with pytest.raises(ValueError):
        MISTAKES[mistake](gradient, distributions)


def test_without_checks() -> None:
    for package, d in ((gradient, distributions), (torch, torch.distributions)):
        assert d.Normal(0.0, -1.0, validate_args=False).batch_shape == ()
        found = d.Uniform(0.0, 1.0, validate_args=False).log_prob(package.tensor(2.0))
        assert float(found) == -float("inf")


def test_stick_breaking_stays_finite_where_a_share_is_nothing() -> None:
    answers = []
    for package in (gradient, torch):
        transform = package.distributions.StickBreakingTransform()
        x = package.tensor([30.0, -30.0, 20.0], requires_grad=True)
        y = transform(x)
        volume = transform.log_abs_det_jacobian(x, y)
        (y.sum() + volume).backward()
        answers.append([volume.item(), *transform.inv(y).tolist(), *x.grad.tolist()])
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5)


def test_tools_for_distributions_of_ones_own() -> None:
    for package in (gradient, torch):
        tools = package.distributions.utils
        a, b = tools.broadcast_all(package.ones(3, 1, dtype=package.float64), 2)
        assert tuple(b.shape) == (3, 1) and b.dtype == package.float64 and a.sum() == 3
        assert [tuple(each.shape) for each in tools.broadcast_all(1, 2.5)] == [(), ()]
        for wrong in ("1", None, [1]):
            with pytest.raises(ValueError):
                tools.broadcast_all(1, wrong)

        class Squared:
            def __init__(self, x: Any) -> None:
                self.x = x

            @tools.lazy_property
            def square(self) -> Any:
                """x x"""
                return self.x * self.x

        made = Squared(package.ones(2, requires_grad=True))
        with package.no_grad():
            assert made.square.requires_grad
        assert made.square is made.square


@pytest.mark.parametrize("diag", range(-3, 4))
@pytest.mark.parametrize("batch", [(), (2,), (0,)])
def test_triangles_as_vectors(diag: int, batch: tuple[int, ...]) -> None:
    x = (
        np.arange(16.0 * max(1, sum(batch))).reshape(*(batch or ()), 4, 4)
        if batch != (0,)
        else (np.zeros((0, 4, 4)))
    )

    def both(package: Any) -> Any:
        tools = package.distributions.utils
        vector = tools.tril_matrix_to_vec(package.tensor(x), diag)
        try:
            return vector.numpy(), tools.vec_to_tril_matrix(vector, diag).numpy()
        except (ValueError, RuntimeError):
            return vector.numpy(), None

    for mine, other in zip(both(gradient), both(torch), strict=True):
        assert (mine is None) is (other is None)
        if mine is not None:
            np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("count", range(1, 12))
@pytest.mark.parametrize("diag", [-2, 0, 1])
def test_vectors_of_no_triangle_are_refused(count: int, diag: int) -> None:
    def shape(package: Any) -> Any:
        try:
            return tuple(
                package.distributions.utils.vec_to_tril_matrix(package.ones(count), diag).shape
            )
        except (ValueError, RuntimeError):
            return None

    assert shape(gradient) == shape(torch)


def test_a_mixture_of_intervals_checks_its_outcomes() -> None:
    for package in (gradient, torch):
        d = package.distributions
        high = package.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        mixture = d.MixtureSameFamily(
            d.Categorical(package.ones(3, 2)),
            d.Uniform(package.zeros(3, 2), high),
            validate_args=True,
        )
        inside = mixture.support.check(package.tensor([0.5, 3.5, 6.5]))
        assert inside.tolist() == [True, False, False]
        assert tuple(mixture.log_prob(package.tensor([0.5, 2.5, 1.5])).shape) == (3,)
        with pytest.raises(ValueError):
            mixture.log_prob(package.tensor([0.5, 2.5, 9.5]))
