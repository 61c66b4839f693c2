"""Make tests/golden/gpt2_tiny: a tiny random GPT-2 saved by transformers, with what it computes.

    python tests/golden/make_gpt2_golden.py        # needs the extra "parity"; deterministic

The folder holds config.json and model.safetensors as transformers writes them, and golden.json:
token ids, the logits at every position, 50 greedy tokens after each of three prompts, and the
loss and gradient norms of one training step. So the suite holds us to transformers where it is
not installed.
"""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from making import continue_greedily, gradient_norms, rounded, widen, write

FOLDER = Path(__file__).parent / "gpt2_tiny"
PROMPTS = [[5], [17, 3, 88, 41, 9], [60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71]]


def main() -> None:
    """Write the folder."""
    torch.manual_seed(20)
    torch.set_num_threads(1)
    config = transformers.GPT2Config(
        vocab_size=96,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = transformers.GPT2LMHeadModel(config)
    widen(model, 0.15)
    model.save_pretrained(FOLDER)

    input_ids = torch.randint(0, config.vocab_size, (2, 12))
    output = model(input_ids, labels=input_ids)
    output.loss.backward()
    model.eval()
    greedy = [continue_greedily(model, prompt, 50) for prompt in PROMPTS]
    golden = {
        "input_ids": input_ids.tolist(),
        "logits": rounded(output.logits.tolist()),
        "loss": output.loss.item(),
        "gradient_norms": gradient_norms(model),
        "prompts": PROMPTS,
        "greedy": greedy,
    }
    write(FOLDER, golden)


if __name__ == "__main__":
    main()
