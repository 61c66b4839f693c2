"""Tokenizers from the metadata of GGUF files, and back.

This package is the one place that knows the keys `tokenizer.ggml.*`. A file says which kind of
vocabulary it has: "llama" (scored pieces, joined pair by pair), "gpt2" (byte-level BPE with merges,
and a name for how text is cut), "t5" (scored pieces, the best cut) or "bert" (WordPiece).
"""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient.text.gguf.reading import *
from gradient.text.gguf.writing import *

if not TYPE_CHECKING:  # checkers follow the stars
    __all__ = _public(globals())
