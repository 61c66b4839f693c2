"""What lies beside the package in a checkout and is not installed with it: bench/ and examples/.

The checkout goes to the end of the path, so that `gradient` stays the installed one.
"""

from __future__ import annotations

import sys

from real_data import CHECKOUT

if str(CHECKOUT) not in sys.path:
    sys.path.append(str(CHECKOUT))

import bench
from examples import under_torch

__all__ = ["bench", "under_torch"]
