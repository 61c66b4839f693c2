"""Uninitialized MLX arrays, for bytes that arrive later."""

from __future__ import annotations

import io
from typing import Any

import mlx.core as mx
import numpy as np


class _Header(io.RawIOBase):
    """A .npy file with a header only: reading its values leaves the target memory unchanged."""

    def __init__(self, dtype: np.dtype, shape: tuple[int, ...]):
        super().__init__()
        header = io.BytesIO()
        of = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, of)
        self.header, self.at = header.getvalue(), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset if whence == io.SEEK_SET else self.at + offset
        return self.at

    def readinto(self, target: Any) -> int:
        part = self.header[self.at : self.at + len(target)]
        target[: len(part)] = part
        self.at += len(target)
        return len(target)


def uninitialized(dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    """An array with arbitrary values. (MLX's `empty` writes zeros, which takes half the time of a
    copy; `load` allocates memory and then fills it from the file.)"""
    file: Any = _Header(dtype, shape)
    x = mx.load(file, format="npy", stream=mx.cpu)
    mx.eval(x)
    return x
