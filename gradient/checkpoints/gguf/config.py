"""Converts hyperparameters: GGUF's metadata to config.json's content, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradient.checkpoints.gguf.rope import read_rope, shortest, write_rope
from gradient.errors import FileFormatError, UnsupportedModel
from gradient.models.families import MODELS
from gradient.models.gguf import REQUIRED, WINDOW_PATTERN, Architecture
from gradient.models.llama_config import BiasFields
from gradient.models.registry import config_class

__all__ = ["supported_architectures"]

_FULL = "full_attention"
#: llama.cpp's names of the ids that end a text, a turn or a message.
_ENDS = ("eos", "eot", "eom")
#: Keys that are floats in the specification, even if the value is a whole number.
_REAL = re.compile(r"(epsilon|softcapping|freq_base|freq_base_swa|factor|scale|linear|beta_\w+)$")


def _kinds(key: str) -> Any:
    """The Python types for the type of a key in the specification."""
    if key.endswith(".type"):
        return str
    if key.endswith(("_norm", "_residual")):
        return bool
    return (int, float) if _REAL.search(key) else int


# Reading -----------------------------------------------------------------------------------------


class Metadata:
    """A file's metadata as one architecture's hyperparameters."""

    def __init__(self, metadata: Mapping[str, Any], path: str):
        self.all, self.path = metadata, path
        name = metadata.get("general.architecture")
        if not isinstance(name, str):
            raise FileFormatError(f"{path}: the metadata have no general.architecture")
        if name not in supported_architectures():
            raise UnsupportedModel(
                f"{path}: architecture {name!r} is not supported "
                f"(supported: {', '.join(supported_architectures())})"
            )
        first = next(kind for kind, entry in MODELS.items() if entry.gguf == name)
        self.model_type = config_class(first).model_type
        self.architecture = architecture_of({"model_type": first})

    def get(self, key: str, default: Any) -> Any:
        """The number or string of `<architecture>.<key>`, or the default."""
        value = self.all.get(f"{self.architecture.name}.{key}")
        if value is None:
            return default
        if isinstance(value, list):  # one for each layer
            if not value or value.count(value[0]) != len(value):
                raise self.wrong(key, f"{str(value):.60}, which differs from layer to layer")
            value = value[0]
        if isinstance(value, float):
            if not np.isfinite(value):
                raise self.wrong(key, f"{value}")
            value = shortest(value)
        if not isinstance(value, _kinds(key)) or isinstance(value, bool) != (_kinds(key) is bool):
            raise self.wrong(key, f"{value!r:.60}")
        return value

    def raw(self, key: str) -> Any:
        """The value of `<architecture>.<key>`, of any type."""
        return self.all.get(f"{self.architecture.name}.{key}")

    def wrong(self, key: str, got: str) -> FileFormatError:
        name = self.architecture.name
        return FileFormatError(f"{self.path}: {name}.{key} cannot be read here: it is {got}")


def read_config(
    metadata: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    factors: Mapping[str, np.ndarray],
    path: str,
) -> dict[str, Any]:
    """Return config.json's content for a GGUF file.

    Args:
        shapes: the shapes of all tensors in the file, by name. They determine biases, tied
            embeddings and similar options, for which the metadata have no keys.
        factors: its tensors of rotary factors.

    Raises:
        UnsupportedModel: an unknown architecture.
        FileFormatError: keys that are missing or invalid; all missing ones are listed.
    """
    source = Metadata(metadata, path)
    arch = source.architecture
    values: dict[str, Any] = {"model_type": source.model_type}
    missing = []
    for key in arch.keys:
        value = source.get(key.gguf, None)
        if value is None:
            if key.default is REQUIRED:
                missing.append(f"{arch.name}.{key.gguf}")
                continue
            value = key.default(values) if callable(key.default) and not missing else key.default
        if value is not None:
            values[key.hf] = value
    if values.get("sliding_window") == 0:
        del values["sliding_window"]  # there is none
    if missing:
        raise FileFormatError(
            f"{path}: the metadata lack {', '.join(missing)}, without which they describe no model "
            "(is it a vocabulary alone?)"
        )
    layers = source.get("block_count", 0)
    if shapes and layers > len(shapes):
        raise FileFormatError(
            f"{path}: {arch.name}.block_count says {layers:,} layers, but there are only "
            f"{len(shapes)} tensors"
        )
    for key in arch.keys:
        if key.default is REQUIRED and not values[key.hf] > 0:
            raise FileFormatError(f"{path}: {arch.name}.{key.gguf} = {values[key.hf]} is no size")
    values |= {name: _first(value) for name, value in arch.fixed.items()}
    values |= _tokens(source, shapes)
    if arch.rope:
        values |= _rope(source, values, factors)
    values["tie_word_embeddings"] = "output.weight" not in shapes
    arch.read(values, source, shapes)
    bias = getattr(config_class(values["model_type"]), "bias_fields", BiasFields()).qkv
    if isinstance(bias, str):
        values[bias] = "blk.0.attn_q.bias" in shapes
    return values


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _tokens(source: Metadata, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The vocabulary's size, and the ids of special tokens within it."""
    tokens = source.all.get("tokenizer.ggml.tokens")
    rows = shapes.get("token_embd.weight", (0,))[0]
    size = rows or source.get("vocab_size", 0) or (len(tokens) if isinstance(tokens, list) else 0)
    values: dict[str, Any] = {"vocab_size": size}
    ids = {}
    for name in ("bos", *_ENDS, "padding"):
        number = source.all.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < size:
            ids[name] = number
    ends = list(dict.fromkeys(ids[name] for name in _ENDS if name in ids))
    values["bos_token_id"] = ids.get("bos")
    values["eos_token_id"] = ends if len(ends) > 1 else ends[0] if ends else None
    values["pad_token_id"] = ids.get("padding")
    return values


