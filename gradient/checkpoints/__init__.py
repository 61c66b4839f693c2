"""Reading and writing models in files: Hugging Face folders, GGUF, llama2.c.

>>> model = gradient.checkpoints.load_model("folder/with/config.json/and/safetensors")
>>> gradient.checkpoints.save_model(model, "folder")
"""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.checkpoints.checkpoint import *
from gradient.checkpoints.formats import *
from gradient.checkpoints.gguf.save import *
from gradient.checkpoints.loading import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    __all__ = _public(globals())
    __dir__ = _shown(globals())
