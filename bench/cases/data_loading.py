"""An epoch of batches from `DataLoader`, beside PyTorch's: images of MNIST's shape, and windows of
a file of tokens.

Both packages read the same numbers through the same dataset classes. The windows are ours
(`TokenFile.windows`) and, for PyTorch, the usual class over `np.memmap` that users write.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradient
from bench.cases import Options
from bench.measure import interleave
from bench.result import Result
from gradient.data.token_file import TokenWriter

IMAGES, BATCH = 6400, 64
TOKENS, WINDOW, ROWS = 1 << 20, 256, 32


class Images:
    """Images (1, 28, 28) of uint8, each scaled to float32 numbers when it is read."""

    def __init__(self, package: str) -> None:
        draws = np.random.default_rng(0)
        self.package = package
        self.images = draws.integers(0, 256, (IMAGES, 1, 28, 28), np.uint8)
        self.labels = draws.integers(0, 10, IMAGES)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.images[index].astype(np.float32) / np.float32(255)
        if self.package == "torch":
            import torch

            return torch.from_numpy(image), int(self.labels[index])
        return gradient.from_numpy(image), int(self.labels[index])


class Windows:
    """A token file's windows, and the same shifted by one token, as in scripts for PyTorch."""

    def __init__(self, path: str) -> None:
        self.tokens = np.memmap(path, np.uint16, "r")

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // WINDOW

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        import torch

        at = index * WINDOW
        taken = torch.from_numpy(self.tokens[at : at + WINDOW + 1].astype(np.int64))
        return taken[:-1], taken[1:]


@dataclass(frozen=True)
class Load:
    """A way of loading: its name, its dataset in a package, and the loader's options."""

    name: str
    dataset: Callable[[Any, str], Any]
    batch: int
    workers: int = 0


def tensors(package: Any, path: str) -> Any:
    images = Images("")
    x = package.tensor(images.images.astype(np.float32) / np.float32(255))
    return package.utils.data.TensorDataset(x, package.tensor(images.labels))


def scaled(package: Any, path: str) -> Any:
    return Images(package.__name__)


def windows(package: Any, path: str) -> Any:
    if package is gradient:
        return gradient.data.TokenFile(path).windows(WINDOW)
    return Windows(path)


LOADS = [
    Load("MNIST, TensorDataset", tensors, BATCH),
    Load("MNIST, images scaled one by one", scaled, BATCH),
    Load("MNIST, images scaled one by one, 2 workers", scaled, BATCH, 2),
    Load(f"windows of {WINDOW} tokens", windows, ROWS),
    Load(f"windows of {WINDOW} tokens, 2 workers", windows, ROWS, 2),
]


def epoch(package: Any, load: Load, path: str) -> Callable[[], int]:
    """A function that iterates over the batches, in a new random order."""
    workers = {"persistent_workers": True} if load.workers else {}
    loader = package.utils.data.DataLoader(
        load.dataset(package, path), load.batch, shuffle=True, num_workers=load.workers, **workers
    )

    def run() -> int:
        return sum(len(batch[0]) for batch in loader)

    return run


def run(options: Options) -> Iterator[Result]:
    packages: dict[str, Any] = {"gradient": gradient}
    if options.peer("torch"):
        import torch

        torch.set_num_threads(options.threads)
        packages["torch"] = torch
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokens.bin")
        with TokenWriter(path, vocab_size=50257) as writer:
            writer.write(np.random.default_rng(0).integers(0, 50257, TOKENS))
        for load in LOADS[::3] if options.tiny else LOADS:
            if not options.wants(load.name):
                continue
            runs = {label: epoch(package, load, path) for label, package in packages.items()}
            samples_of = {label: run() for label, run in runs.items()}
            if len(set(samples_of.values())) != 1:
                raise RuntimeError(f"{load.name}: epochs of different lengths, {samples_of}")
            samples = interleave(runs, rounds=options.rounds(12))
            for label, sample in samples.items():
                compared = label == "gradient" and "torch" in samples
                ratio = sample.ratio(samples["torch"]) if compared else None
                yield Result(
                    case="data",
                    what=load.name,
                    contender=label,
                    value=1e6 * sample.median / (samples_of[label] / load.batch),
                    unit="us a batch",
                    best=1e6 * sample.best / (samples_of[label] / load.batch),
                    samples=len(sample.seconds),
                    peer="torch" if compared else None,
                    ratio=ratio,
                    target="<= 1.0 x torch" if compared else None,
                    met=None if ratio is None else ratio <= 1.0,
                )
