"""`torch.types`: names that annotations use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from gradient.dtypes import DType
from gradient.tensor import Device as _Device
from gradient.tensor import Size, Tensor

__all__ = ["Device", "FileLike", "Number", "Storage", "_bool", "_device", "_dtype", "_float",
           "_int", "_size"]  # fmt: skip

Number: TypeAlias = int | float | bool
Device: TypeAlias = _Device | str | int | None
FileLike: TypeAlias = Any
Storage: TypeAlias = Any
_bool, _float, _int, _dtype, _device = bool, float, int, DType, _Device
_size: TypeAlias = Size | Sequence[int]
_Number, _TensorOrTensors = Number, Tensor | Sequence[Tensor]
