"""Models of physics and of space: differential equations, operators, radiance fields."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.further_models.features import normal, perceptron
from bench.training_models import Built, TrainingModel


def neural_ode(package: Any) -> Built:
    """A neural ODE (Chen et al. 2018), the cubic spiral: 20 steps of Runge and Kutta's method of
    order 4."""
    nn, h = package.nn, 0.05
    net = perceptron(package, (2, 50, 2), nn.Tanh)
    for layer in (net[0], net[2]):
        nn.init.normal_(layer.weight, mean=0, std=0.1)
        nn.init.constant_(layer.bias, val=0)

    def f(y: Any) -> Any:
        return net(y**3)

    def loss(y: Any, path: Any) -> Any:
        points = [y]
        for _ in range(20):
            k1 = f(y)
            k2 = f(y + h * k1 / 2)
            k3 = f(y + h * k2 / 2)
            k4 = f(y + h * k3)
            y = y + (k1 + 2 * k2 + 2 * k3 + k4) * h / 6
            points.append(y)
        return (package.stack(points) - path).abs().mean()

    draws = np.random.default_rng(0)
    points = [normal(draws, 128, 2)]
    for _ in range(200):
        cubes = points[-1] ** 3
        turned = cubes @ np.array([[-0.1, 2.0], [-2.0, -0.1]], np.float32)
        points.append((points[-1] + 0.005 * turned).clip(-2, 2))
    return net, loss, [points[0], np.stack(points[::10])]


def pinn(package: Any) -> Built:
    """A physics-informed network for Burgers' equation (Raissi et al. 2019): eight hidden layers of
    20, the residual at 2,000 points, and 100 points of the boundary."""
    net = perceptron(package, (2, *[20] * 8, 1), package.nn.Tanh)
    nu = 0.01 / math.pi

    def derivative(u: Any, x: Any) -> Any:
        (du,) = package.autograd.grad(u, x, package.ones_like(u), create_graph=True)
        return du

    def loss(inside: Any, boundary: Any) -> Any:
        t, x = inside[:, :1].clone().requires_grad_(), inside[:, 1:].clone().requires_grad_()
        u = net(package.cat([t, x], dim=1))
        u_t, u_x = derivative(u, t), derivative(u, x)
        residual = u_t + u * u_x - nu * derivative(u_x, x)
        known = net(boundary[:, :2])
        return (residual**2).mean() + package.nn.functional.mse_loss(known, boundary[:, 2:])

    draws = np.random.default_rng(0)
    inside = draws.random((2000, 2), dtype=np.float32) * [1, 2] - [0, 1]
    start = draws.random((100, 1)) * 2 - 1
    boundary = np.concatenate([0 * start, start, -np.sin(math.pi * start)], 1)
    return net, loss, [inside.astype(np.float32), boundary.astype(np.float32)]


def hamiltonian(package: Any) -> Built:
    """A Hamiltonian network (Greydanus et al. 2019) of two bodies in the plane: the derivatives by
    place and momentum are those of one scalar output."""
    net = perceptron(package, (8, 200, 200, 1), package.nn.Tanh)
    for layer in net:
        if hasattr(layer, "weight"):
            package.nn.init.orthogonal_(layer.weight)

    def loss(x: Any, change: Any) -> Any:
        x = x.clone().requires_grad_(True)
        (dh,) = package.autograd.grad(net(x).sum(), x, create_graph=True)
        by_place, by_momentum = package.split(dh, 4, dim=1)
        predicted = package.cat([by_momentum, -by_place], dim=1)
        return (change - predicted).pow(2).mean()

    draws = np.random.default_rng(0)
    x = normal(draws, 512, 8)
    return net, loss, [x, np.concatenate([x[:, 4:], -x[:, :4]], 1)]


def fourier_operator(package: Any) -> Built:
    """A Fourier neural operator in one dimension (Li et al. 2021): four layers of 16 modes."""
    nn, width, modes = package.nn, 32, 16

    class SpectralConv(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # Real, for optimisers that know no complex numbers.
            self.weight = nn.Parameter(package.rand(width, width, modes, 2) / width**2)

        def forward(self, x: Any) -> Any:
            spectrum = package.fft.rfft(x)
            weight = package.view_as_complex(self.weight)
            out = package.zeros_like(spectrum)
            out[:, :, :modes] = package.einsum("bix,iox->box", spectrum[:, :, :modes], weight)
            return package.fft.irfft(out, n=x.size(-1))

    class Operator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Linear(2, width)
            self.spectral = nn.ModuleList([SpectralConv() for _ in range(4)])
            self.local = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in range(4)])
            self.project, self.out = nn.Linear(width, 128), nn.Linear(128, 1)

        def forward(self, x: Any) -> Any:
            grid = package.linspace(0, 1, x.size(1), dtype=x.dtype)
            x = package.stack([x, grid.expand_as(x)], dim=-1)
            x = self.lift(x).permute(0, 2, 1)
            for i, (spectral, local) in enumerate(zip(self.spectral, self.local, strict=True)):
                x = spectral(x) + local(x)
                if i < 3:
                    x = nn.functional.gelu(x)
            x = nn.functional.gelu(self.project(x.permute(0, 2, 1)))
            return self.out(x).squeeze(-1)

    operator = Operator()

    def loss(x: Any, y: Any) -> Any:
        difference = (operator(x) - y).norm(2, 1)
        return (difference / y.norm(2, 1)).mean()

    draws = np.random.default_rng(0)
    x = np.cumsum(normal(draws, 20, 256), 1) / 16
    return operator, loss, [x, np.tanh(np.roll(x, 3, 1))]


def deep_operator(package: Any) -> Built:
    """A deep operator network (Lu et al. 2021): the product of features of a function, known at 100
    places, and of a place."""
    nn = package.nn

    class DeepONet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = perceptron(package, (100, 128, 128, 64), nn.GELU)
            self.trunk = perceptron(package, (1, 128, 128, 64), nn.GELU)
            self.bias = nn.Parameter(package.zeros(1))

        def forward(self, x: Any, places: Any) -> Any:
            features = nn.functional.gelu(self.trunk(places))
            return package.einsum("bp,xp->bx", self.branch(x), features) + self.bias

    model = DeepONet()

    def loss(x: Any, y: Any) -> Any:
        places = package.linspace(0, 1, 100, dtype=x.dtype).unsqueeze(-1)
        return nn.functional.mse_loss(model(x, places), y)

    draws = np.random.default_rng(0)
    x = np.cumsum(normal(draws, 256, 100), 1) / 10
    return model, loss, [x, np.cumsum(x, 1) / 100]


def siren(package: Any) -> Built:
    """A network of sines (Sitzmann et al. 2020) that fits the colours of 2,048 places of an
    image."""
    nn = package.nn

    class Sine(nn.Module):
        def __init__(self, inputs: int, bound: float, frequency: float) -> None:
            super().__init__()
            self.linear, self.frequency = nn.Linear(inputs, 256), frequency
            with package.no_grad():
                self.linear.weight.uniform_(-bound, bound)

        def forward(self, x: Any) -> Any:
            return package.sin(self.frequency * self.linear(x))

    hidden = [Sine(256, math.sqrt(6 / 256), 1.0) for _ in range(3)]
    net = nn.Sequential(Sine(2, 1 / 2, 30.0), *hidden, nn.Linear(256, 3))

    def loss(x: Any, y: Any) -> Any:
        return ((net(x) - y) ** 2).mean()

    draws = np.random.default_rng(0)
    x = draws.random((2048, 2), dtype=np.float32) * 2 - 1
    y = np.sin(x @ normal(draws, 2, 3) * 9)
    return net, loss, [x, y]


def nerf(package: Any) -> Built:
    """A neural radiance field (Mildenhall et al. 2020) of width 128: 64 samples on each of 64 rays,
    with positional encodings of places and directions."""
    nn = package.nn
    F, samples = nn.functional, 64

    def encode(x: Any, frequencies: int) -> Any:
        parts = [x]
        for i in range(frequencies):
            parts += [package.sin(2.0**i * x), package.cos(2.0**i * x)]
        return package.cat(parts, -1)

    class Field(nn.Module):
        def __init__(self, width: int = 128, places: int = 63, directions: int = 27) -> None:
            super().__init__()
            inputs = [places] + [width] * 4 + [width + places] + [width] * 2
            self.layers = nn.ModuleList([nn.Linear(n, width) for n in inputs])
            self.density, self.feature = nn.Linear(width, 1), nn.Linear(width, width)
            self.view = nn.Linear(width + directions, width // 2)
            self.colour = nn.Linear(width // 2, 3)

        def forward(self, places: Any, directions: Any) -> tuple[Any, Any]:
            h = places
            for i, layer in enumerate(self.layers):
                h = F.relu(layer(h))
                if i == 4:
                    h = package.cat([places, h], -1)
            density = self.density(h)
            h = F.relu(self.view(package.cat([self.feature(h), directions], -1)))
            return package.sigmoid(self.colour(h)), density.squeeze(-1)

    field = Field()

    def loss(rays: Any, colours: Any) -> Any:
        origin, direction = rays[:, :3], rays[:, 3:]
        steps = package.linspace(2.0, 6.0, samples + 1, dtype=rays.dtype)
        z = steps[:-1].expand(rays.shape[0], samples)
        z = z + package.rand_like(z) * (4.0 / samples)
        places = origin[:, None, :] + direction[:, None, :] * z[..., None]
        views = direction / package.norm(direction, dim=-1, keepdim=True)
        views = encode(views, 4)[:, None, :].expand(-1, samples, -1)
        rgb, density = field(encode(places, 10), views)
        spans = z[:, 1:] - z[:, :-1]
        spans = package.cat([spans, package.full_like(spans[:, :1], 1e10)], -1)
        alpha = 1 - package.exp(-F.relu(density) * spans)
        clear = package.cat([package.ones_like(alpha[:, :1]), 1 - alpha + 1e-10], -1)
        weights = alpha * package.cumprod(clear, -1)[:, :-1]
        return ((package.sum(weights[..., None] * rgb, -2) - colours) ** 2).mean()

    draws = np.random.default_rng(0)
    x, y = normal(draws, 64, 6), draws.random((64, 3), dtype=np.float32) / 4
    return field, loss, [x, y]


MODELS = [
    TrainingModel("Neural ODE, 20 steps", neural_ode),
    TrainingModel("PINN 8 x 20, 2000", pinn),
    TrainingModel("Hamiltonian network, 512", hamiltonian),
    TrainingModel("Fourier neural operator, 20 x 256", fourier_operator),
    TrainingModel("DeepONet, 256 x 100", deep_operator),
    TrainingModel("SIREN 4 x 256, 2048", siren),
    TrainingModel("NeRF 8 x 128, 64 x 64", nerf),
]
