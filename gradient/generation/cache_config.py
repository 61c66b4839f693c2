"""The options of `generate` for its KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradient.errors import ArgumentError
from gradient.generation.prefill import CHUNK
from gradient.generation.prompt_cache import PromptCache
from gradient.generation.replay import block_size
from gradient.kv_cache import KVCache
from gradient.models.causal_lm import CausalLM

__all__ = ["CacheConfig"]

#: Initial slots of the buffers beyond the prompts; buffers double when they are full.
RESERVED = 1024


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """The kind of cache, and how prompts are prefilled into it.

    Attributes:
        kind, dtype: arguments of `KVCache.for_model`.
        prompt_cache: the cache of an earlier text, if given; it has its own kind and dtype.
        chunk: tokens of a prompt that go through the model at once; None: all.
        use: False: generate without a cache.
        compile: whether steps are recorded and replayed; None: if it pays off.
    """

    kind: str = "static"
    dtype: str | None = None
    prompt_cache: PromptCache | None = None
    chunk: int | None = CHUNK
    use: bool = True
    compile: bool | None = None

    def open(
        self, model: CausalLM, prompts: Sequence[Sequence[int]], limits: Sequence[int]
    ) -> KVCache | None:
        """Return a cache with a row for each prompt, which may already hold a prefix of it.

        Args:
            limits: the maximum number of tokens in each row, including its prompt.

        Raises:
            ArgumentError: the prompt cache belongs to another model.
        """
        if not self.use:
            return None
        if self.prompt_cache is not None:
            if self.prompt_cache.model is not model:
                raise ArgumentError("prompt_cache: was made for another model")
            return self.prompt_cache.rows(prompts, self.chunk)
        # One slot less: the last token is never fed back. And not all of a long context at once,
        # which most texts end before.
        capacity = min(max(limits) - 1, max(map(len, prompts)) + RESERVED)
        return KVCache.for_model(
            model,
            len(prompts),
            capacity,
            kind=self.kind,
            dtype=self.dtype,
            block=block_size(model, capacity, len(prompts)),
        )
