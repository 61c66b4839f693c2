"""What maps logits to logits: penalties, truncation of the distribution, constraints."""

from gradient.generation.logits import penalties, truncation
from gradient.generation.logits.penalties import *  # noqa: F403
from gradient.generation.logits.processors import LogitsProcessor, Prefixes, UniformDraw, compose
from gradient.generation.logits.truncation import *  # noqa: F403

__all__ = ["LogitsProcessor", "Prefixes", "UniformDraw", "compose"]
__all__ += penalties.__all__
__all__ += truncation.__all__
