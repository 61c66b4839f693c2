"""Pass many tensors to one call of the backend, which may change them (PyTorch's "foreach")."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar

from gradient.autograd.inference import refuse_write
from gradient.autograd.inplace import by_data, mark_owners
from gradient.autograd.modes import inference_used
from gradient.errors import AutogradError
from gradient.tensor.overwrite import is_noted

if TYPE_CHECKING:
    from gradient.backends import Backend
    from gradient.backends.operators import ArrayOperators
    from gradient.tensor import Tensor

K = TypeVar("K", bound=Hashable)


def batches(
    tensors: list[Tensor], key: Callable[[Tensor], K]
) -> list[tuple[Backend, K, list[Tensor]]]:
    """Group `tensors` into lists for one call each: (backend, key, tensors)."""
    lists: defaultdict[tuple[Backend, K], list[Tensor]] = defaultdict(list)
    for t in tensors:
        lists[t.backend, key(t)].append(t)
    return [(backend, k, batch) for (backend, k), batch in lists.items()]


def arrays(tensors: list[Tensor]) -> list[ArrayOperators]:
    """Return the arrays of the tensors, which the backend may change."""
    return [t.array if t.array.shape else _writable(t) for t in tensors]


def _writable(tensor: Tensor) -> ArrayOperators:
    """Return a writable array of a 0-d tensor, whose array may be a NumPy scalar."""
    tensor.array = tensor.backend.writable(tensor.array)
    return tensor.array


class writing:  # noqa: N801 (reads as `with writing(params, "SGD.step"):`)
    """A context manager for the backend's call: it records that these tensors were changed in
    place, so that a backward pass through an older graph raises an error.

    (It is a class, because `contextlib` would add a frame between autograd and the user's line.)
    """

    def __init__(self, tensors: list[Tensor], caller: str) -> None:
        self.tensors, self.caller = tensors, caller

    def __enter__(self) -> None:
        if inference_used:
            for t in self.tensors:
                refuse_write(t, self.caller)

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, ValueError) and "read-only" in str(error):
            raise AutogradError(
                f"{self.caller}: the memory of a tensor cannot be written (an expanded tensor, or "
                "a read-only array or file); clone() it first"
            ) from None
        written = filter(is_noted, self.tensors) if by_data else self.tensors
        mark_owners([t.backend.storage(t.array) for t in written], self.caller, 4)
