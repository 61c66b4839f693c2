"""The device "meta": arrays with a shape and a dtype, but no values.

    with gradient.device("meta"):
        model = Model(config)          # takes no memory, whatever its size
    model.to_empty(device="cpu")

They are arrays of a plugin (`process`) that does not exist. The client computes all shapes and
dtypes, so every op works, and its messages are dropped. An op that needs a value raises an error.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import Any, NoReturn

import numpy as np

from gradient.backends.process.backend import ProcessBackend
from gradient.backends.process.overrides import OVERRIDES, with_overrides
from gradient.backends.process.protocol import NAMES
from gradient.errors import NoNumbers


class Nobody:
    """A client (`process.client.Client`) that drops its messages."""

    dtypes = frozenset(NAMES.values())

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.new_id = itertools.count(1).__next__
        self.freed: deque[int] = deque(maxlen=0)

    def op(self, *message: Any) -> None:
        """Do nothing: the result is only a handle."""

    def put(self, array: np.ndarray) -> int:
        """Return a handle; the values are dropped."""
        return self.new_id()

    def get(self, *asked: Any) -> NoReturn:
        raise NoNumbers(
            "device 'meta': its tensors have a shape and a dtype, and no data; move a model by "
            "module.to_empty(device=...) or load_state_dict(..., assign=True)"
        )

    def flush(self) -> None:
        """Do nothing: no messages are queued."""

    synchronize = close = flush


def open_backend(index: int = 0) -> ProcessBackend:
    """Return the backend of the device "meta"."""
    client: Any = Nobody()
    methods = {"address": _nowhere, "check_true": _unchecked}
    backend = type("MetaBackend", (with_overrides(frozenset(OVERRIDES)),), methods)
    made: ProcessBackend = backend("meta", (), client)
    return made


def _unchecked(self: ProcessBackend, holds: Any, message: str) -> None:
    """Do nothing: there are no values to check."""


def _nowhere(self: ProcessBackend, x: Any) -> int:
    """The address of an array (`Tensor.data_ptr`): 0."""
    return 0
