"""Make tests/golden/{mixtral,qwen2_moe,qwen3_moe}_tiny: random mixtures of experts, and results.

    python tests/golden/make_moe_golden.py        # needs the extra "parity"; deterministic

Each folder holds config.json and model.safetensors as transformers writes them, and golden.json:
token ids, the logits at every position, greedy tokens after two prompts, the auxiliary loss, and
the loss and gradient norms of one training step with it, by the names that the file has.
"""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from making import continue_greedily, rounded, widen, write

FOLDER = Path(__file__).parent
PROMPTS = [[5], [17, 3, 48, 41, 9]]
SHAPE = {
    "vocab_size": 53,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
    "num_experts_per_tok": 2,
    "router_aux_loss_coef": 0.05,
}
QWEN = {"num_experts": 4, "moe_intermediate_size": 8}
MODELS = {
    "mixtral": transformers.MixtralConfig(**SHAPE, num_local_experts=3, sliding_window=7),
    "qwen2_moe": transformers.Qwen2MoeConfig(**SHAPE, **QWEN, shared_expert_intermediate_size=12),
    "qwen3_moe": transformers.Qwen3MoeConfig(
        **SHAPE, **QWEN, head_dim=6, norm_topk_prob=True, mlp_only_layers=[0]
    ),
}


def make(folder: Path, config: transformers.PretrainedConfig) -> None:
    """Write one folder."""
    torch.manual_seed(20)
    model = transformers.AutoModelForCausalLM.from_config(config)
    widen(model, 0.2)
    model.save_pretrained(folder)

    input_ids = torch.randint(0, config.vocab_size, (2, 12))
    output = model(input_ids, labels=input_ids, output_router_logits=True)
    output.loss.backward()
    model.eval()
    golden = {
        "input_ids": input_ids.tolist(),
        "logits": rounded(output.logits.tolist()),
        "auxiliary_loss": output.aux_loss.item(),
        "loss": output.loss.item(),
        "gradient_norms": dict(norms(model)),
        "prompts": PROMPTS,
        "greedy": [continue_greedily(model, prompt, 30) for prompt in PROMPTS],
    }
    write(folder, golden)


def norms(model: torch.nn.Module):
    """The norm of each gradient; those of stacked experts one by one."""
    mixtral = model.config.model_type == "mixtral"
    gate, up, down = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    for name, parameter in model.named_parameters():
        path = name.replace(".mlp.", ".block_sparse_moe.") if mixtral else name
        stem, _, last = path.rpartition(".")
        if parameter.ndim < 3:
            yield path, parameter.grad.norm().item()
            continue
        names = (gate, up) if last == "gate_up_proj" else (down,)
        for number, matrix in enumerate(parameter.grad):
            for part, piece in zip(names, matrix.chunk(len(names)), strict=True):
                yield f"{stem}.{number}.{part}.weight", piece.norm().item()


def main() -> None:
    """Write the folders."""
    torch.set_num_threads(1)
    for name, config in MODELS.items():
        make(FOLDER / f"{name}_tiny", config)


if __name__ == "__main__":
    main()
