"""Models in GGUF files: hyperparameters, names and layouts there and back."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import gradient
from gradient.checkpoints import load_model
from gradient.checkpoints.gguf import GGUFCheckpoint, supported_architectures, to_gguf
from gradient.checkpoints.gguf.save import save_gguf
from gradient.checkpoints.weight_names import to_checkpoint
from gradient.errors import FileFormatError, GradientError, StateDictError, UnsupportedModel
from gradient.io import gguf
from gradient.io.gguf import GGUFFile
from gradient.models import config_class, model_class
from gradient.models.families import MODELS
from gradient.quantization import quantize, quantize_
from support.paths import GOLDEN

pytestmark = pytest.mark.cpu_only

CHECKPOINT = GOLDEN / "gpt2_tiny"
SHAPE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
#: What differs from `SHAPE` where that leaves parts of a family untried.
VARIED = {
    "mistral": {"sliding_window": 5},
    "mixtral": {"num_local_experts": 3, "num_experts_per_tok": 2},
    "qwen2": {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    "qwen3": {"tie_word_embeddings": True},
    "qwen2_moe": MOE | {"shared_expert_intermediate_size": 32},
    "qwen3_moe": MOE | {"mlp_only_layers": [1], "norm_topk_prob": True},
    "phi": {"partial_rotary_factor": 0.5},
    "gemma2": {"sliding_window": 7, "query_pre_attn_scalar": 12},
    "gemma3_text": {"sliding_window": 7, "num_hidden_layers": 7},
    "ernie4_5": {"use_bias": True},
    "falcon": {"num_kv_heads": 1, "ffn_hidden_size": 64},
    "gpt_neox": {"use_parallel_residual": False},
    "granite": {"residual_multiplier": 0.5, "attention_multiplier": 0.25, "logits_scaling": 3.0},
    "smollm3": {"num_hidden_layers": 4},
    "stablelm": {"use_qkv_bias": True, "use_parallel_residual": True},
    "starcoder2": {"use_bias": False},
}
#: The others have a test of their own, and "gemma3" is "gemma3_text" of a multimodal file.
FAMILIES = [
    kind for kind, entry in MODELS.items() if entry.gguf and kind not in ("bert", "gemma3", "gpt2")
]
IDS = [[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], [2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5]]


def model_of(model_type: str, **changes):
    """A small model with weights wide enough for every part to matter."""
    gradient.manual_seed(0)
    cls = model_class(model_type)
    values = {"model_type": model_type} | SHAPE | VARIED.get(model_type, {}) | changes
    model = cls(config_class(model_type).from_hf(values)).eval()
    with gradient.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * gradient.randn(*parameter.shape))
    return model


def logits(model) -> np.ndarray:
    with gradient.no_grad():
        return model(gradient.tensor(IDS)).float().numpy()


def written(model, path: Path, **options) -> Path:
    save_gguf(model, path, **options)
    return path


# There and back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_family_comes_back(model_type, tmp_path):
    model = model_of(model_type)
    path = written(model, tmp_path / "m.gguf")
    back = load_model(path)
    assert type(back) is type(model)
    np.testing.assert_array_equal(logits(back), logits(model))
    again = written(back, tmp_path / "again.gguf")
    assert again.read_bytes() == path.read_bytes()


def test_every_architecture_is_tried_here():
    written = {kind: entry.gguf for kind, entry in MODELS.items() if entry.gguf}
    assert set(FAMILIES) >= VARIED.keys()
    assert supported_architectures() == sorted(set(written.values()))
    assert {kind: config_class(kind).gguf.name for kind in written} == written


def test_bert(tmp_path):
    """What llama.cpp has a use for: the encoder, without the pooler and the head."""
    model = model_of("bert", num_key_value_heads=None, head_dim=None)
    back = load_model(written(model, tmp_path / "m.gguf"))
    file = GGUFFile(tmp_path / "m.gguf")
    assert file.metadata["bert.attention.causal"] is False and len(file) == 5 + 2 * 16
    with gradient.no_grad():
        ids = gradient.tensor(IDS)
        expected, got = (each.bert(ids, None, ids % 2).numpy() for each in (model, back))
    np.testing.assert_array_equal(got, expected)


def test_gpt2(tmp_path):
    model = load_model(CHECKPOINT)
    path = written(model, tmp_path / "m.gguf")
    width = model.config.n_embd
    assert GGUFFile(path).entries["blk.0.attn_qkv.weight"].shape == (3 * width, width)
    back = load_model(path)
    # The same numbers in another order of memory, which BLAS sums in another order.
    np.testing.assert_allclose(logits(back), logits(model), atol=1e-5)
    assert back.config.n_inner == model.config.n_inner


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"attention_bias": True}])
def test_names_and_settings_of_llama(changes, tmp_path):
    model = model_of("llama", **changes)
    checkpoint = GGUFCheckpoint(written(model, tmp_path / "m.gguf"))
    config, weights = checkpoint.config, checkpoint.weights
    expected = to_checkpoint(model)
    assert set(weights) == set(expected)
    for name, value in expected.items():
        assert name in weights and weights[name].tolist() == value.tolist(), name
    stored, read = model.config.to_hf(), model.config.from_hf(config).to_hf()
    assert {k: v for k, v in read.items() if stored.get(k) != v} == {}


def test_the_file_in_the_terms_of_llama_cpp(tmp_path):
    file = GGUFFile(written(model_of("llama"), tmp_path / "m.gguf"))
    about = {k.removeprefix("llama."): v for k, v in file.metadata.items() if "llama." in k}
    assert about == {
        "vocab_size": 40,
        "context_length": 64,
        "embedding_length": 32,
        "block_count": 2,
        "feed_forward_length": 64,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.layer_norm_rms_epsilon": pytest.approx(1e-6),
        "attention.key_length": 8,
        "attention.value_length": 8,
        "rope.dimension_count": 8,
        "rope.freq_base": 10_000.0,
    }
    assert file.metadata["general.architecture"] == "llama"
    assert file.metadata["tokenizer.ggml.bos_token_id"] == 1
    assert file.metadata["general.file_type"] == 0
    block = {name.removeprefix("blk.1.") for name in file if name.startswith("blk.1.")}
    parts = "attn_norm attn_q attn_k attn_v attn_output ffn_norm ffn_gate ffn_down ffn_up"
    assert block == {f"{part}.weight" for part in parts.split()}
    assert set(file) - {n for n in file if n.startswith("blk.")} == {
        "token_embd.weight",
        "output_norm.weight",
        "output.weight",
    }


def test_rows_of_queries_are_in_pairs(tmp_path):
    """LLaMA's own code turns rows 2i and 2i + 1 of a head, Hugging Face's i and i + D/2."""
    model = model_of("llama")
    file = GGUFFile(written(model, tmp_path / "m.gguf"))
    ours = model.model.layers[0].self_attn.q_proj.weight.detach().numpy().reshape(4, 8, 32)
    theirs = file.array("blk.0.attn_q.weight").reshape(4, 8, 32)
    for i in range(4):
        np.testing.assert_array_equal(theirs[:, 2 * i], ours[:, i])
        np.testing.assert_array_equal(theirs[:, 2 * i + 1], ours[:, i + 4])
    other = model_of("qwen2")  # and here there is nothing to do
    file = GGUFFile(written(other, tmp_path / "q.gguf"))
    np.testing.assert_array_equal(
        file.array("blk.0.attn_q.weight"),
        other.model.layers[0].self_attn.q_proj.weight.detach().numpy(),
    )


def test_norms_of_gemma_are_stored_with_one_added(tmp_path):
    model = model_of("gemma3_text")
    file = GGUFFile(written(model, tmp_path / "m.gguf"))
    norms = [name for name in file if name.endswith("norm.weight")]
    assert len(norms) == 1 + 6 * 7
    np.testing.assert_allclose(
        file.array("blk.0.attn_q_norm.weight") - 1,
        model.model.layers[0].self_attn.q_norm.weight.detach().numpy(),
        atol=1e-6,
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_matrices_in_16_bits_and_vectors_in_32(dtype, tmp_path):
    model = model_of("gemma2").to(getattr(gradient, dtype))
    path = written(model, tmp_path / "m.gguf")
    file = GGUFFile(path)
    for name, entry in file.entries.items():
        assert entry.type.name == ("F32" if len(entry.shape) == 1 else dtype_name(dtype)), name
    back = load_model(path)
    assert back.dtype.name == dtype
    np.testing.assert_array_equal(logits(back), logits(model))


def dtype_name(dtype: str) -> str:
    return {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}[dtype]


def test_another_dtype_on_the_way(tmp_path):
    model = model_of("llama")
    path = written(model, tmp_path / "m.gguf", dtype=gradient.bfloat16)
    assert GGUFFile(path)["blk.0.ffn_up.weight"].dtype == gradient.bfloat16
    expected = model.to(gradient.bfloat16)
    np.testing.assert_array_equal(logits(load_model(path)), logits(expected))


# Packed weights ----------------------------------------------------------------------------------

FORMATS = ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1"]


@pytest.mark.parametrize("name", FORMATS)
def test_packed_models_come_back(name, tmp_path):
    model = quantize_(model_of("llama"), name)
    path = written(model, tmp_path / "m.gguf")
    file = GGUFFile(path)
    assert file.entries["blk.0.attn_q.weight"].type.name == name.upper()
    assert file.metadata["general.quantization_version"] == 2
    back = load_model(path)
    assert back.model.layers[0].self_attn.q_proj.weight.dtype.name == name
    np.testing.assert_array_equal(logits(back), logits(model))
    assert written(back, tmp_path / "again.gguf").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k"])
def test_blocks_of_256(name, tmp_path):
    x = gradient.randn(6, 512)
    packed = quantize(x, name)
    gguf.write(tmp_path / "t.gguf", {}, {"w": packed, "stack": quantize(x.view(2, 3, 512), name)})
    file = GGUFFile(tmp_path / "t.gguf")
    assert file["w"].dtype.name == name and tuple(file["w"].shape) == (6, 512)
    np.testing.assert_array_equal(file["w"].dequantize().numpy(), packed.dequantize().numpy())
    stack = file["stack"].dequantize().numpy()
    np.testing.assert_array_equal(stack.reshape(6, 512), packed.dequantize().numpy())
    # The blocks are the file's own, not a copy of them.
    blocks = file.blocks("w")
    assert np.shares_memory(blocks, file["w"].array.parts[0])
    assert blocks.shape == (6, 2, packed.array.parts[0].shape[-1])


@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe", "gpt2", "gemma2", "phi3"])
def test_packed_models_of_other_layouts(model_type, tmp_path):
    """Experts stay packed when they are stacked, GPT-2's transposed matrices are (out, in)."""
    model = load_model(CHECKPOINT) if model_type == "gpt2" else model_of(model_type)
    model = quantize_(model, "q8_0")
    back = load_model(written(model, tmp_path / "m.gguf"))
    kinds = {name: p.dtype.name for name, p in back.named_parameters() if p.dtype.is_packed}
    assert kinds == {n: p.dtype.name for n, p in model.named_parameters() if p.dtype.is_packed}
    assert len(kinds) > 4
    np.testing.assert_array_equal(logits(back), logits(model))


