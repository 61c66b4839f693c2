"""Make tests/golden/bert_tiny: a tiny random BERT saved by transformers, with what it computes.

    python tests/golden/make_bert_golden.py        # needs the extra "parity"; deterministic

The folder holds config.json and model.safetensors as transformers writes them, and golden.json: a
ragged batch, its hidden states and pooled ones, the logits of the masked-language-model head, and
the loss and gradient norms of one training step.
"""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from making import gradient_norms, rounded, widen, write

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
    widen(model, 0.15)
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
        "input_ids": input_ids.tolist(),
        "lengths": LENGTHS,
        "token_type_ids": types.tolist(),
        "labels": labels.tolist(),
        "hidden": rounded(output.last_hidden_state.tolist()),
        "pooled": rounded(output.pooler_output.tolist()),
        "logits": rounded(logits.tolist()),
        "loss": loss.item(),
        "gradient_norms": gradient_norms(model),
    }
    write(FOLDER, golden)


if __name__ == "__main__":
    main()
