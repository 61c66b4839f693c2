"""Models of few features: control, physics, statistics, tables."""

from __future__ import annotations

from bench.training_models import TrainingModel

MODELS: list[TrainingModel] = []
