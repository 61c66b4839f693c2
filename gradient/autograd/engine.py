"""The backward pass: one loop over the nodes of the graph, newest first.

The engine does the steps common to all ops: it sums a gradient over the axes along which the input
was broadcast, casts it to the input's dtype, adds it in place to a sum that the engine owns, and
calls hooks. Ops do none of this. With `create_graph` the same loop runs on Tensors.

The gradient of a complex z = x + i y is dL/dx + i dL/dy, as in PyTorch; users and their hooks see
this. Nodes pass its conjugate to each other, the plain derivative dL/dx - i dL/dy. With it the
chain rule is the same as for real numbers: the rule of `a * b` is `g * b` for both. A real input
of an op with complex inputs gets the real part.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from gradient.autograd import inplace
from gradient.autograd.modes import enable_grad, mode
from gradient.autograd.node import Node, packing_used
from gradient.autograd.roots import backend_of_tensors, conjugate, root_grads, tensors_of
from gradient.autograd.variable import Variable, wrap
from gradient.backends.placement import device_contexts, on_device_of
from gradient.errors import AutogradError, ShapeError, sentence
from gradient.locks import new_lock

if TYPE_CHECKING:
    from gradient.backends import Backend
    from gradient.tensor import Tensor

__all__ = ["backward", "grad"]


def _count_of_one_reference() -> int:
    only = object()
    return sys.getrefcount(only)


ONLY_REFERENCE = _count_of_one_reference()
"""What `sys.getrefcount` returns for a local variable with the only reference to an object: Python
versions differ in whether the argument of the call counts."""

grad_lock = new_lock()
"""Locked while a leaf's `grad` changes, so that no gradient is lost if threads share a leaf."""


