"""Translate an array library's exception into one of ours, which names the function, the expected
value and the actual one. Runs only when an op fails."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from gradient.autograd.numbers import apart
from gradient.autograd.variable import Variable
from gradient.dtypes import DType, PackedDType
from gradient.errors import (
    TOO_LARGE,
    BackendError,
    DTypeError,
    GradientError,
    IndexOutOfRange,
    Sentence,
    ShapeError,
    TypeMismatch,
    out_of_bounds,
    sentence,
)

if TYPE_CHECKING:
    from gradient.autograd.op import Op

# `re` compiles a pattern at its first use and caches it: to compile all seven here would take 2 %
# of the time of `import gradient`.
#: NumPy's and CuPy's messages for a matrix product of factors that do not fit.
_PRODUCT = r"core dimension .*\(size (?P<b>\d+) is different from (?P<a>\d+)\)"
_DOT = r"not aligned: (?P<a>\d+) \(dim \d+\) != (?P<b>\d+) \(dim"
_BROADCAST = r"could not be broadcast together|shape mismatch"
_INDEX = r"index (-?\d+) is out of bounds for (?:axis|dimension) (\d+) with size (\d+)"
_AXIS = r"axis (-?\d+) is out of bounds for array of dimension (\d+)"
_CONVERSION = r"could not convert|invalid literal|can't multiply sequence"
_NO_LOOP = ("ufunc", "numpy boolean", "The numpy boolean", "Cannot cast ufunc")

MAX_LISTED = 8  # inputs that a message lists

TAKE_PACKED: list[str] = []
"""The names of the ops that take packed tensors; each op adds itself when it is defined."""

#: The public names of an op's inputs, if they differ from the names in the op.
PUBLIC_INPUTS = {"a": "input", "b": "other", "x": "input", "logits": "input",
                 "q": "query", "k": "key", "v": "value"}  # fmt: skip


def explain(op: Op, inputs: tuple[Any, ...], error: Exception) -> Exception:
    """Return the exception to raise for `error`, which `op` raised on `inputs`."""
    name, tensors = op.public_name, [t for t in inputs if isinstance(t, Variable)]
    for at, value in enumerate(inputs):
        packed = isinstance(value, Variable) and isinstance(value.array.dtype, PackedDType)
        if packed and value.array.dtype.elementwise and (op.moves or isinstance(error, ShapeError)):
            break  # of 8-bit floats, which the op takes where shapes fit
        if packed and op.packed != (op.inputs[at] if at < len(op.inputs) else op.varargs):
            return packed_refused(name, value.array)
    inner = op.inputs if len(op.inputs) >= len(inputs) else [str(i) for i in range(len(inputs))]
    names = [PUBLIC_INPUTS.get(n, n) for n in inner]
    optional = inspect.signature(op.function).parameters
    for at, (argument, value) in enumerate(zip(names, inputs, strict=False)):
        missing = value is None and (
            inner[at] not in optional or optional[inner[at]].default is inspect.Parameter.empty
        )
        taken = value is None or isinstance(value, (Variable, bool, int, float, complex))
        dtype = getattr(value, "dtype", None)  # an array's; ours is that of a sparse tensor
        if missing or not (taken or (dtype is not None and not isinstance(dtype, DType))):
            return TypeMismatch(sentence(name, f"a Tensor as {argument}", type(value).__name__))
    if isinstance(error, GradientError):
        raise error
    if isinstance(error, MemoryError) and tensors:
        from gradient.autograd.out_of_memory import out_of_memory

        return out_of_memory(name, tensors[0].backend, error)
    if not tensors:
        return TypeMismatch(sentence(name, f"a Tensor as {names[0]}", type(inputs[0]).__name__))
    if len({t.backend.device for t in tensors}) > 1:
        return apart(name, tensors)
    shapes = [tuple(t.array.shape) for t in tensors]

    def stated(caller: str, arguments: str) -> GradientError:
        ours = translated(op, error, caller, arguments, shapes)
        ours.for_caller = stated
        return ours

    return stated(name, listed(names, inputs))


def translated(
    op: Op, error: Exception, name: str, inputs: str, shapes: list[tuple[int, ...]]
) -> GradientError:
    """Translate an array library's exception. `name` is the function that the message names: the op
    that failed, or a function that called it."""
    line = first_line(error)
    if isinstance(error, TypeError) and line.startswith(_NO_LOOP):
        return DTypeError(f"{name}: not defined for these dtypes ({inputs}); cast with .to()")
    if found := re.search(_PRODUCT, line) or re.search(_DOT, line):
        differ = f"{found['a']} and {found['b']}"
        return ShapeError(f"{name}: the dimensions to be summed over differ, {differ} ({inputs})")
    if found := re.search(_INDEX, line):
        return IndexOutOfRange(f"{name}: {out_of_bounds(*map(int, found.groups()))}")
    if re.search(TOO_LARGE, line):
        kind = IndexOutOfRange if isinstance(error, OverflowError) else ShapeError
        return kind(f"{name}: a size or a number of bytes is beyond 2**63 - 1 ({inputs})")
    if found := re.search(_AXIS, line):
        n = max(int(found[2]), 1)
        return IndexOutOfRange(sentence(name, f"a dim from {-n} to {n - 1}", found[1]))
    if isinstance(error, ValueError) and re.search(_BROADCAST, line):
        return ShapeError(f"{name}: {mismatch(shapes, op.core_dims)} ({inputs})")
    if op.expected_shapes and isinstance(error, ValueError):
        got = " and ".join(map(str, shapes[:MAX_LISTED]))
        return ShapeError(sentence(name, op.expected_shapes, got))
    if re.search(_CONVERSION, line):
        return TypeMismatch(f"{name}: an argument is not a number: {line} ({inputs})")
    message = f"{name}: {line} ({inputs})"
    for kinds, ours in (
        ((IndexError,), IndexOutOfRange),
        ((ValueError,), ShapeError),
        ((TypeError, AttributeError, OverflowError), TypeMismatch),
    ):
        if isinstance(error, kinds):
            return ours(message)
    return BackendError(message)


def error_for_any_caller(kind: type[GradientError], caller: str, problem: str) -> GradientError:
    """Return an error that names `caller`; `error_of_caller` can change the name to that of the
    function that called it."""
    error = kind(f"{caller}: {problem}")
    error.for_caller = lambda name, inputs: error_for_any_caller(kind, name, problem)
    return error


def error_of_caller(
    caller: str, arguments: dict[str, Any], error: Exception
) -> GradientError | None:
    """Return a copy of `error` that names `caller` instead of a function that `caller` called; None
    if the message names `caller` already, or no function.

    Args:
        arguments: the arguments of the call of `caller`, by name.
    """
    tensors = {name: value for name, value in arguments.items() if isinstance(value, Variable)}
    for_caller = getattr(error, "for_caller", None)
    if for_caller is not None and not str(error).startswith(f"{caller}:"):
        return for_caller(caller, listed(list(tensors), tuple(tensors.values())))
    if not isinstance(error, GradientError) or not error.args:
        return None
    said = error.args[0]
    # A message that begins with an argument's name ("dim: expected an int") is clear already.
    if not isinstance(said, Sentence) or said.caller in (caller, *arguments):
        return None
    if not said.caller.isidentifier():
        return None
    return type(error)(f"{caller}{said.removeprefix(said.caller)}")


def index_error(name: str, error: IndexError) -> IndexOutOfRange:
    """Return our error for an array library's IndexError in the function `name`."""
    line = first_line(error)
    found = re.search(_INDEX, line)
    return IndexOutOfRange(f"{name}: {out_of_bounds(*map(int, found.groups())) if found else line}")