def test_packing_while_writing(tmp_path):
    """`choose` and `cast` pack a model tensor by tensor; it equals one packed in memory."""
    model = model_of("llama")
    path = tmp_path / "m.gguf"
    save_gguf(
        model,
        path,
        choose=lambda name, shape, dtype: gradient.q8_0,
        cast=lambda x, dtype: quantize(x, dtype),
    )
    np.testing.assert_array_equal(
        logits(load_model(path)), logits(quantize_(model_of("llama"), "q8_0"))
    )


def test_memory_while_writing(tmp_path):
    """What is in memory is one tensor, not the model."""
    changes = {"vocab_size": 64, "hidden_size": 256, "intermediate_size": 512}
    model = model_of("llama", **changes, num_hidden_layers=6, head_dim=64)
    total = sum(parameter.nbytes for parameter in model.parameters())
    largest = max(parameter.nbytes for parameter in model.parameters())
    save_gguf(model, tmp_path / "m.gguf", dtype=gradient.float16)  # imports and compiles
    tracemalloc.start()
    save_gguf(model, tmp_path / "m.gguf", dtype=gradient.float16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * largest < total / 3


# Experts -----------------------------------------------------------------------------------------


def test_experts_of_old_files_and_of_fused_ones(tmp_path):
    model = model_of("mixtral")
    metadata, tensors = to_gguf(model)
    whole = {name: make(tensor) for name, tensor in tensors.items()}
    old, fused = {}, {}
    for name, tensor in whole.items():
        stem = name.removesuffix("_exps.weight")
        if stem == name:
            old[name] = fused[name] = tensor
            continue
        old |= {f"{stem}.{e}.weight": tensor[e] for e in range(3)}
        if stem.endswith("ffn_down"):
            fused[name] = tensor
        elif stem.endswith("ffn_gate"):
            up = whole[name.replace("gate", "up")]
            fused[name.replace("gate", "gate_up")] = gradient.cat([tensor, up], dim=1)
    for files in (old, fused):
        gguf.write(tmp_path / "m.gguf", metadata, files)
        np.testing.assert_array_equal(logits(load_model(tmp_path / "m.gguf")), logits(model))


def make(tensor):
    return tensor.make() if isinstance(tensor, gguf.LazyTensor) else tensor


def test_fused_queries_of_phi2(tmp_path):
    model = model_of("phi", num_key_value_heads=4)
    metadata, tensors = to_gguf(model)
    whole = {name: make(tensor) for name, tensor in tensors.items()}
    for layer in range(2):
        for kind in ("weight", "bias"):
            parts = [whole.pop(f"blk.{layer}.attn_{part}.{kind}") for part in "qkv"]
            whole[f"blk.{layer}.attn_qkv.{kind}"] = gradient.cat(parts)
    gguf.write(tmp_path / "m.gguf", metadata, whole)
    np.testing.assert_array_equal(logits(load_model(tmp_path / "m.gguf")), logits(model))


# Rotary positions --------------------------------------------------------------------------------

ROPES = {
    "linear": {"rope_type": "linear", "factor": 3.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "yarn with all": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "beta_fast": 20.0,
        "beta_slow": 2.0,
        "attention_factor": 0.75,
    },
    "longrope": {
        "rope_type": "longrope",
        "short_factor": [1.0, 1.1, 1.3, 1.7],
        "long_factor": [1.5, 2.0, 4.0, 9.0],
        "attention_factor": 1.25,
        "original_max_position_embeddings": 8,
    },
}


@pytest.mark.parametrize("name", ROPES)
def test_rope_scaling_comes_back(name, tmp_path):
    model = model_of("llama", rope_scaling=ROPES[name])
    back = load_model(written(model, tmp_path / "m.gguf"))
    assert back.config.rope_parameters == model.config.rope_parameters
    np.testing.assert_array_equal(logits(back), logits(model))


def test_llama3_scaling_comes_back_as_its_factors(tmp_path):
    """Files hold what it divides each frequency by, not its parameters."""
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 24,
    }
    model = model_of("llama", rope_scaling=scaling)
    back = load_model(written(model, tmp_path / "m.gguf"))
    found = back.config.rope_parameters
    assert (found["rope_type"], found["attention_factor"]) == ("longrope", 1.0)
    assert found["short_factor"] == found["long_factor"] and len(found["long_factor"]) == 4
    assert back.supports_chunked_prefill(100)  # at any length of text the angles are the same
    np.testing.assert_allclose(logits(back), logits(model), atol=1e-6)
    again = GGUFFile(written(back, tmp_path / "again.gguf"))
    assert again["rope_freqs.weight"].tolist() == pytest.approx(found["long_factor"], rel=1e-7)
    assert again.metadata["llama.rope.scaling.original_context_length"] == 24


