"""Derivatives of functions, as functions: grad, vjp, jvp, linearize, jacrev, jacfwd, hessian.

They nest: `grad(grad(f))`. Arguments and results may be nested dicts, lists and tuples of tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradient.autograd import enable_grad, engine
from gradient.autograd.trees import leaves_of, mapped, rebuilt
from gradient.errors import ArgumentError, TypeMismatch, sentence
from gradient.tensor import Tensor
from gradient.tensor.creation import ones_like, zeros_like
from gradient.tensor.joining import stack

__all__ = ["grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "linearize", "vjp"]

Argnums = int | Sequence[int]


class Entered:
    """Arguments that a derivative is taken by, as tensors of a graph of their own, which goes on
    into that of the tensors given, where they have one."""

    def __init__(self, caller: str, tree: Any) -> None:
        self.tree, self.given = tree, leaves_of(tree)
        self.inputs: list[Tensor] = []
        for value in self.given:
            if not isinstance(value, Tensor) or not value.is_floating_point():
                got = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeMismatch(
                    sentence(caller, "floating-point Tensors to differentiate by", got)
                )
            tracked = value.requires_grad
            made = value.view_as(value) if tracked else value.detach().requires_grad_()
            self.inputs.append(made)
        self.own = {x.node for x in self.inputs if x.is_leaf}

    @property
    def arguments(self) -> Any:
        return rebuilt(self.tree, self.inputs)

    def gradients(self, outputs: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of the weighted sum of outputs, zero where an input is not used."""
        pairs = [(o, w) for o, w in zip(outputs, weights, strict=True) if o.requires_grad]
        if not pairs:
            return [zeros_like(x.detach()) for x in self.inputs]
        found = engine.grad(
            [o for o, _ in pairs], self.inputs, [w for _, w in pairs],
            create_graph=True, allow_unused=True,
        )  # fmt: skip
        return [
            zeros_like(x.detach()) if g is None else g
            for g, x in zip(found, self.inputs, strict=True)
        ]

    def left(self, tree: Any) -> Any:
        """Results without what of their graph leads to these inputs alone."""
        return mapped(self._left, tree)

    def _left(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.node is None:
            return value
        seen, waiting = {value.node}, [value.node]
        while waiting:
            node = waiting.pop()
            if node.op is None and node not in self.own:
                return value  # a tensor of the caller's wants a gradient
            for parent in node.parents if node.op is not None else ():
                if parent is not None and parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)
        return value.detach()


def _chosen(caller: str, args: Sequence[Any], argnums: Argnums) -> Any:
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not all(-len(args) <= n < len(args) for n in numbers):
        expected = f"argnums of {len(args)} positional arguments"
        raise ArgumentError(sentence(caller, expected, argnums))
    found = tuple(args[n] for n in numbers)
    return found[0] if isinstance(argnums, int) else found


def _replaced(args: Sequence[Any], argnums: Argnums, new: Any) -> list[Any]:
    changed = list(args)
    if isinstance(argnums, int):
        changed[argnums] = new
    else:
        for n, value in zip(argnums, new, strict=True):
            changed[n] = value
    return changed


def _split(caller: str, result: Any, has_aux: bool) -> tuple[Any, Any]:
    if not has_aux:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        expected = "(result, aux) of a function with has_aux=True"
        raise TypeMismatch(sentence(caller, expected, type(result).__name__))
    return result


