"""Small modules of several kinds, and batches to train them on."""

from __future__ import annotations

import gradient
from gradient import nn


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 32), nn.GELU(), nn.Dropout(0.2), nn.LayerNorm(32), nn.Linear(32, 4)
    )


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 4)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


class Tied(nn.Module):
    """Embedding and head share a weight; a small transformer layer stands between."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, 12, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: gradient.Tensor) -> gradient.Tensor:
        return self.head(self.layer(self.embed(tokens)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: gradient.Tensor) -> gradient.Tensor:
        out, _ = self.lstm(x.unsqueeze(1))
        return self.head(out[:, -1])


def batches(tokens: bool, n: int) -> list[tuple[gradient.Tensor, gradient.Tensor]]:
    if tokens:
        texts = [gradient.randint(0, 12, (3, 7)) for _ in range(n)]
        return [(t[:, :-1], t[:, 1:]) for t in texts]
    return [(gradient.randn(6, 8), gradient.randint(0, 4, (6,))) for _ in range(n)]
