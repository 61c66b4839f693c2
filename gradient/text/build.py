"""`tokenizers.Tokenizer` objects from vocabularies, and what differs between families of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradient.errors import FileFormatError, MissingDependency

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class PreTokenization:
    """How a byte-level family cuts text before it merges bytes; merges never cross a cut.

    `pattern` None is GPT-2's, which the `tokenizers` package has built in. Patterns are in the
    syntax of the package's regular expressions (Oniguruma).
    """

    pattern: str | None = None
    nfc: bool = False  # compose accents first (Unicode normal form C)


GPT2 = PreTokenization()
QWEN2 = PreTokenization(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    nfc=True,
)
#: By the `tokenizer_class` of tokenizer_config.json, for folders with vocab.json and merges.txt.
BY_CLASS = {
    "GPT2Tokenizer": GPT2,
    "GPT2TokenizerFast": GPT2,
    "Qwen2Tokenizer": QWEN2,
    "Qwen2TokenizerFast": QWEN2,
}


def byte_level_bpe(
    vocab: dict[str, int],
    merges: list[tuple[str, str]],
    special_tokens: Iterable[str] = (),
    pre_tokenization: PreTokenization = GPT2,
) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer, as GPT-2's (Radford et al. 2019, section 2.2).

    Args:
        vocab: id of every piece, in the byte alphabet (see `stream.byte_alphabet`).
        merges: pairs of pieces, first learned first.
        special_tokens: found as a whole in any text; those not in `vocab` are added at its end.

    Raises:
        FileFormatError: a merge names a piece that the vocabulary lacks.
    """
    tk = import_tokenizers()
    try:
        made = tk.Tokenizer(tk.models.BPE(vocab=vocab, merges=merges))
    except Exception as error:  # the package raises Exception itself
        raise FileFormatError(f"vocabulary and merges do not fit: {error}") from None
    dress_byte_level(made, pre_tokenization)
    made.add_special_tokens([special(token) for token in special_tokens])
    return made


def dress_byte_level(made: tokenizers.Tokenizer, pre_tokenization: PreTokenization) -> None:
    """Give a BPE model its normaliser, pre-tokenizer, post-processor and decoder."""
    tk = import_tokenizers()
    if pre_tokenization.nfc:
        made.normalizer = tk.normalizers.NFC()
    if pre_tokenization.pattern is None:
        made.pre_tokenizer = tk.pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        cut = tk.pre_tokenizers.Split(tk.Regex(pre_tokenization.pattern), "isolated")
        to_bytes = tk.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.pre_tokenizer = tk.pre_tokenizers.Sequence([cut, to_bytes])
    made.post_processor = tk.processors.ByteLevel(trim_offsets=False)
    made.decoder = tk.decoders.ByteLevel()


def special(token: str) -> Any:
    """A token that text is searched for before anything else, and that is never split."""
    return import_tokenizers().AddedToken(token, special=True, normalized=False)


def import_tokenizers() -> Any:
    """The `tokenizers` package, imported when the first tokenizer is made."""
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.processors
        import tokenizers.trainers
    except ImportError:
        raise MissingDependency(
            'tokenizers is not installed: pip install "tokenizers>=0.21"'
        ) from None
    return tokenizers
