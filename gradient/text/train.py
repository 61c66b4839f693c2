"""New tokenizers: bytes as tokens, or byte pairs learned from text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gradient.errors import ArgumentError, TypeMismatch
from gradient.text.added_tokens import END_OF_TEXT
from gradient.text.build import add_byte_level_steps, byte_level_bpe, import_tokenizers, special
from gradient.text.families import GPT2, STARCODER
from gradient.text.stream import byte_alphabet
from gradient.text.tokenizer import Tokenizer

__all__ = ["byte_tokenizer", "train_bpe"]


#: The trainer allocates the whole vocabulary at once, and ends the process if this fails.
LARGEST_VOCABULARY = 2**24


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer of bytes: ids 0 to 255 are the UTF-8 bytes, 256 is `<|endoftext|>`."""
    made = byte_level_bpe(byte_alphabet(), [], [END_OF_TEXT])
    return Tokenizer(made, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT)


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    special_tokens: Sequence[str] = (END_OF_TEXT,),
    min_frequency: int = 2,
    split_digits: bool = False,
    progress: bool = False,
) -> Tokenizer:
    """Learn byte pairs from text (Sennrich et al. 2016), over bytes as in GPT-2.

    The most frequent pair of neighbouring pieces becomes a new piece, again and again. Any text can
    be encoded, since all 256 bytes are in the vocabulary. The same texts give the same tokenizer.

    Args:
        texts: read once, in order; they are not kept in memory together.
        vocab_size: the maximum; smaller if the text has no more pairs that occur `min_frequency`
            times.
        special_tokens: get the first ids; the first of them is also BOS and EOS.
        split_digits: every digit is a token, which makes arithmetic easier to learn.
        progress: show the package's own progress bar.

    Raises:
        ArgumentError: `vocab_size` is too small for the 256 bytes and the special tokens, or is
            above 2**24.
    """
    smallest = 256 + len(special_tokens)
    if vocab_size < smallest:
        raise ArgumentError(
            f"train_bpe: vocab_size must be at least {smallest} (256 bytes and "
            f"{len(special_tokens)} special tokens), got {vocab_size}"
        )
    if vocab_size > LARGEST_VOCABULARY:
        raise ArgumentError(f"train_bpe: vocab_size must be at most 2**24, got {vocab_size}")
    if isinstance(texts, str):
        raise TypeMismatch("train_bpe: expected an iterable of texts, got one str; give [text]")
    tk = import_tokenizers()
    made = tk.Tokenizer(tk.models.BPE())
    add_byte_level_steps(made, STARCODER if split_digits else GPT2)
    trainer = tk.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[special(token) for token in special_tokens],
        initial_alphabet=sorted(byte_alphabet()),
        show_progress=progress,
    )
    made.train_from_iterator(_checked(texts), trainer)
    first = special_tokens[0] if special_tokens else None
    return Tokenizer(made, bos_token=first, eos_token=first)


def _checked(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeMismatch(f"train_bpe: text {number} is a {type(text).__name__}, not a str")
        yield text
