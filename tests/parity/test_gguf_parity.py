"""GGUF side by side with the `gguf` package, which llama.cpp's tools use, and with transformers.

Names, orders of rows and metadata are checked three ways: against gguf's own table of names, by
reading our files with its reader and its files with ours, and by letting transformers build models
from the files that we write.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gradient
from gradient.checkpoints import load_model
from gradient.checkpoints.gguf import to_gguf
from gradient.checkpoints.gguf.save import save_gguf
from gradient.checkpoints.weight_names import to_checkpoint
from gradient.io import gguf as ours
from gradient.io.gguf import GGUFFile
from gradient.io.gguf.types import NUMPY_TYPE_NAMES, PACKED_NAMES, SCALARS, TENSOR_TYPES
from gradient.quantization import quantize, quantize_

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("one_thread")]

gguf = pytest.importorskip("gguf")

from support.transformers_models import (  # noqa: E402
    LLAMA3,
    LONGROPE,
    TOKENS,
    YARN,
    Row,
    assert_close,
    logits_of,
    random_model,
    row,
    save,
    texts,
    theirs,
    torch,
    transformers,
)

# The format --------------------------------------------------------------------------------------


def test_the_tables_are_those_of_the_package():
    types = gguf.GGMLQuantizationType
    assert {kind.name: number for number, kind in TENSOR_TYPES.items()} == {
        kind.name: int(kind) for kind in types
    }
    for kind in TENSOR_TYPES.values():
        assert (kind.block_size, kind.block_bytes) == gguf.GGML_QUANT_SIZES[types[kind.name]]
    values = gguf.GGUFValueType
    for number, dtype in SCALARS.items():
        assert dtype == gguf.GGUFReader.gguf_scalar_to_np[values(number)]


VALUES = {
    "u8": ("add_uint8", 200),
    "i8": ("add_int8", -100),
    "u16": ("add_uint16", 60_000),
    "i16": ("add_int16", -30_000),
    "u32": ("add_uint32", 4_000_000_000),
    "i32": ("add_int32", -2_000_000_000),
    "f32": ("add_float32", 0.1),
    "u64": ("add_uint64", 2**63 + 1),
    "i64": ("add_int64", -(2**62)),
    "f64": ("add_float64", 0.1),
    "yes": ("add_bool", True),
    "no": ("add_bool", False),
    "text": ("add_string", "naïve 🙂\n"),
    "ints": ("add_array", [1, -2, 3]),
    "floats": ("add_array", [0.5, -1.5]),
    "bools": ("add_array", [True, False]),
    "texts": ("add_array", ["a", "", "ü" * 1000]),
    "bytes": ("add_array", b"\x00\x01\xff"),
}


def written_by_the_package(path: Path, order: str, tensors=None) -> Path:
    writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian[order])
    for key, (method, value) in VALUES.items():
        getattr(writer, method)(key, value)
    for name, (array, kind) in (tensors or {}).items():
        writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
def test_their_metadata_read_by_us(order, tmp_path):
    path = written_by_the_package(tmp_path / "v.gguf", order)
    file = GGUFFile(path)
    for key, (_, value) in VALUES.items():
        expected = np.float32(value).item() if key == "f32" else value
        assert file.metadata[key] == (list(value) if key == "bytes" else expected), key
    assert file.metadata["general.architecture"] == "llama"
    reader = gguf.GGUFReader(path)
    assert set(file.metadata) == {key for key in reader.fields if not key.startswith("GGUF.")}


def test_our_metadata_read_by_them(tmp_path):
    path = written_by_the_package(tmp_path / "theirs.gguf", "LITTLE")
    ours.write(tmp_path / "ours.gguf", GGUFFile(path).typed_metadata, {})
    expected, got = gguf.GGUFReader(path), gguf.GGUFReader(tmp_path / "ours.gguf")
    assert list(got.fields) == list(expected.fields)
    for key, field in expected.fields.items():
        assert got.fields[key].types == field.types, key
        assert got.fields[key].contents() == field.contents(), key


PLAIN = [name for name in NUMPY_TYPE_NAMES.values() if name != "BF16"]


@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
def test_their_plain_tensors_read_by_us(order, tmp_path):
    arrays = {
        name: (np.arange(24).reshape(2, 3, 4) - 9).astype(kind.numpy)
        for name, kind in zip(PLAIN, map(named, PLAIN), strict=True)
    }
    path = written_by_the_package(
        tmp_path / "t.gguf", order, {name: (array.copy(), None) for name, array in arrays.items()}
    )
    file = GGUFFile(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(file[name].numpy(), array)
        assert file.array(name).dtype == array.dtype


def named(name: str):
    return next(kind for kind in TENSOR_TYPES.values() if kind.name == name)


def test_our_plain_tensors_read_by_them(tmp_path):
    tensors = {}
    for dtype, name in NUMPY_TYPE_NAMES.items():
        tensors[name] = gradient.tensor((np.arange(24).reshape(2, 3, 4) - 9).astype(dtype))
    ours.write(tmp_path / "t.gguf", {"general.architecture": "x"}, tensors)
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "t.gguf").tensors}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].tensor_type.name == name
        assert found[name].shape.tolist() == [4, 3, 2]
        data = found[name].data
        if name == "BF16":
            data = gguf.dequantize(data, gguf.GGMLQuantizationType.BF16)
        np.testing.assert_array_equal(data, tensor.float().numpy() if name == "BF16" else tensor)


@pytest.mark.parametrize("name", PACKED_NAMES)
def test_packed_tensors_both_ways(name, tmp_path):
    kind = gguf.GGMLQuantizationType[name]
    packed = quantize(gradient.randn(2, 3, 512), name.lower())
    ours.write(tmp_path / "ours.gguf", {"general.architecture": "x"}, {"w": packed})
    (read,) = gguf.GGUFReader(tmp_path / "ours.gguf").tensors
    assert read.tensor_type == kind and read.shape.tolist() == [512, 3, 2]
    np.testing.assert_array_equal(read.data, packed.array.parts[0].reshape(2, 3, -1))
    expected = gguf.dequantize(read.data, kind)
    np.testing.assert_array_equal(packed.dequantize().numpy(), expected)
    raw = np.array(read.data).reshape(6, -1)
    path = written_by_the_package(tmp_path / "theirs.gguf", "LITTLE", {"w": (raw, kind)})
    np.testing.assert_array_equal(GGUFFile(path)["w"].dequantize(), expected.reshape(6, 512))


# Models ------------------------------------------------------------------------------------------

MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
GPT2 = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64}
TABLE = [
    row("Llama"),
    row("Llama", tie_word_embeddings=True, num_key_value_heads=4),
    row("Llama", attention_bias=True, mlp_bias=True, head_dim=14),
    row("Llama", rope_scaling={"rope_type": "linear", "factor": 3.0}),
    row("Llama", rope_scaling=LLAMA3, rope_theta=5e5),
    row("Llama", rope_scaling=YARN | {"mscale": 0.8, "mscale_all_dim": 0.5}),
    row("Llama", rope_scaling=LONGROPE),
    row("Mistral", sliding_window=6, head_dim=12),
    row("Qwen2"),
    row("Qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=1),
    row("Qwen3", head_dim=20, tie_word_embeddings=True),
    row("Phi"),
    row("Phi", num_attention_heads=2, num_key_value_heads=1, partial_rotary_factor=0.25),
    row("Phi3", sliding_window=8),
    row("Phi3", rope_scaling=LONGROPE, original_max_position_embeddings=48),
    row("Gemma", head_dim=12),
    row("Gemma2", head_dim=8, sliding_window=7, query_pre_attn_scalar=11),
    row("Gemma3Text", head_dim=8, num_hidden_layers=7, sliding_window=4),
    row("Gemma3Text", head_dim=8, num_hidden_layers=3, sliding_window_pattern=3, sliding_window=6),
    row("Ernie4_5", head_dim=8),
    row("Ernie4_5", use_bias=True, tie_word_embeddings=False, head_dim=18),
    row("GPT2", **GPT2),
    row("GPT2", **GPT2, n_inner=40, tie_word_embeddings=False),
    row("Mixtral", num_local_experts=3, intermediate_size=24),
    row("Qwen2Moe", **MOE, shared_expert_intermediate_size=20),
    row("Qwen3Moe", **MOE, head_dim=8, norm_topk_prob=True),
    row("GPTNeoX"),
    row("Falcon"),
    row("Falcon", multi_query=False, tie_word_embeddings=False),
    row("Olmo2"),
    row("Arcee"),
    row("Granite", residual_multiplier=0.4, embedding_multiplier=3.0, attention_multiplier=0.2),
    row("Starcoder2"),
    row("StableLm", use_qkv_bias=True),
    row("SmolLM3", num_hidden_layers=4),
    row("Glm4", head_dim=8),
]


@pytest.fixture(scope="module", params=TABLE, ids=str)
def case(request) -> Row:
    return request.param


@pytest.fixture(scope="module")
def folder(case, tmp_path_factory) -> Path:
    """The row's model as transformers saves it, and in it a GGUF file as we write it."""
    path = save(random_model(case), case, tmp_path_factory.mktemp("model"))
    save_gguf(load_model(path), path / "model.gguf")
    return path


