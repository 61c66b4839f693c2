"""A GGUF file names every token that ends a text, those of generation_config.json too."""

from __future__ import annotations

from pathlib import Path

import gradient
from gradient.checkpoints import save_gguf


def test_ends_of_generation_config(tmp_path: Path) -> None:
    lm = gradient.hub.load("tinyworld")
    assert lm.model.generation_config["eos_token_id"] == [0, 3]
    save_gguf(lm.model, tmp_path / "m.gguf", tokenizer=lm.tokenizer)
    again = gradient.hub.load(str(tmp_path / "m.gguf"))
    assert again.model.config.eos_token_ids == {0, 3}