def grad_and_value(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that gives (gradient, value) of one that returns a number; see `grad`."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with enable_grad():
            entered = Entered("grad", _chosen("grad", args, argnums))
            result = func(*_replaced(args, argnums, entered.arguments), **kwargs)
            value, aux = _split("grad", result, has_aux)
            if not isinstance(value, Tensor) or value.numel() != 1 or value.ndim:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ArgumentError(sentence("grad", "a function that returns a 0-d Tensor", got))
            found = entered.gradients([value], [ones_like(value.detach())])
        gradient = entered.left(rebuilt(entered.tree, found))
        value = entered.left(value)
        return (gradient, (value, entered.left(aux))) if has_aux else (gradient, value)

    return run


def grad(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that gives the gradient of `func`, which returns a number.

    Args:
        argnums: by which positional arguments; several give a tuple of gradients.
        has_aux: `func` returns (number, anything), and the new one (gradient, anything).
    """
    both = grad_and_value(func, argnums, has_aux)

    def run(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return run


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """(func(*primals), a function of cotangents): that gives a tuple of their products with the
    Jacobian, one for each primal. With `has_aux` `func` returns (result, aux), and aux comes third.
    """
    with enable_grad():
        entered = Entered("vjp", primals)
        result, aux = _split("vjp", func(*entered.arguments), has_aux)
    outputs = leaves_of(result)

    def product(cotangents: Any) -> Any:
        weights = leaves_of(cotangents)
        if isinstance(cotangents, Tensor) is not isinstance(result, Tensor):
            expected = f"cotangents nested as the result, a {type(result).__name__}"
            raise ArgumentError(sentence("vjp", expected, f"a {type(cotangents).__name__}"))
        if [tuple(w.shape) for w in weights] != [tuple(o.shape) for o in outputs]:
            expected = f"cotangents of shapes {[tuple(o.shape) for o in outputs]}"
            raise ArgumentError(sentence("vjp", expected, [tuple(w.shape) for w in weights]))
        with enable_grad():
            found = entered.gradients(outputs, weights)
        return entered.left(rebuilt(primals, found))

    value = entered.left(result)
    return (value, product, entered.left(aux)) if has_aux else (value, product)


def jvp(
    func: Callable[..., Any], primals: Any, tangents: Any, *, has_aux: bool = False
) -> tuple[Any, ...]:
    """(func(*primals), the Jacobian's product with `tangents`): the derivative in a direction, by
    two backward passes."""
    if not (isinstance(primals, (tuple, list)) and isinstance(tangents, (tuple, list))):
        got = f"{type(primals).__name__}, {type(tangents).__name__}"
        raise ArgumentError(sentence("jvp", "a tuple of primals and one of tangents", got))
    directions, given = leaves_of(tangents), leaves_of(primals)
    if [tuple(t.shape) for t in directions] != [tuple(p.shape) for p in given]:
        expected = f"tangents of shapes {[tuple(p.shape) for p in given]}"
        raise ArgumentError(sentence("jvp", expected, [tuple(t.shape) for t in directions]))
    with enable_grad():
        entered = Entered("jvp", tuple(primals))
        result, aux = _split("jvp", func(*entered.arguments), has_aux)
        outputs = leaves_of(result)
        # The gradient is linear in the cotangents; its derivative by them is the transpose.
        zeros = [zeros_like(o.detach()).requires_grad_() for o in outputs]
        through = entered.gradients(outputs, zeros)
        pairs = [(g, t) for g, t in zip(through, directions, strict=True) if g.requires_grad]
        found: list[Any] = [None] * len(outputs)
        if pairs:
            found = list(
                engine.grad(
                    [g for g, _ in pairs],
                    zeros,
                    [t for _, t in pairs],
                    create_graph=True,
                    allow_unused=True,
                )  # fmt: skip
            )
        found = [
            zeros_like(o.detach()) if d is None else d for d, o in zip(found, outputs, strict=True)
        ]
    entered.own |= {z.node for z in zeros}
    tangent = entered.left(rebuilt(result, found))
    value = entered.left(result)
    return (value, tangent, entered.left(aux)) if has_aux else (value, tangent)


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """(func(*primals), a function of tangents): that gives the Jacobian's product with them, as
    `jvp` does."""

    def product(*tangents: Any) -> Any:
        return jvp(func, primals, tangents)[1]

    return func(*primals), product


def _units(like: Tensor) -> list[Tensor]:
    """Zeros of the shape of `like`, but for a 1 at each place in turn."""
    flat = zeros_like(like.detach()).reshape(-1)
    units = []
    for place in range(flat.numel()):
        unit = flat.clone()
        unit[place] = 1
        units.append(unit.reshape(like.shape))
    return units


def jacrev(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that gives the Jacobian of `func`, of shape (result's..., argument's...), by a
    backward pass for each element of the result. `chunk_size` is PyTorch's, and changes nothing."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with enable_grad():
            entered = Entered("jacrev", _chosen("jacrev", args, argnums))
            result = func(*_replaced(args, argnums, entered.arguments), **kwargs)
            value, aux = _split("jacrev", result, has_aux)
            outputs = leaves_of(value)
            jacobians = []
            for output in outputs:
                rows = [entered.gradients([output], [unit]) for unit in _units(output)]
                columns = [
                    stack([row[i] for row in rows]).reshape((*output.shape, *x.shape))
                    if rows
                    else output.new_zeros((*output.shape, *x.shape))
                    for i, x in enumerate(entered.inputs)
                ]
                jacobians.append(rebuilt(entered.tree, columns))
        found = entered.left(rebuilt(value, jacobians))
        return (found, entered.left(aux)) if has_aux else found

    return run


def jacfwd(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    randomness: str = "error",
) -> Callable[..., Any]:
    """The Jacobian as of `jacrev`, by a derivative in the direction of each element of the
    argument. `randomness` is PyTorch's, and changes nothing."""

    def run(*args: Any, **kwargs: Any) -> Any:
        chosen = _chosen("jacfwd", args, argnums)
        given = leaves_of(chosen)

        def of_chosen(*leaves: Tensor) -> Any:
            return func(*_replaced(args, argnums, rebuilt(chosen, leaves)), **kwargs)

        aux, tree, columns = None, None, []
        for i, x in enumerate(given):
            parts = []
            for unit in _units(x):
                directions = [
                    unit if k == i else zeros_like(o.detach()) for k, o in enumerate(given)
                ]
                value, tangent, *more = jvp(of_chosen, given, directions, has_aux=has_aux)
                parts.append(leaves_of(tangent))
                tree, aux = value, more[0] if more else None
            columns.append(parts)
        outputs = leaves_of(tree)
        jacobians = []
        for k, output in enumerate(outputs):
            blocks = [
                stack([part[k] for part in parts], -1).reshape((*output.shape, *x.shape))
                for parts, x in zip(columns, given, strict=True)
            ]
            jacobians.append(rebuilt(chosen, blocks))
        found = rebuilt(tree, jacobians)
        return (found, aux) if has_aux else found

    return run


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that gives the second derivatives of one that returns a number: for an argument
    of shape S, S + S."""
    return jacrev(jacrev(func, argnums), argnums)
