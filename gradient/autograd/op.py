"""The op decorator: forward and gradient side by side, and names say what is kept.

    @op(lambda g, b: g * b,
        lambda g, a: g * a)
    def mul(be, a, b, /):
        return a * b

The function computes on raw arrays of the backend `be`. Its positional-only parameters are the
differentiable inputs (`*arrays` for any number of them), options follow. There is one gradient rule
for each input, or one joint rule that gives a tuple. A rule's first parameter is the gradient of
the result; the names of the others decide what the graph keeps:

    an input's name   that array            out          the result
    x_shape           only x's shape        be           the backend
    an option's name  the option            mean, rstd   extra values, from `return y, {"mean": ..}`

Nothing else is held, and a rule whose input needs no gradient is neither called nor kept for. The
engine, not the rule, sums a gradient over broadcast axes and casts it to its input's dtype.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from gradient.autograd.explain import explain
from gradient.autograd.modes import ANOMALY, mode
from gradient.autograd.node import Node, spot_of, ticket, user_frame
from gradient.autograd.numbers import meet
from gradient.autograd.variable import TensorType, Variable, new_variable, wrap

Rule = Callable[..., Any]
new_node = object.__new__
getframe = sys._getframe

registry: dict[str, Op] = {}
"""Every op by name, for tests and tools."""


class Op:
    """An operation and its gradient rules. What the decorator returns runs it."""

    def __init__(self, function: Callable[..., Any], rules: Sequence[Rule], numbers: str):
        self.function, self.rules, self.numbers = function, rules, numbers
        self.name = function.__name__.rstrip("_")
        parameters = list(inspect.signature(function).parameters.values())[1:]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.inputs = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
        options = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        self.defaults = {p.name: p.default for p in options if p.default is not p.empty}
        self.has_options = bool(options)
        self.joint = len(rules) == 1 and (self.variadic or len(self.inputs) > 1)
        if rules and not self.joint and len(rules) != len(self.inputs):
            raise TypeError(f"op {self.name}: {len(self.inputs)} inputs but {len(rules)} rules")
        self.needs = [tuple(inspect.signature(rule).parameters)[1:] for rule in rules]
        self._sort_names({p.name for p in options})
        self.pulls = [
            self._bind(rule, names) for rule, names in zip(rules, self.needs, strict=True)
        ]

    def _sort_names(self, options: set[str]) -> None:
        """Settle, for every name that a rule uses, where its value comes from."""
        names = list(dict.fromkeys(n for need in self.needs for n in need))
        shapes = {f"{name}_shape": i for i, name in enumerate(self.inputs)}
        self.sources: dict[str, tuple[str, Any]] = {}
        for name in names:
            if name in self.inputs:
                self.sources[name] = ("input", self.inputs.index(name))
            elif name == "out":
                self.sources[name] = ("out", None)
            elif name in shapes:
                self.sources[name] = ("shape", shapes[name])
            elif name == "shapes":
                self.sources[name] = ("shapes", None)
            elif name not in options and name != "be":
                self.sources[name] = ("extra", name)
        if len(self.inputs) == 2 and set(self.sources) <= {*self.inputs, "out"} and not options:
            # The wrapper of two inputs keeps these three, or nothing.
            order = [*self.inputs, "out"] if self.sources else []
            self.sources = {n: self.sources.get(n, ("none", None)) for n in order}
        self.saved_names = tuple(self.sources)
        self.has_extras = any(kind == "extra" for kind, _ in self.sources.values())
        self.keepers: dict[tuple[bool, ...], Keeper] = {}

    def _bind(self, rule: Rule, names: tuple[str, ...]) -> Callable[[Any, Node], Any]:
        """The rule as a function of (g, node), with the common cases unrolled."""
        if all(name in self.sources for name in names):
            at = [self.saved_names.index(name) for name in names]
            if not at:
                return lambda g, node: rule(g)
            if len(at) == 1:
                (i,) = at
                return lambda g, node: rule(g, node.saved[i])  # type: ignore[index]
            if len(at) == 2:
                i, j = at
                return lambda g, node: rule(g, node.saved[i], node.saved[j])  # type: ignore[index]
        return lambda g, node: rule(g, *self._values(node, names))

    def _values(self, node: Node, names: tuple[str, ...]) -> list[Any]:
        saved, values = node.saved or (), []
        for name in names:
            if name in self.sources:
                values.append(saved[self.saved_names.index(name)])
            elif name == "be":
                values.append(node.backend)
            else:
                values.append(node.options.get(name, self.defaults.get(name)))
        return values

    # Forward: keep what the rules of the inputs that need a gradient name ----------------------

    def plan(self, wanted: tuple[bool, ...]) -> list[tuple[str, Any]]:
        """For each saved name, its source, or ("none", None) if no wanted input's rule uses it."""
        if self.joint or self.variadic:
            used = {name for need in self.needs for name in need}
        else:
            used = {n for need, w in zip(self.needs, wanted, strict=True) if w for n in need}
        return [source if name in used else ("none", None) for name, source in self.sources.items()]

    def record(
        self,
        backend: Any,
        arrays: Sequence[Any],
        nodes: Sequence[Node | None],
        y: Any,
        extras: dict[str, Any] | None,
        options: dict[str, Any],
    ) -> Node:
        """The node of a call that gave `y`. (Ops of one and two inputs have this inlined.)"""
        wanted = (True,) if len(nodes) == 1 else tuple([n is not None for n in nodes])
        keep = self.keepers.get(wanted)
        if keep is None:
            keep = self.keepers[wanted] = keeper(self.plan(wanted))
        node: Node = new_node(Node)
        node.op = self
        node.parents = tuple(nodes)
        node.saved = keep(arrays, y, extras)
        node.options = options
        node.backend = backend
        node.order = ticket()
        if type(y) is not list:
            node.shape = shape_of(y)
            node.dtype = y.dtype
        node.spot = spot_of(user_frame(2))
        if mode.grad == ANOMALY:
            trace(node)
        return node

    # Backward ------------------------------------------------------------------------------------

    def vjp(self, node: Node, g: Any, parents: Sequence[Node | None]) -> Sequence[Any]:
        """The gradients for the inputs whose parent is not None, from that of the result."""
        if node.n_outputs:
            g = filled(node, g, node.backend)
        if self.joint:
            return self.pulls[0](g, node)
        return [
            None if parent is None else pull(g, node)
            for pull, parent in zip(self.pulls, parents, strict=True)
        ]

    def vjp_tensors(
        self, node: Node, g: Any, parents: Sequence[Node | None], world: Any, grad: Any
    ) -> Sequence[Any]:
        """As `vjp`, on Tensors, so that the gradients can be differentiated again.

        Saved inputs become Tensors on their parents' nodes and `out` one on this node; `world` is
        the backend whose arrays are Tensors. Where a rule uses extra values, the op's function is
        run again on Tensors, which gives the composed definition, and that is differentiated by
        `grad(y, inputs, g)`.
        """
        if node.n_outputs:
            g = filled(node, g, world)
        scope: dict[str, Any] = {**self.defaults, **(node.options if self.has_options else {})}
        for name, value in zip(self.saved_names, node.saved or (), strict=False):
            kind, key = self.sources[name]
            if kind == "input" and hasattr(value, "dtype"):
                scope[name] = wrap(value, node.backend, node.parents[key])
            elif kind == "out":
                scope[name] = wrap(value, node.backend, node)
            else:
                scope[name] = value
        scope["be"] = world
        if self.has_extras:
            inputs = [scope.get(name) for name in self.inputs]
            for i, parent in enumerate(node.parents):
                if inputs[i] is None and parent is not None:
                    # No rule uses its value, so no gradient depends on it: zeros will do.
                    zeros = node.backend.zeros(parent.shape, parent.dtype)
                    inputs[i] = wrap(zeros, node.backend, parent)
            options = node.options if self.has_options else {}
            y, _ = self.function(world, *inputs, **options)
            wanted = [t if p is not None else None for t, p in zip(inputs, parents, strict=True)]
            return grad(y, wanted, g)
        if self.joint:
            return self.rules[0](g, *[scope[name] for name in self.needs[0]])
        return [
            None if parent is None else rule(g, *[scope[name] for name in names])
            for rule, names, parent in zip(self.rules, self.needs, parents, strict=True)
        ]

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def filled(node: Node, grads: list[Any], backend: Any) -> list[Any]:
    """The gradients of a node's several results, zeros for those that nobody used."""
    return [
        backend.zeros(shape, dtype) if g is None else g
        for g, shape, dtype in zip(grads, node.shape, node.dtype, strict=True)
    ]


