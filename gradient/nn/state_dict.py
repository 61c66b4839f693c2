"""Fitting a state dict to a module: all misfits are told together, before anything is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gradient.autograd import no_grad
from gradient.errors import StateDictError, TypeMismatch
from gradient.nn.parameter import Parameter
from gradient.nn.uninitialized import is_uninitialized
from gradient.tensor import Tensor
from gradient.tensor.packed import float_dtype_of, with_float_dtype

if TYPE_CHECKING:
    from gradient.nn.module import Module


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` left aside."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"IncompatibleKeys(missing_keys={self.missing_keys}, "
            f"unexpected_keys={self.unexpected_keys})"
        )


def load(
    module: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool
) -> IncompatibleKeys:
    """Copy (or, with `assign`, put) tensors into `module`; see `Module.load_state_dict`."""
    if not isinstance(state_dict, Mapping):
        raise TypeMismatch(
            f"load_state_dict: expected a dict of names to tensors, got {type(state_dict).__name__}"
        )
    own = module.state_dict(keep_vars=True)
    missing = [name for name in own if name not in state_dict]
    unexpected = [name for name in state_dict if name not in own]
    wrong = {
        name: problem
        for name, value in state_dict.items()
        if name in own and (problem := _problem(own[name], value, assign)) is not None
    }
    if wrong or (strict and (missing or unexpected)):
        listed = (missing, unexpected) if strict else ([], [])
        raise StateDictError(describe(type(module).__name__, *listed, wrong))

    present = {name: value for name, value in state_dict.items() if name in own}
    if assign:
        _assign(module, own, present)
    else:
        with no_grad():
            for name, value in present.items():
                target = own[name]
                if is_uninitialized(value):
                    continue
                if is_uninitialized(target):
                    target.materialize(tuple(value.shape))
                target.copy_(value)
    return IncompatibleKeys(missing, unexpected)


def _problem(own: Tensor, value: Any, assign: bool) -> str | None:
    if not isinstance(value, Tensor):
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
    """Make the given tensors themselves the module's; a parameter under two names stays one."""
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
                if (
                    dtype.is_packed and old.dtype.is_floating_point
                ):  # looked-up rows come as they did
                    value = with_float_dtype(value, float_dtype_of(old))
                new = Parameter(value.detach(), requires_grad=trains)
            replaced[id(old)] = new
        path, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(path), attribute, new)


#: What describe() ends with where it knows no better.
RENAME = "  fix: rename the tensors, or pass strict=False to load those that fit"


def describe(
    model: str, missing: Sequence[str], unexpected: Sequence[str], wrong: Mapping[str, str]
) -> str:
    """One line per misfit, each misplaced name with the name it was probably meant to be."""
    counts = [
        f"{len(group)} {label}"
        for group, label in ((missing, "missing"), (unexpected, "unexpected"), (wrong, "wrong"))
        if group
    ]
    lines = [
        f"load_state_dict: the tensors do not fit {model}: {', '.join(counts)}; none was loaded"
    ]
    prefix_fix = _prefix_fix(missing, unexpected)
    for kind, names, others, where in (
        ("missing", missing, unexpected, "given"),
        ("unexpected", unexpected, missing, "expected"),
    ):
        near = {} if prefix_fix else _near(names, others)
        for name in names:
            hint = f" (near name {where}: {near[name]})" if name in near else ""
            lines.append(f"  {kind:<11} {name}{hint}")
    lines += [f"  wrong       {name}: {problem}" for name, problem in wrong.items()]
    if prefix_fix is not None:
        lines.append(f"  fix: {prefix_fix}")
    elif (missing or unexpected) and not wrong:
        lines.append(RENAME)
    return "\n".join(lines)


def _near(names: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """For each of `names` the most similar of `others`, if any is similar.

    difflib costs about 30 microseconds a pair, so that two lists of a thousand names would take
    half a minute: then only names equal from some dot onwards (a wrong prefix) are paired.
    """
    near: dict[str, str] = {}
    if not others:
        return near
    by_tail: dict[str, str] = {}
    for other in others:
        for tail in _tails(other):
            by_tail.setdefault(tail, other)
    cheap = len(names) * len(others) > 20_000
    for name in names:
        close = [] if cheap else difflib.get_close_matches(name, others, n=1, cutoff=0.6)
        # One shared last word ("weight") says nothing, so a tail has at least two words.
        found = (
            close[0] if close else next((by_tail[t] for t in _tails(name) if t in by_tail), None)
        )
        if found is not None:
            near[name] = found
    return near


def _tails(name: str) -> list[str]:
    """The ends of a dotted name that have at least two words, longest first.

    A stranger's name may have any number of words; twenty are more than a module's path has.
    """
    words = name.split(".")[-20:]
    return [".".join(words[start:]) for start in range(len(words) - 1)]


def _prefix_fix(missing: Sequence[str], unexpected: Sequence[str]) -> str | None:
    """What to do when all names lack, or all have too much, the same prefix."""
    if not missing or len(missing) != len(unexpected):
        return None
    for longer, shorter, advice in (
        (unexpected, missing, "remove the prefix {!r} from every name of the state dict"),
        (missing, unexpected, "put the prefix {!r} before every name of the state dict"),
    ):
        prefix = longer[0].removesuffix(shorter[0])
        if prefix.endswith(".") and {prefix + name for name in shorter} == set(longer):
            return advice.format(prefix)
    return None
