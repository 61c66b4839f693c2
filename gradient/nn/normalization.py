"""LayerNorm, RMSNorm, GroupNorm, LocalResponseNorm: norms without running statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient import functional as F
from gradient.dtypes import DType
from gradient.errors import ArgumentError, sentence
from gradient.nn import init
from gradient.nn.module import Module
from gradient.nn.parameter import Parameter
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of, size_argument
from gradient.tensor.creation import empty
from gradient.tensor.device import DeviceLike

__all__ = ["GroupNorm", "LayerNorm", "LocalResponseNorm", "RMSNorm"]


class LayerNorm(Module):
    """`(x - mean) / sqrt(var + eps) * weight + bias` over the last dimensions (Ba et al. 2016).

    The input is (..., *normalized_shape), and so is the result. `normalized_shape` holds the sizes
    of the last dimensions (an int: one dimension). The variance has no Bessel correction.
    """

    _shown = ("=normalized_shape", "eps", "elementwise_affine", "bias")
    weight: Parameter  # or None
    bias: Parameter  # or None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _sizes(self, normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        has_bias = elementwise_affine and bias
        add_affine(self, self.normalized_shape, elementwise_affine, has_bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0."""
        reset_affine(self)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(Module):
    """`x / sqrt(mean(x^2) + eps) * weight` over the last dimensions (Zhang and Sennrich 2019).

    The input is (..., *normalized_shape), and so is the result. `eps=None` is the machine epsilon
    of the dtype of the computation: float32 for 16-bit inputs.
    """

    _shown = ("=normalized_shape", "eps", "elementwise_affine")

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _sizes(self, normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        if elementwise_affine:
            self.weight = Parameter(empty(self.normalized_shape, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class GroupNorm(Module):
    """Normalises each of `num_groups` groups of channels of (N, C, ...) (Wu and He 2018).

    `y = (x - mean) / sqrt(var + eps) * weight + bias`, where mean and var are those of one group of
    one sample, and weight and bias (C,) belong to channels.

    Raises:
        ArgumentError: `num_groups` does not divide `num_channels`.
    """

    _shown = ("=num_groups", "=num_channels", "eps", "affine", "bias")
    weight: Parameter  # or None
    bias: Parameter  # or None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        size_argument("GroupNorm", "num_channels", num_channels)
        if int_of("GroupNorm", "num_groups", num_groups) < 1:
            raise ArgumentError(sentence("GroupNorm", "num_groups of at least 1", num_groups))
        if num_channels % num_groups:
            raise ArgumentError(
                f"GroupNorm: num_channels {num_channels} is not divisible by num_groups "
                f"{num_groups}"
            )
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps, self.affine = eps, affine
        add_affine(self, (num_channels,), affine, affine and bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0."""
        reset_affine(self)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class LocalResponseNorm(Module):
    """`x / (k + alpha * mean(x^2))^beta` for (N, C, ...); the mean is over `size` neighbouring
    channels (Krizhevsky et al. 2012, section 3.3)."""

    _shown = ("=size", "alpha", "beta", "k")

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)


def _sizes(layer: Module, shape: int | Sequence[int]) -> tuple[int, ...]:
    """`normalized_shape` as a tuple."""
    each = shape if isinstance(shape, Sequence) and not isinstance(shape, str) else (shape,)
    name = type(layer).__name__
    return tuple(size_argument(name, "normalized_shape", size) for size in each)


def add_affine(
    module: Any,
    shape: tuple[int, ...],
    weight: bool,
    bias: bool,
    device: DeviceLike,
    dtype: DType | None,
) -> None:
    """Register the weight and bias of a norm; one that is absent is None."""
    for name, present in (("weight", weight), ("bias", bias)):
        value = Parameter(empty(shape, device=device, dtype=dtype)) if present else None
        module.register_parameter(name, value)


def reset_affine(module: Any) -> None:
    """Set the weight of a norm to 1 and its bias to 0, if it has them."""
    if module.weight is not None:
        init.ones_(module.weight)
    if module.bias is not None:
        init.zeros_(module.bias)
