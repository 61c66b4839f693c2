"""The op decorator: forward and gradient rules side by side; parameter names say what is saved.

    @op(lambda g, b: g * b,
        lambda g, a: g * a)
    def mul(be, a, b, /):
        return a * b

The function computes on raw arrays of the backend `be`. Its positional-only parameters are the
differentiable inputs (`*arrays` for any number of them), options follow. There is one gradient rule
for each input (that of `*arrays` gives one gradient for each of them), or one rule that gives
a tuple. A rule's first parameter is the gradient of the result; the names of the others decide what
the graph keeps:

    an input's name   that array            out          the result
    arrays            the tuple of them     shapes       the shapes of all inputs
    x_shape           only x's shape        be           the backend
    an option's name  the option            mean, rstd   extra values, from `return y, {"mean": ..}`

Nothing else is kept. If an input needs no gradient, its rule is not called, and values that only
this rule uses are not kept. A rule that uses extra values must name all inputs, because its
derivative runs the function again on them; exceptions are declared (`gradients_without`).

The engine, not the rule, sums a gradient over broadcast axes and casts it to its input's dtype.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from operator import attrgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal

from gradient.autograd import calls
from gradient.autograd.explain import TAKE_PACKED
from gradient.autograd.modes import WATCHED, mode, switched
from gradient.autograd.node import Node, next_sequence_nr, watch
from gradient.autograd.outputs import with_zeros
from gradient.autograd.promotion import CHECKED_KINDS, Promotion, checked_chars, documented
from gradient.autograd.saving import Saver, saver
from gradient.autograd.variable import wrap
from gradient.source_lines import inside, user_frame

if TYPE_CHECKING:
    from gradient.autograd.autocast import Policy
    from gradient.autograd.decorators import BinaryDecorator, Decorator

__all__ = ["op"]

Rule = Callable[..., Any]

shape_of_array, dtype_of_array = attrgetter("shape"), attrgetter("dtype")

registry: dict[str, Op] = {}
"""Every op by name, for tests and tools."""


class Op:
    """An operation and its gradient rules. The function that the decorator returns runs it."""

    def __init__(
        self,
        function: Callable[..., Any],
        rules: Sequence[Rule],
        promotion: Promotion = "default",
        *,
        public_name: str | None = None,
        packed: str | None = None,
        moves: Literal["codes", "parts"] | None = None,
        only_strides: bool = False,
        scalars_in_float32: bool = False,
        keeps_number: str | None = None,
        takes_complex: bool = False,
        core_dims: int = 0,
        expected_shapes: str | None = None,
        bool_fix: str | None = None,
        autocast: Policy | None = None,
        gradients_without: str | None = None,
        operator: Callable[[Any, Any], Any] | None = None,
        rules_of_operators: bool = False,
        part: str | None = None,
    ):
        self.function, self.rules, self.promotion = function, rules, promotion
        self.name = function.__name__.rstrip("_")
        self.public_name = public_name or self.name
        self.packed, self.moves, self.only_strides = packed, moves, only_strides
        self.part = part
        self.scalars_in_float32 = scalars_in_float32
        self.keeps_number = keeps_number
        self.operator = operator
        self.checked_kinds = CHECKED_KINDS.get(promotion, "") + "c" * (not takes_complex)
        self.autocast = autocast
        self.checked = checked_chars(self.checked_kinds, autocast)
        if packed:
            TAKE_PACKED.append(self.name)
        self.core_dims, self.expected_shapes, self.bool_fix = core_dims, expected_shapes, bool_fix
        # `inspect.signature` would give the same, but take ten times as long.
        code = function.__code__
        # Our functions call our ops with options or more inputs: the user is one more frame up.
        self.user_depth = 2 if inside[code.co_filename] else 1
        self.inputs = code.co_varnames[1 : code.co_posonlyargcount]
        named = code.co_argcount + code.co_kwonlyargcount
        self.options = code.co_varnames[code.co_posonlyargcount : named]
        self.variadic = bool(code.co_flags & inspect.CO_VARARGS)
        self.varargs = code.co_varnames[named] if self.variadic else None
        # An input of type `Array | None` may be left out.
        types = function.__annotations__
        self.takes_none = any(
            "None" in str(types[name]) for name in (*self.inputs, self.varargs) if name in types
        )
        self.defaults = function.__kwdefaults__ or {}
        self.has_options = bool(self.options)
        self.of_one = len(rules) == len(self.inputs) == 1 and not self.variadic
        self.single_rule = len(rules) == 1 and (self.variadic or len(self.inputs) > 1)
        inputs = len(self.inputs) + self.variadic
        if rules and not self.single_rule and len(rules) != inputs:
            raise TypeError(f"op {self.name}: {inputs} inputs but {len(rules)} rules")
        self.needs = [parameter_names(rule)[1:] for rule in rules]
        self._sort_names(set(self.options))
        if self.has_extras:
            self._check_inputs_named(gradients_without)
        self.has_rules_of_operators = rules_of_operators or operator is not None
        self.rules_of_operators: list[Rule] = []
        self.pullbacks: list[Callable[[Any, Node], Any]] = []

    def _sort_names(self, options: set[str]) -> None:
        """Find the source of the value for every name that a rule uses."""
        self.sources: dict[str, tuple[str, Any]] = {}
        for name in [name for need in self.needs for name in need]:
            if name in self.sources:
                continue
            if name in self.inputs:
                self.sources[name] = ("input", self.inputs.index(name))
            elif name == self.varargs:
                self.sources[name] = ("varargs", len(self.inputs))
            elif name == "out":
                self.sources[name] = ("out", None)
            elif name.endswith("_shape") and name.removesuffix("_shape") in self.inputs:
                self.sources[name] = ("shape", self.inputs.index(name.removesuffix("_shape")))
            elif name == "shapes":
                self.sources[name] = ("shapes", None)
            elif name not in options and name != "be":
                self.sources[name] = ("extra", name)
        if len(self.inputs) == 2 and set(self.sources) <= {*self.inputs, "out"} and not options:
            # The wrapper for two inputs always saves these three in this order, or nothing.
            order = [*self.inputs, "out"] if self.sources else []
            self.sources = {n: self.sources.get(n, ("none", None)) for n in order}
        self.saved_names = tuple(self.sources)
        self.has_extras = any(kind == "extra" for kind, _ in self.sources.values())
        self.savers: dict[bool | tuple[bool, ...], Saver] = {}  # True: all inputs need gradients

    def _check_inputs_named(self, without: str | None) -> None:
        """Refuse rules with extra values that leave out an input: `vjp_tensors` would run the
        function on zeros in its place, and return wrong second gradients."""
        if self.variadic:
            raise TypeError(
                f"op {self.name}: expected a fixed number of inputs in an op with extra values, "
                f"got *{self.varargs}; give each input a name"
            )
        for names in self.needs:
            missing = [n for n in self.inputs if n not in names and n != without]
            if missing:
                raise TypeError(
                    f"op {self.name}: expected each gradient rule to name all inputs, because the "
                    f"op has extra values, got a rule without {' and '.join(map(repr, missing))}; "
                    f"second gradients run the function again on these. Add the name to the rule, "
                    f"or gradients_without={missing[0]!r} if no gradient depends on its value"
                )

    def _make_pullbacks(self) -> list[Callable[[Any, Node], Any]]:
        """Make the functions that `vjp` calls, at the op's first backward pass: most programs use
        few of the ops."""
        if self.has_rules_of_operators:
            self.rules_of_operators = [_behind_backend(rule) for rule in self.rules]
        self.pullbacks = [
            self._pullback(rule, names) for rule, names in zip(self.rules, self.needs, strict=True)
        ]
        return self.pullbacks

    def _pullback(self, rule: Rule, names: tuple[str, ...]) -> Callable[[Any, Any], Any]:
        """Return the rule as a function of (g, node), with the common cases unrolled."""
        if all(name in self.sources for name in names):
            at = [self.saved_names.index(name) for name in names]
            if not at:
                return lambda g, node: rule(g)
            if len(at) == 1:
                (i,) = at
                return lambda g, node: rule(g, node.saved[i])
            if len(at) == 2:
                i, j = at
                return lambda g, node: rule(g, node.saved[i], node.saved[j])
        return lambda g, node: rule(g, *self._values(node, names))

    def _values(self, node: Node, names: tuple[str, ...]) -> list[Any]:
        saved = node.saved or ()
        values: list[Any] = []
        for name in names:
            if name in self.sources:
                values.append(saved[self.saved_names.index(name)])
            elif name == "be":
                values.append(node.backend)
            elif name in node.options:
                values.append(node.options[name])
            else:
                values.append(self.defaults.get(name))
        return values

    # Forward: save the values that the needed rules name -------------------------------------

    def _wanted(self, nodes: Sequence[Node | None]) -> tuple[bool, ...]:
        """Return, for each input, whether it needs a gradient; `*arrays` count as one input."""
        wanted = tuple(map(bool, nodes))
        if not self.variadic:
            return wanted
        n = len(self.inputs)
        return (*wanted[:n], True in wanted[n:])

    def plan(self, wanted: tuple[bool, ...]) -> list[tuple[str, Any]]:
        """Return each saved name's source, or ("none", None) if no needed rule uses it."""
        if self.single_rule:
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
    ) -> Node | None:
        """Make the node of a call that returned `y`; return None if `y` has integers or bools.
        (The wrappers for one and two inputs have their own, inlined copies.)"""
        several = type(y) is list
        if not several and y.dtype.kind in "biu":
            return None
        wanted = all(nodes) or (self._wanted(nodes) if self.variadic else tuple(map(bool, nodes)))
        keep = self.savers.get(wanted)
        if keep is None:
            keep = self.savers[wanted] = saver(self.plan(self._wanted(nodes)))
        node = Node()
        node.op = self
        node.backend = backend
        node.parents = tuple(nodes)
        node.saved = keep(arrays, y, extras)
        node.options = options
        node.sequence_nr = next_sequence_nr()
        if several:
            node.n_outputs = len(y)
            node.shape = list(map(shape_of_array, y))
            node.dtype = list(map(dtype_of_array, y))
        else:
            node.shape = y.shape
            node.dtype = y.dtype
        frame = user_frame(2 + self.user_depth)
        node.location = (frame.f_code, frame.f_lasti)
        if switched and mode.grad == WATCHED:
            watch(node)
        return node

    # Backward ------------------------------------------------------------------------------------

    def vjp(self, node: Node, g: Any, parents: Sequence[Node | None]) -> Sequence[Any]:
        """Return the gradients of the inputs whose parent is not None, from that of the result."""
        if node.n_outputs:
            g = with_zeros(node, g, node.backend)
        pullbacks = self.pullbacks or self._make_pullbacks()
        if (
            self.rules_of_operators
            and (least := node.backend.one_pass_from)
            and getattr(g, "size", 0) >= least  # g may be a number if a user calls the node
        ):
            return [
                None
                if parent is None
                else node.backend.in_one_pass(rule, g, *self._values(node, names))
                for rule, names, parent in zip(
                    self.rules_of_operators, self.needs, parents, strict=True
                )
            ]
        if self.of_one:
            return [None if parents[0] is None else pullbacks[0](g, node)]
        if self.single_rule:
            return pullbacks[0](g, node)
        if self.variadic:
            return self._each(parents, lambda i: pullbacks[i](g, node))
        if len(parents) == 2:
            (first, second), (a, b) = pullbacks, parents
            return [None if a is None else first(g, node), None if b is None else second(g, node)]
        return [
            None if parent is None else pullback(g, node)
            for pullback, parent in zip(pullbacks, parents, strict=True)
        ]

    def _each(self, parents: Sequence[Node | None], rule: Callable[[int], Any]) -> Sequence[Any]:
        """Return the gradients of a variadic op's inputs; the last rule gives several of them."""
        n = len(self.inputs)
        own = [None if parent is None else rule(i) for i, parent in enumerate(parents[:n])]
        rest = parents[n:]
        return [*own, *(rule(n) if any(p is not None for p in rest) else [None] * len(rest))]

    def vjp_tensors(
        self, node: Node, g: Any, parents: Sequence[Node | None], be: Any, grad: Any
    ) -> Sequence[Any]:
        """Do the same as `vjp` on Tensors, so that the gradients can be differentiated again.

        Saved inputs become Tensors on their parents' nodes, and `out` one on this node; `be` is the
        backend whose arrays are Tensors. If a rule uses extra values, the op's function runs again
        on Tensors, that is, by its composed definition, and `grad(y, inputs, g)` differentiates it.
        """
        if node.n_outputs:
            g = with_zeros(node, g, be)
        scope: dict[str, Any] = {**self.defaults, **(node.options if self.has_options else {})}
        for name, value in zip(self.saved_names, node.saved or (), strict=False):
            kind, key = self.sources[name]
            if kind == "input" and hasattr(value, "dtype"):
                scope[name] = wrap(value, node.backend, node.parents[key])
            elif kind == "varargs" and value is not None:
                pairs = zip(value, node.parents[key:], strict=True)
                scope[name] = tuple(wrap(v, node.backend, parent) for v, parent in pairs)
            elif kind == "out":
                scope[name] = wrap(value, node.backend, node)
            else:
                scope[name] = value
        scope["be"] = be
        if self.has_extras:
            inputs = [scope.get(name) for name in self.inputs]
            for i, parent in enumerate(node.parents):
                if inputs[i] is None and parent is not None:
                    # `gradients_without`: no gradient depends on its value, so zeros will do.
                    zeros = node.backend.zeros(parent.shape, parent.dtype)
                    inputs[i] = wrap(zeros, node.backend, parent)
            options = node.options if self.has_options else {}
            y, _ = self.function(be, *inputs, **options)
            wanted = [t if p is not None else None for t, p in zip(inputs, parents, strict=True)]
            return grad(y, wanted, g)
        if self.single_rule:
            return self.rules[0](g, *[scope[name] for name in self.needs[0]])
        if self.variadic:
            return self._each(
                parents, lambda i: self.rules[i](g, *[scope[name] for name in self.needs[i]])
            )
        return [
            None if parent is None else rule(g, *[scope[name] for name in names])
            for rule, names, parent in zip(self.rules, self.needs, parents, strict=True)
        ]

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def op(*rules: Rule, promotion: Promotion = "default", **facts: Any) -> Decorator:
    """Decorate a function on arrays as an op, with its gradient rules (none: it has no gradient).

    The decorated function has no `be`: it takes Tensors and numbers, and returns a Tensor, or a
    list of Tensors if the function returns a list.

    `promotion` says how inputs of different dtypes are treated (see `gradient.autograd.promotion`).
    Other properties of the op are keyword arguments:

        public_name         the name for users, if it differs from the function's
        packed              the name of the input that may be a packed tensor
        moves               set if the op only moves elements: "codes" if it can also move those of
                            8-bit floats, "parts" if it can run on each part of any packed tensor
        only_strides        true if the op only changes shape and strides: the result then shares
                            the input's memory, on backends whose arrays have strides
        scalars_in_float32  Python numbers are float32 beside 16-bit floats, as in PyTorch (its
                            "opmath" type): 1e6, rounded to float16 first, would be infinite
        keeps_number        the name of an input (an exponent) that is not cast if it is a number:
                            unsigned integers do not wrap it, bfloat16 does not round it (nor a
                            number that is the other input)
        takes_complex       complex inputs are allowed; the rule is then that of the plain
                            derivative, as for real numbers (see `gradient.autograd.engine`)
        core_dims           the number of trailing dimensions that do not broadcast, as in matmul
        expected_shapes     the shapes that the inputs must have, for the error message
        bool_fix            for an op that refuses bools: the alternative, for the error message
        operator            Python's operator that the function applies: on large arrays it is
                            computed by `Backend.in_one_pass`
        part                the option that is an index, if the result is the part of the input at
                            it: its gradient is then added to that part of a sum so far
        rules_of_operators  true if the rules use only elementwise operators: they are then computed
                            by `Backend.in_one_pass` too
        gradients_without   the name of an input that rules with extra values leave out, because
                            no gradient depends on its value (the bias of a norm)
        autocast            the dtype policy under `amp.autocast` (see `gradient.autograd.autocast`)
    """

    def decorate(function: Callable[..., Any]) -> Any:
        made = Op(function, rules, promotion, **facts)
        call: Any
        if made.variadic or len(made.inputs) > 2:
            call = calls.of_n(made)
        elif len(made.inputs) == 2:
            call = calls.of_two(made)
        else:
            call = calls.of_one(made)
        call.__module__, call.__name__ = function.__module__, function.__name__
        call.__qualname__ = function.__qualname__
        call.__doc__ = "\n    ".join((function.__doc__ or "", *documented(made)))
        call.op = made
        registry[made.name] = made
        return call

    return decorate


def binary_op(*rules: Rule, promotion: Promotion = "default", **facts: Any) -> BinaryDecorator:
    """Like `op`, for two inputs, either of which may be a Python number."""
    decorate: Any = op(*rules, promotion=promotion, **facts)
    return decorate


def _behind_backend(rule: Rule) -> Rule:
    """Give a rule the signature that `Backend.in_one_pass` expects: the backend first."""
    return lambda be, *values: rule(*values)


def parameter_names(rule: Rule) -> tuple[str, ...]:
    """Return the names of all parameters of a gradient rule."""
    if isinstance(rule, FunctionType):
        return rule.__code__.co_varnames[: rule.__code__.co_argcount]
    return tuple(inspect.signature(rule).parameters)


def op_of(call: Any) -> Op:
    """Return the op that a decorated function runs."""
    found: Op = call.op
    return found
