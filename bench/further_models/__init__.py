"""Models of further kinds whose training steps are measured; the common ones are in
`bench.training_models`, which also says what a function here takes and returns."""

from __future__ import annotations

from bench.further_models import numeric, sequences, vision
from bench.training_models import TrainingModel

MODELS: list[TrainingModel] = [*numeric.MODELS, *vision.MODELS, *sequences.MODELS]
