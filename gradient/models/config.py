"""Model configurations: dataclasses whose fields are the keys of a checkpoint's config.json.

A config class lists what its architecture understands, with the defaults that transformers uses, so
that a sparse config.json means here what it means there. Keys that the class does not know are
kept in `extra` and written back by `to_hf`: loading a checkpoint and saving it loses nothing.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from operator import attrgetter
from typing import Any, ClassVar, Self, dataclass_transform

from gradient.checks import Limit, Relation
from gradient.checks import problems as beyond_limits
from gradient.errors import FileFormatError
from gradient.models.activations import ACTIVATIONS
from gradient.models.gguf import Architecture

__all__ = ["ModelConfig"]

CONFIG_NAME = "config.json"


# ---- fields with limits -------------------------------------------------------------------------


def limited(default: Any, expected: str, holds: Callable[[Any], bool]) -> Any:
    """Return a dataclass field whose value "must be <expected>"; None passes if its type allows."""
    limit = Limit(expected, lambda value: value is None or holds(value))
    return field(default=default, metadata={"limit": limit})


def size(default: Any) -> Any:
    """Return a field for a size: an integer of at least 1."""
    return limited(default, "at least 1", lambda value: 1 <= value < 2**63)


def probability(default: Any) -> Any:
    """Return a field for a probability of dropping something."""
    return limited(default, "a probability below 1", lambda value: 0 <= value < 1)


def positive(default: Any) -> Any:
    """Return a field for a number above 0."""
    return limited(default, "positive", lambda value: value > 0)


def activation(default: Any) -> Any:
    """Return a field for the name of an activation function."""
    expected = "one of " + ", ".join(ACTIVATIONS)
    return limited(default, expected, lambda value: value in ACTIVATIONS)


def constant(value: Any) -> Any:
    """Return a value that a subclass may have as a field, or by `same_as`."""
    return value


def false(why: str) -> Any:
    """Return a field that must be false."""
    return limited(False, f"false: {why}", lambda value: not value)


def same_as(name: str) -> Any:
    """Return a property with the value of another field, for a family's own name of a setting."""
    return property(attrgetter(name))


def heads_problems(
    config: Any, width: str = "hidden_size", heads: str = "num_attention_heads"
) -> list[str]:
    """Return what is wrong where a field `heads` does not divide a field `width`, or an alias."""
    width, heads = (config.aliases.get(name, name) for name in (width, heads))
    sizes = getattr(config, width), getattr(config, heads)
    if sizes[0] % sizes[1] == 0:
        return []
    return [f"{heads} = {sizes[1]} must divide {width} = {sizes[0]}"]


