"""Python's operators on CuPy's arrays by kernels (`arithmetic.cu`, `elementwise.cu`).

CuPy's own functions take 12 us of the host's time for `x + x`, and 15 us for `x * 2`: they work out
dtypes, strides and the kernel's source in each call. Here all that depends only on the operator and
the dtype is in a `Prepared`, and all that depends only on shapes and strides in a `Plan`.

Kernels take float arrays of one dtype, and Python numbers. Functions return None for anything else,
such as integers, mixed dtypes or complex numbers; then CuPy's function computes it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gradient.backends.array_api import Array
from gradient.backends.cuda.fused import MOST_AXES, walk_of
from gradient.backends.cuda.launching import DIVISOR, EACH, FLOATS, LOAD, divisor
from gradient.backends.required import Shape
from gradient.dtypes import bfloat16
from gradient.dtypes.promotion import WideNumber

BFLOAT16 = bfloat16.numpy
WIDE = np.dtype(np.float32), np.dtype(np.float64)
"""What 16-bit floats and float32 are computed in, and float64."""
BOOL = np.dtype(bool)
BYTES_PER_THREAD = 64
"""Of each array: four loads of 16 bytes, so that a thread has several under way."""
OF_BLOCK = EACH * BYTES_PER_THREAD
COUNTED = 1 << 31
"""Items that the kernels for strides count."""
EXACT = 1 << 53
"""Integers up to this are exact as float64; CuPy converts others."""

STRIDES = np.dtype(
    [("axes", np.int32), ("unused", np.int32), ("size", DIVISOR, MOST_AXES)]
    + [("of", np.int64, (3, MOST_AXES))]
)
"""`Strides` of `arithmetic.cu`."""

Function = Callable[..., Array | None]


class CupyNumber(WideNumber):
    """A `WideNumber` that CuPy's own functions take, too: of classes of numbers they know only
    Python's and NumPy's. Arrays of CuPy's class, which its functions return, have its operators."""

    __slots__ = ()

    def __cupy_get_ndarray__(self) -> Array:
        import cupy

        made: Array = cupy.full((), float(self), WIDE[0])
        return made


class Prepared(NamedTuple):
    """What launches of a function need for a dtype.

    plain       launches the kernel for arrays without gaps
    strided     that for arrays of any strides
    number      gives a number as an argument, in the dtype's precision; None if CuPy converts it
    wide        the same of a `CupyNumber`, in float32 or float64
    zero        the argument in the place of a number, if the operand is an array
    result      the dtype of the result
    of_block    elements of a block of the plain kernel
    """

    plain: Callable[..., None]
    strided: Callable[..., None]
    number: Callable[[float], Any]
    wide: Callable[[float], Any]
    zero: Any
    result: np.dtype
    of_block: int

    def given(self, x: Any) -> Any:
        """A number as an argument; None if it is none, or CuPy has to convert it."""
        kind = type(x)
        if kind is float or kind is int:
            return self.number(x)
        return self.wide(float(x)) if kind is CupyNumber else None


class Plan(NamedTuple):
    """How operands of certain shapes and strides are traversed: see `Strides` in the kernels."""

    shape: Shape
    memory: np.ndarray | None
    """Of the structure that `strides` points to."""
    strides: Any
    sides: Any
    items: Any
    blocks: int


class ByDtype(dict[np.dtype, Any]):
    """What `prepare` returns for a dtype, made at its first use; None if there is no kernel."""

    def __init__(self, prepare: Callable[[np.dtype], Any]):
        self.prepare = prepare

    def __missing__(self, dtype: np.dtype) -> Any:
        self[dtype] = found = self.prepare(dtype) if dtype in FLOATS else None
        return found