Keeper = Callable[[Sequence[Any], Any, Any], tuple[Any, ...]]
"""(arrays, result, extras) -> the values that a node saves."""

GETTERS: dict[str, Callable[[Any], Callable[[Sequence[Any], Any, Any], Any]]] = {
    "input": lambda key: lambda arrays, y, extras: arrays[key],
    "out": lambda key: lambda arrays, y, extras: y,
    "shape": lambda key: lambda arrays, y, extras: shape_of(arrays[key]),
    "shapes": lambda key: lambda arrays, y, extras: [shape_of(a) for a in arrays],
    "extra": lambda key: lambda arrays, y, extras: extras[key],
    "none": lambda key: lambda arrays, y, extras: None,
}


def keeper(plan: Sequence[tuple[str, Any]]) -> Keeper:
    """A plan (see `Op.plan`) as a function, with the common cases unrolled."""
    values = [GETTERS[kind](key) for kind, key in plan]
    if not values:
        return lambda arrays, y, extras: ()
    if len(values) == 1:
        (first,) = values
        return lambda arrays, y, extras: (first(arrays, y, extras),)
    return lambda arrays, y, extras: tuple([value(arrays, y, extras) for value in values])


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of an array or a Python number."""
    return getattr(value, "shape", ())


def trace(node: Node) -> None:
    """Remember the stack that made `node` (anomaly detection)."""
    import traceback

    frame = user_frame(2)
    node.spot = spot_of(frame)
    node.stack = traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False)


def op(*rules: Rule, numbers: str = "promote") -> Callable[[Callable[..., Any]], Any]:
    """Make an op of a function on arrays and its gradient rules (none: it has no gradient).

    `numbers` says how inputs of different dtypes meet: "promote" by PyTorch's rules, "floating"
    the same and integers become the default float, "same" raises, "any" leaves them alone.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        made = Op(function, rules, numbers)
        if made.variadic or len(made.inputs) > 2:
            call = _call_n(made)
        elif len(made.inputs) == 2:
            call = _call_2(made)
        else:
            call = _call_1(made)
        for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(call, attribute, getattr(function, attribute))
        call.op = made
        registry[made.name] = made
        return call

    return decorate


