"""Quantization schemes: the choice of a packed dtype for each weight of a model.

A scheme (`SCHEMES` has them by name) is one format for all, or one of llama.cpp's mixes.

A scheme chooses by a weight's name, so a model can be packed while it is
loaded and is never as a whole in memory in a wider dtype:

>>> scheme = scheme_of("q4_k_m")
>>> scheme("model.layers.0.mlp.down_proj.weight", (2048, 5632), n_layers=22)
gradient.q6_k
>>> scheme("model.norm.weight", (2048,), n_layers=22)        # None: it is not packed

It packs the matrices of linear layers, embeddings and experts. Norms, biases, convolutions,
embeddings of positions and of token types, and the routers of mixtures (small matrices with a
large effect) are not packed.

Not all weights are equally sensitive. The output layer, whose errors are not averaged out, gets
about six bits or more, and so does an embedding tied to it. The mixes (`q4_k_m`, `q5_k_m`) give
more bits to the value projections and the second matrices of MLPs too: in the first and last
eighth of the layers, and in every third between. (llama.cpp, src/llama-quant.cpp, found these by
measuring perplexities; the rules are followed here, and those for models of 8 experts with them.)

Names are Hugging Face's, or GGUF's.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from gradient.dtypes import (
    PACKED,
    PackedDType,
    int4_group,
    int8_channel,
    nf4,
    q4_k,
    q5_k,
    q6_k,
    q8_0,
)
from gradient.errors import ArgumentError

__all__ = ["SCHEMES", "Scheme", "scheme_of"]

#: The role of a weight, by the end of its name without ".weight"; the first match counts.
ROLES: tuple[tuple[str, str], ...] = (
    ("fixed", "wpe position_embeddings token_type_embeddings position_embd token_types"),
    ("fixed", "mlp.gate block_sparse_moe.gate router shared_expert_gate"),
    ("fixed", "ffn_gate_inp ffn_gate_inp_shexp"),
    ("output", "lm_head embed_out output"),
    ("embedding", "embed_tokens wte word_embeddings embed_in token_embd"),
    ("qkv", "qkv_proj query_key_value c_attn attn_qkv"),
    ("v", "v_proj attention.self.value attn_v"),
    ("k", "k_proj attention.self.key attn_k"),
    ("attention output", "o_proj attn.c_proj self_attn.dense attention.dense"),
    ("attention output", "attention.output.dense attn_output"),
    ("down", "down_proj w2 fc2 mlp.c_proj output.dense ffn_down ffn_down_exps ffn_down_shexp"),
)
_BY_NAME = {dtype.name: dtype for dtype in PACKED}
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blk|blocks)\.(\d+)\.")


def role_of(name: str) -> str:
    """The role of the weight in `ROLES`; "fixed" is not packed; "other" for unknown names."""
    stem = name.removesuffix(".weight")
    # Transformers 5 stores experts together, in parameters without that ending.
    if stem == name and name != "weight" and not re.search(r"experts\.\w+_proj$", name):
        return "fixed"
    for role, ends in ROLES:
        if any(("." + stem).endswith("." + end) for end in ends.split()):
            return role
    return "other"


def layer_of(name: str) -> int | None:
    """The number of a weight's layer; None if it is in no layer."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


@dataclasses.dataclass(frozen=True)
class Scheme:
    """The dtype of each weight of a model; see the module's docstring.

    name    its public name
    dtype   of most weights
    output  of the output layer, and of an embedding tied to it
    more_bits  of value projections and second MLP matrices, in the layers that get more bits
    fused   of query, key and value projections in one matrix
    """

    name: str
    dtype: PackedDType
    output: PackedDType
    more_bits: PackedDType | None = None
    fused: PackedDType | None = None

    def __call__(
        self,
        name: str,
        shape: Sequence[int],
        n_layers: int = 0,
        *,
        tied: bool = False,
        n_experts: int = 0,
    ) -> PackedDType | None:
        """Return the dtype for a weight; None: it is not packed.

        Args:
            name: the name in the model, or in a GGUF file.
            shape: (N, K), or (E, N, K) for experts that are stored together.
            n_layers: number of the model's layers; 0: unknown, all layers are treated alike.
            tied: whether the embedding is also the output layer.
            n_experts: number of experts in a layer.
        """
        role = role_of(name)
        experts = len(shape) == 3 and re.search(r"experts\.|_exps\.", name)
        if role == "fixed" or not (len(shape) == 2 or experts):
            return None
        dtype: PackedDType | None = self._by_role(role, layer_of(name), n_layers, tied, n_experts)
        while dtype is not None and not dtype.fits(tuple(shape)):
            dtype = _BY_NAME.get(dtype.fallback)
        return dtype

    def _by_role(
        self, role: str, layer: int | None, n_layers: int, tied: bool, n_experts: int
    ) -> PackedDType:
        if role == "output" or (role == "embedding" and tied):
            return self.output
        if self.more_bits is None:
            return self.dtype
        if role == "qkv" and self.fused is not None:
            return self.fused
        if n_experts == 8:  # attention is a small part of such a model
            if role in ("v", "k"):
                return q8_0
            if role == "attention output":
                return max(self.dtype, q5_k, key=_bits)
        if role in ("v", "down") and layer is not None and uses_more_bits(layer, n_layers):
            return self.more_bits
        return self.dtype


def uses_more_bits(layer: int, n_layers: int) -> bool:
    """Whether a mix gives this layer more bits: the outer eighths, and every third in between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def _bits(dtype: PackedDType) -> float:
    return dtype.bits_per_weight((1, 256))


def _one_format(dtype: PackedDType) -> Scheme:
    """One format for all weights, with about six bits or more for the output layer."""
    fine = int8_channel if dtype.name.startswith("int") or dtype is nf4 else q6_k
    return Scheme(dtype.name, dtype, max(dtype, fine, key=_bits))


#: The quantization schemes that `quantize_`, `hub.load(quantize=)` and `gradient quantize` take by
#: name: every packed dtype, "int8", "int4", and llama.cpp's mixes.
SCHEMES: dict[str, Scheme] = {
    "q4_k_m": Scheme("q4_k_m", q4_k, output=q6_k, more_bits=q6_k, fused=q5_k),
    "q5_k_m": Scheme("q5_k_m", q5_k, output=q6_k, more_bits=q6_k, fused=q6_k),
    "int8": dataclasses.replace(_one_format(int8_channel), name="int8"),
    "int4": dataclasses.replace(_one_format(int4_group), name="int4"),
    **{dtype.name: _one_format(dtype) for dtype in PACKED},
}


def scheme_of(scheme: Scheme | PackedDType | str) -> Scheme:
    """Return the scheme for a scheme, its name (in any case), or a packed dtype.

    Raises:
        ArgumentError: there is no such scheme; the message lists all.
    """
    if isinstance(scheme, Scheme):
        return scheme
    name = scheme.name if isinstance(scheme, PackedDType) else str(scheme).lower()
    if name not in SCHEMES:
        raise ArgumentError(f"quantize: expected one of {', '.join(SCHEMES)}; got {scheme!r}")
    return SCHEMES[name]
