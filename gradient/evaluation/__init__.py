"""What a model is worth and what it needs: perplexity, memory, and where two runs part."""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.evaluation.divergence import *
from gradient.evaluation.perplexity import *

if not TYPE_CHECKING:  # checkers follow the stars
    __all__ = _public(globals())
    __dir__ = _shown(globals())
