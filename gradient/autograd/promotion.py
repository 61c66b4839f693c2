"""Type promotion: how an op treats inputs of different dtypes, and Python numbers."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gradient.autograd.autocast import Policy, autocast, looked_at
from gradient.dtypes import (
    HALF_PRECISION,
    DType,
    PackedDType,
    bfloat16,
    float16,
    float32,
    float64,
    get_default_dtype,
    result_type,
)
from gradient.dtypes.promotion import WideNumber
from gradient.errors import DTypeError, NumberOverflow, TypeMismatch, sentence

if TYPE_CHECKING:
    from gradient.autograd.op import Op
    from gradient.backends import Backend

Promotion = Literal[
    "default", "int_to_float", "no_bool", "float_only", "same_dtype", "same_float", "none"
]
"""The kinds of type promotion:

    default       inputs are cast to a common dtype, by PyTorch's rules
    int_to_float  like default; integers and bools become the default float dtype
    no_bool       like default, but bools are an error
    float_only    like default, but integers and bools are an error
    same_dtype    different dtypes are an error (except for a packed weight)
    same_float    like same_dtype, and integers and bools are an error
    none          inputs are not cast
"""

PYTHON_NUMBERS = (bool, int, float, complex)

#: The kinds of dtypes (`np.dtype.kind`) that an op must cast or refuse: integers and bools if it
#: computes in floats or takes only floats, bools if it takes only numbers. `Op.checked_kinds` adds
#: "c", complex numbers, if the op does not take them.
CHECKED_KINDS: dict[Promotion, str] = {
    "int_to_float": "biu", "float_only": "biu", "same_float": "biu", "no_bool": "b",
}  # fmt: skip
_CHARS = {"b": "?", "i": np.typecodes["Integer"], "u": np.typecodes["UnsignedInteger"],
          "c": np.typecodes["Complex"]}  # fmt: skip
"""The values of `np.dtype.char` for each kind of dtype."""
REFUSED: dict[Promotion, tuple[str, ...]] = {
    "float_only": ("integers", "bools"), "same_float": ("integers", "bools"), "no_bool": ("bools",),
}  # fmt: skip
"""The inputs that an op refuses, for its docstring."""

FLOAT32 = float32.numpy
WIDE_FLOATS = FLOAT32, float64.numpy
MIXED = FLOAT32, float16.numpy, bfloat16.numpy
MIXING = operator.add, operator.sub, operator.mul
"""The dtypes and the operators that `Backend.mixes_floats` is about."""


@functools.cache
def checked_chars(kinds: str, policy: Policy | None) -> set[str]:
    """Return the `np.dtype.char` of all dtypes that an op must cast or refuse: those of `kinds`
    and, while autocast is on, those that it casts. Ops with the same arguments share one set."""
    chars = {char for kind in kinds for char in _CHARS[kind]}
    if policy is not None:
        looked_at(chars, policy)
    return chars


def documented(op: Op) -> list[str]:
    """Return sentences for the docstring of `op`: what `promote` does with its inputs."""
    facts = []
    if len(op.inputs) == 2 and op.promotion in ("default", "int_to_float", "no_bool", "float_only"):
        facts.append("The inputs broadcast and are converted to one dtype (see `result_type`).")
    if op.promotion == "int_to_float":
        facts.append("Integers and bools are converted to the default float dtype.")
    refused = list(REFUSED.get(op.promotion, ()))
    if "c" in op.checked_kinds:
        refused.append("complex numbers")
    if refused:
        facts.append(f"Raises DTypeError for {', '.join(refused)}.")
    return facts


def dtypes_by_name(op: Op, arrays: list[Any]) -> str:
    """List the dtypes: `float64 as input, float32 as weight`; without names for variadic ops."""
    from gradient.autograd.explain import PUBLIC_INPUTS

    if len(op.inputs) < len(arrays):
        return ", ".join(dict.fromkeys(str(a.dtype) for a in arrays if a is not None))
    names = [PUBLIC_INPUTS.get(name, name) for name in op.inputs]
    given = [(name, a) for name, a in zip(names, arrays, strict=False) if a is not None]
    return ", ".join(f"{a.dtype} as {name}" for name, a in given)


def promote(op: Op, backend: Backend, arrays: list[Any]) -> list[Any]:
    """Cast the inputs of `op` according to its `autocast` and `promotion`. None stands for an
    omitted input."""
    checked = op.checked
    shared, python_numbers = None, False
    for a in arrays:
        if a is None:
            if not op.takes_none:
                raise TypeMismatch(sentence(op.public_name, "a Tensor or a number", "None"))
        elif type(a) is float or type(a) is int:
            python_numbers = True
        else:
            dtype = getattr(a, "dtype", None)
            if dtype is None or (dtype is not shared and shared is not None):
                break
            shared = dtype
    else:
        if shared is not None and shared.char not in checked:
            if not python_numbers:
                return arrays
            if shared in WIDE_FLOATS and not op.promotion.startswith("same"):
                return [float(a) if type(a) is int else a for a in arrays]
    if op.autocast is not None:
        arrays = autocast(op.autocast, backend, arrays)
    checked_kinds = op.checked_kinds
    dtypes = {a.dtype for a in arrays if hasattr(a, "dtype")}
    numbers = [a for a in arrays if a is not None and not hasattr(a, "dtype")]
    if "c" in checked_kinds:
        refuse_complex(op.public_name, dtypes, numbers)
    if op.promotion in REFUSED:
        refuse_kinds(op, checked_kinds, dtypes, numbers)
    if op.promotion.startswith("same"):
        if numbers:
            got = type(numbers[0]).__name__
            raise TypeMismatch(sentence(op.public_name, "Tensors", got))
        # A packed weight takes inputs of any float dtype: `be.linear` sees to it.
        dtypes = {d for d in dtypes if not isinstance(d, PackedDType)}
        if len(dtypes) > 1:
            expected = "inputs of one dtype"
            got = dtypes_by_name(op, arrays)
            raise DTypeError(sentence(op.public_name, expected, got, "cast one with .to()"))
        return arrays
    arrays = [
        a if a is None or hasattr(a, "dtype") or _is_number(a) else asarray(backend, a)
        for a in arrays
    ]
    target = result_type(*(a for a in arrays if a is not None))
    if target.is_packed:
        return [int(a) if type(a) is bool else a for a in arrays]
    if target.kind == "int":  # numbers of up to 64 bits wrap
        for number in numbers:
            if not -(1 << 63) <= number < 1 << 64:
                raise NumberOverflow(sentence(op.public_name, "a number of 64 bits", number))
    if op.promotion == "int_to_float" and target.kind in ("int", "bool"):
        target = get_default_dtype()
    wide_number = backend.wide_number
    if target in HALF_PRECISION and op.operator is not None and wide_number is not None:
        arrays = [_wide_number(op, a, target, wide_number) for a in arrays]
        return [a if _is_wide(op, a) else cast(backend, a, target) for a in arrays]
    if target in HALF_PRECISION and op.scalars_in_float32:
        arrays = [a if hasattr(a, "dtype") else backend.full((), a, FLOAT32) for a in arrays]
        return [cast(backend, a, target) if a.dtype != FLOAT32 or a.shape else a for a in arrays]
    if op.keeps_number and target.kind != "bool":
        if target is bfloat16:
            return [
                float(a) if type(a) in PYTHON_NUMBERS else cast(backend, a, target) for a in arrays
            ]
        kept = op.inputs.index(op.keeps_number)
        number = arrays[kept]
        if not target.is_signed and type(number) is int and number < 0:
            return [a if i == kept else cast(backend, a, target) for i, a in enumerate(arrays)]
    if target is float32 and backend.mixes_floats and op.operator in MIXING and _mixable(arrays):
        return arrays
    return [a if a is None else cast(backend, a, target) for a in arrays]


def _is_number(value: Any) -> bool:
    return type(value) in PYTHON_NUMBERS or isinstance(value, WideNumber)


def _wide_number(
    op: Op, value: Any, target: DType, wide_number: Callable[[float], WideNumber]
) -> Any:
    """A number beside 16-bit floats as a `WideNumber`: rounded to bfloat16 first (as arrays round
    it to float16) unless the op takes it in float32. An array is returned unchanged."""
    if hasattr(value, "dtype"):
        return value
    if op.scalars_in_float32:
        return wide_number(value)
    return wide_number(target.numpy.type(value)) if target is bfloat16 else value


def _is_wide(op: Op, value: Any) -> bool:
    """Whether an operand beside 16-bit floats stays float32: a `WideNumber`, or a 0-d array of an
    op that takes numbers in float32."""
    if not hasattr(value, "dtype"):
        return isinstance(value, WideNumber)
    return op.scalars_in_float32 and value.dtype == FLOAT32 and not value.shape


def _mixable(arrays: list[Any]) -> bool:
    """Whether an operator can take the arrays without a cast: all are float32 or 16-bit floats
    (mixed or not), and none is 0-d."""
    dtypes = [getattr(a, "dtype", None) for a in arrays if getattr(a, "shape", ())]
    return len(dtypes) == len(arrays) and all(d in MIXED for d in dtypes)


def python_number(value: Any) -> Any:
    """Convert a NumPy scalar to a Python number; return other values unchanged. As in PyTorch, it
    then does not promote: a float32 loss times np.float64(2) stays float32."""
    return value.item() if isinstance(value, np.generic) else value


def cast_result(backend: Backend, out: Any, *inputs: Any) -> Any:
    """Cast an op's result to the dtype of its 16-bit input, if a number beside it was float32 (see
    `scalars_in_float32`)."""
    if out.dtype == FLOAT32 and not _mixable(list(inputs)):
        for a in inputs:
            if getattr(a, "dtype", None) in HALF_PRECISION:
                return backend.astype(out, a.dtype)
    return out


def refuse_kinds(op: Op, kinds: str, dtypes: set[Any], numbers: list[Any]) -> None:
    """Raise if the op does not take an input's kind of dtype."""
    kinds = kinds.replace("c", "")
    wrong = [str(d) for d in dtypes if d.kind in kinds]
    wrong += [type(n).__name__ for n in numbers if isinstance(n, bool) and "b" in kinds]
    if not wrong:
        return
    if op.promotion != "no_bool":
        fix = "cast with .float()"
        raise DTypeError(sentence(op.public_name, "a floating-point dtype", wrong[0], fix))
    fix = op.bool_fix or "cast with .to()"
    raise DTypeError(sentence(op.public_name, "numbers", wrong[0], fix))


