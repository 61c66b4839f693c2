"""Prefix caching: the prefix that a text shares with the one before is not computed again.

A conversation's next prompt begins with all of the last one; a hundred questions about a document
begin with the document. A `PromptCache` holds the keys and values of one text together with its
tokens. It compares the tokens of a new prompt with those, forgets what differs, and leaves the rest
to be computed. (Kwon et al. 2023, section 4.4, and Zheng et al. 2023, "SGLang", section 3, share
prefixes between the requests of a server in this way.)

    cache = PromptCache(model)
    generate(model, first_prompt, prompt_cache=cache)
    generate(model, longer_prompt, prompt_cache=cache)    # computes only what is new
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Unpack

import gradient
from gradient.errors import ArgumentError
from gradient.generation.common_prefix import common_length
from gradient.generation.prefill import CHUNK, prefill
from gradient.generation.queued_steps import QueuedSteps
from gradient.generation.replay import LARGEST_BLOCK, block_size
from gradient.kv_cache import CacheOptions, KVCache
from gradient.models.causal_lm import CausalLM

__all__ = ["PromptCache"]

#: Tokens that several prompts must have in common for them to be computed in a pass of their own.
WORTH_A_PASS = 32


class PromptCache:
    """A cache of one text, which also knows the tokens of the text.

    Attributes:
        model: the model that computed the keys and values.
        tokens: the tokens of the text whose keys and values the cache holds.
        cache: the `KVCache`, of one row.
        uses: how many generations have begun with it; each ends the one before.
        queued: the steps of the last generation that may still run on the device.
    """

    def __init__(
        self,
        model: CausalLM,
        *,
        kind: str = "static",
        dtype: gradient.DType | str | None = None,
        **options: Unpack[CacheOptions],
    ) -> None:
        """Args: as of `KVCache.for_model`.

        A "sliding" cache can go back by its `max_rewind` tokens only: it suits a text that is
        continued. Of a text that is edited, or of several that begin alike, "static" and "paged"
        keep what is common at any length.
        """
        options.setdefault("block", block_size(model, LARGEST_BLOCK))
        self._hold(model, KVCache.for_model(model, 1, kind=kind, dtype=dtype, **options), [])

    def _hold(self, model: CausalLM, cache: KVCache, tokens: list[int]) -> None:
        self.model, self.cache, self.tokens = model, cache, tokens
        self.uses = 0
        self.queued: Sequence[QueuedSteps] = ()

    def reuse(self, prompt: Sequence[int]) -> int:
        """Truncate the cache to its common prefix with `prompt`; return the prefix's length.

        The last token of the prompt is never part of it: it is computed in any case, as the logits
        that follow it are not in the cache.
        """
        matched = common_length([self.tokens, prompt[:-1]])
        if not self.model.supports_chunked_prefill(len(prompt)):
            matched = 0
        try:
            self.cache.rewind([matched])
        except ArgumentError:  # a sliding cache that has dropped what the next token would see
            matched = 0
            self.cache.rewind([0])
        del self.tokens[matched:]
        return matched

    def record(self, text: Sequence[int]) -> None:
        """Record that the cache holds the first tokens of `text`, as many as it has positions."""
        held = self.cache.counts[0]
        del self.tokens[held:]
        self.tokens.extend(text[len(self.tokens) : held])

    def rows(self, prompts: Sequence[Sequence[int]], chunk: int | None = CHUNK) -> KVCache:
        """Return a cache with a row for each prompt, each holding the known prefix.

        For one prompt this is `self.cache`, which then goes on with it. For several it is a new
        cache, whose rows all hold the prompts' common prefix; a long one is computed first, once
        for all. The rows of a paged cache share its pages.
        """
        self.uses += 1
        self._join()
        if len(prompts) == 1:
            self.reuse(prompts[0])
            return self.cache
        shared = common_length([prompt[:-1] for prompt in prompts])
        if not self.model.supports_chunked_prefill(max(map(len, prompts))):
            shared = 0
        beginning = list(prompts[0][:shared])
        if shared - common_length([self.tokens, beginning]) >= WORTH_A_PASS:
            self.reuse(beginning)
            prefill(self.model, self.cache, [beginning], chunk)
            self.record(beginning)
        cache = self.cache.select([0] * len(prompts))
        matched = common_length([self.tokens, beginning])
        try:
            cache.rewind([matched] * len(prompts))
        except ArgumentError:
            cache.rewind([0] * len(prompts))
        return cache

    def _join(self) -> None:
        """Order work that is queued from now on after the last generation's steps."""
        for steps in self.queued:
            steps.join()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the text and its keys and values to a file, atomically; see `KVCache.save`."""
        self._join()
        self.cache.rewind([len(self.tokens)])
        self.cache.save(path, self.model, [self.tokens])

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: CausalLM,
        *,
        kind: str = "static",
        dtype: gradient.DType | str | None = None,
        **options: Unpack[CacheOptions],
    ) -> PromptCache:
        """Read what `save` wrote.

        Args:
            kind, dtype, options: of the new cache, as of `KVCache.load`: they need not be those of
                the one that was saved.

        Raises:
            ModelNotFound, FileFormatError: there is no such file, or it is damaged.
            ArgumentError: it is of another model, or holds several texts.
        """
        options.setdefault("block", block_size(model, LARGEST_BLOCK))
        cache, tokens = KVCache.load(path, model, kind=kind, dtype=dtype, **options)
        if len(tokens) != 1:
            raise ArgumentError(
                f"{path}: expected the cache of one text, as PromptCache.save writes it, got "
                f"{len(tokens)} texts; read it by KVCache.load"
            )
        made = cls.__new__(cls)
        made._hold(model, cache, tokens[0])
        return made

    def __repr__(self) -> str:
        return f"PromptCache({len(self.tokens)} tokens, {self.cache.kind}, {self.cache.nbytes:,} B)"
