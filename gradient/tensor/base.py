"""A tensor's properties: shape, dtype, device. The base class of Tensor's mixins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, overload

from gradient.autograd.variable import Variable
from gradient.dtypes import BY_NUMPY, DType
from gradient.tensor.arguments import Size, axis_of, known_size, known_sizes
from gradient.tensor.device import Device, known_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradient.tensor.arguments import DTypeLike
    from gradient.tensor.core import Tensor
    from gradient.tensor.device import DeviceLike
    from gradient.tensor.layout import layout as Layout  # noqa: N812
    from gradient.tensor.layout import memory_format as MemoryFormat  # noqa: N812


class TensorBase(Variable):
    """Properties of the array, and declarations of methods that mixins call on each other."""

    __slots__ = ()

    if TYPE_CHECKING:
        requires_grad: bool

        def to(
            self,
            *args: DTypeLike | DeviceLike | Variable | bool | None,
            dtype: DTypeLike | None = None,
            device: DeviceLike = None,
            non_blocking: bool = False,
            copy: bool = False,
            memory_format: object = None,
        ) -> Tensor: ...
        def clone(self, *, memory_format: object = None) -> Tensor: ...
        def contiguous(self, memory_format: object = None) -> Tensor: ...
        def detach(self) -> Tensor: ...
        def item(self) -> Any: ...
        def reshape(
            self, *size: int | Sequence[int], shape: Sequence[int] | None = None
        ) -> Tensor: ...
        def expand(
            self, *sizes: int | Sequence[int], size: Sequence[int] | None = None
        ) -> Tensor: ...
        def unsqueeze(self, dim: int) -> Tensor: ...
        def movedim(
            self, source: int | Sequence[int], destination: int | Sequence[int]
        ) -> Tensor: ...
        def permute(
            self, *order: int | Sequence[int], dims: Sequence[int] | None = None
        ) -> Tensor: ...
        def cumsum(self, dim: int, *, dtype: DTypeLike | None = None) -> Tensor: ...
        def __getitem__(self, key: Any) -> Tensor: ...
        def new_empty(self, *sizes: int | Sequence[int]) -> Tensor: ...
        def new_tensor(self, data: Any) -> Tensor: ...

    @property
    def shape(self) -> Size:
        """The sizes of the dimensions."""
        shape = self.array.shape
        try:
            return known_sizes[shape]
        except KeyError:
            return known_size(shape)

    @overload
    def size(self, dim: None = None) -> Size: ...
    @overload
    def size(self, dim: int) -> int: ...
    def size(self, dim: int | None = None) -> Size | int:
        """Return the shape, or the size of one dimension."""
        if dim is None:
            return self.shape
        shape = self.array.shape
        try:
            return shape[axis_of(dim, len(shape)) if dim is True or dim is False else dim]
        except (IndexError, TypeError):
            return shape[axis_of(dim, len(shape))]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.array.shape)

    def dim(self) -> int:
        """The number of dimensions."""
        return len(self.array.shape)

    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.array.shape)

    nelement = numel

    @property
    def dtype(self) -> DType:
        """The type of the elements."""
        return BY_NUMPY[self.array.dtype]

    @property
    def device(self) -> Device:
        """The device of the memory."""
        return known_device(self.backend.device)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.array.dtype.itemsize

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.array.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """The number of bytes of all elements; for a packed tensor, of its blocks."""
        return self.dtype.nbytes(self.array.shape)

    @property
    def is_cuda(self) -> bool:
        """Whether the memory is on an NVIDIA GPU."""
        return self.backend.device.startswith("cuda")

    @property
    def is_cpu(self) -> bool:
        """Whether the tensor is on the CPU."""
        return self.backend.device == "cpu"

    @property
    def is_meta(self) -> bool:
        """Whether the tensor has no values, only a shape and a dtype."""
        return self.backend.device == "meta"

    is_mkldnn = is_mps = is_nested = is_quantized = is_sparse = is_sparse_csr = is_xpu = False
    """PyTorch's kinds of tensors that do not exist here."""

    def is_floating_point(self) -> bool:
        """Whether the dtype is a floating-point one."""
        return self.dtype.is_floating_point

    @property
    def layout(self) -> Layout:
        """The memory layout: always `gradient.strided`."""
        from gradient.tensor.layout import strided

        return strided

    def is_contiguous(self, memory_format: MemoryFormat | None = None) -> bool:
        """Whether the elements are in row-major order without gaps; for `channels_last`, with the
        channel dimension as the last."""
        if memory_format is not None:
            from gradient.tensor.layout import DIMENSIONS, check, order_in

            check("is_contiguous", memory_format)
            n = len(self.array.shape)
            if DIMENSIONS.get(memory_format, n) != n:
                return False
            if (order := order_in("is_contiguous", memory_format, self.array.shape)) is not None:
                return self.permute(order).is_contiguous()
        flags = getattr(self.array, "flags", None)
        return True if flags is None else bool(flags.c_contiguous)
