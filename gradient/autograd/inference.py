"""Tensors made under `inference_mode`, which no graph may save.

In-place changes of them are not tracked. So, as in PyTorch, they cannot be changed in place outside
of the mode, nor saved for a backward pass. Ops on them return ordinary tensors; their views are
inference tensors too. Before the first use of `inference_mode` none of this is checked.
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
    """Make a tensor outside the graph of `array`, which is memory of `tensor`."""
    out = wrap(array, tensor.backend)
    if inference_used:
        out.inference = is_inference(tensor)
    return out


def refuse_write(tensor: Any, name: str) -> None:
    """Raise if `name` would write, outside inference_mode, to a tensor made under it."""
    if is_inference(tensor) and not mode.inference:
        raise AutogradError(
            f"{name}: a tensor made under inference_mode cannot be written outside of it; {FIX}"
        )


def refuse_leaf(tensor: Any) -> None:
    """Raise if a tensor made under inference_mode would require a gradient outside of it."""
    if is_inference(tensor) and not mode.inference:
        raise AutogradError(
            "requires_grad: a tensor made under inference_mode cannot require a gradient outside "
            f"of it; {FIX}"
        )


def refuse_saved(saved: Iterable[Any], name: str, inputs: tuple[Any, ...]) -> None:
    """Raise if `name` would save one of `inputs`, or its array, that was made under
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
