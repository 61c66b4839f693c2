"""Estimates the memory of generation, before a model is loaded.

Weights and cache are counted from shapes. For activations, a chunk of the prompt and a step are
recorded as plans, in passes of few tokens (`planned_memory`). Plans do not show the scratch memory
of kernels (keys and values in 32 bits, a weight cast to them): two fitted terms estimate it.
With `measure`, a separate process runs the last chunk of a prompt of that length
(`measured_memory`). Both run a model with only those layers that differ from one another, without
values (`empty_models`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import gradient
from gradient.checkpoints import open_checkpoint
from gradient.errors import ArgumentError
from gradient.evaluation.empty_models import empty_weights, keep_distinct_layers, weight_bytes
from gradient.evaluation.forecast_settings import (
    USUAL_CONTEXT,
    MemoryForecast,
    Settings,
    cache_of,
    context_of,
    dtypes_of,
    mapped_model,
)
from gradient.evaluation.measured_memory import measured
from gradient.evaluation.planned_memory import pass_bytes
from gradient.generation.prefill import CHUNK
from gradient.kv_cache import KVCache
from gradient.models.causal_lm import CausalLM, KVShape


def forecast(
    path: str | Path,
    *,
    context: int | None = None,
    batch: int = 1,
    dtype: str | None = None,
    quantize: str | None = None,
    cache: str = "static",
    cache_dtype: str | None = None,
    measure: bool = False,
) -> MemoryForecast:
    """Estimate the peak memory of generating with the model in a folder or file, on the CPU.

    The first use of a kernel on a machine compiles it, which takes some 50 MB more, once.

    Args:
        context: tokens of each row, prompt and generated ones; None: the model's trained length,
            but at most 2048.
        batch: rows.
        dtype, quantize: as in `gradient.hub.load`.
        cache, cache_dtype: the cache's kind and dtype, as in `KVCache.for_model`.
        measure: run some layers on as many tokens instead of planning. This takes some seconds, and
            is within 5 % of the peak; plans are within 10 % of that.

    Raises:
        ArgumentError: a context of less than two tokens, or of more than the model's limit;
            no rows; or an argument that the model refuses.
        BackendError: the measuring process failed; the message has its output.
    """
    if (context is not None and context < 2) or batch < 1:
        raise ArgumentError(
            "memory forecast: expected a context of at least 2 tokens and 1 row, "
            f"got {context} and {batch}"
        )
    settings = Settings(str(path), context, batch, dtype, quantize, cache, cache_dtype)
    if not measure:
        return _planned(settings)
    # The first process compiles kernels that were never used, which takes additional memory.
    measured(settings)
    return measured(settings)


#: Python, its libraries and the kernels of generation (Python 3.11 and numba on Linux).
PROGRAM = 163_000_000
#: Bytes of a tokenizer for each of its pieces.
PIECE = 335
#: Rows of activations beyond which 16-bit weights are cast to float32, one at a time.
CAST_ROWS = 512


def _planned(settings: Settings) -> MemoryForecast:
    """The estimate by plans, which reads no weights.

    The scratch memory of kernels is fitted to the results of `_measure` for models of 50 to 150
    million weights, in 32 and 16 bits and packed, of 64 to 2,048 tokens, in one to four rows.
    """
    checkpoint = open_checkpoint(settings.path)
    model = mapped_model(checkpoint)
    context, batch = context_of(model, settings), settings.batch
    packed, target = dtypes_of(model, settings)
    weights = weight_bytes(model, packed, target)
    program = PROGRAM
    if checkpoint.has_tokenizer:
        program += PIECE * model.config.vocab_size
    counted = cache_bytes(model, context - 1, batch, settings, target)
    chunk = min(CHUNK, context - 1)
    kernels = 0
    config = model.config
    if target.itemsize < 4 or packed or any(p.dtype.is_packed for p in model.parameters()):
        heads = getattr(config, "num_attention_heads", None) or config.n_head
        kernels += 12 * heads * model.kv_shapes[0].head_size * context  # keys, values in 32 bits
        if batch * chunk > CAST_ROWS:
            C = getattr(config, "hidden_size", None) or config.n_embd
            wide = getattr(config, "intermediate_size", None) or 4 * C
            expert = getattr(config, "moe_intermediate_size", None) or wide
            wide = max(wide, expert * (getattr(config, "num_experts_per_tok", None) or 1))
            kernels += 4 * C * wide
    empty_weights(model, {}, target, unpacked=True)
    kept = keep_distinct_layers(model)

    cache = partial(cache_of, model, kept, batch, context - 1, settings, target)
    working = kernels + max(pass_bytes(model, cache, batch, n) for n in (chunk, 1))
    return MemoryForecast(context, batch, program, weights, counted, working)


def cache_bytes(
    model: CausalLM, tokens: int, batch: int, settings: Settings, dtype: gradient.DType
) -> int:
    """Bytes of a cache: those of one head of one row for each kind of layer, many times."""
    total = 0
    kinds: dict[tuple[int, int | None], int] = {}
    for heads, size, window in model.kv_shapes:
        kinds[size, window] = kinds.get((size, window), 0) + heads
    for (size, window), heads in kinds.items():
        some = tokens if window is not None else min(tokens, USUAL_CONTEXT)
        held = KVCache(
            [KVShape(1, size, window)],
            1,
            kind=settings.cache,
            dtype=settings.cache_dtype or dtype,
            capacity=some,
        )
        held.begin(some).commit()
        total += held.nbytes * heads * batch * tokens // some
    return total
