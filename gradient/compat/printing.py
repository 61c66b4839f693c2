"""`_tensor_str`: the settings of `set_printoptions`, and the text of a tensor's elements."""

from __future__ import annotations

from typing import Any

from gradient.tensor import Tensor
from gradient.tensor.printing import PrintOptions, _body, set_printoptions

__all__ = ["PRINT_OPTS", "set_printoptions"]

PRINT_OPTS: Any = PrintOptions


def _tensor_str(self: Tensor, indent: int) -> str:
    """The elements as they are printed, without `tensor(` and `)`; lines after the first begin with
    `indent` spaces."""
    return _body(self.numpy(force=True), self.cpu().backend, self.dtype, indent)
