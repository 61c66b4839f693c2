"""The reference: the same forward pass by transformers, if it is installed.

Nothing else in gradient uses it. Its modules have the same names as ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradient.errors import MissingDependency
from gradient.evaluation.trace import Event


def run_transformers(
    path: str | Path, tokens: Sequence[int], dtype: str | None = None
) -> list[Event]:
    """Return the results of every module of a folder's or hub id's model over a text.

    Args:
        dtype: "float32", "bfloat16", ...; None: the stored one.

    Raises:
        MissingDependency: torch or transformers is not installed.
    """
    try:
        import torch
        from transformers import (
            MODEL_FOR_MASKED_LM_MAPPING,
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForMaskedLM,
        )
    except ImportError as error:
        raise MissingDependency(
            f"diff against transformers needs torch and transformers ({error}): "
            "pip install torch transformers"
        ) from None
    kind: Any = "auto" if dtype is None else getattr(torch, dtype)
    config = AutoConfig.from_pretrained(str(path))
    # Encoders have a class for text that is written, too, which is not ours.
    encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING
    encoder = encoder and not getattr(config, "is_decoder", False)
    auto: Any = AutoModelForMaskedLM if encoder else AutoModelForCausalLM
    model = auto.from_pretrained(str(path), dtype=kind).eval()
    events: list[Event] = []

    def hook(name: str) -> Any:
        def note(_module: Any, _args: Any, output: Any) -> None:
            while isinstance(output, (tuple, list)) and output:
                output = output[0]
            output = getattr(output, "logits", getattr(output, "last_hidden_state", output))
            if isinstance(output, torch.Tensor) and output.is_floating_point():
                value: np.ndarray = output.detach().float().numpy().copy()
                number = sum(1 for event in events if event.module == name)
                events.append(Event(name, "", number, "", value))

        return note

    for name, module in model.named_modules():
        module.register_forward_hook(hook(name))
    with torch.no_grad():
        options = {} if encoder else {"use_cache": False}
        model(input_ids=torch.tensor([list(tokens)]), **options)
    return events
