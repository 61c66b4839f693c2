"""`utils._pytree`: nested dicts, lists and tuples as their leaves and a form."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gradient.autograd.trees import leaves_of, rebuilt
from gradient.errors import ArgumentError, sentence

__all__ = ["TreeSpec", "tree_flatten", "tree_leaves", "tree_map", "tree_map_", "tree_map_only",
           "tree_unflatten"]  # fmt: skip


class TreeSpec:
    """The form of a tree, as `tree_flatten` gives it."""

    def __init__(self, tree: Any) -> None:
        self.num_leaves = len(leaves_of(tree))
        self._form = rebuilt(tree, [None] * self.num_leaves)

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """A tree of this form with other leaves."""
        leaves = list(leaves)
        if len(leaves) != self.num_leaves:
            raise ArgumentError(sentence("unflatten", f"{self.num_leaves} leaves", len(leaves)))
        return rebuilt(self._form, leaves)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TreeSpec) and self._form == other._form

    def __repr__(self) -> str:
        return f"TreeSpec({self._form})"


Leaf = Callable[[Any], bool] | None


def tree_flatten(tree: Any, is_leaf: Leaf = None) -> tuple[list[Any], TreeSpec]:
    """The leaves in order, and the form."""
    _refuse(is_leaf)
    return leaves_of(tree), TreeSpec(tree)


def tree_leaves(tree: Any, is_leaf: Leaf = None) -> list[Any]:
    _refuse(is_leaf)
    return leaves_of(tree)


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> Any:
    return treespec.unflatten(leaves)


def tree_map(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: Leaf = None) -> Any:
    """`func` of each leaf, and of those at the same place in other trees."""
    _refuse(is_leaf)
    columns = [leaves_of(each) for each in (tree, *rests)]
    return rebuilt(tree, [func(*row) for row in zip(*columns, strict=True)])


def tree_map_(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: Leaf = None) -> Any:
    """As `tree_map`, for what `func` does to the leaves; the tree."""
    tree_map(func, tree, *rests, is_leaf=is_leaf)
    return tree


def tree_map_only(
    type_or_types: Any, func: Callable[[Any], Any], tree: Any, is_leaf: Leaf = None
) -> Any:
    """`func` of each leaf of a type; others as they are."""
    return tree_map(lambda x: func(x) if isinstance(x, type_or_types) else x, tree, is_leaf=is_leaf)


def _refuse(is_leaf: Leaf) -> None:
    if is_leaf is not None:
        raise ArgumentError("is_leaf: expected None: leaves are what no dict, list or tuple is")
