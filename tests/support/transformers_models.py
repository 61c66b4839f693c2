"""Random tiny models of transformers', saved by it and compared with ours: for parity tests."""

from __future__ import annotations

import functools
import json
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient.checkpoints.weight_names import module_name, split_weight

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
#: Dialects of rotary positions.
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 24,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.7],
    "long_factor": [1.5, 2.0, 4.0, 9.0],
    "original_max_position_embeddings": 32,
}
TOKENS = 40  # of a text; windows and original contexts below are shorter
NEW_TOKENS = 24
#: Of the largest logit. transformers and gradient sum in another order; the bar is 2e-4.
TOLERANCE = 2e-5


@dataclass
class Row:
    """A family, or a dialect of it."""

    config: str  # transformers' class
    changes: dict[str, Any] = field(default_factory=dict)
    old: bool = False  # rewrite config.json as transformers before 5 wrote it

    def __str__(self) -> str:
        changes = ",".join(f"{key}={_brief(value)}" for key, value in self.changes.items())
        return f"{self.config.removesuffix('Config')}[{changes}]" + "-old" * self.old


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        rope = value.get("rope_type") or value.get("type") or "rope"
        return "+".join([rope, *(key for key in value if key not in ("rope_type", "type"))])
    return str(value).replace(" ", "")


def row(config: str, *, old: bool = False, **changes: Any) -> Row:
    return Row(config + "Config", changes, old)


def random_model(case: Row, seed: int = 0) -> Any:
    """A transformers model whose weights are wide enough for every part to matter."""
    torch.manual_seed(seed)
    config = getattr(transformers, case.config)(**deepcopy(SHAPE | case.changes))
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def rewrite_as_old(folder: Path) -> None:
    """Say in the words of transformers 4 what config.json says of rotary positions and windows."""
    values = json.loads((folder / "config.json").read_text())
    inner = values.pop("rope_parameters")
    key = "type"
    if "sliding_attention" in inner:  # Gemma 3's: younger than that key
        values["rope_local_base_freq"] = inner["sliding_attention"]["rope_theta"]
        key, inner = "rope_type", inner["full_attention"]
    if "_sliding_window_pattern" in values:
        values["sliding_window_pattern"] = values.pop("_sliding_window_pattern")
        del values["layer_types"]
    values["rope_theta"] = inner.pop("rope_theta")
    if "partial_rotary_factor" in inner:
        values["partial_rotary_factor"] = inner.pop("partial_rotary_factor")
    kind = inner.pop("rope_type")
    values["rope_scaling"] = None if kind == "default" else {key: kind, **inner}
    (folder / "config.json").write_text(json.dumps(values))


def save(model: Any, case: Row, folder: Path, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    if case.old:
        rewrite_as_old(folder)
    return folder


def theirs(folder: Path, dtype: Any = torch.float32) -> Any:
    """A fresh model of transformers': one that has read a long text may hold other frequencies."""
    return deepcopy(_as_read(folder, dtype))  # made in a fifth of the time that reading takes


@functools.lru_cache(maxsize=1)
def _as_read(folder: Path, dtype: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def texts(rows: int, tokens: int, vocab_size: int, seed: int = 0) -> np.ndarray:
    """Token ids (rows, tokens), the padding token among them."""
    return np.random.default_rng(seed).integers(0, vocab_size, (rows, tokens))


def logits_of(model: Any, ids: np.ndarray) -> np.ndarray:
    """Logits (B, T, V) of a model of either side."""
    if isinstance(model, transformers.PreTrainedModel):
        with torch.no_grad():
            return model(torch.tensor(ids)).logits.float().numpy()
    with gradient.no_grad():
        return model(gradient.tensor(ids)).float().numpy()


def assert_close(actual, expected, tolerance=TOLERANCE, what=""):
    """Compare by the largest difference, relative to the largest expected number."""
    difference = np.abs(actual - expected).max() / np.abs(expected).max()
    assert difference <= tolerance, f"{what}: off by {difference:.2g} of the largest"


def greedy(model: Any, prompt: list[int], use_cache: bool = True) -> list[int]:
    """What transformers' own generate writes."""
    ids = torch.tensor([prompt])
    written = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        use_cache=use_cache,
        eos_token_id=None,
        pad_token_id=0,
    )
    return written[0, len(prompt) :].tolist()


def loss_and_gradients(model: Any, ids: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
    """transformers' loss of predicting a text, and each parameter's gradient."""
    model.zero_grad()
    loss = model.train()(torch.tensor(ids), labels=torch.tensor(ids)).loss
    loss.backward()
    return loss.item(), {name: p.grad.numpy() for name, p in model.named_parameters()}


def compare_training(ours: Any, model: Any) -> None:
    """Hold the loss of predicting a text, and every parameter's gradient, to transformers'."""
    ids = texts(2, TOKENS, ours.config.vocab_size)
    exact_model = deepcopy(model).double()
    expected, reference = loss_and_gradients(model, ids)
    logits = ours.train()(gradient.tensor(ids))[:, :-1]
    loss = F.cross_entropy(logits.flatten(0, 1), gradient.tensor(ids[:, 1:]).flatten())
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-5)

    def named(gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            module_name(ours, part, {}): grad.numpy()
            for name, whole in gradients.items()
            for part, grad in split_weight(ours, name, gradient.tensor(whole))  # stacked experts
        }

    gradients = {name: p.grad.numpy() for name, p in ours.named_parameters()}
    reference = named(reference)
    assert gradients.keys() == reference.keys()
    largest = max(np.abs(grad).max() for grad in reference.values())

    def wrong(allowed: dict[str, float]) -> list[str]:
        return [n for n in reference if np.abs(gradients[n] - reference[n]).max() > allowed[n]]

    # Some are zero but for rounding: those of queries that see one key alone, say.
    allowed = {n: 5e-5 * np.abs(g).max() + 1e-7 * largest for n, g in reference.items()}
    if wrong(allowed):
        # Norms of what nearly cancels lose digits: transformers' float32 as many as this one.
        exact = named(loss_and_gradients(exact_model, ids)[1])
        for name, grad in reference.items():
            allowed[name] += 8 * np.abs(grad - exact[name]).max()
        assert not wrong(allowed)
