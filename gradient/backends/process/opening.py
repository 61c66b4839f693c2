"""Start a plugin, and make its backend."""

from __future__ import annotations

from collections.abc import Sequence

from gradient.backends.numpy.memory import keep_freed
from gradient.backends.process.backend import REQUIRED_OPS, ProcessBackend
from gradient.backends.process.client import Client
from gradient.backends.process.overrides import with_overrides
from gradient.backends.process.protocol import TIMEOUT, PluginUnsupported


def opened(device: str, command: Sequence[str], timeout: float = TIMEOUT) -> ProcessBackend:
    """Start a plugin; return its backend, with overrides for the plugin's ops."""
    keep_freed()  # each read makes an array, and new pages would cost as much as the copy
    client = Client(command, device, timeout)
    missing = sorted(REQUIRED_OPS - client.ops)
    if missing:
        client.close()
        raise PluginUnsupported(f"the plugin lacks required ops: {', '.join(missing)}")
    return with_overrides(client.ops)(device, command, client)
