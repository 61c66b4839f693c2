"""Models of images and volumes."""

from __future__ import annotations

from bench.training_models import TrainingModel

MODELS: list[TrainingModel] = []
