"""Paths of `utils._pytree` beside PyTorch's."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque, namedtuple
from typing import Any

import pytest

from gradient.compat import pytree
from gradient.errors import ArgumentError
from gradient.tensor import Size

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("torch.utils._pytree")
pytestmark = [pytest.mark.parity, pytest.mark.cpu_only]

Point = namedtuple("Point", "x y")

TREES: list[Any] = [
    5,
    [],
    {},
    {"a": [1, (2, 3)], "b": {"c": None}},
    {1: "x", ("t", 2): [Point(1, [2])]},
    OrderedDict(z=1, a=deque([2, 3], 4)),
    defaultdict(list, k=[1]),
    (Point({"q": 1}, ()), [[[7]]]),
]


def told(module: Any, tree: Any, is_leaf: Any = None) -> Any:
    pairs, form = module.tree_flatten_with_path(tree, is_leaf)
    assert pairs == module.tree_leaves_with_path(tree, is_leaf)
    assert [module.key_get(tree, path) for path, _ in pairs] == [leaf for _, leaf in pairs]
    mapped = module.tree_map_with_path(
        lambda path, leaf, other: (module.keystr(path), leaf, other), tree, tree, is_leaf=is_leaf
    )
    names = [[type(key).__name__ for key in path] for path, _ in pairs]
    texts = [(module.keystr(path), leaf) for path, leaf in pairs]
    return names, texts, mapped, form.num_leaves


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_paths(tree: Any) -> None:
    assert told(pytree, tree) == told(theirs, tree)
    short: Any = lambda part: isinstance(part, list)  # noqa: E731
    assert told(pytree, tree, short) == told(theirs, tree, short)


def test_keys() -> None:
    for name, value in (("MappingKey", "a"), ("SequenceKey", 3), ("GetAttrKey", "w")):
        ours, other = (getattr(module, name)(value) for module in (pytree, theirs))
        assert str(ours) == str(other) and ours == type(ours)(value)
        assert hash(ours) == hash(type(ours)(value)) and ours != type(ours)(None)


def test_a_size_has_parts() -> None:
    ours, other = pytree.tree_flatten(Size([2, 3])), theirs.tree_flatten(torch.Size([2, 3]))
    assert ours[0] == other[0]
    for function in (int, str):
        mapped = pytree.tree_map(function, Size([2])), theirs.tree_map(function, torch.Size([2]))
        assert mapped[0] == mapped[1] and type(mapped[0]) is type(mapped[1]) is tuple


@pytest.mark.parametrize("other", [{"b": 1}, [1, 2], {"a": [1]}, 3])
def test_trees_that_do_not_fit(other: Any) -> None:
    for name in ("tree_map", "tree_map_with_path"):
        with pytest.raises(ArgumentError, match=f"^{name}: expected .* as in the first tree"):
            getattr(pytree, name)(lambda *parts: parts, {"a": [1, 2]}, other)
        with pytest.raises(ValueError):
            getattr(theirs, name)(lambda *parts: parts, {"a": [1, 2]}, other)


def test_a_type_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    class Box:
        def __init__(self, value: Any) -> None:
            self.value = value

    monkeypatch.setattr(pytree, "SUPPORTED_NODES", dict(pytree.SUPPORTED_NODES))
    pytree.register_pytree_node(Box, lambda b: ([b.value], None), lambda v, _: Box(*v))
    with pytest.raises(ArgumentError, match="flatten_with_keys_fn"):
        pytree.tree_leaves_with_path(Box(1))
