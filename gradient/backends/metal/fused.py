"""Ops beyond those that every plugin has, on MLX's fast functions. Each returns a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FUSED: dict[str, Callable[..., list[Any]]] = {}
