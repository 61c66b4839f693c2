"""Derivatives of functions, as functions: grad, vjp, jvp, linearize, jacrev, jacfwd, hessian.

They can be nested: `grad(grad(f))`. Arguments and results may be nested dicts, lists and tuples of
tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from gradient.autograd import enable_grad
from gradient.autograd.node import Node
from gradient.autograd.trees import leaves_of, mapped, rebuilt
from gradient.autograd.variable import wrap
from gradient.backends.batched.array import BatchedArray
from gradient.backends.batched.backend import BatchedBackend
from gradient.dtypes import int64
from gradient.errors import ArgumentError, DTypeError, TypeMismatch, sentence
from gradient.func.graphs import gradients, leads_only_to
from gradient.func.samples import RANDOMNESS, as_seen, drawing, left, lifted
from gradient.tensor import Tensor
from gradient.tensor.arguments import int_of
from gradient.tensor.creation_like import ones_like, zeros_like
from gradient.tensor.joining import cat

__all__ = ["grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "linearize", "vjp"]

Argnums = int | Sequence[int]


def check_function(caller: str, func: object) -> None:
    """Raise TypeMismatch if `func` is not a function."""
    if not callable(func):
        raise TypeMismatch(sentence(caller, "a function", f"{func!r:.80}"))


def check_chunk_size(caller: str, chunk_size: Any) -> None:
    """Raise if `chunk_size` is neither None nor a positive int."""
    if chunk_size is not None and int_of(caller, "chunk_size", chunk_size) < 1:
        raise ArgumentError(sentence(caller, "chunk_size None or at least 1", chunk_size))


class Primals:
    """The arguments to differentiate with respect to, as tensors with new nodes. If a given tensor
    is in a graph, its new tensor is connected to that graph.

    Args:
        caller: the function that the user called, for error messages.
        tree: floating-point tensors, or dicts, lists and tuples of them.

    Attributes:
        inputs: the new tensors, in the order of `leaves_of`.
        own: the nodes of the inputs that are not connected to a graph of the caller's.
    """

    def __init__(self, caller: str, tree: Any) -> None:
        self.tree = tree
        self.inputs: list[Tensor] = []
        for value in leaves_of(tree):
            if not isinstance(value, Tensor) or not value.is_floating_point():
                expected = "floating-point Tensors to differentiate by"
                if isinstance(value, Tensor):
                    raise DTypeError(sentence(caller, expected, value.dtype, "cast with .float()"))
                raise TypeMismatch(sentence(caller, expected, type(value).__name__))
            value = as_seen(value)
            made = value.view_as(value) if value.requires_grad else value.detach()
            self.inputs.append(made.requires_grad_())
        self.own = {x.node for x in self.inputs if x.is_leaf}

    @property
    def arguments(self) -> Any:
        """The arguments to call the function with: `inputs`, nested like the given arguments."""
        return rebuilt(self.tree, self.inputs)

    def gradients(
        self, outputs: Sequence[Tensor], weights: Sequence[Tensor], again: bool = True
    ) -> list[Tensor]:
        """Return the gradients of the weighted sum of outputs, see `gradients`."""
        return gradients(self.own, outputs, self.inputs, weights, again)

    def detached(self, tree: Any) -> Any:
        """Detach results whose graph leads only to these inputs."""
        return detached_from(self.own, tree)


def detached_from(own: Collection[Node | None], tree: Any) -> Any:
    """Detach the tensors of a tree whose graph has only leaves in `own`. A tensor whose graph has
    other leaves, of the caller, stays in its graph, as these require a gradient."""

    def detached(value: Any) -> Any:
        if isinstance(value, Tensor) and value.node is not None and leads_only_to(own, [value]):
            return value.detach()
        return value

    return mapped(detached, tree)


def _chosen(caller: str, args: Sequence[Any], argnums: Argnums) -> Any:
    """Return the arguments at the positions `argnums`: one for an int, a tuple for several."""
    numbers = tuple(argnums) if isinstance(argnums, (tuple, list)) else (argnums,)
    if not all(isinstance(n, int) for n in numbers):
        raise TypeMismatch(sentence(caller, "argnums of an int, or several", repr(argnums)))
    if not all(-len(args) <= n < len(args) for n in numbers):
        expected = f"argnums that count the call's {len(args)} positional arguments from 0"
        raise ArgumentError(sentence(caller, expected, argnums))
    found = tuple(args[n] for n in numbers)
    return found[0] if isinstance(argnums, int) else found


def _replaced(args: Sequence[Any], argnums: Argnums, new: Any) -> list[Any]:
    """Return all arguments, with `new` in place of those that `_chosen` returned."""
    changed = list(args)
    if isinstance(argnums, int):
        changed[argnums] = new
    else:
        for n, value in zip(argnums, new, strict=True):
            changed[n] = value
    return changed


def _split(caller: str, result: Any, has_aux: bool) -> tuple[Any, Any]:
    """Split the returned value of a function into (result, aux); aux is None without `has_aux`."""
    if not has_aux:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        expected = "(result, aux) of a function with has_aux=True"
        raise TypeMismatch(sentence(caller, expected, type(result).__name__))
    return result


def grad_and_value(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """Return a function that computes (gradient, value) of `func`; see `grad`."""
    check_function("grad", func)

    def run(*args: Any, **kwargs: Any) -> Any:
        with enable_grad():
            tracked = Primals("grad", _chosen("grad", args, argnums))
            result = func(*_replaced(args, argnums, tracked.arguments), **kwargs)
            value, aux = _split("grad", result, has_aux)
            if not isinstance(value, Tensor) or value.numel() != 1 or value.ndim:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                expected = "a function that returns a 0-d Tensor"
                fix = "use jacrev or vjp for other results"
                raise ArgumentError(sentence("grad", expected, got, fix))
            found = tracked.gradients([value], [ones_like(value.detach())], again=has_aux)
        gradient = tracked.detached(rebuilt(tracked.tree, found))
        value = tracked.detached(value)
        return (gradient, (value, tracked.detached(aux))) if has_aux else (gradient, value)

    return run


def grad(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """Return a function that computes the gradient of `func`, which returns a 0-d tensor.

    Args:
        argnums: the positions of the arguments to differentiate with respect to; several give a
            tuple of gradients.
        has_aux: `func` returns (0-d tensor, aux), and the new function (gradient, aux).

    Raises:
        TypeMismatch: `func` is not a function. The new function raises it if an argument is not a
            floating-point tensor.
        ArgumentError: raised by the new function: an argument of `argnums` is missing, or the
            result is not a 0-d tensor.
    """
    both = grad_and_value(func, argnums, has_aux)

    def run(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return run


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """Return (func(*primals), vjp_fn): vjp_fn(cotangents), with cotangents of the result's shape,
    returns a tuple of vector-Jacobian products, one for each primal. With `has_aux` `func` returns
    (result, aux), and aux is the third value.
    """
    check_function("vjp", func)
    with enable_grad():
        tracked = Primals("vjp", primals)
        result, aux = _split("vjp", func(*tracked.arguments), has_aux)
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
            found = tracked.gradients(outputs, weights)
        return tracked.detached(rebuilt(primals, found))

    value = tracked.detached(result)
    return (value, product, tracked.detached(aux)) if has_aux else (value, product)


def jvp(
    func: Callable[..., Any], primals: Any, tangents: Any, *, has_aux: bool = False
) -> tuple[Any, ...]:
    """Return (func(*primals), the Jacobian times `tangents`), the derivative in the direction of
    the tangents, which have the primals' shapes. It is computed by two backward passes. With
    `has_aux` `func` returns (result, aux), and aux is the third value."""
    check_function("jvp", func)
    if not (isinstance(primals, (tuple, list)) and isinstance(tangents, (tuple, list))):
        got = f"{type(primals).__name__}, {type(tangents).__name__}"
        raise ArgumentError(sentence("jvp", "a tuple of primals and one of tangents", got))
    directions, given = leaves_of(tangents), leaves_of(primals)
    if [tuple(t.shape) for t in directions] != [tuple(p.shape) for p in given]:
        expected = f"tangents of shapes {[tuple(p.shape) for p in given]}"
        raise ArgumentError(sentence("jvp", expected, [tuple(t.shape) for t in directions]))
    with enable_grad():
        tracked = Primals("jvp", tuple(primals))
        result, aux = _split("jvp", func(*tracked.arguments), has_aux)
        outputs = leaves_of(result)
        found = _pushed(tracked, outputs, directions)
    tangent = tracked.detached(rebuilt(result, found))
    value = tracked.detached(result)
    return (value, tangent, tracked.detached(aux)) if has_aux else (value, tangent)


def _pushed(
    tracked: Primals, outputs: Sequence[Tensor], directions: Sequence[Tensor]
) -> list[Tensor]:
    """Return the derivatives of outputs in the direction of tangents of the primals, which may be
    those of samples. The gradient is linear in the cotangents; its derivative with respect to them
    is the transpose."""
    zeros = [zeros_like(o.detach()).requires_grad_() for o in outputs]
    through = tracked.gradients(outputs, zeros)
    tracked.own |= {z.node for z in zeros}
    return gradients(tracked.own, through, zeros, directions)


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """Return (func(*primals), jvp_fn): jvp_fn(*tangents) returns the Jacobian times the tangents,
    like `jvp`."""
    check_function("linearize", func)

    def product(*tangents: Any) -> Any:
        return jvp(func, primals, tangents)[1]

    return func(*primals), product


def jacrev(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Return a function that computes the Jacobian of `func`, of shape (result's..., argument's
    ...), by the gradients of all elements of the result at once, or of `chunk_size` at once."""
    check_function("jacrev", func)
    check_chunk_size("jacrev", chunk_size)

    def run(*args: Any, **kwargs: Any) -> Any:
        with enable_grad():
            tracked = Primals("jacrev", _chosen("jacrev", args, argnums))
            result = func(*_replaced(args, argnums, tracked.arguments), **kwargs)
            value, aux = _split("jacrev", result, has_aux)
            jacobians = _rows(tracked, _beside(tracked, leaves_of(value)), chunk_size)
        found = tracked.detached(rebuilt(value, jacobians))
        return (found, tracked.detached(aux)) if has_aux else found

    return run


