"""Hooks that an optimiser calls around a step, and around saving and loading its state."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from gradient.autograd.node import RemovableHandle
from gradient.errors import AutogradError

Hook = Callable[..., Any]


def with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a class's `step` so that hooks run around it, and schedulers can see that it ran."""

    @functools.wraps(step)
    def step_with_hooks(self: Hooked, *args: Any, **kwargs: Any) -> Any:
        hooks = vars(self)  # a wrapper around another optimiser may not have called __init__
        for hook in list(hooks.get("_step_pre_hooks", ())):
            replaced = hook(self, args, kwargs)
            if replaced is not None:
                if not (isinstance(replaced, tuple) and len(replaced) == 2):
                    raise AutogradError(
                        f"{type(self).__name__}: a step pre-hook must return None or "
                        f"(args, kwargs), but one returned {type(replaced).__name__}"
                    )
                args, kwargs = replaced
        result = step(self, *args, **kwargs)
        self._opt_called = True
        for hook in list(hooks.get("_step_post_hooks", ())):
            hook(self, args, kwargs)
        return result

    return step_with_hooks


class Hooked:
    """The hooks of an optimiser, and their registration."""

    def _init_hooks(self) -> None:
        self._opt_called = False
        self._step_pre_hooks: list[Hook] = []
        self._step_post_hooks: list[Hook] = []
        self._state_dict_pre_hooks: list[Hook] = []
        self._state_dict_post_hooks: list[Hook] = []
        self._load_state_dict_pre_hooks: list[Hook] = []
        self._load_state_dict_post_hooks: list[Hook] = []

    def _patch_step_function(self) -> None:
        """Do nothing: `step` has its hooks. Wrappers of an optimiser call it instead of `__init__`,
        by PyTorch's name."""

    def register_step_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` before each step; it may return new ones."""
        return RemovableHandle(self._step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Hook) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` after each step."""
        return RemovableHandle(self._step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` before `state_dict` is made."""
        return RemovableHandle(self._state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` on each `state_dict`; it may return another one."""
        return RemovableHandle(self._state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Hook, prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` before loading; it may return another one."""
        return RemovableHandle(self._load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(
        self, hook: Hook, prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(optimizer)` after a state was loaded."""
        return RemovableHandle(self._load_state_dict_post_hooks, hook, prepend)
