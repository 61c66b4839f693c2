"""Weight norm and spectral norm as parametrizations, and orthogonal weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradient import absent
from gradient.checks import check_arguments, integer
from gradient.nn.module import Module
from gradient.nn.utils.orthogonal import orthogonal
from gradient.nn.utils.parametrize import register_parametrization
from gradient.nn.utils.spectral_norm import as_matrix, dim_of_outputs, iterated, normalized
from gradient.nn.utils.weight_norm import expect_dim, norm_except
from gradient.random import randn
from gradient.tensor import Tensor

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


class _WeightNorm(Module):
    """weight = g v / |v|."""

    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_v * (weight_g / norm_except(weight_v, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Parametrize a weight by its norm g and its direction v (Salimans and Kingma 2016).

    Each slice along `dim` has a norm of its own; None or -1: one norm for the whole weight.
    """
    if isinstance(weight := getattr(module, name, None), Tensor):
        expect_dim(weight, dim)
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)
    return module


class _SpectralNorm(Module):
    """weight / sigma, with an estimate of the largest singular value sigma that becomes closer with
    each call in training."""

    _u: Tensor
    _v: Tensor

    def __init__(
        self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12
    ) -> None:
        super().__init__()
        self.dim = dim if dim >= 0 else dim + weight.ndim
        self.eps = eps
        if weight.ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = as_matrix(weight.detach(), self.dim)
            u, v = (
                normalized(randn(size, dtype=weight.dtype, device=weight.device), eps)
                for size in matrix.shape
            )
            v, u = iterated(matrix.mT, v, u, 15, eps)
            self.register_buffer("_u", u)
            self.register_buffer("_v", v)

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return normalized(weight, self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            # u is updated first, then v; `nn.utils.spectral_norm` does it in the other order.
            v, u = iterated(matrix.mT, self._v, self._u, self.n_power_iterations, self.eps)
            self._u.copy_(u)
            self._v.copy_(v)
        u, v = self._u.clone(), self._v.clone()  # the next call overwrites them
        return weight / (u * (matrix @ v)).sum()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """Divide a weight by its largest singular value (Miyato et al. 2018), estimated by the power
    method.

    Args:
        n_power_iterations: steps of the power method at each call in training.
        eps: the smallest norm by which the method divides.
        dim: the dimension of the outputs; default 1 for transposed convolutions, else 0.
    """
    check_arguments("spectral_norm", n_power_iterations=(n_power_iterations, integer(1)))
    dim = dim_of_outputs(module) if dim is None else dim
    weight = getattr(module, name)
    register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))
    return module


if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
