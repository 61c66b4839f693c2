"""`gradient.data` under the name that PyTorch scripts import."""

from typing import TYPE_CHECKING

from gradient import absent
from gradient.data import *  # noqa: F403

__path__: list[str] = []  # a package, to `import gradient.utils.data.dataloader`

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
