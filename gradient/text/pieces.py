"""Vocabularies of scored pieces, SentencePiece's, as `tokenizers` objects.

SentencePiece (Kudo and Richardson 2018) treats a text as one row of characters, with spaces
written as ▁. A *BPE* vocabulary joins the two neighbours whose union has the best score, the
leftmost of equals, until no union is a piece. A *unigram* vocabulary (Kudo 2018) chooses the
segmentation of the text with the largest sum of scores. Such a vocabulary comes in a `.model` file,
a GGUF file's metadata, or llama2.c's format: `text/sentencepiece.py`, `text/gguf`.
"""

from __future__ import annotations

import enum
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradient.errors import FileFormatError
from gradient.text.build import import_tokenizers, panics_as, special
from gradient.text.charsmap import check_charsmap

if TYPE_CHECKING:
    import tokenizers

SPACE = "▁"  # U+2581, the sign for a space
#: The maximum length of a piece. All ways to split a piece in two are tried, so this bounds work.
MAX_PIECE_CHARACTERS = 512
#: The maximum number of splits of all pieces in two, beyond 16 a piece; LLaMA's 32,000 pieces have
#: 61,249.
MAX_MERGES = 1 << 20
#: Each user-defined piece is compared with all others: the limit of their number times their
#: characters. Models have up to some thousands, of about ten characters.
MAX_USER_DEFINED = 1 << 32


class PieceType(enum.IntEnum):
    """The purpose of a piece; the numbers are those of .model files and of GGUF's token_type."""

    NORMAL = 1
    UNKNOWN = 2  # for characters that no piece has
    CONTROL = 3  # never made from text: <s>, </s>
    USER_DEFINED = 4  # always one piece in a text
    UNUSED = 5  # has an id and is never made
    BYTE = 6  # <0x0A>: spells characters that no piece has, byte by byte


@dataclass(frozen=True)
class PieceNormalizer:
    """The processing of a text before it is split into pieces, in this order.

    Attributes:
        charsmap: replacements of characters, compiled to a trie by SentencePiece; b"": none.
        remove_extra_whitespaces: strip spaces at both ends, and merge repeated ones.
        add_dummy_prefix: begin with a space, so that the first word is encoded like any other.
        escape_whitespaces: write spaces as ▁.
        whitespace_as_suffix: add the dummy space at the end instead.
    """

    charsmap: bytes = b""
    remove_extra_whitespaces: bool = False
    add_dummy_prefix: bool = True
    escape_whitespaces: bool = True
    whitespace_as_suffix: bool = False


@dataclass
class PieceVocabulary:
    """Pieces by id, with scores and types, and the processing of texts for them."""

    pieces: list[str]
    scores: list[float]
    types: list[int]
    unigram: bool = False
    byte_fallback: bool = True
    unk_id: int | None = 0
    normalizer: PieceNormalizer = field(default_factory=PieceNormalizer)

    def ids_of(self, *types: PieceType) -> list[int]:
        """Ids of the pieces of the given types."""
        return [number for number, kind in enumerate(self.types) if kind in types]


def tokenizer_of_pieces(
    vocabulary: PieceVocabulary, *, prefix_first_only: bool = False
) -> tokenizers.Tokenizer:
    """Return a tokenizer with SentencePiece's ids for a vocabulary.

    Args:
        prefix_first_only: transformers' meaning of `"legacy": false` in a LLaMA's
            tokenizer_config.json: the dummy space is added only to the text, if that does not
            begin with a space, and not after each special token; no spaces are removed.

    Raises:
        FileFormatError: the numbers of pieces, scores and types differ, a piece occurs twice or is
            too long, a score is no number, or the charsmap is damaged.
    """
    _check(vocabulary)
    tk = import_tokenizers()
    with panics_as("the vocabulary"):
        made = tk.Tokenizer(_unigram(vocabulary) if vocabulary.unigram else _bpe(vocabulary))
        user_defined = [vocabulary.pieces[n] for n in vocabulary.ids_of(PieceType.USER_DEFINED)]
        _add_piece_steps(made, vocabulary, user_defined, prefix_first_only)
        control = vocabulary.ids_of(PieceType.UNKNOWN, PieceType.CONTROL)
        specials = [special(vocabulary.pieces[number]) for number in control]
        made.add_tokens(
            specials + [_user_defined(piece, made.normalizer) for piece in user_defined]
        )
    return made


def _check(vocabulary: PieceVocabulary) -> None:
    pieces, scores, types = vocabulary.pieces, vocabulary.scores, vocabulary.types
    if not pieces or not len(pieces) == len(scores) == len(types):
        raise FileFormatError(
            f"vocabulary: expected as many pieces as scores and types, and some, got "
            f"{len(pieces)}, {len(scores)} and {len(types)}"
        )
    twice = [piece for piece, count in Counter(pieces).items() if count > 1]
    if twice:
        raise FileFormatError(f"vocabulary: the piece {twice[0]!r:.60} comes twice")
    for number, (piece, score) in enumerate(zip(pieces, scores, strict=True)):
        if not piece or len(piece) > MAX_PIECE_CHARACTERS:
            raise FileFormatError(
                f"vocabulary: expected piece {number} to have 1 to {MAX_PIECE_CHARACTERS} "
                f"characters, got {len(piece)} ({piece!r:.40})"
            )
        if not math.isfinite(score):
            raise FileFormatError(f"vocabulary: the score of piece {number} is {score}")
    unk = vocabulary.unk_id
    if unk is not None and not 0 <= unk < len(pieces):
        raise FileFormatError(f"vocabulary: no piece has the id {unk} of the unknown one")
    defined = [pieces[number] for number in vocabulary.ids_of(PieceType.USER_DEFINED)]
    if len(defined) * sum(map(len, defined)) > MAX_USER_DEFINED:
        raise FileFormatError(
            f"vocabulary: {len(defined):,} user-defined pieces of {sum(map(len, defined)):,} "
            "characters are more than any model has"
        )
    check_charsmap(vocabulary.normalizer.charsmap)


