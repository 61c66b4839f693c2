"""The GGUF format of ggml and llama.cpp: metadata and tensors, packed or not, in one file.

    file = GGUFFile("model.gguf")
    file.metadata["general.architecture"], file["token_embd.weight"]
    write("copy.gguf", file.typed_metadata, file)

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient.io.gguf.header import *
from gradient.io.gguf.reader import *
from gradient.io.gguf.writer import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    __all__ = _public(globals())
