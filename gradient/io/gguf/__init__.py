"""The GGUF format of ggml and llama.cpp: metadata and tensors, plain or packed, in one file.

    file = GGUFFile("model.gguf")
    file.metadata["general.architecture"], file["token_embd.weight"]
    write("copy.gguf", file.typed_metadata, file)

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from gradient.io.gguf.header import TensorEntry
from gradient.io.gguf.reader import GGUFFile
from gradient.io.gguf.writer import LazyTensor, ggml_type, write

__all__ = ["GGUFFile", "LazyTensor", "TensorEntry", "ggml_type", "write"]