def test_factors_are_kept_as_they_are(tmp_path):
    model = model_of("llama")
    metadata, tensors = to_gguf(model)
    factors = [1.0, 3.0, 2.0, 7.5]
    gguf.write(
        tmp_path / "m.gguf", metadata, {**tensors, "rope_freqs.weight": gradient.tensor(factors)}
    )
    back = load_model(tmp_path / "m.gguf")
    frequencies = back.model.rotary_emb["full_attention"].inv_freq
    expected = 10_000.0 ** -(np.arange(0, 8, 2) / 8) / factors
    np.testing.assert_allclose(frequencies, expected, rtol=1e-6)
    again = GGUFFile(written(back, tmp_path / "again.gguf"))
    assert again["rope_freqs.weight"].tolist() == factors


# What llama.cpp assumes --------------------------------------------------------------------------


def test_missing_keys(tmp_path):
    model = model_of("llama", num_key_value_heads=4)
    metadata, tensors = to_gguf(model)
    for key in ("attention.head_count_kv", "attention.key_length", "attention.value_length",
                "rope.freq_base", "rope.dimension_count", "vocab_size"):  # fmt: skip
        del metadata[f"llama.{key}"]
    gguf.write(tmp_path / "m.gguf", metadata, tensors)
    np.testing.assert_array_equal(logits(load_model(tmp_path / "m.gguf")), logits(model))


