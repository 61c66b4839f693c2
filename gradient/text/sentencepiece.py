"""Vocabulary files of SentencePiece (`.model`) and of llama2.c (`tokenizer.bin`).

A `.model` file is a Protocol Buffers message. Its schema is SentencePiece's
`sentencepiece_model.proto`, of which three messages are read: the pieces, the trainer's settings
(the kind of model, ids of special pieces) and the normaliser's.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradient.errors import FileFormatError, ModelNotFound
from gradient.io.protobuf import Value, fields, float_of, int_of, message_of, text_of
from gradient.io.regular_file import open_regular
from gradient.text.arguments import SpecialTokens, TokenizerArguments
from gradient.text.pieces import (
    SPACE,
    PieceNormalizer,
    PieceType,
    PieceVocabulary,
    tokenizer_of_pieces,
)

#: The largest published vocabularies (256,000 pieces) have 4 to 15 MB.
MAX_MODEL_BYTES = 100_000_000

_UNIGRAM, _BPE = 1, 2
#: Field numbers of ModelProto, SentencePiece, TrainerSpec and NormalizerSpec.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_PIECE_TEXT, _PIECE_SCORE, _PIECE_TYPE = 1, 2, 3
_TRAINER_FIELDS = {3: "model_type", 24: "whitespace_as_suffix", 35: "byte_fallback"}
_ID_FIELDS = {40: "unk_id", 41: "bos_id", 42: "eos_id", 43: "pad_id"}
_NORMALIZER_FIELDS = {
    3: "add_dummy_prefix",
    4: "remove_extra_whitespaces",
    5: "escape_whitespaces",
}
_CHARSMAP = 2


@dataclass
class SentencePieceModel:
    """A `.model` file's content: the vocabulary, and the pieces for BOS, EOS and padding."""

    vocabulary: PieceVocabulary
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = -1  # -1: none

    def piece(self, number: int) -> str | None:
        """The text of a special piece, or None if the model has none."""
        pieces = self.vocabulary.pieces
        return pieces[number] if 0 <= number < len(pieces) else None

    def specials(self) -> SpecialTokens:
        """Special tokens by their names in `Tokenizer`."""
        unk = self.vocabulary.unk_id
        return {
            "bos_token": self.piece(self.bos_id),
            "eos_token": self.piece(self.eos_id),
            "pad_token": self.piece(self.pad_id),
            "unk_token": self.piece(-1 if unk is None else unk),
        }


def read_sentencepiece(path: str | os.PathLike[str]) -> SentencePieceModel:
    """The content of a `.model` file.

    Raises:
        ModelNotFound: there is no such file.
        FileFormatError: it is damaged, too large, or a model of words or characters.
    """
    data = _read(Path(path))
    if data.startswith(b"IQ== 0\n"):  # "!" in base64, the first token, and its rank
        raise FileFormatError(
            f"{path} is a tiktoken vocabulary, not sentencepiece's: take the tokenizer.json of the "
            "same model"
        )
    try:
        return parse_sentencepiece(data)
    except FileFormatError as error:
        raise FileFormatError(f"{path} is not a valid sentencepiece model: {error}") from None


def parse_sentencepiece(data: bytes) -> SentencePieceModel:
    """The content of a `.model` file, from its bytes; errors as of `read_sentencepiece`."""
    pieces: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    settings: dict[str, int] = {"model_type": _UNIGRAM}
    ids = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}
    # The schema's defaults, for missing fields.
    spec: dict[str, Any] = {name: True for name in _NORMALIZER_FIELDS.values()}
    for number, value in fields(data):
        if number == _PIECES:
            text, score, kind = _piece(message_of(value))
            pieces.append(text)
            scores.append(score)
            types.append(kind)
        elif number == _TRAINER:
            for inner, setting in fields(message_of(value)):
                if inner in _TRAINER_FIELDS:
                    settings[_TRAINER_FIELDS[inner]] = int_of(setting)
                elif inner in _ID_FIELDS:
                    ids[_ID_FIELDS[inner]] = int_of(setting)
        elif number == _NORMALIZER:
            for inner, setting in fields(message_of(value)):
                if inner == _CHARSMAP:
                    spec["charsmap"] = bytes(message_of(setting))
                elif inner in _NORMALIZER_FIELDS:
                    spec[_NORMALIZER_FIELDS[inner]] = bool(int_of(setting))
    if settings["model_type"] not in (_UNIGRAM, _BPE):
        raise FileFormatError(
            f"expected a unigram (1) or BPE (2) model, got model_type {settings['model_type']} "
            "(3 has words, 4 characters)"
        )
    unknown = [number for number, kind in enumerate(types) if kind == PieceType.UNKNOWN]
    vocabulary = PieceVocabulary(
        pieces,
        scores,
        types,
        unigram=settings["model_type"] == _UNIGRAM,
        byte_fallback=bool(settings.get("byte_fallback", False)),
        unk_id=unknown[0] if unknown else ids["unk_id"],
        normalizer=PieceNormalizer(
            **spec, whitespace_as_suffix=bool(settings.get("whitespace_as_suffix", False))
        ),
    )
    return SentencePieceModel(vocabulary, ids["bos_id"], ids["eos_id"], ids["pad_id"])


