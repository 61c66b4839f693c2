"""The gradients of a batch of vectors at once: `autograd.grad` with `is_grads_batched`."""

from __future__ import annotations

from typing import Any

from gradient.autograd import enable_grad, engine
from gradient.autograd.roots import tensors_of
from gradient.errors import AutogradError, sentence
from gradient.func.batching import vmap
from gradient.tensor import Tensor


def grads_of_batch(
    outputs: Any,
    inputs: Any,
    vectors: Any,
    retain_graph: bool,
    create_graph: bool,
    allow_unused: bool,
    materialize_grads: bool,
) -> tuple[Any, ...]:
    """Return the gradients of `outputs` for each of the vectors along the first dimension."""
    given = () if vectors is None else tensors_of("grad", "grad_outputs", vectors, absent=True)
    if not given or any(vector is None for vector in given):
        expected = "with is_grads_batched a batch of grad_outputs for each output"
        raise AutogradError(sentence("grad", expected, None))
    found: tuple[Any, ...] = ()

    def used(*vectors: Tensor) -> list[Tensor]:
        nonlocal found
        found = engine.grad(
            outputs, inputs, vectors, retain_graph=retain_graph, create_graph=True,
            allow_unused=allow_unused, materialize_grads=materialize_grads,
        )  # fmt: skip
        return [g for g in found if g is not None]

    with enable_grad():  # tensors of all vectors meet those of the graph only on tensors
        whole = iter(vmap(used)(*given))
    grads = [None if g is None else next(whole) for g in found]
    return tuple(g if g is None or create_graph else g.detach() for g in grads)
