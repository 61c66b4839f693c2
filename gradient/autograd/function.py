"""`Function`: an op that a user defines, with a forward and a backward on Tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from gradient import absent
from gradient.autograd.inference import refuse_saved
from gradient.autograd.modes import WATCHED, enable_grad, mode, no_grad
from gradient.autograd.node import Node, make_node, watch
from gradient.autograd.outputs import output_node, outputs
from gradient.autograd.variable import Variable, wrap
from gradient.errors import AutogradError
from gradient.source_lines import location_of, user_frame

if TYPE_CHECKING:
    from gradient.tensor import Tensor

__all__ = ["Function", "FunctionCtx", "once_differentiable"]


class FunctionCtx:
    """The context of a call: it holds what `forward` saves for `backward`."""

    def __init__(self, needs: tuple[bool, ...]):
        self.needs_input_grad = needs
        self._saved: tuple[Any, ...] = ()
        self._constant: tuple[Any, ...] = ()
        self._dirty: tuple[Any, ...] = ()
        self._materialize = True
        # Where the Tensors are in a result with other values, and how many values it has.
        self._places: tuple[list[int], int] | None = None

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Save arguments or results (or None) until `backward` has run; it reads them from
        `saved_tensors`. A later in-place change of one makes the backward pass raise an error."""
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The tensors that were passed to `save_for_backward`."""
        return self._saved

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Mark results that have no gradient."""
        self._constant = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Mark arguments that `forward` changes in place and returns. The call returns the same
        tensor objects, with this call as their `grad_fn`."""
        self._dirty = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Set whether the gradient of an unused result is zeros (True, the default) or None."""
        self._materialize = value

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Do nothing: a forward derivative is computed by `backward` here, never by `jvp`."""

    def _spread(self, grads: list[Any]) -> list[Any]:
        """Return the gradient of each result, None for those that are no Tensors."""
        if self._places is None:
            return grads
        places, count = self._places
        spread = [None] * count
        for place, grad in zip(places, grads, strict=True):
            spread[place] = grad
        return spread


class Function:
    """Base class of user-defined ops. Define the static methods `forward(ctx, *args)` and
    `backward(ctx, *grads)` in a subclass, and call its `apply`.

    `forward` has no `ctx` if `setup_context(ctx, inputs, output)` is defined. `backward` returns a
    gradient, or None, for each argument that `apply` was called with; further ones must be None. It
    computes with Tensors, so it can itself be differentiated if its operations can.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the result from (ctx, *inputs), or from the inputs alone with `setup_context`."""
        raise NotImplementedError("Function: define the static method forward")

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
        """Save what `backward` needs, if `forward` has no `ctx`."""

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Any, **kwargs: Any) -> Any:
        """Return the gradient of each input of `forward`, or None, from those of its results."""
        raise NotImplementedError("Function: define the static method backward")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run `forward`, and record the call if an argument needs a gradient.

        Arguments by name take their place in `forward`'s signature. `setup_context` receives the
        defaults of those left out, too.
        """
        without_ctx = cls.setup_context is not Function.setup_context
        if kwargs or (without_ctx and len(args) < _arity(cls.forward)):
            args, kwargs = _in_order(cls.forward, args, kwargs, without_ctx)
        needs = tuple(isinstance(a, Variable) and a.node is not None for a in args)
        ctx = FunctionCtx(needs)
        with no_grad():
            if without_ctx:
                result = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args, **kwargs)
        single = not isinstance(result, tuple)
        results = (result,) if single else result
        places = [i for i, value in enumerate(results) if isinstance(value, Variable)]
        if not places:
            raise AutogradError(
                f"{cls.__name__}.forward: expected a Tensor, or a tuple with Tensors, as result, "
                f"got {type(result).__name__}"
            )
        if not (mode.grad and any(needs)):
            return result
        tensors = _record(cls, ctx, args, [results[i] for i in places], single)
        if single:
            return tensors[0]
        if len(places) == len(results):
            return tuple(tensors)
        ctx._places, all_of_them = (places, len(results)), list(results)
        for i, tensor in zip(places, tensors, strict=True):
            all_of_them[i] = tensor
        return tuple(all_of_them)


_signature = lru_cache(maxsize=256)(inspect.signature)


@lru_cache(maxsize=256)
def _arity(forward: Callable[..., Any]) -> int:
    """Return how many arguments can be passed by position, `*args` apart."""
    return sum(
        p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in _signature(forward).parameters.values()
    )