class Arithmetic:
    """Elementwise functions of a GPU's arrays.

    runtime    `CupyRuntime`
    """

    def __init__(self, runtime: Any):
        self.runtime = runtime
        self.number = ByDtype(self._number)
        self.plan = functools.lru_cache(4096)(self._plan)
        self.unary = functools.cache(self._unary)
        """A function of one array, by its name in `elementwise.cu`."""
        binary = self._binary
        self.add, self.sub, self.mul = binary("add"), binary("sub"), binary("mul")
        self.truediv = binary("truediv")
        self.maximum, self.minimum = binary("maximum"), binary("minimum")
        self.lt, self.le = binary("lt", BOOL), binary("le", BOOL)
        self.eq, self.ne = binary("eq", BOOL), binary("ne", BOOL)
        self.add_to = self.assigning(self.add)
        self._where = ByDtype(lambda dtype: self._prepared("where", dtype))
        self._fill = ByDtype(lambda dtype: self._launcher("arithmetic", "fill", dtype))
        self._from_bool = ByDtype(lambda dtype: self._launcher("arithmetic", "from_bool", dtype))

    def gt(self, a: Any, b: Any) -> Array | None:
        return self.lt(b, a)

    def ge(self, a: Any, b: Any) -> Array | None:
        return self.le(b, a)

    def power(self, a: Array, b: Any) -> Array | None:
        """a ** b for the number 2: as in NumPy a square, which is rounded once."""
        return self.mul(a, a) if (type(b) is int or type(b) is float) and b == 2 else None

    def where(self, condition: Array, a: Any, b: Any) -> Array | None:
        """a where the condition, a bool array, is true, else b; one of them may be a number."""
        runtime = self.runtime
        array, is_contiguous = runtime.xp.ndarray, runtime.is_contiguous
        dtype: Any = a.dtype if isinstance(a, array) else getattr(b, "dtype", None)
        prepared = self._where[dtype]
        if prepared is None or not isinstance(condition, array) or condition.dtype is not BOOL:
            return None
        shape: Shape = condition.shape
        arguments: list[Any] = [condition]
        is_plain = is_contiguous(condition)
        for x in (a, b):
            if isinstance(x, array):
                is_plain = is_plain and x.dtype is dtype and x.shape == shape and is_contiguous(x)
                arguments += x, prepared.zero
            else:
                number = prepared.given(x)
                if number is None:
                    return None
                arguments += None, number
        if not is_plain:
            return self._of_operands(prepared, (a, b), dtype, None, condition)
        y = runtime.new_array(shape, dtype)
        if size := y.size:
            prepared.plain(-(-size // prepared.of_block), *arguments, y, runtime.integer(size))
        return y

    def fill(self, y: Array, value: float) -> bool:
        """Set all elements of a contiguous array to a number, or return False."""
        launch = self._fill[y.dtype]
        number = None if launch is None else self.number[y.dtype](value)
        if number is None:
            return False
        if size := y.size:
            launch(-(-y.nbytes // OF_BLOCK), number, y, self.runtime.integer(size))
        return True

    def from_bool(self, x: Array, dtype: np.dtype) -> Array | None:
        """0 or 1 in a float dtype for each element of a bool array."""
        launch = self._from_bool[dtype]
        if launch is None or not self.runtime.is_contiguous(x):
            return None
        y = self.runtime.new_array(x.shape, dtype)
        if size := x.size:
            launch(-(-y.nbytes // OF_BLOCK), x, y, self.runtime.integer(size))
        return y

    def assigning(self, function: Function) -> Function:
        """The in-place form of a function of two operands: it writes to the first, and returns it.
        None, before a write, unless arrays are contiguous, and share no memory or are the same."""
        runtime = self.runtime
        array, is_contiguous, address = runtime.xp.ndarray, runtime.is_contiguous, runtime.address

        def assign(a: Array, b: Any) -> Array | None:
            if not is_contiguous(a):
                return None
            if isinstance(b, array):
                if not is_contiguous(b):
                    return None
                begin, other = address(a), address(b)
                if (
                    other < begin + a.nbytes
                    and begin < other + b.nbytes
                    and not (begin == other and a.shape == b.shape)
                ):
                    return None
            return function(a, b, a)

        return assign

    def _unary(self, name: str) -> Function:
        runtime = self.runtime
        new_array, is_contiguous, integer = (
            runtime.new_array, runtime.is_contiguous, runtime.integer,
        )  # fmt: skip
        launchers = ByDtype(lambda dtype: self._launcher("elementwise", name, dtype))

        def apply(x: Array, *others: Array) -> Array | None:
            launch = launchers[x.dtype]
            if launch is None or not is_contiguous(x):
                return None
            y = new_array(x.shape, x.dtype)
            if size := x.size:
                launch(-(-x.nbytes // OF_BLOCK), x, *others, y, integer(size))
            return y

        return apply

    def _binary(self, name: str, result: np.dtype | None = None) -> Function:
        """A function of two operands, at least one of them an array; with a third argument it
        writes to that, a contiguous array, and returns it."""
        runtime = self.runtime
        new_array, is_contiguous, integer = (
            runtime.new_array, runtime.is_contiguous, runtime.integer,
        )  # fmt: skip
        by_dtype = ByDtype(lambda dtype: self._prepared(name, dtype, result))
        of_operands, array = self._of_operands, runtime.xp.ndarray

        def apply(a: Any, b: Any, out: Array | None = None) -> Array | None:
            if isinstance(a, array):
                like, is_first = a, True
            else:
                like, is_first = b, False
            prepared = by_dtype[like.dtype]
            if prepared is None:
                return None
            launch, _, _, _, zero, result, of_block = prepared
            shape = like.shape
            if is_first and isinstance(b, array):
                if not (
                    b.dtype is a.dtype and b.shape == shape
                    and is_contiguous(a) and is_contiguous(b)
                ):  # fmt: skip
                    return of_operands(prepared, (a, b), a.dtype, out)
                operands = a, zero, b, zero
            else:
                given = prepared.given(b if is_first else a)
                if given is None:
                    return None
                if not is_contiguous(like):
                    return of_operands(prepared, (a, b), like.dtype, out)
                operands = (a, zero, None, given) if is_first else (None, given, b, zero)
            if out is None:
                out = new_array(shape, result)
            if size := like.size:
                launch(-(-size // of_block), *operands, out, integer(size))
            return out

        return apply

    def _of_operands(
        self,
        prepared: Prepared,
        operands: tuple[Any, ...],
        dtype: np.dtype,
        out: Array | None,
        condition: Array | None = None,
    ) -> Array | None:
        """A function of arrays of any strides that broadcast, and of numbers; `where` has a
        condition, too."""
        runtime = self.runtime
        array, places = runtime.xp.ndarray, 0
        layouts: list[Any] = []
        arguments: list[Any] = []
        if condition is not None:
            layouts.append((condition.shape, condition.strides, 1))
            places = runtime.address(condition)
            arguments.append(condition)
        for x in operands:
            if isinstance(x, array):
                if x.dtype is not dtype:
                    return None
                layouts.append((x.shape, x.strides, x.itemsize))
                places |= runtime.address(x)
                arguments += x, prepared.zero
            else:
                number = prepared.given(x)
                if number is None:
                    return None
                layouts.append(None)
                arguments += None, number
        plan = self.plan(dtype.itemsize, places % LOAD == 0, *layouts)
        if plan is None or (out is not None and out.shape != plan.shape):
            return None
        y = runtime.new_array(plan.shape, prepared.result) if out is None else out
        if y.size:
            prepared.strided(plan.blocks, *arguments, y, plan.strides, plan.sides, plan.items)
        return y

    def _plan(self, itemsize: int, aligned: bool, *layouts: Any) -> Plan | None:
        """The traversal of operands with (shape, strides, bytes of an element), or None for a
        number; None if the kernels cannot do it, or the shapes do not broadcast."""
        given = [layout for layout in layouts if layout is not None]
        try:
            shape = np.broadcast_shapes(*(layout[0] for layout in given))
        except ValueError:
            return None
        integer = self.runtime.integer
        if 0 in shape:
            return Plan(shape, None, None, None, None, 0)
        walk = walk_of(shape, given)
        if walk is None:
            return None
        *outer, columns = walk.sizes
        each = LOAD // itemsize
        packs = aligned and columns % each == 0 and all(
            s[-1] == 0 or (s[-1] == 1 and not any(step % each for step in s[:-1]))
            for s in walk.strides
        )  # fmt: skip
        sizes = [*outer, columns // each] if packs else list(walk.sizes)
        items = math.prod(sizes)
        if items >= COUNTED:
            return None
        told, sides, steps = np.zeros(1, STRIDES), 0, iter(walk.strides)
        told["axes"] = len(sizes)
        for axis, n in enumerate(reversed(sizes)):
            told["size"][0, axis] = divisor(n)
        for i, layout in enumerate(layouts):
            if layout is None:
                continue
            own = list(next(steps))
            if packs and own[-1]:
                sides |= 1 << i
                own[-1] = each
            told["of"][0, i, : len(own)] = own[::-1]
        blocks = -(-items // (EACH * BYTES_PER_THREAD // LOAD))
        structure = self.runtime.by_value(told)
        sides = integer(sides if packs else -1)
        return Plan(shape, told, structure, sides, integer(items), blocks)

    def _prepared(self, name: str, dtype: np.dtype, result: np.dtype | None = None) -> Prepared:
        number = self.number[dtype]
        widens = dtype == BFLOAT16 and result is None and name != "where"
        return Prepared(
            self._launcher("arithmetic", name, dtype),
            self._launcher("arithmetic", f"{name}_strided", dtype),
            _left_to_cupy if widens else number,
            self.number[WIDE[dtype.itemsize == 8]],
            number(0.0),
            dtype if result is None else result,
            OF_BLOCK // dtype.itemsize,
        )

    def _launcher(self, family: str, name: str, dtype: np.dtype) -> Callable[..., None]:
        launcher: Callable[..., None] = self.runtime.launcher(family, name, FLOATS[dtype])
        return launcher

    def _number(self, dtype: np.dtype) -> Callable[[float], Any]:
        wide = WIDE[dtype.itemsize == 8]
        rounded = wide if dtype == BFLOAT16 else dtype  # beside bfloat16 a number is float32

        def argument(value: float) -> Any:
            with np.errstate(over="ignore"):
                return self.runtime.real(float(rounded.type(value)), wide)

        kept = functools.lru_cache(4096)(
            lambda value: argument(value) if type(value) is float or abs(value) <= EXACT else None
        )
        zero, minus_zero = argument(0.0), argument(-0.0)

        def number(value: float) -> Any:
            if value:
                return kept(value)
            return zero if math.copysign(1.0, value) > 0 else minus_zero

        return number


def _left_to_cupy(value: float) -> None:
    """Of bfloat16 and a Python number NumPy and CuPy make float32."""


def give_operators(kind: Any, runtime: Any) -> None:
    """Let a class of arrays, derived from CuPy's, compute operators by kernels."""
    arithmetic: Arithmetic = runtime.arithmetic

    def operator(name: str, function: Function) -> None:
        """Compute an operator by a function, or by CuPy where that returns None."""
        by_cupy = getattr(runtime.xp.ndarray, name)

        def method(*operands: Any) -> Any:
            out = function(*operands)
            return by_cupy(*operands) if out is None else out

        def method_on_device(*operands: Any) -> Any:
            with runtime.on_device():
                return method(*operands)

        setattr(kind, name, method if runtime.count == 1 else method_on_device)

    def reflected(function: Function) -> Function:
        return lambda a, b: function(b, a)

    for name in ("add", "sub", "mul", "truediv"):
        function = getattr(arithmetic, name)
        operator(f"__{name}__", function)
        operator(f"__r{name}__", reflected(function))
        operator(f"__i{name}__", arithmetic.assigning(function))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        operator(f"__{name}__", getattr(arithmetic, name))
    for name in ("neg", "abs"):
        operator(f"__{name}__", arithmetic.unary(name))
    operator("__pow__", arithmetic.power)
