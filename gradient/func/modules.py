"""Call modules as functions of their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from gradient.errors import ArgumentError, sentence
from gradient.nn.module import Module
from gradient.nn.structure import changes
from gradient.tensor import Tensor
from gradient.tensor.joining import stack

__all__ = ["functional_call", "stack_module_state"]


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call `module(*args, **kwargs)` with other parameters and buffers, given by their dotted
    names; the rest are the module's own.

    Args:
        tie_weights: replace a tensor that the module has under several names under all of them.
        strict: all parameters and buffers must be given, and no others. Otherwise unknown names are
            ignored, as in PyTorch.

    Raises:
        ArgumentError: with `strict`, names are unknown or missing.
    """
    given: dict[str, Tensor] = {}
    single = isinstance(parameter_and_buffer_dicts, Mapping)
    dicts: Any = [parameter_and_buffer_dicts] if single else parameter_and_buffer_dicts
    for each in dicts:
        given.update(each)
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    with _replaced(module, given, tie_weights, strict):
        return module(*arguments, **(kwargs or {}))


@contextmanager
def _replaced(module: Module, given: dict[str, Tensor], tie_weights: bool, strict: bool) -> Any:
    own = {
        name: value
        for members in (module.named_parameters, module.named_buffers)
        for name, value in members(remove_duplicate=False)
    }
    unknown = [name for name in given if name not in own]
    missing = [name for name in own if name not in given]
    if strict and (unknown or missing):
        got = f"unknown {unknown}, missing {missing}"
        raise ArgumentError(sentence("functional_call", "names of the module's tensors", got))
    places = {name: value for name, value in given.items() if name in own}
    if tie_weights:
        by_id: dict[int, Tensor] = {}
        for name, value in places.items():
            if by_id.setdefault(id(own[name]), value) is not value:
                expected = "one tensor for names of one tensor (or tie_weights=False)"
                raise ArgumentError(sentence("functional_call", expected, f"another for {name}"))
        for name in missing:
            if id(own[name]) in by_id:
                places[name] = by_id[id(own[name])]
    # Not by Module.__setattr__, which accepts only a Parameter for a parameter's name.
    changed: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for name, value in places.items():
            path, _, attribute = name.rpartition(".")
            attributes = vars(module.get_submodule(path))
            changed.append((attributes, attribute, attributes[attribute]))
            attributes[attribute] = value
        changes.count += 1
        yield
    finally:
        for attributes, attribute, value in changed:
            attributes[attribute] = value
        changes.count += 1


def stack_module_state(models: Sequence[Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the parameters and the buffers of several modules of one class, stacked by name, for
    `vmap` over `functional_call`."""
    if len({type(m) for m in models}) != 1:
        got = " and ".join(type(m).__name__ for m in models) or "none"
        raise ArgumentError(sentence("stack_module_state", "modules of one class", got))
    if len({m.training for m in models}) != 1:
        expected, fix = "modules in one mode", "call train() or eval() on all"
        raise ArgumentError(sentence("stack_module_state", expected, "some in training mode", fix))
    parameters = [dict(m.named_parameters()) for m in models]
    buffers = [dict(m.named_buffers()) for m in models]

    def stacked(states: Sequence[Mapping[str, Tensor]], trained: bool) -> dict[str, Tensor]:
        return {
            name: stack([each[name] for each in states]).detach().requires_grad_(trained)
            for name in states[0]
        }

    return stacked(parameters, True), stacked(buffers, False)
