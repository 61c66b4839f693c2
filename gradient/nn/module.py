"""Module: the base of every layer and model, a tree of named parameters, buffers and children.

The tree is in `gradient.nn.members`, the hooks in `gradient.nn.hooks`. This file has the call,
saving and loading, and the methods that change all tensors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, ParamSpec, Protocol, Self, TypeVar

from gradient import dtypes
from gradient.autograd import no_grad
from gradient.dtypes import DType, dtype_of
from gradient.errors import ArgumentError, TypeMismatch, sentence
from gradient.nn.failing_layer import note_layer
from gradient.nn.hooks import Hooked, Hooks
from gradient.nn.hooks import register_module_backward_hook as register_module_backward_hook
from gradient.nn.hooks import register_module_forward_hook as register_module_forward_hook
from gradient.nn.hooks import register_module_forward_pre_hook as register_module_forward_pre_hook
from gradient.nn.hooks import (
    register_module_full_backward_hook as register_module_full_backward_hook,
)
from gradient.nn.hooks import (
    register_module_full_backward_pre_hook as register_module_full_backward_pre_hook,
)
from gradient.nn.members import Members
from gradient.nn.parameter import is_uninitialized
from gradient.nn.printing import format_module, indent, shown
from gradient.nn.registration import BUFFER, MODULE, PARAMETER
from gradient.nn.registration import (
    register_module_buffer_registration_hook as register_module_buffer_registration_hook,
)
from gradient.nn.registration import (
    register_module_module_registration_hook as register_module_module_registration_hook,
)
from gradient.nn.registration import (
    register_module_parameter_registration_hook as register_module_parameter_registration_hook,
)
from gradient.nn.state_dict import EXTRA, IncompatibleKeys, StateDict, load, match_own_tensors
from gradient.nn.state_dict_hooks import StateDictHooked
from gradient.nn.structure import changes
from gradient.tensor import Tensor
from gradient.tensor.creation_like import empty_like
from gradient.tensor.device import DeviceLike
from gradient.tensor.packed import with_float_dtype

__all__ = ["Module"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class HasForward(Protocol[P, R_co]):
    """A module for type checkers: a call has the types of `forward`."""

    _hooks: Hooks | None

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


def destination(
    args: Iterable[Any],
    device: Any = None,
    dtype: DType | None = None,
    non_blocking: bool = False,
    tensor: Tensor | None = None,
) -> tuple[Any, DType | None, bool]:
    """Return the device, dtype and `non_blocking` that arguments of `to` mean."""
    for arg in (*args, tensor):
        if isinstance(arg, Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, (DType, type)):
            dtype = dtype_of(arg)
        elif isinstance(arg, bool):
            non_blocking = arg
        elif arg is not None:
            device = arg
    return device, dtype, non_blocking


class Module(Hooked, StateDictHooked, Members):
    """Base class of all layers and models.

    Set parameters, buffers and child modules as attributes in `__init__`, after
    `super().__init__()`, and write `forward`; call the module itself, so that its hooks run.
    """

    _shown: ClassVar[Sequence[str]] = ()
    """The attributes that `repr` shows as name=value; of "=name" it shows the value alone."""

    _version: ClassVar[int | None] = 1
    """The version of the class's part of a state dict. `_load_from_state_dict` finds that of the
    given one in `local_metadata`, unless it comes from a file, which does not store it."""

    training: bool

    def __init__(self) -> None:
        self.__dict__.update(training=True, _registry={}, _non_persistent=set())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result; each subclass defines it."""
        raise NotImplementedError(f'{type(self).__name__} lacks the method "forward"')

    def __call__(self: HasForward[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            if self._hooks is None:
                return self.forward(*args, **kwargs)
            return self._hooks.call(self, args, kwargs)
        except Exception:
            note_layer(self, Module.__call__.__code__)
            raise

    def compile(self, **options: Any) -> None:
        """Record and replay the calls of this module from now on, in place.

        Args:
            options: those of `gradient.compile`, which returns a compiled module and leaves this
                one unchanged.
        """
        plans = import_module("gradient.plan.compile")  # a higher rung, and rarely needed
        plans.compile_in_place(self, functools.partial(plans.compile, **options))

    # ---- saving and loading -----------------------------------------------------------------

    def state_dict(
        self,
        *,
        destination: dict[str, Any] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Any]:
        """Return parameters and persistent buffers by dotted name, a shared one under each name.

        The tensors share the memory of the module's tensors, but have no graph; with `keep_vars`
        they are the module's tensors. The result of `get_extra_state`, if a module defines it, is
        stored as `_extra_state`.
        """
        state = StateDict() if destination is None else destination
        metadata = getattr(state, "_metadata", None)
        local = {"version": self._version}
        if metadata is not None:
            metadata[prefix[:-1]] = local
        hooks = self._state_dict_hooks
        for hook in list(hooks.save_pre):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(state, prefix, keep_vars)
        for name, module in self._items(MODULE):
            if module is not None:
                module.state_dict(destination=state, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in list(hooks.save):
            replaced = hook(self, state, prefix, local)
            state = state if replaced is None else replaced
        return state

    def _saved(self) -> list[tuple[str, Tensor | None]]:
        """Own parameters and persistent buffers."""
        members = self._items(PARAMETER) + self._items(BUFFER)
        return [(name, value) for name, value in members if name not in self._non_persistent]

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Put this module's own part into a state dict; `state_dict` goes on to its children."""
        for name, value in self._saved():
            if value is not None:
                own = keep_vars or is_uninitialized(value)
                destination[prefix + name] = value if own else value.detach()
        if type(self).get_extra_state is not Module.get_extra_state:
            destination[prefix + EXTRA] = self.get_extra_state()

    def get_extra_state(self) -> object:
        """Return further state for the state dict. A module that has some defines this method and
        `set_extra_state`."""
        raise NotImplementedError(f"{type(self).__name__}.get_extra_state: not defined")

    def set_extra_state(self, state: Any) -> None:
        """Restore the state that `get_extra_state` returned."""
        raise NotImplementedError(f"{type(self).__name__}.set_extra_state: not defined")

    def _has_extra_state(self) -> bool:
        return type(self).set_extra_state is not Module.set_extra_state

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Find this module's own tensors, the names with `prefix`, and note what does not fit.

        Override it to load state dicts of older versions: change `state_dict`, then call `super()`.
        `load_state_dict` loads the tensors after this method of all modules has been called.
        """
        for hook in list(self._state_dict_hooks.load_pre):
            hook(
                self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
                error_msgs,
            )  # fmt: skip
        match_own_tensors(
            self,
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy tensors into the parameters and persistent buffers of the same names.

        Args:
            strict: False returns missing and unexpected names instead of raising an error for
                them. A wrong shape is always an error.
            assign: Make the given tensors the module's own, with their dtype and device, instead
                of copying them. So a memory-mapped file is read only when it is used.

        Returns:
            (missing_keys, unexpected_keys), two lists of names.

        Raises:
            StateDictError: some names or shapes do not fit; the message lists all of them. Nothing
                was loaded.
        """
        return load(self, state_dict, strict, assign)

    # ---- changing all tensors ---------------------------------------------------------------

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every submodule, then on this module; return this module."""
        if not callable(fn):
            raise TypeMismatch(sentence("apply", "a function of a module", type(fn).__name__))
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def to_empty(self, *, device: DeviceLike, recurse: bool = True) -> Self:
        """Move to a device without copying values: all tensors get new, uninitialised memory."""
        return self._apply(lambda tensor: empty_like(tensor, device=device), recurse)

    def share_memory(self) -> Self:
        """Move all tensors into memory shared between processes (`gradient.multiprocessing`)."""
        return self._apply(lambda tensor: tensor.share_memory_())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Replace the data of every parameter, its gradient and every buffer by `fn` of it.

        Parameters stay the same objects, so an optimiser made earlier still updates them.
        """
        changes.count += 1
        with no_grad():
            for parameter in self.parameters(recurse):
                parameter.data = fn(parameter.data)
                if parameter.grad is not None:
                    parameter.grad = fn(parameter.grad)
            for module in self.modules() if recurse else (self,):
                if module is not self and type(module)._apply is not Module._apply:
                    module._apply(fn)  # may hold further tensors (torchmetrics)
                for name, buffer in module._items(BUFFER):
                    if buffer is not None:
                        object.__setattr__(module, name, fn(buffer))
        return self

    def to(
        self,
        *args: DeviceLike | DType | Tensor,
        device: DeviceLike = None,
        dtype: DType | None = None,
        non_blocking: bool = False,
        tensor: Tensor | None = None,
        memory_format: object = None,
    ) -> Self:
        """Move to a device, a floating dtype or both; integer and bool tensors keep their dtype.

        `to(device)`, `to(dtype)`, `to(device, dtype)`, `to(tensor)`. Quantised weights keep their
        dtype too, but the rows that an embedding looks up in one have the new dtype. A
        `memory_format` has no effect: layers compute with row-major weights.
        """
        if len(args) > 3:
            expected = "a device, a dtype or a tensor, then non_blocking"
            raise TypeMismatch(sentence("Module.to", expected, f"{len(args)} arguments"))
        device, dtype, non_blocking = destination(args, device, dtype, non_blocking, tensor)
        if memory_format is not None:
            from gradient.tensor.layout import check  # few programs name one

            check("Module.to", memory_format)
        if dtype is not None and (dtype.is_packed or not dtype.is_floating_point):
            fix = ", which is packed; gradient.quantization.quantize_ packs a model's weights"
            raise TypeMismatch(
                f"Module.to: expected a floating-point dtype, got {dtype}"
                + (fix if dtype.is_packed else "")
            )

        def move(tensor: Tensor) -> Tensor:
            if tensor.dtype.is_packed:
                moved = tensor.to(device=device, non_blocking=non_blocking)
                return moved if dtype is None else with_float_dtype(moved, dtype)
            target = dtype if tensor.dtype.is_floating_point else None
            return tensor.to(device=device, dtype=target, non_blocking=non_blocking)

        return self._apply(move)

    def type(self, dst_type: DType | str) -> Self:
        """Convert all parameters and buffers, also integers, to a dtype, as `Tensor.type` does."""
        return self._apply(lambda tensor: tensor.type(dst_type))

    def float(self) -> Self:
        """Convert all floating-point tensors to float32, in place."""
        return self.to(dtypes.float32)

    def double(self) -> Self:
        """Convert all floating-point tensors to float64, in place."""
        return self.to(dtypes.float64)

    def half(self) -> Self:
        """Convert all floating-point tensors to float16, in place."""
        return self.to(dtypes.float16)

    def bfloat16(self) -> Self:
        """Convert all floating-point tensors to bfloat16, in place."""
        return self.to(dtypes.bfloat16)

    def cpu(self) -> Self:
        """Move parameters and buffers to the CPU, in place."""
        return self.to("cpu")

    def cuda(self, device: int | str | None = None) -> Self:
        """Move parameters and buffers to a GPU, in place: its number, or the current one."""
        return self.to(f"cuda:{device}" if isinstance(device, int) else device or "cuda")

    def train(self, mode: bool = True) -> Self:
        """Set training mode for this module and its submodules: dropout is active, batch norm uses
        the batch's statistics. Returns the module."""
        if not isinstance(mode, bool):
            raise ArgumentError(f"train: expected mode to be True or False, got {mode!r}")
        self.training = mode
        for child in self.children():
            child.train(mode)  # a class may override it, to keep frozen norms in evaluation mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode for this module and its submodules. Returns the module."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set `requires_grad` of all parameters; quantised ones are always frozen."""
        if not isinstance(requires_grad, bool):
            raise TypeMismatch(sentence("requires_grad_", "True or False", repr(requires_grad)))
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad and not parameter.dtype.is_packed)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients of all parameters to None, or to zeros (`set_to_none=False`)."""
        for p in self.parameters():
            if p.grad is not None and set_to_none:
                p.grad = None
            elif p.grad is not None:
                if p.grad.node is not None:  # one that create_graph=True made
                    p.grad = p.grad.detach()
                p.grad.zero_()

    # ---- printing ---------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return the text in the parentheses of `repr`: by default the options in `_shown`."""
        return ", ".join(shown(self, self._shown))

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"({name}): {indent(repr(module))}" for name, module in self._items(MODULE)]
        return format_module(self._get_name(), extra, children)
