"""`utils._pytree`: nested dicts, lists, tuples and registered types as their leaves and a form."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from gradient.errors import ArgumentError, sentence
from gradient.tensor import Size

__all__ = [
    "SUPPORTED_NODES", "Context", "GetAttrKey", "KeyPath", "LeafSpec", "MappingKey", "NodeDef",
    "PyTree", "SequenceKey", "TreeSpec", "key_get", "keystr", "register_pytree_node", "tree_all",
    "tree_any", "tree_flatten", "tree_flatten_with_path", "tree_iter", "tree_leaves",
    "tree_leaves_with_path", "tree_map", "tree_map_", "tree_map_only", "tree_map_with_path",
    "tree_structure", "tree_unflatten",
]  # fmt: skip

PyTree: TypeAlias = Any
Context: TypeAlias = Any
Leaf: TypeAlias = Callable[[Any], bool] | None


class NodeDef(NamedTuple):
    """A type whose values have parts: how they are taken apart, and put together again."""

    type: type
    flatten_fn: Callable[[Any], tuple[list[Any], Any]]
    unflatten_fn: Callable[[Iterable[Any], Any], Any]
    flatten_with_keys_fn: Callable[[Any], tuple[list[tuple[Any, Any]], Any]] | None = None


@dataclass(frozen=True, slots=True)
class SequenceKey:
    """The place of a part in a list or tuple: `[2]`"""

    idx: int

    def __str__(self) -> str:
        return f"[{self.idx!r}]"

    def get(self, sequence: Any) -> Any:
        """The part of `sequence` at this place."""
        return sequence[self.idx]


@dataclass(frozen=True, slots=True)
class MappingKey:
    """The place of a part in a dict: `['a']`"""

    key: Any

    def __str__(self) -> str:
        return f"[{self.key!r}]"

    def get(self, mapping: Any) -> Any:
        """The part of `mapping` at this place."""
        return mapping[self.key]


@dataclass(frozen=True, slots=True)
class GetAttrKey:
    """The place of a part among attributes: `.name`"""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"

    def get(self, obj: Any) -> Any:
        """The part of `obj` at this place."""
        return getattr(obj, self.name)


KeyPath: TypeAlias = "tuple[Any, ...]"
"""The places that lead from a tree to a leaf."""


def _dict_flatten(d: Any) -> tuple[list[Any], Any]:
    return list(d.values()), list(d)


def _dict_unflatten(values: Iterable[Any], context: Any) -> dict[Any, Any]:
    return dict(zip(context, values, strict=True))


def _dict_flatten_with_keys(d: Any) -> tuple[list[tuple[MappingKey, Any]], Any]:
    return [(MappingKey(key), value) for key, value in d.items()], list(d)


def _sequence_flatten(d: Any) -> tuple[list[Any], Any]:
    return list(d), None


def _sequence_flatten_with_keys(d: Any) -> tuple[list[tuple[SequenceKey, Any]], Any]:
    return [(SequenceKey(i), value) for i, value in enumerate(d)], None


def _sequence_unflatten(kind: type[Any], values: Iterable[Any], context: Any) -> Any:
    return kind(values)


def _deque_flatten(d: Any) -> tuple[list[Any], Any]:
    return list(d), d.maxlen


def _deque_flatten_with_keys(d: Any) -> tuple[list[tuple[SequenceKey, Any]], Any]:
    return _sequence_flatten_with_keys(d)[0], d.maxlen


def _defaultdict_flatten(d: Any) -> tuple[list[Any], Any]:
    return list(d.values()), (d.default_factory, list(d))


def _defaultdict_flatten_with_keys(d: Any) -> tuple[list[tuple[MappingKey, Any]], Any]:
    return _dict_flatten_with_keys(d)[0], (d.default_factory, list(d))


def _defaultdict_unflatten(values: Iterable[Any], context: Any) -> Any:
    factory, keys = context
    return defaultdict(factory, zip(keys, values, strict=True))


def _namedtuple_flatten_with_keys(t: Any) -> tuple[list[tuple[GetAttrKey, Any]], Any]:
    keys = map(GetAttrKey, t._fields)
    return list(zip(keys, t, strict=True)), type(t)


def _nodes() -> Iterator[NodeDef]:
    keys = _dict_flatten_with_keys
    yield NodeDef(dict, _dict_flatten, _dict_unflatten, keys)
    yield NodeDef(
        OrderedDict, _dict_flatten,
        lambda values, keys: OrderedDict(zip(keys, values, strict=True)), keys,
    )  # fmt: skip
    yield NodeDef(
        defaultdict, _defaultdict_flatten, _defaultdict_unflatten, _defaultdict_flatten_with_keys
    )
    for kind, made in ((list, list), (tuple, tuple), (Size, tuple)):  # whose parts may be no ints
        make = partial(_sequence_unflatten, made)
        yield NodeDef(kind, _sequence_flatten, make, _sequence_flatten_with_keys)
    yield NodeDef(
        deque, _deque_flatten, lambda values, maxlen: deque(values, maxlen),
        _deque_flatten_with_keys,
    )  # fmt: skip


SUPPORTED_NODES: dict[type, NodeDef] = {node.type: node for node in _nodes()}
"""The types whose values are not leaves. A named tuple is none either."""

_DICTS: set[type] = {dict, OrderedDict, defaultdict}

NAMED: Any = NamedTuple
_NAMED = NodeDef(
    NAMED,
    lambda t: (list(t), type(t)),
    lambda values, kind: kind(*values),
    _namedtuple_flatten_with_keys,
)


def register_pytree_node(
    cls: type,
    flatten_fn: Callable[[Any], tuple[list[Any], Any]],
    unflatten_fn: Callable[[Iterable[Any], Any], Any],
    *,
    serialized_type_name: str | None = None,
    to_dumpable_context: Any = None,
    from_dumpable_context: Any = None,
    flatten_with_keys_fn: Callable[[Any], tuple[list[tuple[Any, Any]], Any]] | None = None,
) -> None:
    """Let values of a type have parts: `flatten_fn` returns a list of them and a context, of which
    `unflatten_fn(parts, context)` makes a value. `flatten_with_keys_fn`, which functions of paths
    need, returns a list of (key, part) in place of the parts."""
    if cls in SUPPORTED_NODES:
        raise ArgumentError(f"register_pytree_node: {cls} is already registered as pytree node")
    SUPPORTED_NODES[cls] = NodeDef(cls, flatten_fn, unflatten_fn, flatten_with_keys_fn)


_register_pytree_node = register_pytree_node


def _node(tree: Any, is_leaf: Leaf = None) -> NodeDef | None:
    """How a value is taken apart; None if it is a leaf."""
    if is_leaf is not None and is_leaf(tree):
        return None
    named = isinstance(tree, tuple) and hasattr(tree, "_fields")
    return _NAMED if named else SUPPORTED_NODES.get(type(tree))


def _is_leaf(tree: PyTree, is_leaf: Leaf = None) -> bool:
    return _node(tree, is_leaf) is None


def _get_node_type(tree: Any) -> Any:
    node = _node(tree)
    return type(tree) if node is None else node.type


class TreeSpec:
    """The form of a tree, as `tree_flatten` gives it.

    Attributes:
        type: the type of the outermost value; None for a leaf.
        context: what `unflatten_fn` needs besides the parts.
        children_specs: the forms of the parts.
        num_leaves: the number of leaves.
    """

    def __init__(self, type: Any, context: Any, children_specs: Iterable[TreeSpec]) -> None:
        self.type, self.context = type, context
        self.children_specs = list(children_specs)
        leaves: int = sum(each.num_leaves for each in self.children_specs)
        self.num_leaves: int = 1 if self.is_leaf() else leaves
        self.num_children = len(self.children_specs)

    def is_leaf(self) -> bool:
        return self.type is None

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """A tree of this form with other leaves."""
        leaves = list(leaves)
        if len(leaves) != self.num_leaves:
            raise ArgumentError(sentence("unflatten", f"{self.num_leaves} leaves", len(leaves)))
        return self._of(iter(leaves))

    def _of(self, leaves: Any) -> Any:
        if self.is_leaf():
            return next(leaves)
        parts = [each._of(leaves) for each in self.children_specs]
        node = _NAMED if self.type is NAMED else SUPPORTED_NODES[self.type]
        return node.unflatten_fn(parts, self.context)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TreeSpec) and (
            (self.type, self.context, self.children_specs)
            == (other.type, other.context, other.children_specs)
        )

    def __hash__(self) -> int:
        return hash((self.type, self.num_leaves))

    def __repr__(self) -> str:
        if self.is_leaf():
            return "*"
        return f"TreeSpec({self.type.__name__}, {self.context}, {self.children_specs})"


class LeafSpec(TreeSpec):
    """The form of a leaf."""

    def __init__(self) -> None:
        super().__init__(None, None, [])


def tree_flatten(tree: PyTree, is_leaf: Leaf = None) -> tuple[list[Any], TreeSpec]:
    """The leaves in order, and the form."""
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves, is_leaf)


def _flatten(tree: Any, leaves: list[Any], is_leaf: Leaf) -> TreeSpec:
    node = _node(tree, is_leaf)
    if node is None:
        leaves.append(tree)
        return LeafSpec()
    parts, context = node.flatten_fn(tree)
    return TreeSpec(node.type, context, [_flatten(part, leaves, is_leaf) for part in parts])


def tree_structure(tree: PyTree, is_leaf: Leaf = None) -> TreeSpec:
    return tree_flatten(tree, is_leaf)[1]


def tree_leaves(tree: PyTree, is_leaf: Leaf = None) -> list[Any]:
    return tree_flatten(tree, is_leaf)[0]


def tree_iter(tree: PyTree, is_leaf: Leaf = None) -> Iterable[Any]:
    return iter(tree_leaves(tree, is_leaf))


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> PyTree:
    return treespec.unflatten(leaves)


def tree_map(
    func: Callable[..., Any], tree: PyTree, *rests: PyTree, is_leaf: Leaf = None
) -> PyTree:
    """`func` of each leaf, and of what is at the same place in other trees."""
    leaves, form = tree_flatten(tree, is_leaf)
    columns = [leaves, *(_parts_at(form, rest, "tree_map") for rest in rests)]
    return form.unflatten([func(*row) for row in zip(*columns, strict=True)])


def _parts_at(form: TreeSpec, tree: Any, caller: str) -> list[Any]:
    """What a tree has where a form has leaves."""
    if form.is_leaf():
        return [tree]
    node = _node(tree)
    if node is not None and {node.type, form.type} <= _DICTS:  # of any type, in any order
        keys = form.context[1] if form.type is defaultdict else form.context
        if set(keys) != set(tree):
            missing = [key for key in keys if key not in tree]
            extra = [key for key in tree if key not in keys]
            got = f"{list(tree)}, of which {extra} are not expected and {missing} are missing"
            raise ArgumentError(sentence(caller, f"the keys {keys} as in the first tree", got))
        rows = zip(form.children_specs, keys, strict=True)
        return [leaf for each, key in rows for leaf in _parts_at(each, tree[key], caller)]
    if node is None or node.type is not form.type:
        expected = f"a {form.type.__name__} as in the first tree"
        raise ArgumentError(sentence(caller, expected, type(tree).__name__))
    parts, context = node.flatten_fn(tree)
    alike = node.type is deque or context == form.context  # its maximal length may differ
    if len(parts) != form.num_children:
        expected = f"a {form.type.__name__} of {form.num_children} parts as in the first tree"
        raise ArgumentError(sentence(caller, expected, f"{len(parts)} parts"))
    if not alike:
        expected = f"a {form.type.__name__} of context {form.context} as in the first tree"
        raise ArgumentError(sentence(caller, expected, context))
    return [
        leaf
        for each, part in zip(form.children_specs, parts, strict=True)
        for leaf in _parts_at(each, part, caller)
    ]


def tree_map_(
    func: Callable[..., Any], tree: PyTree, *rests: PyTree, is_leaf: Leaf = None
) -> PyTree:
    """As `tree_map`, for what `func` does to the leaves; the tree."""
    tree_map(func, tree, *rests, is_leaf=is_leaf)
    return tree


def tree_map_only(
    type_or_types: Any, func: Callable[[Any], Any], tree: PyTree, is_leaf: Leaf = None
) -> PyTree:
    """`func` of each leaf of a type; others as they are."""
    return tree_map(lambda x: func(x) if isinstance(x, type_or_types) else x, tree, is_leaf=is_leaf)


def tree_all(pred: Callable[[Any], bool], tree: PyTree, is_leaf: Leaf = None) -> bool:
    return all(map(pred, tree_leaves(tree, is_leaf)))


def tree_any(pred: Callable[[Any], bool], tree: PyTree, is_leaf: Leaf = None) -> bool:
    return any(map(pred, tree_leaves(tree, is_leaf)))


# Paths --------------------------------------------------------------------------------------------


def tree_flatten_with_path(
    tree: PyTree, is_leaf: Leaf = None
) -> tuple[list[tuple[KeyPath, Any]], TreeSpec]:
    """The leaves in order, each as (path, leaf), and the form.

    Raises:
        ArgumentError: a type was registered without a `flatten_with_keys_fn`.
    """
    return tree_leaves_with_path(tree, is_leaf), tree_structure(tree, is_leaf)


def tree_leaves_with_path(tree: PyTree, is_leaf: Leaf = None) -> list[tuple[KeyPath, Any]]:
    """The leaves in order, each as (path, leaf); errors as for `tree_flatten_with_path`."""
    return list(_with_paths((), tree, is_leaf))


def _with_paths(path: KeyPath, tree: Any, is_leaf: Leaf) -> Iterator[tuple[KeyPath, Any]]:
    node = _node(tree, is_leaf)
    if node is None:
        yield path, tree
        return
    if node.flatten_with_keys_fn is None:
        expected = f"a flatten_with_keys_fn for type {node.type}"
        fix = "pass one to register_pytree_node"
        raise ArgumentError(sentence("tree_leaves_with_path", expected, "none", fix))
    for key, part in node.flatten_with_keys_fn(tree)[0]:
        yield from _with_paths((*path, key), part, is_leaf)


def tree_map_with_path(
    func: Callable[..., Any], tree: PyTree, *rests: PyTree, is_leaf: Leaf = None
) -> PyTree:
    """As `tree_map`, of `func(path, leaf, ...)`."""
    found, form = tree_flatten_with_path(tree, is_leaf)
    columns = [*zip(*found, strict=True)] or [(), ()]
    others = (_parts_at(form, rest, "tree_map_with_path") for rest in rests)
    rows = zip(*columns, *others, strict=True)
    return form.unflatten([func(*row) for row in rows])


def keystr(kp: KeyPath) -> str:
    """A path as Python would say it: `['a'][0].weight`"""
    return "".join(map(str, kp))


def key_get(obj: Any, kp: KeyPath) -> Any:
    """What is at the end of a path in `obj`."""
    for key in kp:
        obj = key.get(obj)
    return obj
