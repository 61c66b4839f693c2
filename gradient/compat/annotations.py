"""`jit.annotations`: types for TorchScript to read."""

from collections.abc import Sequence
from typing import *  # noqa: F403


class _Broadcasting:
    """A number, or a list of so many."""

    def __getitem__(self, kind: type) -> object:
        return kind | Sequence[kind]  # type: ignore[valid-type]


BroadcastingList1 = BroadcastingList2 = BroadcastingList3 = _Broadcasting()
