"""Datasets, samplers and loaders, and token files for language models (PyTorch's `utils.data`).

Each module's `__all__` says what is public.
"""

from gradient.data.collate import *
from gradient.data.dataloader import *
from gradient.data.dataset import *
from gradient.data.sampler import *
from gradient.data.token_file import *
from gradient.data.worker import *
