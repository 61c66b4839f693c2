"""Activation functions under the names that config.json uses (transformers' `ACT2FN`), and the MLP
of decoders without a gate, whose two layers have different names in each family."""

from __future__ import annotations

from collections.abc import Callable

import gradient.functional as F
from gradient import nn
from gradient.tensor import Tensor

Activation = Callable[[Tensor], Tensor]


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of GELU, as in GPT-2 (Hendrycks and Gimpel 2016, section 2)."""
    return F.gelu(x, approximate="tanh")


def gelu_10(x: Tensor) -> Tensor:
    """GELU clipped to [-10, 10], so that it quantises well (Wu et al. 2020, arXiv:2004.09602)."""
    return F.gelu(x).clamp(-10.0, 10.0)


def quick_gelu(x: Tensor) -> Tensor:
    """The sigmoid approximation of GELU, x * sigmoid(1.702 x) (as `gelu_tanh`, section 2)."""
    return x * F.sigmoid(1.702 * x)


def relu_squared(x: Tensor) -> Tensor:
    """relu(x) squared (So et al. 2021, "Primer")."""
    return F.relu(x) ** 2


def linear(x: Tensor) -> Tensor:
    """Return x itself."""
    return x


ACTIVATIONS: dict[str, Activation] = {
    "gelu": F.gelu,
    "gelu_10": gelu_10,
    "gelu_accurate": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_python": F.gelu,
    "gelu_python_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "hardswish": F.hardswish,
    "leaky_relu": F.leaky_relu,
    "linear": linear,
    "mish": F.mish,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "relu2": relu_squared,
    "relu6": F.relu6,
    "sigmoid": F.sigmoid,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": F.tanh,
}


class MLP(nn.Module):
    """Two linear layers with an activation between, for each token on its own.

    Args:
        width: C, the size of a token's vector.
        inner: the width between the layers.
        act: the activation's name in config.json.
        names: the checkpoint's names of the first and the second layer.
        bias: whether both layers have a bias.
    """

    def __init__(
        self, width: int, inner: int, act: str, names: tuple[str, str], *, bias: bool = True
    ) -> None:
        super().__init__()
        self.names = names
        self.add_module(names[0], nn.Linear(width, inner, bias=bias))
        self.add_module(names[1], nn.Linear(inner, width, bias=bias))
        self.act = ACTIVATIONS[act]

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        up, down = (getattr(self, name) for name in self.names)
        return down(self.act(up(x)))
