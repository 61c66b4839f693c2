"""Complex tensors: their parts, conjugates and angles; methods of Tensor, and functions."""

from __future__ import annotations

import builtins
import math
from typing import TYPE_CHECKING, Any

from gradient.autograd.autocast import autocasts
from gradient.autograd.out_argument import takes_out
from gradient.autograd.variable import Variable
from gradient.dtypes import float16
from gradient.errors import DTypeError, ShapeError, TypeMismatch, sentence
from gradient.ops import comparison, complex_numbers, elementwise, trigonometry
from gradient.ops import index as ops
from gradient.tensor.arguments import tensor_of
from gradient.tensor.base import TensorBase
from gradient.tensor.views import view_of

if TYPE_CHECKING:
    from gradient.tensor.core import Tensor

__all__ = [
    "complex",
    "imag",
    "is_complex",
    "is_conj",
    "is_neg",
    "polar",
    "real",
    "view_as_complex",
    "view_as_real",
]


class ComplexNumbers(TensorBase):
    """real, imag, conj, angle and similar methods, also for real tensors."""

    __slots__ = ()

    def is_complex(self) -> bool:
        """Whether the dtype is a complex one."""
        return self.array.dtype.kind == "c"

    def is_conj(self) -> bool:
        """False: a conjugate is computed, not noted."""
        return False

    def is_neg(self) -> bool:
        """False: a negation is computed, not noted."""
        return False

    def cfloat(self) -> Tensor:
        """As complex64."""
        return self.to(dtype="complex64")

    def cdouble(self) -> Tensor:
        """As complex128."""
        return self.to(dtype="complex128")

    @property
    def real(self: Any) -> Tensor:
        """The real part, as a view; a real tensor returns itself."""
        return view_as_real(self)[..., 0] if self.is_complex() else self

    @real.setter
    def real(self: Any, value: Any) -> None:
        self.real.copy_(value)

    @property
    def imag(self: Any) -> Tensor:
        """The imaginary part of a complex tensor, as a view."""
        return view_as_real(self, "imag")[..., 1]

    @imag.setter
    def imag(self: Any, value: Any) -> None:
        self.imag.copy_(value)

    def conj(self: Any) -> Tensor:
        """The complex conjugate of self, elementwise; of a real tensor, itself."""
        return complex_numbers.conj(self) if self.is_complex() else self

    def conj_physical(self: Any) -> Tensor:
        """As `conj`."""
        return self.conj()

    def resolve_conj(self: Any) -> Tensor:
        """Return self: conjugation is never lazy here."""
        return self

    def resolve_neg(self: Any) -> Tensor:
        """Return self: negation is never lazy here."""
        return self

    def angle(self: Any) -> Tensor:
        """The angle of self in radians, elementwise, from -pi to pi; of real numbers 0, or pi below
        0. The derivative is 0 at 0, NaN stays NaN. Integers and bools are converted to the default
        float dtype."""
        if self.is_complex():
            x, y = _parts(self)
            return trigonometry.atan2(y, x)
        x = self if self.is_floating_point() else self.float()
        own = x.detach()
        zeros = x.masked_fill(own == own, 0.0).masked_fill(own != own, math.nan)
        return zeros.masked_fill(own < 0, math.pi)

    def sgn(self: Any) -> Tensor:
        """self / |self|, elementwise, and 0 at 0; of real numbers `sign`."""
        if not self.is_complex():
            return elementwise.sign(self)
        size = elementwise.abs(self)
        zero = (size == 0).array
        quotient = self / comparison.where(1.0, size, condition=zero)
        return comparison.where(0.0, quotient, condition=zero)

    @property
    def H(self: Any) -> Tensor:  # noqa: N802 (PyTorch's name)
        """The conjugate transpose of a matrix."""
        if self.ndim not in (0, 2):
            raise TypeMismatch(sentence("H", "a matrix", f"{self.ndim} dimensions", "use mH"))
        return (self.transpose(0, 1) if self.ndim else self).conj()

    @property
    def mH(self: Any) -> Tensor:  # noqa: N802
        """The conjugate transpose of the last two dimensions."""
        return self.mT.conj()

    def adjoint(self) -> Tensor:
        """The conjugate transpose of the last two dimensions."""
        return self.mH

    def __complex__(self) -> builtins.complex:
        return builtins.complex(self.item())


