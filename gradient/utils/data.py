"""`gradient.data` under the name that PyTorch scripts import."""

from gradient.data import *  # noqa: F403
from gradient.data import __all__ as __all__
