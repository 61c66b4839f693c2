"""Text from a language model: the loop that feeds a token back until something says stop.

`decode` is that loop, on token ids, for any number of rows; `generate` and `stream` put text
around it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import gradient
import gradient.functional as F
from gradient.errors import ArgumentError
from gradient.generation.cache import KVCache
from gradient.generation.sampling import LogitsProcessor, Sampler, SamplingParams
from gradient.generation.stopping import StopStrings
from gradient.models.causal_lm import CausalLM
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.text import Tokenizer

Prompt = str | Sequence[int]


class TokenLogprob(NamedTuple):
    """A token's log-probability (natural, of unprocessed logits) and the likeliest in its place."""

    token_id: int
    logprob: float
    top: dict[int, float]  # token id -> log-probability, the likeliest first


@dataclass
class Timings:
    """Where the time of a generation went. Rows of one batch share the clock."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    prompt_seconds: float = 0.0  # until the first token was there
    decode_seconds: float = 0.0  # from the first token to the last

    @property
    def tokens_per_second(self) -> float:
        """Return the decoding rate, without the prompt's share; 0 for fewer than two tokens."""
        steps = self.generated_tokens - 1
        return steps / self.decode_seconds if steps > 0 and self.decode_seconds > 0 else 0.0


@dataclass
class Generation:
    """What a model wrote. `str(generation)` is its text.

    Attributes:
        text: the text, without the prompt and without the stop string that ended it.
        token_ids: the tokens generated, those of a stop string included, an end-of-text token not.
        finish_reason: "stop" (end-of-text token or stop string), "length" (max_new_tokens), or
            "context" (the model's context is full).
        logprobs: one entry per token if asked for.
    """

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str = ""
    stop_string: str | None = None
    logprobs: list[TokenLogprob] | None = None
    timings: Timings = field(default_factory=Timings)

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict[str, Any]:
        """Return the same as values that JSON has."""
        values = asdict(self)
        values["timings"]["tokens_per_second"] = self.timings.tokens_per_second
        if self.logprobs is not None:
            values["logprobs"] = [each._asdict() for each in self.logprobs]
        return values


class Token(NamedTuple):
    """One token that `decode` chose."""

    row: int  # index of the prompt
    token_id: int
    logprob: TokenLogprob | None


