"""Activation checkpointing: a training step whose layers run their forward passes twice.

The step of 4 TransformerEncoder layers of width 256 (8 x 128 tokens), each layer's activations kept
or recomputed in the backward pass. A layer's forward pass is a third of its step.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench.cases import Options
from bench.measure import interleave
from bench.result import Result


def training_step(name: str, again: bool) -> Callable[[], object]:
    """A forward and backward pass in the package of this name; `again`: with checkpoints."""
    package = importlib.import_module(name)
    checkpoint = importlib.import_module(f"{name}.utils.checkpoint").checkpoint
    layers = package.nn.ModuleList(
        package.nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True)
        for _ in range(4)
    )
    draws = np.random.default_rng(0)
    x = package.tensor(draws.standard_normal((8, 128, 256), dtype=np.float32))

    def step() -> Any:
        layers.zero_grad()
        y = x
        for layer in layers:
            y = checkpoint(layer, y, use_reentrant=False) if again else layer(y)
        (y * y).mean().backward()

    return step


def run(options: Options) -> Iterator[Result]:
    names = {"gradient": "gradient"}
    if options.peer("torch"):
        importlib.import_module("torch").set_num_threads(options.threads)
        names["torch eager"] = "torch"
    steps = {
        f"{label}{', checkpoints' if again else ''}": training_step(name, again)
        for label, name in names.items()
        for again in (False, True)
    }
    for step in steps.values():
        step()
    samples = interleave(steps, rounds=options.rounds(15), settle=0.02)
    for label, sample in samples.items():
        own = label.removesuffix(", checkpoints")
        peer = own if own != label else "torch eager" if "torch eager" in samples else None
        peer = None if peer == label else peer
        yield Result(
            case="checkpointing",
            what="TransformerEncoder 4 x 256, 8 x 128",
            contender=label,
            value=1e3 * sample.median,
            unit="ms",
            best=1e3 * sample.best,
            samples=len(sample.seconds),
            peer=peer,
            ratio=sample.ratio(samples[peer]) if peer is not None else None,
        )
