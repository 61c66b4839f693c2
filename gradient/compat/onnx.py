"""`onnx` without its export: scripts import it beside their training and seldom call it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from gradient.errors import BackendError

__all__ = [
    "ONNXProgram",
    "OperatorExportTypes",
    "TrainingMode",
    "export",
    "is_in_onnx_export",
    "parse_args",
    "register_custom_op_symbolic",
    "unregister_custom_op_symbolic",
]

F = TypeVar("F", bound=Callable[..., Any])


class TrainingMode(enum.IntEnum):
    """An option of `export`."""

    EVAL = 0
    PRESERVE = 1
    TRAINING = 2


class OperatorExportTypes(enum.IntEnum):
    """An option of `export`."""

    ONNX = 0
    ONNX_ATEN = 1
    ONNX_ATEN_FALLBACK = 2
    ONNX_FALLTHROUGH = 3


class ONNXProgram:
    """What `export` would return."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        export()


def is_in_onnx_export() -> bool:
    return False


def export(*args: Any, **options: Any) -> NoReturn:
    raise BackendError("onnx.export: there is no export to ONNX; save the weights by gradient.save")


def parse_args(*arg_descriptors: str) -> Callable[[F], F]:
    """Decorator of a function for `export`, which stays what it is."""
    return lambda fn: fn


def register_custom_op_symbolic(symbolic_name: str, symbolic_fn: Any, opset_version: int) -> None:
    """Nothing to register: there is no export."""


def unregister_custom_op_symbolic(symbolic_name: str, opset_version: int) -> None:
    """Nothing was registered."""
