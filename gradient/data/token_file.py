"""Token ids in a memory-mapped file: a corpus of any size, read without loading it.

The file has only little-endian uint16 or uint32 numbers; `<file>.json` beside it has their dtype
and number. Files without it, such as nanoGPT's train.bin, are opened with `dtype=`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.checks import check_arguments, integer, number, optional
from gradient.data import draw
from gradient.data.dataset import Dataset
from gradient.errors import (
    ArgumentError,
    FileFormatError,
    IndexOutOfRange,
    ModelNotFound,
    TypeMismatch,
)
from gradient.io.arrays import tensor_of
from gradient.io.atomic import atomic_write, write_text
from gradient.io.json_file import read_json
from gradient.io.regular_file import check_regular, read_regular
from gradient.tensor import Tensor
from gradient.tensor.generator import Generator

if TYPE_CHECKING:
    from gradient.text import Tokenizer

__all__ = ["TokenFile", "TokenWindows", "TokenWriter", "encode_corpus", "read_texts"]

FORMAT = "gradient-tokens"
VERSION = 1
_DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}


class TokenFile:
    """The tokens of a corpus, end to end.

        tokens = TokenFile("corpus.bin")
        train, val = tokens.split(0.1)
        x, y = train.random_batch(32, 256)                                # one batch, or
        loader = DataLoader(train.windows(256), batch_size=32, shuffle=True)  # an epoch

    Args:
        path: the file.
        dtype: "uint16" or "uint32", for a file without a `.json` beside it.
        start, stop: the part of the file to use; default: all.

    Attributes:
        array: the tokens, 1-D, read-only, memory-mapped.
        vocab_size: all ids are smaller; None if the file does not have it.
        metadata: the other values in the `.json`.

    Raises:
        ModelNotFound: there is no such file.
        FileFormatError: it is truncated, or its `.json` is damaged.
        ArgumentError: its dtype is neither given nor known.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        dtype: str | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self.path = Path(path)
        name, count, self.metadata = _describe(self.path, dtype)
        self.dtype = name
        self.vocab_size: int | None = self.metadata.get("vocab_size")
        stop = count if stop is None else stop
        if not 0 <= start <= stop <= count:
            raise IndexOutOfRange(f"TokenFile: {start} to {stop} of {count} tokens")
        self.start, self.stop = start, stop
        # An empty file cannot be mapped; a plain array, not a memmap, as that is slow to index.
        mapped: Any = np.memmap(self.path, _DTYPES[name], "r", shape=(count,)) if count else []
        self.array: np.ndarray = np.asarray(mapped, _DTYPES[name])[start:stop]

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: Any) -> Any:
        """Return tokens by position, like a NumPy array."""
        return self.array[index]

    def verify(self) -> None:
        """Compare the whole file with the checksum in its `.json`, if there is one.

        Raises:
            FileFormatError: the file has changed.
        """
        expected = self.metadata.get("sha256")
        if expected is None:
            return
        with open(self.path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise FileFormatError(
                f"{self.path} was altered or damaged since it was written: its SHA-256 is "
                f"{found:.12}..., expected {expected:.12}..."
            )

    def split(self, val_fraction: float) -> tuple[TokenFile, TokenFile]:
        """Return the first tokens for training, and the last `val_fraction` for validation."""
        check_arguments("split", val_fraction=(val_fraction, number(0, below=1)))
        middle = self.stop - int(len(self) * val_fraction)
        return (
            TokenFile(self.path, self.dtype, self.start, middle),
            TokenFile(self.path, self.dtype, middle, self.stop),
        )

    def windows(self, block_size: int, stride: int | None = None) -> TokenWindows:
        """A dataset of all windows of `block_size` tokens; see `TokenWindows`."""
        return TokenWindows(self, block_size, stride)

    def random_batch(
        self, batch_size: int, block_size: int, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return windows from random places, for training a language model without epochs.

        Args:
            generator: the batch depends only on its state.

        Returns:
            x and y, (batch_size, block_size) int64 each; y is x shifted by one token.
        """
        _check_block(self, block_size)
        starts = draw.integers(len(self) - block_size, batch_size, generator)
        return _windows(self.array, starts, block_size)

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the file itself, rather than being sent the tokens.
        return TokenFile, (self.path, self.dtype, self.start, self.stop)

    def __repr__(self) -> str:
        return f"TokenFile({str(self.path)!r}, {len(self):,} tokens, {self.dtype})"


class TokenWindows(Dataset[tuple[Tensor, Tensor]]):
    """Sample i is (x, y): `block_size` tokens from i * stride on, and the same shifted by one.

    Args:
        stride: tokens between the beginnings of neighbouring windows; default: `block_size`, so
            that every token is a target once.

    Raises:
        ArgumentError: there are too few tokens for one window.
    """

    def __init__(self, tokens: TokenFile, block_size: int, stride: int | None = None) -> None:
        _check_block(tokens, block_size)
        check_arguments("windows", stride=(stride, optional(integer(1))))
        self.tokens = tokens
        self.block_size = block_size
        self.stride = stride or block_size

    def __len__(self) -> int:
        return (len(self.tokens) - self.block_size - 1) // self.stride + 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = self._start(index)
        window = self.tokens.array[start : start + self.block_size + 1].astype(np.int64)
        return tensor_of(window[:-1]), tensor_of(window[1:])

    def collated(self, indices: Sequence[int]) -> list[Tensor]:
        """Return `default_collate`'s result for these samples, without making the samples."""
        starts = [self._start(index) for index in indices]
        return [*_windows(self.tokens.array, starts, self.block_size)]

    def _start(self, index: int) -> int:
        count = len(self)
        if not -count <= index < count:
            raise IndexOutOfRange(f"windows: index {index} of {count}")
        return index % count * self.stride


class TokenWriter:
    """Writes a token file piece by piece; it appears, complete, if the block ends without an error.

        with TokenWriter("corpus.bin", tokenizer.vocab_size) as writer:
            for text in texts:
                writer.write(tokenizer.encode(text))

    Args:
        vocab_size: every id must be smaller; up to 65,536 a token takes two bytes, else four.
        metadata: JSON values to store in `<path>.json`.

    Raises:
        CheckpointError: the disk is full or failing; an older file is unchanged.
        IndexOutOfRange: an id is not in the vocabulary.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        vocab_size: int,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        check_arguments("TokenWriter", vocab_size=(vocab_size, integer(1, 1 << 32)))
        self.path = Path(path)
        self.vocab_size = vocab_size
        self.dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
        self.metadata = metadata or {}
        self.count = 0
        self._digest = hashlib.sha256()
        self._write = atomic_write(self.path)
        self._file: Any = None

    def __enter__(self) -> TokenWriter:
        self._file = self._write.__enter__()
        return self

    def write(self, ids: Sequence[int] | np.ndarray) -> None:
        """Append token ids.

        Raises:
            ArgumentError: outside the `with` block.
            IndexOutOfRange: an id is not in the vocabulary; none of `ids` is written.
        """
        if self._file is None:
            raise ArgumentError(
                "TokenWriter: nothing is open; write inside `with TokenWriter(...) as writer:`"
            )
        tokens = np.asarray(ids, np.int64)
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < self.vocab_size):
            wrong = tokens[(tokens < 0) | (tokens >= self.vocab_size)][0]
            raise IndexOutOfRange(
                f"TokenWriter: token id {wrong} is not below vocab_size={self.vocab_size}"
            )
        data = tokens.astype(_DTYPES[self.dtype]).tobytes()
        self._file.write(data)
        self._digest.update(data)
        self.count += tokens.size

    def __exit__(self, *error: Any) -> bool | None:
        self._file = None
        # The old description is deleted first: a description of other tokens must never be beside
        # these.
        if error[0] is None:
            _description(self.path).unlink(missing_ok=True)
        swallowed = self._write.__exit__(*error)
        if error[0] is None:
            about = {
                "format": FORMAT,
                "version": VERSION,
                "dtype": self.dtype,
                "count": self.count,
                "vocab_size": self.vocab_size,
                "sha256": self._digest.hexdigest(),
            }
            write_text(_description(self.path), json.dumps(self.metadata | about, indent=2) + "\n")
        return swallowed


def encode_corpus(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
    metadata: dict[str, Any] | None = None,
) -> TokenFile:
    """Tokenise documents into a token file, each followed by EOS if the tokenizer has one.

    Memory does not grow with the corpus: documents are encoded a megabyte at a time, on all cores,
    and a long one in pieces.

    Args:
        texts: documents, such as those of files by `read_texts`.
        progress: called with (characters, tokens) so far, after each megabyte.

    Raises:
        CheckpointError: the disk is full or failing; an older file is unchanged.
    """
    if isinstance(texts, str):
        raise TypeMismatch("encode_corpus: expected an iterable of texts, got one str; give [text]")
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    characters = 0
    with TokenWriter(path, tokenizer.vocab_size, metadata) as writer:
        for pieces in _groups(texts):
            encoded = tokenizer.encode_batch(
                [text for text, _ in pieces], add_special_tokens=False, parse_special=False
            )
            for ids, (text, is_last) in zip(encoded, pieces, strict=True):
                writer.write(ids)
                if is_last:
                    writer.write(end)
                characters += len(text)
            if progress is not None:
                progress(characters, writer.count)
    return TokenFile(path)


def read_texts(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """Yield the text of each file, in order; files that are not UTF-8 text are left out."""
    for path in paths:
        try:
            text = read_regular(path).decode("utf-8")
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            yield text


#: Characters that are encoded at a time, and the longest piece of one document.
_GROUP_CHARS = 1_000_000
_PIECE_CHARS = 200_000


def _groups(texts: Iterable[str]) -> Iterator[list[tuple[str, bool]]]:
    """Lists of (piece of text, whether its document ends with it)."""
    group: list[tuple[str, bool]] = []
    size = 0
    for text in texts:
        for piece in _pieces(text):
            group.append(piece)
            size += len(piece[0])
            if size >= _GROUP_CHARS:
                yield group
                group, size = [], 0
    if group:
        yield group


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    start = 0
    while len(text) - start > _PIECE_CHARS:
        cut = _safe_cut(text, start + _PIECE_CHARS // 2, start + _PIECE_CHARS)
        yield text[start:cut], False
        start = cut
    yield text[start:], True


def _safe_cut(text: str, low: int, high: int) -> int:
    """A position in low..high where encoding both sides separately gives the same tokens.

    It is between a letter or digit and white space: no byte-level pre-tokenizer joins those.
    """
    for cut in range(high, low, -1):
        if text[cut].isspace() and text[cut - 1].isalnum():
            return cut
    return high


def _describe(path: Path, dtype: str | None) -> tuple[str, int, dict[str, Any]]:
    """The name of a token file's dtype, its number of tokens, and its description."""
    try:
        check_regular(path)
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelNotFound(f"no token file at {path}: {error.strerror}") from None
    described = _description(path)
    about: Any = read_json(described) if described.is_file() else {}
    if not isinstance(about, dict) or (about and about.get("format") != FORMAT):
        raise FileFormatError(f"{described} does not describe a token file")
    name = about.get("dtype", dtype)
    if name not in _DTYPES:
        raise ArgumentError(
            f"TokenFile: the dtype of {path} must be 'uint16' or 'uint32', got {name!r}"
            + ("" if about else f"; there is no {described.name} to say which: give dtype=")
        )
    count, rest = divmod(size, _DTYPES[name].itemsize)
    if rest or about.get("count", count) != count:
        raise FileFormatError(
            f"{path} has {size:,} bytes; expected {about.get('count', count):,} tokens of {name}: "
            "it is truncated, or another file"
        )
    return name, count, about


def _description(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _check_block(tokens: TokenFile, block_size: int) -> None:
    check_arguments("windows", block_size=(block_size, integer(1)))
    if len(tokens) <= block_size:
        raise ArgumentError(
            f"{len(tokens)} tokens are too few for a window of block_size={block_size} and its "
            "target; give more text or a smaller block_size"
        )


def _windows(array: np.ndarray, starts: Sequence[int], block_size: int) -> tuple[Tensor, Tensor]:
    """The windows that begin at `starts`, and the same shifted by one: (B, block_size) int64."""
    windows = array[np.asarray(starts, np.int64)[:, None] + np.arange(block_size + 1)]
    x, y = (part.astype(np.int64, order="C") for part in (windows[:, :-1], windows[:, 1:]))
    return tensor_of(x), tensor_of(y)
