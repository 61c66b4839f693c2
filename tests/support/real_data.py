"""Where the tests find data that is too large, or not ours, to be kept in the repository.

The folder is ``$GRADIENT_TEST_DATA`` or, without that variable, ``../shared/data`` as seen from the
checkout. A test asks for a path in it through the ``real_data`` fixture of conftest.py, which skips
the test (in CI: fails it) where the path is absent, and names it in the summary that ends the run.
"""

from __future__ import annotations

import os
from pathlib import Path

from support.paths import CHECKOUT

# Settled at once: a test may change the directory that a relative path starts from.
_CHOSEN = os.environ.get("GRADIENT_TEST_DATA")
_ROOT = Path(_CHOSEN).absolute() if _CHOSEN else CHECKOUT.parent / "shared" / "data"


def root() -> Path:
    """The data folder, whether or not it exists."""
    return _ROOT


def find(name: str) -> Path | None:
    """The file or folder ``name`` of the data folder, or None where it is absent."""
    path = _ROOT / name
    return path if path.exists() else None
