"""Weights whose rows or columns stay orthonormal while they are trained."""

from __future__ import annotations

from typing import Literal

from gradient import linalg
from gradient.errors import ArgumentError, ShapeError, sentence
from gradient.linalg.householder import geqrf
from gradient.nn.module import Module
from gradient.nn.utils.parametrize import register_parametrization
from gradient.random import randn
from gradient.tensor import Tensor
from gradient.tensor.creation import eye
from gradient.tensor.creation_like import zeros_like
from gradient.tensor.joining import cat

__all__ = ["orthogonal"]

Map = Literal["matrix_exp", "cayley", "householder"]
MAPS = ("matrix_exp", "cayley", "householder")


class _Orthogonal(Module):
    """Maps any matrix (..., N, K) to one with orthonormal columns (orthonormal rows if N < K).

    With a `base`, an orthogonal matrix, the result is multiplied by it: training starts there.
    """

    base: Tensor

    def __init__(self, weight: Tensor, orthogonal_map: Map, use_trivialization: bool) -> None:
        super().__init__()
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, weight: Tensor) -> Tensor:
        wide = weight.shape[-2] < weight.shape[-1]
        x = weight.mT if wide else weight
        n, k = x.shape[-2:]
        if self.orthogonal_map == "householder":
            q = _reflected(x)
        else:
            lower = x.tril()
            if n > k:
                lower = cat([lower, lower.new_zeros(*x.shape[:-2], n, n - k)], -1)
            skew = lower - lower.mH
            q = linalg.matrix_exp(skew) if self.orthogonal_map == "matrix_exp" else _cayley(skew)
            q = q[..., :k]
        if "base" in self._buffers:
            q = self.base @ q
        return q.mT if wide else q

    def right_inverse(self, value: Tensor) -> Tensor:
        """Return a matrix that `forward` maps to `value`, or to the orthogonal factor of its QR
        decomposition if `value` is not orthogonal."""
        if value.shape != self.shape:
            got = tuple(value.shape)
            raise ShapeError(sentence("orthogonal", f"a matrix {tuple(self.shape)}", got))
        wide = value.shape[-2] < value.shape[-1]
        q = value.mT if wide else value
        if "base" not in self._buffers:
            if self.orthogonal_map != "householder":
                raise NotImplementedError(
                    f"orthogonal: with orthogonal_map={self.orthogonal_map!r} a weight can be "
                    "assigned only if use_trivialization=True"
                )
            vectors, tau = geqrf(q)
            signs = vectors.diagonal(dim1=-2, dim2=-1).sign()
            signs = signs.where(tau != 0, -signs)
            vectors = vectors.diagonal_scatter(signs, dim1=-2, dim2=-1)
            return vectors.mT if wide else vectors
        n, k = q.shape[-2:]
        if n > k:
            others = randn(*q.shape[:-2], n, n - k, dtype=q.dtype, device=q.device)
            q = _nearby_orthogonal(cat([q, others], -1))
        else:
            q = q.clone() if _is_orthogonal(q) else _nearby_orthogonal(q)
        self.base = q
        start = zeros_like(value)  # which each map turns into the identity
        start.diagonal(dim1=-2, dim2=-1).fill_(-1)
        return start


def _cayley(skew: Tensor) -> Tensor:
    """Return the Cayley transform of a skew-symmetric A: (1 - A / 2)^-1 (1 + A / 2)."""
    one = eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    return linalg.solve(one - skew / 2, one + skew / 2)


def _reflected(x: Tensor) -> Tensor:
    """Return the product of the Householder reflections whose vectors are the columns of x below
    the diagonal, with each column multiplied by the sign on the diagonal."""
    vectors = x.tril(-1)
    tau = 2 / (1 + (vectors * vectors).sum(-2))
    signs = x.diagonal(dim1=-2, dim2=-1).int().unsqueeze(-2)
    return linalg.householder_product(vectors, tau) * signs


def _is_orthogonal(q: Tensor) -> bool:
    one = eye(q.shape[-1], dtype=q.dtype, device=q.device)
    eps = 10 * q.shape[-2] * {2: 1e-3, 4: 1.2e-7}.get(q.dtype.itemsize, 2.3e-16)
    return bool((q.mH @ q - one).abs().max() <= eps) if q.numel() else True


def _nearby_orthogonal(x: Tensor) -> Tensor:
    """Return Q of the QR decomposition x = Q R whose R has a positive diagonal."""
    q, r = linalg.qr(x)
    return q * r.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


def orthogonal(
    module: Module,
    name: str = "weight",
    orthogonal_map: Map | None = None,
    *,
    use_trivialization: bool = True,
) -> Module:
    """Parametrize a weight (..., N, K) so that its columns, or, where N < K, its rows are
    orthonormal (Lezcano-Casado and Martinez-Rubio 2019, "Cheap Orthogonal Constraints").

    Args:
        orthogonal_map: "matrix_exp", the default for square and complex matrices, "cayley", or
            "householder", the default for others.
        use_trivialization: start at the weight, or at the orthogonal factor of its QR decomposition
            (Lezcano-Casado 2019, "Trivializations for Gradient-Based Optimization on Manifolds").

    Raises:
        ShapeError: the weight has fewer than two dimensions.
        ArgumentError: an unknown map, or "householder" for a complex weight.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ArgumentError(sentence("orthogonal", "a module with a tensor of that name", name))
    if weight.ndim < 2:
        raise ShapeError(sentence("orthogonal", "a matrix, or several", tuple(weight.shape)))
    if orthogonal_map is None:
        square = weight.shape[-2] == weight.shape[-1] or weight.is_complex()
        orthogonal_map = "matrix_exp" if square else "householder"
    if orthogonal_map not in MAPS:
        expected = f"orthogonal_map one of {', '.join(MAPS)}"
        raise ArgumentError(sentence("orthogonal", expected, repr(orthogonal_map)))
    if orthogonal_map == "householder" and weight.is_complex():
        raise ArgumentError(sentence("orthogonal", "a real weight for householder", weight.dtype))
    made = _Orthogonal(weight, orthogonal_map, use_trivialization)
    register_parametrization(module, name, made, unsafe=True)
    return module
