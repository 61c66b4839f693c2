"""An encoder and its tokenizer as one: texts in, vectors out.

Dimensions:
    B  texts    T  tokens    C  size of a vector
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gradient
import gradient.functional as F
from gradient.checkpoints.loading import save_model
from gradient.embedding.pooling import Pooling
from gradient.errors import ArgumentError, TypeMismatch
from gradient.models.config import ModelConfig
from gradient.models.encoder import EncoderModel
from gradient.nn.evaluating import evaluating
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.text import Tokenizer

__all__ = ["TextEncoder"]


class TextEncoder:
    """An encoder that takes texts; `gradient.hub.load_text_encoder` makes one.

    Example:
        >>> encoder = gradient.hub.load_text_encoder("sentence-transformers/all-MiniLM-L6-v2")
        >>> a, b = encoder.embed(["How old are you?", "What is your age?"])
        >>> float(a @ b)  # of vectors of length 1: the cosine of the angle between them
        0.8...

    Attributes:
        model: the network, an `EncoderModel`: token ids (B, T) to hidden states (B, T, C).
        tokenizer: text to token ids; None leaves `vectors`, of token ids.
        pooling: what makes a vector of the hidden states.
    """

    def __init__(
        self,
        model: EncoderModel,
        tokenizer: Tokenizer | None,
        pooling: Pooling | None = None,
        name: str = "",
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.pooling = pooling or Pooling()
        self.name = name

    @property
    def config(self) -> ModelConfig:
        """Return the model's configuration."""
        return self.model.config

    @property
    def max_length(self) -> int | None:
        """Return the most tokens that are read of a text; None if nothing limits them."""
        limits = [n for n in (self.pooling.max_length, self.model.context_length) if n is not None]
        return min(limits, default=None)

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = 32,
        normalize: bool | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Return a vector for each text: (B, C), in float32 at least, without a gradient.

        Texts of like length are computed together. Of a text that is too long, the end is not read.

        Args:
            texts: a list, or one text, whose vector (C,) is returned.
            batch_size: texts computed at a time.
            normalize: divide vectors by their length; None does as the model's files ask.
            progress: called with the number of texts of each batch that is done.

        Raises:
            TypeMismatch: something that is no text.
            ArgumentError: a batch size below 1, or a text without a single token.
        """
        if isinstance(texts, str):
            return self.embed(
                [texts], batch_size=batch_size, normalize=normalize, progress=progress
            )[0]
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ArgumentError(f"batch_size: expected at least 1, got {batch_size!r}")
        rows = self.tokenize(texts)
        by_length = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        parts = []
        with gradient.no_grad(), evaluating(self.model):
            for start in range(0, len(rows), batch_size):
                batch = [rows[i] for i in by_length[start : start + batch_size]]
                parts.append(self.vectors(batch, normalize=normalize))
                if progress is not None:
                    progress(len(batch))
        if not parts:
            size = self.model.hidden_size * len(self.pooling.modes)
            return gradient.zeros(0, size, device=self.model.device)
        order = gradient.tensor(by_length, device=self.model.device).argsort()
        return gradient.cat(parts)[order]

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text with the special ones around it, cut to `max_length`.

        Raises:
            TypeMismatch, ArgumentError: as of `embed`.
        """
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeMismatch(f"texts[{number}]: expected a str, got {type(text).__name__}")
        if self.tokenizer is None:
            raise ArgumentError(
                "embed: texts need a tokenizer, and this model came without: give hub.load "
                "tokenizer=, or token ids to `vectors`"
            )
        clean = [text.strip() for text in texts]
        if self.pooling.lower_case:
            clean = [text.lower() for text in clean]
        rows = self.tokenizer.encode_batch(clean) if clean else []
        limit = self.max_length
        if limit is not None and any(len(row) > limit for row in rows):
            after = _tokens_after(self.tokenizer)
            if limit <= after:
                raise ArgumentError(f"max_length: {limit} tokens leave no room for a text")
            rows = [
                row if len(row) <= limit else row[: limit - after] + row[len(row) - after :]
                for row in rows
            ]
        empty = [number for number, row in enumerate(rows) if not row]
        if empty:
            raise ArgumentError(f"texts[{empty[0]}] has no tokens: {texts[empty[0]]!r}")
        return rows

    def vectors(self, rows: Sequence[Sequence[int]], *, normalize: bool | None = None) -> Tensor:
        """Return a vector for each row of token ids, computed at once: (B, C).

        It has gradients where the model's weights do: this is what a loss on vectors trains.
        """
        lengths = [len(row) for row in rows]
        pad = self.config.pad_token_id or 0
        ids = [[*row, *[pad] * (max(lengths) - len(row))] for row in rows]
        hidden = self.model(gradient.tensor(ids, device=self.model.device), lengths=lengths)
        y = self.pooling(hidden, lengths)
        unit = self.pooling.normalize if normalize is None else normalize
        return F.normalize(y, dim=1) if unit else y

    def save(self, folder: str | Path) -> None:
        """Write all of it into a folder for `gradient.hub.load` and sentence-transformers."""
        save_model(self.model, folder)
        if self.tokenizer is not None:
            self.tokenizer.save(folder)
        self.pooling.save(Path(folder), self.model.hidden_size)

    def __repr__(self) -> str:
        return f"TextEncoder({self.name or type(self.model).__name__!r}, {self.model.summary()})"


def _tokens_after(tokenizer: Tokenizer) -> int:
    """Return how many special tokens a tokenizer puts behind a text."""
    mask = tokenizer.backend.encode("a", add_special_tokens=True).special_tokens_mask
    return len(mask) - 1 - max((i for i, special in enumerate(mask) if not special), default=-1)
