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
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from gradient.errors import FileFormatError

CONFIG_NAME = "config.json"


@dataclass(kw_only=True)
class ModelConfig:
    """What every architecture's configuration shares: tokens, tying, and reading config.json.

    A subclass sets `model_type`, adds its fields, states their limits in `problems`, and, where
    published files of its family disagree about a key, settles the dialect in `from_hf`.
    """

    #: The family's own name; a checkpoint that uses the same class under another ("mistral", read
    #: as LLaMA) keeps its name in `extra`.
    model_type: ClassVar[str] = ""
    #: Other spellings of a field, as transformers' `attribute_map` has them: {alias: field}.
    aliases: ClassVar[dict[str, str]] = {}

    vocab_size: int
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = wrong_types(self) or self.problems()
        if problems:
            raise FileFormatError(
                f"{type(self).__name__} ({self.model_type!r}) does not describe a model:\n"
                + "\n".join(f"  {problem}" for problem in problems)
            )

    def problems(self) -> list[str]:
        """Return everything that is wrong with the values, one sentence each; empty if nothing is.

        A subclass appends its own to `super().problems()`, and may take types for granted: they
        have been checked.
        """
        found = must_be("at least 1", lambda value: value >= 1, vocab_size=self.vocab_size)
        return found + must_be(
            "a finite number of at least 0",
            lambda value: 0 <= value < math.inf,
            initializer_range=self.initializer_range,
        )

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Return the ids that end a text; config.json may name none, one, or a list."""
        eos = self.eos_token_id
        return frozenset(() if eos is None else eos if isinstance(eos, list) else [eos])

    @classmethod
    def from_hf(cls, values: dict[str, Any]) -> Self:
        """Build the config from config.json's content (a dict).

        Raises:
            FileFormatError: all values of a wrong type or out of range, listed together.
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


def must_be(what: str, holds: Callable[[Any], bool], **values: Any) -> list[str]:
    """Return "name must be <what>, got <value>" for each of `values` that `holds` refuses."""
    return [f"{k} must be {what}, got {v!r}" for k, v in values.items() if not holds(v)]


def wrong_types(config: Any) -> list[str]:
    """Return "name must be <type>, got <value>" for each dataclass field of a wrong type.

    An int passes for a float, as JSON does not tell 0 from 0.0; a bool passes for neither.
    """
    hints = typing.get_type_hints(type(config))
    found = []
    for f in dataclasses.fields(config):
        value, hint = getattr(config, f.name), hints[f.name]
        if not _is_a(value, hint):
            name = hint.__name__ if isinstance(hint, type) else str(hint)
            found.append(f"{f.name} must be {name}, got {value!r}")
    return found


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
