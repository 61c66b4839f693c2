"""The settings of a memory forecast, what they come to for a model, and the forecast."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import gradient
from gradient import quantization
from gradient.checkpoints import Checkpoint, load_model
from gradient.dtypes import PackedDType
from gradient.dtypes.names import floating_dtype
from gradient.errors import ArgumentError
from gradient.kv_cache import KVCache
from gradient.models.causal_lm import CausalLM

#: The default number of tokens in a row; present models may take 100 times as many.
USUAL_CONTEXT = 2048


@dataclass(frozen=True)
class MemoryForecast:
    """The peak memory of a process that generates, in bytes.

    Attributes:
        program: Python, its libraries, the compiled kernels and the tokenizer.
        weights: the model's, as they are in memory. Rows of an embedding count only when they are
            looked up, so a mapped embedding that is not the output layer is left out.
        cache: keys and values of `context` tokens for `batch` rows.
        working: temporary memory beside these.
    """

    context: int
    batch: int
    program: int
    weights: int
    cache: int
    working: int

    @property
    def total(self) -> int:
        """The sum: the peak."""
        return self.program + self.weights + self.cache + self.working


class Settings(NamedTuple):
    """The arguments of `forecast`."""

    path: str
    context: int | None
    batch: int
    dtype: str | None
    quantize: str | None
    cache: str
    cache_dtype: str | None


def mapped_model(checkpoint: Checkpoint) -> CausalLM:
    """The model with mapped weights that are not read; it may be larger than memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_model(checkpoint)
    if not isinstance(model, CausalLM):
        raise ArgumentError(
            f"memory forecast: {model.architecture} is an encoder: "
            "it generates nothing and has no cache"
        )
    return model


def context_of(model: CausalLM, settings: Settings) -> int:
    """The requested tokens of a row, or the default."""
    context, limit = settings.context, model.context_length
    if context is None:
        return min(USUAL_CONTEXT, model.trained_length or USUAL_CONTEXT)
    if limit is not None and context > limit:
        raise ArgumentError(
            f"memory forecast: context: expected at most the model's {limit}, got {context}"
        )
    return context


def dtypes_of(model: CausalLM, settings: Settings) -> tuple[dict[str, PackedDType], gradient.DType]:
    """The packed dtypes of weights by name, and the dtype of other weights and of computing."""
    dtype = None if settings.dtype is None else floating_dtype(settings.dtype)
    packed: dict[str, PackedDType] = {}
    if settings.quantize is not None:
        packed = quantization.packed_dtypes(model, settings.quantize)
    return packed, dtype or model.dtype


def cache_of(
    model: CausalLM, layers: int, rows: int, tokens: int, settings: Settings, dtype: gradient.DType
) -> KVCache:
    """An empty cache for a model's first layers, with room for `tokens` in each of `rows`."""
    return KVCache(
        model.kv_shapes[:layers],
        rows,
        kind=settings.cache,
        dtype=settings.cache_dtype or dtype,
        capacity=tokens,
        limit=model.context_length,
    )
