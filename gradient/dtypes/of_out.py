"""Which functions take an `out=` of another dtype than their result's, as PyTorch does.

Elementwise functions and joins cast their result to any dtype to which `can_cast` allows it. The
functions of `EXACT` refuse other dtypes, and those of `BY_OUT` compute in out's dtype.
"""

from __future__ import annotations

from gradient.dtypes import DType, can_cast
from gradient.errors import DTypeError, sentence

BY_OUT = frozenset(("cumprod", "cumsum", "prod", "sum"))
"""Functions with a `dtype`, which is out's if it is not given."""

EXACT = frozenset(
    name
    for names in (
        # Products of matrices
        "addbmm addmm addmv baddbmm bmm chain_matmul cross dot inner matmul mm mv tensordot vdot",
        # Reductions, and what chooses elements
        "all amax amin aminmax any argmax argmin bucketize cummax cummin histc histogram",
        "histogramdd isin kthvalue log_softmax logcumsumexp median mode msort multinomial",
        "nanmedian nanquantile nonzero norm quantile searchsorted softmax sort topk",
        # Elementwise
        "bitwise_not ceil complex conj_physical fix float_power floor frac frexp heaviside",
        "isneginf isposinf nan_to_num neg negative polar round sgn sign signbit trunc where",
        # Elements at other places
        "diag gather index_add index_copy index_reduce index_select masked_select renorm scatter",
        "scatter_add scatter_reduce slice_scatter take take_along_dim tril triu",
        "alias_copy as_strided_copy diagonal_copy expand_copy narrow_copy permute_copy",
        "split_with_sizes_copy squeeze_copy t_copy transpose_copy unbind_copy unfold_copy",
        "unsqueeze_copy view_copy",
        # Linear algebra
        "inverse lu_solve lu_unpack nuclear_norm orgqr ormqr qr svd triangular_solve",
        "linalg.cholesky linalg.cholesky_ex linalg.cross linalg.det linalg.eigh linalg.eigvalsh",
        "linalg.inv linalg.inv_ex",
        "linalg.lu linalg.lu_factor linalg.lu_factor_ex linalg.lu_solve linalg.matmul",
        "linalg.matrix_norm linalg.matrix_power linalg.multi_dot linalg.norm linalg.qr",
        "linalg.slogdet linalg.solve linalg.solve_ex linalg.solve_triangular linalg.svd",
        "linalg.svdvals linalg.vecdot linalg.vector_norm",
    )
    for name in names.split()
)

EXACT_IN_PAIRS = frozenset(("max", "min"))
"""Exact only where they return values and indices."""


def check(caller: str, result: DType, out: DType, *, one_of_several: bool, given: bool) -> None:
    """Refuse an `out` of a dtype that PyTorch refuses for a result.

    Args:
        given: whether the call has a `dtype=`, which then is out's.
    """
    if given or caller in EXACT or (one_of_several and caller in EXACT_IN_PAIRS):
        if result != out:
            raise DTypeError(sentence(caller, f"out of dtype {result}", out))
    elif not can_cast(result, out):
        raise DTypeError(sentence(caller, f"out of a dtype that {result} can be cast to", out))
