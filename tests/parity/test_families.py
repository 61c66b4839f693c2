"""Every decoder family side by side with transformers: random tiny models, saved by it, read here.

`TABLE` has one row for each family and each dialect of its config.json. A new row is one line: the
name of transformers' config class, and what differs from `SHAPE`. Each row is held to the same
logits, the same greedy tokens (cached and not, alone and in a ragged batch), the same loss and
gradients in training, from float32 and from sharded bfloat16, and back again.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient.generation import generate
from gradient.models import load_model, save_model
from gradient.models.loading import parts
from gradient.models.moe import Router

pytestmark = pytest.mark.parity

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


LINEAR = {"rope_type": "linear", "factor": 3.0}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.5}
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
SU = {k: v for k, v in LONGROPE.items() if k in ("short_factor", "long_factor")} | {"type": "su"}
MIXED = ["full_attention", "sliding_attention"]
SMALL_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

TABLE = [
    # LLaMA: sizes, biases, tying
    row("Llama"),
    row("Llama", tie_word_embeddings=True),
    row("Llama", num_key_value_heads=4),
    row("Llama", num_key_value_heads=1),
    row("Llama", num_key_value_heads=None),
    row("Llama", attention_bias=True),
    row("Llama", mlp_bias=True, attention_bias=True),
    row("Llama", head_dim=14),
    row("Llama", head_dim=2, num_attention_heads=8, num_key_value_heads=8),
    row("Llama", hidden_size=36, num_attention_heads=6, num_key_value_heads=3, head_dim=10),
    row("Llama", num_hidden_layers=1, intermediate_size=7, vocab_size=131),
    row("Llama", rms_norm_eps=1e-2, hidden_act="gelu"),
    row("Llama", hidden_act="gelu_pytorch_tanh", pretraining_tp=2),
    row("Llama", hidden_act="relu", pad_token_id=None, eos_token_id=[2, 5]),
    row("Llama", pad_token_id=-1, old=True),
    # Rotary positions, past the original context too
    row("Llama", rope_theta=500.0),
    row("Llama", rope_theta=1e6, old=True),
    row("Llama", rope_scaling=LINEAR),
    row("Llama", rope_scaling=LINEAR, rope_theta=700.0, old=True),
    row("Llama", rope_scaling=DYNAMIC, max_position_embeddings=64),
    row("Llama", rope_scaling=DYNAMIC, max_position_embeddings=48),
    row("Llama", rope_scaling=DYNAMIC, max_position_embeddings=16, old=True),
    row("Llama", rope_scaling=LLAMA3),
    row("Llama", rope_scaling=LLAMA3, rope_theta=5e5, old=True),
    row("Llama", rope_scaling=YARN),
    row("Llama", rope_scaling=YARN | {"attention_factor": 0.7, "truncate": False}, head_dim=20),
    row("Llama", rope_scaling=YARN | {"mscale": 0.8, "mscale_all_dim": 0.5}, rope_theta=800.0),
    row("Llama", rope_scaling=YARN | {"beta_fast": 20.0, "beta_slow": 2}, old=True),
    row("Llama", rope_scaling={"rope_type": "yarn", "factor": 2.0}, max_position_embeddings=24),
    row("Llama", rope_scaling=LONGROPE, max_position_embeddings=128),
    row("Llama", rope_scaling=LONGROPE | {"factor": 3.0, "attention_factor": 1.2}),
    row("Llama", rope_parameters={"rope_type": "default", "rope_theta": 300.0}),
    # Mistral: a window in every layer
    row("Mistral", sliding_window=None),
    row("Mistral", sliding_window=6, head_dim=12),
    row("Mistral", sliding_window=2, num_key_value_heads=4, old=True),
    row("Mistral", sliding_window=39, rope_theta=1e6, tie_word_embeddings=True),
    row("Mistral", sliding_window=100, rope_scaling=YARN),
    # Qwen2: biases, windows in the upper layers
    row("Qwen2"),
    row("Qwen2", tie_word_embeddings=True, old=True),
    row("Qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=1),
    row("Qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=0),
    row("Qwen2", use_sliding_window=False, sliding_window=5, max_window_layers=0, old=True),
    row("Qwen2", use_sliding_window=True, sliding_window=7, layer_types=MIXED[::-1]),
    row("Qwen2", rope_scaling=YARN, head_dim=16, rope_theta=1e6, old=True),
    # Qwen3: normalised queries and keys
    row("Qwen3", head_dim=8),
    row("Qwen3", head_dim=20, tie_word_embeddings=True, attention_bias=True, old=True),
    row("Qwen3", head_dim=6, num_key_value_heads=1, rope_scaling=DYNAMIC),
    row("Qwen3", head_dim=16, use_sliding_window=True, sliding_window=9, layer_types=MIXED),
    row("Qwen3", rope_scaling=LLAMA3, num_attention_heads=2, num_key_value_heads=2),
    # Phi-3: fused projections, part of each head turned, two sets of frequencies
    row("Phi3"),
    row("Phi3", sliding_window=8, tie_word_embeddings=True, num_key_value_heads=4),
    row("Phi3", partial_rotary_factor=0.75, hidden_act="gelu"),
    row("Phi3", partial_rotary_factor=0.7, head_dim=16, old=True),
    row("Phi3", rope_scaling=LONGROPE, original_max_position_embeddings=48, sliding_window=9),
    row(
        "Phi3",
        rope_scaling=LONGROPE,
        hidden_size=64,
        partial_rotary_factor=0.5,
        original_max_position_embeddings=16,
    ),
    # ERNIE 4.5: neighbouring pairs, biases
    row("Ernie4_5", head_dim=8),
    row("Ernie4_5", use_bias=True, tie_word_embeddings=False, head_dim=18),
    row("Ernie4_5", head_dim=None, rope_theta=1e4, num_key_value_heads=1, old=True),
    row("Ernie4_5", head_dim=8, rope_scaling=LLAMA3, rope_theta=1e4),
    # Mixtures of experts (of sizes that PyTorch's bfloat16 kernel takes)
    row("Mixtral", num_local_experts=4, intermediate_size=24),
    row(
        "Mixtral",
        num_local_experts=3,
        num_experts_per_tok=1,
        intermediate_size=24,
        sliding_window=7,
        old=True,
    ),
    row("Mixtral", num_local_experts=2, intermediate_size=8, head_dim=12, hidden_act="gelu"),
    row("Qwen3Moe", num_experts=5, num_experts_per_tok=2, moe_intermediate_size=16, head_dim=8),
    row(
        "Qwen3Moe",
        num_experts=4,
        num_experts_per_tok=3,
        moe_intermediate_size=24,
        norm_topk_prob=True,
        head_dim=12,
        tie_word_embeddings=True,
        attention_bias=True,
        old=True,
    ),
    row("Qwen3Moe", **SMALL_MOE, decoder_sparse_step=2, use_sliding_window=True, sliding_window=9),
    row("Qwen3Moe", **SMALL_MOE, mlp_only_layers=[1]),
    row("Qwen2Moe", **SMALL_MOE, shared_expert_intermediate_size=20),
    row(
        "Qwen2Moe",
        **SMALL_MOE,
        norm_topk_prob=True,
        qkv_bias=False,
        mlp_only_layers=[0],
        use_sliding_window=True,
        sliding_window=6,
        max_window_layers=2,
    ),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    """Say in the words of transformers 4 what config.json says of rotary positions."""
    values = json.loads((folder / "config.json").read_text())
    inner = values.pop("rope_parameters")
    values["rope_theta"] = inner.pop("rope_theta")
    if "partial_rotary_factor" in inner:
        values["partial_rotary_factor"] = inner.pop("partial_rotary_factor")
    kind = inner.pop("rope_type")
    values["rope_scaling"] = None if kind == "default" else {"type": kind, **inner}
    (folder / "config.json").write_text(json.dumps(values))


def save(model: Any, case: Row, folder: Path, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    if case.old:
        rewrite_as_old(folder)
    return folder


def theirs(folder: Path, dtype: Any = torch.float32) -> Any:
    """A fresh model of transformers': one that has read a long text may hold other frequencies."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


