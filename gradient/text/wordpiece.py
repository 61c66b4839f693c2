"""WordPiece, the vocabularies of BERT and its relatives (Devlin et al. 2019; Wu et al. 2016).

Text is split at spaces and punctuation, and each word into pieces from the left, the longest
possible first; a piece that continues a word is written with "##" before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradient.errors import FileFormatError
from gradient.text.build import import_tokenizers, panics_as, special

if TYPE_CHECKING:
    import tokenizers

CONTINUES = "##"


def wordpiece(
    vocab: dict[str, int],
    *,
    unk_token: str = "[UNK]",
    cls_token: str | None = "[CLS]",
    sep_token: str | None = "[SEP]",
    special_tokens: tuple[str, ...] = ("[PAD]", "[MASK]"),
    lowercase: bool | None = None,
    strip_accents: bool | None = None,
    chinese_characters: bool = True,
) -> tokenizers.Tokenizer:
    """Return a tokenizer that gives `[CLS] text [SEP]`.

    Args:
        vocab: the id of every piece.
        lowercase: convert to lower case first; None: if no piece has a capital letter.
        strip_accents: remove them; None: if text is lowercased.
        chinese_characters: each is a word.

    Raises:
        FileFormatError: the vocabulary lacks the unknown token.
    """
    if unk_token not in vocab:
        raise FileFormatError(f"vocabulary: there is no unknown token {unk_token!r} in it")
    named = (unk_token, cls_token, sep_token, *special_tokens)
    specials = [token for token in named if token is not None and token in vocab]
    if lowercase is None:
        lowercase = is_uncased(vocab, specials)
    tk = import_tokenizers()
    with panics_as("the vocabulary"):
        made = tk.Tokenizer(tk.models.WordPiece(vocab=vocab, unk_token=unk_token))
        made.normalizer = tk.normalizers.BertNormalizer(
            lowercase=lowercase,
            strip_accents=strip_accents,
            handle_chinese_chars=chinese_characters,
        )
        made.pre_tokenizer = tk.pre_tokenizers.BertPreTokenizer()
        made.decoder = tk.decoders.WordPiece(prefix=CONTINUES)
        made.add_special_tokens([special(token) for token in specials])
        if cls_token in vocab and sep_token in vocab:
            made.post_processor = tk.processors.TemplateProcessing(
                single=f"{cls_token}:0 $A:0 {sep_token}:0",
                pair=f"{cls_token}:0 $A:0 {sep_token}:0 $B:1 {sep_token}:1",
                special_tokens=[(token, vocab[token]) for token in (cls_token, sep_token)],
            )
    return made


def is_uncased(vocab: dict[str, int], specials: list[str]) -> bool:
    """Whether no piece except special ones (and [unused7]) has a capital letter."""
    left_out = set(specials)
    return not any(
        piece != piece.lower()
        for piece in vocab
        if piece not in left_out and not (piece.startswith("[") and piece.endswith("]"))
    )
