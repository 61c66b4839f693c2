"""Hooks: functions that a Module calls before and after its forward and its backward pass.

In a module without hooks the attribute is None, which costs one comparison per call. The first
registration sets it to a `Hooks`, whose `call` then runs the module:

    pre-hooks(module, args) -> forward(*args) -> hooks(module, args, output)

A full backward hook needs to know when the gradient enters at the outputs and when it leaves at the
inputs. Two identity ops mark these borders in the graph, one around the inputs, one around the
outputs.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gradient.autograd import Function, is_grad_enabled
from gradient.autograd.node import RemovableHandle
from gradient.errors import HookError
from gradient.nn.structure import changes
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.nn.module import Module


class _Entry:
    """One registered hook and its options."""

    def __init__(self, function: Callable[..., Any], with_kwargs: bool, always: bool) -> None:
        self.function, self.with_kwargs, self.always = function, with_kwargs, always


class Hooks:
    """The hooks of one module, each kind in the order of its calls."""

    def __init__(self) -> None:
        self.forward_pre: list[_Entry] = []
        self.forward: list[_Entry] = []
        self.backward_pre: list[_Entry] = []
        self.backward: list[_Entry] = []

    def add(
        self,
        kind: str,
        function: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always: bool = False,
    ) -> RemovableHandle:
        """Register `function` under `kind`, the name of one of the attributes above."""
        entry = _Entry(function, with_kwargs, always)
        return RemovableHandle(getattr(self, kind), entry, prepend)

    def _all(self, kind: str) -> list[_Entry]:
        """The hooks of every module, then this one's, as they are now."""
        every: list[_Entry] = getattr(EVERY_MODULE, kind)
        return list(every) if self is EVERY_MODULE else [*every, *getattr(self, kind)]

    def call(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the module's forward with every hook in its place."""
        called: set[_Entry] = set()
        forward = self._all("forward")
        try:
            args, kwargs = self._before(module, args, kwargs)
            borders = self._all("backward") or self._all("backward_pre")
            border = _Border(module, self) if borders and is_grad_enabled() else None
            if border is not None:
                args = border.enter(args)
            output = module.forward(*args, **kwargs)
            for entry in forward:
                called.add(entry)
                output = _forward_hook(entry, module, args, kwargs, output)
            return output if border is None else border.leave(output)
        except Exception:
            # `always_call` hooks (such as timers) also run after a failed forward.
            for entry in forward:
                if entry.always and entry not in called:
                    _forward_hook(entry, module, args, kwargs, None)
            raise

    def _before(
        self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        for entry in self._all("forward_pre"):
            if entry.with_kwargs:
                changed = entry.function(module, args, kwargs)
                if changed is None:
                    continue
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise HookError(
                        "forward_pre_hook: with_kwargs=True, so expected None or a tuple "
                        f"(args, kwargs), got {changed!r}"
                    )
                args, kwargs = changed
            else:
                changed = entry.function(module, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        return args, kwargs


#: Hooks of every module.
EVERY_MODULE = Hooks()


class Hooked:
    """The methods of Module that register hooks."""

    _hooks: Hooks | None = None

    def _hook(self, kind: str, hook: Callable[..., Any], **options: Any) -> RemovableHandle:
        changes.count += 1
        hooks = self._hooks
        if hooks is None or hooks is EVERY_MODULE:
            self._hooks = hooks = Hooks()
        return hooks.add(kind, hook, **options)

    def _named(self, kind: str) -> OrderedDict[int, Callable[..., Any]]:
        entries = [] if self._hooks in (None, EVERY_MODULE) else getattr(self._hooks, kind)
        return OrderedDict((id(entry), entry.function) for entry in entries)

    # The module's own hooks by number, under PyTorch's names, which other libraries read.
    _forward_pre_hooks = property(functools.partial(_named, kind="forward_pre"))
    _forward_hooks = property(functools.partial(_named, kind="forward"))
    _backward_pre_hooks = property(functools.partial(_named, kind="backward_pre"))
    _backward_hooks = property(functools.partial(_named, kind="backward"))

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """`hook(module, args) -> None or new args` before each forward.

        With `with_kwargs`: `hook(module, args, kwargs) -> None or (args, kwargs)`.
        """
        return self._hook("forward_pre", hook, prepend=prepend, with_kwargs=with_kwargs)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """`hook(module, args, output) -> None or a new output` after each forward.

        With `with_kwargs`: `hook(module, args, kwargs, output)`. With `always_call` it also runs,
        with output None, when forward raised.
        """
        return self._hook(
            "forward", hook, prepend=prepend, with_kwargs=with_kwargs, always=always_call
        )

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """`hook(module, grad_output) -> None or new grad_output`, before the module's backward."""
        return self._hook("backward_pre", hook, prepend=prepend)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """`hook(module, grad_input, grad_output) -> None or new grad_input`, after its backward.

        Both are tuples, an entry for each positional argument or output, None without a gradient.
        """
        return self._hook("backward", hook, prepend=prepend)

    def register_backward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """The old name of `register_full_backward_hook`, which is deprecated."""
        return self._hook("backward", hook)


def _for_every_module(kind: str, hook: Callable[..., Any], **options: Any) -> RemovableHandle:
    changes.count += 1
    Hooked._hooks = EVERY_MODULE  # modules without hooks of their own find these
    return EVERY_MODULE.add(kind, hook, **options)


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`Module.register_forward_pre_hook` on every module that there is and will be."""
    return _for_every_module("forward_pre", hook)


def register_module_forward_hook(
    hook: Callable[..., Any], *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """`Module.register_forward_hook` on every module that there is and will be."""
    return _for_every_module("forward", hook, with_kwargs=with_kwargs, always=always_call)


def register_module_full_backward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`Module.register_full_backward_pre_hook` on every module that there is and will be."""
    return _for_every_module("backward_pre", hook)


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`Module.register_full_backward_hook` on every module that there is and will be."""
    return _for_every_module("backward", hook)


def register_module_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """The old name of `register_module_full_backward_hook`, which is deprecated."""
    return _for_every_module("backward", hook)


def _forward_hook(
    entry: _Entry, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> Any:
    if entry.with_kwargs:
        changed = entry.function(module, args, kwargs, output)
    else:
        changed = entry.function(module, args, output)
    return output if changed is None else changed


class _Border:
    """The two ends of a module in one backward pass."""

    def __init__(self, module: Module, hooks: Hooks) -> None:
        self.module, self.hooks = module, hooks
        self.grad_output: tuple[Tensor | None, ...] = ()
        self.reports_at_inputs = False
        self.inputs = 0

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.inputs = len(args)
        self.reports_at_inputs = any(_needs_gradient(value) for value in args)
        return _mark(args, self.run_hooks) if self.reports_at_inputs else args

    def leave(self, output: Any) -> Any:
        several = isinstance(output, tuple | list)
        marked = _mark(tuple(output) if several else (output,), self.at_outputs)
        if not several:
            return marked[0]
        return type(output)(*marked) if hasattr(output, "_fields") else type(output)(marked)

    def at_outputs(self, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        for entry in self.hooks._all("backward_pre"):
            grads = _as_tuple(entry.function(self.module, grads), grads, "grad_output")
        self.grad_output = grads
        if not self.reports_at_inputs:
            changed = self.run_hooks((None,) * self.inputs)
            if any(grad is not None for grad in changed):
                raise HookError(
                    f"backward hook of {type(self.module).__name__}: no input requires a gradient, "
                    "so there is none to replace; return None"
                )
        return grads

    def run_hooks(self, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        for entry in self.hooks._all("backward"):
            changed = entry.function(self.module, grads, self.grad_output)
            grads = _as_tuple(changed, grads, "grad_input")
        return grads


def _needs_gradient(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _as_tuple(changed: Any, grads: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    """Return the result of a backward hook as a tuple; the gradients unchanged if it is None."""
    if changed is None:
        return grads
    changed = changed if isinstance(changed, tuple) else (changed,)
    if len(changed) != len(grads):
        raise HookError(
            f"backward hook: expected None or {len(grads)} gradients to replace {name}, "
            f"got {len(changed)}"
        )
    return changed


class ModuleBackward(Function):
    """Returns its tensors unchanged; its backward shows the gradients to a callback."""

    @staticmethod
    def forward(ctx: Any, callback: Callable[..., Any], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.callback = callback
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return (None, *ctx.callback(grads))


def _mark(values: tuple[Any, ...], callback: Callable[..., Any]) -> tuple[Any, ...]:
    """Put a border on those of `values` that are in the graph; `callback` sees None for others."""
    places = [place for place, value in enumerate(values) if _needs_gradient(value)]
    if not places:
        return values

    def spread(grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        full: list[Tensor | None] = [None] * len(values)
        for place, grad in zip(places, grads, strict=True):
            full[place] = grad
        changed = callback(tuple(full))
        return tuple(changed[place] for place in places)

    marked: Iterator[Tensor] = iter(
        ModuleBackward.apply(spread, *(values[place] for place in places))
    )
    return tuple(next(marked) if place in places else value for place, value in enumerate(values))