@pytest.mark.parametrize("model_type", ["qwen2_moe", "qwen3_moe"])
def test_sizes_of_experts_that_old_files_leave_out(model_type, tmp_path):
    """Two experts are in use, each of half the width; the shared one has all of it."""
    sizes = {"intermediate_size": 64, "moe_intermediate_size": 32, "mlp_only_layers": []}
    model = model_of(model_type, shared_expert_intermediate_size=64, **sizes)
    metadata, tensors = to_gguf(model)
    for key in ("expert_feed_forward_length", "expert_shared_feed_forward_length"):
        metadata.pop(f"{model_type.replace('_', '')}.{key}", None)
    gguf.write(tmp_path / "m.gguf", metadata, tensors)
    np.testing.assert_array_equal(logits(load_model(tmp_path / "m.gguf")), logits(model))


def test_what_gemma_files_leave_out(tmp_path):
    model = model_of("gemma2", sliding_window=4096, query_pre_attn_scalar=8)
    metadata, tensors = to_gguf(model)
    assert "gemma2.attention.scale" not in metadata  # heads' own size needs no key
    for key in ("attn_logit_softcapping", "final_logit_softcapping", "attention.sliding_window"):
        del metadata[f"gemma2.{key}"]
    gguf.write(tmp_path / "m.gguf", metadata, tensors)
    config = GGUFCheckpoint(tmp_path / "m.gguf").config
    assert (config["attn_logit_softcapping"], config["final_logit_softcapping"]) == (50.0, 30.0)
    assert config["sliding_window"] == 4096 and config["query_pre_attn_scalar"] == 8
    np.testing.assert_array_equal(logits(load_model(tmp_path / "m.gguf")), logits(model))


