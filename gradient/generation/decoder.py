"""One decoding step for a batch of rows: logits, token choice, and bookkeeping."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import gradient
import gradient.functional as F
from gradient.errors import GenerationError
from gradient.generation.cache_config import RESERVED, CacheConfig
from gradient.generation.logits.processors import Prefixes, padded
from gradient.generation.prefill import prefill
from gradient.generation.prompt_cache import PromptCache
from gradient.generation.queued_steps import QueuedSteps
from gradient.generation.replay import DecodingSteps
from gradient.generation.result import Timings, TokenLogprob
from gradient.generation.sampling import Sampler
from gradient.models.causal_lm import CausalLM
from gradient.nn.evaluating import evaluating
from gradient.tensor import Tensor

__all__ = ["Decoder"]


class Token(NamedTuple):
    """One token that `decode` chose."""

    row: int  # index of the prompt
    token_id: int
    logprob: TokenLogprob | None


class Decoder:
    """Continues a batch of token sequences by one token per row and step.

    Finished rows are dropped and cost nothing afterwards. Without a cache every step computes all
    tokens again; the tests check that the cache makes no difference.
    """

    def __init__(
        self,
        model: CausalLM,
        prompts: Sequence[Sequence[int]],
        sampler: Sampler,
        *,
        limits: Sequence[int],
        logprobs: int | None = None,
        cache_config: CacheConfig | None = None,
    ) -> None:
        """Args:
        prompts: token ids, at least one in each.
        limits: the maximum number of tokens in each row, including its prompt.
        logprobs: report the log-probability of each token and of this many most probable ones.
        cache_config: the kind of cache; by default a static, empty one.
        """
        self.model = model
        self.sampler = sampler
        self.logprobs = logprobs
        self.rows = list(range(len(prompts)))  # the prompt that each running row belongs to
        self.ids = [list(prompt) for prompt in prompts]  # the text so far
        self.prompt_lengths = [len(prompt) for prompt in prompts]
        self.limits = list(limits)
        # Whether the keys and values of a token stay the same however long the text grows.
        self.chunkable = model.supports_chunked_prefill(max(limits))
        # The texts on the device, for steps that do not wait for the host, up to the length at the
        # last call of `tokens`. The buffer grows with the texts, as the limits may be large.
        length = min(max(limits), max(self.prompt_lengths) + RESERVED)
        self._tokens = padded(prompts, length, model.device)  # (B, length)
        self.ends = gradient.tensor(self.prompt_lengths, device=model.device)  # (B,)
        self._written = self.lengths  # the same numbers on the host
        self.index = gradient.arange(len(prompts), device=model.device)  # (B,)
        self.newest: Tensor | None = None  # (B,), the tokens last chosen
        self.cache_config = CacheConfig() if cache_config is None else cache_config
        self.cache = self.cache_config.open(model, prompts, limits)
        self.steps: DecodingSteps | None = None
        if self.cache is not None:
            self.steps = DecodingSteps(model, self.cache, self.cache_config.compile)
        kept = self.prompt_cache
        # The number of this use of the prompt cache; a later one takes the cache over.
        self.use = None if kept is None else kept.uses
        self.queued: deque[QueuedSteps] = deque()  # whose tokens are not in `ids` yet
        if kept is not None:
            kept.queued = self.queued

    @property
    def lengths(self) -> list[int]:
        """Return how many tokens each running row has."""
        return [len(ids) for ids in self.ids]

    @property
    def prefixes(self) -> Prefixes:
        """Return the tokens so far, for logits processors."""
        length = max(self.lengths)
        return Prefixes(
            self.ids,
            self.prompt_lengths,
            self.rows,
            device=self.index.device,
            tokens=lambda: self.tokens[:, :length],
        )

    @property
    def tokens(self) -> Tensor:
        """Return the tokens so far on the device, (B, length), padded on the right with -1.

        Few samplers need them. So new tokens are written to this tensor only when it is requested;
        it is the same tensor as long as it has room.
        """
        lengths = self.lengths
        if lengths != self._written:
            self._write(lengths)
        return self._tokens

    @gradient.no_grad()
    def _write(self, lengths: list[int]) -> None:
        """Update `_tokens` up to these lengths; earlier tokens are right already."""
        self._reserve(max(lengths))
        one_each = all(now == held + 1 for now, held in zip(lengths, self._written, strict=True))
        if one_each and self.newest is not None:  # which is on the device
            self._tokens[self.index, self.ends] = self.newest
            self.ends += 1
        else:
            places = [
                (row, column, ids[column])
                for row, (ids, held) in enumerate(zip(self.ids, self._written, strict=True))
                for column in range(held, len(ids))
            ]
            rows, columns, flat = (list(each) for each in zip(*places, strict=True))
            self._tokens[rows, columns] = gradient.tensor(flat, device=self._tokens.device)
            self.ends.copy_(gradient.tensor(lengths, device=self.ends.device))
        self._written = lengths

    @gradient.no_grad()
    def step(self) -> list[Token]:
        """Choose the next token (or next tokens) of every running row.

        Raises:
            GenerationError: no token is possible for a row.
        """
        if self.steps is not None and (self.queued or self._chooses_in_steps()):
            return self._several(self.steps)
        logits = self.logits()  # (B, V)
        chosen = self.sampler(logits, self.prefixes)  # (B,)
        ids = self.extend(chosen)
        self.check(logits, self.rows, ids)
        reports = self.reports(logits, ids)
        return [Token(*each) for each in zip(self.rows, ids, reports, strict=True)]

    def _chooses_in_steps(self) -> bool:
        """Whether tokens are chosen inside the recorded steps, several at once. This is possible if
        nothing needs a token before the next one is chosen."""
        return (
            self.newest is not None
            and self.steps is not None
            and self.steps.reason is None
            and self.sampler.key is not None
            and self.logprobs is None
            and self.chunkable
        )

    def _several(self, steps: DecodingSteps) -> list[Token]:
        """Choose the next tokens of every running row by recorded steps. If the device works ahead,
        the next steps are queued before the host waits for these."""
        self.check_cache()
        if self.queued and not (steps.valid() and self._holds_queued()):
            self._discard()
        for queued in self.queued:
            queued.join()
        most = 2 if steps.works_ahead else 1
        while len(self.queued) < most and (more := self._queue(steps)) is not None:
            self.queued.append(more)
        queued = self.queued[0]
        chosen = steps.read(queued)
        self.queued.popleft()
        if min(chosen[-1]) < 0 and len(chosen) > 1:  # the next call raises, after these tokens
            chosen.pop()
        for ids in chosen:
            for text, token in zip(self.ids, ids, strict=True):
                text.append(token)
        newest = queued.newest
        if len(chosen) < queued.count:
            newest = gradient.tensor(chosen[-1], device=newest.device)
            self._discard()
        assert self.newest is not None
        self.newest.copy_(newest)
        self.record()
        self.check(queued.logits, self.rows, chosen[-1])
        return [
            Token(row, token, None)
            for ids in chosen
            for row, token in zip(self.rows, ids, strict=True)
        ]

    def _queue(self, steps: DecodingSteps) -> QueuedSteps | None:
        """Queue the next steps; None if those that are queued have to be read before."""
        unread = sum(each.count for each in self.queued)
        newest = self.queued[-1].newest if self.queued else self.newest
        assert newest is not None

        def numbers(count: int) -> Tensor | None:
            if self.sampler.greedy:
                return None
            return self.sampler.next_numbers(self.prefixes, count, self.index.device, unread)

        left = [limit - len(ids) - unread for limit, ids in zip(self.limits, self.ids, strict=True)]
        with evaluating(self.model):
            return steps.queue(self.sampler.choose, self.sampler.key, newest, numbers, left, unread)

    def _holds_queued(self) -> bool:
        """Whether the cache holds the text and what queued steps add; not if the program has
        meanwhile rewound it, as `PromptCache.save` does."""
        assert self.cache is not None
        unread = sum(each.count for each in self.queued)
        return self.cache.counts == [length - 1 + unread for length in self.lengths]

    @gradient.no_grad()
    def close(self) -> None:
        """Drop the steps that were not read. They leave no trace: a random number depends on its
        place in the text, not on what was drawn before."""
        if self.queued and not sys.is_finalizing():  # at exit, nothing follows
            self._discard(lasting=self.prompt_cache is not None)

    def _discard(self, lasting: bool = True) -> None:
        """Drop the steps that were not read; the cache holds the text without its newest token
        again, unless it is used no more (not `lasting`) or another text has taken it over."""
        while self.queued:
            self.queued.popleft().discard()
        if lasting and self._owns_cache:
            assert self.cache is not None
            self.cache.rewind([length - 1 for length in self.lengths])
            self.record()

    @gradient.no_grad()
    def drop(self, finished: set[int]) -> None:
        """Stop computing these rows."""
        kept = [at for at, row in enumerate(self.rows) if row not in finished]
        if len(kept) < len(self.rows):
            self.select(kept)

    @gradient.no_grad()
    def logits(self) -> Tensor:
        """Return the logits that follow each row's last token, (B, V).

        Raises:
            GenerationError: another generation has meanwhile used the same prompt cache.
        """
        self.check_cache()
        with evaluating(self.model):
            if self.cache is None:
                lengths = self.lengths
                whole = self.tokens[:, : max(lengths)].clamp(min=0)  # padding is any valid token
                return self.model(whole, lengths=lengths, last_only=True)[:, -1]
            if not self.chunkable and any(
                self.model.must_recompute(n - 1, n) for n in self.lengths
            ):
                self.cache.rewind([0] * len(self.rows))
                self.newest = None
            if self.newest is None:
                logits = prefill(self.model, self.cache, self.ids, self.cache_config.chunk)
            else:
                assert self.steps is not None
                left = max(self.limits) - max(self.lengths)
                logits = self.steps.logits(self.newest.unsqueeze(1), left)
        self.record()
        return logits

    @property
    def prompt_cache(self) -> PromptCache | None:
        """Return the prompt cache, if the text grows in it."""
        kept = self.cache_config.prompt_cache
        return kept if kept is not None and kept.cache is self.cache else None

    def record(self) -> None:
        """Update the tokens of the prompt cache, if there is one."""
        if self.prompt_cache is not None:
            self.prompt_cache.record(self.ids[0])

    @property
    def _owns_cache(self) -> bool:
        """Whether no other text has taken over the cache."""
        return self.prompt_cache is None or self.prompt_cache.uses == self.use

    def check_cache(self) -> None:
        """Raise GenerationError if another text has taken over the cache."""
        if not self._owns_cache:
            raise GenerationError(
                "prompt_cache: another generation has used it since, so this one cannot go on; "
                "give each of several streams a PromptCache of its own"
            )

    @gradient.no_grad()
    def extend(self, chosen: Tensor) -> list[int]:
        """Append one token to each row; return the tokens as ints."""
        if self.newest is None:
            self.newest = chosen.clone()
        else:  # in place: recorded steps read it at this address
            self.newest.copy_(chosen)
        ids = chosen.tolist()
        for text, token in zip(self.ids, ids, strict=True):
            text.append(token)
        return ids

    def _reserve(self, length: int) -> None:
        """Grow `_tokens` to at least this many tokens a row, at least doubling it."""
        held = self._tokens.shape[1]
        if length > held:
            added = max(length, min(2 * held, max(self.limits))) - held
            self._tokens = F.pad(self._tokens, (0, added), value=-1)

    @gradient.no_grad()
    def select(self, kept: Sequence[int]) -> None:
        """Continue with the running rows at these indices, in this order; one may be repeated."""
        if list(kept) == list(range(len(self.rows))):
            return  # the same rows in the same order, as for beams that have not crossed
        if not kept:
            self.close()
        self.rows = [self.rows[at] for at in kept]
        self.ids = [list(self.ids[at]) for at in kept]
        self.prompt_lengths = [self.prompt_lengths[at] for at in kept]
        self.limits = [self.limits[at] for at in kept]
        if not kept:
            return
        for queued in self.queued:
            queued.join()
        index = gradient.tensor(list(kept), device=self.index.device)
        for queued in self.queued:
            queued.select(kept, index)
        self._tokens, self.ends = self._tokens[index], self.ends[index]
        self._written = [self._written[at] for at in kept]
        self.index = gradient.arange(len(kept), device=index.device)
        if self.newest is not None:
            self.newest = self.newest[index]
        if self.cache is not None:
            self.cache = self.cache.select(kept)
            assert self.steps is not None
            self.steps = self.steps.continued(self.cache)

    def count_steps(self, timings: Timings) -> None:
        """Record how many passes were replayed, and why others were not."""
        if self.steps is not None:
            timings.replayed_steps, timings.not_replayed = self.steps.replayed, self.steps.reason

    def count_drafts(self, row: int, timings: Timings) -> None:
        """Record the number of a row's draft tokens: none, unless decoding is speculative."""

    def check(self, logits: Tensor, rows: Sequence[int], ids: Sequence[int]) -> None:
        """Raise GenerationError if one of the chosen tokens is -1: none was possible."""
        impossible = [row for row, token in zip(rows, ids, strict=True) if token < 0]
        if not impossible:
            return
        if bool(logits.isnan().any()):
            raise GenerationError(
                f"the model's logits are NaN (prompt {impossible[0]}): its weights are damaged, or "
                f"{self.model.dtype.name} overflows: load it with another dtype="
            )
        raise GenerationError(
            f"no token is possible (prompt {impossible[0]}): logits processors have forbidden all"
        )

    def reports(self, logits: Tensor, ids: Sequence[int]) -> list[TokenLogprob | None]:
        """Return the log-probability of each row's chosen token, if they are to be reported."""
        if self.logprobs is None:
            return [None] * len(ids)
        logprobs = F.log_softmax(logits.float(), dim=-1)
        index = gradient.tensor(list(ids), device=logits.device).unsqueeze(1)
        chosen = logprobs.gather(1, index)[:, 0].tolist()
        top = logprobs.topk(min(self.logprobs, logprobs.shape[-1]), dim=-1)
        values, indices = top.values.tolist(), top.indices.tolist()
        return [
            TokenLogprob(
                token_id,
                chosen[row],
                dict(zip(indices[row], values[row], strict=True)),
            )
            for row, token_id in enumerate(ids)
        ]
