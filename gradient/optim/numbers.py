"""Numbers that change from step to step: the learning rate, a bias correction by the step count.

An optimiser computes them by `changing`, which records the function and its arguments. So
`gradient.plan`, which repeats a step without its Python code, can compute them again.
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
"""A function of a number's name, its value, and a function that computes it again; it returns the
number that the optimiser uses."""


class _Listeners(threading.local):
    listener: Listener | None = None
    read: list[tuple[Group, str]] | None = None


_local = _Listeners()

_active: list[None] = []
"""One entry for each active `listening` and `settings_read`, of any thread. While there is none, no
thread looks up its own listener, which would take longer than computing the number."""


def changing(compute: Callable[P, N], *args: P.args, **options: P.kwargs) -> N:
    """Return `compute(*args, **options)`; a plan can compute it again in later steps.

    `compute` may read the optimiser's state and groups, and `rate`. A float must be passed to an op
    as it is: a number computed from it would not be updated. A bool may decide what is computed.
    """
    value = compute(*args, **options)
    if not _active or _local.listener is None:
        return value
    name = getattr(compute, "__name__", "number").strip("_")
    number: N = _local.listener(name, value, lambda: compute(*args, **options))
    return number


def rate(group: Group) -> float:
    """Return the learning rate of a group as a number; it may be stored as a tensor."""
    return changing(_lr, group) if _active else _lr(group)


def _lr(group: Group) -> float:
    return _setting(group, "lr")


def setting(group: Group, name: str, index: int | None = None) -> float:
    """Return another option of a group (or item `index` of it) that a scheduler may change, such as
    the momentum."""
    return changing(_setting, group, name, index) if _active else _setting(group, name, index)


def _setting(group: Group, name: str, index: int | None = None) -> float:
    if _active and _local.read is not None:
        _local.read.append((group, name))
    return float(group[name] if index is None else group[name][index])


def has_momentum(group: Group) -> bool:
    """Whether a group's momentum is not 0."""
    return changing(_has_momentum, group) if _active else _has_momentum(group)


def _has_momentum(group: Group) -> bool:
    return _setting(group, "momentum") != 0


def decay_factor(group: Group) -> float:
    """Return the factor by which decoupled weight decay multiplies parameters."""
    return changing(_decay_factor, group)


def _decay_factor(group: Group) -> float:
    return 1 - rate(group) * float(group["weight_decay"])


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """A context in which `listener` is called for each `changing` number of this thread."""
    before, _local.listener = _local.listener, listener
    _active.append(None)
    try:
        yield
    finally:
        _local.listener = before
        _active.pop()


def settings_read(compute: Callable[[], Any]) -> list[tuple[Group, str]]:
    """Return the groups and names of the options that `compute` reads by `rate` and `setting`."""
    listener, _local.listener = _local.listener, None
    found: list[tuple[Group, str]] = []
    _local.read = found
    _active.append(None)
    try:
        compute()
    finally:
        _local.listener, _local.read = listener, None
        _active.pop()
    return found
