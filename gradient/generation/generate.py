"""Text from a language model: the loop that appends tokens until a stop condition holds."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Unpack, overload

from gradient.backends.numpy import compiler
from gradient.errors import ArgumentError, GenerationError, OutOfMemoryError
from gradient.generation.beam_search import BeamSearch
from gradient.generation.decoder import Decoder, Token
from gradient.generation.drafts import drafter_of
from gradient.generation.logits.constraints import constraint_of
from gradient.generation.options import GenerationOptions, Options, StreamOptions
from gradient.generation.prompt import (
    Prompt,
    beginning_of_text_id,
    bos_prompt,
    budget,
    check_tokens,
    end_of_text_ids,
    read_prompts,
)
from gradient.generation.result import Generation, Timings
from gradient.generation.row import Row
from gradient.generation.sampling import Sampler
from gradient.generation.speculative import SpeculativeDecoder
from gradient.generation.stop_strings import StopStrings
from gradient.io.free_memory import available
from gradient.models.causal_lm import CausalLM
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.text import Tokenizer

__all__ = ["TextStream", "generate", "stream"]

Pieces = Generator[tuple[int, str], None, None]
"""The pieces of all texts as they grow: the number of a text's row, and its next piece."""


@overload  # a text is a sequence of texts, too: its letters
def generate(  # type: ignore[overload-overlap]
    model: CausalLM,
    prompt: Prompt,
    *,
    tokenizer: Tokenizer | None = None,
    **options: Unpack[StreamOptions],
) -> Generation: ...


@overload
def generate(
    model: CausalLM,
    prompt: Prompt | Sequence[Prompt],
    *,
    tokenizer: Tokenizer | None = None,
    **options: Unpack[Options],
) -> list[Generation]: ...


@overload
def generate(
    model: CausalLM,
    prompt: Tensor,
    *,
    tokenizer: Tokenizer | None = None,
    attention_mask: Tensor | None = None,
    **options: Unpack[Options],
) -> Generation | list[Generation]: ...


def generate(
    model: CausalLM,
    prompt: Prompt | Sequence[Prompt] | Tensor,
    *,
    tokenizer: Tokenizer | None = None,
    attention_mask: Tensor | None = None,
    **options: Unpack[Options],
) -> Generation | list[Generation]:
    """Continue a prompt, or several prompts of any lengths, with `model`.

    Args:
        prompt: text (needs `tokenizer`), token ids, a list of either, or a tensor of token ids
            (T,) or (B, T). An empty prompt becomes the beginning-of-text token.
        tokenizer: converts between text and ids; without one, `Generation.text` is empty.
        attention_mask: (B, T), 0 at the padding of a prompt tensor, which may be on the left or the
            right.
        options: see `GenerationOptions`.

    Returns:
        One Generation; or a list, if `prompt` is a list or a (B, T) tensor, or if
        `num_return_sequences` is above 1: first all sequences of the first prompt, then those of
        the next. An empty list of prompts gives an empty list.

    Raises:
        ArgumentError: an option is out of range, a prompt is longer than the model's context, a
            prompt is empty and the model has no beginning-of-text token, or a prompt is text and
            there is no tokenizer.
        TypeMismatch (TypeError): there is no option of this name.
        GenerationError: no token is possible: processors forbid all, or the logits are NaN.
    """
    chosen = GenerationOptions.of(options)
    many, prompts = read_prompts(prompt, tokenizer, attention_mask)
    if not prompts:
        return []
    rows, pieces = start(model, prompts, tokenizer, chosen)
    for _ in pieces:
        pass
    results = [row.result for row in rows]
    return results if many or chosen.num_return_sequences > 1 else results[0]


class TextStream(Iterator[str]):
    """An iterator over the pieces of a generated text.

    Attributes:
        generation: the whole text so far; after the end, the same as `generate` returns.
    """

    def __init__(self, generation: Generation, pieces: Pieces) -> None:
        self.generation = generation
        self._pieces = pieces
        self._begun = False

    def __next__(self) -> str:
        if self._begun:  # no note about compiling kernels in the middle of the text
            with compiler.progress.quiet():
                return next(self._pieces)[1]
        _, piece = next(self._pieces)
        self._begun = bool(piece)
        return piece

    def close(self) -> None:
        """Stop the generation and free its memory."""
        self._pieces.close()


