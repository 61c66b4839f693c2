"""Generators of GPUs, which reversible layers save: here one generator serves every device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gradient.tensor import Tensor


def get_device_states(*args: Any) -> tuple[list[int], list[Tensor]]:
    """No states of GPUs: `get_rng_state` has that of all devices."""
    return [], []


def set_device_states(
    devices: Sequence[int], states: Iterable[Tensor], *, device_type: str | None = None
) -> None:
    """Nothing to set, as `get_device_states` gives nothing."""