# ---- configurations -----------------------------------------------------------------------------


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class _Dataclass:
    """Makes its subclasses dataclasses, whose fields are given by name."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclass(kw_only=True)(cls)


class ModelConfig(_Dataclass):
    """Base of all model configs: token ids, tied embeddings, and reading config.json.

    A subclass is a dataclass. It sets `model_type` and adds its fields, each with its limit
    (`size`, `probability` ...). `relations` are conditions on several fields, added to those of its
    bases, and `problems` returns further errors. If published files of the family use a key in
    different ways, `from_hf` converts them to one.
    """

    #: The family's own name; a checkpoint that uses the same class under another ("mistral", read
    #: as LLaMA) keeps its name in `extra`.
    model_type: ClassVar[str] = ""
    #: Other names of a field, as transformers' `attribute_map` has them: {alias: field}. Files may
    #: use them, and they are attributes.
    aliases: ClassVar[dict[str, str]] = {}
    #: What llama.cpp calls its parts; None: GGUF has no word for it.
    gguf: ClassVar[Architecture | None] = None
    relations: ClassVar[tuple[Relation, ...]] = ()

    vocab_size: int = size(MISSING)
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    tie_word_embeddings: bool = True
    initializer_range: float = limited(
        0.02, "a finite number of at least 0", lambda value: 0 <= value < math.inf
    )
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = wrong_types(self) or beyond_limits(self) or self.problems()
        if problems:
            raise FileFormatError(
                f"{type(self).__name__} ({self.model_type!r}) does not describe a model:\n"
                + "\n".join(f"  {problem}" for problem in problems)
            )

    def __getattr__(self, name: str) -> Any:
        field = type(self).aliases.get(name)
        if field is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self, field)

    def problems(self) -> list[str]:
        """Return the values that cannot be combined, one sentence for each problem.

        It is called after the types and limits of all values were checked.
        """
        return []

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Return the ids that end a text; config.json may name none, one, or a list."""
        eos = self.eos_token_id
        return frozenset(() if eos is None else eos if isinstance(eos, list) else [eos])

    @classmethod
    def from_hf(cls, values: dict[str, Any]) -> Self:
        """Build the config from config.json's content (a dict).

        Raises:
            FileFormatError: values have a wrong type or are out of range; the message lists all.
        """
        known = {f.name for f in dataclasses.fields(cls)} - {"extra"}
        values = {cls.aliases.get(key, key): value for key, value in values.items()}
        if values.get("model_type") in (None, cls.model_type):
            values.pop("model_type", None)
        extra = {key: value for key, value in values.items() if key not in known}
        return cls(**{key: value for key, value in values.items() if key in known}, extra=extra)

    def to_hf(self) -> dict[str, Any]:
        """Return config.json's content: every field, and the unknown keys that were read."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        extra = values.pop("extra")
        return {"model_type": self.model_type, **extra, **values}


class DecoderConfig(ModelConfig):
    """Base of decoders' configs: the properties that the KV cache, the embedding and the memory
    estimate need.

    A subclass has the fields `hidden_size`, `num_hidden_layers` and `num_attention_heads`, or
    aliases of those names.
    """

    #: Whether the language-model head adds a bias.
    head_bias: ClassVar[bool] = False
    #: Whether the heads divide the hidden size among themselves.
    heads_divide_hidden_size: ClassVar[bool] = True

    def problems(self) -> list[str]:
        problems = heads_problems(self) if self.heads_divide_hidden_size else []
        return problems or heads_problems(self, "num_attention_heads", "kv_heads")

    @property
    def kv_heads(self) -> int:
        """Return H_kv; each of these heads serves H / H_kv query heads."""
        return self.num_attention_heads

    @property
    def head_size(self) -> int:
        """Return D."""
        return self.hidden_size // self.num_attention_heads

    @property
    def embedding_size(self) -> int:
        """Return the length of a row of the embedding, and of the head."""
        return self.hidden_size

    @property
    def windows(self) -> list[int | None]:
        """Return each layer's attention window, including the token itself; None: all tokens."""
        return [getattr(self, "sliding_window", None)] * self.num_hidden_layers

    @property
    def padding_idx(self) -> int | None:
        """Return the token whose embedding is not trained, as in transformers."""
        pad, V = self.pad_token_id, self.vocab_size
        return None if pad is None or not -V <= pad < V else pad


class EncoderConfig(ModelConfig):
    """Base of encoders' configs; fields or aliases as in `DecoderConfig`."""

    pad_token_id: int | None = 0

    relations: ClassVar[tuple[Relation, ...]] = (
        Relation(
            ("pad_token_id", "vocab_size"),
            lambda pad, vocabulary: pad is None or 0 <= pad < vocabulary,
            "pad_token_id must be a token below {vocab_size}, got {pad_token_id}",
        ),
    )

    def problems(self) -> list[str]:
        return heads_problems(self)


# ---- types --------------------------------------------------------------------------------------


def wrong_types(config: Any) -> list[str]:
    """Return "name must be <type>, got <value>" for each dataclass field of a wrong type.

    An int passes for a float, as JSON does not tell 0 from 0.0; a bool passes for neither.
    """
    hints = typing.get_type_hints(type(config))
    types = {f.name: _type(hints[f.name]) for f in dataclasses.fields(config)}
    return beyond_limits(config, types, relations=())


def _type(hint: Any) -> Limit:
    name = hint.__name__ if isinstance(hint, type) else str(hint)
    return Limit(name, lambda value: _is_a(value, hint))


def _is_a(value: Any, hint: Any) -> bool:
    """Return whether a JSON value is of the type that an annotation names."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is_a(value, member) for member in typing.get_args(hint))
    if origin is list:
        (member,) = typing.get_args(hint)
        return isinstance(value, list) and all(_is_a(item, member) for item in value)
    if origin is dict:
        return isinstance(value, dict)
    if hint is Any:
        return True
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
