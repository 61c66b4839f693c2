"""Text to vectors: an encoder and its tokenizer as one.

>>> encoder = gradient.hub.load("sentence-transformers/all-MiniLM-L6-v2")
>>> vectors = encoder.embed(["A cat sits outside.", "The weather is fine."])  # (2, 384)
>>> vectors @ vectors.mT  # how alike they are
"""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.embedding.pooling import *
from gradient.embedding.text_encoder import *

if not TYPE_CHECKING:  # checkers follow the stars
    __all__ = _public(globals())
    __dir__ = _shown(globals())
