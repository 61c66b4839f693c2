"""The device "meta": arrays that have a shape and a dtype, and no numbers.

    with gradient.device("meta"):
        model = Model(config)          # takes no memory, whatever its size
    model.to_empty(device="cpu")

They are the arrays of a plugin (`process`) that is not there: shapes and dtypes are settled on this
side of it, so every op has them, and its messages go nowhere. What needs a number is an error.
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
    """A client (`process.client.Client`) whose messages nobody gets."""

    dtypes = frozenset(NAMES.values())

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.new_id = itertools.count(1).__next__
        self.freed: deque[int] = deque(maxlen=0)

    def op(self, *message: Any) -> None:
        """Nothing: the array that it makes is a handle."""

    def put(self, array: np.ndarray) -> int:
        """An array whose numbers are forgotten."""
        return self.new_id()

    def get(self, *asked: Any) -> NoReturn:
        raise NoNumbers(
            "device 'meta': its tensors have a shape and a dtype, and no data; move a model by "
            "module.to_empty(device=...) or load_state_dict(..., assign=True)"
        )

    def flush(self) -> None:
        """Nothing waits."""

    synchronize = close = flush


def open_backend(index: int = 0) -> ProcessBackend:
    """The backend of the device "meta"."""
    client: Any = Nobody()
    backend = type("MetaBackend", (with_overrides(frozenset(OVERRIDES)),), {"address": _nowhere})
    made: ProcessBackend = backend("meta", (), client)
    return made


def _nowhere(self: ProcessBackend, x: Any) -> int:
    """Where an array lies (`Tensor.data_ptr`): 0."""
    return 0
