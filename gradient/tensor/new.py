"""Make new tensors of a tensor's dtype and device: methods of Tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from gradient.autograd.out_argument import creation_op_like
from gradient.autograd.variable import wrap
from gradient.tensor.arithmetic import Arithmetic
from gradient.tensor.creation import empty, full, ones, zeros
from gradient.tensor.creation_like import backend_like
from gradient.tensor.from_data import tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradient.autograd.variable import Number
    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor
    from gradient.tensor.device import DeviceLike

    class _Like(TypedDict):
        """The properties that a new tensor takes from another one."""

        dtype: DTypeLike
        device: DeviceLike


class NewLike(Arithmetic):
    """Methods of Tensor that make another one, by default of the same dtype and device."""

    __slots__ = ()

    @creation_op_like
    def new_tensor(
        self,
        data: Any,
        *,
        dtype: DTypeLike | None = None,
        device: DeviceLike = None,
        requires_grad: bool = False,
    ) -> Tensor:
        """Make a tensor with a copy of `data`, by default of this dtype and on this device."""
        like = self._like(dtype, device)
        return self._beside(tensor(data, **like, requires_grad=requires_grad), device)

    @creation_op_like
    def new_empty(
        self,
        *sizes: int | Sequence[int],
        size: Sequence[int] | None = None,
        dtype: DTypeLike | None = None,
        device: DeviceLike = None,
        requires_grad: bool = False,
    ) -> Tensor:
        """Make an uninitialised tensor of this size, by default of this dtype and device."""
        like = self._like(dtype, device)
        made = empty(*sizes, size=size, **like, requires_grad=requires_grad)
        return self._beside(made, device)

    @creation_op_like
    def new_zeros(
        self,
        *sizes: int | Sequence[int],
        size: Sequence[int] | None = None,
        dtype: DTypeLike | None = None,
        device: DeviceLike = None,
        requires_grad: bool = False,
    ) -> Tensor:
        """Zeros of this size, by default of this dtype and on this device."""
        like = self._like(dtype, device)
        made = zeros(*sizes, size=size, **like, requires_grad=requires_grad)
        return self._beside(made, device)

    @creation_op_like
    def new_ones(
        self,
        *sizes: int | Sequence[int],
        size: Sequence[int] | None = None,
        dtype: DTypeLike | None = None,
        device: DeviceLike = None,
        requires_grad: bool = False,
    ) -> Tensor:
        """Ones of this size, by default of this dtype and on this device."""
        like = self._like(dtype, device)
        made = ones(*sizes, size=size, **like, requires_grad=requires_grad)
        return self._beside(made, device)

    @creation_op_like
    def new_full(
        self,
        size: Sequence[int],
        fill_value: Tensor | Number,
        *,
        dtype: DTypeLike | None = None,
        device: DeviceLike = None,
        requires_grad: bool = False,
    ) -> Tensor:
        """Make a tensor of this size filled with `fill_value`, by default of this dtype and
        device."""
        like = self._like(dtype, device)
        return self._beside(full(size, fill_value, **like, requires_grad=requires_grad), device)

    def new(self, *data: Any, size: Any = None, device: DeviceLike = None) -> Tensor:
        """An old form of `new_tensor` (given a sequence), `new_empty` (given sizes) and
        `view_as` (given a Tensor, whose memory the result shares)."""
        from gradient.tensor.old_forms import constructed

        return constructed("new", data, size, **self._like(None, device))

    def _beside(self, made: Tensor, device: DeviceLike) -> Tensor:
        """Return a new tensor; in `vmap` one for each sample, so that it can be written to."""
        if self.backend.reads_values or backend_like(self, device) is not self.backend:
            return made
        out = wrap(self.backend.own(made.array), self.backend)
        return out.requires_grad_(made.requires_grad)

    def _like(self, dtype: DTypeLike | None, device: DeviceLike) -> _Like:
        return {
            "dtype": self.dtype if dtype is None else dtype,
            "device": self.device if device is None else device,
        }
