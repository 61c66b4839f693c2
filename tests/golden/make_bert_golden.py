"""Make tests/golden/bert_tiny: a tiny random BERT saved by transformers, with what it computes.

    python tests/golden/make_bert_golden.py        # needs the extra "parity"; deterministic

The folder holds config.json and model.safetensors as transformers writes them, and golden.json: a
ragged batch, its hidden states and pooled ones, the logits of the masked-language-model head, and
the loss and gradient norms of one training step.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

FOLDER = Path(__file__).parent / "bert_tiny"
LENGTHS = [11, 4]


def main() -> None:
    """Write the folder."""
    torch.manual_seed(20)
    torch.set_num_threads(1)
    config = transformers.BertConfig(
        vocab_size=53,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = transformers.BertForPreTraining(config)
    with torch.no_grad():  # wider than the initial 0.02, so that attention and gelu have work to do
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(FOLDER)

    tokens = LENGTHS[0]
    input_ids = torch.randint(1, config.vocab_size, (2, tokens))
    types = (torch.arange(tokens) > 2).long().expand(2, -1)
    mask = torch.arange(tokens) < torch.tensor(LENGTHS).unsqueeze(1)
    labels = input_ids.masked_fill(~mask | (torch.rand(2, tokens) < 0.5), -100)
    inputs = {"attention_mask": mask.long(), "token_type_ids": types}
    output = model.bert(input_ids, **inputs)
    logits = model.cls.predictions(output.last_hidden_state)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    loss.backward()
    golden = {
        "made_with": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "input_ids": input_ids.tolist(),
        "lengths": LENGTHS,
        "token_type_ids": types.tolist(),
        "labels": labels.tolist(),
        "hidden": rounded(output.last_hidden_state),
        "pooled": rounded(output.pooler_output),
        "logits": rounded(logits),
        "loss": loss.item(),
        "gradient_norms": {
            name: parameter.grad.norm().item()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        },
    }
    (FOLDER / "golden.json").write_text(json.dumps(golden) + "\n")
    print(f"{FOLDER}: {sum(path.stat().st_size for path in FOLDER.iterdir()):,} bytes")


def rounded(values: torch.Tensor) -> list:
    """Nested lists of numbers with six digits behind the point."""
    return json.loads(json.dumps(values.tolist()), parse_float=lambda text: round(float(text), 6))


if __name__ == "__main__":
    main()
