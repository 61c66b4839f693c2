"""`gradient.functional`, under the name that PyTorch gives it."""

from gradient.functional import *  # noqa: F403
from gradient.functional import __all__  # noqa: F401
