"""Reading and writing tensors: safetensors, GGUF, structures of them, training checkpoints."""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.io.atomic import *
from gradient.io.checkpoint import *
from gradient.io.gguf.reader import *
from gradient.io.safetensors import *
from gradient.io.serialization import *
from gradient.io.sharded import *
from gradient.io.torch_file import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    __all__ = _public(globals())
    __dir__ = _shown(globals())