@pytest.fixture(scope="module", params=TABLE, ids=str)
def case(request) -> Row:
    return request.param


@pytest.fixture(scope="module")
def folder(case, tmp_path_factory) -> Path:
    """The row's model, in float32."""
    return save(random_model(case), case, tmp_path_factory.mktemp("float32"))


def texts(rows: int, tokens: int, vocab_size: int, seed: int = 0) -> np.ndarray:
    """Token ids (rows, tokens), the padding token among them."""
    return np.random.default_rng(seed).integers(0, vocab_size, (rows, tokens))


def logits_of(model: Any, ids: np.ndarray) -> np.ndarray:
    if isinstance(model, transformers.PreTrainedModel):
        with torch.no_grad():
            return model(torch.tensor(ids)).logits.float().numpy()
    with gradient.no_grad():
        return model(gradient.tensor(ids)).float().numpy()


def assert_close(actual, expected, tolerance=TOLERANCE, what=""):
    difference = np.abs(actual - expected).max() / np.abs(expected).max()
    assert difference <= tolerance, f"{what}: off by {difference:.2g} of the largest"


def greedy(model: Any, prompt: list[int]) -> list[int]:
    """What transformers' own generate writes."""
    ids = torch.tensor([prompt])
    written = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return written[0, len(prompt) :].tolist()


