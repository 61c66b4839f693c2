"""`gradient.version`: of this package, under the names of `torch.version`."""

import gradient

__all__ = ["cuda", "debug", "git_version", "hip"]

__version__ = gradient.__version__
cuda = hip = None
debug, git_version = False, "Unknown"
