"""Models in GGUF files, converted to and from Hugging Face's configuration, names and layouts.

    checkpoint = GGUFCheckpoint(Path("model.gguf"))    # .config, .weights, .tokenizer
    save_gguf(model, "model.gguf", tokenizer=tokenizer)

A family declares both names of its parts beside its config: `gradient.models.gguf`.
"""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient.checkpoints.gguf.checkpoint import *
from gradient.checkpoints.gguf.config import *
from gradient.checkpoints.gguf.save import *
from gradient.checkpoints.gguf.save import to_gguf as to_gguf

if not TYPE_CHECKING:  # type checkers follow the star imports
    __all__ = _public(globals())
