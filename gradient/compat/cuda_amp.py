"""`cuda.amp`, the name of `amp` for GPUs before it had others."""

from __future__ import annotations

from gradient import amp
from gradient.amp import GradScaler
from gradient.dtypes import DType, float16

__all__ = ["GradScaler", "autocast"]


class autocast(amp.autocast):  # noqa: N801 (PyTorch's name)
    """`amp.autocast("cuda")`"""

    def __init__(
        self, enabled: bool = True, dtype: DType | None = float16, cache_enabled: bool = True
    ) -> None:
        super().__init__("cuda", dtype, enabled, cache_enabled)