def test_lists_of_equal_numbers_are_one_number(tmp_path):
    model = model_of("llama")
    metadata, tensors = to_gguf(model)
    for key in ("feed_forward_length", "attention.head_count"):
        metadata[f"llama.{key}"] = [metadata[f"llama.{key}"]] * 2
    gguf.write(tmp_path / "m.gguf", metadata, tensors)
    np.testing.assert_array_equal(logits(load_model(tmp_path / "m.gguf")), logits(model))


@pytest.mark.parametrize("eos", [None, 2, [2, 5], [5, 2, 7]])
def test_special_ids(eos, tmp_path):
    model = model_of("llama", eos_token_id=eos, bos_token_id=None, pad_token_id=7)
    config = GGUFCheckpoint(written(model, tmp_path / "m.gguf")).config
    assert (config["eos_token_id"], config["bos_token_id"], config["pad_token_id"]) == (
        eos,
        None,
        7,
    )


def test_ids_beyond_the_vocabulary_are_none(tmp_path):
    metadata, tensors = to_gguf(model_of("llama"))
    metadata |= {"tokenizer.ggml.bos_token_id": 2**32 - 1, "tokenizer.ggml.eos_token_id": 40}
    gguf.write(tmp_path / "m.gguf", metadata, tensors)
    config = GGUFCheckpoint(tmp_path / "m.gguf").config
    assert config["bos_token_id"] is None and config["eos_token_id"] is None


# What is refused ---------------------------------------------------------------------------------

