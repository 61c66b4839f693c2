"""From logits to the next token: the requested logits processors in order, then one draw."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from typing import Any

import gradient
import gradient.functional as F
from gradient.backends import small_calls
from gradient.errors import ArgumentError, ShapeError
from gradient.generation.declared import Option, declared
from gradient.generation.logits import LogitsProcessor, Prefixes, UniformDraw, compose
from gradient.generation.logits.truncation import divisor
from gradient.generation.options import GenerationOptions, Options
from gradient.ops import reduce
from gradient.tensor import Device, Tensor

__all__ = ["Sampler", "processors"]


def _rand(prefixes: Prefixes, device: Device | str | None) -> Tensor:
    return gradient.rand(len(prefixes), device=device)


def processors(
    options: GenerationOptions,
    *,
    eos_ids: Iterable[int] = (),
    extra: Sequence[LogitsProcessor] = (),
    uniform: UniformDraw | None = None,
) -> list[LogitsProcessor]:
    """Return the logits processors that the options ask for, in the order of transformers.

    At temperature 0, processors that only change how tokens are drawn are left out.

    Args:
        eos_ids: the tokens that end a text.
        extra: further processors; they run after the penalties and before the temperature.
        uniform: draws the random numbers of processors that need some; None: the default generator.
    """
    values = vars(options) | {"eos_ids": eos_ids, "uniform": uniform or _rand}
    before: list[LogitsProcessor] = []
    after: list[LogitsProcessor] = []
    for name, option in _wanted(options):
        assert option.processor is not None
        others = {other: values[other] for other in _other_parameters(option)}
        (after if option.sampling else before).append(option.processor(values[name], **others))
    return [*before, *extra, *after]


def _wanted(options: GenerationOptions) -> Iterator[tuple[str, Option]]:
    """Yield the options that need a processor, with their names."""
    for name, option in declared(Options).items():
        if option.processor is None or (option.sampling and options.temperature == 0):
            continue
        if getattr(options, name) not in (option.default, option.neutral):
            yield name, option


def _other_parameters(option: Option) -> list[str]:
    """Return the names of the parameters of an option's processor after the first."""
    assert option.processor is not None
    return list(inspect.signature(option.processor).parameters)[1:]


def choice_key(options: GenerationOptions) -> tuple[Any, ...] | None:
    """Return a key that is equal if the operations from logits to tokens are equal; None if they
    need more than the logits and a random number, such as the text.

    The temperature is an input of these operations: a server may see another one with each text.
    """
    wanted = list(_wanted(options))
    if any(not option.sampling or _other_parameters(option) for _, option in wanted):
        return None
    values = {name: getattr(options, name) for name, _ in wanted if name != "temperature"}
    divides = any(name == "temperature" for name, _ in wanted)
    return options.temperature == 0, divides, *values.items()


#: The streams of random numbers of a row, independent of each other: for its tokens, for the drafts
#: of a draft model, for accepting these, and for logits processors that act at random.
TOKENS, DRAFTS, ACCEPTANCE, PROCESSORS = range(4)
#: The difference between the seeds of a row's streams: far more than there are rows, whose seeds
#: differ by 1 unless they are given, so that rows share no stream.
STREAM_STRIDE = 0x9E3779B97F4A7C15