def _unigram(vocabulary: PieceVocabulary) -> tokenizers.models.Unigram:
    return import_tokenizers().models.Unigram(
        list(zip(vocabulary.pieces, vocabulary.scores, strict=True)),
        unk_id=vocabulary.unk_id,
        byte_fallback=vocabulary.byte_fallback,
    )


def _bpe(vocabulary: PieceVocabulary) -> tokenizers.models.BPE:
    unk = None if vocabulary.unk_id is None else vocabulary.pieces[vocabulary.unk_id]
    return import_tokenizers().models.BPE(
        vocab={piece: number for number, piece in enumerate(vocabulary.pieces)},
        merges=merges_of(vocabulary),
        unk_token=unk,
        fuse_unk=True,  # a run of unknown characters is one unknown piece
        byte_fallback=vocabulary.byte_fallback,
    )


def merges_of(vocabulary: PieceVocabulary) -> list[tuple[str, str]]:
    """Return the pairs of pieces whose union is a piece, best score first.

    SentencePiece stores no merges: any two neighbours whose union is a piece can merge, by the
    union's score. So each piece gives a merge for each way to split it into two pieces.
    """
    normal = vocabulary.ids_of(PieceType.NORMAL)
    parts = {piece: piece for piece in (vocabulary.pieces[number] for number in normal)}
    most = MAX_MERGES + 16 * len(parts)
    found = []
    for number in sorted(normal, key=lambda n: (-vocabulary.scores[n], n)):
        piece = vocabulary.pieces[number]
        for cut in range(1, len(piece)):
            left, right = parts.get(piece[:cut]), parts.get(piece[cut:])
            if left is not None and right is not None:
                found.append((left, right))
        if len(found) > most:
            raise FileFormatError(
                f"vocabulary: {len(parts):,} pieces can be cut into two others in more than "
                f"{most:,} ways, which no trained vocabulary's can"
            )
    return found


def _add_piece_steps(
    made: tokenizers.Tokenizer,
    vocabulary: PieceVocabulary,
    user_defined: list[str],
    prefix_first_only: bool,
) -> None:
    """Give the model its normaliser and decoder."""
    tk = import_tokenizers()
    spec = vocabulary.normalizer
    steps: list[Any] = []
    if spec.charsmap:
        steps.append(tk.normalizers.Precompiled(spec.charsmap))
    prefix_first_only &= spec.add_dummy_prefix and spec.escape_whitespaces
    if spec.remove_extra_whitespaces and not prefix_first_only:
        # At the end SentencePiece removes everything that it writes as a space, even ▁ itself.
        ends = rf"\A +|[ {SPACE}]+\z" if spec.escape_whitespaces else r"\A +| +\z"
        steps.append(tk.normalizers.Replace(tk.Regex(ends), ""))
        steps.append(tk.normalizers.Replace(tk.Regex(" {2,}"), " "))
    space = SPACE if spec.escape_whitespaces else " "
    if prefix_first_only:
        made.pre_tokenizer = tk.pre_tokenizers.Metaspace(
            replacement=SPACE, prepend_scheme="first", split=False
        )
    elif spec.add_dummy_prefix:
        steps.append(_prefix(space, user_defined, at_end=spec.whitespace_as_suffix))
    if spec.escape_whitespaces and not prefix_first_only:
        steps.append(tk.normalizers.Replace(" ", SPACE))
    if steps:
        made.normalizer = tk.normalizers.Sequence(steps)
    undo = [tk.decoders.Replace(SPACE, " "), tk.decoders.ByteFallback(), tk.decoders.Fuse()]
    if spec.add_dummy_prefix and spec.whitespace_as_suffix:
        undo.append(tk.decoders.Replace(tk.Regex(r" \z"), ""))  # Strip fails on no text
    elif spec.add_dummy_prefix:
        undo.append(tk.decoders.Strip(" ", 1, 0))
    made.decoder = tk.decoders.Sequence(undo)


def _prefix(
    space: str, user_defined: list[str], *, at_end: bool
) -> tokenizers.normalizers.Normalizer:
    """Adds the dummy space to a text that is not empty.

    User-defined pieces are searched for after normalisation, and the `tokenizers` package
    normalises the pieces themselves in the same way. This must not change them, so a text
    that equals such a piece gets no space.
    """
    tk = import_tokenizers()
    if at_end:
        return tk.normalizers.Replace(tk.Regex(r"(?m:(?<=.))\z"), space)
    if not user_defined:
        return tk.normalizers.Prepend(space)
    kept = "|".join(re.escape(piece) for piece in ["", *user_defined])
    return tk.normalizers.Replace(tk.Regex(rf"\A(?!(?:{kept})\z)"), space)


def _user_defined(piece: str, normalizer: Any) -> Any:
    """Search the piece in the normalised text, as SentencePiece does, if normalising keeps it."""
    unchanged = normalizer is None or normalizer.normalize_str(piece) == piece
    return import_tokenizers().AddedToken(piece, special=False, normalized=unchanged)
