"""Mixtral, Qwen2-MoE and Qwen3-MoE: decoders like LLaMA whose MLPs are mixtures of experts.

Modules have the names of published checkpoints, in which each expert's matrices are separate
tensors. transformers 5 stacks the experts of a layer in memory (`experts.gate_up_proj`);
files with such stacks are read too.

Dimensions:
    C  hidden_size    I  the width of an expert
    E  num_experts    K  num_experts_per_tok
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import gradient.functional as F
from gradient import nn
from gradient.checks import Relation
from gradient.models.activations import ACTIVATIONS
from gradient.models.config import limited, positive, size
from gradient.models.gguf import (
    BLOCK,
    DECODER,
    QK_NORMS,
    SILU,
    TOP,
    Architecture,
    Experts,
    Key,
    Metadata,
    Shapes,
)
from gradient.models.llama import LlamaDecoderLayer, LlamaForCausalLM, LlamaMLP
from gradient.models.llama_config import (
    LLAMA_GGUF,
    BiasFields,
    LlamaFamilyConfig,
    QwenConfig,
    read_qwen_gguf,
)
from gradient.models.moe import Router, SparseMoe
from gradient.models.rotary_config import FULL, SLIDING
from gradient.tensor import Tensor

__all__ = [
    "MixtralConfig",
    "MixtralForCausalLM",
    "Qwen2MoeConfig",
    "Qwen3MoeConfig",
    "QwenMoeForCausalLM",
]


@dataclass(kw_only=True)
class MoeFields:
    """The config fields of all mixtures."""

    num_experts_per_tok: int = 2
    output_router_logits: bool = False
    #: The weight of `record_routing(model).load_balancing_loss()` in the loss.
    router_aux_loss_coef: float = limited(
        0.001, "a finite number", lambda value: abs(value) < float("inf")
    )

    relations: ClassVar[tuple[Relation, ...]] = (
        Relation(
            ("num_experts_per_tok", "num_experts"),
            lambda chosen, experts: 1 <= chosen <= (experts or chosen),
            "num_experts_per_tok must be from 1 to the number of experts, {num_experts}, "
            "got {num_experts_per_tok}",
        ),
    )


# ---- Mixtral ------------------------------------------------------------------------------------


class MixtralConfig(MoeFields, LlamaFamilyConfig):
    """Mixtral: every layer has a mixture (Jiang et al. 2024, "Mixtral of Experts", section 2.1).

    The defaults are Mixtral-8x7B's.
    """

    model_type = "mixtral"
    gguf = replace(
        LLAMA_GGUF,
        experts=Experts(
            {
                "ffn_gate_exps": "block_sparse_moe.experts.{}.w1",
                "ffn_down_exps": "block_sparse_moe.experts.{}.w2",
                "ffn_up_exps": "block_sparse_moe.experts.{}.w3",
            },
            router="block_sparse_moe.gate",
        ),
    )
    aliases = {"num_experts": "num_local_experts"}
    default_rope_theta = 1_000_000.0
    mlp_name = "block_sparse_moe"

    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 131072
    rms_norm_eps: float = positive(1e-5)
    sliding_window: int | None = size(None)
    num_local_experts: int = size(8)
    router_jitter_noise: float = limited(0.0, "from 0 to 1", lambda value: 0 <= value <= 1)


class MixtralExpert(nn.Module):
    """One expert: LLaMA's MLP with Mixtral's names of its layers."""

    def __init__(self, C: int, I: int, hidden_act: str) -> None:  # noqa: E741
        super().__init__()
        self.w1 = nn.Linear(C, I, bias=False)
        self.w2 = nn.Linear(I, C, bias=False)
        self.w3 = nn.Linear(C, I, bias=False)
        self.act = ACTIVATIONS[hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) -> (N, C)."""
        return self.w2(self.act(self.w1(x)) * self.w3(x))


