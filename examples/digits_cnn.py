"""Recognise digits with a convolutional network; save and load it.

    python examples/digits_cnn.py                        # digits that the script draws itself
    python examples/digits_cnn.py --data mnist           # MNIST, to 99 % of its test images

`--data` is a folder with MNIST's four idx files, gzipped or not. If it has only one pair of images
and labels, a fifth of it is the test set. The script shows Conv2d, BatchNorm2d, Dropout, one-cycle
SGD, and how to write and read a state_dict. It also runs on PyTorch, with PyTorch's import lines
(examples/README.md).
"""

import argparse
import gzip
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gradient
import gradient.nn as nn
import gradient.nn.functional as F
from gradient.optim import SGD
from gradient.optim.lr_scheduler import OneCycleLR
from gradient.utils.data import DataLoader, TensorDataset

# The digits 0 to 9 side by side, each 3 wide and 5 high, as on a pocket calculator.
SEGMENTS = """
### ..# ### ### #.# ### ### ### ### ###
#.# ..# ..# ..# #.# #.. #.. ..# #.# #.#
#.# ..# ### ### ### ### ### ..# ### ###
#.# ..# #.. ..# ..# ..# #.# ..# #.# ..#
### ..# ### ### ..# ### ### ..# ### ###
"""


def drawn_digits(
    count: int, rng: np.random.Generator, size: int = 28
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images (N, 1, size, size) of seven-segment digits, shifted, scaled and noisy; labels (N,)."""
    cells = np.array(
        [[c == "#" for c in row.replace(" ", "")] for row in SEGMENTS.split("\n")[1:-1]]
    )
    glyphs = np.split(cells, 10, axis=1)
    labels = rng.integers(0, 10, size=count)
    images = np.zeros((count, 1, size, size), np.float32)
    for image, label in zip(images, labels, strict=True):
        zoom = int(rng.integers(2, 5))
        glyph = np.kron(glyphs[label], np.ones((zoom, zoom), np.float32))
        top, left = (int(rng.integers(0, size - extent + 1)) for extent in glyph.shape)
        image[0, top : top + glyph.shape[0], left : left + glyph.shape[1]] = glyph
    images += 0.15 * rng.standard_normal(images.shape, dtype=np.float32)
    return images, labels.astype(np.int64)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a uint8 array from an idx file, gzipped or not: two zero bytes, dtype, rank, sizes,
    data."""
    gzipped = path.with_name(f"{path.name}.gz")
    with path.open("rb") if path.exists() else gzip.open(gzipped) as file:
        _, dtype, rank = struct.unpack(">HBB", file.read(4))
        if dtype != 8:
            raise ValueError(f"{path}: expected an idx file of bytes (type 8), got type {dtype}")
        shape = struct.unpack(f">{rank}I", file.read(4 * rank))
        return np.frombuffer(file.read(), np.uint8).reshape(shape)


def mnist_digits(folder: Path, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The images (N, 1, 28, 28), in 0 to 1, and labels (N,) of the set `name`: train or t10k."""
    images = read_idx(folder / f"{name}-images-idx3-ubyte")
    labels = read_idx(folder / f"{name}-labels-idx1-ubyte")
    return images.astype(np.float32)[:, None] / np.float32(255), labels.astype(np.int64)


def train_and_test_sets(
    folder: Path | None, rng: np.random.Generator
) -> tuple[TensorDataset, TensorDataset]:
    """MNIST's two sets if the folder has both; else a split into four fifths and one fifth."""
    if folder is None:
        sets = [drawn_digits(5000, rng)]
    else:
        names = [
            name for name in ("train", "t10k") if any(folder.glob(f"{name}-images-idx3-ubyte*"))
        ]
        if not names:
            raise FileNotFoundError(f"{folder}: no *-images-idx3-ubyte.gz in this folder")
        sets = [mnist_digits(folder, name) for name in names]
    if len(sets) == 1:
        images, labels = sets[0]
        train, test = np.split(rng.permutation(len(images)), [len(images) * 8 // 10])
        sets = [(images[train], labels[train]), (images[test], labels[test])]
    mean, deviation = sets[0][0].mean(), sets[0][0].std()
    train_set, test_set = (
        TensorDataset(gradient.tensor((images - mean) / deviation), gradient.tensor(labels))
        for images, labels in sets
    )
    return train_set, test_set


class ConvNet(nn.Module):
    """Two convolution stages and a linear classifier: (N, 1, 28, 28) to (N, 10) logits."""

    def __init__(self, channels: int = 16, dropout: float = 0.25) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2),  # 28 -> 14
            nn.Conv2d(channels, 2 * channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.MaxPool2d(2),  # 14 -> 7
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * channels * 7 * 7, 10)
        )

    def forward(self, images: gradient.Tensor) -> gradient.Tensor:
        return self.classifier(self.features(images))


@gradient.no_grad()
def accuracy(model: ConvNet, loader: "DataLoader[list[gradient.Tensor]]") -> float:
    """The share of the loader's images whose most likely digit is correct."""
    model.eval()
    right: float = sum((model(x).argmax(dim=1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with MNIST's idx files")
    parser.add_argument(
        "--steps", type=int, help="default: 300, or three epochs where that is more"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--out", type=Path, help="where to save the weights (default: nowhere)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args(argv)
    gradient.set_default_device(args.device)

    gradient.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    train_set, test_set = train_and_test_sets(args.data, rng)
    train_loader = DataLoader(train_set, batch_size=args.batch, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=250)
    steps = max(300, 3 * len(train_loader)) if args.steps is None else args.steps

    model = ConvNet(args.channels)
    print(model)
    optimizer = SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    scheduler = OneCycleLR(optimizer, max_lr=args.lr, total_steps=steps)
    losses: list[float] = []
    while len(losses) < steps:
        model.train()
        for x, y in train_loader:
            loss = F.cross_entropy(model(x), y, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
            if len(losses) % 50 == 0:
                print(f"step {len(losses):4d}  loss {losses[-1]:.4f}")
            if len(losses) == steps:
                break

    result = {"losses": losses, "accuracy": accuracy(model, test_loader)}
    print(f"test accuracy {result['accuracy']:.4f}")

    # A loaded model must have the same weights and running statistics.
    with tempfile.TemporaryDirectory() as folder:
        path = args.out or Path(folder) / "digits"
        gradient.save(model.state_dict(), path)
        restored = ConvNet(args.channels)
        restored.load_state_dict(gradient.load(path))
        result["restored_accuracy"] = accuracy(restored, test_loader)
    print(f"after saving and loading {result['restored_accuracy']:.4f}")
    return result


if __name__ == "__main__":
    main()
