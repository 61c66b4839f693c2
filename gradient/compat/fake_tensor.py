"""`_subclasses.fake_tensor`: tensors without values are those of the meta device here."""

from __future__ import annotations

from typing import Any

__all__ = ["FakeTensor", "FakeTensorMode", "is_fake"]


class FakeTensor:
    """What no tensor is, for `isinstance`."""


class FakeTensorMode(FakeTensor):
    """What no mode is."""


def is_fake(x: Any) -> bool:
    return False
