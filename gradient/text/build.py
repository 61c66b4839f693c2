"""`tokenizers.Tokenizer` objects from vocabularies, and what differs between families of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from gradient.errors import FileFormatError, MissingDependency
from gradient.text.families import GPT2, GPT2_PATTERN, PreTokenization

if TYPE_CHECKING:
    import tokenizers


def byte_level_bpe(
    vocab: dict[str, int],
    merges: list[tuple[str, str]],
    special_tokens: Iterable[str] = (),
    pre_tokenization: PreTokenization = GPT2,
) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer, as GPT-2's (Radford et al. 2019, section 2.2).

    Args:
        vocab: the id of every piece, in the byte alphabet (see `stream.byte_alphabet`).
        merges: pairs of pieces, in the order in which they were learned.
        special_tokens: never split in a text; those not in `vocab` are added at its end.

    Raises:
        FileFormatError: a merge names a piece that the vocabulary lacks.
    """
    tk = import_tokenizers()
    with panics_as("vocabulary and merges do not fit"):
        model = tk.models.BPE(
            vocab=vocab, merges=merges, ignore_merges=pre_tokenization.ignore_merges
        )
        made = tk.Tokenizer(model)
    add_byte_level_steps(made, pre_tokenization)
    made.add_special_tokens([special(token) for token in special_tokens])
    return made


def add_byte_level_steps(made: tokenizers.Tokenizer, pre_tokenization: PreTokenization) -> None:
    """Give a BPE model its normaliser, pre-tokenizer, post-processor and decoder."""
    tk = import_tokenizers()
    if pre_tokenization.nfc:
        made.normalizer = tk.normalizers.NFC()
    if pre_tokenization.patterns == (GPT2_PATTERN,):  # built in, and four times faster
        made.pre_tokenizer = tk.pre_tokenizers.ByteLevel(
            add_prefix_space=pre_tokenization.add_prefix_space
        )
    else:
        cuts = [
            tk.pre_tokenizers.Split(tk.Regex(pattern), "isolated")
            for pattern in pre_tokenization.patterns
        ]
        to_bytes = tk.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.pre_tokenizer = tk.pre_tokenizers.Sequence([*cuts, to_bytes])
    made.post_processor = tk.processors.ByteLevel(trim_offsets=False)
    made.decoder = tk.decoders.ByteLevel()


def special(token: str) -> tokenizers.AddedToken:
    """A token that text is searched for first, and that is never split.

    Raises:
        FileFormatError: it contains an unpaired surrogate, which JSON allows but UTF-8 does not.
    """
    try:
        return import_tokenizers().AddedToken(token, special=True, normalized=False)
    except UnicodeEncodeError:
        raise FileFormatError(f"the special token {token!r} is not valid Unicode") from None


def add_bos_eos(made: tokenizers.Tokenizer, begin: str | None, end: str | None) -> None:
    """Let the tokenizer put a special token before or after each text, or both."""
    tk = import_tokenizers()
    tokens = [token for token in dict.fromkeys((begin, end)) if token is not None]
    if not tokens or any(token.startswith("$") or ":" in token for token in tokens):
        return  # a template cannot express such a token, so `Tokenizer` adds it
    before, after = [begin] if begin else [], [end] if end else []
    ends = tk.processors.TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", *after, *before, "$B:1", *after],
        special_tokens=[(token, made.token_to_id(token)) for token in tokens],
    )
    byte_level = isinstance(made.post_processor, tk.processors.ByteLevel)
    made.post_processor = (
        tk.processors.Sequence([made.post_processor, ends]) if byte_level else ends
    )


@contextlib.contextmanager
def panics_as(what: str) -> Iterator[None]:
    """Turn any exception of the `tokenizers` package within into a FileFormatError about `what`.

    It raises plain Exception, and BaseException if its Rust code panics.
    """
    try:
        yield
    except (FileFormatError, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise FileFormatError(f"{what}: {error}") from None


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
