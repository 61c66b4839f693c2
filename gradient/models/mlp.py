"""The MLP of decoders without a gate, whose two layers each family has other names for."""

from __future__ import annotations

from gradient import nn
from gradient.models.activations import ACTIVATIONS
from gradient.tensor import Tensor


class MLP(nn.Module):
    """Two linear layers with an activation between, for each token on its own.

    Args:
        width: C, of a token's vector.
        inner: the width between the layers.
        act: the activation's name in config.json.
        names: what checkpoints call the first layer and the second.
        bias: whether they add one.
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
