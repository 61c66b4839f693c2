"""Training language models from text: `train(TrainConfig(...))`, or `gradient train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.training.config import PRESETS, TrainConfig
from gradient.training.reporters import Reporter

if TYPE_CHECKING:
    from gradient.training.run import TrainResult, train

__all__ = ["PRESETS", "Reporter", "TrainConfig", "TrainResult", "train"]


def __getattr__(name: str) -> Any:
    # The command line needs TrainConfig for its help text, and no models for that.
    if name in ("train", "TrainResult"):
        from gradient.training import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