def mismatch(shapes: list[tuple[int, ...]], trailing: int = 0) -> str:
    """Say why shapes do not broadcast: name the last dimension in which two of them differ. The
    last `trailing` dimensions (those of matrices) are skipped."""
    for back in range(1 + trailing, max(map(len, shapes), default=0) + 1):
        sizes = [s[-back] for s in shapes if len(s) >= back and s[-back] != 1]
        if len(set(sizes)) > 1:
            others = next(n for n in sizes if n != sizes[0])
            return (
                f"the shapes do not broadcast, sizes {sizes[0]} and {others} in dimension -{back}"
            )
    return "the shapes do not broadcast"


def packed_refused(name: str, array: Any) -> DTypeError:
    """Return the error for a packed tensor as input of an op that does not take one."""
    if array.dtype.elementwise:
        got = f"{array.dtype.name} {tuple(array.shape)}"
        return DTypeError(f"{name}: not defined for 8-bit floats, got {got}; cast it with .to()")
    *others, last = TAKE_PACKED
    return DTypeError(
        f"{name}: not defined for packed tensors, got {array.dtype.name} {tuple(array.shape)}; "
        f"dequantize() it first ({', '.join(others)} and {last} take packed weights as they are)"
    )


def listed(names: list[str], inputs: tuple[Any, ...]) -> str:
    """List the inputs, except None, with their shapes and dtypes."""
    shown = [
        f"{name} {describe(value)}"
        for name, value in zip(names, inputs[:MAX_LISTED], strict=False)
        if value is not None
    ]
    more = f" and {len(inputs) - MAX_LISTED} more" if len(inputs) > MAX_LISTED else ""
    return ", ".join(shown) + more


def describe(value: Any) -> str:
    """`(2, 3) float32` for a tensor; the repr of anything else."""
    if isinstance(value, Variable):
        return f"{tuple(value.array.shape)} {value.array.dtype}"
    return repr(value)


def first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].partition(" with remapped shapes")[0] if text else (
        type(error).__name__
    )  # fmt: skip
