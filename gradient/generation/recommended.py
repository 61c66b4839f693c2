"""The sampling options in a model's generation_config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from gradient.generation.declared import declared
from gradient.generation.options import SamplingOptions

#: What they are called there is what they are called here.
ALWAYS = ("repetition_penalty", "no_repeat_ngram_size")
SAMPLING = tuple(name for name, option in declared(SamplingOptions).items() if option.sampling)


def recommended(generation_config: Mapping[str, Any]) -> SamplingOptions:
    """Return the options in generation_config.json; empty if it has none.

    Its `do_sample` says whether to draw at random; without it the other sampling options mean
    nothing, as in transformers. Where it is set, a temperature that is not given is 1.
    """
    named: tuple[str, ...] = ALWAYS
    found: dict[str, Any] = {}
    if generation_config.get("do_sample"):
        named += SAMPLING
        found["temperature"] = 1.0
    found |= {name: generation_config[name] for name in named if generation_config.get(name)}
    return cast("SamplingOptions", found)
