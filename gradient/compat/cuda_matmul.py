"""`backends.cuda.matmul`: whether a GPU may round the factors of float32 products to TF32.

`allow_tf32` is another name of `set_float32_matmul_precision`, as it is in PyTorch.
"""

from __future__ import annotations

import sys
from types import ModuleType

from gradient.backends.matmul_precision import allows_tf32, set_float32_matmul_precision

__all__ = ["allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction"]

allow_fp16_reduced_precision_reduction = allow_bf16_reduced_precision_reduction = False
"""Products of 16-bit floats are added up in float32 whatever these say."""


class Switches(ModuleType):
    """A module one of whose names is a setting that lies elsewhere."""

    @property
    def allow_tf32(self) -> bool:
        return allows_tf32()

    @allow_tf32.setter
    def allow_tf32(self, value: bool) -> None:
        set_float32_matmul_precision("high" if value else "highest")


sys.modules[__name__].__class__ = Switches
