"""The constants of the protocol (docs/plugin-protocol.md)."""

from __future__ import annotations

import numpy as np

from gradient.dtypes import BY_NUMPY
from gradient.errors import ArgumentError, BackendError, IndexOutOfRange

VERSION = 1
"""The protocol's version, which must be the same on both sides."""
TIMEOUT = 300.0
"""The default of the longest time to wait for an answer, in seconds."""
MEMORY_VARIABLE = "GRADIENT_PLUGIN_MEMORY"
"""The environment variable with the shared memory, as "fd:bytes"."""
SLOT = 2 << 20
"""The most bytes that one message copies through shared memory."""
SLOTS = 3
"""The number of slots, so that one side writes while the other reads. (More slots would not fit in
the processor's caches.)"""
REGION = SLOT * SLOTS
INLINE = 16 << 10
"""Arrays of at most this many bytes are sent in the message itself."""
WINDOW = 4096
"""Messages between two `sync` messages; at most two windows are in flight."""
MESSAGE_LIMIT = 64 << 20
"""The most bytes of a message."""

NAMES: dict[np.dtype, str] = {
    dtype: known.name for dtype, known in BY_NUMPY.items() if isinstance(dtype, np.dtype)
}
"""The names of dtypes in messages."""


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
"""Exception classes by the kind in an error message."""
