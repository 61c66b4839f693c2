"""What programs say for PyTorch's compiler to read, and does here what it says."""

from __future__ import annotations

import builtins
import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

has_lapack = has_spectral = True
has_mkl = has_openmp = False


class SymInt:
    """What no size is: sizes are Python's numbers."""

    def __init__(self, node: Any) -> None:
        self.node = node


class SymFloat(SymInt):
    """What no number is, as `SymInt`."""


class SymBool(SymInt):
    """What no condition is, as `SymInt`."""


def cond(
    pred: Any,
    true_fn: Callable[..., T],
    false_fn: Callable[..., T],
    operands: Sequence[Any] = (),
) -> T:
    """`true_fn(*operands)` if `pred`, a bool or a tensor of one, is true, else `false_fn`."""
    return (true_fn if pred else false_fn)(*operands)


def while_loop(
    cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried_inputs: Sequence[Any]
) -> Sequence[Any]:
    """Have `body_fn` make the next values of the last ones while `cond_fn` of them is true."""
    values = carried_inputs
    while cond_fn(*values):
        values = body_fn(*values)
    return values


def sym_int(a: Any) -> int:
    """The whole part of a number."""
    return builtins.int(a)


def sym_float(a: Any) -> float:
    return builtins.float(a)


def sym_not(a: Any) -> bool:
    return not a


def sym_max(a: Any, b: Any) -> Any:
    return _of_one_type(builtins.max(a, b), a, b)


def sym_min(a: Any, b: Any) -> Any:
    return _of_one_type(builtins.min(a, b), a, b)


def _of_one_type(result: Any, a: Any, b: Any) -> Any:
    return builtins.float(result) if isinstance(a, float) or isinstance(b, float) else result


def sym_sum(args: Iterable[Any]) -> Any:
    return builtins.sum(args)


def sym_sqrt(a: Any) -> float:
    return math.sqrt(a)


def sym_ite(b: Any, t: T, f: T) -> T:
    """t if b, else f."""
    return t if b else f


def functionalize(func: Callable[..., T], *, remove: str = "mutations") -> Callable[..., T]:
    """The function itself: what `func` transforms may change tensors in place."""
    return func


def debug_unwrap(tensor: T, *, recurse: bool = True) -> T:
    """The tensor itself: transforms wrap none."""
    return tensor


def noop_context_fn() -> tuple[contextlib.AbstractContextManager[None], ...]:
    """Two contexts that do nothing, for a checkpoint's forward and its recomputation."""
    return contextlib.nullcontext(), contextlib.nullcontext()


class set_checkpoint_early_stop:  # noqa: N801 (PyTorch's name)
    """Nothing to switch, now or within a block: recomputation ends when it has what it needs."""

    def __init__(self, enable: bool | None) -> None:
        self.enable = enable

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        pass


class set_checkpoint_debug_enabled(set_checkpoint_early_stop):  # noqa: N801
    """Nothing to switch, now or within a block: errors of a checkpoint name what differs."""

    def __init__(self, enabled: bool | None) -> None:
        super().__init__(enabled)


class set_multithreading_enabled(set_checkpoint_early_stop):  # noqa: N801
    """Nothing to switch, now or within a block: a backward pass is of one thread."""

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