def _beside(tracked: Primals, outputs: Sequence[Any]) -> list[Tensor]:
    """The outputs on the device of the inputs, where derivatives are computed."""
    device = tracked.inputs[0].backend.device
    return [as_seen(o if o.backend.device == device else o.to(device)) for o in outputs]


def _rows(tracked: Primals, outputs: Sequence[Tensor], chunk_size: int | None) -> list[Any]:
    """Return the Jacobians of outputs: the gradients of each of their elements, which are samples.
    Chunks have the same number of samples, the last one with zeros."""
    sizes = [output.numel() for output in outputs]
    count = sum(sizes)
    backend = BatchedBackend(tracked.inputs[0].backend, min(count, chunk_size or count), "same")
    chunks: list[list[Tensor]] = []
    for start in range(0, count, max(backend.size, 1)):
        weights, first = [], start
        for output, size in zip(outputs, sizes, strict=True):
            weights.append(_units(output, backend, first, size))
            first -= size
        chunks.append([left(g, 0) for g in tracked.gradients(outputs, weights)])
    jacobians, first = [], 0
    for output, size in zip(outputs, sizes, strict=True):
        blocks = []
        for i, x in enumerate(tracked.inputs):
            shape = (*output.shape, *x.shape)
            if not size:
                blocks.append(x.detach().new_zeros(shape))
                continue
            rows = cat([chunk[i] for chunk in chunks]) if len(chunks) > 1 else chunks[0][i]
            blocks.append(rows.narrow(0, first, size).reshape(shape))
        jacobians.append(rebuilt(tracked.tree, blocks))
        first += size
    return jacobians


