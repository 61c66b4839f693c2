"""Spectral norm as a hook: a weight divided by its largest singular value (Miyato et al. 2018).

This is PyTorch's older interface; `nn.utils.parametrizations.spectral_norm` is the newer one.
"""

from __future__ import annotations

from typing import Any

from gradient.autograd import no_grad
from gradient.checks import check_arguments, integer
from gradient.errors import ArgumentError
from gradient.nn.conv import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from gradient.nn.module import Module
from gradient.nn.parameter import Parameter
from gradient.nn.utils.weight_hooks import M, find_hook, restore_weight
from gradient.random import randn
from gradient.tensor import Tensor

__all__ = ["remove_spectral_norm", "spectral_norm"]


def normalized(vector: Tensor, eps: float) -> Tensor:
    """Return `vector` divided by its norm, or by `eps` if that is larger."""
    return vector / (vector * vector).sum().sqrt().clamp(min=eps)


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """Return `weight` as a matrix (size of `dim`, product of the other sizes)."""
    return weight.movedim(dim, 0).flatten(1) if weight.ndim > 1 else weight.reshape(-1, 1)


def iterated(matrix: Tensor, u: Tensor, v: Tensor, steps: int, eps: float) -> tuple[Tensor, Tensor]:
    """Improve estimates of the singular vectors of the largest singular value by `steps` steps of
    the power method; return them as u (rows,) and v (columns,)."""
    with no_grad():
        for _ in range(steps):
            v = normalized(matrix.detach().mT @ u, eps)
            u = normalized(matrix.detach() @ v, eps)
    return u, v


def dim_of_outputs(module: Module) -> int:
    """Return the dimension of a layer's weight that holds its outputs."""
    return int(isinstance(module, ConvTranspose1d | ConvTranspose2d | ConvTranspose3d))


class SpectralNorm:
    """A pre-hook that sets weight = weight_orig / sigma; in training it first improves the estimate
    of sigma."""

    def __init__(self, name: str, n_power_iterations: int, dim: int, eps: float) -> None:
        self.name, self.n_power_iterations = name, n_power_iterations
        self.dim, self.eps = dim, eps

    def compute_weight(self, module: Module, do_power_iteration: bool = False) -> Tensor:
        weight = getattr(module, f"{self.name}_orig")
        u, v = getattr(module, f"{self.name}_u"), getattr(module, f"{self.name}_v")
        matrix = as_matrix(weight, self.dim)
        if do_power_iteration:
            found = iterated(matrix, u, v, self.n_power_iterations, self.eps)
            with no_grad():
                for own, vector in zip((u, v), found, strict=True):
                    own.copy_(vector)
            u, v = u.clone(), v.clone()  # the next call overwrites them
        return weight / (u * (matrix @ v)).sum()

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, module.training))


def spectral_norm(
    module: M,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> M:
    """Replace `module.weight` by `weight_orig` divided by its largest singular value, before each
    call.

    The singular value is computed from estimates of its singular vectors, the buffers `weight_u`
    and `weight_v`.

    Args:
        n_power_iterations: steps of the power method at each call in training.
        eps: the smallest norm by which the method divides.
        dim: the dimension of the outputs; default 1 for transposed convolutions, else 0.
    """
    check_arguments("spectral_norm", n_power_iterations=(n_power_iterations, integer(1)))
    if find_hook(module, name, SpectralNorm) is not None:
        raise ArgumentError(f"spectral_norm: {name!r} of {type(module).__name__} has one already")
    dim = dim_of_outputs(module) if dim is None else dim
    weight = getattr(module, name)
    hook = SpectralNorm(name, n_power_iterations, dim, eps)
    rows, columns = as_matrix(weight.detach(), dim).shape
    options: Any = {"dtype": weight.dtype, "device": weight.device}
    delattr(module, name)
    module.register_parameter(f"{name}_orig", Parameter(weight.detach()))
    setattr(module, name, weight.detach())
    module.register_buffer(f"{name}_u", normalized(randn(rows, **options), eps))
    module.register_buffer(f"{name}_v", normalized(randn(columns, **options), eps))
    module.register_forward_pre_hook(hook)
    return module


def remove_spectral_norm(module: M, name: str = "weight") -> M:
    """Remove spectral norm: make the present weight a plain parameter again."""
    return restore_weight(module, name, SpectralNorm, "spectral norm", ("orig", "u", "v"))
