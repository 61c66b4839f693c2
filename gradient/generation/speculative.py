"""Speculative decoding: draft several tokens, verify them in one pass, keep the accepted ones.

A pass over T tokens costs a large model little more than one over a single token, as both read all
weights once. So a drafter proposes the next tokens, and the model's logits after each of them show
how many to accept (Leviathan et al. 2023, "Fast Inference from Transformers via Speculative
Decoding"; Chen et al. 2023). Each step gives at least the token of a plain step.

Guarantees: logits processors see the prefix of each position, so every option means the same as
without drafts. If tokens or drafts are not sampled, the text is that of plain decoding with the
same seed; if both are sampled, it is another text of the same distribution. "The same" means up to
rounding: a pass over several tokens adds in another order than one over a single token. Logits then
differ by about 1e-6 of their size in float32, and by a unit in the last of 8 bits in bfloat16. If
two tokens are closer than this, either may be chosen; both are correct, as with other batch sizes.

Dimensions:
    B  rows     T  tokens checked at once     N  places checked, of all rows     V  vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence

import gradient
import gradient.functional as F
from gradient.generation.cache_config import CacheConfig
from gradient.generation.decoder import Decoder, Token
from gradient.generation.drafts import Draft, Drafter
from gradient.generation.logits.processors import Prefixes, padded
from gradient.generation.result import Timings
from gradient.generation.sampling import ACCEPTANCE, Sampler, draw
from gradient.models.causal_lm import CausalLM
from gradient.nn.evaluating import evaluating
from gradient.tensor import Tensor

__all__ = ["SpeculativeDecoder"]

#: Tokens of a row's first draft.
START = 4


class SpeculativeDecoder(Decoder):
    """A `Decoder` that verifies drafts.

    The length of the next draft is adapted for each row: twice as long if the whole draft was
    accepted, otherwise one token longer than its accepted part.
    """

    def __init__(
        self,
        model: CausalLM,
        prompts: Sequence[Sequence[int]],
        sampler: Sampler,
        *,
        drafter: Drafter,
        longest: int,
        limits: Sequence[int],
        logprobs: int | None = None,
        cache_config: CacheConfig | None = None,
    ) -> None:
        """Args: as of `Decoder`, and

        drafter: proposes the drafts.
        longest: the maximum number of tokens in a draft, or the cache's `max_rewind` if less.
        """
        super().__init__(
            model, prompts, sampler, limits=limits, logprobs=logprobs, cache_config=cache_config
        )
        self.drafter = drafter
        max_rewind = None if self.cache is None else self.cache.max_rewind
        self.longest = longest = longest if max_rewind is None else min(longest, max_rewind)
        self.drafted = dict.fromkeys(self.rows, 0)  # the number of drafted tokens of each row
        self.accepted = dict.fromkeys(self.rows, 0)  # the number of these that were accepted
        self.allowed = dict.fromkeys(self.rows, min(START, longest))
        self.acceptance = self.sampler.stream(ACCEPTANCE)

    @gradient.no_grad()
    def step(self) -> list[Token]:
        """Choose the next tokens of every running row, at least one of each."""
        drafts = self._drafts()
        if not any(draft.token_ids for draft in drafts):
            return super().step()
        logits = self._check(drafts)  # (N, V)
        prefixes = self._prefixes(drafts)
        if any(draft.probabilities is not None for draft in drafts):
            chosen = self._by_rejection(logits, prefixes, drafts)
        else:
            chosen = self._by_comparison(logits, prefixes, drafts)
        firsts = first_positions(drafts)
        pairs = list(zip(firsts, chosen, strict=True))
        places = [first + number for first, tokens in pairs for number in range(len(tokens))]
        flat = [token for tokens in chosen for token in tokens]
        rows = [row for row, tokens in zip(self.rows, chosen, strict=True) for _ in tokens]
        self.check(logits, rows, flat)
        self._accept(drafts, chosen)
        reports = self.reports(logits[places], flat)
        return [Token(*each) for each in zip(rows, flat, reports, strict=True)]

    def select(self, kept: Sequence[int]) -> None:
        """Continue with the running rows at these indices."""
        super().select(kept)
        if kept:
            self.drafter.select(kept)

    def count_drafts(self, row: int, timings: Timings) -> None:
        """Record the numbers of a row's draft tokens and of accepted ones."""
        timings.drafted_tokens, timings.accepted_tokens = self.drafted[row], self.accepted[row]

    def _chooses_in_steps(self) -> bool:
        """False: drafts depend on each token."""
        return False

    def _drafts(self) -> list[Draft]:
        none = [Draft([])] * len(self.rows)
        if self.newest is None:  # the prompt is not prefilled yet
            return none
        # A row has room for its draft and for the token that follows it.
        counts = [
            max(0, min(self.allowed[row], limit - len(ids) - 1))
            for row, ids, limit in zip(self.rows, self.ids, self.limits, strict=True)
        ]
        if not self.chunkable and not all(
            self.model.same_rope_frequencies(len(ids) - 1, len(ids) + count)
            for ids, count in zip(self.ids, counts, strict=True)
        ):
            return none
        return self.drafter.propose(self.prefixes, counts)

    def _check(self, drafts: Sequence[Draft]) -> Tensor:
        """Return the logits after each row's text and after each token of its draft, (N, V)."""
        self.check_cache()
        cached = self.cache is not None
        pieces = [
            [*(ids[-1:] if cached else ids), *draft.token_ids]
            for ids, draft in zip(self.ids, drafts, strict=True)
        ]
        lengths = [len(piece) for piece in pieces]
        longest = max(lengths)
        tokens = padded(pieces, longest, self.index.device).clamp(min=0)  # (B, T)
        if self.steps is not None and (min(lengths) == longest or self._may_hold(longest)):
            left = (max(self.limits) - max(self.lengths)) // longest
            logits = self.steps.logits(tokens, left, every=True)  # (B, T, V)
        else:
            with evaluating(self.model):
                even = min(lengths) == longest
                logits = self.model(tokens, self.cache, lengths=None if even else lengths)
        counts = [len(draft.token_ids) + 1 for draft in drafts]
        if min(counts) == tokens.shape[1]:
            return logits.flatten(0, 1)
        rows = [row for row, count in enumerate(counts) for _ in range(count)]
        columns = [
            column
            for length, count in zip(lengths, counts, strict=True)
            for column in range(length - count, length)
        ]
        return logits[rows, columns]

    def _may_hold(self, tokens: int) -> bool:
        """Whether each row has room for this many tokens. Shorter drafts are padded, so that all
        passes are alike; the padding is removed with refused tokens."""
        assert self.cache is not None
        after, context = max(self.cache.counts) + tokens, self.model.context_length
        return self.chunkable and after <= min(max(self.limits), context or after)

    def _prefixes(self, drafts: Sequence[Draft]) -> Prefixes:
        """Return the N texts that the logits of `_check` continue."""
        texts, lengths, rows = [], [], []
        running = zip(self.ids, self.prompt_lengths, self.rows, drafts, strict=True)
        for ids, prompt, row, draft in running:
            for count in range(len(draft.token_ids) + 1):
                texts.append([*ids, *draft.token_ids[:count]])
                lengths.append(prompt)
                rows.append(row)
        return Prefixes(texts, lengths, rows, device=self.index.device)

    def _by_comparison(
        self, logits: Tensor, prefixes: Prefixes, drafts: Sequence[Draft]
    ) -> list[list[int]]:
        """Choose at each position as plain decoding would, up to the first token that differs from
        the draft.

        For a draft that was not sampled, rejection sampling comes to the same: its token is
        accepted with the probability that the model gives it, else another one is chosen.
        """
        chosen = self.sampler(logits, prefixes).tolist()  # N
        taken = []
        for first, draft in zip(first_positions(drafts), drafts, strict=True):
            right = 0
            while right < len(draft.token_ids) and chosen[first + right] == draft.token_ids[right]:
                right += 1
            taken.append(chosen[first : first + right + 1])
        return taken

    def _by_rejection(
        self, logits: Tensor, prefixes: Prefixes, drafts: Sequence[Draft]
    ) -> list[list[int]]:
        """Accept a token drawn from q with probability p / q, else draw from max(0, p - q).

        The result then has the distribution p (Leviathan et al. 2023, section 2.3, appendix A.1).
        """
        p = F.softmax(self.sampler.scores(logits, prefixes), dim=-1)  # (N, V)
        q = gradient.zeros_like(p)  # 0 after the end of a draft
        uniform = self.sampler.uniform(prefixes, self.acceptance, p.device)  # (N,)
        guessed = [0] * len(prefixes)
        for first, draft in zip(first_positions(drafts), drafts, strict=True):
            if draft.probabilities is not None:
                end = first + len(draft.token_ids)
                q[first:end] = draft.probabilities
                guessed[first:end] = draft.token_ids
        index = gradient.tensor(guessed, device=p.device).unsqueeze(1)
        share = uniform.unsqueeze(1) * q.gather(1, index)
        accepted = (share < p.gather(1, index))[:, 0].tolist()
        lasts, rights = [], []
        for first, draft in zip(first_positions(drafts), drafts, strict=True):
            right = 0
            while right < len(draft.token_ids) and accepted[first + right]:
                right += 1
            rights.append(right)
            lasts.append(first + right)
        above = (p[lasts] - q[lasts]).clamp(min=0)  # (B, V)
        # Rounding can leave nothing where p and q are the same: then p is what to draw from.
        above = gradient.where(above.sum(dim=-1, keepdim=True) > 0, above, p[lasts])
        after = Prefixes(
            [prefixes.ids[at] for at in lasts],
            [prefixes.prompt_lengths[at] for at in lasts],
            self.rows,
            device=p.device,
        )
        last = draw(above, self.sampler.uniform(after, self.sampler.draws, p.device)).tolist()
        return [
            [*draft.token_ids[:right], token]
            for draft, right, token in zip(drafts, rights, last, strict=True)
        ]

    def _accept(self, drafts: Sequence[Draft], chosen: Sequence[Sequence[int]]) -> None:
        """Append the chosen tokens to each row, and remove the rest of its draft."""
        for row, ids, draft, tokens in zip(self.rows, self.ids, drafts, chosen, strict=True):
            ids.extend(tokens)
            guessed, right = len(draft.token_ids), len(tokens) - 1
            self.drafted[row] += guessed
            self.accepted[row] += right
            if guessed:
                allowed = 2 * guessed if right == guessed else right + 1
                self.allowed[row] = min(allowed, self.longest)
        newest = [tokens[-1] for tokens in chosen]
        self.newest = gradient.tensor(newest, device=self.index.device)
        if self.cache is not None:
            self.cache.rewind([len(ids) - 1 for ids in self.ids])
        self.record()


def first_positions(drafts: Sequence[Draft]) -> list[int]:
    """Return the index of each row's first position among all rows' positions."""
    firsts, at = [], 0
    for draft in drafts:
        firsts.append(at)
        at += len(draft.token_ids) + 1
    return firsts
