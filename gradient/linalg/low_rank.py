"""Approximate low-rank decompositions of matrices."""

from __future__ import annotations

from gradient.autograd.autocast import autocasts
from gradient.autograd.forwarding import forwarded
from gradient.errors import ArgumentError, sentence
from gradient.linalg.arguments import matrices
from gradient.linalg.decompositions import qr, svd
from gradient.linalg.older import SVD
from gradient.random import randn
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of

__all__ = ["pca_lowrank", "svd_lowrank"]


@forwarded
@autocasts("float32_on_cpu")
def svd_lowrank(
    A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None
) -> SVD:
    """Return U (..., M, q), S (..., q) and V (..., N, q) with U diag(S) V^T near A, or near A - M
    if M is given (Halko et al. 2011, "Finding Structure with Randomness", algorithm 5.1).

    q should be at least the rank of A. The subspace is random at first; each of `niter` iterations
    improves it (algorithm 4.4).
    """
    x = matrices("svd_lowrank", A)
    return _found("svd_lowrank", x if M is None else x - M, 6 if q is None else q, niter)


@forwarded
@autocasts("float32_on_cpu")
def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> SVD:
    """Return `svd_lowrank` of A (..., M, N), with `center` after subtracting the mean of its rows.
    The columns of V are the principal directions. q is min(6, M, N) by default."""
    x = matrices("pca_lowrank", A)
    m, n = x.shape[-2:]
    q = min(6, m, n) if q is None else q
    if not 0 <= int_of("pca_lowrank", "q", q) <= min(m, n):
        raise ArgumentError(sentence("pca_lowrank", f"q from 0 to {min(m, n)}", q))
    return _found("pca_lowrank", x - x.mean(-2, keepdim=True) if center else x, q, niter)


def _found(name: str, x: Tensor, q: int, niter: int | None) -> SVD:
    niter = 2 if niter is None else int_of(name, "niter", niter)
    if niter < 0:
        raise ArgumentError(sentence(name, "niter of at least 0", niter))
    wide = x.shape[-2] < x.shape[-1]
    x = x.mT if wide else x
    start = randn(x.shape[-1], int_of(name, "q", q), dtype=x.dtype, device=x.device)
    basis = qr(x @ start).Q
    for _ in range(niter):
        basis = qr(x @ qr(x.mT @ basis).Q).Q
    u, s, vh = svd(basis.mT @ x, full_matrices=False)
    u, v = basis @ u, vh.mT.clone()
    return SVD(v, s, u) if wide else SVD(u, s, v)
