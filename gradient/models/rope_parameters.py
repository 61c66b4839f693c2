"""config.json's keys for rotary positions: two dialects are converted to one, and checked.

transformers 5 writes {"rope_parameters": {"rope_type", "rope_theta", ...}}. Earlier versions wrote
"rope_theta", "partial_rotary_factor" and, beside them, "rope_scaling": null or {"type" or
"rope_type", ...}. Configs here have the first form; `old_dialect` converts it to the second, for
other readers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradient.checks import Limit, Limits, Relation, one_of, optional, problems
from gradient.models.rope import ROPE_TYPES, rotary_dim

#: Keys beside `rope_scaling`.
_OUTER = ("rope_theta", "partial_rotary_factor")
#: Types whose frequencies depend on the context of the model's first training.
_WITH_ORIGINAL_CONTEXT = ("llama3", "longrope", "yarn")
#: Required and optional keys beyond the base; all are positive numbers.
_REQUIRED = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
_OPTIONAL = {
    "yarn": ("factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"),
    "longrope": ("factor", "attention_factor"),
}


def gathered(values: dict[str, Any]) -> dict[str, Any]:
    """Return config.json's content with all keys for positions in `rope_parameters`.

    Keys inside the dict precede those beside it.
    """
    values = dict(values)
    outer = {key: values.pop(key, None) for key in _OUTER}
    inner = values.pop("rope_scaling", None) or values.get("rope_parameters") or {}
    if isinstance(inner, dict):  # if not, the config's type check reports it
        inner = {**{key: value for key, value in outer.items() if value is not None}, **inner}
    return values | {"rope_parameters": inner}


def settled(
    parameters: dict[str, Any],
    *,
    theta: float,
    max_position_embeddings: int,
    original: int | None = None,
) -> dict[str, Any]:
    """Return rope parameters with their type, base and original context filled in.

    Args:
        theta: the architecture's default base.
        original: the context of the first training, where the config has it beside the parameters;
            it comes before the one inside them, as in transformers.
    """
    parameters = {key: value for key, value in parameters.items() if value is not None}
    old_name = parameters.pop("type", None)
    rope_type = parameters.get("rope_type") or old_name or "default"
    parameters["rope_type"] = "longrope" if rope_type == "su" else rope_type  # its first name
    parameters.setdefault("rope_theta", theta)
    if parameters["rope_type"] in _WITH_ORIGINAL_CONTEXT:
        key = "original_max_position_embeddings"
        parameters[key] = original or parameters.get(key) or max_position_embeddings
    return parameters


def scaled_context_length(max_position_embeddings: int, parameters: Any) -> int:
    """Return the context length of a rotary model, including its scaling of positions.

    With "linear" and "dynamic" scaling `max_position_embeddings` is the first training's length,
    with "yarn" it is in the parameters; it is multiplied by the factor. Others give
    the final length.
    """
    if not isinstance(parameters, dict) or any(isinstance(p, dict) for p in parameters.values()):
        return max_position_embeddings  # only some layers are scaled; the number is for all
    rope_type, factor = parameters.get("rope_type"), parameters.get("factor") or 1
    first = {
        "linear": max_position_embeddings,
        "dynamic": max_position_embeddings,
        "yarn": parameters.get("original_max_position_embeddings") or 0,
    }.get(rope_type if isinstance(rope_type, str) else "", 0)
    if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in (first, factor)):
        return max_position_embeddings  # `rope_problems` reports the error
    return max(max_position_embeddings, int(first * factor))


def old_dialect(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the keys for readers of the old dialect, such as transformers before 5."""
    outer = {key: parameters[key] for key in _OUTER if key in parameters}
    inner = {key: value for key, value in parameters.items() if key not in _OUTER}
    return outer | {"rope_scaling": None if inner == {"rope_type": "default"} else inner}


def rope_problems(parameters: dict[str, Any], head_dim: int) -> list[str]:
    """Return the errors in settled parameters, one sentence each; [] if there are none."""
    rope_type = parameters["rope_type"]
    if found := problems(parameters, {"rope_type": one_of(*ROPE_TYPES)}):
        return found
    if nested := [key for key, value in parameters.items() if isinstance(value, dict)]:
        return [
            f"rope_parameters: this architecture has one kind of positions for all layers, got "
            f"some for {', '.join(nested)}"
        ]
    needed = ["rope_theta", *_REQUIRED.get(rope_type, ())]
    if rope_type in _WITH_ORIGINAL_CONTEXT:
        needed.append("original_max_position_embeddings")
    limits = dict.fromkeys(needed, _LOGARITHM if rope_type in ("yarn", "longrope") else _POSITIVE)
    for key in ("partial_rotary_factor", *_OPTIONAL.get(rope_type, ())):
        limits[key] = optional(_POSITIVE_OR_0 if "mscale" in key else _POSITIVE)
    return _wrong(parameters, limits) or _misfits(parameters, head_dim)


def _misfits(p: dict[str, Any], head_dim: int) -> list[str]:
    """Return errors of numbers that are valid alone, but not together."""
    rope_type, dim = p["rope_type"], rotary_dim(p, head_dim)
    pairs = (dim + 1) // 2
    if not 1 <= dim <= 2 * pairs <= head_dim:
        return [
            f"head_dim = {head_dim} with partial_rotary_factor = "
            f"{p.get('partial_rotary_factor', 1.0)}: the columns to rotate must make pairs"
        ]
    if rope_type == "dynamic" and dim <= 2:
        return [f"rope_parameters: dynamic needs more than 2 columns to rotate, got {dim}"]
    if rope_type == "longrope":
        expected = f"{pairs} positive numbers, one for each pair of columns"
        factors = Limit(expected, lambda values: _are_positive(values, pairs))
        return _wrong(p, {"short_factor": factors, "long_factor": factors})
    return _wrong(p, {}, _RELATIONS.get(rope_type, ()))


def _wrong(p: dict[str, Any], limits: Limits, relations: Sequence[Relation] = ()) -> list[str]:
    values = dict.fromkeys(limits) | p
    found = problems(values, limits, relations)
    return [f"rope_parameters of type {p['rope_type']!r}: {problem}" for problem in found]


def _is_positive(value: Any) -> bool:
    """Return whether a JSON value is a positive number within float32's range."""
    return isinstance(value, int | float) and value is not True and 1e-30 < value < 1e30


def _are_positive(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(map(_is_positive, values))


_POSITIVE = Limit("a positive number", _is_positive)
_POSITIVE_OR_0 = Limit("a number of at least 0", lambda value: value == 0 or _is_positive(value))
#: For numbers whose logarithm is a divisor.
_LOGARITHM = Limit("a positive number other than 1", lambda n: _is_positive(n) and n != 1)
_RELATIONS = {
    "llama3": [
        Relation(
            ("low_freq_factor", "high_freq_factor"),
            lambda low, high: high > low,
            "high_freq_factor must be above low_freq_factor = {low_freq_factor}, "
            "got {high_freq_factor}",
        )
    ]
}