class MixtralMoe(SparseMoe):
    """A mixture whose router uses the softmax over the chosen experts only."""

    projections = ("w1", "w3", "w2")

    def __init__(self, config: MixtralConfig) -> None:
        C, E = config.hidden_size, config.num_local_experts
        gate = Router(C, E, top_k=config.num_experts_per_tok, normalize=True)
        sizes = C, config.intermediate_size
        experts = [MixtralExpert(*sizes, config.hidden_act) for _ in range(E)]
        act = ACTIVATIONS[config.hidden_act]
        super().__init__(gate, experts, act, jitter=config.router_jitter_noise)


class MixtralForCausalLM(LlamaForCausalLM):
    """Mixtral; see its config."""

    config_class = MixtralConfig
    renamed = {r"\.mlp\.": ".block_sparse_moe."}  # transformers 5, in memory
    split = {
        r"\.experts\.gate_up_proj$": (".experts.{}.w1.weight", ".experts.{}.w3.weight"),
        r"\.experts\.down_proj$": (".experts.{}.w2.weight",),
    }

    def __init__(self, config: MixtralConfig) -> None:
        super().__init__(config, mlp=MixtralMoe)


# ---- Qwen ---------------------------------------------------------------------------------------


def read_gguf(values: dict[str, Any], metadata: Metadata, shapes: Shapes) -> None:
    """Set which layers have a mixture, and which a window."""
    read_qwen_gguf(values, metadata, shapes)
    layers = range(values["num_hidden_layers"])
    dense = [layer for layer in layers if f"blk.{layer}.ffn_gate_inp.weight" not in shapes]
    values |= {"decoder_sparse_step": 1, "mlp_only_layers": dense}


QWEN_MOE_KEYS = (
    *DECODER,
    Key("expert_count", "num_experts"),
    Key("expert_used_count", "num_experts_per_tok"),
    # Files of early 2024 lack this key, and the size of shared experts.
    Key(
        "expert_feed_forward_length",
        "moe_intermediate_size",
        lambda values: values["intermediate_size"] // max(values["num_experts_per_tok"], 1),
    ),
)
QWEN_MOE_GGUF = Architecture(
    "qwen3moe",
    (*QWEN_MOE_KEYS, Key("expert_weights_norm", "norm_topk_prob", True)),
    TOP,
    BLOCK | QK_NORMS,
    experts=Experts(
        {
            "ffn_gate_exps": "mlp.experts.{}.gate_proj",
            "ffn_down_exps": "mlp.experts.{}.down_proj",
            "ffn_up_exps": "mlp.experts.{}.up_proj",
        },
        router="mlp.gate",
    ),
    fixed=SILU,
    read=read_gguf,
)


class QwenMoeConfig(MoeFields, QwenConfig):
    """The base of Qwen2-MoE and Qwen3-MoE: which layers have a mixture, and of what size."""

    aliases = {"num_local_experts": "num_experts"}
    #: Whether each mixture has an additional expert for every token.
    shared_expert: ClassVar[bool] = False

    hidden_size: int = 2048
    num_hidden_layers: int = 24
    decoder_sparse_step: int = size(1)  # the last of so many layers has a mixture
    mlp_only_layers: list[int] | None = None  # layers without a mixture in any case
    moe_intermediate_size: int = size(768)
    num_experts: int = limited(128, "at least 0", lambda value: value >= 0)
    norm_topk_prob: bool = False

    def is_sparse(self, layer: int) -> bool:
        """Return whether a layer has a mixture of experts instead of its MLP."""
        return (
            self.num_experts > 0
            and layer not in (self.mlp_only_layers or ())
            and (layer + 1) % self.decoder_sparse_step == 0
        )


