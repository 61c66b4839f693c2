"""A KV cache in a file: the content of its rows, their tokens, and the model's fingerprint.

The file is safetensors. For each row it has the token ids and, for each layer, the stored keys and
values (codes and scales, if they are quantised). It does not depend on the layout: a
paged cache can read the file of a sliding one.

Keys and values are useless for any other model. So the header identifies the model, by a digest of
a few numbers of each weight, which changes with the dtype and with every step of training.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import gradient
from gradient.errors import ArgumentError, FileFormatError
from gradient.io.safetensors import SafetensorsFile, save_file
from gradient.kv_cache.codec import Codecs, empty_parts
from gradient.kv_cache.dtypes import codecs_of
from gradient.kv_cache.layout import KeyValues
from gradient.models.causal_lm import CausalLM, KVShape
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.kv_cache.cache import KVCache

FORMAT = "gradient-kv-cache-1"
#: Numbers of each weight in the fingerprint.
SAMPLED = 64
#: A batch is padded to its longest row. A file whose padded rows would be this many times larger
#: than the real ones is refused, as it would need far more memory than it has bytes.
MOST_PADDING = 64


def fingerprint(model: CausalLM) -> str:
    """Return a digest that distinguishes this model's caches from those of others."""
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        digest.update(f"{name} {weight.dtype.name} {tuple(weight.shape)}\n".encode())
        digest.update(_sample(weight.detach()).tobytes())
    return digest.hexdigest()


def save(
    cache: KVCache, path: str | os.PathLike[str], model: CausalLM, tokens: Sequence[Sequence[int]]
) -> None:
    """Write a cache and the tokens it holds, atomically; see `KVCache.save`."""
    if [len(row) for row in tokens] != cache.counts:
        raise ArgumentError(
            f"save: expected the tokens that the rows hold, {cache.counts} of them, got "
            f"{[len(row) for row in tokens]}"
        )
    tensors: dict[str, Tensor] = {}
    for row, ids in enumerate(tokens):
        tensors[f"{row}.tokens"] = gradient.tensor(list(ids), dtype=gradient.int64)
        for layer in range(len(cache.shapes)):
            layout = cache.layouts[cache.layout_of[layer]]
            held = layout.read(layer, row, layout.first(row, len(ids)), len(ids))
            for name, parts in zip(KeyValues._fields, held, strict=True):
                for number, part in enumerate(parts):
                    tensors[f"{row}.{layer}.{name}.{number}"] = part.cpu()
    header = {
        "format": FORMAT,
        "model": fingerprint(model),
        "storage": cache.codecs.name,
        "rows": str(len(tokens)),
        "shapes": json.dumps([list(shape) for shape in cache.shapes]),
    }
    save_file(tensors, path, header)


class Saved(NamedTuple):
    """The content of a cache file, mapped but not read yet."""

    tokens: list[list[int]]
    codecs: Codecs
    layers: dict[tuple[int, int], KeyValues]  # by (row, layer): (H, n, w) of the last n tokens


def read(path: str | os.PathLike[str], model: CausalLM) -> Saved:
    """Check a file, and return its content; see `KVCache.load`."""
    file = SafetensorsFile(path)
    rows, codecs = _read_header(file, path, model)
    tokens = [_tokens(file, path, row, model.config.vocab_size) for row in range(rows)]
    counts = [len(ids) for ids in tokens]
    if rows * max(counts) > MOST_PADDING * sum(counts):
        raise _wrong(path, f"rows of {min(counts)} to {max(counts)} tokens are mostly padding")
    layers = {
        (row, layer): _key_values(file, path, row, layer, KVShape(*shape), count, codecs)
        for row, count in enumerate(counts)
        for layer, shape in enumerate(model.kv_shapes)
    }
    return Saved(tokens, codecs, layers)


@gradient.no_grad()
def fill(cache: KVCache, saved: Saved) -> None:
    """Fill an empty cache with a file's content, like one pass of the model."""
    counts = [len(ids) for ids in saved.tokens]
    longest = max(counts)
    if not longest:
        return
    past = cache.begin(longest, counts)
    for layer, (heads, size, window) in enumerate(cache.shapes):
        sides = []
        for side, stored in enumerate(saved.codecs):
            codec = cache.codecs[side]
            parts = empty_parts(stored, (len(counts), heads, longest), size, cache.device)
            for row, count in enumerate(counts):
                for part, held in zip(parts, saved.layers[row, layer][side], strict=True):
                    part[row, :, count - held.shape[1] : count] = held.to(cache.device)
            if codec.name != stored.name:
                parts = codec.encode(stored.decode(parts, size, gradient.float32))
            sides.append(parts)
        past.slots[cache.layout_of[layer]].update(layer, KeyValues(*sides), window)
    past.commit()


