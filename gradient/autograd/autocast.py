"""Mixed precision: the dtypes in which ops compute while `gradient.amp.autocast` is on.

An op declares its policy as an argument, `@op(..., autocast="float32")`; a function composed of ops
declares it with a decorator, `@autocasts("float32")`:

    lower_precision   cast inputs to autocast's 16-bit dtype: matrix products are faster in it
    float32           cast 16-bit inputs to float32: sums, exp, pow, which need range or precision
    widest            cast 16-bit inputs to float32 if another input is float32

Ops without a policy do not cast. A policy that ends in `_on_gpu` does nothing on the CPU, and one
that ends in `_on_cpu` nothing on other devices. The lists of ops are PyTorch's, except that softmax
and norms compute in float32 on the CPU too. float64 inputs are never cast.

For an op this is type promotion: `promote` casts the inputs, and the engine casts the gradient
back. Ops check the dtypes of their inputs against a set in any case (`checked_chars`). Autocast's
dtypes are in these sets while it is on in any thread, so it costs nothing while it is off.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from gradient.autograd.modes import mode
from gradient.autograd.variable import Variable
from gradient.dtypes import BY_NUMPY, HALF_PRECISION, DType, bfloat16, float16, float32
from gradient.locks import new_lock

if TYPE_CHECKING:
    import numpy as np

    from gradient.backends import Backend

Policy = Literal[
    "lower_precision", "lower_precision_on_gpu", "float32", "float32_on_gpu", "widest",
    "widest_on_gpu", "float32_on_cpu", "widest_on_cpu",
]  # fmt: skip
Function = TypeVar("Function", bound=Callable[..., Any])

FLOAT32 = float32.numpy
_HALF_CHARS = float16.numpy.char + bfloat16.numpy.char

_sets: list[tuple[set[str], Policy]] = []
_lock = new_lock()
_threads_in_autocast = 0


def _chars(policy: Policy) -> str:
    """Return the `np.dtype.char` of all dtypes that a policy casts."""
    return _HALF_CHARS + FLOAT32.char if policy.startswith("lower_precision") else _HALF_CHARS


def looked_at(chars: set[str], policy: Policy) -> None:
    """Register a set of dtype chars: under autocast it also has those that `policy` casts."""
    _sets.append((chars, policy))
    if _threads_in_autocast:
        chars.update(_chars(policy))


def set_autocast(dtypes: dict[str, DType] | None) -> dict[str, DType] | None:
    """Set this thread's autocast dtype for each device type, None to turn autocast off; return
    the previous setting."""
    global _threads_in_autocast
    before, mode.autocast = mode.autocast, dtypes
    if (before is None) is not (dtypes is None):
        with _lock:
            _threads_in_autocast += 1 if before is None else -1
            if _threads_in_autocast <= 1:  # the first one began, or the last one ended
                for chars, policy in _sets:
                    change = chars.update if _threads_in_autocast else chars.difference_update
                    change(_chars(policy))
    return before


def wanted(policy: Policy, backend: Backend, dtypes: Iterable[Any]) -> np.dtype | None:
    """Return the dtype to which `policy` casts inputs of these dtypes; None if autocast is off for
    the device, or the policy does not cast them."""
    kind = backend.device.partition(":")[0]
    dtype = (mode.autocast or {}).get(kind)
    if dtype is None or policy.endswith("_on_gpu" if kind == "cpu" else "_on_cpu"):
        return None
    if policy.startswith("lower_precision"):
        return dtype.numpy
    return FLOAT32 if not policy.startswith("widest") or FLOAT32 in dtypes else None


def casts(dtype: Any, target: np.dtype) -> bool:
    """Whether autocast casts an array of this dtype to `target`."""
    return dtype != target and (dtype in HALF_PRECISION or dtype == FLOAT32)


def autocast(policy: Policy, backend: Backend, arrays: list[Any]) -> list[Any]:
    """Return an op's inputs, with the arrays cast according to `policy`."""
    dtypes = [getattr(a, "dtype", None) for a in arrays]
    target = wanted(policy, backend, dtypes)
    if target is None:
        return arrays
    return [
        backend.astype(a, target) if casts(dtype, target) else a
        for a, dtype in zip(arrays, dtypes, strict=True)
    ]


def autocasts(
    *policies: Policy, unless: Callable[..., bool] | None = None
) -> Callable[[Function], Function]:
    """Decorate a function composed of ops with its autocast policy, or with one for the CPU and one
    for other devices. If it applies, autocast is off inside the function, as in PyTorch. If
    `unless(...)` is true for the arguments, nothing is cast and autocast stays on inside."""

    def declare(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            if mode.autocast is None or (unless is not None and unless(*args, **options)):
                return function(*args, **options)
            return _cast_and_call(policies, function, args, options)

        declared: Any = call
        declared.autocast = policies
        return cast("Function", declared)

    return declare


@autocasts("float32_on_cpu")
def float32_on_cpu(x: Any) -> Any:
    """Cast a tensor to float32 if autocast is on and the tensor is on the CPU."""
    return x


def _cast_and_call(
    policies: tuple[Policy, ...], function: Any, args: Any, options: dict[str, Any]
) -> Any:
    tensors = list(_tensors((*args, *options.values())))
    dtypes = [t.array.dtype for t in tensors]
    targets = [wanted(policy, tensors[0].backend, dtypes) for policy in policies if tensors]
    target = next((each for each in targets if each), None)
    if target is None:
        return function(*args, **options)

    def cast(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [cast(each) for each in value]
        if issubclass(type(value), Variable) and casts(value.array.dtype, target):
            return value.to(BY_NUMPY[target])
        return value

    before, mode.autocast = mode.autocast, None
    try:
        return function(*map(cast, args), **{name: cast(v) for name, v in options.items()})
    finally:
        mode.autocast = before


def _tensors(values: Any) -> Iterator[Variable]:
    for value in values:
        if isinstance(value, Variable):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
