"""Nested dicts, lists and tuples of tensors, as arguments and results of functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["leaves_of", "mapped", "rebuilt"]


def leaves_of(tree: Any) -> list[Any]:
    """Return the leaves of a tree, in order."""
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in leaves_of(value)]
    if isinstance(tree, (list, tuple)) and type(tree).__name__ != "Size":
        return [leaf for value in tree for leaf in leaves_of(value)]
    return [tree]


def rebuilt(tree: Any, leaves: Iterable[Any]) -> Any:
    """Return a tree of the same structure with other leaves."""
    return _rebuilt(tree, iter(leaves))


def _rebuilt(tree: Any, leaves: Any) -> Any:
    if isinstance(tree, dict):
        return type(tree)((key, _rebuilt(value, leaves)) for key, value in tree.items())
    if isinstance(tree, (list, tuple)) and type(tree).__name__ != "Size":
        parts = [_rebuilt(value, leaves) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return next(leaves)


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply `function` to each leaf; return the tree of the results."""
    return rebuilt(tree, [function(leaf) for leaf in leaves_of(tree)])
