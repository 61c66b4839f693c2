"""The sampling options that a model's authors recommend, in its generation_config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from gradient.generation.declared import declared
from gradient.generation.options import SamplingOptions

#: Options that have the same name and meaning in generation_config.json, whether or not it samples.
ALWAYS = ("repetition_penalty", "no_repeat_ngram_size")
#: Options that have the same name there, and are used only if `do_sample` is true.
SAMPLING = tuple(name for name, option in declared(SamplingOptions).items() if option.sampling)


def recommended(generation_config: Mapping[str, Any]) -> SamplingOptions:
    """Return the options in generation_config.json; empty if it has none.

    Without its `do_sample` the other sampling options have no effect, as in transformers. With it,
    the temperature is 1 by default.
    """
    named: tuple[str, ...] = ALWAYS
    found: dict[str, Any] = {}
    if generation_config.get("do_sample"):
        named += SAMPLING
        found["temperature"] = 1.0
    found |= {name: generation_config[name] for name in named if generation_config.get(name)}
    return cast("SamplingOptions", found)
