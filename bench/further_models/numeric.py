"""Models of few features: control, physics, statistics, tables."""

from __future__ import annotations

from bench.further_models import control, densities, physics, tables
from bench.training_models import TrainingModel

MODELS: list[TrainingModel] = [
    *control.MODELS,
    *physics.MODELS,
    *densities.MODELS,
    *tables.MODELS,
]