def _sample(weight: Tensor) -> Any:
    """Return some numbers of a weight, as bytes that are the same on every device."""
    if weight.dtype.is_packed:
        part = weight.array.as_stored(weight.backend).parts[0]
        weight = gradient.tensor(weight.backend.to_numpy(part).reshape(-1)[:SAMPLED])
    flat = weight.reshape(-1)
    # Spread over all of it: training on little text does not change most rows of an embedding.
    places = gradient.arange(SAMPLED, device=flat.device) * (flat.shape[0] - 1) // (SAMPLED - 1)
    return flat[places].cpu().float().numpy()


def _wrong(path: Any, what: str) -> FileFormatError:
    return FileFormatError(f"{path} is not a saved key-value cache: {what}")


def _read_header(file: SafetensorsFile, path: Any, model: CausalLM) -> tuple[int, Codecs]:
    """Return the number of rows and the codecs, after checking that the file is this model's."""
    header = file.metadata
    if header.get("format") != FORMAT:
        raise _wrong(path, f"its format is {header.get('format')!r}, expected {FORMAT!r}")
    shapes = json.dumps([list(shape) for shape in model.kv_shapes])
    if header.get("shapes") != shapes or header.get("model") != fingerprint(model):
        raise ArgumentError(
            f"{path}: was saved from another model, or from this one with other weights or in "
            f"another dtype; load that one, or compute the text anew"
        )
    rows = header.get("rows", "")
    if not (re.fullmatch("[1-9][0-9]{0,8}", rows) and int(rows) <= len(file)):
        raise _wrong(path, f"it claims {rows!r:.80} rows and has {len(file)} tensors")
    try:
        return int(rows), codecs_of(header.get("storage", ""))
    except ArgumentError as error:
        raise _wrong(path, str(error)) from None


def _tokens(file: SafetensorsFile, path: Any, row: int, vocab_size: int) -> list[int]:
    entry = file.entries.get(f"{row}.tokens")
    if entry is None or entry.dtype != "I64" or len(entry.shape) != 1:
        raise _wrong(path, f"the tokens of row {row} are missing, or no list of int64")
    ids = file.array(f"{row}.tokens")
    if len(ids) and (ids.min() < 0 or ids.max() >= vocab_size):
        raise _wrong(path, f"row {row} has tokens beyond the vocabulary of {vocab_size}")
    return ids.tolist()


def _key_values(
    file: SafetensorsFile,
    path: Any,
    row: int,
    layer: int,
    shape: KVShape,
    count: int,
    codecs: Codecs,
) -> KeyValues:
    """Return the keys and values in the file for a row and layer, all of one length."""
    names = [
        [f"{row}.{layer}.{name}.{number}" for number in range(len(codec.parts(shape.head_size)))]
        for name, codec in codecs._asdict().items()
    ]
    missing = [name for side in names for name in side if name not in file]
    if missing:
        raise _wrong(path, f"it lacks {', '.join(missing)}")
    first = file.entries[names[0][0]].shape
    held = first[1] if len(first) == 3 else -1
    # A layer with a window needs only what the next token sees.
    least = count if shape.window is None else min(count, shape.window - 1)
    for side, codec in zip(names, codecs, strict=True):
        for name, part in zip(side, codec.parts(shape.head_size), strict=True):
            entry, expected = file.entries[name], (shape.heads, held, part.width)
            if entry.shape != expected or not least <= held <= count:
                raise _wrong(
                    path, f"{name} has shape {entry.shape}, expected ({shape.heads}, "
                    f"{least} to {count}, {part.width})"
                )  # fmt: skip
            if file[name].dtype != part.dtype:
                raise _wrong(path, f"{name} is {entry.dtype}, expected {part.dtype.name}")
    return KeyValues(*(tuple(file[name] for name in side) for side in names))
