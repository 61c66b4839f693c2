"""`onnx` without its export: scripts import it beside their training and seldom call it."""

from __future__ import annotations

from typing import Any, NoReturn

from gradient.errors import BackendError

__all__ = ["export", "is_in_onnx_export"]


def is_in_onnx_export() -> bool:
    return False


def export(*args: Any, **options: Any) -> NoReturn:
    raise BackendError("onnx.export: there is no export to ONNX; save the weights by gradient.save")
