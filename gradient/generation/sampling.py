"""From logits to the next token: the processors that are asked for, in order, and one draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import gradient
import gradient.functional as F
from gradient.errors import ArgumentError, ShapeError
from gradient.generation.logits.penalties import (
    bad_words,
    logit_bias,
    min_new_tokens,
    no_repeat_ngram,
    presence_and_frequency_penalty,
    repetition_penalty,
)
from gradient.generation.logits.processors import LogitsProcessor, Prefixes, compose
from gradient.generation.logits.truncation import min_p, temperature, top_k, top_p, typical_p
from gradient.tensor import Tensor


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen.

    Attributes:
        temperature: logits are divided by it: below 1 bolder, above 1 more varied; 0 takes the
            likeliest token (greedy), and then top_k, top_p, min_p and typical_p change nothing.
        top_k: choose among the k likeliest tokens; None or 0 is all.
        top_p: choose among the fewest likeliest tokens whose probabilities reach p
            (nucleus sampling, Holtzman et al. 2020); None or 1 is all.
        min_p: choose among tokens at least min_p times as probable as the likeliest
            (Nguyen et al. 2024); None or 0 is all.
        typical_p: choose among the fewest tokens of about the expected information whose
            probabilities reach p (Meister et al. 2022); None or 1 is all.
        repetition_penalty: positive logits of tokens already there, in the prompt or after it, are
            divided by it, negative ones multiplied (Keskar et al. 2019, "CTRL", section 4.1); 1 is
            none.
        presence_penalty: subtracted from the logit of each token generated before (OpenAI's
            definition: the prompt does not count).
        frequency_penalty: the same, times how often it was generated.
        logit_bias: {token id: value added to its logit}; -inf forbids a token.
        no_repeat_ngram_size: no run of so many tokens comes twice, the prompt's included; 0 allows.
        bad_words_ids: runs of tokens that must not appear, each a list of token ids.
        min_new_tokens: the text does not end by an end-of-text token before so many.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] | None = None
    no_repeat_ngram_size: int = 0
    bad_words_ids: Sequence[Sequence[int]] | None = None
    min_new_tokens: int = 0

    def __post_init__(self) -> None:
        wrong = self.problems()
        if wrong:
            raise ArgumentError("options: " + "; ".join(wrong))

    def problems(self) -> list[str]:
        """Return everything that is wrong with the values, one clause each; empty if nothing is."""
        share = _number(lambda p: 0 < p <= 1)
        limits: dict[str, tuple[Callable[[Any], bool], str]] = {
            "temperature": (_number(lambda t: 0 <= t < math.inf), "a finite number of at least 0"),
            "top_k": (_optional(is_count), "an integer of at least 0"),
            "top_p": (_optional(share), "above 0 and at most 1"),
            "min_p": (_optional(_number(lambda p: 0 <= p <= 1)), "from 0 to 1"),
            "typical_p": (_optional(share), "above 0 and at most 1"),
            "repetition_penalty": (_number(lambda p: 0 < p < math.inf), "a positive number"),
            "presence_penalty": (_number(math.isfinite), "a finite number"),
            "frequency_penalty": (_number(math.isfinite), "a finite number"),
            "logit_bias": (_optional(_is_bias), "{token id: number below inf}"),
            "no_repeat_ngram_size": (is_count, "an integer of at least 0"),
            "bad_words_ids": (_optional(_are_words), "lists of token ids, none of them empty"),
            "min_new_tokens": (is_count, "an integer of at least 0"),
        }
        return misfits(self, limits)


def misfits(options: Any, limits: Mapping[str, tuple[Callable[[Any], bool], str]]) -> list[str]:
    """Return "name must be <what>, got <value>" for each attribute outside its limits."""
    values = {name: getattr(options, name) for name in limits}
    return [
        f"{name} must be {expected}, got {values[name]!r:.80}"
        for name, (holds, expected) in limits.items()
        if not holds(values[name])
    ]


def is_count(value: Any) -> bool:
    """Return whether `value` is an integer of at least 0; a bool is not."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0