def _parts(x: Any) -> tuple[Tensor, Tensor]:
    """Return the real and the imaginary part, without recording them as views."""
    both = complex_numbers.view_as_real(x)
    return ops.getitem(both, index=(..., 0)), ops.getitem(both, index=(..., 1))


def view_as_real(input: Tensor, _caller: str = "view_as_real") -> Tensor:
    """View a complex tensor (...) as real and imaginary parts (..., 2), in the same memory.

    Raises:
        DTypeError: `input` is real.
    """
    if tensor_of(_caller, input).array.dtype.kind != "c":
        raise DTypeError(sentence(_caller, "a complex tensor", input.dtype))
    return view_of(input, complex_numbers.view_as_real(input), complex_numbers.view_as_real, {})


@autocasts("float32_on_cpu")
def view_as_complex(input: Tensor) -> Tensor:
    """View real and imaginary parts (..., 2) as a complex tensor (...), in the same memory.

    `input` is float32 or float64. The 2 elements of its last dimension are neighbours in memory.

    Raises:
        DTypeError: `input` has another dtype.
        ShapeError: the last dimension is not of size 2, or the strides do not fit.
    """
    _refuse_halves("view_as_complex", tensor_of("view_as_complex", input))
    shape = input.array.shape
    if not shape or shape[-1] != 2:
        expected = "a last dimension of size 2"
        raise ShapeError(sentence("view_as_complex", expected, f"shape {tuple(shape)}"))
    steps = getattr(input.array, "strides", None) if input.numel() else None
    width = input.array.dtype.itemsize
    if steps is not None and (steps[-1] != width or any(s % (2 * width) for s in steps[:-1])):
        raise ShapeError(
            sentence(
                "view_as_complex",
                "the parts of each number side by side in memory (a last stride of 1, even others)",
                f"strides {tuple(s // width for s in steps)}",
                "call .contiguous() first",
            )
        )
    made = complex_numbers.view_as_complex(input)
    return view_of(input, made, complex_numbers.view_as_complex, {})


@takes_out
def complex(real: Tensor, imag: Tensor) -> Tensor:
    """real + i imag, broadcast: complex64 of two float32 tensors, complex128 of float64.

    Raises:
        DTypeError: they are of other dtypes, or not of one.
    """
    _check_parts("complex", real=real, imag=imag)
    return complex_numbers.from_parts(real, imag)


@autocasts("float32_on_cpu")
@takes_out
def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """abs cos(angle) + i abs sin(angle): complex64 of two float32 tensors, complex128 of float64.

    Raises:
        DTypeError: they are of other dtypes, or not of one.
    """
    _check_parts("polar", abs=abs, angle=angle)
    if abs.array.dtype != angle.array.dtype:
        expected = f"angle of the dtype of abs, {abs.dtype}"
        raise DTypeError(sentence("polar", expected, angle.dtype, "cast one with .to()"))
    return complex_numbers.from_parts(abs * trigonometry.cos(angle), abs * trigonometry.sin(angle))


def _check_parts(caller: str, **parts: Any) -> None:
    for name, part in parts.items():
        if not isinstance(part, Variable):
            raise TypeMismatch(sentence(caller, f"a Tensor as {name}", type(part).__name__))
        _refuse_halves(caller, part)


def _refuse_halves(caller: str, x: Any) -> None:
    if x.array.dtype.kind != "f" or x.array.dtype == float16.numpy:
        raise DTypeError(sentence(caller, "float32 or float64", x.dtype, "cast with .float()"))


def real(input: Tensor) -> Tensor:
    """The real part: a view. Of a real tensor, itself."""
    return tensor_of("real", input).real


def imag(input: Tensor) -> Tensor:
    """The imaginary part of a complex tensor: a view."""
    return tensor_of("imag", input).imag


def is_complex(input: Tensor) -> bool:
    """Whether the dtype of `input` is a complex one."""
    return tensor_of("is_complex", input).is_complex()


def is_conj(input: Tensor) -> bool:
    """False: a conjugate is computed, not noted."""
    return tensor_of("is_conj", input).is_conj()


def is_neg(input: Tensor) -> bool:
    """False: a negation is computed, not noted."""
    return tensor_of("is_neg", input).is_neg()