WRONG = {
    "no architecture": ({"general.architecture": None}, FileFormatError, "no general.architecture"),
    "unknown": ({"general.architecture": "mamba"}, UnsupportedModel, "'mamba' is not.*bert, ernie"),
    "missing": (
        {"llama.block_count": None, "llama.embedding_length": None},
        FileFormatError,
        "lack llama.embedding_length, llama.block_count",
    ),
    "text": ({"llama.block_count": "two"}, FileFormatError, "llama.block_count cannot be read"),
    "bool": ({"llama.block_count": True}, FileFormatError, "llama.block_count cannot be read"),
    "zero": ({"llama.attention.head_count": 0}, FileFormatError, "head_count = 0 is no size"),
    "many layers": ({"llama.block_count": 2**31}, FileFormatError, "says 2,147,483,648 layers"),
    "uneven": ({"llama.attention.head_count": [4, 2]}, FileFormatError, "from layer to layer"),
    "not a number": (
        {"llama.attention.layer_norm_rms_epsilon": float("nan")},
        FileFormatError,
        "epsilon cannot be read here: it is nan",
    ),
    "rope type": ({"llama.rope.scaling.type": "spiral"}, FileFormatError, "'spiral'; expected"),
    "rope size": ({"llama.rope.dimension_count": 9}, FileFormatError, "does not fit heads of 8"),
    "heads": ({"llama.attention.key_length": 7}, GradientError, "does not fit heads of 7"),
}


@pytest.mark.parametrize("name", WRONG)
def test_metadata_that_describe_no_model(name, tmp_path):
    changes, error, message = WRONG[name]
    metadata, tensors = to_gguf(model_of("llama"))
    metadata = {k: v for k, v in (metadata | changes).items() if v is not None}
    gguf.write(tmp_path / "m.gguf", metadata, tensors)
    with pytest.raises(error, match=message):
        load_model(tmp_path / "m.gguf")


def test_misfits_are_named_together(tmp_path):
    metadata, tensors = to_gguf(model_of("llama"))
    del tensors["blk.1.ffn_up.weight"]
    tensors["blk.0.surprise.weight"] = gradient.ones(3)
    gguf.write(tmp_path / "m.gguf", metadata, tensors)
    with pytest.raises(StateDictError) as caught:
        load_model(tmp_path / "m.gguf")
    assert "model.layers.1.mlp.up_proj.weight" in str(caught.value)
    assert "blk.0.surprise.weight" in str(caught.value)


NOT_SAID = {
    "activation": ("llama", {"hidden_act": "gelu"}, "hidden_act = 'gelu'; as llama it must be 's"),
    "dynamic": ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
    "yarn": (
        "qwen2",
        {"rope_scaling": ROPES["yarn"] | {"truncate": False}},
        "truncate = false",
    ),
    "query norms": ("phi", {"qk_layernorm": True}, "qk_layernorm = True"),
}


@pytest.mark.parametrize("name", NOT_SAID)
def test_models_that_gguf_cannot_say(name, tmp_path):
    model_type, changes, message = NOT_SAID[name]
    with pytest.raises(UnsupportedModel, match=message):
        save_gguf(model_of(model_type, **changes), tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())


# Real files --------------------------------------------------------------------------------------


def test_stories_in_three_formats_are_one_model(real_data):
    folder = real_data("stories260k")
    ids = gradient.tensor([[1, 403, 407, 261, 378, 400]])
    results = []
    for name in ("stories260K.bin", "stories260K_v1.bin", "stories260K.gguf"):
        with gradient.no_grad():
            results.append(load_model(folder / name)(ids).numpy())
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_stories_written_and_read(real_data, tmp_path):
    model = load_model(real_data("stories260k") / "stories260K.bin")
    back = load_model(written(model, tmp_path / "m.gguf"))
    np.testing.assert_array_equal(logits(back), logits(model))
    theirs = GGUFFile(real_data("stories260k") / "stories260K.gguf")
    ours = GGUFFile(tmp_path / "m.gguf")
    for name in ours:  # theirs holds the tied output matrix as well
        np.testing.assert_array_equal(ours.array(name), theirs.array(name))


