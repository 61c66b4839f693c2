"""Handing many parameters to one call of the backend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from gradient.autograd.inplace import mark_overwritten
from gradient.tensor import Tensor
from gradient.tensor.inplace import owned


def batches(
    params: list[Tensor], key: Callable[[Tensor], Hashable]
) -> Iterator[tuple[Any, Any, list[Tensor]]]:
    """The lists of `params` that one call can step: (backend, key, params) each."""
    lists: defaultdict[tuple[Any, Hashable], list[Tensor]] = defaultdict(list)
    for p in params:
        lists[p.backend, key(p)].append(p)
    for (backend, k), batch in lists.items():
        yield backend, k, batch


def arrays(tensors: list[Tensor]) -> list[Any]:
    """The arrays of the tensors, for the backend to change."""
    for t in tensors:
        if not t.array.shape:
            t.array = owned(t)
    return [t.array for t in tensors]


def mark_stepped(params: list[Tensor], optimizer: str) -> None:
    """Tell autograd that the backend changed these in place, so that an older graph is not used."""
    for p in params:
        mark_overwritten(p.backend, p.array, f"{optimizer}.step")
