"""Which functions take an `out=` of another dtype than their result's, as PyTorch does.

Elementwise functions and joins cast their result to any dtype to which `can_cast` allows it. The
functions of `EXACT` refuse other dtypes, and those of `BY_OUT` compute in out's dtype. Some depend
on their arguments.
"""

from __future__ import annotations

from typing import Any

from gradient.dtypes import HALF_PRECISION, DType, bool_, can_cast, uint8
from gradient.errors import DTypeError, sentence

BY_OUT = frozenset(("cumprod", "cumsum", "prod", "sum"))
"""Functions with a `dtype`, which is out's if it is not given."""

FLOATING_BY_OUT = frozenset(("mean", "nanmean"))
"""Those of them that neither take nor give integers."""

CLAMPS = frozenset(("clamp", "clamp_max", "clamp_min", "clip"))
"""Exact where all bounds are numbers."""

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


def computes_in_out(caller: str, input: DType, out: DType) -> bool:
    """Whether a function of `input`, which has a `dtype`, computes in that of `out`."""
    if caller in FLOATING_BY_OUT:
        return not (_is_integral(input) or _is_integral(out))
    if caller == "nansum":
        return _is_integral(input) or out.is_floating_point
    return caller in BY_OUT


def _is_integral(dtype: DType) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex)


def check(
    caller: str,
    result: DType,
    out: DType,
    operands: tuple[Any, ...],
    *,
    one_of_several: bool,
    given: bool,
) -> None:
    """Refuse an `out` of a dtype that PyTorch refuses for a result.

    Args:
        operands: the arguments of the call; the first is a tensor.
        given: whether the call has a `dtype=`, which then is out's.
    """
    if caller in ("all", "any") and out in (bool_, uint8):
        return
    if caller in ("abs", "absolute"):
        exact = not operands[0].dtype.is_complex or out.is_complex
        result = operands[0].dtype if exact else result
    elif caller in CLAMPS:
        exact = not any(hasattr(bound, "dtype") for bound in operands[1:])
    else:
        exact = given or caller in EXACT or (one_of_several and caller in EXACT_IN_PAIRS)
    if exact:
        if result != out:
            raise DTypeError(sentence(caller, f"out of dtype {result}", out))
        return
    if caller == "nansum" and out.is_complex and not _is_integral(operands[0].dtype):
        raise DTypeError(sentence(caller, "out of real numbers", out))
    if caller in ("std", "var") and result in HALF_PRECISION and out not in HALF_PRECISION:
        raise DTypeError(sentence(caller, "out of 16 bits for an input of 16 bits", out))
    if not can_cast(result, out):
        raise DTypeError(sentence(caller, f"out of a dtype that {result} can be cast to", out))