def _units(like: Tensor, backend: BatchedBackend, first: int, size: int) -> Tensor:
    """Make a tensor in the shape of `like` of each sample i: zeros, with a 1 at element first + i,
    if there is one."""
    inner, dtype, count = backend.inner, like.array.dtype, backend.size
    place = inner.reshape(inner.arange(first, first + count, 1, int64.numpy), (count, 1))
    units = inner.astype(place == inner.arange(0, size, 1, int64.numpy), dtype)
    units = inner.reshape(units, (count, *like.shape))
    return wrap(BatchedArray(backend, units, True), backend)


def jacfwd(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    randomness: str = "error",
) -> Callable[..., Any]:
    """Like `jacrev`, by the directional derivatives of all elements of the argument at once.
    `randomness` is that of `vmap`."""
    check_function("jacfwd", func)

    if randomness not in RANDOMNESS:
        raise ArgumentError(sentence("jacfwd", f"randomness of {RANDOMNESS}", repr(randomness)))

    def run(*args: Any, **kwargs: Any) -> Any:
        chosen = _chosen("jacfwd", args, argnums)
        given = Primals("jacfwd", chosen).inputs
        sizes = [x.numel() for x in given]
        backend = BatchedBackend(given[0].backend, sum(sizes), randomness)
        with enable_grad(), drawing(backend):
            tracked = Primals("jacfwd", chosen)
            result = func(*_replaced(args, argnums, tracked.arguments), **kwargs)
            value, aux = _split("jacfwd", result, has_aux)
            outputs = _beside(tracked, leaves_of(value))
            directions, first = [], 0
            for x, size in zip(given, sizes, strict=True):
                directions.append(_units(x, backend, first, size))
                first -= size
            columns = [left(lifted(t, backend), -1) for t in _pushed(tracked, outputs, directions)]
        jacobians = []
        for output, column in zip(outputs, columns, strict=True):
            blocks, first = [], 0
            for x, size in zip(given, sizes, strict=True):
                block = column.narrow(-1, first, size)
                blocks.append(block.reshape((*output.shape, *x.shape)))
                first += size
            jacobians.append(rebuilt(tracked.tree, blocks))
        found = tracked.detached(rebuilt(value, jacobians))
        aux = mapped(lambda x: left(x, None) if _is_on(x, backend) else x, aux)
        return (found, tracked.detached(aux)) if has_aux else found

    return run


def _is_on(x: Any, backend: BatchedBackend) -> bool:
    return isinstance(x, Tensor) and x.backend is backend


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Return a function that computes the second derivatives of `func`, which returns a 0-d tensor:
    for an argument of shape S they have shape S + S."""
    check_function("hessian", func)
    return jacrev(jacrev(func, argnums), argnums)
