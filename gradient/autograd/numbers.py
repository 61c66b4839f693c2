"""How arrays of different dtypes, and Python numbers, meet in one op."""

from __future__ import annotations

from typing import Any

from gradient.dtypes import DType, PackedDType, get_default_dtype, result_type
from gradient.errors import DTypeError

PYTHON_NUMBERS = (bool, int, float)


def meet(op: Any, backend: Any, arrays: list[Any]) -> list[Any]:
    """The inputs of `op`, cast as its `numbers` asks. None stands for an input left out."""
    first = getattr(arrays[0], "dtype", None)
    if first is not None and (op.numbers != "floating" or first.kind not in "biu"):
        for a in arrays:
            if a is not None and getattr(a, "dtype", None) is not first:
                break
        else:
            return arrays
    dtypes = {a.dtype for a in arrays if hasattr(a, "dtype")}
    numbers = [a for a in arrays if a is not None and not hasattr(a, "dtype")]
    if op.numbers == "same":
        # A packed weight meets inputs of any float dtype: `be.linear` sees to it.
        dtypes = {d for d in dtypes if not isinstance(d, PackedDType)}
        if len(dtypes) > 1:
            listed = ", ".join(sorted(str(d) for d in dtypes))
            raise DTypeError(
                f"{op.name}: expected inputs of one dtype, got {listed}; cast one with .to()"
            )
        return [a if a is None else backend.asarray(a) for a in arrays] if numbers else arrays
    arrays = [
        a if a is None or hasattr(a, "dtype") or type(a) in PYTHON_NUMBERS else plain(backend, a)
        for a in arrays
    ]
    target = result_type(*(a for a in arrays if a is not None))
    if op.numbers == "floating" and not target.is_floating_point:
        target = get_default_dtype()
    return [a if a is None else cast(backend, a, target) for a in arrays]


def plain(backend: Any, value: Any) -> Any:
    """An operand that is neither tensor nor Python number (a NumPy scalar, a list) as an array."""
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
