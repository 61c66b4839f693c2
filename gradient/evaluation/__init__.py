"""Evaluation of models: perplexity, memory, and the first difference between two runs."""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.evaluation.divergence import *
from gradient.evaluation.perplexity import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    __all__ = _public(globals())
    __dir__ = _shown(globals())
