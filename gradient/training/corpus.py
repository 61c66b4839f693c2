"""From text files to memory-mapped tokens, for training and validation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.data import TokenFile
from gradient.errors import ArgumentError, FileFormatError, ModelNotFound
from gradient.io.atomic import write_text
from gradient.io.json_file import read_json
from gradient.training import tokenizers
from gradient.training.config import TrainConfig
from gradient.training.documents import Document, File, find_files, read_all, split
from gradient.training.encoding import encode_documents, encode_stream

if TYPE_CHECKING:
    from gradient.text import Tokenizer

#: Describes the token files beside it.
RECORD = "corpus.json"


@dataclass(frozen=True)
class Tokens:
    """The training or the validation part of a corpus: concatenated documents, memory-mapped.

    Attributes:
        ids: 1-D.
        lengths: the documents' lengths; None if their borders do not matter.
        learned: as long as `ids`, 0 for a token that is not predicted; None without `lengths`.
    """

    ids: np.ndarray
    lengths: np.ndarray | None = None
    learned: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_files(cls, folder: Path, name: str, *, packed: bool) -> Tokens:
        """Map the files that `gradient.training.encoding` wrote.

        Raises:
            FileFormatError: a file is damaged, or does not match the others.
        """
        stems = (name, f"{name}.lengths", f"{name}.learned")[: 3 if packed else 1]
        files = [TokenFile(folder / f"{stem}.bin") for stem in stems]
        try:
            for file in files:
                file.verify()
        except FileFormatError as error:
            fix = f"remove {folder / RECORD}, and the text is tokenised anew"
            raise FileFormatError(f"{error}; {fix}") from None
        return cls(*(file.array for file in files))


@dataclass(frozen=True)
class Corpus:
    """Tokenised text."""

    tokenizer: Tokenizer
    train: Tokens
    val: Tokens
    source: str  # the origin of the text, for users
    documents: int
    characters: int
    val_bytes_per_token: float  # of the predicted tokens
    fingerprint: str  # of the text and of all settings that affect its tokens
    packing: str = "windows"
    chats: int = 0
    #: Tokens that end the assistant's turns.
    end_of_turn: list[int] = field(default_factory=list)
    #: The content of generation_config.json beside the tokenizer, if there is one.
    generation_config: dict[str, Any] = field(default_factory=dict)


#: Fields of the record: those of a corpus that are not stored in other files.
_KNOWN = {each.name for each in dataclasses.fields(Corpus)} - {"tokenizer", "train", "val"}
#: Fields that every version wrote.
_NEEDED = _KNOWN - {"packing", "chats", "end_of_turn", "generation_config"}


def prepare(
    config: TrainConfig,
    folder: Path,
    note: Callable[[str], None] = lambda message: None,
    *,
    reuse: bool = False,
) -> Corpus:
    """Read, tokenise and map the text of `config`; a second call reuses the files in `folder`.

    The text is read one file at a time and is never in memory as a whole.

    Args:
        folder: receives the tokens of both parts, the tokenizer's files and corpus.json.
        note: called with a sentence for each piece of work.
        reuse: use the content of `folder`, if it is complete, without reading the text again: a
            resumed run keeps its tokens, though its text may have changed.

    Raises:
        ArgumentError: no text, or too little for one sequence.
    """
    from gradient.text import Tokenizer

    record = _record(folder)
    if record is None or not reuse:
        record = _up_to_date(config, folder, record, note)
    packed = record.get("packing") == "documents"
    train, val = (Tokens.from_files(folder, name, packed=packed) for name in ("train", "val"))
    if not packed and len(train) <= config.block_size:
        raise ArgumentError(
            f"paths: {len(train)} tokens to train on are too few for one sequence of "
            f"block_size={config.block_size}; give more text or a smaller --block-size"
        )
    if packed and not np.any(train.learned):
        raise ArgumentError("paths: nothing to learn: no conversation has an assistant's message")
    return Corpus(Tokenizer.from_folder(folder), train, val, **record)


def _record(folder: Path) -> dict[str, Any] | None:
    """corpus.json's content, None if it is damaged; it is written last, so the files that it
    lists are complete."""
    try:
        record = read_json(folder / RECORD)
    except (ModelNotFound, FileFormatError):
        return None
    return record if isinstance(record, dict) and _NEEDED <= record.keys() <= _KNOWN else None


def _up_to_date(
    config: TrainConfig,
    folder: Path,
    record: dict[str, Any] | None,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """The record of token files for the current text, which are written if necessary."""
    source = ", ".join(config.paths) if config.paths else "the Python standard library"
    files = find_files(config.paths, config.glob, config.out)
    documents, text_hash = read_all(files)
    chats = sum(document.is_chat for document in documents)
    packing = config.packing or ("documents" if chats or config.base_model else "windows")
    if chats and packing == "windows":
        raise ArgumentError(
            f"packing: {chats} of the documents are conversations, which are packed whole; leave "
            "--packing out"
        )
    given, generation_config = tokenizers.existing_tokenizer(config, with_chats=chats > 0)
    if given is not None:
        vocabulary = f"{given.backend.to_str()} {given.chat_template or ''}".rstrip()
    else:
        vocabulary = f"{config.tokenizer} {config.vocab_size}"
        if chats or config.chat_template:
            vocabulary += tokenizers.template(config)
    settings = f"{text_hash} {config.val_fraction} {vocabulary}"
    if packing == "documents":
        settings += f" {packing} {config.block_size} {generation_config}"
    fingerprint = hashlib.sha256(settings.encode()).hexdigest()
    if record is not None and record["fingerprint"] == fingerprint:
        return record
    if given is not None and config.base_model is not None and config.tokenizer != "bpe":
        moved, known = tokenizers.changed_tokens(given, config.base_model)
        if moved:
            note(
                f"warning: --tokenizer gives {moved} of the model's {known} tokens another id or "
                "none, so what the model has learned of them is lost; leave it out for the model's"
            )
    characters = sum(map(len, documents))
    _note_reading(note, files, documents, chats, characters, source, config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    record = {
        "source": source,
        "documents": len(documents),
        "characters": characters,
        "fingerprint": fingerprint,
        "packing": packing,
        "chats": chats,
        "generation_config": generation_config,
        **_tokenise(config, folder, given, documents, packing, note),
    }
    write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
    return record


def _note_reading(
    note: Callable[[str], None],
    files: Sequence[File],
    documents: Sequence[Document],
    chats: int,
    characters: int,
    source: str,
    config: TrainConfig,
) -> None:
    read = {document.file for document in documents}
    inside = ""
    if len(documents) > len(read):
        kinds = ((len(documents) - chats, "texts"), (chats, "conversations"))
        inside = " with " + " and ".join(f"{count} {kind}" for count, kind in kinds if count)
    count = f"{len(read)} file" + "s" * (len(read) != 1)
    note(f"read {count}{inside}, {characters / 1e6:.2f} M characters, from {source}")
    if config.paths and (others := [str(file.path) for file in files if file not in read]):
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        note(f"left out, as empty or not UTF-8 text: {', '.join(others[:3])}{more}")


def _tokenise(
    config: TrainConfig,
    folder: Path,
    tokenizer: Tokenizer | None,
    documents: Sequence[Document],
    packing: str,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Write the tokenizer and the tokens of both parts; return their record."""
    sides = dict(zip(("train", "val"), split(documents, config.val_fraction), strict=True))
    if tokenizer is None:
        note(f"learning a vocabulary of {config.vocab_size} tokens")
        tokenizer = tokenizers.train_tokenizer(config, sides["train"])
    tokenizer.save(folder)
    note(f"encoding with {tokenizer.vocab_size} tokens")
    if packing == "windows":
        bytes_per_token = {
            name: encode_stream(side, tokenizer, folder / name) for name, side in sides.items()
        }
        return {"val_bytes_per_token": bytes_per_token["val"]}
    encoded = {
        name: encode_documents(side, tokenizer, folder / name, config.block_size)
        for name, side in sides.items()
    }
    if cut := sum(each.cut for each in encoded.values()):
        note(f"{cut} conversations are longer than {config.block_size} tokens: their ends are cut")
    if silent := sum(each.silent for each in encoded.values()):
        note(f"left out: {silent} conversations in which the assistant says nothing")
    ends = set().union(*(each.end_of_turn for each in encoded.values()))
    return {
        "val_bytes_per_token": encoded["val"].bytes_per_token,
        "end_of_turn": sorted(ends),
    }
