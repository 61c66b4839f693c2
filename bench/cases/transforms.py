"""`vmap` and the Jacobians made of it, beside PyTorch's `torch.func`.

Both run the programs of torch.func's tutorials: gradients of each sample of a batch, Jacobians and
Hessians, an ensemble of models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import gradient
from bench.cases import Options
from bench.measure import interleave
from bench.result import Result

TARGET = 1.0  # of torch.func's time


def draw(package: Any, *shape: int) -> Any:
    values = np.random.default_rng(sum(shape)).standard_normal(shape)
    return package.tensor(values, dtype=package.float32)


def mlp(package: Any, *sizes: int) -> Any:
    package.manual_seed(0)
    layers: list[Any] = []
    for n, m in zip(sizes, sizes[1:], strict=False):
        layers += [package.nn.Linear(n, m), package.nn.Tanh()]
    return package.nn.Sequential(*layers[:-1])


def cnn(package: Any) -> Any:
    """The network of MNIST examples: two convolutions, two linear layers."""
    nn = package.nn
    package.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


def samples_gradients(package: Any, model: Any, x: Any) -> Callable[[], Any]:
    """The gradients of cross-entropy of each sample, for all parameters."""
    func, functional = package.func, package.nn.functional
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    target = package.tensor(np.arange(len(x)) % 10)

    def loss(parameters: Any, sample: Any, label: Any) -> Any:
        out = func.functional_call(model, parameters, (sample.unsqueeze(0),))
        return functional.cross_entropy(out, label.unsqueeze(0))

    compute = func.vmap(func.grad(loss), in_dims=(None, 0, 0))
    return lambda: compute(parameters, x, target)


def of_mlp(package: Any) -> Callable[[], Any]:
    return samples_gradients(package, mlp(package, 784, 128, 10), draw(package, 64, 784))


def of_cnn(package: Any) -> Callable[[], Any]:
    return samples_gradients(package, cnn(package), draw(package, 16, 1, 28, 28))


def jacobian(transform: str) -> Callable[[Any], Callable[[], Any]]:
    def build(package: Any) -> Callable[[], Any]:
        model, x = mlp(package, 64, 64, 64), draw(package, 64)
        parameters = {name: p.detach() for name, p in model.named_parameters()}

        def function(x: Any) -> Any:
            return package.func.functional_call(model, parameters, (x,))

        compute = getattr(package.func, transform)(function)
        return lambda: compute(x)

    return build


def hessian(package: Any) -> Callable[[], Any]:
    model, x = mlp(package, 32, 32, 1), draw(package, 32)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def function(x: Any) -> Any:
        return package.func.functional_call(model, parameters, (x,)).sum()

    compute = package.func.hessian(function)
    return lambda: compute(x)


def ensemble(package: Any) -> Callable[[], Any]:
    models = [mlp(package, 784, 128, 128, 10) for _ in range(5)]
    parameters, buffers = package.func.stack_module_state(models)
    parameters = {name: p.detach() for name, p in parameters.items()}
    x = draw(package, 64, 784)

    def call(parameters: Any, buffers: Any, x: Any) -> Any:
        return package.func.functional_call(models[0], (parameters, buffers), (x,))

    compute = package.func.vmap(call, in_dims=(0, 0, None))
    return lambda: compute(parameters, buffers, x)


PROGRAMS: dict[str, Callable[[Any], Callable[[], Any]]] = {
    "gradients of 64 samples, MLP": of_mlp,
    "gradients of 16 samples, MNIST CNN": of_cnn,
    "Jacobian of a 64-64-64 MLP, jacrev": jacobian("jacrev"),
    "Jacobian of a 64-64-64 MLP, jacfwd": jacobian("jacfwd"),
    "Hessian of a 32-32-1 MLP": hessian,
    "ensemble of 5 MLPs, 64 samples": ensemble,
}


def run(options: Options) -> Iterator[Result]:
    for what, build in PROGRAMS.items():
        if not options.wants(what):
            continue
        runs = {"gradient": build(gradient)}
        if options.peer("torch"):
            import torch

            torch.set_num_threads(options.threads)
            runs["torch.func"] = build(torch)
        for call in runs.values():
            call()
        rounds = options.rounds(20)
        samples = interleave(runs, rounds=rounds, sample_seconds=0.01, settle=0.02, within=10)
        for contender, sample in samples.items():
            compared = contender == "gradient" and len(samples) > 1
            ratio = sample.ratio(samples["torch.func"]) if compared else None
            yield Result(
                case="vmap",
                what=what,
                contender=contender,
                value=1e3 * sample.median,
                unit="ms",
                best=1e3 * sample.best,
                samples=len(sample.seconds),
                peer="torch.func" if compared else None,
                ratio=ratio,
                target=f"<= {TARGET} x torch.func" if compared else None,
                met=ratio <= TARGET if ratio is not None else None,
            )
        if options.tiny:
            break
