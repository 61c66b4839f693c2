"""The memory of a pass through a model beside its weights and cache, from plans of short passes.

A pass is recorded as a plan (`gradient.plan`) for two small numbers of tokens. The same calls make
the same buffers for any number, and the size of each grows linearly with it: so sizes for a
prompt's length follow, and no such pass is run. Buffers live as long as the program held them,
which is longer than a plan needs them, because modules read prompts, not plans.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import gradient
from gradient.kv_cache import KVCache
from gradient.models.causal_lm import CausalLM
from gradient.nn.evaluating import evaluating
from gradient.plan.arena import lifetimes, packed
from gradient.plan.calls import Buffer
from gradient.plan.recording import Recording, record
from gradient.tensor import Tensor

#: Tokens of the recorded passes: enough to use a prompt's kernels.
SHORT, LONGER = 32, 48


@gradient.no_grad()
def pass_bytes(model: CausalLM, cache: Callable[[], KVCache], batch: int, tokens: int) -> int:
    """Return the peak bytes of a pass of `tokens` new tokens in each of `batch` rows.

    The scratch memory of kernels is not included.

    Args:
        model: with weights of any values.
        cache: makes an empty cache, with room for the tokens.
    """
    _recorded(model, cache(), batch, min(tokens, SHORT))  # for objects of the first pass
    if tokens <= LONGER:
        made = _recorded(model, cache(), batch, tokens)
        return _peak(made, made.plan.buffers)
    short, longer = (_recorded(model, cache(), batch, n) for n in (SHORT, LONGER))
    if _calls(short) != _calls(longer):
        made = _recorded(model, cache(), batch, tokens)
        return _peak(made, made.plan.buffers)
    pairs = zip(short.plan.buffers, longer.plan.buffers, strict=True)
    return _peak(longer, tuple(_extended(a, b, tokens) for a, b in pairs))


def _recorded(model: CausalLM, cache: KVCache, batch: int, tokens: int) -> Recording:
    ids = gradient.zeros(batch, tokens, dtype=gradient.int64)
    cache.make_room(tokens)

    def last_logits(ids: Tensor) -> Tensor:
        return model(ids, cache, last_only=True)[:, -1]

    with evaluating(model):
        # Values that the host reads make no difference to the memory of the pass.
        return record(last_logits, ids, inputs=[ids], strict=False)


def _calls(made: Recording) -> list[tuple[object, ...]]:
    return [(call.op, call.inputs, call.outputs) for call in made.plan.expanded().calls]


def _extended(short: Buffer, longer: Buffer, tokens: int) -> Buffer:
    """A buffer with the bytes that it has in a pass of `tokens`."""
    step = (longer.nbytes - short.nbytes) / (LONGER - SHORT)
    size = math.ceil(short.nbytes + step * (tokens - SHORT))
    return replace(longer, shape=(size,), dtype=gradient.uint8.numpy, strides=(1,))


def _peak(made: Recording, buffers: tuple[Buffer, ...]) -> int:
    plan = made.plan.expanded()
    lives = lifetimes(plan.calls, buffers, plan.outputs)
    for root, last in made.held.items():
        if root in lives:
            born, dies = lives[root]
            lives[root] = (born, max(dies, last))
    return packed(lives, buffers).nbytes
