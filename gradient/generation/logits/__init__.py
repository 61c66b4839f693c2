"""Logits processors, from logits to logits: penalties, truncation, constraints."""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient.generation.logits.penalties import *
from gradient.generation.logits.processors import *
from gradient.generation.logits.truncation import *

if not TYPE_CHECKING:  # checkers follow the stars
    __all__ = _public(globals())
