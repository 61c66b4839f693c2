"""hub.load: where a name leads, without a network; what it says when it leads nowhere."""

from __future__ import annotations

import pickle
import shutil
import socket
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

import gradient
from gradient import hub
from gradient.errors import (
    ArgumentError,
    FileFormatError,
    ModelNotFound,
    StateDictError,
    TypeMismatch,
)
from gradient.hub.download import all_parts, is_complete
from gradient.models.bert import BertConfig, BertForMaskedLM
from gradient.text import byte_tokenizer
from support.paths import GOLDEN

CHECKPOINT = GOLDEN / "gpt2_tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill(folder: Path, *, without: tuple[str, ...] = ()) -> Path:
    """Make `folder` a complete model folder, but for some files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(CHECKPOINT / name, folder)
    byte_tokenizer().save(folder)
    for name in without:
        (folder / name).unlink()
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty hub cache, and no way to any network."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def forbidden(*args, **kwargs):
        raise OSError("the network is off")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    return tmp_path / "cache"


def snapshot(cache: Path, hub_id: str, revision: str = "main") -> Path:
    """Return where the hub's cache keeps that model's files."""
    repo = cache / f"models--{hub_id.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True, exist_ok=True)
    (repo / "refs" / revision).write_text(COMMIT)
    return repo / "snapshots" / COMMIT


# ---- found --------------------------------------------------------------------------------------


def test_a_folder(tmp_path):
    lm = hub.load(fill(tmp_path))
    assert lm.tokenizer.vocab_size == 257
    assert lm.config.n_embd == 32
    logits = lm.model(gradient.tensor([[1, 2, 3]]))
    assert logits.shape == (1, 3, 96)
    assert hub.load(str(tmp_path)).config == lm.config


def test_the_folder_of_a_training_run(tmp_path):
    (tmp_path / "train.json").write_text("{}")  # the run's settings
    made = fill(tmp_path / "model")
    assert hub.find(tmp_path) == made


def test_a_model_with_another_in_a_folder_named_model(tmp_path):
    fill(tmp_path / "model")
    fill(tmp_path)
    assert hub.find(tmp_path) == tmp_path


def test_a_model_that_comes_with_gradient(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "EMBEDDED", tmp_path)
    fill(tmp_path / "small")
    assert hub.embedded_models() == ["small"]
    assert hub.find("small") == tmp_path / "small"
    assert hub.load("small").name == "small"


def test_a_hub_model_in_the_cache_needs_no_network(cache):
    fill(snapshot(cache, "openai-community/gpt2"))
    assert hub.load("openai-community/gpt2").config.n_layer == 2
    assert hub.load("gpt2", offline=True).config.n_layer == 2


def test_a_revision_in_the_cache(cache):
    fill(snapshot(cache, "someone/model", revision="v2"))
    assert hub.find("someone/model", revision="v2", offline=True).name == COMMIT
    with pytest.raises(ModelNotFound, match="'someone/model' at revision 'v3' not found"):
        hub.find("someone/model", revision="v3", offline=True)


def test_dtype_by_name(tmp_path):
    assert hub.load(fill(tmp_path), dtype="bfloat16").model.dtype == gradient.bfloat16


# ---- downloads ----------------------------------------------------------------------------------


def downloads(monkeypatch, cache: Path, outcome):
    """Let every download call `outcome(folder)`; return the list of calls."""
    import huggingface_hub

    calls = []
    real = huggingface_hub.snapshot_download

    def fake(hub_id, *, local_files_only, **options):
        if local_files_only:
            return real(hub_id, local_files_only=True, **options)
        calls.append(options)
        folder = snapshot(cache, hub_id)
        outcome(folder)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    return calls


def test_a_download_takes_weights_config_and_tokenizer_only(cache, monkeypatch):
    calls = downloads(monkeypatch, cache, fill)
    assert hub.load("someone/model").config.n_layer == 2
    assert hub.load("someone/model").config.n_layer == 2
    assert len(calls) == 1
    patterns = calls[0]["allow_patterns"]
    assert "model.safetensors" in patterns
    assert not any(".bin" in pattern or ".py" in pattern for pattern in patterns)


def torch_bin(path: Path, state: dict) -> None:
    """Write a PyTorch file by hand: a zip of a pickle and of the tensors' bytes."""
    out = b"\x80\x02}("
    with zipfile.ZipFile(path, "w") as archive:
        for key, (name, tensor) in enumerate(state.items()):
            storage = ("storage", None, str(key), "cpu", tensor.numel())
            pickled = pickle.dumps(storage, 2)[2:-1].replace(b"N", b"ctorch\nFloatStorage\n", 1)
            strides = tuple(tensor.array.strides[i] // 4 for i in range(tensor.ndim))
            out += pickle.dumps(name, 2)[2:-1] + b"ctorch._utils\n_rebuild_tensor_v2\n("
            out += pickled + b"QK\x00" + pickle.dumps(tuple(tensor.shape), 2)[2:-1]
            out += pickle.dumps(strides, 2)[2:-1] + b"\x89}tR"
            archive.writestr(f"archive/data/{key}", tensor.array.tobytes())
        archive.writestr("archive/data.pkl", out + b"u.")


def test_a_repository_without_safetensors(cache, monkeypatch):
    """Its PyTorch file is fetched then, and read."""

    def outcome(folder):
        fill(folder, without=("model.safetensors",))
        state = gradient.load(CHECKPOINT / "model.safetensors")
        if len(calls) > 1:
            torch_bin(folder / "pytorch_model.bin", state)

    calls = downloads(monkeypatch, cache, outcome)
    lm = hub.load("someone/model")
    assert "pytorch_model.bin" in calls[1]["allow_patterns"]
    assert "model.safetensors" not in calls[1]["allow_patterns"]
    ids = gradient.tensor([[1, 2, 3]])
    assert (lm.model(ids) == gradient.checkpoints.load_model(CHECKPOINT)(ids)).all()
    assert len(calls) == 2
    assert hub.find("someone/model", offline=True) == snapshot(cache, "someone/model")


def test_one_file_of_a_repository(cache, monkeypatch):
    def outcome(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for part in (1, 2):
            (folder / f"q4-0000{part}-of-00002.gguf").write_bytes(b"GGUF")

    calls = downloads(monkeypatch, cache, outcome)
    first = "q4-00001-of-00002.gguf"
    found = hub.find("someone/model", file=first)
    assert found == snapshot(cache, "someone/model") / first
    assert "q4-*-of-00002.gguf" in calls[0]["allow_patterns"]
    assert hub.find(f"someone/model/{first}", offline=True) == found
    (found.parent / "q4-00002-of-00002.gguf").unlink()
    with pytest.raises(ModelNotFound, match="only a part of it"):
        hub.find("someone/model", file=first, offline=True)


def test_which_files_there_are_to_choose_from(cache, monkeypatch):
    import huggingface_hub

    names = ["README.md", "a.Q4_K_M.gguf", "b-00001-of-00002.gguf", "b-00002-of-00002.gguf"]
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *_, **__: names)
    downloads(monkeypatch, cache, lambda folder: folder.mkdir(parents=True, exist_ok=True))
    listed = r"it has a\.Q4_K_M\.gguf, b-00001-of-00002\.gguf"
    with pytest.raises(ModelNotFound, match=listed + r"\nfix: name one, file='a\.Q4_K_M\.gguf'"):
        hub.load("someone/model")
    with pytest.raises(ModelNotFound, match=r"has no file 'c\.gguf'; " + listed):
        hub.load("someone/model", file="c.gguf")


def test_a_name_with_wildcards_means_itself():
    assert all_parts("a[1]*.gguf") == "a[[]1][*].gguf"


@pytest.mark.parametrize("absent", ["config.json", "model.safetensors", "tokenizer.json"])
def test_an_interrupted_download_is_resumed(cache, monkeypatch, absent):
    fill(snapshot(cache, "someone/model"), without=(absent,))
    with pytest.raises(ModelNotFound, match="only a part of it: a download was interrupted"):
        hub.load("someone/model", offline=True)
    calls = downloads(monkeypatch, cache, fill)
    assert hub.load("someone/model").config.n_layer == 2
    assert len(calls) == 1


def test_a_missing_shard_is_fetched(cache, monkeypatch):
    folder = snapshot(cache, "someone/model")
    fill(folder)
    model = gradient.checkpoints.load_model(folder)
    gradient.checkpoints.save_model(model, folder, max_shard_bytes=40_000)
    assert is_complete(folder)
    next(folder.glob("model-00002*")).unlink()
    assert not is_complete(folder)


def failing(error):
    def outcome(folder):
        raise error

    return outcome


def hub_error(name: str):
    from huggingface_hub import errors

    response = SimpleNamespace(status_code=404, headers={}, request=None, url="", text="")
    return getattr(errors, name)("the hub says no", response=response)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("RepositoryNotFoundError", r"the hub has no such model \(or a private one\)\nfix: check"),
        ("GatedRepoError", r"its owner grants access on request\nfix: ask for access"),
        ("RevisionNotFoundError", "the hub has no such revision of it"),
        ("HfHubHTTPError", r"the download failed \(HfHubHTTPError: the hub says no\)\nfix: check"),
    ],
)
def test_what_the_hub_answers(cache, monkeypatch, error, message):
    downloads(monkeypatch, cache, failing(hub_error(error)))
    with pytest.raises(ModelNotFound, match=message):
        hub.load("someone/model")


