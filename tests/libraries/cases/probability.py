"""GPyTorch, Pyro, torchdiffeq, entmax and diffusers."""

from __future__ import annotations

from typing import Any

import torch

from cases import image, normal

CASES: dict[str, Any] = {}


def gaussian_process() -> Any:
    import gpytorch

    class Model(gpytorch.models.ExactGP):
        def __init__(self, *data: Any) -> None:
            super().__init__(*data)
            self.mean = gpytorch.means.ConstantMean()
            self.kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

        def forward(self, x: Any) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean(x), self.kernel(x))

    def call() -> Any:
        x = torch.linspace(0, 1, 20)
        y = torch.sin(6 * x)
        likelihood = gpytorch.likelihoods.GaussianLikelihood()
        model = Model(x, y, likelihood).train()
        objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        losses = []
        for _ in range(10):
            optimizer.zero_grad()
            losses.append(-objective(model(x), y))
            losses[-1].backward()
            optimizer.step()
        model.eval()
        found = likelihood.eval()(model(torch.linspace(0, 1, 7)))
        return [*losses, found.mean, found.variance]

    return call


def variational() -> Any:
    import pyro
    from pyro import distributions as d
    from pyro.infer import SVI, Trace_ELBO
    from pyro.infer.autoguide import AutoDelta, init_to_value

    def model(data: Any) -> None:
        mean = pyro.sample("mean", d.Normal(0.0, 10.0))
        scale = pyro.sample("scale", d.LogNormal(0.0, 1.0))
        with pyro.plate("data", len(data)):
            pyro.sample("observed", d.Normal(mean, scale), obs=data)

    def call() -> Any:
        pyro.clear_param_store()
        begin = {"mean": torch.tensor(0.0), "scale": torch.tensor(1.0)}
        guide = AutoDelta(model, init_loc_fn=init_to_value(values=begin))
        steps = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
        losses = [torch.tensor(steps.step(normal(30) + 2)) for _ in range(20)]
        return [*losses, *guide.median().values()]

    return call


def enumerated() -> Any:
    import pyro
    from pyro import distributions as d
    from pyro.infer import TraceEnum_ELBO, config_enumerate

    @config_enumerate
    def model(data: Any) -> None:
        means = pyro.param("means", torch.tensor([0.0, 9.0]))
        with pyro.plate("data", len(data)):
            which = pyro.sample("which", d.Categorical(torch.tensor([0.5, 0.5])))
            pyro.sample("observed", d.Normal(means[which], 1.0), obs=data)

    data = torch.tensor([0.0, 1, 10, 11, 12])
    bound = TraceEnum_ELBO(max_plate_nesting=1)
    return lambda: torch.tensor(bound.loss(model, lambda _: None, data))


def differential_equation() -> Any:
    from torchdiffeq import odeint, odeint_adjoint

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = torch.nn.Parameter(torch.tensor([[-0.1, 2.0], [-2.0, -0.1]]))

        def forward(self, t: Any, y: Any) -> Any:
            return y @ self.matrix

    start, times = torch.tensor([[2.0, 0.0]]), torch.linspace(0, 2, 7)
    return Linear(), lambda m: [
        odeint(m, start, times), odeint(m, start, times, method="rk4"),
        odeint_adjoint(m, start, times),
    ]  # fmt: skip


def sparse_softmax() -> Any:
    import entmax

    def call() -> Any:
        x = normal(4, 7).requires_grad_()
        found = [entmax.sparsemax(x, -1), entmax.entmax15(x, -1), entmax.entmax_bisect(x, 1.3)]
        sum(y.square().sum() for y in found).backward()
        return [*found, x.grad]

    return call


def diffusion_model() -> Any:
    from diffusers import UNet2DModel

    model = UNet2DModel(
        sample_size=16, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), attention_head_dim=8,
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return model, lambda m: m(image(16), torch.tensor([3, 7])).sample


def diffusion_steps() -> Any:
    import diffusers as d

    def call() -> Any:
        found = []
        for kind in (d.DDIMScheduler, d.EulerDiscreteScheduler, d.DPMSolverMultistepScheduler):
            scheduler, x = kind(), normal(1, 3, 4, 4)
            scheduler.set_timesteps(5)
            for t in scheduler.timesteps:
                x = scheduler.step(0.1 * scheduler.scale_model_input(x, t), t, x).prev_sample
            found.append(x)
        return found

    return call


CASES["gpytorch: regression"] = gaussian_process
CASES["pyro: variational inference"] = variational
CASES["pyro: enumeration"] = enumerated
CASES["torchdiffeq: linear equation"] = differential_equation
CASES["entmax: gradients"] = sparse_softmax
CASES["diffusers: UNet2DModel"] = diffusion_model
CASES["diffusers: schedulers"] = diffusion_steps
