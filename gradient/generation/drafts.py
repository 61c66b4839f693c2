"""Drafts of the next tokens, by a cheap method, which `SpeculativeDecoder` verifies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import gradient
import gradient.functional as F
from gradient.errors import ArgumentError
from gradient.generation.common_prefix import common_length
from gradient.generation.logits.processors import Prefixes
from gradient.generation.prefill import prefill
from gradient.generation.replay import DecodingSteps, block_size
from gradient.generation.sampling import DRAFTS, Sampler, draw, greedy
from gradient.kv_cache import KVCache
from gradient.models.causal_lm import CausalLM
from gradient.nn.evaluating import evaluating
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.generation.options import GenerationOptions
    from gradient.text import Tokenizer

__all__ = ["Draft", "DraftModel", "Drafter", "PromptLookup"]


def drafter_of(
    options: GenerationOptions,
    model: CausalLM,
    tokenizer: Tokenizer | None,
    sampler: Sampler,
    limits: Sequence[int],
) -> Drafter | None:
    """Return the drafter that the options ask for, or None.

    Args:
        limits: the maximum number of tokens in each row, including its prompt.

    Raises:
        ArgumentError: the draft model and the model have different vocabularies.
    """
    draft = options.draft
    if draft is None:
        return None
    if isinstance(draft, str):
        return PromptLookup()
    network = draft if isinstance(draft, CausalLM) else draft.model
    ours, theirs = model.config.vocab_size, network.config.vocab_size
    if isinstance(draft, CausalLM) or not draft.has_tokenizer or tokenizer is None:
        # Without tokenizers, only the sizes can be compared.
        if ours != theirs:
            raise ArgumentError(
                f"draft: expected a model with the same vocabulary, {ours} tokens, got {theirs}; "
                f"where only the padding differs, give a LanguageModel, whose tokenizer tells"
            )
    else:
        check_vocabularies(tokenizer, draft.tokenizer)
    return DraftModel(network, sampler, limits, ours, options.cache_config.compile)


def check_vocabularies(ours: Tokenizer, theirs: Tokenizer) -> None:
    """Raise ArgumentError unless every token has the same id in both."""
    one, other = ours.backend.get_vocab(), theirs.backend.get_vocab()
    if one == other:
        return
    token = min(token for token, _ in one.items() ^ other.items())
    raise ArgumentError(
        f"draft: expected a model with the same vocabulary; the token {token!r} has the id "
        f"{one.get(token)} in this model's tokenizer and {other.get(token)} in the draft's"
    )


class Draft(NamedTuple):
    """Drafted next tokens of a text."""

    token_ids: list[int]
    #: (tokens, V): the distribution that each was drawn from; None if none was drawn at random.
    probabilities: Tensor | None = None


class Drafter(Protocol):
    """The interface of everything that makes drafts."""

    def propose(self, prefixes: Prefixes, counts: Sequence[int]) -> list[Draft]:
        """Return a draft for each text, of at most counts[i] tokens; it may be empty."""
        ...

    def select(self, kept: Sequence[int]) -> None:
        """Continue with the texts at these indices only."""
        ...


class PromptLookup:
    """Finds the last few tokens earlier in the text; drafts the tokens that followed them there.

    This works for text that repeats its prompt: summaries, edits of code, extraction, loops (Saxena
    2023, "Prompt Lookup Decoding"). It costs one look-up in a table.
    """

    def __init__(self, longest: int = 3, shortest: int = 2) -> None:
        """Args:
        longest, shortest: numbers of last tokens to search for; longer matches have priority.
        """
        self.sizes = range(longest, shortest - 1, -1)
        # For each row of the generation: where each run of tokens was last followed by something,
        # and how far the text was read.
        self._tables: dict[int, tuple[dict[tuple[int, ...], int], int]] = {}

    def propose(self, prefixes: Prefixes, counts: Sequence[int]) -> list[Draft]:
        """Return the tokens after the longest match, or after the most recent of equal ones."""
        rows = zip(prefixes.rows, prefixes.ids, counts, strict=True)
        return [Draft(self._guess(row, ids, count)) for row, ids, count in rows]

    def select(self, kept: Sequence[int]) -> None:
        """Rows keep their numbers, so there is nothing to do."""

    def _guess(self, row: int, ids: Sequence[int], count: int) -> list[int]:
        table, read = self._tables.get(row, ({}, 0))
        for end in range(max(read, 1), len(ids)):  # ids[end] is what followed
            for size in self.sizes:
                if size <= end:
                    table[tuple(ids[end - size : end])] = end
        self._tables[row] = table, len(ids)
        for size in self.sizes:
            at = table.get(tuple(ids[-size:])) if size <= len(ids) else None
            if at is not None:
                text = list(ids)
                for _ in range(count):  # beyond the text it repeats the draft itself
                    text.append(text[at])
                    at += 1
                return text[len(ids) :]
        return []


class DraftModel:
    """A smaller model with the same vocabulary proposes tokens one at a time.

    If tokens are sampled, so are the drafts, from the small model's distribution after the same
    processors. A draft never exceeds the small model's context.
    """

    def __init__(
        self,
        model: CausalLM,
        sampler: Sampler,
        limits: Sequence[int],
        vocab_size: int,
        compile: bool | None = None,
    ) -> None:
        """Args:
        sampler: the sampler of the target model.
        limits: the maximum number of tokens in each row.
        vocab_size: that of the target model. The small model's may have another padding.
        compile: whether passes are recorded and replayed; None: if it pays off.
        """
        self.model = model
        self.sampler = sampler
        self.draws = sampler.stream(DRAFTS)
        self.vocab_size = vocab_size
        self.limits = list(limits)
        rows, block = len(limits), block_size(model, max(limits), len(limits))
        self.cache = KVCache.for_model(model, rows, block=block)
        self.steps = DecodingSteps(model, self.cache, compile)
        self.read: list[list[int]] = [[] for _ in range(rows)]  # the tokens that the cache holds

    @gradient.no_grad()
    def propose(self, prefixes: Prefixes, counts: Sequence[int]) -> list[Draft]:
        """Continue each text by the draft model."""
        longest, limit = max(counts), self.model.context_length
        texts = [list(ids) for ids in prefixes.ids]
        if not longest or (limit is not None and max(map(len, texts)) + longest > limit):
            return [Draft([]) for _ in texts]
        self._forget_all_but(texts)
        random = not self.sampler.greedy
        distributions: list[Tensor] = []
        most = list(counts)
        for number in range(longest):
            so_far = Prefixes(
                texts, prefixes.prompt_lengths, prefixes.rows, device=self.cache.device
            )
            scores = self.sampler.scores(self._logits(texts), so_far)
            if random:
                distributions.append(F.softmax(scores, dim=-1))  # (B, V)
                uniform = self.sampler.uniform(so_far, self.draws, scores.device)
                chosen = draw(distributions[-1], uniform).tolist()
            else:
                chosen = greedy(scores).tolist()
            for place, token in enumerate(chosen):
                if token < 0:  # nothing is possible: the draft ends here
                    most[place] = min(most[place], number)
                texts[place].append(max(token, 0))
        drafts = []
        for place, (ids, count) in enumerate(zip(prefixes.ids, most, strict=True)):
            token_ids = texts[place][len(ids) : len(ids) + count]
            drawn = [each[place] for each in distributions[:count]]
            drafts.append(Draft(token_ids, gradient.stack(drawn) if drawn else None))
        return drafts

    @gradient.no_grad()
    def select(self, kept: Sequence[int]) -> None:
        """Continue with the texts at these indices only."""
        self.cache = self.cache.select(kept)
        self.steps = self.steps.continued(self.cache)
        self.limits = [self.limits[at] for at in kept]
        self.read = [self.read[at] for at in kept]

    def _forget_all_but(self, texts: Sequence[Sequence[int]]) -> None:
        """Remove refused drafts, and each text's last token, from the cache."""
        pairs = zip(self.read, texts, strict=True)
        self.cache.rewind([common_length([read, text[:-1]]) for read, text in pairs])

    def _logits(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Return the logits that follow each text, (B, V), in the target model's vocabulary."""
        known = self.model.config.vocab_size
        # A token that the small model does not have is replaced by token 0: only the drafts get
        # worse.
        shown = texts
        if known < self.vocab_size:
            shown = [[token if token < known else 0 for token in text] for text in texts]
        if any(
            self.model.must_recompute(held, len(text))
            for held, text in zip(self.cache.counts, texts, strict=True)
        ):
            self.cache.rewind([0] * len(texts))
        most = max(len(text) - held for held, text in zip(self.cache.counts, texts, strict=True))
        # After the prompt, a pass reads one or two tokens of each row; if any row needs two, all
        # rows read two.
        if most == 2 <= min(map(len, texts)):
            self.cache.rewind([len(text) - 2 for text in texts])
        new = [text[held:] for held, text in zip(self.cache.counts, shown, strict=True)]
        if min(map(len, new)) == most <= 2:
            left = max(self.limits) - max(map(len, texts))
            logits = self.steps.logits(gradient.tensor(new, device=self.cache.device), left)
        else:
            with evaluating(self.model):
                logits = prefill(self.model, self.cache, shown)
        self.read = [list(text) for text in texts]
        missing = self.vocab_size - known
        return F.pad(logits, (0, missing), value=-float("inf"))
