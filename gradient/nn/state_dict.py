"""Loading a state dict into a module. Everything is checked first: one error lists all misfits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gradient.autograd import no_grad
from gradient.autograd.foreign import Operand
from gradient.errors import StateDictError, TypeMismatch, sentence
from gradient.nn.parameter import Parameter, is_uninitialized
from gradient.nn.state_dict_misfits import describe
from gradient.source_lines import warn_user
from gradient.tensor import Tensor
from gradient.tensor.packed import float_dtype_of, with_float_dtype

if TYPE_CHECKING:
    from gradient.nn.module import Module


class IncompatibleKeys(NamedTuple):
    """The result of `load_state_dict`: names that were missing, and unexpected ones."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"IncompatibleKeys(missing_keys={self.missing_keys}, "
            f"unexpected_keys={self.unexpected_keys})"
        )


class StateDict(OrderedDict[str, Any]):
    """The result of `Module.state_dict`: tensors by name; `_metadata` has each module's version."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._metadata: dict[str, dict[str, Any]] = {}


EXTRA = "_extra_state"
"""The name under which a state dict holds what `Module.get_extra_state` gives."""


@dataclass
class Matches:
    """The tensors of a state dict that fit a module, collected before any is loaded."""

    own: dict[str, Tensor] = field(default_factory=dict)
    present: dict[str, Tensor] = field(default_factory=dict)
    extra: list[tuple[Module, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


class LocalMetadata(dict[str, Any]):
    """The argument `local_metadata` of `_load_from_state_dict`, such as the saved version."""

    def __init__(self, metadata: Mapping[str, Any], matches: Matches) -> None:
        super().__init__(metadata)
        self.matches = matches


def load(
    module: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool
) -> IncompatibleKeys:
    """Load tensors into `module`; see `Module.load_state_dict`."""
    if not isinstance(state_dict, Mapping):
        got = type(state_dict).__name__
        fix = "pass its state_dict()" if hasattr(state_dict, "state_dict") else ""
        raise TypeMismatch(sentence("load_state_dict", "a dict of names to tensors", got, fix))
    matches = Matches()
    metadata = getattr(state_dict, "_metadata", None) or {}
    after: list[Module] = []
    _match_tree(module, dict(state_dict), "", metadata, assign, matches, after)
    order = {name: place for place, name in enumerate(state_dict)}
    matches.unexpected.sort(key=lambda name: order.get(name, len(order)))
    keys = IncompatibleKeys(matches.missing, matches.unexpected)
    mismatched = bool(matches.wrong or matches.errors)
    if after and not mismatched:
        _load_matches(module, matches, assign)
        for each in after:
            for hook in list(each._state_dict_hooks.load):
                hook(each, keys)
    if mismatched or (strict and (keys.missing_keys or keys.unexpected_keys)):
        listed = (keys.missing_keys, keys.unexpected_keys) if strict else ([], [])
        kind = type(module).__name__
        raise StateDictError(describe(kind, *listed, matches.wrong, matches.errors))
    if not after:
        _load_matches(module, matches, assign)
    return keys


def _match_tree(
    module: Module,
    state: dict[str, Any],
    prefix: str,
    metadata: Mapping[str, Any],
    assign: bool,
    matches: Matches,
    after: list[Module],
) -> None:
    """Call `_load_from_state_dict` of `module` and its submodules. Modules with post-hooks are
    collected in `after`, children first."""
    local = LocalMetadata(metadata.get(prefix[:-1], {}), matches)
    local["assign_to_params_buffers"] = assign
    lists = (matches.missing, matches.unexpected, matches.errors)
    module._load_from_state_dict(state, prefix, local, True, *lists)
    for name, child in module._modules.items():
        if child is not None:
            path = f"{prefix}{name}."
            below = {key: value for key, value in state.items() if key.startswith(path)}
            _match_tree(child, below, path, metadata, assign, matches, after)
    if module._state_dict_hooks.load:
        after.append(module)


def match_own_tensors(
    module: Module,
    state_dict: dict[str, Any],
    prefix: str,
    local_metadata: dict[str, Any],
    strict: bool,
    missing_keys: list[str],
    unexpected_keys: list[str],
    error_msgs: list[str],
) -> None:
    """Find the tensors of one module, without its children, in a state dict.

    During `load` they are collected, and loaded once all have been found; otherwise loaded at once.
    """
    matches = local_metadata.matches if isinstance(local_metadata, LocalMetadata) else Matches()
    assign = bool(local_metadata.get("assign_to_params_buffers", False))
    own = {name: value for name, value in module._saved() if value is not None}
    for name, value in own.items():
        key = prefix + name
        matches.own[key] = value
        if key not in state_dict:
            if strict:
                missing_keys.append(key)
        elif (problem := _problem(value, state_dict[key], assign)) is not None:
            matches.wrong[key] = problem
        else:
            matches.present[key] = state_dict[key]
    extra = prefix + EXTRA
    if module._has_extra_state():
        if extra in state_dict:
            matches.extra.append((module, state_dict[extra]))
        elif strict:
            missing_keys.append(extra)
    children = module._modules
    for key in state_dict if strict else ():
        if key.startswith(prefix):
            name, dot, _ = key[len(prefix) :].partition(".")
            known = name in children if dot else name in own
            if not known and not (key == extra and module._has_extra_state()):
                unexpected_keys.append(key)
    if matches is not getattr(local_metadata, "matches", None):
        error_msgs += [f"{key}: {problem}" for key, problem in matches.wrong.items()]
        for entries in (matches.own, matches.present):  # names below this module
            for key in list(entries):
                entries[key.removeprefix(prefix)] = entries.pop(key)
        _load_matches(module, matches, assign)


def _load_matches(module: Module, matches: Matches, assign: bool) -> None:
    """Load the collected tensors."""
    if assign:
        _assign(module, matches.own, matches.present)
    else:
        lost = []
        with no_grad():
            for name, value in matches.present.items():
                target = matches.own[name]
                if is_uninitialized(value):
                    continue
                if target.device.type == "meta" != value.device.type:
                    lost.append(name)
                if is_uninitialized(target):
                    target.materialize(tuple(value.shape))
                target.copy_(value)
        if lost:
            warn_user(
                f"{type(module).__name__}.load_state_dict: {len(lost)} tensors of the module, such "
                f"as {lost[0]}, are on the device meta, which keeps no values; pass assign=True, "
                "or call to_empty(device=...) first"
            )
    for each, extra in matches.extra:
        each.set_extra_state(extra)


def _problem(own: Tensor, value: Any, assign: bool) -> str | None:
    if not isinstance(value, type(own) if isinstance(own, Operand) else Tensor):
        what = "a tensor" if is_uninitialized(own) else f"a tensor of shape {tuple(own.shape)}"
        return f"expected {what}, got {type(value).__name__}"
    if is_uninitialized(value):
        return None if is_uninitialized(own) else "expected a tensor, got one of a lazy layer"
    if is_uninitialized(own):  # takes any shape
        return None
    if tuple(value.shape) != tuple(own.shape):
        return f"expected {tuple(own.shape)}, got {tuple(value.shape)}"
    packed = own.dtype.is_packed or value.dtype.is_packed
    if packed and not assign and own.dtype is not value.dtype:
        return (
            f"{value.dtype.name} cannot be copied into {own.dtype.name}; assign=True makes it the "
            "module's own"
        )
    return None


def _assign(module: Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Replace the module's tensors by the given ones; tied parameters stay tied."""
    replaced: dict[int, Tensor] = {}
    for name, value in state.items():
        old = own[name]
        new = replaced.get(id(old))
        if new is None:
            new = value
            if isinstance(old, Parameter):
                # Integers cannot be trained, and packed weights consist of them.
                dtype = value.dtype
                trains = old.requires_grad and dtype.is_floating_point and not dtype.is_packed
                if dtype.is_packed and old.dtype.is_floating_point:
                    # The dtype of rows that an embedding looks up does not change.
                    value = with_float_dtype(value, float_dtype_of(old))
                new = Parameter(value.detach(), requires_grad=trains)
            replaced[id(old)] = new
        path, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(path), attribute, new)