class Accumulation:
    """The hooks of a leaf's node that run before and after its gradient is added to `grad`;
    `node_hooks`, which imports the engine, registers them."""

    before: Callable[[Any, Any, bool], Any]
    after: Callable[[Any, Any], None]


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradients of `tensors` to the `grad` of the leaves (or of `inputs` only).

    `grad_tensors` has a gradient of the same shape for each tensor; None means 1, for scalars only.
    The graph is freed unless `retain_graph` is true (default: the value of `create_graph`).
    """
    roots = root_grads("backward", "tensors", tensors, grad_tensors, create_graph)
    keep = create_graph if retain_graph is None else retain_graph
    inputs = None if inputs is None else tensors_of("backward", "inputs", inputs)
    wanted = None if inputs is None else [t.node for t in inputs if t.node is not None]
    if inputs is not None and (not inputs or len(wanted or ()) < len(inputs)):
        raise AutogradError("backward: every tensor of 'inputs' must require a gradient")
    found = run_backward(roots, wanted, keep, create_graph)
    if inputs is not None:
        for tensor in inputs:
            if tensor.node in found:
                accumulate_grad(tensor, found[tensor.node], create_graph)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor, ...]:
    """Return the gradients of `outputs` with respect to `inputs`, as new tensors; change no `grad`.

    If the outputs do not depend on an input, its gradient is None with `allow_unused`, zeros with
    `materialize_grads`, and otherwise an error is raised. `only_inputs` exists for old scripts and
    must be True. With `is_grads_batched`, `grad_outputs` have a batch dimension before the outputs'
    own, and so have the gradients: one of each vector, all computed at once (`func.vmap`).
    """
    if not only_inputs:
        expected = "only_inputs=True"
        raise AutogradError(sentence("grad", expected, "False", "use backward() to fill `grad`"))
    keep = create_graph if retain_graph is None else retain_graph
    if is_grads_batched:  # by `vmap`, which is on a higher rung
        by_vmap: Any = importlib.import_module("gradient.func.batched_grads").grads_of_batch
        options = keep, create_graph, bool(allow_unused), materialize_grads
        return tuple(by_vmap(outputs, inputs, grad_outputs, *options))
    roots = root_grads("grad", "outputs", outputs, grad_outputs, create_graph)
    tensors = tensors_of("grad", "inputs", inputs)
    if not tensors:
        raise AutogradError(sentence("grad", "at least one tensor as inputs", "none"))
    for i, tensor in enumerate(tensors):
        if tensor.node is None:
            raise AutogradError(
                f"grad: input {i} does not require a gradient; call requires_grad_()"
            )
    found = run_backward(roots, [t.node for t in tensors], keep, create_graph)
    result: list[Any] = []
    for i, tensor in enumerate(tensors):
        g = found.get(tensor.node)
        if g is None and materialize_grads:
            g = tensor.backend.zeros(tensor.array.shape, tensor.array.dtype)
        if g is None and not allow_unused:
            raise AutogradError(
                f"grad: the outputs do not depend on input {i}; pass allow_unused=True to get None"
            )
        whole: Any = g if g is None or isinstance(g, Variable) else wrap(g, tensor.backend)
        if whole is not None and tensor.is_contiguous():
            whole = whole.contiguous()  # so that `view` works on it, as in PyTorch
        result.append(whole)
    return tuple(result)


by_sequence_nr = attrgetter("sequence_nr")


def all_under(roots: Iterable[Node]) -> list[Node]:
    """Return all nodes reachable from the roots, newest first."""
    seen = set(roots)
    stack = list(seen)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=by_sequence_nr, reverse=True)


def leading_to(
    wanted: Sequence[Node], roots: Iterable[Node], borders: frozenset[Node]
) -> list[Node]:
    """Return the nodes on paths from the roots to one of `wanted`, newest first.

    The search stops at nodes older than the oldest wanted one, which cannot depend on it, and at
    `borders`.
    """
    floor = min((n.sequence_nr for n in wanted), default=0)
    seen = set(roots)
    stack = list(seen)
    while stack:
        node = stack.pop()
        for parent in () if node in borders else node.parents:
            if parent is not None and parent not in seen and parent.sequence_nr >= floor:
                seen.add(parent)
                stack.append(parent)
    nodes = sorted(seen, key=by_sequence_nr, reverse=True)
    leading = set(wanted)
    for node in reversed(nodes):
        if node not in leading and any(p in leading for p in node.parents):
            leading.add(node)
    return [node for node in nodes if node in leading]


# The pass ----------------------------------------------------------------------------------------


def run_backward(
    roots: Sequence[tuple[Node, Any]],
    wanted: Sequence[Node] | None,
    keep: bool,
    create_graph: bool,
    within: bool = False,
) -> dict[Node, Any]:
    """Propagate from the roots. Return the gradients of the `wanted` nodes; if it is None, add to
    the leaves' `grad`.

    `keep` keeps the saved values for another pass. A pass `within` another one computes gradients
    for the inputs of one op and stops there: the outer pass goes on and calls their hooks.
    """
    captured = frozenset(wanted or ())
    begin = [node for node, _ in roots]
    if wanted is None:
        nodes, allowed = all_under(begin), None
    else:
        nodes = leading_to(wanted, begin, captured if within else frozenset())
        allowed = set(nodes)
    found: dict[Node, Any] = {}
    grads: dict[Node, Any] = {}
    owned: set[Node] = set()
    for node, g in roots:
        if allowed is None or node in allowed:
            add(grads, owned, node, g, create_graph)
    del roots
    last_write = inplace.last_write
    checks_nan = mode.anomaly and mode.check_nan
    packed: Any = None
    results: Any = None
    before, outer_nodes = mode._grad, mode.nodes
    mode.nodes = nodes
    mode.grad = (before or True) if create_graph else False
    try:
        for node in nodes:
            g = grads.pop(node, None)
            if g is None:
                continue
            if within and node in captured:
                found[node] = g
                continue
            if node.hooks is not None:
                g = run_hooks(node, g, create_graph)
            if node in captured:
                found[node] = g if within else conjugate(node, g, create_graph)
                if allowed is not None and allowed.isdisjoint(node.parents):
                    continue  # the graph below is another pass's, which must find it as it was
            if node.op is None:
                leaf = None if allowed is not None or node.leaf is None else node.leaf()
                if leaf is not None and leaf.node is not None:  # None: frozen since the forward
                    # Not copied if this is the only reference. (The count is taken before the call
                    # below, because evaluated arguments hold references, too.)
                    own = sys.getrefcount(g) <= ONLY_REFERENCE
                    if node.dtype.kind == "c":
                        g = conjugate(node, g, create_graph)
                    accumulate_grad(leaf, g, create_graph, own)
                continue
            if node.saved is None:
                raise AutogradError(
                    f"backward: the graph through {node.op.public_name} was freed by an earlier "
                    "backward pass; pass retain_graph=True to that one to go through it a second "
                    "time"
                )
            if node.sequence_nr < last_write.sequence_nr:
                inplace.check_saved(node)
            if packing_used:
                packed = node.saved
                node.saved = packed if node.unpack is None else node.unpack(node)
            parents = node.parents
            if allowed is not None:
                parents = tuple([p if p in allowed else None for p in parents])
            if owned and parents and parents[0] in owned and not create_graph and shows_part(node):
                # Not in zeros of the whole, as for each step of a loop over time.
                whole, index = grads[parents[0]], node.options[node.op.part]
                node.backend.accumulate(node.backend.getitem(whole, index), g)
                results = ()
            elif create_graph:
                results = node.op.vjp_tensors(
                    node, g, parents, backend_of_tensors(node.backend), grad_through
                )
            elif device_contexts:
                results = on_device_of(node.backend, _vjp, node, g, parents)
            else:
                results = node.op.vjp(node, g, parents)
            if checks_nan:
                from gradient.autograd.anomaly import check_nan

                check_nan(node, results)
            if not keep and node.saved:
                node.saved = None
            elif packed is not None:
                node.saved = packed
            packed = None  # drop the reference, so that saved arrays can be freed
            g = None
            for parent, result in zip(parents, results, strict=False):
                if parent is not None and result is not None:
                    add(grads, owned, parent, result, create_graph)
            results = result = None  # drop references: `grads` must have the only ones
    except Exception as error:
        if node.stack is None:
            raise
        from gradient.autograd.anomaly import trace_of, with_trace  # only for anomaly detection

        if isinstance(error, AutogradError):
            raise with_trace(node, error) from error
        error.add_note(trace_of(node))
        raise
    finally:
        mode.grad, mode.nodes = before, outer_nodes
    return found


def add(grads: dict[Node, Any], owned: set[Node], node: Node, g: Any, on_tensors: bool) -> None:
    """Add `g`, in the shape and dtype of `node`, to its gradient so far: in place if the engine
    owns that sum."""
    if node.n_outputs:
        parts = grads.setdefault(node, [None] * node.n_outputs)
        before = parts[g.index]
        parts[g.index] = g.g if before is None else _sum(node.backend, before, g.g, on_tensors)
        return
    if g.shape != node.shape:
        g = unbroadcast(
            backend_of_tensors(node.backend) if on_tensors else node.backend, g, node.shape
        )
    if on_tensors:
        if g.array.dtype != node.dtype:
            g = in_dtype(backend_of_tensors(node.backend), g, g.array.dtype, node.dtype)
    elif g.dtype is not node.dtype:
        g = in_dtype(node.backend, g, g.dtype, node.dtype)
    if node not in grads:
        grads[node] = g
    elif node in owned:
        grads[node] = node.backend.accumulate(grads[node], g)
    else:
        grads[node] = _sum(node.backend, grads[node], g, on_tensors)
        if not on_tensors:
            owned.add(node)


def shows_part(node: Node) -> bool:
    """Whether the gradient of a part may be added to that part of the engine's own sum: if an index
    without arrays shows it."""
    option = getattr(node.op, "part", None)
    if option is None or device_contexts or not node.shape:  # of 0-d, some libraries make a copy
        return False
    index = node.options[option]
    items = index if type(index) is tuple else (index,)
    return not any(hasattr(item, "dtype") or type(item) is list for item in items)


def _sum(backend: Backend, a: Any, b: Any, are_tensors: bool) -> Any:
    if device_contexts:
        return on_device_of(backend, _added, a, b)
    if (least := backend.one_pass_from) and not are_tensors and getattr(a, "size", 0) >= least:
        return backend.in_one_pass(_added, a, b)
    return a + b


def _added(backend: Backend, a: Any, b: Any) -> Any:
    return a + b


def _vjp(backend: Backend, node: Node, g: Any, parents: Sequence[Node | None]) -> Sequence[Any]:
    return node.op.vjp(node, g, parents)


def in_dtype(backend: Backend, g: Any, given: Any, dtype: Any) -> Any:
    """Cast `g` to a dtype; take the real part of a complex one for a real input."""
    return backend.astype(backend.real(g) if given.kind == "c" and dtype.kind != "c" else g, dtype)


def unbroadcast(backend: Backend, g: Any, shape: tuple[int, ...]) -> Any:
    """Sum `g` over the axes along which an array of `shape` was broadcast."""
    extra = len(g.shape) - len(shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(shape, g.shape[extra:], strict=True)):
        raise ShapeError(
            f"backward: expected a gradient of shape {tuple(shape)}, or one that it broadcasts to, "
            f"got {tuple(g.shape)}"
        )
    lone = tuple(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1)
    summed = tuple(range(extra)) + lone
    if summed:
        g = backend.sum(g, summed, False)
    return g if tuple(g.shape) == tuple(shape) else backend.reshape(g, tuple(shape))


def accumulate_grad(leaf: Any, g: Any, create_graph: bool, own: bool = False) -> None:
    """Add a complete gradient to `leaf.grad`. `own`: there is no other reference to `g`."""
    backend = leaf.backend
    hooks, hooked = leaf.node.post_hooks, None
    if hooks is not None and leaf.node.own_hooks is not None:
        hooked = Accumulation.before(leaf, g, create_graph)
        if hooked is None:
            return
        g, own = hooked if create_graph else hooked.array, False
    with grad_lock:
        before = leaf.grad
        if create_graph:
            # A copy, in the graph: other leaves may share this gradient, or it may be a view.
            with enable_grad():
                leaf._grad = g.clone() if before is None else before + g
        elif before is None:
            kept = wrap(g, backend)
            if not (own and g.shape and kept.is_contiguous()) or backend.is_view(g):
                kept.array = backend.copy(g)
            leaf._grad = kept
        elif before.node is not None:
            leaf._grad = wrap(_sum(backend, before.array, g, False), backend)
        else:
            try:
                before.array = backend.accumulate(before.array, g)
            except ValueError as error:
                raise misfit(before.array, g, error) from error
            inplace.mark_overwritten(backend, before.array, "backward", 5)
    if hooks is not None:
        for hook in hooks:
            hook(leaf)
        if hooked is not None:
            Accumulation.after(leaf, hooked)


def misfit(before: Any, g: Any, error: ValueError) -> AutogradError | ShapeError:
    """Return the error for a gradient that cannot be added to a leaf's `grad`."""
    if tuple(before.shape) != tuple(g.shape):
        return ShapeError(
            f"backward: a leaf's .grad has shape {tuple(before.shape)} but its gradient has shape "
            f"{tuple(g.shape)}; set .grad to None after the leaf's shape was changed"
        )
    if "read-only" in str(error):
        return AutogradError(
            "backward: the memory of a leaf's .grad cannot be written (an expanded tensor, or a "
            "read-only array); clone() it, or set .grad to None"
        )
    return AutogradError(f"backward: a leaf's .grad cannot be added to: {error}")


