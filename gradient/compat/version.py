"""`gradient.version`: of this package, under the names of `torch.version`."""

import gradient

__all__ = ["cuda", "debug", "hip"]

__version__ = gradient.__version__
cuda = hip = None
debug = False
