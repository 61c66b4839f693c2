"""The nodes of the graph: the op that made a tensor, its inputs' nodes and its saved values."""

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
"""Returns increasing numbers, for nodes and for in-place writes."""


class Node:
    """One op call in the graph. Creation order is a topological order. The caller sets the slots
    of a new node, as a constructor would cost more than setting them all.

    op       the op (`Op`, or another object with `vjp` and `vjp_tensors`); None for a leaf
    parents  the nodes of the inputs, None for each input that needs no gradient
    saved    the values named by `op.saved_names`; None once freed
    options  the keyword arguments of the call, if the op has any
    shape, dtype, backend   those of the result
    sequence_nr  larger than that of every earlier node
    location     the place of the op's call
    """

    __slots__ = (
        "__dict__", "__weakref__",
        "backend", "dtype", "location", "op", "options", "parents", "saved", "sequence_nr", "shape",
    )  # fmt: skip

    op: Any
    parents: tuple[Node | None, ...]
    saved: tuple[Any, ...] | None
    options: dict[str, Any]
    shape: Any  # a tuple; for several results a list of tuples, and `dtype` is a list too
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
        """Return the name that PyTorch prints for a grad_fn: `MulBackward0`; a `Function`'s has no
        0 at its end."""
        if self.op is None:
            return "AccumulateGrad"
        words = self.op.public_name.split("_")
        ending = "Backward" if hasattr(self.op, "ctx") else "Backward0"
        return "".join(w[:1].upper() + w[1:] for w in words) + ending

    def register_tensor_hook(self, hook: Callable[[Any], Any]) -> RemovableHandle:
        """Register `hook(grad)`: it gets the gradient of the result, and may return another."""
        if self.hooks is None:
            self.hooks = []
        return RemovableHandle(self.hooks, hook)

    def register_hook(self, fn: Callable[[Any, Any], Any]) -> RemovableHandle:
        """Register `fn(grad_inputs, grad_outputs)`, called after this node has run in a backward
        pass. `grad_inputs` is a tuple of the gradients of the op's inputs (None for each that needs
        none), `grad_outputs` one of those of its results. A returned tuple replaces `grad_inputs`.

        For a leaf's node `grad_inputs` is (), and the leaf's `grad` already has the gradient.
        """
        return RemovableHandle(self._own_hooks().after, fn)

    def register_prehook(self, fn: Callable[[Any], Any]) -> RemovableHandle:
        """Register `fn(grad_outputs)`, called before this node runs in a backward pass, with a
        tuple of the gradients of its results. A returned tuple replaces it."""
        return RemovableHandle(self._own_hooks().before, fn)

    def _own_hooks(self) -> NodeHooks:
        if self.own_hooks is None:
            importlib.import_module("gradient.autograd.node_hooks")  # late: it imports the engine
            self.own_hooks = NodeHooks(self.op)
            if self.op is not None:
                self.op = self.own_hooks
            elif self.post_hooks is None:
                self.post_hooks = []  # the engine reads `own_hooks` only if there is such a list
        return self.own_hooks

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dict for the user's own data on this node."""
        found: dict[Any, Any] = self.__dict__.setdefault("_metadata", {})
        return found

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """A pair for each input of the op: the node that made it, and its index among that node's
        results."""
        return tuple(edge_of(parent) for parent in self.parents)

    def __repr__(self) -> str:
        return f"<{self.name()}>"


def edge_of(node: Node | None) -> tuple[Node | None, int]:
    """Return the node of the call that made a tensor, and the tensor's index among its results,
    from the tensor's own node."""
    call = node.parents[0] if node is not None and len(node.parents) == 1 else None
    if node is not None and call is not None and call.n_outputs and node.op.name == "output":
        return call, node.saved[0] if node.saved else 0
    return node, 0


class GradientEdge(NamedTuple):
    """A tensor's place in the graph: the node that made it, and its index among the results. It can
    replace the tensor in `autograd.grad` and `backward`, and does not keep the tensor's memory.

    `ownership_token` is the tensor's own node, if that is another one than `node`.
    """

    node: Node
    output_nr: int
    ownership_token: Node | None = None


class NodeHooks:
    """The hooks of a node. This object replaces the node's op, runs it and calls the hooks.

    So a node without hooks costs the engine nothing. `gradient.autograd.node_hooks` sets `run`.
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
    """The handle of a registered hook of a tensor, module or optimiser. The constructor appends the
    hook to `hooks`, or puts it first with `prepend`.

    `handle.remove()` removes the hook; so does the end of a `with handle:` block.
    """

    def __init__(self, hooks: list[Any], hook: Any, prepend: bool = False) -> None:
        if any(each is hook for each in hooks):
            hook = functools.partial(hook)  # a new object, so that `remove` finds the right one
        self.hooks: list[Any] = hooks
        self.hook: Any = hook
        hooks.insert(0 if prepend else len(hooks), hook)

    def remove(self) -> None:
        for i, hook in enumerate(self.hooks):
            if hook is self.hook:
                del self.hooks[i]
                break
        self.hooks = []  # a second call must not remove a later registration of the function

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
    """Make the node of a call; `result` is its result array, or a list of several."""
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
    """Make the node of a leaf tensor: its gradient is added to its `grad`."""
    node = make_node(None, tensor.backend, (), (), tensor.array)
    node.leaf = weakref.ref(tensor)
    return node


packing_used: list[bool] = []
"""Empty until the first use of saved-tensor hooks; before it no backward pass checks for them."""


def watch(node: Node) -> None:
    """Apply saved-tensor hooks to the saved values of a new node, if there are hooks; store the
    stack of its call, if anomaly detection is on."""
    if mode.saved_hooks is not None:
        mode.saved_hooks.pack(node)
    if not mode.anomaly:
        return
    import traceback

    frame = user_frame(2)
    node.location = location_of(frame)
    node.stack = traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False)
