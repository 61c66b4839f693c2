"""Text from a language model: the loop that feeds tokens back until something says stop."""

from __future__ import annotations

import difflib
import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

from gradient.errors import ArgumentError, TypeMismatch
from gradient.generation.decoder import Decoder, Token
from gradient.generation.prompt import (
    Prompt,
    begin,
    beginning_of_text_id,
    budget,
    check_tokens,
    end_of_text_ids,
    read_prompts,
)
from gradient.generation.result import Generation, Timings
from gradient.generation.sampling import LogitsProcessor, Sampler, SamplingParams
from gradient.generation.stopping import StopStrings
from gradient.models.causal_lm import CausalLM
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.text import Tokenizer


@dataclass
class Row:
    """One prompt's continuation as it grows: its text so far, and whether it has ended."""

    budget: int  # tokens it may still have
    budget_reason: str  # why no more
    result: Generation
    stop: StopStrings
    decoder: Any  # the tokenizer's StreamDecoder, or None without a tokenizer

    def add(self, token: Token, eos_ids: frozenset[int]) -> str:
        """Take in a token; return the text that has become certain."""
        result = self.result
        if token.token_id in eos_ids:
            return self.finish("stop")
        result.token_ids.append(token.token_id)
        if result.logprobs is not None and token.logprob is not None:
            result.logprobs.append(token.logprob)
        piece = self._emit(self.decoder.push(token.token_id) if self.decoder else "")
        if self.stop.found is not None:
            result.finish_reason, result.stop_string = "stop", self.stop.found
        elif len(result.token_ids) == self.budget:
            piece += self.finish(self.budget_reason)
        return piece

    def finish(self, reason: str) -> str:
        """End the row; return the text that was held back."""
        piece = self._emit(self.decoder.flush() if self.decoder else "")
        if self.stop.found is not None:
            reason, self.result.stop_string = "stop", self.stop.found
        held = self.stop.flush()
        self.result.text += held
        self.result.finish_reason = reason
        return piece + held

    def _emit(self, text: str) -> str:
        piece = self.stop.push(text)
        self.result.text += piece
        return piece


def decode(
    model: CausalLM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    sampler: Sampler,
    *,
    eos_ids: frozenset[int] = frozenset(),
    logprobs: int | None = None,
    use_cache: bool = True,
) -> Iterator[tuple[int, str]]:
    """Continue `prompts` until every row has ended, filling `rows`; yield (row, new text).

    An exception, Ctrl-C included, leaves in `rows` all that was generated before it.
    """
    idle = {number for number, row in enumerate(rows) if row.budget == 0}
    for number in idle:
        rows[number].finish(rows[number].budget_reason)
    if len(idle) == len(rows):
        return
    decoder = Decoder(
        model,
        prompts,
        sampler,
        capacity=max(len(p) + row.budget for p, row in zip(prompts, rows, strict=True)),
        logprobs=logprobs,
        use_cache=use_cache,
    )
    decoder.drop(idle)
    prompt_seconds = decode_seconds = 0.0  # of the steps, without what the caller does between
    while decoder.rows:
        begun = time.perf_counter()
        tokens = decoder.step()
        if prompt_seconds:
            decode_seconds += time.perf_counter() - begun
        else:
            prompt_seconds = time.perf_counter() - begun
        ended = set()
        for token in tokens:
            row = rows[token.row]
            piece = row.add(token, eos_ids)
            timings = row.result.timings
            timings.generated_tokens += 1
            timings.prompt_seconds, timings.decode_seconds = prompt_seconds, decode_seconds
            if row.result.finish_reason:
                ended.add(token.row)
            if piece:
                yield token.row, piece
        decoder.drop(ended)


def generate(
    model: CausalLM,
    prompt: Prompt | Sequence[Prompt] | Tensor,
    *,
    tokenizer: Tokenizer | None = None,
    attention_mask: Tensor | None = None,
    **options: Any,
) -> Generation | list[Generation]:
    """Let `model` continue a prompt, or several at once (of any lengths).

    Args:
        prompt: text (needs `tokenizer`), token ids, a list of either, or a tensor of token ids
            (T,) or (B, T). An empty prompt begins with the beginning-of-text token.
        tokenizer: turns text to ids and back; without one, `Generation.text` is empty.
        attention_mask: (B, T), 0 where a prompt given as a tensor is padded, on the left or the
            right.
        options: see `stream`, which takes the same.

    Returns:
        One Generation, or one per prompt if a list or a (B, T) tensor was given.
    """
    check_options(options)
    many, prompts = read_prompts(prompt, tokenizer, attention_mask)
    rows, pieces = start(model, prompts, tokenizer, **options)
    for _ in pieces:
        pass
    results = [row.result for row in rows]
    return results if many else results[0]


