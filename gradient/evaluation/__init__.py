"""What a model is worth and what it needs: perplexity, memory, and where two runs part."""

from typing import TYPE_CHECKING

from gradient.evaluation.divergence import *
from gradient.evaluation.perplexity import *
from gradient.exports import public

if not TYPE_CHECKING:  # checkers follow the stars
    __all__ = public(globals())
