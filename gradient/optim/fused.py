"""Handing many parameters to one call of the backend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

from gradient.autograd.inference import refuse_write
from gradient.autograd.inplace import mark_overwritten
from gradient.backends import Backend
from gradient.errors import AutogradError
from gradient.tensor import Tensor

K = TypeVar("K", bound=Hashable)


def batches(
    params: list[Tensor], key: Callable[[Tensor], K]
) -> Iterator[tuple[Backend, K, list[Tensor]]]:
    """The lists of `params` that one call can step: (backend, key, params) each."""
    lists: defaultdict[tuple[Backend, K], list[Tensor]] = defaultdict(list)
    for p in params:
        lists[p.backend, key(p)].append(p)
    for (backend, k), batch in lists.items():
        yield backend, k, batch


def arrays(tensors: list[Tensor]) -> list[Any]:
    """The arrays of the tensors, for the backend to change."""
    for t in tensors:
        if not t.array.shape:
            t.array = t.backend.writable(t.array)
    return [t.array for t in tensors]


class stepping:  # noqa: N801 (reads as `with stepping(params, "SGD"):`)
    """Around the backend's call: tells autograd that these change, so no older graph is used.

    (A generator would put contextlib's frame where autograd looks for the line that called `step`.)
    """

    def __init__(self, params: list[Tensor], optimizer: str) -> None:
        self.params, self.optimizer = params, optimizer

    def __enter__(self) -> None:
        for p in self.params:
            refuse_write(p, f"{self.optimizer}.step")

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, ValueError) and "read-only" in str(error):
            raise AutogradError(
                f"{self.optimizer}.step: the memory of a parameter cannot be written (an expanded "
                "tensor, or a read-only array or file); clone() it first"
            ) from None
        for p in self.params:
            mark_overwritten(p.backend, p.array, f"{self.optimizer}.step")