def grad_through(y: Any, inputs: Sequence[Any], g: Any) -> list[Any]:
    """Return the gradients of Tensor `y`, or of a list of several, for the `inputs` that are not
    None, as Tensors."""
    nodes = [t.node for t in inputs if t is not None]
    results = zip(y, g, strict=True) if type(y) is list else [(y, g)]
    roots = [(result.node, part) for result, part in results if result.node is not None]
    if not roots:
        return [None] * len(inputs)
    found = run_backward(roots, nodes, True, True, within=True)
    # If several inputs share a node, it has the sum of their gradients: return that once.
    return [None if t is None else found.pop(t.node, None) for t in inputs]


def run_hooks(node: Node, g: Any, create_graph: bool) -> Any:
    if isinstance(g, list):  # a node of several results: the hooks of its outputs have run already
        return g
    g = conjugate(node, g, create_graph)
    tensor = g if create_graph else wrap(g, node.backend)
    for hook in list(node.hooks or ()):
        replaced = hook(tensor)
        if replaced is not None:
            if tuple(replaced.shape) != tuple(tensor.shape):
                raise ShapeError(
                    f"backward: a hook of {node.name()} was given a gradient of shape "
                    f"{tuple(tensor.shape)} and returned one of {tuple(replaced.shape)}"
                )
            tensor = replaced
    if node.retained is not None and (kept := node.retained()) is not None:
        kept._grad = tensor.clone() if kept.grad is None else kept.grad + tensor
    return conjugate(node, tensor if create_graph else tensor.array, create_graph)
