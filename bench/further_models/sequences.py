"""Models of sequences: text, sound, time series; and of graphs and sets."""

from __future__ import annotations

from bench.training_models import TrainingModel

MODELS: list[TrainingModel] = []
