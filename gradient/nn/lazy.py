"""Lazy layers, which take their number of input features from their first input."""

from __future__ import annotations

from typing import Any, ClassVar

from gradient.dtypes import DType
from gradient.errors import ShapeError, sentence
from gradient.functional.conv import Padding, Size
from gradient.nn.batchnorm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from gradient.nn.conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from gradient.nn.linear import Linear
from gradient.nn.module import Module
from gradient.nn.parameter import UninitializedBuffer, UninitializedParameter, is_uninitialized
from gradient.nn.registration import BUFFER, PARAMETER
from gradient.tensor import Tensor
from gradient.tensor.device import DeviceLike

__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazyLinear",
]


class _Lazy(Module):
    """Base of lazy layers, beside the class of the layer that they become with the first input.

    A lazy layer is made for one feature, and then its tensors whose shapes depend on the number of
    features are replaced by uninitialized ones.
    """

    cls_to_become: ClassVar[type[Any]]
    _features: ClassVar[str]
    """The name of the attribute for the number of input features."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        layer = next(base for base in cls.__mro__ if not issubclass(base, _Lazy))
        if layer is not Module and not hasattr(cls, "cls_to_become"):
            cls.cls_to_become = layer

    def reset_parameters(self) -> None:
        """Do nothing: there are no parameters yet."""

    def _wait(self, *names: str) -> None:
        """Make these parameters and buffers uninitialized."""
        setattr(self, self._features, 0)
        for name in names:
            value = getattr(self, name)
            if value is None:
                continue
            options: Any = {"device": value.device, "dtype": value.dtype}
            if self._registry[name] == PARAMETER:
                setattr(self, name, UninitializedParameter(**options))
            else:
                setattr(self, name, UninitializedBuffer(**options))

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer has no shape yet."""
        members = self._items(PARAMETER) + self._items(BUFFER)
        return any(is_uninitialized(value) for _, value in members)

    def _count(self, input: Tensor) -> int:
        """The number of features of an input."""
        raise NotImplementedError

    def _shapes(self, count: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the uninitialized tensors for this number of features, by name."""
        raise NotImplementedError

    def initialize_parameters(self, input: Tensor) -> None:
        """Give the uninitialized tensors the shapes that fit `input`, and initialise them."""
        count = self._count(input)
        waiting = self.has_uninitialized_params()
        setattr(self, self._features, count)
        if waiting:
            for name, shape in self._shapes(count).items():
                value = getattr(self, name)
                if is_uninitialized(value):
                    value.materialize(shape)
            self.cls_to_become.reset_parameters(self)

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.initialize_parameters(input)
        self.__class__ = self.cls_to_become
        return self.forward(input, *args, **kwargs)


class LazyLinear(_Lazy, Linear):
    """A `Linear` whose `in_features` are the last size of its first input."""

    _features = "in_features"

    def __init__(
        self,
        out_features: int,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(1, out_features, bias, device, dtype)
        self._wait("weight", "bias")

    def _count(self, input: Tensor) -> int:
        return input.shape[-1]

    def _shapes(self, count: int) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.out_features, count), "bias": (self.out_features,)}


class _LazyConv(_Lazy):
    _features = "in_channels"
    spatial: int
    transposed: bool

    def _count(self, input: Tensor) -> int:
        name = type(self).__name__
        if input.ndim not in (self.spatial + 1, self.spatial + 2):
            expected = f"{self.spatial + 1} or {self.spatial + 2} dimensions"
            raise ShapeError(sentence(name, expected, tuple(input.shape)))
        return input.shape[-self.spatial - 1]

    def _shapes(self, count: int) -> dict[str, tuple[int, ...]]:
        layer: Any = self
        outs, groups = layer.out_channels, layer.groups
        ends = (count, outs // groups) if self.transposed else (outs, count // groups)
        return {"weight": (*ends, *layer.kernel_size), "bias": (outs,)}


class _LazyForwardConv(_LazyConv):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        layer: Any = super()  # the layer's class, by the order of the bases
        layer.__init__(
            groups, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip
        self._wait("weight", "bias")


class LazyConv1d(_LazyForwardConv, Conv1d):
    """A `Conv1d` whose `in_channels` are those of its first input."""


class LazyConv2d(_LazyForwardConv, Conv2d):
    """A `Conv2d` whose `in_channels` are those of its first input."""


class LazyConv3d(_LazyForwardConv, Conv3d):
    """A `Conv3d` whose `in_channels` are those of its first input."""


class _LazyTransposedConv(_LazyConv):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        layer: Any = super()  # the layer's class, by the order of the bases
        layer.__init__(
            groups, out_channels, kernel_size, stride, padding, output_padding, groups, bias,
            dilation, padding_mode, device, dtype,
        )  # fmt: skip
        self._wait("weight", "bias")


class LazyConvTranspose1d(_LazyTransposedConv, ConvTranspose1d):
    """A `ConvTranspose1d` whose `in_channels` are those of its first input."""


class LazyConvTranspose2d(_LazyTransposedConv, ConvTranspose2d):
    """A `ConvTranspose2d` whose `in_channels` are those of its first input."""


class LazyConvTranspose3d(_LazyTransposedConv, ConvTranspose3d):
    """A `ConvTranspose3d` whose `in_channels` are those of its first input."""


class _LazyNorm(_Lazy):
    _features = "num_features"

    def _count(self, input: Tensor) -> int:
        layer: Any = self
        layer._check(input)
        unbatched = input.ndim == min(layer.allowed_ndim)
        return input.shape[0 if unbatched and isinstance(self, _INSTANCE_NORMS) else 1]

    def _shapes(self, count: int) -> dict[str, tuple[int, ...]]:
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (count,))


_INSTANCE_NORMS = (InstanceNorm1d, InstanceNorm2d, InstanceNorm3d)


class _LazyNormOfChannels(_LazyNorm):
    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ) -> None:
        layer: Any = super()  # the layer's class, by the order of the bases
        layer.__init__(1, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self._wait("weight", "bias", "running_mean", "running_var")


class LazyBatchNorm1d(_LazyNormOfChannels, BatchNorm1d):
    """A `BatchNorm1d` whose `num_features` are those of its first input."""


class LazyBatchNorm2d(_LazyNormOfChannels, BatchNorm2d):
    """A `BatchNorm2d` whose `num_features` are those of its first input."""


class LazyBatchNorm3d(_LazyNormOfChannels, BatchNorm3d):
    """A `BatchNorm3d` whose `num_features` are those of its first input."""


class LazyInstanceNorm1d(_LazyNormOfChannels, InstanceNorm1d):
    """An `InstanceNorm1d` whose `num_features` are those of its first input."""


class LazyInstanceNorm2d(_LazyNormOfChannels, InstanceNorm2d):
    """An `InstanceNorm2d` whose `num_features` are those of its first input."""


class LazyInstanceNorm3d(_LazyNormOfChannels, InstanceNorm3d):
    """An `InstanceNorm3d` whose `num_features` are those of its first input."""
