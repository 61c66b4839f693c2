"""Rotary positions in GGUF's terms, and back: keys of the metadata, and tensors of factors.

llama.cpp knows three ways to stretch positions by keys alone (none, linear, yarn). For LLaMA 3.1's
and LongRoPE it takes a factor for each frequency, by which the angle is divided, from a tensor:
`rope_freqs.weight`, or `rope_factors_short.weight` and `rope_factors_long.weight`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradient.errors import FileFormatError, UnsupportedModel
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
    """Return what config.json says of positions: rope_theta, rope_scaling, partial_rotary_factor.

    Args:
        get: `get(key, default)` is the architecture's metadata.
        factors: the tensors of factors that the file has, in float32.
        theta: the base where the file has none.
    """
    theta = get("rope.freq_base", theta)
    values: dict[str, Any] = {"rope_theta": theta}
    turned = get("rope.dimension_count", head_dim)
    if not 1 <= turned <= head_dim:
        raise FileFormatError(f"rope.dimension_count = {turned} does not fit heads of {head_dim}")
    if turned != head_dim:
        values["partial_rotary_factor"] = _ratio(turned, head_dim)
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
        if attention is not None and not _same(attention, longrope_attention(context, original)):
            scaling["attention_factor"] = attention
    elif FREQS in factors and (factors[FREQS] != 1).any():
        scaling = _llama3_of(factors[FREQS], theta, turned, original) or {
            # LongRoPE with one set of factors says just that, to transformers too.
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
            scaling["attention_factor"] = shortest(attention * yarn_attention(factor))
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


def _llama3_of(
    factors: np.ndarray, theta: float, turned: int, original: int | None
) -> dict[str, Any] | None:
    """The parameters of LLaMA 3.1's scaling that give exactly these factors; None if none do.

    With t turns in the original context C, a frequency f has t = C f / 2 pi, and its factor is
    1 / ((1 - s) / F + s) where s = (t - low) / (high - low), clipped to [0, 1]. So F is the largest
    factor, and s is a straight line over f. C, low and high follow from it up to a common scale;
    Meta's are 8192, 1 and 4, and a file that we write tells C.
    """
    frequencies = 1.0 / theta ** (np.arange(0, turned, 2) / turned)
    if factors.shape != frequencies.shape or not np.isfinite(factors).all():
        return None
    largest = shortest(float(factors.max()))
    if largest <= 1 or factors.min() < 1:
        return None
    smooth = (1 / factors.astype(np.float64) - 1 / largest) / (1 - 1 / largest)
    between = (smooth > 1e-4) & (smooth < 1 - 1e-4)
    bands = [(1.0, 4.0)]
    contexts = [original] if original else [8192]
    if between.sum() >= 2:
        slope, start = np.polyfit(frequencies[between], smooth[between], 1)
        for context in contexts:
            width = context / (2 * math.pi * slope)  # high - low
            low = -start * width
            bands.append((_rounded(low), _rounded(low + width)))
    for context in contexts:
        for low, high in bands:
            found = {
                "rope_type": "llama3",
                "factor": largest,
                "low_freq_factor": low,
                "high_freq_factor": high,
                _ORIGINAL: context,
            }
            if low < high and np.allclose(
                llama3_factors(found, theta, turned), factors, rtol=2e-6, atol=0
            ):
                return found
    return None


def llama3_factors(p: Mapping[str, Any], theta: float, turned: int) -> np.ndarray:
    """Return what LLaMA 3.1's scaling divides each frequency by: (turned / 2,) float32."""
    frequencies = 1.0 / theta ** (np.arange(0, turned, 2) / turned)
    turns = p[_ORIGINAL] * frequencies / (2 * math.pi)
    low, high = p["low_freq_factor"], p["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / p["factor"] + smooth)).astype(np.float32)


# Writing -----------------------------------------------------------------------------------------


def write_rope(
    values: Mapping[str, Any], *, theta: float, head_dim: int, context: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the metadata, without the architecture's name, and the tensors of factors.

    Args:
        values: config.json's content, in either dialect.
        theta: the architecture's base where `values` have none.

    Raises:
        UnsupportedModel: a rope type that GGUF has no words for.
    """
    p = settled(
        gathered(dict(values))["rope_parameters"],
        theta=theta,
        max_position_embeddings=context,
        original=values.get(_ORIGINAL),
    )
    turned = int(head_dim * p.get("partial_rotary_factor", 1.0))
    keys: dict[str, Any] = {
        "rope.dimension_count": turned,
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
        tensors[FREQS] = llama3_factors(p, p["rope_theta"], turned)
    elif kind == "longrope":
        short, long = (np.asarray(p[f"{name}_factor"], np.float32) for name in ("short", "long"))
        keys["rope.scaling.original_context_length"] = p[_ORIGINAL]
        attention = p.get("attention_factor")
        if attention is None:
            stretched = p["factor"] * p[_ORIGINAL] if p.get("factor") else context
            attention = longrope_attention(stretched, p[_ORIGINAL])
        if attention == 1 and (short == long).all():
            tensors[FREQS] = short
        else:
            keys["rope.scaling.type"] = "longrope"
            keys["rope.scaling.attn_factor"] = float(attention)
            tensors |= {LONG: long, SHORT: short}
    elif kind != "default":
        raise UnsupportedModel(
            f"rope_type {kind!r} cannot be said in GGUF; default, linear, yarn, llama3 and "
            "longrope can"
            + (
                ". Without rope_scaling the model is the same up to max_position_embeddings tokens"
                if kind == "dynamic"
                else ""
            )
        )
    return keys, tensors


def _yarn_keys(p: Mapping[str, Any], context: int) -> dict[str, Any]:
    if not p.get("truncate", True):
        raise UnsupportedModel("rope_type 'yarn' with truncate = false cannot be said in GGUF")
    factor = p.get("factor") or context / p[_ORIGINAL]
    keys = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": float(factor),
        "rope.scaling.original_context_length": p[_ORIGINAL],
    }
    attention = p.get("attention_factor")
    if attention is None and p.get("mscale") and p.get("mscale_all_dim"):
        attention = yarn_attention(factor, p["mscale"]) / yarn_attention(
            factor, p["mscale_all_dim"]
        )
    if attention is not None:  # llama.cpp multiplies by YaRN's own all the same
        keys["rope.scaling.attn_factor"] = float(attention / yarn_attention(factor))
    for name in ("beta_fast", "beta_slow"):
        if p.get(name) is not None:
            keys[f"rope.scaling.yarn_{name}"] = float(p[name])
    return keys


# Both --------------------------------------------------------------------------------------------


def yarn_attention(factor: float, weight: float = 1.0) -> float:
    """Return YaRN's factor of queries and keys (Peng et al. 2023, section 3.4)."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def longrope_attention(context: float, original: float) -> float:
    """Return LongRoPE's factor of queries and keys, as Phi-3's reference code has it."""
    grown = context / original
    return math.sqrt(1 + math.log(grown) / math.log(original)) if grown > 1 else 1.0


def shortest(value: float) -> float:
    """Return the shortest decimal that is this float32: what was meant before it was rounded."""
    narrow = np.float32(value)
    return float(str(narrow)) if narrow == value else value


def _numbers(array: np.ndarray) -> list[float]:
    return [shortest(value) for value in array.ravel()]


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * abs(b)


def _rounded(value: float) -> float:
    """Five digits: more than people choose, fewer than float32 factors carry."""
    return float(f"{value:.5g}")


def _ratio(part: int, whole: int) -> float:
    """Return a float that gives back `part` when multiplied by `whole` and cut to an integer."""
    ratio = part / whole
    return ratio if int(whole * ratio) == part else math.nextafter(ratio, 1.0)