# The wrappers, one an arity. Each runs the function and makes the node where a gradient is wanted.
# They are the hot path of eager execution: everything that can be settled before the call is.


def _call_1(made: Op) -> Any:
    function, differentiable = made.function, bool(made.rules)
    floating = made.numbers == "floating"
    only_x = made.saved_names == tuple(made.inputs)
    only_out = made.saved_names == ("out",)

    if made.has_options or made.has_extras or not (only_x or only_out or not made.saved_names):
        has_extras = made.has_extras
        keep = keeper(made.plan((True,)) if differentiable else ())

        def call(x: Any, /, **options: Any) -> Any:
            try:
                backend, array = x.backend, x.array
                if floating and array.dtype.kind in "biu":
                    array = meet(made, backend, [array])[0]
                y = function(backend, array, **options)
            except Exception as error:
                raise explain(made, (x,), error) from error
            extras = None
            if has_extras:
                y, extras = y
            parent = x.node
            if type(y) is list:
                node = None
                if parent is not None and differentiable and mode.grad:
                    node = made.record(backend, (array,), (parent,), y, extras, options)
                return outputs(y, backend, node)
            out = new_variable(TensorType.cls)
            out.array = y
            out.backend = backend
            out.grad = None
            if parent is not None and differentiable and mode.grad:
                out.node = node = new_node(Node)
                node.op = made
                node.parents = (parent,)
                node.backend = backend
                node.order = ticket()
                node.saved = keep((array,), y, extras)
                node.options = options
                node.shape = y.shape
                node.dtype = y.dtype
                frame = user_frame(2)
                node.spot = (frame.f_code, frame.f_lasti)
                if mode.grad is not True:
                    trace(node)
            else:
                out.node = None
            return out

        return call

    def call_plain(x: Any, /) -> Any:
        try:
            backend, array = x.backend, x.array
            if floating and array.dtype.kind in "biu":
                array = meet(made, backend, [array])[0]
            y = function(backend, array)
        except Exception as error:
            raise explain(made, (x,), error) from error
        out = new_variable(TensorType.cls)
        out.array = y
        out.backend = backend
        out.grad = None
        parent = x.node
        if parent is not None and differentiable and mode.grad:
            out.node = node = new_node(Node)
            node.op = made
            node.parents = (parent,)
            node.backend = backend
            node.order = ticket()
            node.saved = (array,) if only_x else (y,) if only_out else ()
            node.shape = y.shape
            node.dtype = y.dtype
            frame = getframe(1)
            node.spot = (frame.f_code, frame.f_lasti)
            if mode.grad is not True:
                trace(node)
        else:
            out.node = None
        return out

    return call_plain


