"""Tensors made under `inference_mode`, which no graph may keep.

Nothing notes what is written to them there, so outside of it they are not written, nor saved for a
backward pass, as in PyTorch. Ops on them give ordinary tensors, views of them share the mark. Until
`inference_mode` is first used none of this is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gradient.autograd.modes import inference_used, mode
from gradient.autograd.variable import Variable, wrap
from gradient.errors import AutogradError

FIX = "clone() it first"


def is_inference(tensor: Any) -> bool:
    return bool(inference_used) and getattr(tensor, "inference", False)


def alias(tensor: Any, array: Any) -> Any:
    """A tensor around `array`, which is memory of `tensor`, outside the graph."""
    out = wrap(array, tensor.backend)
    if inference_used:
        out.inference = is_inference(tensor)
    return out


def refuse_write(tensor: Any, name: str) -> None:
    """Raise if `name` is about to write to a tensor made under inference_mode, outside of it."""
    if is_inference(tensor) and not mode.inference:
        raise AutogradError(
            f"{name}: a tensor made under inference_mode cannot be written outside of it; {FIX}"
        )


def refuse_leaf(tensor: Any) -> None:
    """Raise if a tensor made under inference_mode is about to require a gradient outside of it."""
    if is_inference(tensor) and not mode.inference:
        raise AutogradError(
            "requires_grad: a tensor made under inference_mode cannot require a gradient outside "
            f"of it; {FIX}"
        )


def refuse_saved(saved: Iterable[Any], name: str, inputs: tuple[Any, ...]) -> None:
    """Raise if the values that `name` saves hold one of `inputs`, or its array, that was made under
    inference_mode."""
    made = [t for t in inputs if isinstance(t, Variable) and is_inference(t)]
    if not made:
        return
    kept = {id(v) for value in saved for v in (value if isinstance(value, tuple) else (value,))}
    if any(id(t) in kept or id(t.array) in kept for t in made):
        raise AutogradError(
            f"{name}: a tensor made under inference_mode cannot be saved for the backward pass; "
            f"{FIX}"
        )