def stream(
    model: CausalLM,
    prompt: Prompt,
    *,
    tokenizer: Tokenizer | None,
    **options: Unpack[StreamOptions],
) -> TextStream:
    """Continue a prompt with `model`; yield the text piece by piece, in whole characters.

    Args:
        options: see `GenerationOptions`.

    Raises:
        ArgumentError, TypeMismatch, GenerationError: as in `generate`. The first two are raised by
            this call, not with the first piece.
    """
    if tokenizer is None:
        raise ArgumentError("stream: a text needs a tokenizer; use generate, which gives token ids")
    chosen = GenerationOptions.of(options)
    _, prompts = read_prompts(prompt, tokenizer, None)
    if len(prompts) != 1:
        raise ArgumentError(f"stream: expected one prompt, got {len(prompts)}; use generate")
    if chosen.num_return_sequences != 1:
        raise ArgumentError(
            f"num_return_sequences: a stream is one text, got {chosen.num_return_sequences}; use "
            f"generate"
        )
    (row,), pieces = start(model, prompts, tokenizer, chosen)
    return TextStream(row.result, pieces)


def start(
    model: CausalLM,
    prompts: Sequence[Sequence[int]],
    tokenizer: Tokenizer | None,
    options: GenerationOptions,
) -> tuple[list[Row], Pieces]:
    """Check all options; return the rows, and the generator that fills them: see `decode`."""
    if options.stop and tokenizer is None:
        raise ArgumentError("stop: stop strings need a tokenizer")
    eos_ids = frozenset() if options.ignore_eos else end_of_text_ids(model, tokenizer)
    bos_id = beginning_of_text_id(model, tokenizer)
    prompts = [list(prompt) or bos_prompt(bos_id) for prompt in prompts]
    check_tokens(prompts, model)
    check_token_options(options, model.config.vocab_size)
    check_rows(options, len(prompts), model.config.vocab_size)
    each = options.num_return_sequences
    constraint = constraint_of(options, tokenizer, model.config.vocab_size, eos_ids)
    rows = [new_row(model, prompt, tokenizer, options) for prompt in prompts for _ in range(each)]
    if options.num_beams == 1:
        prompts = [prompt for prompt in prompts for _ in range(each)]
    if constraint is not None:
        for number, row in enumerate(rows):
            row.complete = functools.partial(constraint.ends, number * len(prompts) // len(rows))
    sampler = Sampler(
        options,
        len(prompts),
        seed=options.seed,
        eos_ids=eos_ids,
        extra=[*options.logits_processors, *([constraint] if constraint else [])],
    )
    if not sampler.greedy:
        for row, seed in zip(rows, sampler.seeds, strict=True):
            row.result.seed = seed
    first = rows[:: len(rows) // len(prompts)]  # of each prompt
    limits = [len(p) + row.budget for p, row in zip(prompts, first, strict=True)]
    drafter = drafter_of(options, model, tokenizer, sampler, limits)

    def new_decoder() -> Decoder:
        kind: Callable[..., Decoder] = Decoder
        if drafter is not None:
            kind = functools.partial(
                SpeculativeDecoder, drafter=drafter, longest=options.max_draft_tokens
            )
        return kind(
            model,
            prompts,
            sampler,
            limits=limits,
            logprobs=options.reported_logprobs,
            cache_config=options.cache_config,
        )

    if options.num_beams == 1:
        return rows, decode(new_decoder, rows, eos_ids)

    def ends(number: int, token_ids: Sequence[int]) -> bool:
        """Return whether a constraint or a stop string ends a beam."""
        if constraint is not None and constraint.complete(number, token_ids):
            return True
        if not options.stop:
            return False
        row = new_row(model, prompts[number], tokenizer, options)
        for token in token_ids:
            row.add(Token(number, token, None), eos_ids)
        return row.stop.found is not None

    return rows, search(new_decoder, rows, each, options, eos_ids, ends)


def new_row(
    model: CausalLM, prompt: Sequence[int], tokenizer: Tokenizer | None, options: GenerationOptions
) -> Row:
    """Return the row that collects the continuation of `prompt`."""
    most, reason = budget(model, prompt, options.max_new_tokens, options.beyond_context)
    result = Generation(
        logprobs=None if options.reported_logprobs is None else [],
        timings=Timings(prompt_tokens=len(prompt)),
    )
    text_decoder = None if tokenizer is None else tokenizer.stream(prompt)
    return Row(most, reason, result, StopStrings(options.stop), text_decoder)


def decode(
    new_decoder: Callable[[], Decoder], rows: Sequence[Row], eos_ids: frozenset[int]
) -> Pieces:
    """Continue a decoder's prompts until every row has ended, filling `rows`; yield (row, text).

    After an exception, such as Ctrl-C, `rows` hold all that was generated before it.
    """
    idle = {number for number, row in enumerate(rows) if row.budget == 0}
    for number in idle:
        rows[number].finish(rows[number].budget_reason)
    if len(idle) == len(rows):
        return
    decoder = new_decoder()
    if decoder.cache is not None:
        for row, held in zip(rows, decoder.cache.counts, strict=True):
            row.result.timings.cached_tokens = held
    decoder.drop(idle)
    prompt_seconds = decode_seconds = 0.0  # of the steps, without what the caller does between
    try:
        while decoder.rows:
            begun = time.perf_counter()
            tokens = decoder.step()
            if prompt_seconds:
                decode_seconds += time.perf_counter() - begun
            else:
                prompt_seconds = time.perf_counter() - begun
            for number in decoder.rows:
                timings = rows[number].result.timings
                timings.prompt_seconds, timings.decode_seconds = prompt_seconds, decode_seconds
                decoder.count_drafts(number, timings)
                decoder.count_steps(timings)
            ended: set[int] = set()
            for token in tokens:
                if token.row in ended:
                    continue  # of several chosen at once, those after the end
                row = rows[token.row]
                piece = row.add(token, eos_ids)
                row.result.timings.generated_tokens += 1
                if row.result.finish_reason:
                    ended.add(token.row)
                if piece:
                    yield token.row, piece
            decoder.drop(ended)
    finally:
        decoder.close()


def search(
    new_decoder: Callable[[], Decoder],
    rows: Sequence[Row],
    each: int,
    options: GenerationOptions,
    eos_ids: frozenset[int],
    ends: Callable[[int, Sequence[int]], bool],
) -> Pieces:
    """Continue a decoder's prompts by beam search, filling `each` rows for each prompt; yield
    (row, text).

    After an exception, such as Ctrl-C, `rows` hold the best texts that were found before it.
    """
    if options.max_new_tokens == 0:
        for row in rows:
            row.finish(row.budget_reason)
        return
    decoder = new_decoder()
    beams = BeamSearch(
        decoder,
        options.num_beams,
        eos_ids=eos_ids,
        length_penalty=options.length_penalty,
        early_stopping=options.early_stopping,
        ends=ends,
    )
    begun = time.perf_counter()
    prompt_seconds = 0.0
    try:
        more = True
        while more:
            more = beams.step()
            prompt_seconds = prompt_seconds or time.perf_counter() - begun
    finally:
        seconds = time.perf_counter() - begun - prompt_seconds
        for number, found in enumerate(beams.beams):
            own = rows[number * each : (number + 1) * each]
            for row, hypothesis in zip(own, found.best(each), strict=False):
                row.result.score = hypothesis.score
                for token, logprob in zip(hypothesis.token_ids, hypothesis.logprobs, strict=True):
                    row.add(Token(number, token, logprob), eos_ids)
                timings = row.result.timings
                timings.generated_tokens = len(hypothesis.token_ids)
                timings.prompt_seconds, timings.decode_seconds = prompt_seconds, seconds
                decoder.count_steps(timings)
    for number, row in enumerate(rows):
        if not row.result.finish_reason:
            raise GenerationError(
                f"beam search: prompt {number // each} has fewer than num_return_sequences="
                f"{each} continuations: logits processors have forbidden all others"
            )
        yield number, row.result.text


def check_token_options(options: GenerationOptions, vocab_size: int) -> None:
    """Raise ArgumentError unless the options name only tokens of the vocabulary."""
    named = {
        "logit_bias": list(options.logit_bias or ()),
        "bad_words_ids": [token for word in options.bad_words_ids or () for token in word],
    }
    wrong = [
        f"{name}: expected token ids from 0 to {vocab_size - 1}, got {beyond[:5]}"
        for name, ids in named.items()
        if (beyond := [token for token in ids if token >= vocab_size])
    ]
    if wrong:
        raise ArgumentError("; ".join(wrong))


def check_rows(options: GenerationOptions, prompts: int, vocab_size: int) -> None:
    """Raise OutOfMemoryError unless the logits of all rows, the minimum that they need, fit into
    memory.

    It runs before the rows are made: making a list of any length might never end.
    """
    name = "num_beams" if options.num_beams > 1 else "num_return_sequences"
    each: int = getattr(options, name)
    needed = prompts * each * vocab_size * 4
    if needed < 1 << 30:  # to ask what is free takes longer than a step of a small model
        return
    free = available()
    if free is not None and needed > free:
        raise OutOfMemoryError(
            f"generate: {prompts * each:,} rows of logits need {needed / (1 << 30):,.1f} GiB, and "
            f"{free / (1 << 30):,.1f} GiB are free: give a smaller {name}, got {name}={each}"
        )
