"""Type promotion: the dtype of a result of two operands, by PyTorch's rules.

A tensor with dimensions has priority over a 0-d tensor, and this over a Python number, unless the
operand of lower priority has a higher category (bool < int < float < complex).
"""

from __future__ import annotations

from typing import Any

from gradient.dtypes.dtype import (
    ALL,
    BY_NUMPY,
    DType,
    bfloat16,
    bool_,
    default_complex_dtype,
    dtype_of,
    float16,
    float32,
    get_default_dtype,
    int16,
    int32,
    int64,
    uint8,
)
from gradient.errors import DTypeError, TypeMismatch, sentence

__all__ = ["can_cast", "promote_types", "result_type"]

_CATEGORY = {"bool": 0, "int": 1, "float": 2, "complex": 3}
"""PyTorch's order of the kinds of dtypes."""
_SIGNED_ABOVE = {8: int16, 16: int32, 32: int64, 64: int64}


def _promote(a: DType, b: DType) -> DType:
    if a is b:
        return a
    if a.kind != b.kind:
        if {a.kind, b.kind} == {"float", "complex"}:
            a, b = a.to_complex(), b.to_complex()
            return a if a.bits >= b.bits else b
        return a if _CATEGORY[a.kind] > _CATEGORY[b.kind] else b
    if {a, b} == {float16, bfloat16}:
        return float32
    if a.kind == "int" and a.is_signed != b.is_signed:
        signed, unsigned = (a, b) if a.is_signed else (b, a)
        return signed if signed.bits > unsigned.bits else _SIGNED_ABOVE[unsigned.bits]
    return a if a.bits >= b.bits else b


class _Table(dict[tuple[DType, DType], DType]):
    """The promoted dtype of each pair of dtypes, computed at the first use of the pair."""

    def __missing__(self, pair: tuple[DType, DType]) -> DType:
        a, b = pair
        if a is not b and not (a in ALL and b in ALL):
            raise TypeMismatch(
                f"8-bit floats and packed dtypes do not mix with others, got {a} and {b}"
            )
        self[pair] = dtype = _promote(a, b)
        return dtype


_TABLE = _Table()


def promote_types(type1: DType, type2: DType) -> DType:
    """Return the dtype to which two dtypes promote, by PyTorch's table. Raises TypeMismatch for
    8-bit floats and packed dtypes with others."""
    return _TABLE[dtype_of(type1), dtype_of(type2)]


class WideNumber(float):
    """A Python number that an operator takes in float32 beside 16-bit floats: the result has their
    dtype, and is rounded once."""

    __slots__ = ()


def _rank(operand: Any) -> tuple[int, DType]:
    """Return the operand's priority (2 for an array with dimensions, 1 for a 0-d array, 0 for a
    Python number) and its dtype."""
    dtype = getattr(operand, "dtype", None)
    if dtype is not None:
        dtype = dtype if isinstance(dtype, DType) else BY_NUMPY[dtype]
        return (2 if len(operand.shape) else 1), dtype
    if isinstance(operand, bool):
        return 0, bool_
    if isinstance(operand, int):
        return 0, int64
    if isinstance(operand, float):
        return 0, get_default_dtype()
    if isinstance(operand, complex):
        return 0, default_complex_dtype()
    raise TypeMismatch(
        f"expected a tensor, a bool, an int, a float or a complex as operand, got "
        f"{type(operand).__name__}"
    )


def result_type(*operands: Any) -> DType:
    """Return the dtype of an op's result for these arrays, tensors and Python numbers."""
    ranked = [_rank(operand) for operand in operands]
    result: DType | None = None
    for level in (2, 1, 0):
        for rank, dtype in ranked:
            if rank != level:
                continue
            if result is None:
                result = dtype
            elif (
                level < 2
                and result.kind == "float"
                and dtype.kind == "complex"
                and any(r > level for r, _ in ranked)
            ):
                result = result.to_complex()  # with the number of bits of the higher priority
            elif (
                level == 2
                or _CATEGORY[dtype.kind] > _CATEGORY[result.kind]
                or level == 1
                and all(r != 2 for r, _ in ranked)
            ):
                result = _TABLE[result, dtype]
    return result if result is not None else get_default_dtype()


def can_cast(from_: DType, to: DType) -> bool:
    """Whether a result of dtype `from_` may be written to one of dtype `to`: its category is not
    lower."""
    source, target = dtype_of(from_), dtype_of(to)
    if not (source.elementwise and target.elementwise):
        return source is target
    if source.kind == "int" and target is uint8 and source.is_signed:
        return True
    return _CATEGORY[source.kind] <= _CATEGORY[target.kind]


def norm_dtype(caller: str, own: DType, given: DType) -> DType:
    """Return the given `dtype` of a norm. It holds all numbers of the tensor's own one, and is
    complex if that is."""
    if own.is_complex != given.is_complex or promote_types(own, given) != given:
        kind = "complex" if own.is_complex else "real"
        expected = f"a {kind} dtype that holds all numbers of {own}"
        raise DTypeError(sentence(caller, expected, given))
    return given
