"""Tokenizers from the metadata of GGUF files, and back.

Only this package knows the keys `tokenizer.ggml.*`. A file names its kind of vocabulary: "llama"
(scored pieces, joined pair by pair), "gpt2" (byte-level BPE with merges, and a name for the
splitting rule), "t5" (scored pieces, the best segmentation) or "bert" (WordPiece).
"""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient.text.gguf.reading import *
from gradient.text.gguf.writing import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    __all__ = _public(globals())
