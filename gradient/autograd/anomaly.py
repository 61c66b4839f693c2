"""Anomaly detection: find the op whose gradient is NaN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradient.autograd.modes import mode, recording
from gradient.autograd.outputs import OutputGrad
from gradient.autograd.variable import Variable
from gradient.errors import AutogradError, TypeMismatch, sentence

if TYPE_CHECKING:
    from gradient.autograd.node import Node

__all__ = ["detect_anomaly", "set_detect_anomaly"]


class set_detect_anomaly:  # noqa: N801
    """Store the stack of each op in the forward pass. The backward pass stops at the first NaN
    gradient, and its error shows the stack of the op's forward call. Slow: for debugging."""

    def __init__(self, mode: bool, check_nan: bool = True):
        if mode is not True and mode is not False:
            raise TypeMismatch(sentence("set_detect_anomaly", "True or False", repr(mode)))
        self._enter(mode, check_nan)

    def _enter(self, enabled: bool, check_nan: bool) -> None:
        self._before = (mode.anomaly, mode.check_nan, mode.grad)
        mode.anomaly, mode.check_nan = enabled, check_nan
        if mode.grad:
            mode.grad = recording()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        mode.anomaly, mode.check_nan, mode.grad = self._before


class detect_anomaly(set_detect_anomaly):  # noqa: N801
    """Turn anomaly detection on in a `with` block, as `set_detect_anomaly(True)` does."""

    def __init__(self, check_nan: bool = True):
        super().__init__(True, check_nan)


def check_nan(node: Node, results: Sequence[Any]) -> None:
    """Raise if one of the gradients that a node computed has a NaN."""
    for i, result in enumerate(results or ()):
        if result is None or isinstance(result, (OutputGrad, list)):
            continue
        array = result.array if isinstance(result, Variable) else result
        backend = node.backend
        if bool(backend.to_numpy(backend.any(backend.isnan(array)))):
            raise AutogradError(f"backward: {node.name()} returned nan values in its gradient {i}")


def with_trace(node: Node, error: AutogradError) -> AutogradError:
    """Add the stack of the node's forward call to the error (under anomaly detection)."""
    return type(error)(f"{error}\n{trace_of(node)}")


def trace_of(node: Node) -> str:
    """Return the stack of the node's forward call, as text."""
    lines = "".join(reversed(node.stack.format()))
    return f"The op was called here (innermost last):\n{lines}"
