"""Lowerings: calls as functions that write their results to given places, by NumPy's `out=`.

A lowering takes the arguments, options and result places of a call, with arrays for buffers. It
returns functions and their arguments, or None for cases that only the backend's method computes.
The functions compute exactly what the method does: same loops, same order.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from gradient import backends
from gradient.backends import expression, small_calls
from gradient.backends.base import LARGE
from gradient.backends.expression import Expression, Input, Result
from gradient.backends.numpy import (
    blas,
    copies,
    elementary,
    elementwise,
    gemm,
    grouped,
    kernels,
    linear,
    reductions,
    remainders,
    rng,
)
from gradient.backends.numpy import fused as numpy_fused
from gradient.errors import ArgumentError, sentence
from gradient.plan.executors import fused
from gradient.plan.executors.overwriting import lower_gelu_grad
from gradient.plan.executors.program import Step, task

Lowering = Callable[[tuple[Any, ...], dict[str, Any], Any], list[Step] | None]

UFUNCS: dict[str, np.ufunc] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
    "floordiv": np.floor_divide, "mod": np.remainder, "and": np.bitwise_and,
    "or": np.bitwise_or, "xor": np.bitwise_xor, "lshift": np.left_shift, "rshift": np.right_shift,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "neg": np.negative, "invert": np.invert,
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "tanh": np.tanh, "arctan2": np.arctan2, "expm1": np.expm1, "log1p": np.log1p,
    "arcsin": np.arcsin, "arccos": np.arccos, "arctan": np.arctan, "sinh": np.sinh,
    "cosh": np.cosh, "arcsinh": np.arcsinh, "arccosh": np.arccosh, "arctanh": np.arctanh,
    "log2": np.log2, "log10": np.log10, "exp2": np.exp2, "isnan": np.isnan,
    "isfinite": np.isfinite, "fmod": np.fmod, "floor": np.floor, "ceil": np.ceil,
    "trunc": np.trunc, "round": np.rint, "abs": np.abs, "maximum": np.maximum,
    "minimum": np.minimum,
}  # fmt: skip
"""The calls that the CPU backend makes by one ufunc; large ones of a few by a kernel."""


ARITHMETIC = ("add", "sub", "mul", "truediv")
"""The calls of which large ones are kernels, which give NumPy's bits, on all threads."""


