"""Numbers that change from step to step: a learning rate, a correction by the count of steps.

An optimiser says how it computes them, by `changing`, rather than what they are. So whoever repeats
a step without its Python (`gradient.plan`) can compute them anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from gradient.optim.options import Group

P = ParamSpec("P")
N = TypeVar("N", bound=float)

Listener = Callable[[str, Any, Callable[[], Any]], Any]
"""Is told of a number: its name, its value and how it is computed; says what the optimiser is to
have for it."""


class _Listeners(threading.local):
    listener: Listener | None = None
    read: list[tuple[Group, str]] | None = None


_local = _Listeners()

_overheard: list[None] = []
"""One for each of those who listen or read, in any thread: none asks for its own while there are
none, which would take longer than to compute the number."""


def changing(compute: Callable[P, N], *args: P.args, **options: P.kwargs) -> N:
    """`compute` of these arguments, which it can be asked for again in later steps.

    It may read the optimiser's state and groups, and `rate`. A float is to go to an op as it is:
    what is computed from it in turn is another number. A bool decides what else is computed.
    """
    value = compute(*args, **options)
    if not _overheard or _local.listener is None:
        return value
    name = getattr(compute, "__name__", "number").strip("_")
    number: N = _local.listener(name, value, lambda: compute(*args, **options))
    return number


def rate(group: Group) -> float:
    """The learning rate of a group, which may be a tensor."""
    return changing(_lr, group) if _overheard else _lr(group)


def _lr(group: Group) -> float:
    return _setting(group, "lr")


def setting(group: Group, name: str, index: int | None = None) -> float:
    """Another number of a group, or one of a pair, which a schedule may change: a momentum."""
    return changing(_setting, group, name, index) if _overheard else _setting(group, name, index)


def _setting(group: Group, name: str, index: int | None = None) -> float:
    if _overheard and _local.read is not None:
        _local.read.append((group, name))
    return float(group[name] if index is None else group[name][index])


def has_momentum(group: Group) -> bool:
    """Whether a group's momentum is not 0."""
    return changing(_has_momentum, group) if _overheard else _has_momentum(group)


def _has_momentum(group: Group) -> bool:
    return _setting(group, "momentum") != 0


def shrinking(group: Group) -> float:
    """What a decoupled weight decay multiplies parameters by."""
    return changing(_shrinking, group)


def _shrinking(group: Group) -> float:
    return 1 - rate(group) * float(group["weight_decay"])


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have `listener` told of each `changing` number of this thread."""
    before, _local.listener = _local.listener, listener
    _overheard.append(None)
    try:
        yield
    finally:
        _local.listener = before
        _overheard.pop()


def settings_read(compute: Callable[[], Any]) -> list[tuple[Group, str]]:
    """The groups, and the names of their numbers, that a computation reads by these functions."""
    listener, _local.listener = _local.listener, None
    found: list[tuple[Group, str]] = []
    _local.read = found
    _overheard.append(None)
    try:
        compute()
    finally:
        _local.listener, _local.read = listener, None
        _overheard.pop()
    return found
