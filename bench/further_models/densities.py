"""Models of statistics: meta-learning, flows, Gaussian processes, densities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.further_models.features import normal, perceptron
from bench.training_models import Built, TrainingModel


def maml(package: Any) -> Built:
    """Model-agnostic meta-learning (Finn et al. 2017) of sine waves: through five inner steps for
    each of four tasks of ten points."""
    nn = package.nn
    F = nn.functional
    model = perceptron(package, (1, 40, 40, 1), nn.ReLU)

    def loss(x: Any, y: Any) -> Any:
        total = 0.0
        for task in range(x.shape[1]):
            known_x, known_y, query_x, query_y = x[0, task], y[0, task], x[1, task], y[1, task]
            weights = dict(model.named_parameters())
            for _ in range(5):
                out = package.func.functional_call(model, weights, (known_x,))
                inner = F.mse_loss(out, known_y)
                grads = package.autograd.grad(inner, list(weights.values()), create_graph=True)
                weights = {
                    name: weight - 0.01 * grad
                    for (name, weight), grad in zip(weights.items(), grads, strict=True)
                }
            out = package.func.functional_call(model, weights, (query_x,))
            total = total + F.mse_loss(out, query_y)
        return total / x.shape[1]

    draws = np.random.default_rng(0)
    x = draws.random((2, 4, 10, 1), dtype=np.float32) * 10 - 5
    return model, loss, [x, np.sin(x + draws.random((1, 4, 1, 1), dtype=np.float32)) * 3]


def glow(package: Any) -> Built:
    """A flow on vectors of 43 numbers: eight steps of an affine layer, a product with an invertible
    matrix (Kingma and Dhariwal 2018) and a masked coupling (Dinh et al. 2017)."""
    nn, size = package.nn, 43

    class Coupling(nn.Module):
        def __init__(self, parity: int) -> None:
            super().__init__()
            self.scale = perceptron(package, (size, 128, 128, size), nn.Tanh)
            self.shift = perceptron(package, (size, 128, 128, size), nn.ReLU)
            self.register_buffer("mask", (package.arange(size) % 2 == parity).float())

        def forward(self, x: Any) -> tuple[Any, Any]:
            kept = x * self.mask
            scale = package.tanh(self.scale(kept)) * (1 - self.mask)
            shift = self.shift(kept) * (1 - self.mask)
            return kept + (1 - self.mask) * (x * package.exp(scale) + shift), scale.sum(dim=1)

    class Step(nn.Module):
        def __init__(self, parity: int) -> None:
            super().__init__()
            self.log_scale = nn.Parameter(package.zeros(size))
            self.bias = nn.Parameter(package.zeros(size))
            self.weight = nn.Parameter(package.linalg.qr(package.randn(size, size))[0])
            self.coupling = Coupling(parity)

        def forward(self, x: Any) -> tuple[Any, Any]:
            x = (x + self.bias) * package.exp(self.log_scale)
            x = x @ self.weight
            log_det = self.log_scale.sum() + package.slogdet(self.weight)[1]
            x, of_coupling = self.coupling(x)
            return x, log_det + of_coupling

    steps = nn.ModuleList([Step(i % 2) for i in range(8)])

    def loss(x: Any, noise: Any) -> Any:
        x = x + noise
        log_det = package.zeros(len(x), dtype=x.dtype)
        for step in steps:
            x, of_step = step(x)
            log_det = log_det + of_step
        log_prob = -0.5 * (x**2 + math.log(2 * math.pi)).sum(dim=1)
        return -(log_prob + log_det).mean()

    draws = np.random.default_rng(0)
    return steps, loss, [np.tanh(normal(draws, 256, size) * 2), normal(draws, 256, size) / 100]


def spline_flow(package: Any) -> Built:
    """A neural spline flow (Durkan et al. 2019): four couplings whose halves are transformed by
    monotonic rational quadratic splines of eight bins."""
    nn, size, bins, bound = package.nn, 8, 8, 3.0
    F = nn.functional

    def knots(widths: Any) -> tuple[Any, Any]:
        widths = 1e-3 + (1 - 1e-3 * bins) * F.softmax(widths, dim=-1)
        edges = F.pad(package.cumsum(widths, dim=-1), pad=(1, 0), mode="constant", value=0.0)
        edges = 2 * bound * edges - bound
        edges[..., 0], edges[..., -1] = -bound, bound
        return edges, edges[..., 1:] - edges[..., :-1]

    def spline(x: Any, parameters: Any) -> tuple[Any, Any]:
        widths, heights, slopes = parameters.split([bins, bins, bins - 1], dim=-1)
        edges, widths = knots(widths)
        levels, heights = knots(heights)
        slopes = 1e-3 + F.softplus(
            F.pad(slopes, pad=(1, 1), value=math.log(math.exp(1 - 1e-3) - 1))
        )
        inside = (x >= -bound) & (x <= bound)
        clamped = x.clamp(-bound, bound)
        shifted = edges.detach().clone()
        shifted[..., -1] += 1e-6
        at = (package.sum(clamped[..., None] >= shifted, dim=-1) - 1)[..., None]

        def chosen(values: Any) -> Any:
            return values.gather(-1, at)[..., 0]

        width, height, level = chosen(widths), chosen(heights), chosen(levels)
        slope, next_slope = chosen(slopes), chosen(slopes[..., 1:])
        delta = height / width
        theta = (clamped - chosen(edges)) / width
        between = theta * (1 - theta)
        numerator = height * (delta * theta.pow(2) + slope * between)
        denominator = delta + (slope + next_slope - 2 * delta) * between
        ways = next_slope * theta.pow(2) + 2 * delta * between + slope * (1 - theta).pow(2)
        log_det = package.log(delta.pow(2) * ways) - 2 * package.log(denominator)
        y = package.where(inside, level + numerator / denominator, x)
        return y, package.where(inside, log_det, package.zeros_like(log_det))

    half = size // 2
    nets = nn.ModuleList(
        [perceptron(package, (half, 64, 64, half * (3 * bins - 1)), nn.ReLU) for _ in range(4)]
    )

    def loss(x: Any, noise: Any) -> Any:
        x, log_det = x + noise, 0.0
        for net in nets:
            kept, changed = x.chunk(2, dim=1)
            changed, of_step = spline(changed, net(kept).view(-1, half, 3 * bins - 1))
            x = package.cat([changed, kept], dim=1)
            log_det = log_det + of_step.sum(dim=1)
        prior = package.distributions.Normal(package.zeros_like(x), package.ones_like(x))
        return -(prior.log_prob(x).sum(dim=1) + log_det).mean()

    draws = np.random.default_rng(0)
    return nets, loss, [np.abs(normal(draws, 256, size)) * 2 - 1.5, normal(draws, 256, size) / 100]


def _kernel(package: Any, x: Any, y: Any, model: Any) -> Any:
    """The squared exponential kernel, with a length for each feature."""
    lengths = model.log_lengths.exp()
    squares = package.cdist(x / lengths, y / lengths) ** 2
    return model.log_scale.exp() * package.exp(-0.5 * squares)


def gaussian_process(package: Any) -> Built:
    """The evidence of an exact Gaussian process (Rasmussen and Williams 2006, algorithm 2.1) of 300
    points, on features of a network (deep kernel learning, Wilson et al. 2016)."""
    nn = package.nn

    class Process(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = perceptron(package, (8, 64, 64, 4), nn.ReLU)
            self.log_lengths = nn.Parameter(package.zeros(4))
            self.log_scale, self.log_noise = (nn.Parameter(package.zeros(())) for _ in range(2))

    model = Process()

    def loss(x: Any, y: Any) -> Any:
        z, n = model.features(x), len(x)
        covariance = _kernel(package, z, z, model)
        covariance = covariance + model.log_noise.exp() * package.eye(n, dtype=x.dtype)
        lower = package.linalg.cholesky(covariance)
        alpha = package.cholesky_solve(y[:, None], lower)[:, 0]
        log_det = 2 * lower.diagonal().log().sum()
        return 0.5 * (y @ alpha + log_det + n * math.log(2 * math.pi)) / n

    draws = np.random.default_rng(0)
    x = normal(draws, 300, 8)
    return model, loss, [x, np.sin(x.sum(1)) + normal(draws, 300) / 10]


def sparse_process(package: Any) -> Built:
    """The evidence bound of a sparse variational Gaussian process (Hensman et al. 2013) with 64
    inducing points, for 512 rows."""
    nn, points, rows = package.nn, 64, 512

    class Process(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inducing = nn.Parameter(package.randn(points, 8))
            self.mean = nn.Parameter(package.zeros(points))
            self.factor = nn.Parameter(package.eye(points))
            self.log_lengths = nn.Parameter(package.ones(8))
            self.log_scale, self.log_noise = (nn.Parameter(package.zeros(())) for _ in range(2))

    model = Process()

    def loss(x: Any, y: Any) -> Any:
        inducing, triangular = model.inducing, package.linalg.solve_triangular
        own = _kernel(package, inducing, inducing, model)
        own = own + 1e-4 * package.eye(points, dtype=x.dtype)
        lower = package.linalg.cholesky(own)
        projected = triangular(lower, _kernel(package, inducing, x, model), upper=False)
        factor = package.tril(model.factor)
        mean = projected.T @ model.mean
        spread = (factor.T @ projected).square().sum(0) - projected.square().sum(0)
        variance = model.log_scale.exp() + spread
        noise = model.log_noise.exp()
        likelihood = -0.5 * (
            math.log(2 * math.pi) + model.log_noise + ((y - mean) ** 2 + variance) / noise
        )
        log_det = package.logdet(factor @ factor.T)
        divergence = 0.5 * (factor.square().sum() + model.mean.square().sum() - points - log_det)
        return -likelihood.mean() + divergence / rows

    draws = np.random.default_rng(0)
    x = normal(draws, rows, 8)
    return model, loss, [x, np.sin(x.sum(1)) + normal(draws, rows) / 10]


def mixture_density(package: Any) -> Built:
    """A mixture density network (Bishop 1994): 20 normal distributions in two dimensions for each
    of 1,024 rows."""
    nn, parts = package.nn, 20
    F = nn.functional

    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 128), nn.ELU(), nn.Linear(128, 128), nn.ELU())
            self.logits = nn.Linear(128, parts)
            self.means, self.scales = nn.Linear(128, 2 * parts), nn.Linear(128, 2 * parts)

    model = Mixture()

    def loss(x: Any, y: Any) -> Any:
        h = model.body(x)
        log_weights = F.log_softmax(model.logits(h), dim=-1)
        means = model.means(h).view(-1, parts, 2)
        scales = F.softplus(model.scales(h)).view(-1, parts, 2) + 1e-3
        normed = (y.unsqueeze(1) - means) / scales
        log_prob = (-0.5 * normed**2 - scales.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
        return -package.logsumexp(log_weights + log_prob, dim=-1).mean()

    draws = np.random.default_rng(0)
    x = normal(draws, 1024, 8)
    return model, loss, [x, np.stack([np.sin(x[:, 0]) * 2, x[:, 1] * x[:, 2]], 1)]


def vae(package: Any) -> Built:
    """A variational autoencoder of vectors of 784 (Kingma and Welling 2014)."""
    nn = package.nn
    F = nn.functional

    class VAE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc3, self.fc4 = (
                nn.Linear(784, 400),
                nn.Linear(20, 400),
                nn.Linear(400, 784),
            )
            self.fc21, self.fc22 = nn.Linear(400, 20), nn.Linear(400, 20)

        def forward(self, x: Any) -> tuple[Any, Any, Any]:
            h = F.relu(self.fc1(x))
            mean, log_variance = self.fc21(h), self.fc22(h)
            std = package.exp(0.5 * log_variance)
            z = mean + package.randn_like(std) * std
            return package.sigmoid(self.fc4(F.relu(self.fc3(z)))), mean, log_variance

    model = VAE()

    def loss(x: Any, y: Any) -> Any:
        out, mean, log_variance = model(x)
        likelihood = F.binary_cross_entropy(out, y, reduction="sum")
        divergence = -0.5 * package.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        return likelihood + divergence

    draws = np.random.default_rng(0)
    x = (draws.random((128, 784)) * draws.random(784) > 0.4).astype(np.float32)
    return model, loss, [x, x]


def bayes_by_backprop(package: Any) -> Built:
    """Weights drawn from normal distributions, which are trained (Blundell et al. 2015)."""
    nn = package.nn
    F, distributions = nn.functional, package.distributions

    class BayesLinear(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.mean = nn.Parameter(package.randn(outputs, inputs) / math.sqrt(inputs))
            self.rho = nn.Parameter(package.full((outputs, inputs), -4.0))
            self.bias = nn.Parameter(package.zeros(outputs))

        def forward(self, x: Any) -> tuple[Any, Any]:
            scale = F.softplus(self.rho)
            posterior = distributions.Normal(self.mean, scale)
            prior = distributions.Normal(package.zeros_like(scale), package.ones_like(scale))
            divergence = distributions.kl_divergence(posterior, prior).sum()
            return F.linear(x, posterior.rsample(), self.bias), divergence

    layers = nn.ModuleList([BayesLinear(784, 256), BayesLinear(256, 256), BayesLinear(256, 10)])

    def loss(x: Any, y: Any) -> Any:
        total = 0.0
        for i, layer in enumerate(layers):
            x, divergence = layer(x if i == 0 else F.relu(x))
            total = total + divergence
        return F.cross_entropy(x, y) + total / 60000

    draws = np.random.default_rng(0)
    return layers, loss, [normal(draws, 128, 784), draws.integers(0, 10, 128)]


def rank_autoencoder(package: Any) -> Built:
    """An autoencoder whose codes of a batch are truncated to their first eight singular vectors
    (principal components), with the sum of the other singular values in the loss."""
    nn = package.nn
    encoder = perceptron(package, (100, 128, 32), nn.ReLU)
    decoder = perceptron(package, (32, 128, 100), nn.ReLU)

    def loss(x: Any, y: Any) -> Any:
        z = encoder(x)
        mean = z.mean(dim=0, keepdim=True)
        u, s, vh = package.linalg.svd(z - mean, full_matrices=False)
        kept = (u[:, :8] * s[:8]) @ vh[:8]
        return nn.functional.mse_loss(decoder(kept + mean), y) + 1e-3 * s[8:].sum()

    draws = np.random.default_rng(0)
    x = normal(draws, 256, 8) @ normal(draws, 8, 100) + normal(draws, 256, 100) / 10
    return nn.ModuleList([encoder, decoder]), loss, [x, x]


MODELS = [
    TrainingModel("MAML, 4 tasks, 5 steps", maml),
    TrainingModel("Glow, 256 x 43", glow),
    TrainingModel("Neural spline flow, 256 x 8", spline_flow),
    TrainingModel("Gaussian process, 300", gaussian_process),
    TrainingModel("Sparse Gaussian process, 512", sparse_process),
    TrainingModel("Mixture density network, 1024", mixture_density),
    TrainingModel("VAE 784-400-20, 128", vae),
    TrainingModel("Bayes by backprop, 128", bayes_by_backprop),
    TrainingModel("SVD autoencoder, 256", rank_autoencoder),
]