def test_logits(folder):
    ours = load_model(folder)
    for tokens in (1, 13, TOKENS):
        ids = texts(2, tokens, ours.config.vocab_size, seed=tokens)
        assert_close(logits_of(ours, ids), logits_of(theirs(folder), ids), what=f"{tokens} tokens")


def test_greedy_tokens(folder):
    ours = load_model(folder)
    prompts = [texts(1, n, ours.config.vocab_size, seed=n)[0].tolist() for n in (3, 17, 36)]
    expected = [greedy(theirs(folder), prompt) for prompt in prompts]
    options = {"max_new_tokens": NEW_TOKENS, "ignore_eos": True}
    assert [generate(ours, prompt, **options).token_ids for prompt in prompts] == expected
    assert [each.token_ids for each in generate(ours, prompts, **options)] == expected


def test_a_training_step(folder):
    compare_training(load_model(folder), theirs(folder))


def compare_training(ours: Any, model: Any) -> None:
    ids = texts(2, TOKENS, ours.config.vocab_size)
    expected = model.train()(torch.tensor(ids), labels=torch.tensor(ids)).loss
    expected.backward()
    logits = ours.train()(gradient.tensor(ids))[:, :-1]
    loss = F.cross_entropy(logits.flatten(0, 1), gradient.tensor(ids[:, 1:]).flatten())
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = {name: p.grad.numpy() for name, p in ours.named_parameters()}
    reference = {
        part: grad.numpy()
        for name, p in model.named_parameters()
        for part, grad in parts(ours, name, gradient.tensor(p.grad.numpy()))  # stacked experts
    }
    assert gradients.keys() == reference.keys()
    largest = max(np.abs(grad).max() for grad in reference.values())
    for name, grad in reference.items():
        # Some are zero but for rounding: those of queries that see one key alone, say.
        allowed = 5e-5 * np.abs(grad).max() + 1e-7 * largest
        assert np.abs(gradients[name] - grad).max() <= allowed, name


def test_bfloat16_in_shards(case, tmp_path):
    model = random_model(case).to(torch.bfloat16)
    save(model, case, tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    ids = texts(2, TOKENS, model.config.vocab_size)
    wide = load_model(tmp_path, dtype=gradient.float32)
    exact = logits_of(theirs(tmp_path), ids)
    assert_close(logits_of(wide, ids), exact)
    ours = load_model(tmp_path)
    assert ours.dtype == gradient.bfloat16
    # Both round at the same places. What is left comes from sums in another order, which now and
    # then round to the other side; both are off the exact result by several times as much.
    narrow, expected = logits_of(ours, ids), logits_of(theirs(tmp_path, torch.bfloat16), ids)
    if has_experts(ours):
        # Where two experts are nearly tied, the last bit sends a token to the other one.
        errors = np.abs(narrow - expected).max(-1).ravel()  # of each token
        ties = np.argsort(errors)[len(errors) * 98 // 100 :]
        narrow.reshape(-1, narrow.shape[-1])[ties] = expected.reshape(-1, narrow.shape[-1])[ties]
    assert_close(narrow, expected, 3e-2)


def has_experts(model: Any) -> bool:
    return any(isinstance(module, Router) for module in model.modules())


def test_transformers_reads_what_we_save(folder, tmp_path):
    ours = load_model(folder)
    save_model(ours, tmp_path, max_shard_bytes=30_000)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    ids = texts(1, TOKENS, ours.config.vocab_size)
    assert_close(logits_of(ours, ids), logits_of(model.eval(), ids))
    again = load_model(tmp_path)
    assert np.array_equal(logits_of(again, ids), logits_of(ours, ids))