def test_without_a_network(cache):
    with pytest.raises(
        ModelNotFound, match=r"not in the local cache.* the download failed"
    ) as error:
        hub.load("someone/model")
    assert "fix: check the network, or give a folder" in str(error.value)


# ---- refused ------------------------------------------------------------------------------------


def test_offline_and_not_cached(cache):
    with pytest.raises(ModelNotFound, match="offline=True forbids a download\nfix: load it once"):
        hub.load("gpt2", offline=True)


@pytest.mark.parametrize(
    "name", ["no_such_model", "./nowhere", "/tmp/nowhere/model", "a/b/c", "", "~/x"]
)
def test_a_name_that_leads_nowhere(cache, name):
    with pytest.raises(ModelNotFound, match="there is no such folder"):
        hub.load(name)


def test_a_file_of_no_format(tmp_path):
    (tmp_path / "model.zip").write_bytes(b"nothing of the kind")
    with pytest.raises(FileFormatError, match="not a format that gradient reads"):
        hub.load(tmp_path / "model.zip")


def test_a_path_is_never_a_hub_id(cache):
    with pytest.raises(ModelNotFound, match="there is no such folder"):
        hub.load(Path("someone/model"))


@pytest.mark.parametrize("absent", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file(tmp_path, absent):
    with pytest.raises(ModelNotFound, match=absent):
        hub.load(fill(tmp_path, without=(absent,)))


def test_a_model_without_a_tokenizer_takes_and_gives_ids(tmp_path):
    whole = hub.load(fill(tmp_path / "whole"))
    lm = hub.load(fill(tmp_path / "bare", without=("tokenizer.json", "tokenizer_config.json")))
    assert whole.has_tokenizer and not lm.has_tokenizer
    with pytest.raises(ArgumentError, match="text needs a tokenizer"):
        _ = lm.tokenizer
    expected = whole.generate([5, 6], max_new_tokens=4, ignore_eos=True)
    found = lm.generate([5, 6], max_new_tokens=4, ignore_eos=True)
    assert (found.token_ids, found.text) == (expected.token_ids, "")
    for call in (
        lambda: lm.generate("text"),
        lambda: lm.stream([5]),
        lambda: lm.chat([{"role": "user", "content": "hi"}]),
    ):
        with pytest.raises(ArgumentError, match="needs a tokenizer"):
            call()
    lm.save(tmp_path / "saved")
    assert not hub.load(tmp_path / "saved").has_tokenizer
    with pytest.raises(ModelNotFound, match="no tokenizer"):  # one that was asked for
        hub.load(tmp_path / "bare", tokenizer=tmp_path / "bare")


def test_an_encoder_without_a_tokenizer(tmp_path):
    config = BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=40,
    )  # fmt: skip
    gradient.checkpoints.save_model(BertForMaskedLM(config), tmp_path)
    encoder = hub.load_text_encoder(tmp_path)
    assert encoder.vectors([[1, 2, 3]]).shape == (1, 32)
    with pytest.raises(ArgumentError, match="texts need a tokenizer"):
        encoder.embed("text")


