"""Beam search: keep the few most probable continuations at each step.

For each prompt K beams are kept (Sutskever et al. 2014, "Sequence to Sequence Learning with Neural
Networks", section 3.2). A step scores all one-token extensions of the K beams. The best ones that
have ended become finished hypotheses, and the best K that have not ended are the next beams. Scores
and stopping follow transformers' `generate`, so that tokens and scores are the same.

Dimensions:
    P  prompts that are not done     K  num_beams     V  vocabulary     C  candidates, at least 2 K
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import gradient
import gradient.functional as F
from gradient.generation.decoder import Decoder
from gradient.generation.result import TokenLogprob
from gradient.tensor import Tensor

__all__ = ["BeamSearch"]

#: The score of beams that do not exist yet, below all real scores.
NEVER = -1e9


class Hypothesis(NamedTuple):
    """A continuation of a prompt, with its score and log-probabilities."""

    score: float  # sum of log-probabilities; once it has ended, over its length ** length_penalty
    token_ids: list[int]  # generated ones, an end-of-text token included
    logprobs: list[TokenLogprob | None]


@dataclass
class Beams:
    """The search from one prompt."""

    number: int  # of the prompt
    limit: int  # the most tokens that may follow the prompt
    running: list[Hypothesis]  # K of them, the best first
    ended: list[Hypothesis] = field(default_factory=list)  # at most K, the best first
    exhausted: bool = False  # no candidate can go on

    def best(self, count: int) -> list[Hypothesis]:
        """Return the best finished hypotheses; if the search was stopped early, also unfinished
        ones."""
        real = [each for each in self.running if each.score > NEVER / 2]
        return [*self.ended, *real][:count]


class BeamSearch:
    """Beam searches from several prompts at once, of any lengths; each finds what it would find
    alone."""

    def __init__(
        self,
        decoder: Decoder,
        num_beams: int,
        *,
        eos_ids: frozenset[int] = frozenset(),
        length_penalty: float = 1.0,
        early_stopping: bool | Literal["never"] = False,
        ends: Callable[[int, Sequence[int]], bool] | None = None,
    ) -> None:
        """Args:
        decoder: at its prompts, none of them continued yet.
        length_penalty: the score of a finished text is divided by its length to this power: above
            0 favours long texts, as log-probabilities are negative.
        early_stopping: when a prompt is done. True: once K texts have ended. False: once it is
            unlikely that a running beam will beat one of them, judged by its present length.
            "never": once none can, judged by the largest length that it could reach.
        ends: a function of the prompt's index and the generated tokens: whether these are a
            complete text without an end-of-text token (because of a stop string).
        """
        self.decoder = decoder
        self.num_beams = num_beams
        self.eos_ids = eos_ids
        self.length_penalty = length_penalty
        self.early_stopping = early_stopping
        self.ends = ends
        # The beams of a prompt are equal at first, so only the first one counts.
        start = [Hypothesis(NEVER if beam else 0.0, [], []) for beam in range(num_beams)]
        lengths = zip(decoder.rows, decoder.limits, decoder.prompt_lengths, strict=True)
        self.beams = [Beams(row, limit - prompt, start) for row, limit, prompt in lengths]
        self.open = list(self.beams)  # not done; each has K consecutive rows of the decoder
        self.begun = False

    @gradient.no_grad()
    def step(self) -> bool:
        """Extend all beams by a token; return whether any prompt is unfinished."""
        logits = self.decoder.logits()
        if not self.begun:  # the K beams of a prompt share its pass
            every = [place for place in range(len(self.open)) for _ in range(self.num_beams)]
            self.decoder.select(every)
            logits, self.begun = logits[every], True
        parents = self._advance(logits)  # logits (P K, V)
        if not self.open:
            return False
        self.decoder.select(parents)
        newest = [each.token_ids[-1] for beams in self.open for each in beams.running]
        self.decoder.extend(gradient.tensor(newest, device=logits.device))
        return True

    def _advance(self, logits: Tensor) -> list[int]:
        """Find the best extensions of all beams, and finish prompts that are done.

        Returns:
            The decoder's place of each running beam's parent, for the prompts still open.
        """
        K, V = self.num_beams, logits.shape[-1]
        scores, places = self._candidates(logits)  # (P, C) each
        P, C = scores.shape
        first = K * gradient.arange(P, device=logits.device).unsqueeze(1)
        parents = (first + places // V).flatten().tolist()
        tokens = (places % V).flatten().tolist()
        reports: Sequence[TokenLogprob | None] = [None] * len(tokens)
        if self.decoder.logprobs is not None:
            reports = self.decoder.reports(logits[parents], tokens)
        before = [each for beams in self.open for each in beams.running]
        candidates = [
            Hypothesis(
                score,
                [*before[parent].token_ids, token],
                [*before[parent].logprobs, report],
            )
            for score, parent, token, report in zip(
                scores.flatten().tolist(), parents, tokens, reports, strict=True
            )
        ]
        best = zip(self.open, candidates[::C], strict=True)
        stuck = [
            math.isnan(each.score) or (each.score == -math.inf and not beams.ended)
            for beams, each in best
        ]
        numbers = [beams.number for beams in self.open]
        self.decoder.check(logits, numbers, [-1 if each else 0 for each in stuck])
        kept, still_open = [], []
        for place, beams in enumerate(self.open):
            some = slice(place * C, (place + 1) * C)
            going = self._update(beams, candidates[some])
            if not self._done(beams):
                kept += [parents[some][at] for at in going]
                still_open.append(beams)
        self.open = still_open
        return kept

    def _candidates(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores (P, C) of the best extensions, and their indices into the K V of
        each prompt."""
        P, K, V = len(self.open), self.num_beams, logits.shape[-1]
        decoder = self.decoder
        scores = decoder.sampler.scores(F.log_softmax(logits.float(), dim=-1), decoder.prefixes)
        held = [each.score for beams in self.open for each in beams.running]
        sums = scores + gradient.tensor(held, dtype=scores.dtype, device=scores.device).unsqueeze(1)
        # Enough for K to go on, even if each beam has ended by each of the end-of-text tokens.
        C = min(max(2, 1 + len(self.eos_ids)) * K, K * V)
        best = sums.view(P, K * V).topk(C, dim=-1)
        return best.values, best.indices

    def _update(self, beams: Beams, candidates: Sequence[Hypothesis]) -> list[int]:
        """Split candidates into finished and running ones; return the running ones."""
        K = self.num_beams
        over = [self._ended(beams, each.token_ids) for each in candidates]
        full = self.early_stopping is True and len(beams.ended) == K
        # Only those among the best K may end; the other candidates are there to go on.
        for each, ended in zip(candidates[:K], over, strict=False):
            if ended and not full and each.score > NEVER / 2:
                score = each.score / len(each.token_ids) ** self.length_penalty
                beams.ended.append(each._replace(score=score))
        beams.ended = sorted(beams.ended, key=lambda each: -each.score)[:K]
        going = sorted(range(len(candidates)), key=lambda at: over[at])[:K]
        # If fewer than K go on, the other places get beams with a score that is never chosen.
        beams.running = [
            candidates[at]._replace(score=NEVER) if over[at] else candidates[at] for at in going
        ]
        beams.exhausted = all(each.score <= NEVER for each in beams.running)
        return going

    def _ended(self, beams: Beams, token_ids: Sequence[int]) -> bool:
        if token_ids[-1] in self.eos_ids or len(token_ids) == beams.limit:
            return True
        return self.ends is not None and self.ends(beams.number, token_ids)

    def _done(self, beams: Beams) -> bool:
        """Return whether no running beam can improve the result."""
        if beams.exhausted:
            return True
        if len(beams.ended) < self.num_beams:
            return False
        if self.early_stopping is True:
            return True
        best = beams.running[0]
        longest = self.early_stopping == "never" and self.length_penalty > 0
        length = beams.limit if longest else len(best.token_ids)
        return best.score / length**self.length_penalty <= beams.ended[-1].score
