"""What maps logits to logits: penalties, truncation of the distribution, constraints."""

from typing import TYPE_CHECKING

from gradient.exports import public
from gradient.generation.logits.penalties import *
from gradient.generation.logits.processors import *
from gradient.generation.logits.truncation import *

if not TYPE_CHECKING:  # checkers follow the stars
    __all__ = public(globals())