# Broken files ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_damaged_models(tmp_path):
    """Each of 600 damaged files either loads and runs, or is refused in our words."""
    draw = random.Random(0)
    path = tmp_path / "m.gguf"
    whole = {
        kind: written(quantize_(model_of(kind), "q8_0"), path).read_bytes()
        for kind in ("llama", "mixtral", "gemma2", "phi3")
    }
    loaded = 0
    for number in range(600):
        data = bytearray(draw.choice(list(whole.values())))
        head = data.index(b"token_embd") if number % 3 else 2500
        if number % 5 == 0:
            data = data[: draw.randrange(len(data))]
        else:
            for _ in range(draw.randint(1, 4)):
                data[draw.randrange(min(head + 2500, len(data)))] = draw.randrange(256)
        path.write_bytes(data)
        try:
            model = load_model(path)
            with gradient.no_grad():
                model(gradient.tensor([[0]]))
            loaded += 1
        except GradientError:
            pass
    assert 0 < loaded < 600


ODD = [
    0, 1, 7, 2**31, 2**63, -1, 0.0, -1.0, 0.5, 1e30, float("nan"), float("inf"), True, "", "yarn",
    "longrope", [1, 2], ["a"], [True, False], [[1], [2]], np.float64(1e308), np.empty(0, "i4"),
]  # fmt: skip
KEYS = [
    "rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length",
    "rope.scaling.attn_factor", "rope.freq_base", "rope.freq_base_swa", "rope.dimension_count",
    "rope.scaling.yarn_beta_fast", "attention.sliding_window", "attention.sliding_window_pattern",
    "attention.scale", "expert_count", "attn_logit_softcapping", "expert_weights_norm",
]  # fmt: skip


@pytest.mark.slow
def test_odd_metadata(tmp_path):
    """Each of 500 files with odd values either loads and runs, or is refused in our words."""
    draw = random.Random(0)
    path = tmp_path / "m.gguf"
    models = []
    for kind in ("llama", "qwen3_moe", "gemma2", "gemma3_text", "phi3", "phi"):
        metadata, tensors = to_gguf(model_of(kind))
        models.append((metadata, {name: make(tensor) for name, tensor in tensors.items()}))
    factors = [[1.0] * 4, [1.0, 2.0, 3.0, 4.0], [float("nan")] * 4, [0.0] * 4, [-1.0] * 4, [1.0]]
    loaded = 0
    for _ in range(500):
        metadata, tensors = draw.choice(models)
        metadata, tensors = dict(metadata), dict(tensors)
        for _ in range(draw.randint(1, 3)):
            arch = metadata["general.architecture"]
            new = f"{arch}.{draw.choice(KEYS)}"
            old = draw.choice([key for key in metadata if key != "general.architecture"])
            metadata[draw.choice([new, old])] = draw.choice(ODD)
            if draw.random() < 0.2:
                name = draw.choice(["rope_freqs", "rope_factors_long", "rope_factors_short"])
                tensors[f"{name}.weight"] = gradient.tensor(draw.choice(factors))
        gguf.write(path, metadata, tensors)
        try:
            model = load_model(path)
            with gradient.no_grad():
                model(gradient.tensor([[0, 1]]))
            loaded += 1
        except GradientError:
            pass
    assert 0 < loaded < 500


def test_weights_have_the_length_of_their_file(tmp_path):
    checkpoint = GGUFCheckpoint(written(model_of("llama"), tmp_path / "m.gguf"))
    weights, file = checkpoint.weights, checkpoint.tensors
    assert checkpoint.config["model_type"] == "llama" and weights.file is file
    assert len(weights) == len(file)
    weights.release("model.embed_tokens.weight")


def test_which_families_have_queries_and_keys_in_another_order() -> None:
    """Those that transformers rotates by halves and llama.cpp (`llama_model_rope_type`) by
    neighbours: a file that is read as it was written would not show it."""
    kinds = [kind for kind, entry in MODELS.items() if entry.gguf]
    reordered = {MODELS[kind].gguf for kind in kinds if config_class(kind).gguf.paired}
    assert reordered == {"arcee", "granite", "llama", "smollm3"}
