"""Many tensors for one call of the backend, which may write to them (PyTorch: "foreach")."""

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
    """The lists of `tensors` that one call can take: (backend, key, tensors) each."""
    lists: defaultdict[tuple[Backend, K], list[Tensor]] = defaultdict(list)
    for t in tensors:
        lists[t.backend, key(t)].append(t)
    return [(backend, k, batch) for (backend, k), batch in lists.items()]


def arrays(tensors: list[Tensor]) -> list[ArrayOperators]:
    """The arrays of the tensors, for the backend to change."""
    return [t.array if t.array.shape else _writable(t) for t in tensors]


def _writable(tensor: Tensor) -> ArrayOperators:
    """The array of a tensor of one number, which may have been a scalar of NumPy's."""
    tensor.array = tensor.backend.writable(tensor.array)
    return tensor.array


class writing:  # noqa: N801 (reads as `with writing(params, "SGD.step"):`)
    """Around the backend's call: tells autograd that these change, so no older graph is used.

    (A generator would put contextlib's frame where autograd looks for the line that called it.)
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