def stream(
    model: CausalLM, prompt: Prompt, *, tokenizer: Tokenizer, **options: Any
) -> Iterator[str]:
    """Let `model` continue a prompt; yield the text as it appears, never half a character.

    Args:
        max_new_tokens: the most tokens to generate; None goes on until the context is full.
        temperature, top_k, top_p, min_p, repetition_penalty: see `SamplingParams`.
        seed: makes sampling repeatable; row i of a batch draws with seed + i, or seed[i] of a list.
        stop: string(s) that end the text; nothing of them is emitted.
        ignore_eos: go on after an end-of-text token, which then counts like any other.
        logprobs: report log-probabilities: True, or how many of the likeliest tokens to list.
        logits_processors: functions (logits (B, V), tokens (B, L)) -> logits, applied first.
        use_cache: False computes every token anew at every step.

    Raises:
        ArgumentError: an option out of range, a prompt longer than the model's context, an empty
            prompt for a model without a beginning-of-text token.
        TypeMismatch (TypeError): there is no such option.
        GenerationError: while generating: no token is possible, as processors forbid all or the
            model computes NaN.
    """
    check_options(options)
    _, prompts = read_prompts(prompt, tokenizer, None)
    if len(prompts) != 1:
        raise ArgumentError(f"stream: expected one prompt, got {len(prompts)}; use generate")
    _, pieces = start(model, prompts, tokenizer, **options)
    return (piece for _, piece in pieces)


def start(
    model: CausalLM,
    prompts: Sequence[Sequence[int]],
    tokenizer: Tokenizer | None,
    *,
    max_new_tokens: int | None = 256,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int | Sequence[int] | None = None,
    stop: str | Sequence[str] | None = None,
    ignore_eos: bool = False,
    logprobs: bool | int | None = None,
    logits_processors: Sequence[LogitsProcessor] = (),
    use_cache: bool = True,
) -> tuple[list[Row], Iterator[tuple[int, str]]]:
    """Check everything, and return the rows and the iterator that fills them; see `stream`."""
    params = SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
    )
    if max_new_tokens is not None and not _is_count(max_new_tokens):
        raise ArgumentError(
            f"max_new_tokens: expected an int of at least 0, or None, got {max_new_tokens!r}"
        )
    if stop and tokenizer is None:
        raise ArgumentError("stop: stop strings need a tokenizer")
    if logprobs is not None and not isinstance(logprobs, bool) and not _is_count(logprobs):
        raise ArgumentError(f"logprobs: expected True or a count of at least 0, got {logprobs!r}")
    top = None if logprobs is None or logprobs is False else 0 if logprobs is True else logprobs
    eos_ids = frozenset() if ignore_eos else end_of_text_ids(model, tokenizer)
    bos_id = beginning_of_text_id(model, tokenizer)
    prompts = [list(prompt) or begin(bos_id) for prompt in prompts]
    check_tokens(prompts, model.config.vocab_size)
    rows = []
    for prompt in prompts:
        most, reason = budget(model, prompt, max_new_tokens)
        result = Generation(
            logprobs=None if top is None else [], timings=Timings(prompt_tokens=len(prompt))
        )
        text_decoder = None if tokenizer is None else tokenizer.stream(prompt)
        rows.append(Row(most, reason, result, StopStrings(stop), text_decoder))
    sampler = Sampler(params, len(prompts), seed=seed, extra=logits_processors)
    pieces = decode(
        model, prompts, rows, sampler, eos_ids=eos_ids, logprobs=top, use_cache=use_cache
    )
    return rows, pieces


def check_options(options: Mapping[str, Any]) -> None:
    """Raise TypeMismatch for an option that generation does not have, with the nearest name."""
    known = [
        name
        for name, parameter in inspect.signature(start).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise TypeMismatch(
                f"generate: there is no option {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else "")
                + f" (options: {', '.join(known)})"
            )


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0
