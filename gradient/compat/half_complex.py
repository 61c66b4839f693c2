"""`complex32`, for programs that compare dtypes with it: no tensor has it."""

from __future__ import annotations

from typing import NoReturn

from gradient.dtypes import DType
from gradient.errors import TypeMismatch


class HalfComplex(DType):
    """A dtype of which nothing can be made."""

    __slots__ = ()

    def __init__(self) -> None:
        self.name, self.kind, self.bits = "complex32", "complex", 32

    @property
    def numpy(self) -> NoReturn:  # type: ignore[override]
        raise TypeMismatch("complex32: complex64 is the narrowest complex dtype")


complex32 = HalfComplex()
