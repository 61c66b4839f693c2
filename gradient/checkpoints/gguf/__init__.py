"""Models in GGUF files, in the terms of Hugging Face's: configuration, names and layouts both ways.

    checkpoint = GGUFCheckpoint(Path("model.gguf"))    # .config, .weights, .tokenizer
    save_gguf(model, "model.gguf", tokenizer=tokenizer)

`architectures` holds what the two call each part, as tables.
"""

from gradient.checkpoints.gguf.architectures import supported_architectures
from gradient.checkpoints.gguf.checkpoint import GGUFCheckpoint
from gradient.checkpoints.gguf.save import save_gguf, to_gguf

__all__ = ["GGUFCheckpoint", "save_gguf", "supported_architectures", "to_gguf"]