@pytest.mark.parametrize("name", ["f16", "fp16", "half", "float16", "F16", gradient.float16])
def test_dtypes_have_short_names(tmp_path, name):
    assert hub.load(fill(tmp_path), dtype=name).model.dtype is gradient.float16


def test_a_damaged_tokenizer(tmp_path):
    (fill(tmp_path) / "tokenizer.json").write_text("{}")
    with pytest.raises(FileFormatError, match=r"tokenizer\.json"):
        hub.load(tmp_path)


@pytest.mark.parametrize("scheme", ["q8_0", "q4_0", "int8", "int4"])
def test_weights_are_packed_on_request(tmp_path, scheme):
    plain, packed = hub.load(fill(tmp_path)), hub.load(tmp_path, quantize=scheme)
    weights = dict(packed.model.named_parameters())
    assert weights["transformer.h.0.mlp.c_fc.weight"].dtype.is_packed
    assert not weights["transformer.ln_f.weight"].dtype.is_packed
    assert packed.model.lm_head.weight is packed.model.transformer.wte.weight
    in_place = gradient.quantization.quantize_(plain.model, scheme)
    ids = gradient.tensor([[1, 2, 3]])
    assert (packed.model(ids) == in_place(ids)).all()


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda x: x.to(gradient.int8), StateDictError, r"numbers:\n  transformer\.wte\.weight: "),
        (
            lambda x: x * float("inf"),
            ArgumentError,
            r"transformer\.wte\.weight: quantize: .* finite weights",
        ),
    ],
)
def test_what_cannot_be_packed_is_named(tmp_path, spoil, error, words):
    path = fill(tmp_path) / "model.safetensors"
    tensors = {name: value.clone() for name, value in gradient.load(path).items()}
    tensors["transformer.wte.weight"] = spoil(tensors["transformer.wte.weight"])
    gradient.save(tensors, path)
    with pytest.raises(error, match=words):
        hub.load(tmp_path, quantize="q8_0")


def test_a_scheme_that_there_is_not(tmp_path):
    with pytest.raises(ArgumentError, match="quantize: expected one of q4_k_m, .*; got 'q5'"):
        hub.load(fill(tmp_path), quantize="q5")


@pytest.mark.parametrize("dtype", ["float99", "int64", "tensor"])
def test_a_dtype_that_weights_cannot_have(tmp_path, dtype):
    with pytest.raises(ArgumentError, match="dtype: expected"):
        hub.load(fill(tmp_path), dtype=dtype)


def test_a_name_must_be_a_name():
    with pytest.raises(TypeMismatch, match="model: expected a name or a path, got None"):
        gradient.hub.load(None)
