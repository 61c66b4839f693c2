"""`Function`: an op of the user's own, with a forward and a backward on Tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradient.autograd.modes import ANOMALY, enable_grad, mode, no_grad
from gradient.autograd.node import Node, new_node, spot_of, ticket, trace, user_frame
from gradient.autograd.outputs import outputs
from gradient.autograd.variable import Variable, wrap
from gradient.errors import AutogradError


class FunctionCtx:
    """What `forward` leaves for `backward`."""

    def __init__(self, needs: tuple[bool, ...]):
        self.needs_input_grad = needs
        self._saved: tuple[Any, ...] = ()
        self._constant: tuple[Any, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors (or None) for `saved_tensors`; checked for later in-place changes."""
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return self._saved

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """These results get no gradient."""
        self._constant = tensors

    def mark_dirty(self, *tensors: Any) -> None:
        """Accepted as in PyTorch: overwriting is noticed without it."""

    def set_materialize_grads(self, value: bool) -> None:
        """Whether results that nobody used come to `backward` as zeros (True) or as None."""
        self._materialize = value


class Function:
    """Subclass it with static methods `forward(ctx, *args)` and `backward(ctx, *grads)`.

    `forward` may leave out `ctx` where `setup_context(ctx, inputs, output)` is defined. `backward`
    returns a gradient, or None, for each argument of `forward`; it works on Tensors, so it is
    differentiable itself where its operations are. Call it by `apply`.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("Function: define the static method forward")

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
        """Save what backward needs (only with a `forward` that takes no ctx)."""

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Any) -> Any:
        raise NotImplementedError("Function: define the static method backward")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run `forward`, and record the call if an argument needs a gradient."""
        needs = tuple(isinstance(a, Variable) and a.node is not None for a in args)
        ctx = FunctionCtx(needs)
        with no_grad():
            if cls.setup_context is not Function.setup_context:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args)
        single = not isinstance(result, tuple)
        results = (result,) if single else result
        for i, value in enumerate(results):
            if not isinstance(value, Variable):
                raise AutogradError(
                    f"{cls.__name__}.forward: expected a Tensor or a tuple of Tensors as result, "
                    f"got {type(value).__name__} at {i}"
                )
        if not (mode.grad and any(needs)):
            return result
        tensors = _record(cls, ctx, args, results, single)
        return tensors[0] if single else tuple(tensors)


def _record(
    cls: type[Function], ctx: FunctionCtx, args: Any, results: Sequence[Any], single: bool
) -> list[Any]:
    backend = results[0].backend
    node: Node = new_node(Node)
    node.op, node.backend, node.order = _FunctionOp(cls, ctx, single), backend, ticket()
    node.parents = tuple(a.node if isinstance(a, Variable) else None for a in args)
    node.saved = tuple(t.array if isinstance(t, Variable) else None for t in ctx._saved)
    node.shape, node.dtype = results[0].array.shape, results[0].array.dtype
    node.spot = spot_of(user_frame())
    if mode.grad == ANOMALY:
        trace(node)
    constant = {id(t) for t in ctx._constant}
    # A result that is an argument itself gets a tensor of its own.
    if single:
        tensors = [wrap(results[0].array, backend, node)]
    else:
        tensors = outputs([r.array for r in results], backend, node)
    for result, tensor in zip(results, tensors, strict=True):
        if id(result) in constant or result.array.dtype.kind in "biu":
            tensor.node = None
    return tensors


class _FunctionOp:
    """A call of a Function, to the engine."""

    def __init__(self, cls: type[Function], ctx: FunctionCtx, single: bool):
        self.cls, self.ctx, self.single = cls, ctx, single
        self.name = cls.__name__
        self.saved_names = tuple(f"saved_tensors[{i}]" for i in range(len(ctx._saved)))

    def vjp(self, node: Node, g: Any, parents: Sequence[Any]) -> list[Any]:
        with no_grad():
            results = self._run(node, g, False)
        return [r.array if isinstance(r, Variable) else r for r in results]

    def vjp_tensors(
        self, node: Node, g: Any, parents: Sequence[Any], world: Any, grad: Any
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
            grads.append(value)
        results = self.cls.backward(self.ctx, *grads)
        results = results if isinstance(results, tuple) else (results,)
        if len(results) != len(node.parents):
            raise AutogradError(
                f"{self.name}.backward: expected {len(node.parents)} gradients (one for each "
                f"argument of forward), got {len(results)}"
            )
        return list(results)


def once_differentiable(function: Any) -> Any:
    """Mark a backward as not differentiable itself: its gradients are constants."""

    def run(ctx: FunctionCtx, *grads: Any) -> Any:
        with no_grad():
            return function(ctx, *grads)

    return run
