"""The graph's nodes: which op made a tensor, from what, and what its gradient needs."""

from __future__ import annotations

import functools
import importlib
import itertools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from gradient.autograd.modes import mode
from gradient.source_lines import Location, location_of, user_frame

if TYPE_CHECKING:
    from gradient.backends import Backend

__all__ = ["Node"]

next_sequence_nr = itertools.count(1).__next__
"""Increasing numbers for nodes, and for writes in place."""


class Node:
    """One step of the graph. Creation order is topological order. Who makes one fills its slots: it
    has no constructor, which would cost more than all of them.

    op       what made it (`Op`, or a like object with `vjp` and `vjp_tensors`); None for a leaf
    parents  the nodes of the inputs, None for each input that needs no gradient
    saved    the values named by `op.saved_names`; None once freed
    options  the keyword arguments of the call, for ops that have any
    shape, dtype, backend   of the result
    sequence_nr  larger than that of any node made before
    location     where the op was called
    """

    __slots__ = (
        "__dict__", "__weakref__",
        "backend", "dtype", "location", "op", "options", "parents", "saved", "sequence_nr", "shape",
    )  # fmt: skip

    op: Any
    parents: tuple[Node | None, ...]
    saved: tuple[Any, ...] | None
    options: dict[str, Any]
    shape: Any  # a tuple; of a node of several results a list of theirs, as `dtype` then is
    dtype: Any
    backend: Backend
    sequence_nr: int
    location: Location

    # Rarely set, so kept out of the slots: an instance that sets one gets a __dict__.
    leaf: weakref.ref[Any] | None = None
    hooks: list[Any] | None = None
    post_hooks: list[Any] | None = None
    retained: weakref.ref[Any] | None = None
    own_hooks: NodeHooks | None = None
    stack: Any = None
    unpack: Callable[[Node], tuple[Any, ...]] | None = None
    n_outputs: int = 0

    def name(self) -> str:
        """As PyTorch prints a grad_fn: that of a `Function` has no 0."""
        if self.op is None:
            return "AccumulateGrad"
        words = self.op.public_name.split("_")
        ending = "Backward" if hasattr(self.op, "ctx") else "Backward0"
        return "".join(w[:1].upper() + w[1:] for w in words) + ending

    def register_tensor_hook(self, hook: Callable[[Any], Any]) -> RemovableHandle:
        """Call `hook(grad)` with the gradient of the result; a returned value replaces it."""
        if self.hooks is None:
            self.hooks = []
        return RemovableHandle(self.hooks, hook)

    def register_hook(self, fn: Callable[[Any, Any], Any]) -> RemovableHandle:
        """Call `fn(grad_inputs, grad_outputs)` when this node has run in a backward pass: with a
        tuple of the gradients of the op's inputs (None for each that needs none), and one of those
        of its results. A returned tuple replaces the first one.

        Of a leaf's node `grad_inputs` is (), and `grad` has the gradient by then.
        """
        return RemovableHandle(self._own_hooks().after, fn)

    def register_prehook(self, fn: Callable[[Any], Any]) -> RemovableHandle:
        """Call `fn(grad_outputs)` before this node runs in a backward pass, with a tuple of the
        gradients of its results; a returned tuple replaces it."""
        return RemovableHandle(self._own_hooks().before, fn)

    def _own_hooks(self) -> NodeHooks:
        if self.own_hooks is None:
            importlib.import_module("gradient.autograd.node_hooks")  # which knows the engine
            self.own_hooks = NodeHooks(self.op)
            if self.op is not None:
                self.op = self.own_hooks
            elif self.post_hooks is None:
                self.post_hooks = []  # where there are such, the engine looks for `own_hooks`, too
        return self.own_hooks

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dict for whoever goes through the graph."""
        found: dict[Any, Any] = self.__dict__.setdefault("_metadata", {})
        return found

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The nodes of the op's inputs, each with the number of which of its results that is."""
        return tuple(edge_of(parent) for parent in self.parents)

    def __repr__(self) -> str:
        return f"<{self.name()}>"


def edge_of(node: Node | None) -> tuple[Node | None, int]:
    """The node of the call that made a tensor, of the tensor's, and which of its results it is."""
    call = node.parents[0] if node is not None and len(node.parents) == 1 else None
    if node is not None and call is not None and call.n_outputs and node.op.name == "output":
        return call, node.saved[0] if node.saved else 0
    return node, 0


class GradientEdge(NamedTuple):
    """Where a tensor's gradient goes: the node that made it, and which of its results it is. It
    stands for the tensor in `autograd.grad` and `backward`, and does not hold its memory.

    `ownership_token` is the tensor's own node, where that is another one.
    """

    node: Node
    output_nr: int
    ownership_token: Node | None = None


class NodeHooks:
    """The hooks of a node: an op that stands in the place of its own, and calls them.

    So a node without hooks costs the engine nothing. `gradient.autograd.node_hooks` has `run`.
    """

    run: Callable[..., Any]

    def __init__(self, op: Any) -> None:
        self.op = op
        self.before: list[Any] = []
        self.after: list[Any] = []

    def vjp(self, node: Node, *arguments: Any) -> Any:
        return NodeHooks.run(self, self.op.vjp, False, node, *arguments)

    def vjp_tensors(self, node: Node, *arguments: Any) -> Any:
        return NodeHooks.run(self, self.op.vjp_tensors, True, node, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.op, name)


class RemovableHandle:
    """Registers a hook, of a tensor, module or optimiser, as the last of its kind or the first.

    `handle.remove()` takes it away, or the end of a `with` block.
    """

    def __init__(self, hooks: list[Any], hook: Any, prepend: bool = False) -> None:
        if any(each is hook for each in hooks):
            hook = functools.partial(hook)  # an object of its own, which `remove` can tell apart
        self.hooks: list[Any] = hooks
        self.hook: Any = hook
        hooks.insert(0 if prepend else len(hooks), hook)

    def remove(self) -> None:
        for i, hook in enumerate(self.hooks):
            if hook is self.hook:
                del self.hooks[i]
                break
        self.hooks = []  # a second call finds nothing, not a later registration of the function

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def make_node(
    op: Any,
    backend: Backend,
    parents: tuple[Node | None, ...],
    saved: tuple[Any, ...],
    result: Any,
    location: Location | None = None,
) -> Node:
    """The next node, of a call whose result is the array `result` (of several: their list)."""
    node = Node()
    node.op, node.backend, node.parents, node.saved = op, backend, parents, saved
    node.sequence_nr = next_sequence_nr()
    if type(result) is list:
        node.n_outputs = len(result)
        node.shape = [each.shape for each in result]
        node.dtype = [each.dtype for each in result]
    else:
        node.shape, node.dtype = result.shape, result.dtype
    if location is not None:
        node.location = location
    return node


def leaf_node(tensor: Any) -> Node:
    """The node of a tensor whose gradient is to be accumulated in its `grad`."""
    node = make_node(None, tensor.backend, (), (), tensor.array)
    node.leaf = weakref.ref(tensor)
    return node


packing_used: list[bool] = []
"""Empty until hooks on saved tensors are first used; till then no backward pass asks for them."""


def watch(node: Node) -> None:
    """Store the stack that made `node`, for anomaly detection, and apply saved-tensor hooks to
    what it saves; whichever is on."""
    if mode.saved_hooks is not None:
        mode.saved_hooks.pack(node)
    if not mode.anomaly:
        return
    import traceback

    frame = user_frame(2)
    node.location = location_of(frame)
    node.stack = traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False)