class Sampler:
    """Chooses the next token of each row, with a stream of random numbers for each row.

    A row's random number depends only on its seed and its number of tokens. It does not depend on
    other rows, or on how many tokens are chosen at once. (The logits do, by rounding, which may be
    enough for another token in bfloat16.)
    """

    def __init__(
        self,
        options: GenerationOptions,
        rows: int,
        *,
        seed: int | Sequence[int] | None = None,
        eos_ids: Iterable[int] = (),
        extra: Sequence[LogitsProcessor] = (),
    ) -> None:
        """Args:
        seed: the seed of row i is seed + i, or seed[i]. None takes seeds from the default generator
            (if tokens are sampled), so that `gradient.manual_seed` fixes them. `self.seeds` holds
            the seed of each row.
        eos_ids, extra: see `processors`.
        """
        self.greedy = options.temperature == 0
        #: Samplers with equal keys have the same operations in `choose`; None: it cannot be used.
        self.key = None if extra else choice_key(options)
        self.seeds = row_seeds(0 if seed is None and self.greedy else seed, rows)
        self.draws = self.stream(TOKENS)
        own = self.stream(PROCESSORS)

        def uniform(prefixes: Prefixes, device: Device | str | None) -> Tensor:
            return self.uniform(prefixes, own, device)

        self.process = compose(processors(options, eos_ids=eos_ids, extra=extra, uniform=uniform))
        #: The number that `choose` divides logits by; None at temperature 0 or 1.
        self.divisor: float | None = None
        if options.temperature not in (0, 1):
            self.divisor = divisor(options.temperature)
        self._options = options

    @functools.cached_property
    def _after_division(self) -> LogitsProcessor:
        """The processors of `choose` after its division by the temperature."""
        others: dict[str, Any] = vars(self._options) | {"temperature": 1.0}
        return compose(processors(GenerationOptions(**others)))

    def __call__(self, logits: Tensor, prefixes: Prefixes) -> Tensor:
        """Return the chosen tokens, (B,) int64; -1 where no token is possible.

        This happens if processors forbid all tokens, or logits are NaN. (It is reported in the
        tokens, which the caller reads anyway: to check it here, the host would wait for the GPU.)

        Args:
            logits: (B, V) float.

        Raises:
            ShapeError: a processor returned logits of another shape.
        """
        # By the kernels of recorded steps, which call `choose`, so that both give the same token.
        with small_calls.repeated():
            scores = self.scores(logits, prefixes)
            if self.greedy:
                return greedy(scores)
            return sample(scores, self.uniform(prefixes, self.draws, logits.device))

    def choose(self, logits: Tensor, numbers: Tensor | None) -> Tensor:
        """Choose tokens without the texts: only if `self.key` is not None.

        Args:
            numbers: those of a step, of `next_numbers`; None if none are needed.
        """
        if numbers is None:
            return greedy(self.scores(logits, Prefixes([])))
        if self.divisor is None:
            return sample(self.scores(logits, Prefixes([])), numbers)
        scores = self._after_division(logits.float() / numbers[-1], Prefixes([]))
        return sample(scores, numbers[:-1])

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
        """Return one of the streams of random numbers of each row, such as `TOKENS`."""
        return [UniformNumbers((seed + number * STREAM_STRIDE) % 2**63) for seed in self.seeds]

    def uniform(
        self, prefixes: Prefixes, draws: Sequence[UniformNumbers], device: Device | str | None
    ) -> Tensor:
        """Return the random number (B,) with which each row draws its next token."""
        places = zip(prefixes.rows, prefixes.generated_counts, strict=True)
        return gradient.tensor([draws[row][count] for row, count in places], device=device)

    def next_numbers(
        self, prefixes: Prefixes, steps: int, device: Device | str | None, unread: int = 0
    ) -> Tensor:
        """Return what `choose` reads in the next steps, (steps, B) or (steps, B + 1): the random
        number of each row, and then the temperature, unless it is 1.

        Args:
            unread: how many tokens of each row were chosen that are not in `prefixes` yet.
        """
        counts = [count + unread for count in prefixes.generated_counts]
        places = list(zip(prefixes.rows, counts, strict=True))
        last = [] if self.divisor is None else [self.divisor]
        numbers = [
            [*(self.draws[row][count + step] for row, count in places), *last]
            for step in range(steps)
        ]
        return gradient.tensor(numbers, device=device)


class UniformNumbers:
    """The sequence of random numbers in [0, 1) of a seed.

    They are drawn in blocks, because drawing one takes as long as drawing a hundred.
    """

    def __init__(self, seed: int) -> None:
        self._generator = gradient.Generator().manual_seed(seed)
        self._drawn: list[float] = []

    def __getitem__(self, index: int) -> float:
        while index >= len(self._drawn):
            self._drawn += gradient.rand(64, generator=self._generator).tolist()
        return self._drawn[index]


def greedy(logits: Tensor) -> Tensor:
    """Return the most probable token of each row: logits (B, V) to int64 (B,), or -1 for none."""
    return reduce.likeliest(logits)


def sample(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token per row: logits (B, V) and uniform numbers in [0, 1) (B,) to int64 (B,).

    A row without a distribution (all logits -inf, or some NaN) gives -1.
    """
    return draw(F.softmax(logits, dim=-1), uniform)


def draw(weights: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token per row in proportion to `weights` (B, V) >= 0; -1 if all are 0.

    It inverts the cumulative distribution, so one random number per row is enough.
    """
    return reduce.categorical(weights, uniform)


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
