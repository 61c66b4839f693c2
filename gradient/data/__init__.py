"""Datasets, samplers and loaders, and token files for language models (PyTorch's `utils.data`).

Each module's `__all__` lists its public names.
"""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.data.collate import *
from gradient.data.dataloader import *
from gradient.data.dataset import *
from gradient.data.sampler import *
from gradient.data.token_file import *
from gradient.data.worker import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    __all__ = _public(globals())
    __dir__ = _shown(globals())
