"""Train a small MLP to classify points by the arm of a spiral.

    python examples/spiral_mlp.py
    python examples/spiral_mlp.py --steps 100 --arms 5

The usual training loop: Dataset, DataLoader, optimiser, scheduler, evaluation. It also runs on
PyTorch, with PyTorch's import lines (examples/README.md).
"""

import argparse
import math
from collections.abc import Iterator
from typing import Any

import gradient
import gradient.nn as nn
import gradient.nn.functional as F
from gradient.optim import AdamW
from gradient.optim.lr_scheduler import CosineAnnealingLR
from gradient.utils.data import DataLoader, TensorDataset, random_split


def spiral(
    points_per_arm: int, arms: int, noise: float = 0.25
) -> tuple[gradient.Tensor, gradient.Tensor]:
    """Points (N, 2) float32 on `arms` interleaved spirals, and the arm (N,) int64 of each."""
    points, labels = [], []
    for arm in range(arms):
        radius = gradient.linspace(0.05, 1.0, points_per_arm)
        angle = 2 * math.pi * arm / arms + 4.0 * radius
        angle = angle + noise * gradient.randn(points_per_arm)
        points.append(gradient.stack([radius * angle.cos(), radius * angle.sin()], dim=1))
        labels.append(gradient.full((points_per_arm,), arm, dtype=gradient.int64))
    return gradient.cat(points), gradient.cat(labels)


class MLP(nn.Module):
    """Two hidden layers with GELU: (N, 2) points to (N, classes) logits."""

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, classes),
        )

    def forward(self, x: gradient.Tensor) -> gradient.Tensor:
        return self.layers(x)


def endless(loader: "DataLoader[list[gradient.Tensor]]") -> "Iterator[list[gradient.Tensor]]":
    """Batches without end: the loader again and again, shuffled each time."""
    while True:
        yield from loader


@gradient.no_grad()
def accuracy(model: MLP, loader: "DataLoader[list[gradient.Tensor]]") -> float:
    """The share of the loader's points whose most likely class is correct."""
    model.eval()
    right = total = 0
    for points, labels in loader:
        right += (model(points).argmax(dim=-1) == labels).sum().item()
        total += len(labels)
    model.train()
    return right / total


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--arms", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args(argv)
    gradient.set_default_device(args.device)

    gradient.manual_seed(args.seed)
    dataset = TensorDataset(*spiral(300, args.arms))
    train_set, test_set = random_split(dataset, [0.8, 0.2])
    train_loader = DataLoader(train_set, batch_size=args.batch, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=256)

    model = MLP(args.arms)
    print(model)
    optimizer = AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    scheduler = CosineAnnealingLR(optimizer, T_max=args.steps)

    losses = []
    for step, (points, labels) in zip(range(args.steps), endless(train_loader), strict=False):
        loss = F.cross_entropy(model(points), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        if step % 100 == 0 or step == args.steps - 1:
            rate = scheduler.get_last_lr()[0]
            print(f"step {step:4d}  loss {losses[-1]:.4f}  lr {rate:.5f}")

    result = {"losses": losses, "accuracy": accuracy(model, test_loader)}
    print(f"test accuracy {result['accuracy']:.3f}")
    return result


if __name__ == "__main__":
    main()
