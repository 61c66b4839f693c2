"""Logits processors: functions that change the logits of the next token, given the text so far.

A processor takes logits (B, V), float32, and the `Prefixes` that they continue, and returns logits
(B, V); -inf forbids a token. Speculative decoding calls it for several positions of one text, and
not in order, so its result must depend on its arguments alone. `compose` chains processors; those
of the options of `generate` are in `penalties` and `truncation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import gradient
from gradient.errors import TypeMismatch
from gradient.tensor import Device, Tensor

__all__ = ["LogitsProcessor", "Prefixes", "UniformDraw", "compose"]


class Prefixes:
    """The tokens so far: the `input_ids` of transformers' logits processors, in ragged rows.

    There is one sequence (prompt and generated tokens) for each row of the logits.

    Attributes:
        ids: the tokens of each sequence, its prompt included, on the host. Do not change them.
        prompt_lengths: the number of prompt tokens of each sequence.
        rows: the index of the prompt that each sequence continues. It does not change when other
            rows end; several sequences may have the same index (beams).

    Example:
        >>> def no_token_twice_in_a_row(logits, prefixes):
        ...     last = gradient.tensor([[ids[-1]] for ids in prefixes.ids], device=logits.device)
        ...     return logits.scatter(1, last, float("-inf"))
    """

    def __init__(
        self,
        ids: Sequence[Sequence[int]],
        prompt_lengths: Sequence[int] | None = None,
        rows: Sequence[int] | None = None,
        *,
        device: Device | str | None = None,
        tokens: Tensor | Callable[[], Tensor] | None = None,
    ) -> None:
        """Args:
        prompt_lengths: default: nothing was generated yet.
        rows: default: row i is sequence i.
        tokens: `ids` as a tensor (B, L), if the caller has it already, or a function that
            returns it.
        """
        self.ids = ids
        self.prompt_lengths = (
            [len(each) for each in ids] if prompt_lengths is None else [*prompt_lengths]
        )
        self.rows = list(range(len(ids))) if rows is None else [*rows]
        self.device = device
        self._tokens = tokens

    def __len__(self) -> int:
        """Return the number of sequences, B."""
        return len(self.ids)

    @cached_property
    def tokens(self) -> Tensor:
        """Return the sequences as (B, L) int64 on the device, padded on the right with -1."""
        if self._tokens is not None:
            return self._tokens if isinstance(self._tokens, Tensor) else self._tokens()
        return padded(self.ids, max((len(each) for each in self.ids), default=0), self.device)

    @property
    def generated_counts(self) -> list[int]:
        """Return how many tokens of each sequence were generated."""
        pairs = zip(self.ids, self.prompt_lengths, strict=True)
        return [len(each) - prompt for each, prompt in pairs]

    def generated(self, sequence: int) -> Sequence[int]:
        """Return the tokens of a sequence that follow its prompt."""
        return self.ids[sequence][self.prompt_lengths[sequence] :]


LogitsProcessor = Callable[[Tensor, Prefixes], Tensor]

#: Returns one number in [0, 1) for each text, (B,), on a device. It depends only on the row's seed
#: and the text's length, so a processor that uses it returns the same logits when called again.
UniformDraw = Callable[[Prefixes, Device | str | None], Tensor]


def compose(chain: Sequence[LogitsProcessor]) -> LogitsProcessor:
    """Return a processor that applies the processors of `chain` one after another.

    Raises:
        TypeMismatch: one of them returns something other than a tensor.
    """

    def composed(logits: Tensor, prefixes: Prefixes) -> Tensor:
        for processor in chain:
            processed = processor(logits, prefixes)
            if not isinstance(processed, Tensor):
                raise TypeMismatch(
                    f"logits_processors: expected logits of shape {tuple(logits.shape)} back, got "
                    f"{processed!r:.80}"
                )
            logits = processed
        return logits

    return composed


def padded(ids: Sequence[Sequence[int]], length: int, device: Device | str | None) -> Tensor:
    """Return token ids (B, length) int64, padded on the right with -1."""
    return gradient.tensor(
        [[*each, *[-1] * (length - len(each))] for each in ids],
        dtype=gradient.int64,
        device=device,
    )