def test_the_logits_are_those_of_the_folder(folder):
    model, file = load_model(folder), load_model(folder / "model.gguf")
    ids = texts(2, TOKENS, model.config.vocab_size)
    assert_close(logits_of(file, ids), logits_of(model, ids), tolerance=2e-6)
    assert_close(logits_of(file, ids), logits_of(theirs(folder), ids))


def test_names_are_those_of_gguf(folder):
    """Each weight has the name that llama.cpp's converter would give it."""
    model = load_model(folder)
    values = model.config.to_hf()
    arch = model.config.gguf.name
    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    layers = values.get("num_hidden_layers", values.get("n_layer"))
    names = gguf.get_tensor_name_map(number, layers)
    expected = set()
    for name in to_checkpoint(model):
        if ".experts." in name:  # the converter stacks them under this name first
            before, _, rest = name.partition(".experts.")
            name = f"{before}.experts.{rest.partition('.')[2]}"
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert found is not None, name
        expected.add(found)
    read = {tensor.name for tensor in gguf.GGUFReader(folder / "model.gguf").tensors}
    assert {name for name in read if not name.startswith("rope_")} == expected


def test_keys_are_those_of_gguf(folder):
    """Each key is one that the package names, so that other programs can know it."""
    known = set()
    for group in vars(gguf.Keys).values():
        if isinstance(group, type):
            known |= {value for value in vars(group).values() if isinstance(value, str)}
    file = GGUFFile(folder / "model.gguf")
    arch = file.metadata["general.architecture"]
    keys = {key.replace(f"{arch}.", "{arch}.", 1) for key in file.metadata}
    assert keys <= known


