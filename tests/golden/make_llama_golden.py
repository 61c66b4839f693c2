"""Make tests/golden/llama_tiny: tiny random models of the LLaMA family, with what they compute.

    python tests/golden/make_llama_golden.py       # needs the extra "parity"; deterministic

For each model type a folder as transformers writes it, with weights in bfloat16, and golden.json:
token ids, the logits at every position, greedy tokens after two prompts, and the loss and gradient
norms of one training step; all computed in float32. So the suite holds us to transformers where it
is not installed. Texts are longer than windows and original contexts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from making import continue_greedily, gradient_norms, rounded, widen, write

FOLDER = Path(__file__).parent / "llama_tiny"
PROMPTS = [[5], [17, 3, 40, 41, 9, 22, 23, 24, 25, 26, 27, 28]]
SHAPE = {
    "vocab_size": 48,
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 10,
}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3],
    "long_factor": [1.5, 2.0, 4.0],
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"rope_scaling": LLAMA3, "attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 5, "head_dim": 10},
    "qwen2": {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    "qwen3": {"head_dim": 8, "tie_word_embeddings": True},
    "phi3": {"rope_scaling": LONGROPE, "original_max_position_embeddings": 16},
    "ernie4_5": {"head_dim": 8, "use_bias": True},
}


def main() -> None:
    """Write the folders."""
    torch.set_num_threads(1)
    for model_type, changes in MODELS.items():
        make(model_type, changes, FOLDER / model_type)


def make(model_type: str, changes: dict[str, Any], folder: Path) -> None:
    """Write one model's folder."""
    torch.manual_seed(7)
    config = transformers.AutoConfig.for_model(model_type, **(SHAPE | changes))
    model = transformers.AutoModelForCausalLM.from_config(config)
    widen(model, 0.15)
    model.to(torch.bfloat16).save_pretrained(folder)

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    input_ids = torch.randint(0, config.vocab_size, (2, 18))
    output = model.train()(input_ids, labels=input_ids)
    output.loss.backward()
    model.eval()
    golden = {
        "input_ids": input_ids.tolist(),
        "logits": rounded(output.logits.tolist(), 5),
        "loss": output.loss.item(),
        "gradient_norms": gradient_norms(model),
        "prompts": PROMPTS,
        "greedy": [continue_greedily(model, prompt, 24) for prompt in PROMPTS],
    }
    write(folder, golden)


if __name__ == "__main__":
    main()
