"""Hooks that a Module calls when its state dict is made or loaded.

Both go in this order: pre-hooks -> the module's own tensors -> its children -> post-hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.autograd.node import RemovableHandle
from gradient.errors import HookError


class StateDictHooks:
    """The hooks of one module, each kind in the order of its calls."""

    def __init__(self) -> None:
        self.save_pre: list[Callable[..., Any]] = []
        self.save: list[Callable[..., Any]] = []
        self.load_pre: list[Callable[..., Any]] = []
        self.load: list[Callable[..., Any]] = []


#: Shared by all modules without such hooks.
NONE = StateDictHooks()


class StateDictHooked:
    """The methods of Module that register hooks of its state dict."""

    _state_dict_hooks = NONE

    def _state_dict_hook(self, kind: str, hook: Callable[..., Any]) -> RemovableHandle:
        hooks = self._state_dict_hooks
        if hooks is NONE:
            hooks = self._state_dict_hooks = StateDictHooks()
        return RemovableHandle(getattr(hooks, kind), hook, False)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(module, prefix, keep_vars)` before `state_dict` reads this module."""
        return self._state_dict_hook("save_pre", hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(module, state_dict, prefix, local_metadata)` after `state_dict` has read this
        module and its children; it may change `state_dict` in place, and returns None."""

        def checked(*args: Any) -> None:
            if hook(*args) is not None:
                raise HookError("state_dict post-hook: expected None; change state_dict in place")

        return self._state_dict_hook("save", checked)

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """The same, but a result of `hook` that is not None replaces the state dict."""
        return self._state_dict_hook("save", hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
        error_msgs)` before this module looks for its tensors in `state_dict`, which may be changed
        in place (it is a copy of the caller's)."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], with_module: bool = False
    ) -> RemovableHandle:
        """The same; `hook` takes the module first only if `with_module`."""
        if with_module:
            return self._state_dict_hook("load_pre", hook)
        return self._state_dict_hook("load_pre", lambda module, *args: hook(*args))

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(module, incompatible_keys)` after this module and its submodules were loaded.

        Names that it removes from `incompatible_keys.missing_keys` and `unexpected_keys` are no
        error. It returns None. With such a hook, tensors that fit are loaded even if others do not.
        """

        def checked(*args: Any) -> None:
            if hook(*args) is not None:
                raise HookError(
                    "load_state_dict post-hook: expected None; change incompatible_keys in place"
                )

        return self._state_dict_hook("load", checked)
