"""Converts rotary positions to GGUF's metadata and tensors of factors, and back.

llama.cpp has three ways to extend positions by keys alone (none, linear, yarn). For LLaMA 3.1's
and LongRoPE it reads a divisor of each frequency's angle from a tensor:
`rope_freqs.weight`, or `rope_factors_short.weight` and `rope_factors_long.weight`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradient.errors import FileFormatError, UnsupportedModel
from gradient.models.rope import longrope_attention_factor, yarn_mscale
from gradient.models.rope_parameters import gathered, settled

FREQS, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
TENSORS = (FREQS, LONG, SHORT)
_ORIGINAL = "original_max_position_embeddings"


# Reading -----------------------------------------------------------------------------------------


def read_rope(
    get: Callable[..., Any],
    factors: Mapping[str, np.ndarray],
    *,
    theta: float,
    head_dim: int,
    context: int,
) -> dict[str, Any]:
    """Return config.json's keys for positions: rope_theta, rope_scaling, partial_rotary_factor.

    Args:
        get: `get(key, default)` reads the architecture's metadata.
        factors: the file's tensors of factors, in float32.
        theta: the default base.
    """
    theta = get("rope.freq_base", theta)
    values: dict[str, Any] = {"rope_theta": theta}
    dim = get("rope.dimension_count", head_dim)
    if not 1 <= dim <= head_dim:
        raise FileFormatError(f"rope.dimension_count = {dim} does not fit heads of {head_dim}")
    if dim != head_dim:
        values["partial_rotary_factor"] = _ratio(dim, head_dim)
    original = get("rope.scaling.original_context_length", None)
    scaling = None
    kind = get("rope.scaling.type", None)
    factor = get("rope.scaling.factor", 0.0) or get("rope.scale_linear", 0.0)
    attention = get("rope.scaling.attn_factor", None) or get("rope.scaling.yarn_attn_factor", None)
    if LONG in factors and SHORT in factors:
        original = original or context
        scaling = {
            "rope_type": "longrope",
            "short_factor": _numbers(factors[SHORT]),
            "long_factor": _numbers(factors[LONG]),
            _ORIGINAL: original,
        }
        usual = longrope_attention_factor(context / original, original)
        if attention is not None and not _same(attention, usual):
            scaling["attention_factor"] = attention
    elif FREQS in factors and (factors[FREQS] != 1).any():
        # LongRoPE with one set of factors is the same, in transformers too.
        scaling = {
            "rope_type": "longrope",
            "short_factor": _numbers(factors[FREQS]),
            "long_factor": _numbers(factors[FREQS]),
            "attention_factor": 1.0,
            _ORIGINAL: original or context,
        }
    elif kind == "yarn":
        factor = factor or 1.0
        scaling = {"rope_type": "yarn", "factor": factor, _ORIGINAL: original or context}
        if attention is not None and attention != 1:
            scaling["attention_factor"] = shortest(attention * yarn_mscale(factor))
        for name in ("beta_fast", "beta_slow"):
            if (beta := get(f"rope.scaling.yarn_{name}", None)) is not None:
                scaling[name] = beta
    elif kind in (None, "linear", "none", "longrope"):
        if factor not in (0.0, 1.0) and kind != "none":
            scaling = {"rope_type": "linear", "factor": factor}
    else:
        raise FileFormatError(
            f"rope.scaling.type is {kind!r}; expected none, linear, yarn or longrope"
        )
    return values | {"rope_scaling": scaling}


# Writing -----------------------------------------------------------------------------------------


def write_rope(
    values: Mapping[str, Any], *, theta: float, head_dim: int, context: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the metadata, without the architecture's name, and the tensors of factors.

    Args:
        values: config.json's content, in either dialect.
        theta: the architecture's default base.

    Raises:
        UnsupportedModel: a rope type that GGUF cannot express.
    """
    p = settled(
        gathered(dict(values))["rope_parameters"],
        theta=theta,
        max_position_embeddings=context,
        original=values.get(_ORIGINAL),
    )
    dim = int(head_dim * p.get("partial_rotary_factor", 1.0))
    keys: dict[str, Any] = {
        "rope.dimension_count": dim,
        "rope.freq_base": float(p["rope_theta"]),
    }
    tensors: dict[str, np.ndarray] = {}
    kind = p["rope_type"]
    if kind == "linear":
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(p["factor"])}
    elif kind == "yarn":
        keys |= _yarn_keys(p, context)
    elif kind == "llama3":
        keys["rope.scaling.original_context_length"] = p[_ORIGINAL]
        tensors[FREQS] = llama3_factors(p, p["rope_theta"], dim)
    elif kind == "longrope":
        short, long = (np.asarray(p[f"{name}_factor"], np.float32) for name in ("short", "long"))
        keys["rope.scaling.original_context_length"] = p[_ORIGINAL]
        attention = p.get("attention_factor")
        if attention is None:
            factor = p.get("factor") or context / p[_ORIGINAL]
            attention = longrope_attention_factor(factor, p[_ORIGINAL])
        if attention == 1 and (short == long).all():
            tensors[FREQS] = short
        else:
            keys["rope.scaling.type"] = "longrope"
            keys["rope.scaling.attn_factor"] = float(attention)
            tensors |= {LONG: long, SHORT: short}
    elif kind != "default":
        raise UnsupportedModel(
            f"rope_type {kind!r} cannot be expressed in GGUF; default, linear, yarn, llama3 and "
            "longrope can"
            + (
                ". Without rope_scaling the model is the same up to max_position_embeddings tokens"
                if kind == "dynamic"
                else ""
            )
        )
    return keys, tensors


def llama3_factors(p: Mapping[str, Any], theta: float, dim: int) -> np.ndarray:
    """Return the divisor of each frequency in LLaMA 3.1's scaling: (dim / 2,) float32."""
    frequencies = 1.0 / theta ** (np.arange(0, dim, 2) / dim)
    turns = p[_ORIGINAL] * frequencies / (2 * math.pi)
    low, high = p["low_freq_factor"], p["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / p["factor"] + smooth)).astype(np.float32)


def _yarn_keys(p: Mapping[str, Any], context: int) -> dict[str, Any]:
    if not p.get("truncate", True):
        raise UnsupportedModel("rope_type 'yarn' with truncate = false is not in GGUF")
    factor = p.get("factor") or context / p[_ORIGINAL]
    keys = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": float(factor),
        "rope.scaling.original_context_length": p[_ORIGINAL],
    }
    attention = p.get("attention_factor")
    if attention is None and p.get("mscale") and p.get("mscale_all_dim"):
        attention = yarn_mscale(factor, p["mscale"]) / yarn_mscale(factor, p["mscale_all_dim"])
    if attention is not None:  # llama.cpp multiplies by YaRN's own in any case
        keys["rope.scaling.attn_factor"] = float(attention / yarn_mscale(factor))
    for name in ("beta_fast", "beta_slow"):
        if p.get(name) is not None:
            keys[f"rope.scaling.yarn_{name}"] = float(p[name])
    return keys


# Both --------------------------------------------------------------------------------------------


def shortest(value: float) -> float:
    """Return the shortest decimal that rounds to this float32: probably the original value."""
    narrow = np.float32(value)
    return float(str(narrow)) if narrow == value else value


def _numbers(array: np.ndarray) -> list[float]:
    return [shortest(value) for value in array.ravel()]


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * abs(b)


def _ratio(part: int, whole: int) -> float:
    """Return a float that gives `part` when multiplied by `whole` and truncated to an integer."""
    ratio = part / whole
    return ratio if int(whole * ratio) == part else math.nextafter(ratio, 1.0)