def _piece(message: memoryview) -> tuple[str, float, int]:
    found: dict[int, Value] = dict(fields(message))
    kind = int_of(found.get(_PIECE_TYPE, PieceType.NORMAL))
    if kind not in PieceType.__members__.values():
        raise FileFormatError(f"expected a piece's type to be 1 to 6, got {kind}")
    text = text_of(found[_PIECE_TEXT]) if _PIECE_TEXT in found else ""
    return text, float_of(found[_PIECE_SCORE]) if _PIECE_SCORE in found else 0.0, kind


def read_llama2c(path: str | os.PathLike[str]) -> SentencePieceModel:
    """The vocabulary of a llama2.c `tokenizer.bin`: scores, lengths and pieces in turn.

    The format stores no types: they follow from LLaMA's order of special and byte pieces.

    Raises:
        ModelNotFound: there is no such file.
        FileFormatError: it is damaged.
    """
    data = _read(Path(path))
    pieces: list[str] = []
    scores: list[float] = []
    at = 4  # the first word is the length of the longest piece
    while at < len(data):
        if at + 8 > len(data):
            raise FileFormatError(f"{path}: piece {len(pieces)} is cut short")
        score, size = struct.unpack_from("<fi", data, at)
        at += 8
        if not 0 <= size <= len(data) - at:
            raise FileFormatError(
                f"{path} is no llama2.c tokenizer: piece {len(pieces)} needs {size:,} bytes and "
                f"{len(data) - at:,} are left"
            )
        raw = data[at : at + size]
        try:
            pieces.append(raw.decode("utf-8").replace(" ", SPACE))
        except UnicodeDecodeError:
            raise FileFormatError(f"{path}: piece {len(pieces)} is not UTF-8") from None
        scores.append(score)
        at += size
    if len(pieces) < 259 or pieces[3] != "<0x00>":
        raise FileFormatError(
            f"{path} is no llama2.c tokenizer: expected <unk>, <s>, </s> and the 256 bytes first"
        )
    special = [PieceType.UNKNOWN, PieceType.CONTROL, PieceType.CONTROL]
    types = [*special, *[PieceType.BYTE] * 256, *[PieceType.NORMAL] * (len(pieces) - 259)]
    pieces[:3] = ["<unk>", "<s>", "</s>"]  # the file has line breaks around them
    return SentencePieceModel(PieceVocabulary(pieces, scores, [*map(int, types)]))


def arguments_of(model: SentencePieceModel) -> TokenizerArguments:
    """The tokenizer of a `.model` file: with BOS if the model has one, as in LLaMA's code.

    Raises:
        FileFormatError: see `tokenizer_of_pieces`.
    """
    specials = model.specials()
    return {
        "backend": tokenizer_of_pieces(model.vocabulary),
        "charsmap": model.vocabulary.normalizer.charsmap,
        "add_bos": specials["bos_token"] is not None,
        **specials,
    }


def without_dummy_prefix(model: SentencePieceModel) -> SentencePieceModel:
    """The same, for texts whose first word gets no space (`"add_prefix_space": false`)."""
    spec = replace(model.vocabulary.normalizer, add_dummy_prefix=False)
    return replace(model, vocabulary=replace(model.vocabulary, normalizer=spec))


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(MAX_MODEL_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ModelNotFound(f"no tokenizer at {path}: {error.strerror}") from None
    if len(data) > MAX_MODEL_BYTES:
        raise FileFormatError(f"{path} has more than {MAX_MODEL_BYTES:,} bytes, the limit")
    return data
