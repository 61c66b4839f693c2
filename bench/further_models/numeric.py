"""Models of few features: control, physics, statistics, tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from bench.training_models import Built, TrainingModel

DRAWS = np.random.default_rng(1)


def normal(*shape: int) -> np.ndarray:
    return DRAWS.standard_normal(shape, dtype=np.float32)


def perceptron(package: Any, widths: Iterable[int], activation: Callable[[], Any]) -> Any:
    """Linear layers with an activation between each two."""
    widths, layers = list(widths), []
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        layers += [package.nn.Linear(inputs, outputs), activation()]
    return package.nn.Sequential(*layers[:-1])


# Control ----------------------------------------------------------------------------------------


def dqn(package: Any) -> Built:
    """A deep Q-network (Mnih et al. 2015) for four observations and two actions; the target
    network follows the other slowly (Lillicrap et al. 2016)."""
    nn = package.nn
    online, target = (perceptron(package, (4, 128, 128, 2), nn.ReLU) for _ in range(2))
    target.load_state_dict(online.state_dict())
    target.requires_grad_(False)

    def loss(x: Any, action: Any) -> Any:
        state, following, reward, done = x[:, :4], x[:, 4:8], x[:, 8], x[:, 9]
        with package.no_grad():
            best, _ = target(following).max(dim=1)
            wanted = reward + 0.99 * best * (1 - done)
        value = online(state).gather(1, action.unsqueeze(1)).squeeze(1)
        loss = nn.functional.smooth_l1_loss(value, wanted)
        with package.no_grad():
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.lerp_(fast, 0.005)
        return loss

    x = normal(64, 10)
    x[:, 8], x[:, 9] = 1.0, DRAWS.random(64) < 0.1
    return nn.ModuleList([online, target]), loss, [x, DRAWS.integers(0, 2, 64)]


def ppo(is_discrete: bool, package: Any) -> Built:
    """Proximal policy optimisation (Schulman et al. 2017) with the details of Huang et al. (2022):
    normalised advantages, clipped ratios and values, an entropy bonus. The actions are classes, or
    vectors with a standard deviation that is a parameter."""
    nn, distributions = package.nn, package.distributions
    observations, actions = (8, 4) if is_discrete else (17, 6)

    class Agent(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.critic = perceptron(package, (observations, 64, 64, 1), nn.Tanh)
            self.actor = perceptron(package, (observations, 64, 64, actions), nn.Tanh)
            if not is_discrete:
                self.log_std = nn.Parameter(package.zeros(1, actions))
            for layer in (*self.critic, *self.actor):
                if isinstance(layer, nn.Linear):
                    nn.init.orthogonal_(layer.weight, math.sqrt(2))
                    nn.init.constant_(layer.bias, 0.0)

        def evaluate(self, x: Any, action: Any) -> tuple[Any, Any, Any]:
            if is_discrete:
                policy = distributions.Categorical(logits=self.actor(x))
                log_prob, entropy = policy.log_prob(action), policy.entropy()
            else:
                mean = self.actor(x)
                policy = distributions.Normal(mean, self.log_std.expand_as(mean).exp())
                log_prob, entropy = policy.log_prob(action).sum(1), policy.entropy().sum(1)
            return log_prob, entropy, self.critic(x).view(-1)

    agent = Agent()

    def loss(x: Any, y: Any) -> Any:
        old_log_prob, advantage, returns, old_value = x[:, observations:].unbind(1)
        log_prob, entropy, value = agent.evaluate(x[:, :observations], y)
        ratio = (log_prob - old_log_prob).exp()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        policy_loss = package.max(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2)).mean()
        clipped = old_value + package.clamp(value - old_value, -0.2, 0.2)
        value_loss = package.max((value - returns) ** 2, (clipped - returns) ** 2).mean() / 2
        return policy_loss - 0.01 * entropy.mean() + 0.5 * value_loss

    x = normal(256, observations + 4)
    x[:, observations] = x[:, observations] / 10 - (1.4 if is_discrete else 8.5)
    x[:, observations + 2] += 3
    y = DRAWS.integers(0, actions, 256) if is_discrete else normal(256, actions)
    return agent, loss, [x, y]


def sac(package: Any) -> Built:
    """Soft actor-critic (Haarnoja et al. 2018): the losses of the actor, of two critics and of the
    temperature. The policy is a normal distribution, squashed by tanh."""
    nn = package.nn
    F, distributions = nn.functional, package.distributions
    observations, actions = 17, 6

    class Actor(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = perceptron(package, (observations, 256, 256), nn.ReLU)
            self.mean, self.log_std = nn.Linear(256, actions), nn.Linear(256, actions)

        def forward(self, x: Any) -> tuple[Any, Any]:
            x = F.relu(self.body(x))
            log_std = -5 + 0.5 * (2 + 5) * (package.tanh(self.log_std(x)) + 1)
            policy = distributions.Normal(self.mean(x), log_std.exp())
            drawn = policy.rsample()
            action = package.tanh(drawn)
            log_prob = policy.log_prob(drawn) - package.log(1 - action.pow(2) + 1e-6)
            return action, log_prob.sum(1, keepdim=True)

    def critic() -> Any:
        return perceptron(package, (observations + actions, 256, 256, 1), nn.ReLU)

    class Agent(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.actor, self.log_alpha = Actor(), nn.Parameter(package.full((1,), -2.0))
            self.critics = nn.ModuleList([critic(), critic()])
            self.targets = nn.ModuleList([critic(), critic()])
            self.targets.load_state_dict(self.critics.state_dict())
            self.targets.requires_grad_(False)

    agent = Agent()

    def loss(x: Any, y: Any) -> Any:
        with package.no_grad():
            for slow, fast in zip(
                agent.targets.parameters(), agent.critics.parameters(), strict=True
            ):
                slow.copy_(0.995 * slow + 0.005 * fast)
        state, following, action = x[:, :17], x[:, 17:34], x[:, 34:]
        reward, done = y.split(1, dim=1)
        alpha = agent.log_alpha.exp().detach()
        with package.no_grad():
            next_action, next_log_prob = agent.actor(following)
            both = package.cat([following, next_action], 1)
            value = package.min(*(target(both) for target in agent.targets))
            wanted = reward + (1 - done) * 0.99 * (value - alpha * next_log_prob)
        both = package.cat([state, action], 1)
        loss = sum(F.mse_loss(critic(both), wanted) for critic in agent.critics)
        drawn, log_prob = agent.actor(state)
        both = package.cat([state, drawn], 1)
        loss = loss + (alpha * log_prob - package.min(*(q(both) for q in agent.targets))).mean()
        return loss - (agent.log_alpha.exp() * (log_prob.detach() - actions)).mean()

    y = np.stack([normal(256) + 4, DRAWS.random(256) < 0.1], 1).astype(np.float32)
    return agent, loss, [normal(256, 40), y]


# Physics ----------------------------------------------------------------------------------------


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

    points = [normal(128, 2)]
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

    inside = DRAWS.random((2000, 2), dtype=np.float32) * [1, 2] - [0, 1]
    start = DRAWS.random((100, 1)) * 2 - 1
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

    x = normal(512, 8)
    return net, loss, [x, np.concatenate([x[:, 4:], -x[:, :4]], 1)]


def fourier_operator(package: Any) -> Built:
    """A Fourier neural operator in one dimension (Li et al. 2021): four layers of 16 modes."""
    nn, width, modes = package.nn, 32, 16

    class SpectralConv(nn.Module):  # type: ignore[misc]
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

    class Operator(nn.Module):  # type: ignore[misc]
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

    x = np.cumsum(normal(20, 256), 1) / 16
    return operator, loss, [x, np.tanh(np.roll(x, 3, 1))]


def deep_operator(package: Any) -> Built:
    """A deep operator network (Lu et al. 2021): the product of features of a function, known at 100
    places, and of a place."""
    nn = package.nn

    class DeepONet(nn.Module):  # type: ignore[misc]
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

    x = np.cumsum(normal(256, 100), 1) / 10
    return model, loss, [x, np.cumsum(x, 1) / 100]


def siren(package: Any) -> Built:
    """A network of sines (Sitzmann et al. 2020) that fits the colours of 2,048 places of an
    image."""
    nn = package.nn

    class Sine(nn.Module):  # type: ignore[misc]
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

    x = DRAWS.random((2048, 2), dtype=np.float32) * 2 - 1
    y = np.sin(x @ normal(2, 3) * 9)
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

    class Field(nn.Module):  # type: ignore[misc]
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

    x, y = normal(64, 6), DRAWS.random((64, 3), dtype=np.float32) / 4
    return field, loss, [x, y]


# Statistics -------------------------------------------------------------------------------------


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

    x = DRAWS.random((2, 4, 10, 1), dtype=np.float32) * 10 - 5
    return model, loss, [x, np.sin(x + DRAWS.random((1, 4, 1, 1), dtype=np.float32)) * 3]


def glow(package: Any) -> Built:
    """A flow on vectors of 43 numbers: eight steps of an affine layer, a product with an invertible
    matrix (Kingma and Dhariwal 2018) and a masked coupling (Dinh et al. 2017)."""
    nn, size = package.nn, 43

    class Coupling(nn.Module):  # type: ignore[misc]
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

    class Step(nn.Module):  # type: ignore[misc]
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

    return steps, loss, [np.tanh(normal(256, size) * 2), normal(256, size) / 100]


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

    return nets, loss, [np.abs(normal(256, size)) * 2 - 1.5, normal(256, size) / 100]


def _kernel(package: Any, x: Any, y: Any, model: Any) -> Any:
    """The squared exponential kernel, with a length for each feature."""
    lengths = model.log_lengths.exp()
    squares = package.cdist(x / lengths, y / lengths) ** 2
    return model.log_scale.exp() * package.exp(-0.5 * squares)


def gaussian_process(package: Any) -> Built:
    """The evidence of an exact Gaussian process (Rasmussen and Williams 2006, algorithm 2.1) of 300
    points, on features of a network (deep kernel learning, Wilson et al. 2016)."""
    nn = package.nn

    class Process(nn.Module):  # type: ignore[misc]
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

    x = normal(300, 8)
    return model, loss, [x, np.sin(x.sum(1)) + normal(300) / 10]


def sparse_process(package: Any) -> Built:
    """The evidence bound of a sparse variational Gaussian process (Hensman et al. 2013) with 64
    inducing points, for 512 rows."""
    nn, points, rows = package.nn, 64, 512

    class Process(nn.Module):  # type: ignore[misc]
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

    x = normal(rows, 8)
    return model, loss, [x, np.sin(x.sum(1)) + normal(rows) / 10]


def mixture_density(package: Any) -> Built:
    """A mixture density network (Bishop 1994): 20 normal distributions in two dimensions for each
    of 1,024 rows."""
    nn, parts = package.nn, 20
    F = nn.functional

    class Mixture(nn.Module):  # type: ignore[misc]
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

    x = normal(1024, 8)
    return model, loss, [x, np.stack([np.sin(x[:, 0]) * 2, x[:, 1] * x[:, 2]], 1)]


def vae(package: Any) -> Built:
    """A variational autoencoder of vectors of 784 (Kingma and Welling 2014)."""
    nn = package.nn
    F = nn.functional

    class VAE(nn.Module):  # type: ignore[misc]
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

    x = (DRAWS.random((128, 784)) * DRAWS.random(784) > 0.4).astype(np.float32)
    return model, loss, [x, x]


def bayes_by_backprop(package: Any) -> Built:
    """Weights drawn from normal distributions, which are trained (Blundell et al. 2015)."""
    nn = package.nn
    F, distributions = nn.functional, package.distributions

    class BayesLinear(nn.Module):  # type: ignore[misc]
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

    return layers, loss, [normal(128, 784), DRAWS.integers(0, 10, 128)]


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

    x = normal(256, 8) @ normal(8, 100) + normal(256, 100) / 10
    return nn.ModuleList([encoder, decoder]), loss, [x, x]


# Tables -----------------------------------------------------------------------------------------


def ft_transformer(package: Any) -> Built:
    """FT-Transformer (Gorishniy et al. 2021) for eight numbers and four categories: a token for
    each feature, three blocks of width 96 with ReGLU."""
    nn, width, heads = package.nn, 96, 8
    F, categories = nn.functional, [10, 50, 100, 1000]

    class Tokenizer(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(package.randn(8 + 1, width) / math.sqrt(width))
            self.bias = nn.Parameter(package.zeros(8 + 4, width))
            self.categories = nn.Embedding(sum(categories), width)
            offsets = package.tensor([0, *categories[:-1]]).cumsum(0)
            self.register_buffer("offsets", offsets)

        def forward(self, numbers: Any, classes: Any) -> Any:
            ones = package.ones(len(numbers), 1, dtype=numbers.dtype)
            tokens = self.weight[None] * package.cat([ones, numbers], dim=1)[:, :, None]
            tokens = package.cat([tokens, self.categories(classes + self.offsets[None])], dim=1)
            first = package.zeros(1, width, dtype=numbers.dtype)
            return tokens + package.cat([first, self.bias])[None]

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
            self.gate, self.down = nn.Linear(width, 2 * 128), nn.Linear(128, width)

        def forward(self, x: Any) -> Any:
            h = self.norm1(x)
            x = x + self.attention(h, h, h, need_weights=False)[0]
            a, b = self.gate(self.norm2(x)).chunk(2, dim=-1)
            return x + self.down(a * F.relu(b))

    class FTTransformer(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.tokenizer = Tokenizer()
            self.blocks = nn.ModuleList([Block() for _ in range(3)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1)

        def forward(self, numbers: Any, classes: Any) -> Any:
            x = self.tokenizer(numbers, classes)
            for block in self.blocks:
                x = block(x)
            return self.head(F.relu(self.norm(x[:, 0]))).squeeze(-1)

    model = FTTransformer()

    def loss(x: Any, y: Any) -> Any:
        label = y[:, 4].to(x.dtype)
        return F.binary_cross_entropy_with_logits(model(x, y[:, :4]), label)

    y = np.stack([DRAWS.integers(0, n, 256) for n in (*categories, 2)], 1)
    return model, loss, [normal(256, 8), y]


def tabnet(package: Any) -> Built:
    """TabNet (Arik and Pfister 2021): three steps that choose features by sparsemax (Martins and
    Astudillo 2016), with gated blocks and batch norms over virtual batches of 128."""
    nn, features, width, steps = package.nn, 32, 16, 3
    F = nn.functional

    def sparsemax(z: Any) -> Any:
        ordered, _ = package.sort(z, dim=-1, descending=True)
        sums = ordered.cumsum(dim=-1) - 1
        places = package.arange(1, z.size(-1) + 1, dtype=z.dtype)
        support = (places * ordered > sums).sum(dim=-1, keepdim=True)
        threshold = sums.gather(-1, support - 1) / support.to(z.dtype)
        return package.clamp(z - threshold, min=0)

    class GhostNorm(nn.Module):  # type: ignore[misc]
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(width, momentum=0.01)

        def forward(self, x: Any) -> Any:
            return package.cat([self.norm(part) for part in x.chunk(len(x) // 128, 0)], dim=0)

    class Gated(nn.Module):  # type: ignore[misc]
        def __init__(self, inputs: int, shared: Any = None) -> None:
            super().__init__()
            self.linear = shared or nn.Linear(inputs, 4 * width, bias=False)
            self.norm = GhostNorm(4 * width)

        def forward(self, x: Any) -> Any:
            x = self.norm(self.linear(x))
            return x[:, : 2 * width] * package.sigmoid(x[:, 2 * width :])

    class FeatureTransformer(nn.Module):  # type: ignore[misc]
        def __init__(self, shared: list[Any]) -> None:
            super().__init__()
            self.first = Gated(features, shared[0])
            self.rest = nn.ModuleList(
                [Gated(2 * width, shared[1]), Gated(2 * width), Gated(2 * width)]
            )

        def forward(self, x: Any) -> Any:
            x = self.first(x)
            for block in self.rest:
                x = (x + block(x)) * math.sqrt(0.5)
            return x

    class TabNet(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            shared = [nn.Linear(n, 4 * width, bias=False) for n in (features, 2 * width)]
            self.norm = nn.BatchNorm1d(features)
            self.transformers = nn.ModuleList(
                [FeatureTransformer(shared) for _ in range(steps + 1)]
            )
            self.attention = nn.ModuleList(
                [nn.Linear(width, features, bias=False) for _ in range(steps)]
            )
            self.norms = nn.ModuleList([GhostNorm(features) for _ in range(steps)])
            self.head = nn.Linear(width, 2)

        def forward(self, x: Any) -> tuple[Any, Any]:
            x = self.norm(x)
            prior, sparsity, out = package.ones_like(x), 0.0, 0.0
            attended = self.transformers[0](x)[:, width:]
            for attention, norm, transformer in zip(
                self.attention, self.norms, self.transformers[1:], strict=True
            ):
                mask = sparsemax(norm(attention(attended)) * prior)
                sparsity = sparsity - (mask * package.log(mask + 1e-15)).sum(dim=1).mean() / steps
                prior = prior * (1.3 - mask)
                h = transformer(mask * x)
                out = out + F.relu(h[:, :width])
                attended = h[:, width:]
            return self.head(out), sparsity

    model = TabNet()

    def loss(x: Any, y: Any) -> Any:
        logits, sparsity = model(x)
        return F.cross_entropy(logits, y) + 1e-3 * sparsity

    x = normal(512, features)
    return model, loss, [x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)]


def dlrm(package: Any) -> Built:
    """A recommendation model (DLRM, Naumov et al. 2019): 13 numbers, eight tables whose rows are
    summed in bags of four, and the products of all pairs."""
    nn, tables, bag, width, rows = package.nn, 8, 4, 32, 2000

    class DLRM(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.bottom = perceptron(package, (13, 256, 64, width), nn.ReLU)
            self.tables = nn.ModuleList(
                [nn.EmbeddingBag(rows, width, mode="sum") for _ in range(tables)]
            )
            pairs = (tables + 1) * tables // 2
            self.top = perceptron(package, (width + pairs, 256, 64, 1), nn.ReLU)

        def forward(self, numbers: Any, indices: Any) -> Any:
            x = package.relu(self.bottom(numbers))
            parts = [x] + [
                table(i) for table, i in zip(self.tables, indices.unbind(1), strict=True)
            ]
            stacked = package.cat(parts, dim=1).view(len(x), tables + 1, width)
            products = package.bmm(stacked, package.transpose(stacked, 1, 2))
            i, j = package.tril_indices(tables + 1, tables + 1, offset=-1)
            return self.top(package.cat([x, products[:, i, j]], dim=1)).squeeze(1)

    model, criterion = DLRM(), nn.BCEWithLogitsLoss()

    def loss(x: Any, indices: Any) -> Any:
        return criterion(model(x[:, :13], indices), x[:, 13])

    x = normal(512, 14)
    x[:, 13] = x[:, 13] > 0
    # A few rows are looked up often.
    indices = (DRAWS.random((512, tables, bag)) ** 3 * rows).astype(np.int64)
    return model, loss, [x, indices]


def matrix_factorization(package: Any) -> Built:
    """Matrix factorisation (Koren et al. 2009) with Bayesian personalised ranking (Rendle et al.
    2009): 3,000 users, 2,000 items, 2,048 triples."""
    nn, users, items, width = package.nn, 3000, 2000, 64

    class Factors(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items = nn.Embedding(users, width), nn.Embedding(items, width)
            self.bias = nn.Embedding(items, 1)
            for table in (self.users, self.items):
                nn.init.normal_(table.weight, std=0.05)
            nn.init.zeros_(self.bias.weight)

        def forward(self, user: Any, item: Any) -> Any:
            return (user * self.items(item)).sum(-1) + self.bias(item).squeeze(-1)

    model = Factors()

    def loss(pairs: Any, negative: Any) -> Any:
        user = model.users(pairs[:, 0])
        better, worse = model(user, pairs[:, 1]), model(user, negative)
        return -nn.functional.logsigmoid(better - worse).mean() + 1e-4 * user.pow(2).sum(-1).mean()

    pairs = np.stack([DRAWS.integers(0, users, 2048), DRAWS.integers(0, items, 2048) // 2], 1)
    return model, loss, [pairs, DRAWS.integers(0, items, 2048)]


def word2vec(package: Any) -> Built:
    """Word vectors by the skip-gram model with negative sampling (Mikolov et al. 2013): 5,000
    words, 1,024 pairs, five negative words for each."""
    nn, words, width = package.nn, 5000, 100

    class SkipGram(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.centres, self.contexts = nn.Embedding(words, width), nn.Embedding(words, width)
            nn.init.uniform_(self.centres.weight, -0.5 / width, 0.5 / width)
            nn.init.zeros_(self.contexts.weight)

    model = SkipGram()

    def loss(pairs: Any, negative: Any) -> Any:
        centre, context = model.centres(pairs[:, 0]), model.contexts(pairs[:, 1])
        score = package.sum(centre * context, dim=1)
        others = package.bmm(model.contexts(negative), centre.unsqueeze(2)).squeeze(2)
        log_sigmoid = nn.functional.logsigmoid
        return -(log_sigmoid(score) + log_sigmoid(-others).sum(1)).mean()

    def drawn(*shape: int) -> np.ndarray:  # few words are frequent
        return (words ** DRAWS.random(shape)).astype(np.int64) - 1

    return model, loss, [drawn(1024, 2), drawn(1024, 5)]


# Similarity -------------------------------------------------------------------------------------


def contrastive(package: Any) -> Built:
    """The normalised, temperature-scaled cross entropy of SimCLR (Chen et al. 2020) on two views of
    256 vectors."""
    nn, n = package.nn, 256
    F = nn.functional
    encoder = perceptron(package, (128, 256, 256), nn.ReLU)
    head = perceptron(package, (256, 256, 64), nn.ReLU)

    def loss(x: Any, y: Any) -> Any:
        z = F.normalize(head(encoder(package.cat([x, y]))), dim=1)
        similarity = z @ z.T / 0.5
        itself = package.eye(2 * n, dtype=package.bool)
        similarity = similarity.masked_fill(itself, float("-inf"))
        places = package.arange(2 * n)
        return F.cross_entropy(similarity, (places + n) % (2 * n))

    x = normal(n, 128)
    views = [x + normal(n, 128) / 2 for _ in range(2)]
    return nn.ModuleList([encoder, head]), loss, views


def triplet(package: Any) -> Built:
    """The triplet loss with the hardest positive and negative of a batch (Hermans et al. 2017): 32
    people, eight pictures each."""
    nn = package.nn
    model = nn.Sequential(
        *(nn.Linear(256, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 128)),
    )

    def loss(x: Any, person: Any) -> Any:
        z = model(x)
        distances = package.cdist(z, z)
        is_same = person[:, None] == person[None, :]
        positive = distances.masked_fill(~is_same, 0.0).max(dim=1).values
        negative = distances.masked_fill(is_same, float("inf")).min(dim=1).values
        return package.relu(positive - negative + 0.3).mean()

    person = np.repeat(np.arange(32), 8)
    return model, loss, [normal(32, 256)[person] + normal(256, 256), person]


MODELS: list[TrainingModel] = [
    TrainingModel("DQN 4-128-128-2, 64", dqn),
    TrainingModel("PPO, vectors, 256", partial(ppo, False)),
    TrainingModel("PPO, classes, 256", partial(ppo, True)),
    TrainingModel("SAC 256-256, 256", sac),
    TrainingModel("Neural ODE, 20 steps", neural_ode),
    TrainingModel("PINN 8 x 20, 2000", pinn),
    TrainingModel("Hamiltonian network, 512", hamiltonian),
    TrainingModel("Fourier neural operator, 20 x 256", fourier_operator),
    TrainingModel("DeepONet, 256 x 100", deep_operator),
    TrainingModel("SIREN 4 x 256, 2048", siren),
    TrainingModel("NeRF 8 x 128, 64 x 64", nerf),
    TrainingModel("MAML, 4 tasks, 5 steps", maml),
    TrainingModel("Glow, 256 x 43", glow),
    TrainingModel("Neural spline flow, 256 x 8", spline_flow),
    TrainingModel("Gaussian process, 300", gaussian_process),
    TrainingModel("Sparse Gaussian process, 512", sparse_process),
    TrainingModel("Mixture density network, 1024", mixture_density),
    TrainingModel("VAE 784-400-20, 128", vae),
    TrainingModel("Bayes by backprop, 128", bayes_by_backprop),
    TrainingModel("SVD autoencoder, 256", rank_autoencoder),
    TrainingModel("FT-Transformer, 256 x 12", ft_transformer),
    TrainingModel("TabNet, 512 x 32", tabnet),
    TrainingModel("DLRM, 512", dlrm),
    TrainingModel("Matrix factorisation, 2048", matrix_factorization),
    TrainingModel("word2vec, 1024", word2vec),
    TrainingModel("SimCLR, 512", contrastive),
    TrainingModel("Triplets, 256", triplet),
]