def _optional(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _number(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Real) and holds(value)


def _is_bias(value: Any) -> bool:
    # inf itself, or NaN, would leave no distribution to draw from.
    return isinstance(value, Mapping) and all(
        is_count(token) and isinstance(bias, Real) and bias < math.inf
        for token, bias in value.items()
    )


def _are_words(value: Any) -> bool:
    return isinstance(value, Sequence) and all(
        isinstance(word, Sequence) and len(word) and all(is_count(token) for token in word)
        for word in value
    )


def processors(
    params: SamplingParams,
    *,
    eos_ids: Iterable[int] = (),
    extra: Sequence[LogitsProcessor] = (),
) -> list[LogitsProcessor]:
    """Return the processors that `params` asks for, in the order of transformers.

    Args:
        eos_ids: the tokens that end a text.
        extra: others, which come after all that look at the text and before the temperature.
    """
    chosen: list[LogitsProcessor] = []
    if params.logit_bias:
        chosen.append(logit_bias(params.logit_bias))
    if params.repetition_penalty != 1:
        chosen.append(repetition_penalty(params.repetition_penalty))
    if params.presence_penalty or params.frequency_penalty:
        chosen.append(
            presence_and_frequency_penalty(params.presence_penalty, params.frequency_penalty)
        )
    if params.no_repeat_ngram_size:
        chosen.append(no_repeat_ngram(params.no_repeat_ngram_size))
    if params.bad_words_ids:
        chosen.append(bad_words(params.bad_words_ids))
    if params.min_new_tokens:
        chosen.append(min_new_tokens(params.min_new_tokens, eos_ids))
    chosen += extra
    if params.temperature == 0:
        return chosen
    if params.temperature != 1:
        chosen.append(temperature(params.temperature))
    if params.top_k:
        chosen.append(top_k(params.top_k))
    if params.top_p is not None and params.top_p < 1:
        chosen.append(top_p(params.top_p))
    if params.min_p:
        chosen.append(min_p(params.min_p))
    if params.typical_p is not None and params.typical_p < 1:
        chosen.append(typical_p(params.typical_p))
    return chosen


#: The distance between the seeds of a row's streams, far more than there are rows.
STREAM = 0x9E3779B97F4A7C15


class Sampler:
    """Chooses the next token of each row, with random numbers of its own for each.

    The number that a row draws depends on its own seed and on how many tokens it has, not on the
    rows beside it, nor on how many of its tokens are chosen at once. (Its logits do, by rounding,
    which in bfloat16 may be enough for another token.)
    """

    def __init__(
        self,
        params: SamplingParams,
        rows: int,
        *,
        seed: int | Sequence[int] | None = None,
        eos_ids: Iterable[int] = (),
        extra: Sequence[LogitsProcessor] = (),
    ) -> None:
        """Args:
        seed: row i draws with seed + i, or with seed[i]; None takes seeds from the default
            generator (where there is something to draw), so that `gradient.manual_seed` fixes
            them. `self.seeds` holds what each row draws with.
        eos_ids, extra: see `processors`.
        """
        self.params = params
        self.greedy = params.temperature == 0
        self.process = compose(processors(params, eos_ids=eos_ids, extra=extra))
        self.seeds = row_seeds(0 if seed is None and self.greedy else seed, rows)
        self.draws = self.stream(0)

    def __call__(self, logits: Tensor, prefixes: Prefixes) -> Tensor:
        """Return the tokens chosen, (B,) int64; -1 where no token is possible.

        That is, where processors forbade all tokens, or the model's logits are not numbers. (It is
        said in the tokens, which the caller reads anyway: asking here would wait for the device.)

        Args:
            logits: (B, V) float.

        Raises:
            ShapeError: a processor gave logits of another shape.
        """
        logits = self.scores(logits, prefixes)
        if self.greedy:
            return gradient.where(logits.amax(dim=-1) > -math.inf, logits.argmax(dim=-1), -1)
        return sample(logits, self.uniform(prefixes, self.draws, logits.device))

    def scores(self, logits: Tensor, prefixes: Prefixes) -> Tensor:
        """Return the processed logits (B, V), whose softmax is the distribution to draw from."""
        shape = tuple(logits.shape)
        logits = self.process(logits.float(), prefixes)
        if tuple(logits.shape) != shape:
            raise ShapeError(
                f"logits_processors: expected logits of shape {shape} back, got "
                f"{tuple(logits.shape)}"
            )
        return logits

    def stream(self, number: int) -> list[UniformNumbers]:
        """Return random numbers for each row; those of another stream have nothing to do with them.

        Tokens are drawn with stream 0. Others are for decisions that plain sampling does not take.
        """
        return [UniformNumbers((seed + number * STREAM) % 2**63) for seed in self.seeds]

    def uniform(self, prefixes: Prefixes, draws: Sequence[UniformNumbers], device: Any) -> Tensor:
        """Return the number, (B,), that each sequence draws for its next token."""
        places = zip(prefixes.rows, prefixes.generated_counts, strict=True)
        return gradient.tensor([draws[row][count] for row, count in places], device=device)


class UniformNumbers:
    """The sequence of numbers in [0, 1) that a seed stands for.

    They are drawn in blocks, as drawing one takes as long as drawing a hundred.
    """

    def __init__(self, seed: int) -> None:
        self._generator = gradient.Generator().manual_seed(seed)
        self._drawn: list[float] = []

    def __getitem__(self, index: int) -> float:
        while index >= len(self._drawn):
            self._drawn += gradient.rand(64, generator=self._generator).tolist()
        return self._drawn[index]


def sample(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token per row: logits (B, V) and uniform numbers in [0, 1) (B,) to int64 (B,).

    A row without any distribution (all -inf, or NaN among them) gives -1.
    """
    return draw(F.softmax(logits, dim=-1), uniform)


def draw(weights: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token per row in proportion to `weights` (B, V), of at least 0; -1 if all are 0.

    Inverts the cumulative distribution, so that one number a row is enough.
    """
    cumulative = weights.cumsum(dim=-1)  # (B, V)
    # 1 - u lies in (0, 1]: the first sum to reach that share of the whole is a token's of positive
    # probability, also where the sum rounds to other than 1.
    total = cumulative[:, -1:]
    chosen = (cumulative >= (1 - uniform).unsqueeze(1) * total).int().argmax(dim=-1)
    return gradient.where(total[:, 0] > 0, chosen, -1)


def row_seeds(seed: int | Sequence[int] | None, rows: int) -> list[int]:
    """Return one seed per row; see `Sampler`."""
    if seed is None:
        base = int(gradient.randint(0, 2**31 - 1, (1,)).item())
        return [base + row for row in range(rows)]
    if isinstance(seed, Integral):
        return [int(seed) + row for row in range(rows)]
    seeds = list(seed) if isinstance(seed, Sequence) else []
    if len(seeds) != rows or not all(isinstance(each, Integral) for each in seeds):
        raise ArgumentError(f"seed: expected an int or {rows} of them, one per row, got {seed!r}")
    return [int(each) for each in seeds]