def refuse_complex(caller: str, dtypes: Iterable[Any], numbers: Iterable[Any] = ()) -> None:
    """Raise if an input of a function for real numbers is complex."""
    for dtype in (*dtypes, *map(type, numbers)):
        if dtype is complex or getattr(dtype, "kind", "")[:1] == "c":
            got, fix = getattr(dtype, "name", "complex"), "take .abs(), .real or .imag first"
            raise DTypeError(sentence(caller, "real numbers", got, fix))


def asarray(backend: Backend, value: Any) -> Any:
    """Convert a NumPy array or scalar to an array of the backend."""
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeMismatch(f"expected a Tensor or a number, got {type(value).__name__}")
    return backend.asarray(value)


def cast(backend: Backend, value: Any, dtype: DType) -> Any:
    """Cast `value` to `dtype`. Python numbers stay numbers if the array library then promotes to
    the right dtype; otherwise (bfloat16, bool) they become 0-d arrays."""
    if hasattr(value, "dtype"):
        return value if value.dtype == dtype.numpy else backend.astype(value, dtype.numpy)
    if dtype.numpy.kind == "V" or dtype.kind == "bool":
        return backend.full((), value, dtype.numpy)
    if dtype.is_floating_point:
        return float(value)
    if dtype.is_complex:
        return complex(value)
    low = -(1 << dtype.bits - 1) if dtype.is_signed else 0
    return (value - low) % (1 << dtype.bits) + low  # integers wrap, as in C and PyTorch
