"""Rotary positions (Su et al. 2021, "RoFormer", section 3.4), and the ways to extend them.

A head's columns are taken in pairs, and each pair is rotated by an angle that grows with the
token's position: pair i by `position * inv_freq[i]`. With lower frequencies, a model trained on
short texts can read longer ones; the rope types of config.json select how. They follow
transformers' `modeling_rope_utils`, also in computing with float32, because late in a text an angle
is the product of a large number and a rounded one.

Dimensions:
    B  batch      T  new tokens     H  heads
    D  head_dim   R  columns of a head that are rotated (all, or the first part), R/2 pairs
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

import gradient
from gradient import nn
from gradient.ops.fused import rope
from gradient.tensor import Tensor


class Rotation(NamedTuple):
    """The rotation of each token of one forward pass; call it on a layer's queries and keys."""

    cos: Tensor  # (B or 1, 1, T, R/2)
    sin: Tensor
    interleaved: bool = False  # pairs are columns (2i, 2i + 1), not (i, i + R/2)

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate the first R columns of each head: (B, H, T, D) -> (B, H, T, D)."""
        return rope(x, cos=self.cos.array, sin=self.sin.array, interleaved=self.interleaved)


class ApplyRotary(Protocol):
    """Applies rotary positions to queries or keys (B, H, T, D): a `Rotation`, or `no_rotation`."""

    def __call__(self, x: Tensor) -> Tensor: ...


def no_rotation(x: Tensor) -> Tensor:
    """Return x: for layers without positions (Kazemnejad et al. 2023, "NoPE")."""
    return x


class RotaryEmbedding(nn.Module):
    """The rotation of heads by fixed frequencies; `rotary_embedding` makes one from a config.

    The frequencies are neither weights nor buffers: they stay float32 when the model is
    converted, and are copied once to each device that positions are on.
    """

    #: Up to this length of a text, angles depend on positions only.
    original_max_seq_len: float = math.inf

    def __init__(
        self,
        inv_freq: np.ndarray,
        attention_factor: float = 1.0,
        *,
        interleaved: bool = False,
        keep_float32: bool = False,
    ) -> None:
        """Args:
        inv_freq: (R/2,) float32, radians per token.
        attention_factor: the factor of cos and sin, and so of queries and keys.
        interleaved: pairs are neighbouring columns, as in the paper; else columns i and i + R/2.
        keep_float32: do not round cos and sin to the queries' dtype.
        """
        super().__init__()
        self.inv_freq = inv_freq
        self.attention_factor = attention_factor
        self.interleaved = interleaved
        self.keep_float32 = keep_float32
        self._on_device: dict[tuple[str, str], Tensor] = {}

    def forward(
        self, positions: Tensor, dtype: gradient.DType, lengths: Sequence[int] | None = None
    ) -> Rotation:
        """Return the rotation of tokens at integer positions (B, T) or (T,).

        Args:
            dtype: the dtype of queries and keys; cos and sin are rounded to it, as in transformers.
            lengths: the number of real tokens in each row; None: all.
        """
        ends = None if self.original_max_seq_len == math.inf else text_ends(positions, lengths)
        inv_freq = self.frequencies(positions.device, ends)
        T, pairs = positions.shape[-1], inv_freq.shape[-1]
        # All of one shape, the same for all heads: so a plan can compute them by one kernel.
        at = positions.reshape(-1, 1, T, 1).expand(-1, 1, T, pairs)  # (B or 1, 1, T, R/2)
        angles = at.float() * inv_freq.reshape(-1, 1, 1, pairs)
        cos, sin = angles.cos(), angles.sin()
        if self.attention_factor != 1:
            cos, sin = cos * self.attention_factor, sin * self.attention_factor
        if not self.keep_float32:
            cos, sin = cos.to(dtype), sin.to(dtype)
        return Rotation(cos, sin, self.interleaved)

    def same_rope_frequencies(self, length: int, longer: int) -> bool:
        """Return whether texts of both lengths have the same angles at their common positions."""
        return length == longer or longer <= self.original_max_seq_len

    def frequencies(self, device: Any, ends: Tensor | None) -> Tensor:
        """Return float32 radians per token on `device`: (R/2,), or (B, 1, R/2) by length."""
        return self.constant("inv_freq", device)

    def constant(self, name: str, device: Any) -> Tensor:
        """Return an array attribute as a Tensor on `device`, cached."""
        key = (name, str(device))
        if key not in self._on_device:
            self._on_device[key] = gradient.tensor(getattr(self, name), device=device)
        return self._on_device[key]

    def extra_repr(self) -> str:
        return f"pairs={len(self.inv_freq)}, interleaved={self.interleaved}"


def text_ends(positions: Tensor, lengths: Sequence[int] | None) -> Tensor:
    """Return each text's length including the new tokens, (B, 1) or (1,).

    Padding does not count, so a row gets the same angles as alone.
    """
    if lengths is None:
        return positions[..., -1:] + 1
    new = gradient.tensor(list(lengths), device=positions.device).unsqueeze(1)
    return positions[..., :1] + new


class DynamicRotaryEmbedding(RotaryEmbedding):
    """NTK scaling by the text's length: the base grows once a text exceeds the trained context.

    The source is a post of u/emozilla on r/LocalLLaMA (2023), "Dynamically scaled RoPE". Each pass
    rotates its new tokens for the current length; cached keys keep their rotation, as in
    transformers. So beyond the trained context, a text in several passes, or generated token by
    token, differs from the same text in one pass.
    """

    def __init__(self, theta: float, factor: float, R: int, context: int, **options: Any) -> None:
        super().__init__(_inverse_frequencies(theta, R), **options)
        self.theta, self.factor, self.original_max_seq_len = theta, factor, context
        self.exponents = _exponents(R).astype(np.float64)
        self.power = R / (R - 2)

    def frequencies(self, device: Any, ends: Tensor | None) -> Tensor:
        assert ends is not None
        excess = self.factor * ends.float() / self.original_max_seq_len - (
            self.factor - 1
        )  # (B, 1)
        base = self.theta * (excess.clamp(min=1).double() ** self.power).float()
        powers = (base.double() ** self.constant("exponents", device)).float()  # as in `_powers`
        unscaled = self.constant("inv_freq", device)
        return gradient.where(ends > self.original_max_seq_len, 1 / powers, unscaled).unsqueeze(-2)


class LongRotaryEmbedding(RotaryEmbedding):
    """LongRoPE: a searched factor for each frequency, one set for short texts and one for long.

    Ding et al. 2024 (arXiv:2402.13753), section 3.3. As in Phi-3, a pass that ends beyond the
    original context rotates all its new tokens by the long set.
    """

    def __init__(
        self,
        short: np.ndarray,
        long: np.ndarray,
        attention_factor: float,
        context: int,
        **options: Any,
    ) -> None:
        super().__init__(short, attention_factor, **options)
        self.long_inv_freq = long
        self.original_max_seq_len = context

    def same_rope_frequencies(self, length: int, longer: int) -> bool:
        return (length > self.original_max_seq_len) == (longer > self.original_max_seq_len)

    def frequencies(self, device: Any, ends: Tensor | None) -> Tensor:
        assert ends is not None
        short, long = self.constant("inv_freq", device), self.constant("long_inv_freq", device)
        return gradient.where(ends > self.original_max_seq_len, long, short).unsqueeze(
            -2
        )  # (B, 1, R/2)


# ---- frequencies --------------------------------------------------------------------------------


def _exponents(dim: int) -> np.ndarray:
    """Return 2i / dim for each pair, in float32; an odd `dim` has a pair for its last column."""
    return np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)


def _powers(theta: float, dim: int) -> np.ndarray:
    """Return theta^(2i / dim) for each pair, in float32.

    Rounded from float64: NumPy's power of float32 numbers is often wrong in the last bit, PyTorch's
    rarely, and at token 10,000 that bit is a thousandth of a radian.
    """
    return np.power(np.float64(np.float32(theta)), _exponents(dim), dtype=np.float64).astype("f4")


def _inverse_frequencies(theta: float, dim: int) -> np.ndarray:
    """Return theta^(-2i / dim), radians per token: from 1 down to nearly 1 / theta."""
    return np.float32(1) / _powers(theta, dim)


def _default(p: dict[str, Any], dim: int, context: int, **options: Any) -> RotaryEmbedding:
    return RotaryEmbedding(_inverse_frequencies(p["rope_theta"], dim), **options)


def _linear(p: dict[str, Any], dim: int, context: int, **options: Any) -> RotaryEmbedding:
    """Positions are divided by `factor` (Chen et al. 2023, arXiv:2306.15595)."""
    inv_freq = _inverse_frequencies(p["rope_theta"], dim) / np.float32(p["factor"])
    return RotaryEmbedding(inv_freq, **options)


def _dynamic(p: dict[str, Any], dim: int, context: int, **options: Any) -> RotaryEmbedding:
    return DynamicRotaryEmbedding(p["rope_theta"], p["factor"], dim, context, **options)


def _llama3(p: dict[str, Any], dim: int, context: int, **options: Any) -> RotaryEmbedding:
    """Low frequencies are divided by `factor`, high ones kept, and those between interpolated.

    The source is the reference code of Llama 3.1 (llama-models, models/llama3/model.py). A
    frequency is high if it turns more than high_freq_factor times in the original context.
    """
    inv_freq = _inverse_frequencies(p["rope_theta"], dim)
    wavelength = np.float32(1) / inv_freq * np.float32(2 * math.pi)  # tokens a turn
    turns = np.float32(1) / wavelength * p["original_max_position_embeddings"]
    low, high = p["low_freq_factor"], p["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0, 1)
    inv_freq = (1 - kept) * inv_freq / p["factor"] + kept * inv_freq
    return RotaryEmbedding(inv_freq.astype(np.float32), **options)


def _yarn(p: dict[str, Any], dim: int, context: int, **options: Any) -> RotaryEmbedding:
    """Like llama3 with a ramp over the pairs, and scaled attention (Peng et al. 2023, YaRN, 3.2-4).

    A frequency that turns more than beta_fast times in the original context is kept, one that turns
    less than beta_slow times is divided by `factor`.
    """
    theta, original = p["rope_theta"], p["original_max_position_embeddings"]
    factor = p.get("factor") or context / original

    def pair_with(turns: float) -> float:  # the (fractional) index of the pair with so many turns
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_with(p.get("beta_fast") or 32), pair_with(p.get("beta_slow") or 1)
    if p.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    powers = _powers(theta, dim)
    pairs = np.arange(len(powers), dtype=np.float32)
    kept = 1 - np.clip((pairs - np.float32(low)) / np.float32(high - low), 0, 1)
    inv_freq = 1 / (np.float32(factor) * powers) * (1 - kept) + 1 / powers * kept
    return RotaryEmbedding(inv_freq, _yarn_attention_factor(p, factor), **options)


def _yarn_attention_factor(p: dict[str, Any], factor: float) -> float:
    """Return the root of YaRN's 1/t (section 4); mscale is DeepSeek-V2's addition."""
    if p.get("attention_factor") is not None:
        return p["attention_factor"]
    if p.get("mscale") and p.get("mscale_all_dim"):
        return yarn_mscale(factor, p["mscale"]) / yarn_mscale(factor, p["mscale_all_dim"])
    return yarn_mscale(factor)


def yarn_mscale(factor: float, weight: float = 1.0) -> float:
    """Return YaRN's factor of queries and keys (Peng et al. 2023, section 3.4)."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def _longrope(p: dict[str, Any], dim: int, context: int, **options: Any) -> RotaryEmbedding:
    original, attention_factor = p["original_max_position_embeddings"], p.get("attention_factor")
    if attention_factor is None:
        factor = p.get("factor") or context / original
        attention_factor = longrope_attention_factor(factor, original)
    short, long = (
        np.float32(1) / (np.asarray(p[name], dtype=np.float32) * _powers(p["rope_theta"], dim))
        for name in ("short_factor", "long_factor")
    )
    if np.array_equal(short, long):  # then the length of a text does not matter
        return RotaryEmbedding(short, attention_factor, **options)
    return LongRotaryEmbedding(short, long, attention_factor, original, **options)


