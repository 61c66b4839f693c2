"""From logits to the next token: small functions of one type, composed, and one draw.

A logits processor takes logits (B, V) and the tokens so far (B, L), int64, rows padded on the
right with -1, and returns logits (B, V); -inf forbids a token. `compose` chains them, and
`processors` lists those that a `SamplingParams` asks for, in the order that transformers applies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import gradient
import gradient.functional as F
from gradient.errors import ArgumentError, ShapeError
from gradient.tensor import Tensor

LogitsProcessor = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen.

    Attributes:
        temperature: logits are divided by it: below 1 bolder, above 1 more varied; 0 takes the
            likeliest token (greedy), whatever else is set but repetition_penalty.
        top_k: choose among the k likeliest tokens; None or 0 is all.
        top_p: choose among the fewest likeliest tokens whose probabilities reach p
            (nucleus sampling, Holtzman et al. 2020); None or 1 is all.
        min_p: choose among tokens at least min_p times as probable as the likeliest
            (Nguyen et al. 2024); None or 0 is all.
        repetition_penalty: positive logits of tokens already there are divided by it, negative ones
            multiplied (Keskar et al. 2019, "CTRL", section 4.1); 1 is none.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        limits = {
            "temperature": (lambda t: 0 <= t < math.inf, "a finite number of at least 0"),
            "top_k": (
                lambda k: isinstance(k, Integral) and int(k) >= 0,
                "an integer of at least 0",
            ),
            "top_p": (lambda p: 0 < p <= 1, "above 0 and at most 1"),
            "min_p": (lambda p: 0 <= p <= 1, "from 0 to 1"),
            "repetition_penalty": (lambda p: 0 < p < math.inf, "a positive number"),
        }
        wrong = []
        for name, (holds, expected) in limits.items():
            value = getattr(self, name)
            if value is None and name in ("top_k", "top_p", "min_p"):
                continue
            if not isinstance(value, Real) or not holds(value):
                wrong.append(f"{name} must be {expected}, got {value!r}")
        if wrong:
            raise ArgumentError("sampling: " + "; ".join(wrong))


def processors(params: SamplingParams) -> list[LogitsProcessor]:
    """Return the processors that `params` asks for; greedy choice needs only the penalty."""
    chosen: list[LogitsProcessor] = []
    if params.repetition_penalty != 1:
        chosen.append(repetition_penalty(params.repetition_penalty))
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
    return chosen


def compose(chain: Sequence[LogitsProcessor]) -> LogitsProcessor:
    """Return the processor that applies those of `chain` one after another."""

    def composed(logits: Tensor, tokens: Tensor) -> Tensor:
        for processor in chain:
            logits = processor(logits, tokens)
        return logits

    return composed


def temperature(value: float) -> LogitsProcessor:
    """Divide logits by `value`."""
    return lambda logits, tokens: logits / value


def repetition_penalty(penalty: float) -> LogitsProcessor:
    """Make tokens that already stand in the row less likely (penalty > 1), or more (< 1)."""

    def process(logits: Tensor, tokens: Tensor) -> Tensor:
        B, V = logits.shape
        # One column more than there are tokens takes the padding.
        seen = gradient.zeros((B, V + 1), dtype=gradient.bool, device=logits.device)
        places = gradient.where(tokens < 0, V, tokens)
        seen = seen.scatter(1, places, gradient.ones_like(places, dtype=gradient.bool))[:, :V]
        penalised = gradient.where(logits > 0, logits / penalty, logits * penalty)
        return gradient.where(seen, penalised, logits)

    return process


def top_k(k: int) -> LogitsProcessor:
    """Forbid all but the k likeliest tokens (and those that equal the k-th)."""

    def process(logits: Tensor, tokens: Tensor) -> Tensor:
        if k >= logits.shape[-1]:
            return logits
        kth = logits.topk(k, dim=-1).values[:, -1:]
        return logits.masked_fill(logits < kth, -math.inf)

    return process


def top_p(p: float) -> LogitsProcessor:
    """Forbid all but the fewest likeliest tokens whose probabilities sum to at least p."""

    def process(logits: Tensor, tokens: Tensor) -> Tensor:
        descending, order = logits.sort(dim=-1, descending=True)
        probabilities = F.softmax(descending, dim=-1)
        # What stands before a token sums to less than p: so the likeliest always stays.
        before = probabilities.cumsum(dim=-1) - probabilities
        kept = descending.masked_fill(before >= p, -math.inf)
        return gradient.empty_like(logits).scatter(1, order, kept)

    return process


def min_p(p: float) -> LogitsProcessor:
    """Forbid tokens less than p times as probable as the likeliest."""

    def process(logits: Tensor, tokens: Tensor) -> Tensor:
        floor = logits.amax(dim=-1, keepdim=True) + math.log(p)
        return logits.masked_fill(logits < floor, -math.inf)

    return process


class Sampler:
    """Chooses the next token of each row, with a random generator of its own for each.

    What a row draws depends on its own seed alone, not on the rows beside it.
    """

    def __init__(
        self,
        params: SamplingParams,
        rows: int,
        *,
        seed: int | Sequence[int] | None = None,
        extra: Sequence[LogitsProcessor] = (),
    ) -> None:
        """Args:
        seed: row i draws with seed + i, or with seed[i]; None takes seeds from the default
            generator, so that `gradient.manual_seed` fixes them.
        extra: processors applied before those of `params`.
        """
        self.params = params
        self.process = compose([*extra, *processors(params)])
        self.draws = [uniform_numbers(each) for each in row_seeds(seed, rows)]

    def __call__(self, logits: Tensor, tokens: Tensor, rows: Sequence[int]) -> Tensor:
        """Return the tokens chosen, (B,) int64; -1 where no token is possible.

        That is, where processors forbade all tokens, or the model's logits are not numbers. (It is
        said in the tokens, which the caller reads anyway: asking here would wait for the device.)

        Args:
            logits: (B, V) float.
            tokens: (B, L) int64, padded with -1: the text so far.
            rows: which of the Sampler's rows each row is.

        Raises:
            ShapeError: a processor gave logits of another shape.
        """
        shape = tuple(logits.shape)
        logits = self.process(logits.float(), tokens)
        if tuple(logits.shape) != shape:
            raise ShapeError(
                f"logits_processors: expected logits of shape {shape} back, got "
                f"{tuple(logits.shape)}"
            )
        if self.params.temperature == 0:
            return gradient.where(logits.amax(dim=-1) > -math.inf, logits.argmax(dim=-1), -1)
        uniform = [next(self.draws[row]) for row in rows]
        return sample(logits, gradient.tensor(uniform, device=logits.device))


def uniform_numbers(seed: int) -> Iterator[float]:
    """Yield numbers from [0, 1), of a generator with this seed.

    They are drawn in blocks, as drawing one takes as long as drawing a hundred.
    """
    generator = gradient.Generator().manual_seed(seed)
    while True:
        yield from gradient.rand(64, generator=generator).tolist()


def sample(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token per row: logits (B, V) and uniform numbers in [0, 1) (B,) to int64 (B,).

    Inverts the cumulative distribution, so that one number a row is enough. A row without any
    distribution (all -inf, or NaN among them) gives -1.
    """
    cumulative = F.softmax(logits, dim=-1).cumsum(dim=-1)  # (B, V)
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
