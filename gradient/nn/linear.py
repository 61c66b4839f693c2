"""Identity, Linear, Bilinear, Flatten, Unflatten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradient import functional as F
from gradient.dtypes import DType
from gradient.errors import ArgumentError, sentence
from gradient.nn import init
from gradient.nn.module import Module
from gradient.nn.parameter import Parameter
from gradient.tensor import Tensor
from gradient.tensor.arguments import size_argument
from gradient.tensor.creation import empty
from gradient.tensor.device import DeviceLike

__all__ = ["Bilinear", "Flatten", "Identity", "Linear", "Unflatten"]


class Identity(Module):
    """Returns its input: `y = x`. It takes any arguments when made, so it can replace any layer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Module):
    """`y = x W^T + b`: (..., in_features) to (..., out_features).

    `weight` W is (out_features, in_features), or a quantised tensor of this shape; `bias` b is
    (out_features,), or None with `bias=False`.
    """

    _shown = ("in_features", "out_features", "bias")
    bias: Parameter  # or None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.in_features = size_argument(type(self).__name__, "in_features", in_features)
        self.out_features = size_argument(type(self).__name__, "out_features", out_features)
        self.weight = Parameter(empty(out_features, in_features, device=device, dtype=dtype))
        given = Parameter(empty(out_features, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", given)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W and b uniformly from [-c, c], c = `1 / sqrt(in_features)`."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)


class Bilinear(Module):
    """`y_k = x1^T W_k x2 + b_k`: (..., in1_features), (..., in2_features) to (..., out_features).

    `weight` W is (out_features, in1_features, in2_features), `bias` b is (out_features,).
    """

    _shown = ("in1_features", "in2_features", "out_features", "bias")
    bias: Parameter  # or None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.in1_features = size_argument("Bilinear", "in1_features", in1_features)
        self.in2_features = size_argument("Bilinear", "in2_features", in2_features)
        self.out_features = size_argument("Bilinear", "out_features", out_features)
        if in1_features < 1:
            raise ArgumentError(sentence("Bilinear", "in1_features of at least 1", in1_features))
        shape = (out_features, in1_features, in2_features)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        given = Parameter(empty(out_features, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", given)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W and b uniformly from [-c, c], c = `1 / sqrt(in1_features)`."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return F.bilinear(input1, input2, self.weight, self.bias)


class Flatten(Module):
    """Merges dimensions `start_dim` to `end_dim` into one; by default all but the first."""

    _shown = ("start_dim", "end_dim")

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)


class Unflatten(Module):
    """Splits dimension `dim` into several of sizes `unflattened_size`; one of these may be -1."""

    _shown = ("dim", "unflattened_size")

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)
