"""`autograd.forward_ad`: dual tensors, which have a tangent; results of ops on them have one too.

>>> import gradient.autograd.forward_ad as fwAD
>>> with fwAD.dual_level():
...     x = fwAD.make_dual(gradient.tensor([2.0, 3.0]), gradient.tensor([1.0, 0.0]))
...     primal, tangent = fwAD.unpack_dual(x * x)
>>> tangent
tensor([4., 0.])

This is not forward mode internally: `unpack_dual` computes the derivative of the graph in the
direction of the tangents by two backward passes, like `func.jvp`. So a dual tensor requires a
gradient, and results computed under `no_grad` have no tangent.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from gradient.autograd import engine, inference_mode
from gradient.autograd.modes import enable_grad
from gradient.errors import ArgumentError, AutogradError, ShapeError, TypeMismatch, sentence
from gradient.func.derivatives import detached_from
from gradient.tensor import Tensor
from gradient.tensor.creation_like import zeros_like

__all__ = [
    "UnpackedDualTensor",
    "dual_level",
    "enter_dual_level",
    "exit_dual_level",
    "make_dual",
    "unpack_dual",
]


class UnpackedDualTensor(NamedTuple):
    primal: Tensor
    tangent: Tensor | None


class _Level(threading.local):
    duals: list[tuple[Tensor, Tensor]] | None = None
    """The dual tensors of this level with their tangents; None outside of a level."""


_level = _Level()


def enter_dual_level() -> int:
    """Begin a level; return 0, its number. Levels cannot be nested (`func.jvp` can)."""
    if _level.duals is not None:
        got = "one within another"
        raise AutogradError(sentence("dual_level", "one level at a time", got, "use func.jvp"))
    _level.duals = []
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """End the level; its tensors lose their tangents."""
    if _level.duals is None or level not in (None, 0):
        raise AutogradError(sentence("exit_dual_level", "the level that was entered", level))
    _level.duals = None


class dual_level:  # noqa: N801 (PyTorch's name)
    """A context manager inside which dual tensors can be made and unpacked."""

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *exc: object) -> None:
        exit_dual_level()


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """Make a dual tensor with the same memory and a tangent, the direction of the derivative.

    Raises:
        AutogradError: there is no level.
        ShapeError: the tangent has another shape.
    """
    for name, value in (("tensor", tensor), ("tangent", tangent)):
        if not isinstance(value, Tensor):
            raise TypeMismatch(sentence("make_dual", f"a Tensor as {name}", type(value).__name__))
        if not (value.is_floating_point() or value.is_complex()):
            expected = f"a floating-point or complex {name}"
            raise ArgumentError(sentence("make_dual", expected, value.dtype))
    if _level.duals is None:
        raise AutogradError(sentence("make_dual", "a level: with dual_level():", "none"))
    if tuple(tangent.shape) != tuple(tensor.shape):
        expected = f"a tangent of shape {tuple(tensor.shape)}"
        raise ShapeError(sentence("make_dual", expected, tuple(tangent.shape)))
    with enable_grad():
        tracked = tensor.requires_grad
        made: Tensor = tensor.view_as(tensor) if tracked else tensor.detach().requires_grad_()
    _level.duals.append((made, tangent))
    return made


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """Return (primal, tangent) of a dual tensor, or of a result of dual tensors. The tangent is
    None for other tensors, and outside of a level."""
    if not isinstance(tensor, Tensor):
        raise TypeMismatch(sentence("unpack_dual", "a Tensor", type(tensor).__name__))
    duals = _level.duals or []
    for made, tangent in duals:
        if made is tensor:
            return UnpackedDualTensor(tensor.detach(), tangent)
    if tensor.node is None or not duals:
        return UnpackedDualTensor(tensor, None)
    with inference_mode(False), enable_grad():
        # The gradient is linear in the cotangent; its derivative with respect to it is the
        # transpose.
        cotangent = zeros_like(tensor.detach()).requires_grad_()
        through = engine.grad(
            [tensor], [made for made, _ in duals], [cotangent],
            create_graph=True, allow_unused=True,
        )  # fmt: skip
        pairs = [(g, t) for g, (_, t) in zip(through, duals, strict=True) if g is not None]
        found: Any = None
        moving = [(g, t) for g, t in pairs if g.requires_grad]
        if moving:
            (found,) = engine.grad(
                [g for g, _ in moving], [cotangent], [t for _, t in moving],
                create_graph=True, allow_unused=True,
            )  # fmt: skip
    if not pairs:
        return UnpackedDualTensor(tensor, None)
    tangent = zeros_like(tensor.detach()) if found is None else found
    return UnpackedDualTensor(*(_without(t, duals, cotangent) for t in (tensor, tangent)))


def _without(value: Tensor, duals: list[tuple[Tensor, Tensor]], cotangent: Tensor) -> Tensor:
    """Detach the value if its graph leads only to tensors made here."""
    own = {made.node for made, _ in duals if made.is_leaf} | {cotangent.node}
    kept: Tensor = detached_from(own, value)
    return kept
