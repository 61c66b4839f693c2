"""The reduction of a loss: the mean, the sum, or no reduction."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from gradient.errors import ArgumentError, sentence
from gradient.source_lines import warn_user
from gradient.tensor import Tensor

Loss = TypeVar("Loss", bound=Callable[..., Any])


def reduced(op: str, losses: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ArgumentError(f"{op}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")


def are_added_up(input: Tensor, target: Tensor, weight: Tensor | None, reduction: str) -> bool:
    """Whether one op can compute the loss and its reduction: input and target have one shape, with
    some elements, are both float32 or both float64, and there are no weights."""
    dtype = input.array.dtype
    return (
        weight is None
        and (reduction == "mean" or reduction == "sum")
        and dtype is target.array.dtype
        and dtype.char in "fd"
        and input.array.shape == target.array.shape
        and 0 not in input.array.shape
    )


def warn_if_broadcast(op: str, input: Tensor, target: Tensor) -> None:
    """Warn if shapes differ: (N, 1) and (N,) broadcast to (N, N), a common mistake with losses."""
    if input.shape != target.shape:
        warn_user(
            f"{op}: target size {tuple(target.shape)} differs from input size "
            f"{tuple(input.shape)}; they are broadcast, which is likely to give wrong results"
        )


def takes_retired_arguments(loss: Loss) -> Loss:
    """Let a loss, or the `__init__` of its layer, accept the deprecated arguments `size_average`
    and `reduce`, with PyTorch's warning. They override `reduction`."""

    @functools.wraps(loss)
    def call(*args: Any, **options: Any) -> Any:
        if options and ("size_average" in options or "reduce" in options):
            mean, reduce = options.pop("size_average", None), options.pop("reduce", None)
            if mean is not None or reduce is not None:
                averaged, whole = mean is None or mean, reduce is None or reduce
                reduction = "none" if not whole else "mean" if averaged else "sum"
                warn_user(
                    f"size_average and reduce are deprecated; use reduction={reduction!r} instead"
                )
                options["reduction"] = reduction
        try:
            return loss(*args, **options)
        except TypeError:
            if (named := _named(loss, args, options)) is None:
                raise
        return call(*named[0], **named[1])

    return cast("Loss", call)


def _named(
    loss: Any, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the arguments of a call that has more by position than the loss takes, by PyTorch's
    names for them; None if PyTorch's loss does not take them either."""
    parameters = inspect.signature(loss).parameters
    own = [name for name, each in parameters.items() if each.kind is not each.KEYWORD_ONLY]
    between = [name for name in ("ignore_index", "eps") if name in parameters and name not in own]
    order = [*own, "size_average", *between, "reduce", "reduction"]
    order += [name for name in parameters if name not in order]
    further = dict(zip(order[len(own) :], args[len(own) :], strict=False))
    if not further or len(args) > len(order) or further.keys() & options.keys():
        return None
    for name in ("size_average", "reduce"):
        if isinstance(value := further.get(name), str):
            caller = type(args[0]).__name__ if own[0] == "self" else loss.__name__
            expected = f"a bool as {name}, argument {order.index(name) + 1 - (own[0] == 'self')}"
            fix = f"name the argument: reduction={value!r}"
            raise ArgumentError(sentence(caller, expected, repr(value), fix))
    return args[: len(own)], {**further, **options}
