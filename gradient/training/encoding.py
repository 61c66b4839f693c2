"""Documents to token files: concatenated, or with their lengths and loss masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gradient.data import TokenWriter, encode_corpus
from gradient.training.documents import Chat, Document, read_in_turn

if TYPE_CHECKING:
    from gradient.text import Tokenizer

#: Characters that are encoded together.
_GROUP_CHARS = 1_000_000


@dataclass
class Encoded:
    """Statistics of an encoded part of a corpus."""

    learned: int = 0  # predicted tokens
    learned_bytes: int = 0  # bytes of their text
    cut: int = 0  # conversations that were cut, as too long
    silent: int = 0  # conversations without words of the assistant
    end_of_turn: set[int] = field(default_factory=set)

    @property
    def bytes_per_token(self) -> float:
        return self.learned_bytes / max(self.learned, 1)


def encode_stream(documents: Sequence[Document], tokenizer: Tokenizer, stem: Path) -> float:
    """Write the documents' tokens to `<stem>.bin`, EOS after each; return their bytes per token."""
    size = 0

    def texts() -> Iterator[str]:
        nonlocal size
        for text in read_in_turn(documents):
            assert isinstance(text, str)
            size += len(text.encode())
            yield text

    tokens = len(encode_corpus(texts(), tokenizer, stem.with_suffix(".bin")))
    return size / max(tokens, 1)


def encode_documents(
    documents: Sequence[Document], tokenizer: Tokenizer, stem: Path, block_size: int
) -> Encoded:
    """Write three token files: the documents' tokens, their lengths, and 1 for each token in the
    loss.

    A text begins with BOS if the tokenizer adds it, and ends with EOS; all of it is learned. Of
    a conversation only the assistant's words are learned, and it is cut after a row's length.
    """
    about = Encoded()
    sizes = _bytes_of_tokens(tokenizer)
    begin = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    with (
        TokenWriter(stem.with_suffix(".bin"), tokenizer.vocab_size) as ids_file,
        TokenWriter(stem.with_name(f"{stem.name}.lengths.bin"), 1 << 32) as lengths_file,
        TokenWriter(stem.with_name(f"{stem.name}.learned.bin"), 2) as learned_file,
    ):

        def write(ids: list[int], learned: list[int]) -> None:
            ids_file.write(ids)
            learned_file.write(learned)
            lengths_file.write([len(ids)])
            marked = np.asarray(ids)[np.asarray(learned, bool)]
            about.learned += len(marked)
            about.learned_bytes += int(sizes[marked].sum())

        for group in _groups(documents):
            texts = [each for each in group if isinstance(each, str)]
            for ids in tokenizer.encode_batch(texts, add_special_tokens=False, parse_special=False):
                whole = [*begin, *ids, *end]
                write(whole, [0] * len(begin) + [1] * (len(whole) - len(begin)))
            for chat in group:
                if isinstance(chat, Chat):
                    ids, learned = tokenizer.encode_chat(chat.messages, tools=chat.tools)
                    about.end_of_turn |= _ends(ids, learned, tokenizer.special_ids)
                    if len(ids) > block_size + 1:
                        about.cut += 1
                        ids, learned = ids[: block_size + 1], learned[: block_size + 1]
                    if any(learned):
                        write(ids, learned)
                    else:
                        about.silent += 1
    return about


def _groups(documents: Sequence[Document]) -> Iterator[list[str | Chat]]:
    group: list[str | Chat] = []
    size = 0
    for document, content in zip(documents, read_in_turn(documents), strict=True):
        group.append(content)
        size += len(document)
        if size >= _GROUP_CHARS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _ends(ids: list[int], learned: list[int], specials: frozenset[int]) -> set[int]:
    """The special tokens that end the assistant's turns: the last of each of its spans."""
    found = set()
    last = None
    for token, is_learned in zip([*ids, -1], [*learned, 0], strict=True):
        if not is_learned:
            if last is not None:
                found.add(last)
            last = None
        elif token in specials:
            last = token
    return found


def _bytes_of_tokens(tokenizer: Tokenizer) -> np.ndarray:
    return np.asarray(
        [len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)], np.int64
    )
