"""Saved-tensor hooks: pack a tensor when a node saves it, unpack it in the backward pass.

A node that is made under such hooks has a `Packed` object instead of each saved array. Our nodes
save other tensors than PyTorch's (see `gradient.autograd.op`), so the hooks may be called for fewer
or other ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from gradient.autograd.modes import WATCHED, mode, no_grad
from gradient.autograd.node import Node as Node
from gradient.autograd.node import packing_used
from gradient.autograd.variable import Variable, wrap
from gradient.errors import AutogradError, TypeMismatch, sentence

if TYPE_CHECKING:
    from gradient.tensor import Tensor

__all__ = ["disable_saved_tensors_hooks", "save_on_cpu", "saved_tensors_hooks"]


class SavedHooks(NamedTuple):
    """A pair of hooks, which packs and unpacks the saved values of nodes."""

    pack_hook: Callable[[Any], Any]
    unpack_hook: Callable[[Any], Any]

    def pack(self, node: Node) -> None:
        """Replace the arrays that `node` saves by the results of the pack hook."""
        packed = []
        for value in node.saved or ():
            array = value.array if isinstance(value, Variable) else value
            if array is None or not hasattr(array, "dtype"):
                packed.append(value)
                continue
            with no_grad():
                kept = self.pack_hook(wrap(array, node.backend))
            packed.append(Packed(kept, isinstance(value, Variable)))
        if any(type(value) is Packed for value in packed):
            node.saved, node.unpack = tuple(packed), self.unpack

    def unpack(self, node: Node) -> tuple[Any, ...]:
        """Return the saved values of `node`, unpacked."""
        values = []
        for value in node.saved or ():
            if type(value) is Packed:
                with no_grad():
                    found = self.unpack_hook(value.kept)
                if not isinstance(found, Variable):
                    expected = "a Tensor of unpack_hook"
                    got = type(found).__name__
                    raise TypeMismatch(sentence("saved_tensors_hooks", expected, got))
                value = found if value.is_tensor else found.array
            values.append(value)
        return tuple(values)


class Packed(NamedTuple):
    kept: Any
    is_tensor: bool


class saved_tensors_hooks:  # noqa: N801
    """Set hooks on saved tensors: `with saved_tensors_hooks(pack_hook, unpack_hook):`.

    Operations in the block store `pack_hook(tensor)` instead of each tensor that they save for the
    backward pass. The backward pass then calls `unpack_hook(packed)` to get a tensor. Of nested
    blocks only the innermost one's hooks are called.

    Raises:
        AutogradError: the block is inside `disable_saved_tensors_hooks`.
    """

    def __init__(
        self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]
    ) -> None:
        self.hooks = SavedHooks(pack_hook, unpack_hook)

    def __enter__(self) -> None:
        if mode.saved_hooks_refused is not None:
            raise AutogradError(mode.saved_hooks_refused)
        if not packing_used:
            packing_used.append(True)
        # A stack for each thread, so that one object can be entered several times.
        mode.outer_saved_hooks.append((mode.saved_hooks, mode.grad))
        mode.saved_hooks = self.hooks
        if mode.grad:
            mode.grad = WATCHED

    def __exit__(self, *exc: object) -> None:
        mode.saved_hooks, mode.grad = mode.outer_saved_hooks.pop()


class save_on_cpu(saved_tensors_hooks):  # noqa: N801
    """Keep saved tensors in CPU memory until the backward pass: `with save_on_cpu():`.

    `pin_memory` and `device_type` are PyTorch's and have no effect.
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda x: (x.device, x.cpu()), lambda packed: packed[1].to(packed[0]))


class disable_saved_tensors_hooks:  # noqa: N801
    """Forbid saved-tensor hooks in a block: they raise AutogradError with this message."""

    def __init__(self, error_message: str) -> None:
        self.error_message = error_message

    def __enter__(self) -> None:
        if mode.saved_hooks is not None:
            raise AutogradError(self.error_message)
        self._before, mode.saved_hooks_refused = mode.saved_hooks_refused, self.error_message

    def __exit__(self, *exc: object) -> None:
        mode.saved_hooks_refused = self._before
