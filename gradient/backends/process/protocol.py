"""The constants of the protocol (docs/plugin-protocol.md)."""

from __future__ import annotations

import numpy as np

from gradient.dtypes import BY_NUMPY
from gradient.errors import ArgumentError, BackendError, IndexOutOfRange

VERSION = 1
"""Of the protocol. Both sides must have the same."""
TIMEOUT = 300.0
"""Seconds that a plugin may take to answer, unless told otherwise."""
MEMORY_VARIABLE = "GRADIENT_PLUGIN_MEMORY"
"""The environment variable that says "fd:bytes" of the shared memory."""
SLOT = 2 << 20
"""Bytes of shared memory that one message moves at most."""
SLOTS = 3
"""Parts of the shared memory, so that one side fills some while the other empties others. (More of
them would not stay in the processor's caches.)"""
REGION = SLOT * SLOTS
INLINE = 16 << 10
"""Bytes up to which an array lies in its message."""
WINDOW = 4096
"""Messages after which the plugin is asked how far it is; two windows are under way at most."""
MESSAGE_LIMIT = 64 << 20
"""Bytes of a message."""

NAMES: dict[np.dtype, str] = {
    dtype: known.name for dtype, known in BY_NUMPY.items() if isinstance(dtype, np.dtype)
}
"""dtypes as messages name them."""


class PluginError(BackendError):
    """A plugin has failed: its process ended or does not answer, or a message raised an error."""


class PluginMemoryError(PluginError, MemoryError):
    """A device is out of memory."""


class PluginUnsupported(PluginError, NotImplementedError):
    """A plugin does not have this op, or not for these dtypes."""


class PluginIndexError(PluginError, IndexOutOfRange):
    """An op got an index that is out of range."""


class PluginArgumentError(PluginError, ArgumentError):
    """An op got values for which it is not defined."""


ERRORS = {
    "error": PluginError, "memory": PluginMemoryError, "unsupported": PluginUnsupported,
    "index": PluginIndexError, "value": PluginArgumentError,
}  # fmt: skip
"""By the kind that an error's message has."""
