"""Mixed precision: the dtypes in which ops compute while `gradient.amp.autocast` is on.

An op declares its policy, `@op(..., autocast="float32")`; a function that is composed of ops has
it by a decorator, `@autocasts("float32")`:

    lower_precision   inputs in autocast's 16-bit dtype: products are fast in it and lose little
    float32           16-bit inputs in float32: what sums, or scales, what is small or large
    widest            16-bit inputs in float32 if another one is of it

All others take their inputs as they come, and so do on the CPU those whose policy ends in
`_on_gpu`, and elsewhere those whose ends in `_on_cpu`: the lists are PyTorch's, but for softmax and
norms, which are in float32 on the CPU, too. float64 is left alone.

For an op, this is a type promotion: `promote` casts, and the engine casts the gradient back. An op
looks at dtypes anyway, whether they are among those to be looked at (`checked_chars`). Autocast's
are added to these sets while it is on, in any thread: while it is off nothing asks for it.
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
    """The `np.dtype.char` of the dtypes that a policy casts."""
    return _HALF_CHARS + FLOAT32.char if policy.startswith("lower_precision") else _HALF_CHARS


def looked_at(chars: set[str], policy: Policy) -> None:
    """Register a set of dtype chars, which holds those that `policy` casts while autocast is on."""
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
    """The dtype to which `policy` casts inputs of these dtypes; None if autocast is off for the
    device, or the policy leaves them alone."""
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
    """An op's inputs, with the arrays among them cast as `policy` asks."""
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
    """Decorator: declare the policy of a function composed of ops, or its policies on the CPU and
    elsewhere. While one applies, autocast is off inside, as in PyTorch. A call for whose arguments
    `unless` is true is made as it is: autocast stays on for the ops inside."""

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
    """A tensor as functions take it that the CPU's autocast has in float32."""
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
