"""What the scripts that make golden models of transformers' share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers


@torch.no_grad()
def widen(model: torch.nn.Module, spread: float = 0.15) -> None:
    """Make weights wider than the initial 0.02, so that every part has work to do."""
    for parameter in model.parameters():
        parameter.add_(spread * torch.randn_like(parameter))


def gradient_norms(model: torch.nn.Module) -> dict[str, float]:
    """The norm of each parameter's gradient that has one."""
    found = ((name, parameter.grad) for name, parameter in model.named_parameters())
    return {name: grad.norm().item() for name, grad in found if grad is not None}


def rounded(numbers: Any, digits: int = 6) -> Any:
    """Numbers in nested lists, without the digits that the order of sums decides."""
    if isinstance(numbers, list):
        return [rounded(each, digits) for each in numbers]
    return round(numbers, digits)


@torch.no_grad()
def continue_greedily(model: torch.nn.Module, prompt: list[int], tokens: int) -> list[int]:
    """The likeliest token, again and again: written out, to depend on no generation settings."""
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def write(folder: Path, golden: dict[str, Any]) -> None:
    """Write golden.json beside the model that transformers has saved."""
    made_with = f"transformers {transformers.__version__}, torch {torch.__version__}"
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "golden.json").write_text(json.dumps({"made_with": made_with, **golden}) + "\n")
    print(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir()):,} bytes")
