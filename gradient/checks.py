"""Limits of settings, declared in the fields' metadata; one check reports all invalid values.

    @dataclass
    class Run:
        steps: int = field(default=100, metadata={"limit": integer(1)})
        warmup: int = field(default=0, metadata={"limit": integer(0)})

        relations = (
            Relation(("warmup", "steps"), lambda warmup, steps: warmup <= steps,
                     "warmup must be at most steps = {steps}, got {warmup}"),
        )

        def __post_init__(self):
            check("Run", self)

    Run(steps=0)  # ArgumentError: Run: steps must be an integer of at least 1, got 0

For settings that are not a dataclass (an optimiser's groups), pass `check` a dict of values and a
dict of limits; for a function's arguments, use `check_arguments`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

from gradient.errors import ArgumentError, GradientError, TypeMismatch


class Limit(NamedTuple):
    """The allowed values of one setting.

    Attributes:
        expected: the text after "must be".
        holds: returns whether a value, of any type, is allowed.
        fix: how to correct the value, if the limit does not say it.
        error: the class of the error.
        show: returns the text for a refused value in the message.
    """

    expected: str
    holds: Callable[[Any], bool]
    fix: str = ""
    error: type[GradientError] = ArgumentError
    show: Callable[[Any], str] = "{!r:.80}".format


class Relation(NamedTuple):
    """A condition on several settings. It is checked only if each one is within its own limit.

    Attributes:
        names: the names of the settings.
        holds: takes their values, in this order, and returns whether they are allowed.
        message: the whole sentence, where `{name}` stands for a setting's value; or a function of
            the values that returns it.
    """

    names: Sequence[str]
    holds: Callable[..., bool]
    message: str | Callable[..., str]


Limits = Mapping[str, Limit]


def check(
    where: str,
    settings: object,
    limits: Limits | None = None,
    relations: Sequence[Relation] | None = None,
) -> None:
    """Raise one error that lists all invalid settings.

    Args:
        where: the owner of the settings; the message begins with it.
        settings, limits, relations: as in `problems`.

    Raises:
        ArgumentError: "where: steps must be an integer of at least 1, got 0; ...". If the limit of
            the first invalid setting names another class, that one is raised.
    """
    found = list(_misfits(settings, limits, relations))
    if found:
        raise found[0][0](f"{where}: " + "; ".join(message for _, message in found))


def check_arguments(where: str, **arguments: tuple[object, Limit]) -> None:
    """Do `check` for arguments, each given as (value, limit).

    check_arguments("StepLR", step_size=(step_size, integer(1)))
    """
    check(
        where,
        {name: value for name, (value, _) in arguments.items()},
        {name: limit for name, (_, limit) in arguments.items()},
    )


def problems(
    settings: object, limits: Limits | None = None, relations: Sequence[Relation] | None = None
) -> list[str]:
    """Return a clause for each invalid setting or relation; empty if all are valid.

    Args:
        settings: a dict of values, or an object with the values as attributes.
        limits: the limits by setting; None: those in the dataclass's fields.
        relations: conditions on several settings; None: the attributes `relations` of the class of
            `settings` and of its bases.
    """
    return [message for _, message in _misfits(settings, limits, relations)]


def _misfits(
    settings: object, limits: Limits | None, relations: Sequence[Relation] | None
) -> Iterator[tuple[type[GradientError], str]]:
    def value(name: str) -> Any:
        return settings[name] if isinstance(settings, Mapping) else getattr(settings, name)

    if limits is None:
        limits = limits_of(type(settings))
    if relations is None:
        bases = reversed(type(settings).__mro__)
        relations = [relation for base in bases for relation in vars(base).get("relations", ())]
    wrong = {name for name, limit in limits.items() if not limit.holds(value(name))}
    for name, limit in limits.items():
        if name in wrong:
            message = f"{name} must be {limit.expected}, got {limit.show(value(name))}"
            yield limit.error, message + (f"; {limit.fix}" if limit.fix else "")
    for relation in relations:
        if wrong.isdisjoint(relation.names):
            values = {name: value(name) for name in relation.names}
            if not relation.holds(*values.values()):
                told = relation.message
                yield (
                    ArgumentError,
                    told.format_map(values) if isinstance(told, str) else told(*values.values()),
                )


def limits_of(cls: type) -> Limits:
    """Return the limits in the metadata of a dataclass's fields.

    A subclass that only changes a field's default keeps the limit.
    """
    return {
        name: field.metadata["limit"]
        for base in reversed(cls.__mro__)
        for name, field in vars(base).get("__dataclass_fields__", {}).items()
        if "limit" in field.metadata
    }


# -- limits --


def number(
    at_least: float | None = None,
    at_most: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    finite: bool = False,
) -> Limit:
    """Allow numbers within bounds; NaN and bools are refused."""

    def holds(value: Any) -> bool:
        return (
            _is_number(value)
            and (at_least is None or value >= at_least)
            and (at_most is None or value <= at_most)
            and (above is None or value > above)
            and (below is None or value < below)
            and not (finite and math.isinf(value))
        )

    kind = "a finite number" if finite else "a number"
    return Limit(kind + _bounds(at_least, at_most, above, below), holds)


def integer(at_least: int | None = None, at_most: int | None = None) -> Limit:
    """Allow integers within bounds, both included; bools are refused."""
    within = number(at_least, at_most).holds
    return Limit(
        "an integer" + _bounds(at_least, at_most),
        lambda value: isinstance(value, Integral) and within(value),
    )


def one_of(*choices: str) -> Limit:
    """Allow some strings."""
    return Limit(
        "one of " + ", ".join(choices), lambda value: isinstance(value, str) and value in choices
    )


def instance_of(cls: type, expected: str, fix: str = "") -> Limit:
    """Allow instances of a class; the error for others is TypeMismatch."""
    return Limit(expected, lambda value: isinstance(value, cls), fix, TypeMismatch)


boolean = Limit("a bool", lambda value: isinstance(value, bool))


def pair(first: Limit, second: Limit) -> Limit:
    """Allow a tuple or list of two values, each within its own limit."""

    def holds(value: Any) -> bool:
        return (
            isinstance(value, tuple | list)
            and len(value) == 2
            and first.holds(value[0])
            and second.holds(value[1])
        )

    return Limit(f"a pair: {first.expected}; {second.expected}", holds)


def optional(limit: Limit) -> Limit:
    """Allow None and the values that `limit` allows."""
    return limit._replace(
        expected=f"{limit.expected}, or None",
        holds=lambda value: value is None or limit.holds(value),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value == value  # refuses NaN


def _bounds(
    at_least: float | None,
    at_most: float | None,
    above: float | None = None,
    below: float | None = None,
) -> str:
    """Describe the bounds of a number, with a leading space if there are any."""
    if at_least is not None and at_most is not None:
        return f" from {at_least} to {at_most}"
    if at_least is not None and below is not None:
        return f" from {at_least} to less than {below}"
    low = f" of at least {at_least}" if at_least is not None else ""
    low = f" above {above}" if above is not None else low
    high = f" at most {at_most}" if at_most is not None else ""
    high = f" below {below}" if below is not None else high
    return f"{low} and{high}" if low and high else low + high.replace(" at most", " of at most")