def _ufunc(name: str) -> Lowering:
    ufunc = UFUNCS[name]

    def lowering(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
        if options or len(args) != ufunc.nin or _has_kernel(name, args):
            return None  # by the backend's method
        if name in ARITHMETIC and (found := _in_one_pass(name, args, out)) is not None:
            return found
        numbers = tuple(_number(x, args) for x in args)
        if ufunc in (np.maximum, np.minimum):  # in case NumPy makes these take more than two
            return [(functools.partial(ufunc, out=out), numbers)]
        return [(ufunc, (*numbers, out))]

    return lowering


def _has_kernel(name: str, args: tuple[Any, ...]) -> bool:
    if name == "fmod":
        return remainders.takes(*args)
    if name == "arctan2":
        return elementary.takes_pair(*args)
    if name in elementwise.FUNCTIONS and elementwise.turns(name, args[0]):
        return True
    return name in elementary.EVERY and elementary.takes(name, args[0])


def _in_one_pass(name: str, args: tuple[Any, ...], out: np.ndarray) -> list[Step] | None:
    """A kernel for arithmetic on large arrays of one dtype, none of which may be overwritten."""
    char = out.dtype.char
    if out.size < LARGE or char not in "fd" or not kernels.available():
        return None
    if not all(isinstance(x, np.ndarray) and x.dtype == out.dtype for x in args):
        return None
    if any(np.may_share_memory(x, out) for x in args):
        return None
    inputs = tuple(Input(i) for i in range(len(args)))
    step = expression.ElementwiseCall(name, inputs, char)
    whole = Expression((step,), (char,) * len(args), (Result(0),))
    found = numpy_fused.bound(whole, args, [out], exact=True)
    if found is None:
        return None
    kernel, rows, chunk, arguments = found
    return [(task, (kernel, rows, chunk, *arguments))]


def _number(x: Any, others: tuple[Any, ...]) -> Any:
    """A Python number as the array that NumPy would convert it to at each call."""
    if type(x) not in (int, float):
        return x
    dtypes = {y.dtype for y in others if isinstance(y, np.ndarray)}
    if len(dtypes) == 1 and (dtype := next(iter(dtypes))).char in "fd":
        return np.asarray(x, dtype)
    return x


def _power(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    x, exponent = args
    if isinstance(x, np.ndarray) and type(exponent) in (int, float) and exponent == 2:
        return [(np.square, (x, out))]  # as NumPy does for this exponent
    return [(lambda: np.copyto(out, operator.pow(x, exponent)), ())]


def _where(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    condition, a, b = args
    if condition.dtype != bool:
        return None
    if out.flags.c_contiguous and elementwise.takes_where(condition, a, b):
        return [(task, elementwise.where_launch(condition, a, b, out))]
    return [(np.copyto, (out, b)), (np.copyto, (out, a, "same_kind", condition))]


def _function(name: str) -> Lowering:
    by_numpy = _ufunc(name)

    def lowering(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
        (x,) = args
        if out.flags.c_contiguous and elementwise.takes_function(name, x):
            return [(task, elementwise.function_launch(name, x, out))]
        if name == "exp" and out.flags.c_contiguous and elementwise.takes_complex_exp(x):
            return [(elementwise.complex_exp, (x, out))]
        return by_numpy(args, options, out)

    return lowering


def _reduction(ufunc: np.ufunc, sums: bool) -> Lowering:
    def lowering(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
        names = ("x", "axis", "keepdims")
        given = dict(zip(names, args, strict=False)) | options
        x, axis, keep = given["x"], given.get("axis"), given.get("keepdims", False)
        if sums and out.flags.c_contiguous and reductions.takes(x, axis):
            return [(task, launch) for launch in reductions.launches(x, axis, out)]
        if sums and x.dtype.char in "fd" and reductions.long_axis(x, axis) is not None:
            return None  # the backend's method adds up in blocks
        if x.dtype.char in "fd" or not sums and x.dtype.kind in "iu":
            return [(ufunc.reduce, (x, axis, None, out, keep))]
        if sums and x.dtype.kind in "biu":
            return [(ufunc.reduce, (x, axis, np.int64, out, keep))]
        return None

    return lowering


def _matmul(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    a, b = args
    if a.dtype.char not in "fd" or a.dtype != b.dtype:
        return None
    if (rows := blas.as_rows(a, b)) is not None:
        if not out.flags.c_contiguous:
            return None
        a, out = rows, out.reshape(-1, out.shape[-1])
    if blas.are_outer(a, b):
        return [(np.multiply, (a, b, out))]
    if gemm.takes(a, b) and out.flags.c_contiguous:
        return [(task, gemm.launch(a, b, None, out))]
    if blas._large(a, b) and blas.openblas() is not None:
        return [(blas.matmul, (a, b, None, out))] if out.flags.c_contiguous else None
    by_dot = a.ndim == b.ndim == 2 and out.flags.c_contiguous  # as in eager execution
    return [(np.dot if by_dot else np.matmul, (a, b, out))]


def _linear(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    x, weight, bias, *_ = (*args, None)
    if options or not all(isinstance(each, np.ndarray) for each in (x, weight, out)):
        return None
    if linear.is_small(weight, x) and not small_calls.are_repeated():
        return _small_linear(x, weight, bias, out)
    if bias is None:
        return None
    rows, places = x.reshape(-1, x.shape[-1]), out.reshape(-1, out.shape[-1])
    views = np.may_share_memory(rows, x) and np.may_share_memory(places, out)
    if linear.takes(weight, x, bias):  # a kernel, which rounds differently from BLAS
        return None
    if gemm.takes_linear(x, weight, bias) and places.flags.c_contiguous and views:
        return [(task, gemm.linear_launch(x, weight, bias, out))]
    if bias.dtype != x.dtype or not blas._large(x, weight, transposed=True) or not views:
        return None
    if blas.openblas() is None or not places.flags.c_contiguous:
        return None
    return [(blas.matmul, (rows, weight.T, bias, places))]


def _linear_activation(
    args: tuple[Any, ...], options: dict[str, Any], out: Any
) -> list[Step] | None:
    x, weight, bias, activation = args
    dense = isinstance(weight, np.ndarray) and out.flags.c_contiguous and x.flags.c_contiguous
    if not dense or not gemm.takes_activation(x, weight, bias, activation):
        return None
    return [(task, gemm.linear_launch(x, weight, bias, out, relu=True))]


def _small_linear(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray
) -> list[Step] | None:
    alike = all(each.dtype == out.dtype for each in (x, weight, bias) if each is not None)
    if not alike or x.ndim != 2 or not out.flags.c_contiguous:
        return None
    product = (np.dot, (x, weight.T, out))
    return [product] if bias is None else [product, (np.add, (out, bias, out))]


def _grouped_linear(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    x, weights, counts = args
    if not (all(each.flags.carray for each in (x, counts, out)) and grouped.takes(x, weights)):
        return None
    return [(task, launch) for launch in grouped.launches(x, weights, counts, out)]


def _copy(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    """`copy`, `clone`, `astype`, and an `expand` or `reshape` that copies."""
    x = args[0]
    if out.shape == x.shape and (found := copies.launch(x, out)) is not None:
        return [(task, found)]
    if out.shape == x.shape or _broadcasts(x.shape, out.shape):
        return [(np.copyto, (out, x, "unsafe"))]
    return None


def _reshape(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    x = args[0]
    if not out.flags.c_contiguous:
        return None
    found = copies.launch(x, out.reshape(x.shape))
    return [(np.copyto, (out.reshape(x.shape), x))] if found is None else [(task, found)]


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False


def _concatenate(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    if options or len(args) != 2:
        return None
    arrays, axis = args
    if out.size >= LARGE and axis is not None and all(_alike(x, out) for x in arrays):
        ends = np.cumsum([x.shape[axis] for x in arrays])[:-1]
        pairs = list(zip(arrays, np.split(out, ends, axis), strict=True))
        launches = [copies.launch(*pair) for pair in pairs]
        if any(launch is not None for launch in launches):
            return [
                (np.copyto, (place, x)) if launch is None else (task, launch)
                for launch, (x, place) in zip(launches, pairs, strict=True)
            ]
    return [(np.concatenate, (arrays, axis, out))]


def _alike(x: Any, out: np.ndarray) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == out.dtype


def _assign(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    x, index, value = args
    parts = index if isinstance(index, tuple) else (index,)
    basic = all(p is Ellipsis or p is None or isinstance(p, (int, slice)) for p in parts)
    if not basic or any(isinstance(p, bool) for p in parts):
        rows = _put_rows(x, parts, value) if _repeated(x, value) else None
        return rows or [(operator.setitem, (x, index, value))]
    place = x[(*parts, ...)] if Ellipsis not in parts else x[tuple(parts)]
    if isinstance(value, np.ndarray) and np.may_share_memory(place, value):
        return [(operator.setitem, (x, index, value))]
    if not isinstance(value, (np.ndarray, int, float)):
        return None
    if isinstance(value, np.ndarray) and value.ndim > place.ndim:
        return [(operator.setitem, (x, index, value))]  # leading axes of length 1 are dropped
    return [(np.copyto, (place, value, "unsafe"))]


def _repeated(*arrays: Any) -> bool:
    """Whether a kernel should compute an operation on these arrays, even if they are small."""
    return (
        small_calls.are_repeated()
        and all(isinstance(x, np.ndarray) and x.flags.carray and x.size > 0 for x in arrays)
        and kernels.available()
    )


def _put_rows(x: np.ndarray, index: tuple[Any, ...], value: np.ndarray) -> list[Step] | None:
    """x[first, second] = value or x[first, :, second] = value, with integer arrays of one shape."""
    between = len(index) == 3 and isinstance(index[1], slice) and index[1] == slice(None)
    if not (between or len(index) == 2) or x.ndim < len(index):
        return None
    places = index[0], index[-1]
    if not all(isinstance(p, np.ndarray) and p.dtype == np.int64 for p in places):
        return None
    target = (*places[0].shape, *x.shape[1:2] * between, *x.shape[len(index) :])
    if (
        places[0].shape != places[1].shape
        or not all(p.flags.carray for p in places)
        or value.dtype != x.dtype
        or _without_lead(value.shape) != _without_lead(target)
        or np.may_share_memory(x, value)
    ):
        return None
    table = x.reshape((*x.shape[:2], x.shape[2], -1) if between else (len(x), 1, x.shape[1], -1))
    n, bits = places[0].size, np.dtype(f"u{x.itemsize}")
    rows = value.reshape(n, table.shape[1], table.shape[3])
    put = kernels.load("rows").put
    arguments = table.view(bits), *(p.reshape(-1) for p in places), rows.view(bits)
    return [(task, (put, n, n, *arguments))]


def _without_lead(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without leading axes of length 1."""
    first = next((i for i, n in enumerate(shape) if n != 1), len(shape))
    return shape[first:]


def _embedding(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    if options or len(args) != 2 or not _repeated(*args, out) or args[0].ndim != 2:
        return None
    table, index = args
    if index.dtype != np.int64 or table.dtype != out.dtype:
        return None
    bits, n = np.dtype(f"u{table.itemsize}"), index.size
    gather = kernels.load("rows").gather
    arguments = table.view(bits), index.reshape(-1), out.reshape(n, -1).view(bits)
    check = backends.get("cpu").check_indices
    return [(check, (index, 0, len(table))), (task, (gather, n, n, *arguments))]


def _dropout(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    """The key and offset are 0-d arrays if they are read before each run."""
    key, offset, x, p = args
    place, _ = out
    if options or not kernels.available() or x.dtype != np.float32 or x.size == 0:
        return None
    if not all(isinstance(number, np.ndarray) for number in (key, offset)):
        return None
    if not (x.flags.c_contiguous and place.flags.c_contiguous):
        return None
    places = key.reshape(1), offset.reshape(1)
    return [(task, rng.dropout_launch(*places, x, p, place))]


def _full(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    if len(args) != 3 or options or not isinstance(args[1], (int, float)):
        return None
    return [(np.copyto, (out, np.full((), args[1], out.dtype)))]


def _zeros(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    return [(np.copyto, (out, np.zeros((), out.dtype)))]


def _ones(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    return [(np.copyto, (out, np.ones((), out.dtype)))]


def _accumulate(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    x, y = args
    return [(np.add, (x, y, x))] if x.dtype.char in "fd" and y.dtype == x.dtype else None


def _has_zero(args: tuple[Any, ...], options: dict[str, Any], out: Any) -> list[Step] | None:
    def check(x: np.ndarray) -> None:
        if backends.get("cpu").has_zero(x):
            raise ArgumentError(sentence("plan", "a divisor of integers that is not 0", 0))

    return [(check, args)]


LOWERINGS: dict[str, Lowering] = {
    **{name: _ufunc(name) for name in UFUNCS},
    **{name: _function(name) for name in elementwise.FUNCTIONS},
    "pow": _power,
    "where": _where,
    "sum": _reduction(np.add, True),
    "max": _reduction(np.maximum, False),
    "min": _reduction(np.minimum, False),
    "matmul": _matmul,
    "linear": _linear,
    "linear_activation": _linear_activation,
    "grouped_linear": _grouped_linear,
    "copy": _copy,
    "clone": _copy,
    "astype": _copy,
    "expand": _copy,
    "broadcast_to": _copy,
    "reshape": _reshape,
    "concatenate": _concatenate,
    "assign": _assign,
    "full": _full,
    "zeros": _zeros,
    "empty": lambda args, options, out: [],
    "ones": _ones,
    "accumulate": _accumulate,
    "has_zero": _has_zero,
    "embedding": _embedding,
    "dropout": _dropout,
    "gelu_grad": lower_gelu_grad,
    fused.FUSED: fused.lowering,
}
"""By the op's name."""