class Qwen2MoeConfig(QwenMoeConfig):
    """Qwen1.5-MoE and Qwen2-57B-A14B: a shared expert sees all tokens (Yang et al. 2024, 2.2.2)."""

    model_type = "qwen2_moe"
    gguf = replace(
        QWEN_MOE_GGUF,
        name="qwen2moe",
        keys=(
            *QWEN_MOE_KEYS,
            Key(
                "expert_shared_feed_forward_length",
                "shared_expert_intermediate_size",
                lambda values: values["intermediate_size"],
            ),
            Key("expert_weights_norm", "norm_topk_prob", False),
        ),
        block=BLOCK
        | {
            "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
            "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
            "ffn_down_shexp": "mlp.shared_expert.down_proj",
            "ffn_up_shexp": "mlp.shared_expert.up_proj",
        },
    )
    shared_expert = True
    bias_fields = BiasFields(qkv="qkv_bias")

    intermediate_size: int = 5632
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 16
    moe_intermediate_size: int = 1408
    shared_expert_intermediate_size: int = size(5632)
    num_experts_per_tok: int = 4
    num_experts: int = 60
    qkv_bias: bool = True

    @property
    def usual_layer_kinds(self) -> list[str]:
        # transformers' rule for this model: every second one of the first layers.
        first, layers = self.max_window_layers, range(self.num_hidden_layers)
        return [SLIDING if layer % 2 == 0 and layer < first else FULL for layer in layers]


class Qwen3MoeConfig(QwenMoeConfig):
    """Qwen3's mixtures: Qwen3's attention, no shared expert (Yang et al. 2025, section 2)."""

    model_type = "qwen3_moe"
    gguf = QWEN_MOE_GGUF
    qk_norm = "head"
    bias_fields = BiasFields("attention_bias", "attention_bias")

    intermediate_size: int = 6144
    num_key_value_heads: int | None = 4
    num_experts_per_tok: int = 8
    attention_bias: bool = False

    @property
    def layer_kinds(self) -> list[str]:
        return [SLIDING] * self.num_hidden_layers


class QwenMoe(SparseMoe):
    """A mixture of MLPs like LLaMA's."""

    def __init__(self, config: QwenMoeConfig) -> None:
        C, E = config.hidden_size, config.num_experts
        gate = Router(C, E, top_k=config.num_experts_per_tok, normalize=config.norm_topk_prob)
        experts = [LlamaMLP(config, config.moe_intermediate_size) for _ in range(E)]
        super().__init__(gate, experts, ACTIVATIONS[config.hidden_act])

    def mix(self, x: Tensor, weights: Tensor, experts: Tensor) -> Tensor:
        """Like every mixture, but with weights rounded to x's dtype, as in training."""
        return super().mix(x, weights.to(x.dtype), experts)


class Qwen2Moe(QwenMoe):
    """A mixture with an additional expert for every token, whose result is scaled by a gate."""

    def __init__(self, config: Qwen2MoeConfig) -> None:
        super().__init__(config)
        C = config.hidden_size
        self.shared_expert = LlamaMLP(config, config.shared_expert_intermediate_size)
        self.shared_expert_gate = nn.Linear(C, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        shared = F.sigmoid(self.shared_expert_gate(x)) * self.shared_expert(x)
        return super().forward(x) + shared


class QwenMoeDecoderLayer(LlamaDecoderLayer):
    """Attention, then a mixture of experts or, in some layers, an MLP."""

    def __init__(self, config: QwenMoeConfig, layer: int, **parts: Any) -> None:
        mixture = Qwen2Moe if config.shared_expert else QwenMoe
        mlp = mixture if config.is_sparse(layer) else LlamaMLP
        super().__init__(config, layer, mlp=mlp, **parts)


class QwenMoeForCausalLM(LlamaForCausalLM):
    """Qwen2-MoE and Qwen3-MoE; see their configs."""

    config_class: ClassVar[type[LlamaFamilyConfig]] = Qwen3MoeConfig
    split = {
        r"\.experts\.gate_up_proj$": (
            ".experts.{}.gate_proj.weight",
            ".experts.{}.up_proj.weight",
        ),
        r"\.experts\.down_proj$": (".experts.{}.down_proj.weight",),
    }

    def __init__(self, config: QwenMoeConfig) -> None:
        super().__init__(config, layer=QwenMoeDecoderLayer)