class Decoder:
    """Continues a batch of token sequences by one token per row and step.

    A row that is finished is dropped, and costs nothing from then on. With `use_cache=False` every
    step computes all tokens anew: for tests, to which the cache must make no difference.
    """

    def __init__(
        self,
        model: CausalLM,
        prompts: Sequence[Sequence[int]],
        sampler: Sampler,
        *,
        capacity: int,
        logprobs: int | None = None,
        use_cache: bool = True,
    ) -> None:
        """Args:
        prompts: token ids, at least one in each.
        capacity: the most tokens that a row will hold, its prompt included; sizes the buffers.
        logprobs: report each token's log-probability and this many of the likeliest.
        """
        self.model = model
        self.sampler = sampler
        self.logprobs = logprobs
        self.rows = list(range(len(prompts)))  # the prompt that each running row belongs to
        self.lengths = [len(prompt) for prompt in prompts]
        self.tokens = _padded(prompts, capacity, model.device)
        self.cache: KVCache | None = None
        if use_cache:  # one column less: the last token is never fed back
            self.cache = KVCache.for_model(model, len(prompts), capacity - 1)

    @gradient.no_grad()
    def step(self) -> list[Token]:
        """Choose the next token of every running row."""
        logits = self._logits()  # (B, V)
        extent = max(self.lengths)
        chosen = self.sampler(logits, self.tokens[:, :extent], self.rows)  # (B,)
        index = gradient.arange(len(self.rows), device=chosen.device)
        ends = gradient.tensor(self.lengths, device=chosen.device)
        self.tokens[index, ends] = chosen
        self.lengths = [length + 1 for length in self.lengths]
        ids = chosen.tolist()
        reports = self._reports(logits, ids)
        return [Token(*each) for each in zip(self.rows, ids, reports, strict=True)]

    def drop(self, finished: set[int]) -> None:
        """Stop computing these rows."""
        kept = [at for at, row in enumerate(self.rows) if row not in finished]
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[at] for at in kept]
        self.lengths = [self.lengths[at] for at in kept]
        if kept:
            self.tokens = self.tokens[gradient.tensor(kept, device=self.tokens.device)]
            if self.cache is not None:
                self.cache = self.cache.select(kept)

    def _logits(self) -> Tensor:
        """Return the logits that follow each row's last token, (B, V)."""
        extent = max(self.lengths)
        if self.cache is not None and self.cache.counts[0]:
            index = gradient.arange(len(self.rows), device=self.tokens.device)
            last = gradient.tensor([n - 1 for n in self.lengths], device=self.tokens.device)
            newest = self.tokens[index, last].unsqueeze(1)  # (B, 1)
            return self.model(newest, self.cache)[:, -1]
        whole = self.tokens[:, :extent].clamp(min=0)  # (B, T); padding is any valid token
        return self.model(whole, self.cache, lengths=self.lengths, last_only=True)[:, -1]

    def _reports(self, logits: Tensor, ids: list[int]) -> list[TokenLogprob | None]:
        if self.logprobs is None:
            return [None] * len(ids)
        logprobs = F.log_softmax(logits.float(), dim=-1)
        top = logprobs.topk(min(self.logprobs, logprobs.shape[-1]), dim=-1)
        values, indices = top.values.tolist(), top.indices.tolist()
        return [
            TokenLogprob(
                token_id,
                logprobs[row, token_id].item(),
                dict(zip(indices[row], values[row], strict=True)),
            )
            for row, token_id in enumerate(ids)
        ]


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
    running = {row for row in range(len(prompts)) if rows[row].budget > 0}
    for row in set(range(len(prompts))) - running:
        rows[row].finish(rows[row].budget_reason)
    if not running:
        return
    decoder = Decoder(
        model,
        prompts,
        sampler,
        capacity=max(len(p) + row.budget for p, row in zip(prompts, rows, strict=True)),
        logprobs=logprobs,
        use_cache=use_cache,
    )
    decoder.drop(set(range(len(prompts))) - running)
    start = first = time.perf_counter()
    while decoder.rows:
        tokens = decoder.step()
        now = time.perf_counter()
        first = now if first == start else first
        ended = set()
        for token in tokens:
            row = rows[token.row]
            piece = row.add(token, eos_ids)
            timings = row.result.timings
            timings.generated_tokens += 1
            timings.prompt_seconds, timings.decode_seconds = first - start, now - first
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
    """
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
    if max_new_tokens is not None and max_new_tokens < 0:
        raise ArgumentError(f"max_new_tokens: expected at least 0, or None, got {max_new_tokens}")
    if stop and tokenizer is None:
        raise ArgumentError("stop: stop strings need a tokenizer")
    if logprobs is not None and logprobs is not False and logprobs < 0:
        raise ArgumentError(f"logprobs: expected True or a count of at least 0, got {logprobs}")
    top = None if logprobs is None or logprobs is False else 0 if logprobs is True else logprobs
    eos_ids = frozenset() if ignore_eos else end_of_text_ids(model, tokenizer)
    bos_id = beginning_of_text_id(model, tokenizer)
    prompts = [list(prompt) or _begin(bos_id) for prompt in prompts]
    rows = []
    for prompt in prompts:
        budget, reason = _budget(model, prompt, max_new_tokens)
        result = Generation(
            logprobs=None if top is None else [], timings=Timings(prompt_tokens=len(prompt))
        )
        text_decoder = None if tokenizer is None else tokenizer.stream(prompt)
        rows.append(Row(budget, reason, result, StopStrings(stop), text_decoder))
    sampler = Sampler(params, len(prompts), seed=seed, extra=logits_processors)
    pieces = decode(
        model, prompts, rows, sampler, eos_ids=eos_ids, logprobs=top, use_cache=use_cache
    )
    return rows, pieces


def end_of_text_ids(model: CausalLM, tokenizer: Tokenizer | None) -> frozenset[int]:
    """Return the tokens that end a text: the config's, and the tokenizer's."""
    ids = model.config.eos_token_ids
    if tokenizer is not None and tokenizer.eos_id is not None:
        ids |= {tokenizer.eos_id}
    return ids


def beginning_of_text_id(model: CausalLM, tokenizer: Tokenizer | None) -> int | None:
    """Return the token that an empty prompt becomes: the tokenizer's, else the config's."""
    bos_id = None if tokenizer is None else tokenizer.bos_id
    return model.config.bos_token_id if bos_id is None else bos_id


def read_prompts(
    prompt: Prompt | Sequence[Prompt] | Tensor,
    tokenizer: Tokenizer | None,
    attention_mask: Tensor | None,
) -> tuple[bool, list[list[int]]]:
    """Return whether several prompts were given, and the token ids of each, without padding."""
    if isinstance(prompt, Tensor):
        rows = prompt.tolist()
        if attention_mask is None:
            return prompt.ndim == 2, rows if prompt.ndim == 2 else [rows]
        if prompt.ndim != 2 or tuple(attention_mask.shape) != tuple(prompt.shape):
            raise ArgumentError(
                f"attention_mask: expected the shape of the prompts (B, T), got "
                f"{tuple(attention_mask.shape)} for {tuple(prompt.shape)}"
            )
        masks = attention_mask.tolist()
        return True, [
            [token for token, real in zip(row, mask, strict=True) if real]
            for row, mask in zip(rows, masks, strict=True)
        ]
    if attention_mask is not None:
        raise ArgumentError(
            "attention_mask: only for prompts given as a tensor; lists need no padding"
        )
    many = not isinstance(prompt, str) and any(not isinstance(each, int) for each in prompt)
    each_prompt: Sequence[Any] = prompt if many else [prompt]
    return many, [_token_ids(each, tokenizer) for each in each_prompt]


def _token_ids(prompt: Prompt, tokenizer: Tokenizer | None) -> list[int]:
    if not isinstance(prompt, str):
        return list(prompt)
    if tokenizer is None:
        raise ArgumentError("prompt: text needs a tokenizer; give token ids, or tokenizer=")
    return list(tokenizer.encode(prompt))


def _begin(bos_id: int | None) -> list[int]:
    if bos_id is None:
        raise ArgumentError(
            "prompt: empty, and the model has no beginning-of-text token to start from"
        )
    return [bos_id]


def _budget(model: CausalLM, prompt: Sequence[int], max_new_tokens: int | None) -> tuple[int, str]:
    """Return how many tokens may follow a prompt, and the finish reason once they have.

    Raises:
        ArgumentError: the prompt does not fit the model's context.
    """
    limit = model.context_length
    if limit is None:
        if max_new_tokens is None:
            raise ArgumentError("max_new_tokens: needed, as this model's context has no limit")
        return max_new_tokens, "length"
    if len(prompt) > limit:
        raise ArgumentError(
            f"prompt: {len(prompt)} tokens do not fit the model's context of {limit}: shorten it, "
            f"or keep its last {limit} tokens"
        )
    room = limit - len(prompt) + 1  # the last token is never fed back
    if max_new_tokens is None or max_new_tokens > room:
        return room, "context"
    return max_new_tokens, "length"


def _padded(prompts: Sequence[Sequence[int]], columns: int, device: Any) -> Tensor:
    """Return token ids (B, columns), padded on the right with -1."""
    return gradient.tensor(
        [[*prompt, *[-1] * (columns - len(prompt))] for prompt in prompts],
        dtype=gradient.int64,
        device=device,
    )