def test_bert(tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 44, "num_attention_heads": 4}
    config = transformers.BertConfig(vocab_size=97, num_hidden_layers=2, **sizes)
    model = transformers.BertModel(config).eval()
    model.save_pretrained(tmp_path)
    save_gguf(load_model(tmp_path), tmp_path / "model.gguf")
    ids = texts(2, TOKENS, 97)
    with torch.no_grad(), gradient.no_grad():
        expected = model(torch.tensor(ids)).last_hidden_state.numpy()
        got = load_model(tmp_path / "model.gguf").bert(gradient.tensor(ids), None, None).numpy()
    assert_close(got, expected)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 2)
    suffixes = (".weight", ".bias")
    expected_names = {names.get_name(name, try_suffixes=suffixes) for name in model.state_dict()}
    read = {tensor.name for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert read == expected_names - {None, "cls.weight", "cls.bias"}


# What transformers reads: without windows, scaled positions or sizes that it takes from elsewhere.
READ_BY_TRANSFORMERS = [
    row("Llama"),
    row("Llama", tie_word_embeddings=True, num_key_value_heads=4),
    row("Llama", head_dim=14, num_key_value_heads=1),
    row("Mistral", sliding_window=None),
    row("Qwen2"),
    row("Qwen2", tie_word_embeddings=True),
    row("Qwen3", head_dim=128),
    row("Qwen2Moe", **MOE | {"moe_intermediate_size": 1408}, shared_expert_intermediate_size=5632),
    row("Qwen3Moe", **MOE | {"moe_intermediate_size": 768}, head_dim=8, norm_topk_prob=True),
    row("Phi3"),
    row("Gemma2", head_dim=8, sliding_window=64),
    row("Gemma3Text", head_dim=8, num_hidden_layers=7, sliding_window=4),
    row("GPT2", **GPT2 | {"n_positions": 1024}, max_position_embeddings=1024, vocab_size=50257),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", READ_BY_TRANSFORMERS, ids=str)
def test_transformers_builds_the_same_model(case, tmp_path):
    pytest.importorskip("accelerate")
    folder = save(random_model(case), case, tmp_path)
    save_gguf(load_model(folder), folder / "model.gguf")
    ids = texts(2, TOKENS, 97)
    expected = logits_of(theirs(folder), ids)
    read = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file="model.gguf", dtype=torch.float32
    ).eval()
    assert_close(logits_of(read, ids), expected, tolerance=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["q8_0", "q4_0", "q4_k_m", "q6_k"])
def test_transformers_unpacks_the_same_model(scheme, tmp_path, exact_products):
    """Packed rows of queries are put in order block by block; transformers unpacks, then orders."""
    pytest.importorskip("accelerate")
    case = row("Llama", hidden_size=256, intermediate_size=512, num_hidden_layers=3)
    folder = save(random_model(case), case, tmp_path)
    save_gguf(quantize_(load_model(folder), scheme), folder / "model.gguf")
    read = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file="model.gguf", dtype=torch.float32
    ).eval()
    ids = texts(2, TOKENS, 97)
    assert_close(logits_of(load_model(folder / "model.gguf"), ids), logits_of(read, ids))


def test_equal_tensors_in_the_packages_reader(folder):
    """What we announce, make and write is what the reader finds, tensor by tensor."""
    _, tensors = to_gguf(load_model(folder))
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(folder / "model.gguf").tensors}
    assert list(read) == list(tensors)
    for name, tensor in tensors.items():
        made = tensor.make() if isinstance(tensor, ours.LazyTensor) else tensor
        np.testing.assert_array_equal(read[name].data, made.detach().numpy())
