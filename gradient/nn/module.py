"""Module: the base of every layer and model, a tree of named parameters, buffers and children.

`gradient.nn.members` has the tree, `gradient.nn.hooks` what is called around `forward`; here are
the call itself, saving, loading, and what changes all tensors at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
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
from gradient.tensor.creation import empty_like
from gradient.tensor.device import DeviceLike
from gradient.tensor.packed import with_float_dtype

__all__ = ["Module"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class HasForward(Protocol[P, R_co]):
    """A module for type checkers: a call of it takes and returns what its `forward` does."""

    _hooks: Hooks | None

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class Module(Hooked, StateDictHooked, Members):
    """Base class of all layers and models.

    Set parameters, buffers and child modules as attributes in `__init__`, after
    `super().__init__()`, and write `forward`; call the module itself, so that its hooks run.
    """

    _shown: ClassVar[Sequence[str]] = ()
    """The names of the options that `repr` shows, "=" before one whose value stands alone."""

    _version: ClassVar[int | None] = 1
    """Of what a state dict holds of this class: `_load_from_state_dict` finds it in
    `local_metadata`, if the state dict was not taken through a file."""

    training: bool

    def __init__(self) -> None:
        self.__dict__.update(training=True, _registry={}, _non_persistent=set())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; each subclass says what of."""
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
        """Have this module's calls recorded and replayed from now on, in place.

        Args:
            options: of `gradient.compile`, which leaves the module as it is and gives another one.
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
        """All parameters and persistent buffers by dotted name, a shared one under all its names.

        The tensors share memory with the module's own; with `keep_vars` they are the module's own.
        What `get_extra_state` gives, where a module defines it, is there as `_extra_state`.
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
        """What a module defines if its state dict shall hold more than tensors; with
        `set_extra_state`, which is given it in loading."""
        raise NotImplementedError(f"{type(self).__name__}.get_extra_state: not defined")

    def set_extra_state(self, state: Any) -> None:
        """Take what `get_extra_state` gave."""
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
        `load_state_dict` loads what was found when all modules have been asked.
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

        With `assign` the given tensors become the module's own (in their dtype, on their device)
        and nothing is copied: so a memory-mapped file is read only when used. With `strict=False`
        missing and unexpected names are returned instead of raised; wrong shapes are always an
        error.

        Raises StateDictError with every misfit in one message; then nothing was loaded.
        """
        return load(self, state_dict, strict, assign)

    # ---- changing all tensors ---------------------------------------------------------------

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every module below, then on this one."""
        if not callable(fn):
            raise TypeMismatch(sentence("apply", "a function of a module", type(fn).__name__))
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def to_empty(self, *, device: DeviceLike, recurse: bool = True) -> Self:
        """Move to a device without the values: every tensor is new memory, not yet written."""
        return self._apply(lambda tensor: empty_like(tensor, device=device), recurse)

    def share_memory(self) -> Self:
        """Put all tensors into memory that processes share (`gradient.multiprocessing`)."""
        return self._apply(lambda tensor: tensor.share_memory_())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Replace the data of every parameter, its gradient and every buffer by `fn` of it.

        Parameters stay the same objects, so that an optimiser made before goes on working.
        """
        changes.count += 1
        with no_grad():
            for parameter in self.parameters(recurse):
                parameter.data = fn(parameter.data)
                if parameter.grad is not None:
                    parameter.grad = fn(parameter.grad)
            for module in self.modules() if recurse else (self,):
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

        `to(device)`, `to(dtype)`, `to(device, dtype)`, `to(tensor)`. Packed weights keep theirs
        too, but the rows that an embedding looks up in one come in the new dtype.
        """
        if len(args) > 3:
            expected = "a device, a dtype or a tensor, then non_blocking"
            raise TypeMismatch(sentence("Module.to", expected, f"{len(args)} arguments"))
        for arg in (*args, tensor):
            if isinstance(arg, Tensor):
                device, dtype = arg.device, arg.dtype
            elif isinstance(arg, (DType, type)):
                dtype = dtype_of(arg)
            elif isinstance(arg, bool):
                non_blocking = arg
            elif arg is not None:
                device = arg
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
        """All parameters and buffers to a dtype, integers too, as `Tensor.type` takes it."""
        return self._apply(lambda tensor: tensor.type(dst_type))

    def float(self) -> Self:
        """All floating tensors to float32."""
        return self.to(dtypes.float32)

    def double(self) -> Self:
        """All floating tensors to float64."""
        return self.to(dtypes.float64)

    def half(self) -> Self:
        """All floating tensors to float16."""
        return self.to(dtypes.float16)

    def bfloat16(self) -> Self:
        """All floating tensors to bfloat16."""
        return self.to(dtypes.bfloat16)

    def cpu(self) -> Self:
        """Move parameters and buffers to the CPU, in place."""
        return self.to("cpu")

    def cuda(self, device: int | str | None = None) -> Self:
        """Move parameters and buffers to a GPU, in place: its number, or the current one."""
        return self.to(f"cuda:{device}" if isinstance(device, int) else device or "cuda")

    def train(self, mode: bool = True) -> Self:
        """Training mode (dropout drops, batch norm uses the batch), here and below."""
        if not isinstance(mode, bool):
            raise ArgumentError(f"train: expected mode to be True or False, got {mode!r}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Evaluation mode, here and below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let every parameter be trained, or freeze it; packed ones are always frozen."""
        if not isinstance(requires_grad, bool):
            raise TypeMismatch(sentence("requires_grad_", "True or False", repr(requires_grad)))
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad and not parameter.dtype.is_packed)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        for p in self.parameters():
            if p.grad is not None and set_to_none:
                p.grad = None
            elif p.grad is not None:
                if p.grad.node is not None:  # one that create_graph=True made
                    p.grad = p.grad.detach()
                p.grad.zero_()

    # ---- printing ---------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands in the parentheses of `repr`: by default the options in `_shown`."""
        return ", ".join(shown(self, self._shown))

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"({name}): {indent(repr(module))}" for name, module in self._items(MODULE)]
        return format_module(self._get_name(), extra, children)