def _rope(
    source: Metadata, values: Mapping[str, Any], factors: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    head = _head_dim(values)
    if head < 1:
        raise FileFormatError(
            f"{source.path}: {values['num_attention_heads']} heads do not fit a width of "
            f"{values['hidden_size']}"
        )
    try:
        found = read_rope(
            source.get,
            factors,
            theta=source.architecture.rope_theta,
            head_dim=head,
            context=values["max_position_embeddings"],
        )
    except FileFormatError as error:
        raise FileFormatError(f"{source.path}: {error}") from None
    # A file without this key rotates whole heads; config.json without it, its default part.
    part = getattr(config_class(source.model_type), "default_partial_rotary_factor", None)
    return found if part in (None, 1.0) else {"partial_rotary_factor": 1.0} | found


def _head_dim(values: Mapping[str, Any]) -> int:
    return values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"]


# Writing -----------------------------------------------------------------------------------------


def architecture_of(values: Mapping[str, Any]) -> Architecture:
    """Return the architecture for a config.json.

    Raises:
        UnsupportedModel: llama.cpp has none for the model type; the message lists the known ones.
    """
    kind = values.get("model_type")
    entry = MODELS.get(kind) if isinstance(kind, str) else None
    architecture = config_class(str(kind)).gguf if entry and entry.gguf else None
    if architecture is None:
        known = sorted(kind for kind, entry in MODELS.items() if entry.gguf)
        raise UnsupportedModel(
            f"model_type {kind!r} cannot be written as GGUF (supported: {', '.join(known)})"
        )
    return architecture


def supported_architectures() -> list[str]:
    """Return the names of the supported architectures, sorted."""
    return sorted({entry.gguf for entry in MODELS.values() if entry.gguf})


def write_config(
    values: Mapping[str, Any],
    windows: Sequence[int | None],
    rotary_kinds: Sequence[str | None] = (),
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the metadata for a complete config.json, and tensors of rotary factors.

    Args:
        values: config.json's content with all defaults filled in, from `ModelConfig.to_hf`.
        windows: each layer's window in tokens; None: all tokens.
        rotary_kinds: each layer's kind of rotary positions; None: no positions.

    Raises:
        UnsupportedModel: a model type, or settings, that GGUF cannot express; all are listed.
    """
    arch = architecture_of(values)
    problems = [
        f"{name} = {values[name]!r}; as {arch.name} it must be {_first(allowed)!r}"
        for name, allowed in arch.fixed.items()
        if name in values and not _allowed(values[name], allowed)
    ]
    keys: dict[str, Any] = {"vocab_size": values["vocab_size"], **arch.constants}
    for key in arch.keys:
        value = values.get(key.hf)
        if value is None and callable(key.default):
            value = key.default(values)
        if value is not None:
            keys[key.gguf] = float(value) if _REAL.search(key.gguf) else value
    tensors: dict[str, np.ndarray] = {}
    if arch.rope:
        head = _head_dim(values)
        context = values["max_position_embeddings"]
        found, tensors = write_rope(
            _global_rope(values), theta=arch.rope_theta, head_dim=head, context=context
        )
        keys |= found
        if arch.paired and keys["rope.dimension_count"] != head:
            problems.append(
                f"partial_rotary_factor = {keys['rope.dimension_count'] / head:g}; as {arch.name} "
                "whole heads are rotated"
            )
    if "attention.key_length" in keys:
        keys["attention.value_length"] = keys["attention.key_length"]
    problems += arch.write(values, keys) + _write_windows(arch, windows, keys)
    problems += _no_rope_problems(arch, rotary_kinds)
    if problems:
        raise UnsupportedModel(
            f"this {values['model_type']} cannot be expressed in GGUF:\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
    metadata: dict[str, Any] = {"general.architecture": arch.name, "general.type": "model"}
    metadata |= {f"{arch.name}.{key}": value for key, value in keys.items()}
    return metadata, tensors


def special_ids(config: Mapping[str, Any], tokenizer_eos: int | None = None) -> dict[str, int]:
    """Return the metadata of the special tokens in config.json.

    Args:
        tokenizer_eos: the tokenizer's EOS, which then comes first. In chat models it may differ
            from the config's.
    """
    ends = config.get("eos_token_id")
    ends = [tokenizer_eos, *(ends if isinstance(ends, list) else [ends])]
    ends = list(dict.fromkeys(number for number in ends if number is not None))
    numbers = dict(zip(_ENDS, ends, strict=False))
    numbers |= {"bos": config.get("bos_token_id"), "padding": config.get("pad_token_id")}
    return {
        f"tokenizer.ggml.{name}_token_id": number
        for name, number in numbers.items()
        if isinstance(number, int) and number >= 0
    }


def _allowed(value: Any, allowed: Any) -> bool:
    return value in allowed if isinstance(allowed, tuple) else value == allowed


def _global_rope(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with only the rotary parameters of Gemma 3's global layers."""
    nested = (values.get("rope_parameters") or {}).get(_FULL)
    if nested is None:
        return dict(values)
    outer = ("rope_scaling", "rope_theta", "rope_parameters")
    return {k: v for k, v in values.items() if k not in outer} | {"rope_parameters": nested}


def _no_rope_problems(arch: Architecture, rotary_kinds: Sequence[str | None]) -> list[str]:
    """Return the errors if other layers lack rotary positions than llama.cpp assumes."""
    bare = [layer for layer, kind in enumerate(rotary_kinds) if kind is None]
    period = arch.no_rope_period or len(rotary_kinds) + 1
    usual = [layer for layer in range(len(rotary_kinds)) if (layer + 1) % period == 0]
    if bare == usual:
        return []
    return [f"no_rope_layers leave layers {bare} without positions; as {arch.name}, {usual} are"]


def _write_windows(
    arch: Architecture, windows: Sequence[int | None], keys: dict[str, Any]
) -> list[str]:
    """Add the layers with a window, and its size; return settings that GGUF cannot express.

    llama.cpp reads this for Gemma and Phi-3, and assumes global layers for all others.
    """
    keys.pop("attention.sliding_window", None)
    sizes = {size for size in windows if size is not None}
    if not sizes and arch.window_period is None:
        return []
    if len(sizes) > 1:
        return [f"windows of several sizes: {sorted(sizes)}"]
    sliding = [size is not None for size in windows]
    if sizes:
        keys["attention.sliding_window"] = sizes.pop()
    if arch.one_window:
        return [] if all(sliding) else ["windows in some of its layers"]
    period = arch.window_period
    if period is None or sliding != [(n + 1) % period != 0 for n in range(len(sliding))]:
        keys[WINDOW_PATTERN] = sliding
    return []
