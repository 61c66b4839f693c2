"""GPT-2 side by side with transformers: random models, saved by one and read by the other."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient.checkpoints import load_model, save_model
from gradient.generation import generate
from gradient.models import GPT2Config, GPT2LMHeadModel

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("one_thread")]

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SHAPE = {
    "vocab_size": 211,
    "n_positions": 128,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 4,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
VARIANTS = {
    "plain": {},
    "untied": {"tie_word_embeddings": False},
    "unscaled attention": {"scale_attn_weights": False},
    "scaled by depth": {"scale_attn_by_inverse_layer_idx": True},
    "upcast attention": {"reorder_and_upcast_attn": True},
    "narrow mlp": {"n_inner": 40, "activation_function": "relu"},
    "epsilon": {"layer_norm_epsilon": 1e-2},
}
ACTIVATIONS = [
    "gelu", "gelu_10", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "silu", "swish", "tanh",
    "mish", "relu2",
]  # fmt: skip
PROMPT_LENGTHS = (1, 5, 23)


def reference(**changes):
    """A random transformers GPT-2 whose weights are wide enough for every part to matter."""
    config = transformers.GPT2Config(**(SHAPE | changes), attn_implementation="eager")
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def logits_of(model, ids) -> np.ndarray:
    if isinstance(model, transformers.PreTrainedModel):
        with torch.no_grad():
            return model(torch.tensor(ids)).logits.float().numpy()
    with gradient.no_grad():
        return model(gradient.tensor(ids)).float().numpy()


def assert_close(actual, expected, tolerance=2e-5):
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


def greedy(model, prompt: list[int], tokens: int) -> list[int]:
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(int(logits_of(model, [ids])[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_logits(changes, tmp_path):
    theirs = reference(**changes)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    ids = np.random.randint(0, 211, (3, 40)).tolist()
    assert_close(logits_of(ours, ids), logits_of(theirs, ids))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation, tmp_path):
    theirs = reference(activation_function=activation, n_layer=1)
    theirs.save_pretrained(tmp_path)
    ids = np.random.randint(0, 211, (2, 16)).tolist()
    assert_close(logits_of(load_model(tmp_path), ids), logits_of(theirs, ids))


@pytest.mark.parametrize("saved", ["one file", "shards", "bare decoder"])
def test_50_greedy_tokens_cached_and_not_alone_and_ragged(saved, tmp_path):
    theirs = reference()
    if saved == "one file":
        theirs.save_pretrained(tmp_path)
    elif saved == "shards":
        theirs.save_pretrained(tmp_path, max_shard_size="50KB")
        assert len(list(tmp_path.glob("*.safetensors"))) > 3
    else:
        theirs.transformer.save_pretrained(tmp_path)  # names without "transformer."
    ours = load_model(tmp_path)
    prompts = [np.random.randint(1, 211, length).tolist() for length in PROMPT_LENGTHS]
    expected = [greedy(theirs, prompt, 50) for prompt in prompts]
    for use_cache in (True, False):
        options = {"max_new_tokens": 50, "ignore_eos": True, "use_cache": use_cache}
        assert [generate(ours, p, **options).token_ids for p in prompts] == expected
        assert [row.token_ids for row in generate(ours, prompts, **options)] == expected


def test_bfloat16_shards(tmp_path):
    theirs = reference().to(torch.bfloat16)
    theirs.save_pretrained(tmp_path, max_shard_size="50KB")
    ours = load_model(tmp_path)
    assert ours.dtype == gradient.bfloat16
    ids = np.random.randint(0, 211, (2, 30)).tolist()
    exact = logits_of(theirs.float(), ids)
    assert_close(logits_of(load_model(tmp_path, dtype=gradient.float32), ids), exact)
    assert_close(logits_of(ours, ids), exact, tolerance=3e-2)  # 8 bits of precision in each layer


def test_transformers_own_generate_says_the_same(tmp_path):
    theirs = reference()
    theirs.save_pretrained(tmp_path)
    prompt = [5, 6, 7, 8]
    ids = theirs.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, 4, dtype=torch.long),
        max_new_tokens=30,
        do_sample=False,
        repetition_penalty=1.3,
        pad_token_id=0,
        eos_token_id=None,
    )
    ours = generate(
        load_model(tmp_path), prompt, max_new_tokens=30, repetition_penalty=1.3, ignore_eos=True
    )
    assert ours.token_ids == ids[0, 4:].tolist()


@pytest.mark.parametrize("changes", [VARIANTS["plain"], VARIANTS["untied"]], ids=["tied", "untied"])
def test_a_training_step(changes, tmp_path):
    theirs = reference(**changes)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path).train()
    ids = np.random.randint(0, 211, (4, 32))

    expected = theirs(torch.tensor(ids), labels=torch.tensor(ids)).loss
    expected.backward()
    logits = ours(gradient.tensor(ids))[:, :-1]
    loss = F.cross_entropy(logits.reshape(-1, 211), gradient.tensor(ids)[:, 1:].reshape(-1))
    loss.backward()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    names = {name for name, _ in theirs.named_parameters()}
    assert gradients.keys() == names
    for name, parameter in theirs.named_parameters():
        conv1d = any(part in name for part in ("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        grad = parameter.grad.T if conv1d else parameter.grad
        assert_close(gradients[name].numpy(), grad.numpy(), tolerance=5e-5)


def test_transformers_reads_what_we_save(tmp_path):
    gradient.manual_seed(0)
    ours = GPT2LMHeadModel(GPT2Config(**SHAPE, initializer_range=0.2)).eval()
    ids = np.random.randint(0, 211, (2, 20)).tolist()
    for number, options in enumerate(({}, {"max_shard_bytes": 50_000})):
        folder = tmp_path / str(number)
        save_model(ours, folder, **options)
        theirs, info = transformers.GPT2LMHeadModel.from_pretrained(
            folder, output_loading_info=True
        )
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        assert_close(logits_of(ours, ids), logits_of(theirs.eval(), ids))
