"""Products of Householder reflections, the storage of QR decompositions (Golub and Van Loan,
"Matrix Computations", sections 5.1 and 5.2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gradient.autograd.autocast import autocasts
from gradient.autograd.forwarding import forwarded
from gradient.errors import ShapeError, sentence
from gradient.linalg.arguments import matrices
from gradient.linalg.powers import zeros_of
from gradient.tensor import Tensor
from gradient.tensor.arguments import tensor_of
from gradient.tensor.arithmetic import same_dtype
from gradient.tensor.creation import eye
from gradient.tensor.joining import cat, where
from gradient.tensor.reductions import return_type

__all__ = ["householder_product"]


@return_type("geqrf")
class Reflections(NamedTuple):
    a: Tensor
    tau: Tensor


@autocasts("float32_on_cpu")
def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first N columns of H_1 ... H_K, H_i = 1 - tau_i v_i v_i^H, where v_i (M,) is column i of
    A (..., M, N) below the diagonal, 1 on it, and 0 above it; tau (..., K)."""
    A, tau = _reflections("linalg.householder_product", A, tau)
    m, n = A.shape[-2:]
    if m < n:
        expected = "A (..., M, N), M at least N"
        raise ShapeError(sentence("linalg.householder_product", expected, tuple(A.shape)))
    first = zeros_of(A) + eye(m, n, dtype=A.dtype, device=A.device)
    return _reflected(A, tau, first, reversed(range(tau.shape[-1])))


@forwarded
@autocasts("float32_on_cpu")
def ormqr(
    input: Tensor, input2: Tensor, input3: Tensor, left: bool = True, transpose: bool = False
) -> Tensor:
    """Return Q input3 for input3 (..., M, N), with `transpose` Q^H input3; if not `left`, input3 Q
    or input3 Q^H for input3 (..., N, M). Q (M, M) is the whole product H_1 ... H_K (see
    `linalg.householder_product`) of the reflections input (..., M, K) and input2 (..., K)."""
    a, tau = _reflections("ormqr", input, input2)
    c = matrices("ormqr", input3, takes_complex=True)
    same_dtype("ormqr", "input3", a, c)
    if c.shape[-2 if left else -1] != a.shape[-2] or c.shape[:-2] != a.shape[:-2]:
        got = f"input {tuple(a.shape)} and input3 {tuple(c.shape)}"
        expected = "input (..., M, K) and input3 (..., M, N), or (..., N, M) if not left"
        raise ShapeError(sentence("ormqr", expected, got))
    if not left:  # (Q^H input3^H)^H
        return ormqr(a, tau, c.mH, transpose=not transpose).mH
    if transpose:
        return _reflected(a, tau.conj(), c, range(tau.shape[-1]))
    return _reflected(a, tau, c, reversed(range(tau.shape[-1])))


@forwarded
@autocasts("float32_on_cpu")
def geqrf(input: Tensor) -> Reflections:
    """Return (a, tau) of input (..., M, N) = Q R. R is on and above the diagonal of a; the part
    below it and tau (..., K) are the reflections whose product is Q (see
    `linalg.householder_product`)."""
    rest = matrices("geqrf", input, takes_complex=True)
    *batch, m, n = rest.shape
    upper, lower, taus = [], [], []
    for k in range(min(m, n)):
        x = rest[..., :1]
        top, below = x[..., :1, :], x[..., 1:, :]
        real = top.real if top.is_complex() else top
        done = (below.detach() == 0).all(-2, keepdim=True)  # as R has it
        done = done & (top.detach() == real.detach())
        size = x.masked_fill(done, 1.0).norm(2, -2, True)
        beta = where(done, real, where(real.detach() < 0, size, -size)).to(x.dtype)
        v = below / where(done, 1.0, top - beta)
        tau = ((beta - top) / beta.masked_fill(done, 1.0)).masked_fill(done, 0.0)
        full, others = cat([zeros_of(top) + 1, v], -2), rest[..., 1:]
        others = others - tau.conj() * full @ (full.mH @ others)
        upper.append(cat([rest.new_zeros((*batch, 1, k)), beta, others[..., :1, :]], -1))
        lower.append(cat([rest.new_zeros((*batch, k + 1, 1)), v], -2))
        taus.append(tau[..., 0])
        rest = others[..., 1:, :]
    if not taus:
        return Reflections(rest.clone(), rest.new_zeros((*batch, 0)))
    r = cat([*upper, rest.new_zeros((*batch, m - len(taus), n))], -2)
    vectors = cat([*lower, rest.new_zeros((*batch, m, n - len(taus)))], -1)
    return Reflections(r + vectors, cat(taus, -1))


def _reflections(name: str, a: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """Check A and tau."""
    a, tau = matrices(name, a, takes_complex=True), tensor_of(name, tau)
    same_dtype(name, "tau", a, tau)
    most = min(a.shape[-2:])
    if tau.ndim == 0 or tau.shape[:-1] != a.shape[:-2] or tau.shape[-1] > most:
        expected = "A (..., M, N) and tau (..., K), K at most N and M"
        got = f"{tuple(a.shape)} and {tuple(tau.shape)}"
        raise ShapeError(sentence(name, expected, got))
    return a, tau


def _reflected(a: Tensor, tau: Tensor, x: Tensor, order: Iterable[int]) -> Tensor:
    """Apply the reflections to x (..., M, N) in the given order."""
    m, n = a.shape[-2:]
    vectors = a.tril(-1) + eye(m, n, dtype=a.dtype, device=a.device)
    for i in order:
        v = vectors[..., i : i + 1]
        x = x - tau[..., i, None, None] * v @ (v.mH @ x)
    return x