def _call_2(made: Op) -> Any:
    function, differentiable = made.function, bool(made.rules)
    first, second = made.inputs
    names = set(made.saved_names)
    if made.has_options or made.joint or not names <= {first, second, "out"}:
        return _call_n(made)
    floating, promote = made.numbers == "floating", made.numbers != "any"
    # For each input, whether its own rule uses a, b, out.
    needs = made.needs or ((), ())
    a_uses_a, a_uses_b, a_uses_out = (n in needs[0] for n in (first, second, "out"))
    b_uses_a, b_uses_b, b_uses_out = (n in needs[1] for n in (first, second, "out"))
    keeps = bool(names)

    def call(a: Any, b: Any, /) -> Any:
        try:
            if isinstance(a, Variable):
                backend, x, node_a = a.backend, a.array, a.node
                if isinstance(b, Variable):
                    y, node_b = b.array, b.node
                    fits = x.dtype is y.dtype and not (floating and x.dtype.kind in "biu")
                else:
                    y, node_b, kind = b, None, type(b)
                    fits = (kind is float or kind is int) and x.dtype.kind == "f"
            else:
                backend, x, node_a, y, node_b = b.backend, a, None, b.array, b.node
                kind = type(a)
                fits = (kind is float or kind is int) and y.dtype.kind == "f"
            if not fits and promote:
                x, y = meet(made, backend, [x, y])
            z = function(backend, x, y)
        except Exception as error:
            raise explain(made, (a, b), error) from error
        out = new_variable(TensorType.cls)
        out.array = z
        out.backend = backend
        out.grad = None
        if differentiable and (node_a is not node_b or node_a is not None) and mode.grad:
            out.node = node = new_node(Node)
            node.op = made
            node.parents = (node_a, node_b)
            node.backend = backend
            node.order = ticket()
            node.shape = z.shape
            node.dtype = z.dtype
            frame = getframe(1)
            node.spot = (frame.f_code, frame.f_lasti)
            if keeps:
                wants_a, wants_b = node_a is not None, node_b is not None
                node.saved = (
                    x if (wants_b and b_uses_a) or (wants_a and a_uses_a) else None,
                    y if (wants_a and a_uses_b) or (wants_b and b_uses_b) else None,
                    z if (wants_a and a_uses_out) or (wants_b and b_uses_out) else None,
                )
            else:
                node.saved = ()
            if mode.grad is not True:
                trace(node)
        else:
            out.node = None
        return out

    return call


def _call_n(made: Op) -> Any:
    function, differentiable, has_extras = made.function, bool(made.rules), made.has_extras
    promote = made.numbers != "any"

    def call(*inputs: Any, **options: Any) -> Any:
        try:
            like = next(t for t in inputs if isinstance(t, Variable))
            backend = like.backend
            arrays = [t.array if isinstance(t, Variable) else t for t in inputs]
            if promote:
                arrays = meet(made, backend, arrays)
            y = function(backend, *arrays, **options)
        except Exception as error:
            raise explain(made, inputs, error) from error
        extras = None
        if has_extras:
            y, extras = y
        nodes: Any = (
            [t.node if isinstance(t, Variable) else None for t in inputs]
            if differentiable and mode.grad
            else ()
        )
        if any(n is not None for n in nodes):
            nodes += [None] * (len(made.inputs) - len(nodes))  # trailing optional inputs left out
            arrays += [None] * (len(nodes) - len(arrays))
            node = made.record(backend, arrays, nodes, y, extras, options)
        else:
            node = None
        if isinstance(y, list):
            return outputs(y, backend, node)
        return wrap(y, backend, node)

    return call


class _Output:
    """The op between a node with several results and one of them."""

    name, saved_names = "output", ()

    def vjp(self, node: Node, g: Any, parents: Any, *_: Any) -> Sequence[Any]:
        return [Partial(node.index, g)]  # type: ignore[attr-defined]

    vjp_tensors = vjp


class Partial:
    """The gradient of one of a node's several results."""

    __slots__ = ("g", "index")

    def __init__(self, index: int, g: Any):
        self.index, self.g = index, g


_OUTPUT = _Output()


def outputs(arrays: list[Any], backend: Any, node: Node | None) -> list[Any]:
    """Tensors for the several results of one node."""
    if node is None:
        return [wrap(array, backend) for array in arrays]
    node.n_outputs = len(arrays)
    node.shape = [a.shape for a in arrays]  # type: ignore[assignment]
    node.dtype = [a.dtype for a in arrays]
    result = []
    for i, array in enumerate(arrays):
        branch: Node = new_node(Node)
        branch.op, branch.parents, branch.saved, branch.backend = _OUTPUT, (node,), (), backend
        branch.index, branch.spot = i, node.spot  # type: ignore[attr-defined]
        branch.shape, branch.dtype, branch.order = array.shape, array.dtype, ticket()
        result.append(wrap(array, backend, branch))
    return result
