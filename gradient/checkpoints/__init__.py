"""Reading and writing models in files: Hugging Face folders, GGUF, llama2.c.

>>> model = gradient.checkpoints.load_model("folder/with/config.json/and/safetensors")
>>> gradient.checkpoints.save_model(model, "folder")
"""

from gradient.checkpoints.checkpoint import Checkpoint
from gradient.checkpoints.formats import open_checkpoint
from gradient.checkpoints.gguf import save_gguf
from gradient.checkpoints.loading import load_model, save_model

__all__ = ["Checkpoint", "load_model", "open_checkpoint", "save_gguf", "save_model"]
