"""How arrays of different dtypes, and Python numbers, meet in one op."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradient.autograd.explain import public_name
from gradient.dtypes import (
    HALF_PRECISION,
    DType,
    PackedDType,
    float32,
    get_default_dtype,
    result_type,
)
from gradient.errors import DTypeError, TypeMismatch, sentence

PYTHON_NUMBERS = (bool, int, float)

#: Kinds of dtypes (of `np.dtype.kind`) at which an op's inputs have to be looked at: integers and
#: bools where it computes in floats or takes floats alone, bools where it takes numbers alone.
LOOKED_AT = {"floating": "biu", "float": "biu", "same float": "biu", "number": "b"}
REFUSES = ("float", "same float", "number")

#: Ops in which a number meets 16-bit floats in float32, as it does in PyTorch: rounded to 16 bits
#: first, 1e6 would be infinite in float16.
WITH_WIDE_NUMBERS = frozenset({"mul", "div", "floor_divide"})
FLOAT32 = float32.numpy


def meet(op: Any, backend: Any, arrays: list[Any]) -> list[Any]:
    """The inputs of `op`, cast as its `numbers` asks. None stands for an input left out."""
    first = getattr(arrays[0], "dtype", None)
    looked_at = LOOKED_AT.get(op.numbers, "")
    if first is not None and first.kind not in looked_at:
        for a in arrays:
            if a is not None and getattr(a, "dtype", None) is not first:
                break
        else:
            return arrays
    dtypes = {a.dtype for a in arrays if hasattr(a, "dtype")}
    numbers = [a for a in arrays if a is not None and not hasattr(a, "dtype")]
    if op.numbers in REFUSES:
        refuse_kinds(op, looked_at, dtypes, numbers)
    if op.numbers.startswith("same"):
        if numbers:
            got = type(numbers[0]).__name__
            raise TypeMismatch(sentence(public_name(op), "Tensors", got))
        # A packed weight meets inputs of any float dtype: `be.linear` sees to it.
        dtypes = {d for d in dtypes if not isinstance(d, PackedDType)}
        if len(dtypes) > 1:
            listed = ", ".join(sorted(str(d) for d in dtypes))
            raise DTypeError(
                f"{op.name}: expected inputs of one dtype, got {listed}; cast one with .to()"
            )
        return arrays
    arrays = [
        a if a is None or hasattr(a, "dtype") or type(a) in PYTHON_NUMBERS else plain(backend, a)
        for a in arrays
    ]
    target = result_type(*(a for a in arrays if a is not None))
    if op.numbers == "floating" and not target.is_floating_point:
        target = get_default_dtype()
    if target in HALF_PRECISION and op.name in WITH_WIDE_NUMBERS:
        arrays = [a if hasattr(a, "dtype") else backend.full((), a, FLOAT32) for a in arrays]
        return [cast(backend, a, target) if a.dtype != FLOAT32 or a.shape else a for a in arrays]
    return [a if a is None else cast(backend, a, target) for a in arrays]


def rounded(backend: Any, out: Any, *inputs: Any) -> Any:
    """The result of an op, in the dtype of its 16-bit input where a number met that in float32."""
    if out.dtype == FLOAT32:
        for a in inputs:
            if getattr(a, "dtype", None) in HALF_PRECISION:
                return backend.astype(out, a.dtype)
    return out


def refuse_kinds(op: Any, kinds: str, dtypes: set[Any], numbers: list[Any]) -> None:
    """Raise if one of the inputs is of a kind of dtype that the op does not take."""
    wrong = [str(d) for d in dtypes if d.kind in kinds]
    wrong += [type(n).__name__ for n in numbers if isinstance(n, bool) and "b" in kinds]
    if not wrong:
        return
    name = public_name(op)
    if op.numbers != "number":
        fix = "cast with .float()"
        raise DTypeError(sentence(name, "a floating-point dtype", wrong[0], fix))
    fix = "invert a mask with ~" if name in ("sub", "neg") else "cast with .to()"
    raise DTypeError(sentence(name, "numbers", wrong[0], fix))


def plain(backend: Any, value: Any) -> Any:
    """An operand that is neither tensor nor Python number, a NumPy array or scalar, as an array."""
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeMismatch(f"expected a Tensor or a number, got {type(value).__name__}")
    return backend.asarray(value)


def cast(backend: Any, value: Any, dtype: DType) -> Any:
    """An array of that dtype; a Python number is left to the array library's weak promotion where
    that gives the right dtype, and becomes an array where it does not (bfloat16)."""
    if hasattr(value, "dtype"):
        return value if value.dtype == dtype.numpy else backend.astype(value, dtype.numpy)
    if dtype.numpy.kind == "V" or dtype.kind == "bool":
        return backend.full((), value, dtype.numpy)
    if dtype.is_floating_point:
        return float(value)
    low = -(1 << dtype.bits - 1) if dtype.is_signed else 0
    return (value - low) % (1 << dtype.bits) + low  # integers wrap, as in C and PyTorch