def _in_order(
    forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], without_ctx: bool
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments by position: all of them for a `forward` without `ctx`, else those up to
    the last that was given; and those that it takes by name only."""
    bound = _signature(forward).bind(*(() if without_ctx else (None,)), *args, **kwargs)
    given = len(bound.args)
    last = max(i for i, name in enumerate(bound.signature.parameters) if name in bound.arguments)
    bound.apply_defaults()
    args = bound.args if without_ctx else bound.args[1 : max(given, last + 1)]
    return args, bound.kwargs


def _record(
    cls: type[Function], ctx: FunctionCtx, args: Any, results: Sequence[Any], single: bool
) -> list[Any]:
    backend = results[0].backend
    made_here = {id(r): i for i, r in enumerate(results)}
    own = {k: made_here[id(t)] for k, t in enumerate(ctx._saved) if id(t) in made_here}
    op = FunctionOp(cls, ctx, single, own)
    parents = tuple(a.node if isinstance(a, Variable) else None for a in args)
    saved, ctx._saved = tuple(ctx._saved), ()
    refuse_saved(saved, cls.__name__, saved)
    arrays = [r.array for r in results]
    made = arrays[0] if single else arrays
    node = make_node(op, backend, parents, saved, made, location_of(user_frame()))
    if mode.grad == WATCHED:
        watch(node)
    constant = {id(t) for t in ctx._constant}
    dirty = {id(t) for t in ctx._dirty}
    # A result that is also an argument becomes a new tensor, unless it was changed in place.
    tensors = [wrap(made, backend, node)] if single else outputs(arrays, backend, node)
    for i, (result, tensor) in enumerate(zip(results, tensors, strict=True)):
        if id(result) in constant or result.array.dtype.kind in "biu":
            tensor.node = None
        if id(result) in dirty:
            if result.node is not None and result.node.op is None:
                raise AutogradError(
                    f"{cls.__name__}.forward: a leaf Variable that requires grad was marked dirty; "
                    "give it a clone"
                )
            if result.view_info is not None:
                raise AutogradError(
                    f"{cls.__name__}.forward: a view was marked dirty; give it a clone"
                )
            result.node, tensors[i] = tensor.node, result
    ctx._constant = ctx._dirty = ()  # no reference cycle with the graph
    return tensors


class FunctionOp:
    """The op of a Function call's node."""

    def __init__(self, cls: type[Function], ctx: FunctionCtx, single: bool, own: dict[int, int]):
        self.cls, self.ctx, self.single = cls, ctx, single
        self.own = own  # index of saved tensor -> of result; results are saved without their nodes
        self.name = self.public_name = cls.__name__
        self.saved_names = tuple(f"saved_tensors[{i}]" for i in range(len(ctx._saved)))

    def _saved(self, node: Node, on_tensors: bool) -> tuple[Any, ...]:
        """Return the saved tensors; a result is on its node, as it depends on the arguments."""
        saved = list(node.saved or ())
        for k, i in self.own.items():
            array = saved[k].array
            at = None if not on_tensors else node if self.single else output_node(node, i, array)
            saved[k] = wrap(array, node.backend, at)
        return tuple(saved)

    def vjp(self, node: Node, g: Any, parents: Sequence[Any]) -> list[Any]:
        with no_grad():
            results = self._run(node, g, False)
        return [r.array if isinstance(r, Variable) else r for r in results]

    def vjp_tensors(
        self, node: Node, g: Any, parents: Sequence[Any], be: Any, grad: Any
    ) -> list[Any]:
        with enable_grad():
            return self._run(node, g, True)

    def _run(self, node: Node, g: Any, on_tensors: bool) -> list[Any]:
        arrived = [g] if self.single else list(g)
        shapes: Any = [node.shape] if self.single else node.shape
        dtypes: Any = [node.dtype] if self.single else node.dtype
        grads: list[Any] = []
        for value, shape, dtype in zip(arrived, shapes, dtypes, strict=True):
            if value is None and self.ctx._materialize:
                value = wrap(node.backend.zeros(shape, dtype), node.backend)
            elif value is not None and not isinstance(value, Variable):
                value = wrap(value, node.backend)
            if value is not None and value.array.dtype.kind == "c":
                value = value.conj()  # users see the conjugate: see the engine
            grads.append(value)
        self.ctx._saved = self._saved(node, on_tensors)
        try:
            results = self.cls.backward(self.ctx, *self.ctx._spread(grads))
        finally:
            self.ctx._saved = ()
        results = results if isinstance(results, tuple) else (results,)
        given = len(node.parents)
        if all(result is None for result in results[given:]):
            results = results[:given]  # None for an optional argument that the call left out
        if len(results) != given:
            raise AutogradError(
                f"{self.name}.backward: expected {given} gradients (one for each argument "
                f"that apply was called with), got {len(results)}"
            )
        for i, (result, parent) in enumerate(zip(results, node.parents, strict=True)):
            if parent is None or result is None:
                continue
            if not isinstance(result, Variable):
                raise AutogradError(
                    f"{self.name}.backward: expected a Tensor or None as gradient {i}, got "
                    f"{type(result).__name__}"
                )
        back: list[Any] = list(results)
        for i, r in enumerate(back):
            if isinstance(r, Variable) and r.array.dtype.kind == "c":
                back[i] = cast("Tensor", r).conj()
        return back


def once_differentiable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a `backward` that cannot be differentiated: a second derivative raises an error."""

    def run(ctx: FunctionCtx, *grads: Any) -> Any:
        with no_grad():
            results = function(ctx, *grads)
        if not any(isinstance(g, Variable) and g.node is not None for g in grads):
            return results
        single = not isinstance(results, tuple)
        refused = [
            _Once.apply(r, *grads) if isinstance(r, Variable) else r
            for r in ((results,) if single else results)
        ]
        return refused[0] if single else tuple(refused)

    return run


class _Once(Function):
    """A gradient that cannot be differentiated again."""

    @staticmethod
    def forward(ctx: FunctionCtx, value: Any, *grads: Any) -> Any:
        return value

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Any) -> Any:
        raise AutogradError(
            "backward: trying to differentiate twice a Function whose backward is marked "
            "once_differentiable"
        )


if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
