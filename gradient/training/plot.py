"""The loss curve as a picture (needs matplotlib, which is an extra)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from gradient.errors import MissingDependency
from gradient.io.atomic import write_bytes
from gradient.training.reporters import Record


def loss_curve(records: Sequence[Record], path: Path, title: str = "") -> None:
    """Draw training and validation loss (nats per token) over steps into the PNG `path`.

    Raises:
        MissingDependency: matplotlib is not installed.
        CheckpointError: the disk is full or failing; an older picture is untouched.
    """
    try:
        # The object interface: no display, no global state, nothing left open.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependency("the loss curve needs matplotlib: pip install matplotlib") from None

    train = [(r["step"], r["loss"]) for r in records if "loss" in r]
    val = [(r["step"], r["val_loss"]) for r in records if "val_loss" in r]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if train:
        axes.plot(*zip(*train, strict=True), linewidth=0.8, alpha=0.7, label="training")
    if val:
        axes.plot(*zip(*val, strict=True), marker="o", markersize=3, label="validation")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.3)
    if train or val:
        axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    write_bytes(path, picture.getvalue())
