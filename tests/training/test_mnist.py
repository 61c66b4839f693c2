"""A convolutional network learns to read digits: 97 % of those it has not seen."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.data import DataLoader, TensorDataset
from gradient.nn import functional as F

TRAIN = 8000  # of the 10,000 images of MNIST's test files; the rest are held out
EPOCHS, BATCH = 6, 64


class ConvNet(nn.Module):
    """(N, 1, 28, 28) -> (N, 10) logits."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, stride=2, padding=2)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc = nn.Linear(32 * 7 * 7, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))  # (N, 16, 14, 14)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (N, 32, 7, 7)
        return self.fc(F.dropout(x.flatten(1), 0.2, self.training))


def read_idx(path):
    """An array from an .idx.gz file: two zero bytes, type 8 (uint8), the rank, the shape."""
    content = gzip.decompress(path.read_bytes())
    rank = content[3]
    shape = np.frombuffer(content, ">i4", rank, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


@pytest.fixture(scope="module")
def digits(real_data):
    folder = real_data("mnist")
    images = read_idx(folder / "t10k-images-idx3-ubyte.gz")[:, None].astype(np.float32) / 255
    labels = read_idx(folder / "t10k-labels-idx1-ubyte.gz").astype(np.int64)
    # The first half of the file comes from one group of writers, the second from another.
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = (gradient.tensor(part[order]) for part in (images, labels))
    return (images[:TRAIN], labels[:TRAIN]), (images[TRAIN:], labels[TRAIN:])


@gradient.no_grad()
def accuracy(model, images, labels, device):
    model.eval()
    right = 0
    for start in range(0, len(images), 500):
        predicted = model(images[start : start + 500].to(device)).argmax(dim=1)
        right += (predicted.cpu() == labels[start : start + 500]).sum().item()
    model.train()
    return right / len(images)


@pytest.mark.slow
def test_a_cnn_reaches_97_percent(digits, device):
    train, held_out = digits
    gradient.manual_seed(0)
    model = ConvNet().to(device)
    optimizer = gradient.optim.AdamW(model.parameters(), lr=3e-3)
    loader = DataLoader(TensorDataset(*train), batch_size=BATCH, shuffle=True)
    scheduler = gradient.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=5e-3, epochs=EPOCHS, steps_per_epoch=len(loader)
    )
    for _ in range(EPOCHS):
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(images.to(device)), labels.to(device)).backward()
            optimizer.step()
            scheduler.step()
    assert accuracy(model, *held_out, device) >= 0.97
