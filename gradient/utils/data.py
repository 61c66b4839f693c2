"""`gradient.data` under the name that PyTorch scripts import."""

from gradient.data import *  # noqa: F403