def longrope_attention_factor(factor: float, original: int) -> float:
    """Return LongRoPE's factor of queries and keys, as in Phi-3's reference code.

    Args:
        factor: how many times the context is longer than the original one.
        original: the original context in tokens.
    """
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0


#: The function that makes each `rope_type`.
ROPE_TYPES: dict[str, Callable[..., RotaryEmbedding]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}


def rotary_embedding(
    parameters: dict[str, Any],
    head_dim: int,
    max_position_embeddings: int,
    *,
    interleaved: bool = False,
    keep_float32: bool = False,
) -> RotaryEmbedding:
    """Return the rotation that a config describes.

    Args:
        parameters: `rope_parameters` as `gradient.models.rope_parameters.settled` returns them;
            `rope_problems` must find no errors in them.
        interleaved, keep_float32: see `RotaryEmbedding`.
    """
    make = ROPE_TYPES[parameters["rope_type"]]
    dim = rotary_dim(parameters, head_dim)
    options = {"interleaved": interleaved, "keep_float32": keep_float32}
    with np.errstate(all="ignore"):  # an extreme base may exceed float32's range: inf, as in torch
        return make(parameters, dim, max_position_embeddings, **options)


def rotary_dim(parameters: dict[str, Any], head_dim: int) -> int:
    """Return the number of rotated columns of a head; if it is odd, the next one is rotated too."""
    return int(head_dim * parameters.get("partial_rotary_factor", 1.0))
