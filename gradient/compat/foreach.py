"""`_foreach_add_` and its kin, which optimisers outside PyTorch call: a method of each of many
tensors. What stands for the other operands may be a list (one for each tensor), or one for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradient.compat.tables import FOREACH
from gradient.dtypes import DType
from gradient.errors import ArgumentError, sentence
from gradient.tensor import Tensor

METHODS = {"maximum": "clamp_min", "minimum": "clamp_max"}
"""Of a number, where a method takes a tensor alone."""


def _each(name: str) -> Callable[..., Any]:
    in_place = name.endswith("_")
    base = name.removesuffix("_")

    def call(self: Sequence[Tensor], *others: Any, **options: Any) -> tuple[Tensor, ...] | None:
        spread = {k: _one_each(name, self, v) for k, v in options.items()}
        columns = [_one_each(name, self, other) for other in others]
        results = []
        for at, tensor in enumerate(self):
            operands = [column[at] for column in columns]
            is_number = operands and not isinstance(operands[0], Tensor)
            called = METHODS[base] + "_" * in_place if is_number and base in METHODS else name
            if called in ("maximum_", "minimum_"):  # which tensors have not
                results.append(tensor.copy_(getattr(tensor, base)(*operands)))
                continue
            keywords = {k: v[at] for k, v in spread.items()}
            if base in ("addcdiv", "addcmul") and len(operands) == 3:
                keywords["value"] = operands.pop()
            results.append(getattr(tensor, called)(*operands, **keywords))
        return None if in_place else tuple(results)

    call.__name__ = call.__qualname__ = f"_foreach_{name}"
    return call


def _one_each(name: str, tensors: Sequence[Tensor], operand: Any) -> Sequence[Any]:
    """An operand for each tensor."""
    several = isinstance(operand, (list, tuple)) or (
        isinstance(operand, Tensor) and operand.ndim == 1 and name.startswith("addc")
    )
    if not several:
        return [operand] * len(tensors)
    if len(operand) != len(tensors):
        expected = f"{len(tensors)} operands, one for each tensor"
        raise ArgumentError(sentence(f"_foreach_{name}", expected, len(operand)))
    return list(operand)


def _foreach_norm(
    self: Sequence[Tensor], ord: float = 2, dtype: DType | None = None
) -> tuple[Tensor, ...]:
    """The norm of the elements of each."""
    return tuple(x.norm(ord, dtype=dtype) for x in self)


for _name in FOREACH:
    globals().setdefault(f"_foreach_{_name}", _each(_name))


def _group_tensors_by_device_and_dtype(
    tensorlistlist: Sequence[Sequence[Tensor | None]], with_indices: bool = False
) -> dict[tuple[Any, Any], tuple[list[list[Any]], list[int]]]:
    """Lists of equal length, divided by device and dtype of the first one's tensors.

    Returns:
        For each device and dtype the lists, and (`with_indices`) the places of their tensors.
    """
    groups: dict[tuple[Any, Any], tuple[list[list[Any]], list[int]]] = {}
    for place, row in enumerate(zip(*tensorlistlist, strict=True)):
        first = row[0]
        assert first is not None
        lists, places = groups.setdefault((first.device, first.dtype), ([[] for _ in row], []))
        for own, t in zip(lists, row, strict=True):
            own.append(t)
        if with_indices:
            places.append(place)
    return groups
