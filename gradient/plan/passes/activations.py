"""Linear layers with a bias and the activation after them as one call."""

from __future__ import annotations

from dataclasses import replace

from gradient.plan.calls import BOUNDARY, Call, Ref
from gradient.plan.passes.counts import uses_of
from gradient.plan.plan import Plan

__all__ = ["with_activations"]

LINEAR, WITH_ACTIVATION = "linear", "linear_activation"


def with_activations(plan: Plan, activations: frozenset[str]) -> Plan:
    """Join a linear layer and its activation, if nothing else reads the layer's result.

    `activations` are those of `Backend.linear_activation` that the backend has. Only the activation
    is then rounded, so 16-bit results differ from eager ones by a rounding.
    """
    uses = uses_of(plan)
    layers: dict[Ref, int] = {}  # by result: linear layers that may end in an activation
    kept: list[Call] = []
    for call in plan.calls:
        name = _activation(call)
        at = layers.get(call.args[0]) if name in activations else None
        if at is not None:
            linear = kept[at]
            args = (*linear.args, name)
            kept[at] = replace(call, op=WITH_ACTIVATION, args=args, options={}, pieces=())
            del layers[linear.out]
            continue
        if call.op == BOUNDARY:
            layers.clear()
        elif call.op == LINEAR and _has_bias(call) and uses[call.out] == 1:
            layers[call.out] = len(kept)
        kept.append(call)
    return plan.with_calls(kept)


def _activation(call: Call) -> str:
    """The name of an activation for `Backend.linear_activation`; "" for other calls."""
    if call.numbers or call.options or not call.args or type(call.args[0]) is not Ref:
        return ""
    if call.op == "relu" and len(call.args) == 1:
        return "relu"
    return "gelu_tanh" if call.op == "gelu" and call.args[1:] == ("tanh",) else ""


def _has_bias(call: Call) -> bool:
    return not call.options and len(call.args) == 3 and all(type(x) is Ref for x in call.args)
