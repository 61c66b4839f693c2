"""BERT without its reference, and embeddings: batches, masks, pooling, files, what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import hub
from gradient.checkpoints import load_model, save_model
from gradient.embedding import Pooling, TextEncoder
from gradient.embedding.pooling import MODES
from gradient.errors import (
    ArgumentError,
    FileFormatError,
    StateDictError,
    TypeMismatch,
    UnsupportedModel,
)
from gradient.io import load_file, save_file
from gradient.models.bert import BertConfig, BertForMaskedLM
from gradient.models.registry import config_class, model_class
from gradient.text import Tokenizer
from support.paths import GOLDEN

CHECKPOINT = GOLDEN / "bert_tiny"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat", "dog"]
WORDS += ["ran", "##s", "##ning", ".", ",", "a", "b", "c"]
SHAPE = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "hidden_dim": 24,
    "max_position_embeddings": 14,
    "initializer_range": 0.3,
}


def build(model_type: str = "bert", device: str = "cpu", **changes):
    cls = model_class(model_type)
    values = {"model_type": model_type, **SHAPE, **changes}
    return cls(config_class(model_type).from_hf(values)).to(device).eval()


@pytest.fixture(params=["bert", "roberta", "xlm-roberta", "distilbert"])
def model(request, device):
    gradient.manual_seed(1)
    return build(request.param, device)


@pytest.fixture(params=["bert", "roberta", "xlm-roberta"])
def like_bert(request, device):
    gradient.manual_seed(1)
    return build(request.param, device)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return Tokenizer.from_folder(folder)


@pytest.fixture
def encoder(device, tokenizer) -> TextEncoder:
    gradient.manual_seed(2)
    return TextEncoder(build(device=device), tokenizer)


def close(actual, expected, tolerance=2e-5):
    """Compare by the largest difference, relative to the largest expected number."""
    actual, expected = (
        np.asarray(x.detach().cpu().float().numpy() if isinstance(x, gradient.Tensor) else x)
        for x in (actual, expected)
    )
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


# ---- the reference's numbers --------------------------------------------------------------------


def test_a_golden_model_gives_transformers_numbers(device):
    expected = json.loads((CHECKPOINT / "golden.json").read_text())
    model = load_model(CHECKPOINT, device=device).train()
    ids, types, labels = (
        gradient.tensor(expected[name], device=device)
        for name in ("input_ids", "token_type_ids", "labels")
    )
    hidden = model(ids, lengths=expected["lengths"], token_type_ids=types)
    logits = model.compute_logits(hidden)
    for row, n in enumerate(expected["lengths"]):
        close(hidden[row, :n], np.array(expected["hidden"])[row, :n])
        close(logits[row, :n], np.array(expected["logits"])[row, :n])
    close(model.pool(hidden), np.array(expected["pooled"]))
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"], rel=2e-6)
    norms = {n: p.grad.norm().item() for n, p in model.named_parameters() if p.grad is not None}
    assert norms == pytest.approx(expected["gradient_norms"], rel=5e-5, abs=1e-6)


# ---- the network --------------------------------------------------------------------------------


def test_padding_changes_nothing_whatever_tokens_it_has(model, device):
    ids = gradient.randint(5, 19, (3, 9), device=device)
    lengths = [4, 9, 1]
    with gradient.no_grad():
        together = model(ids, lengths=lengths)
        mask = gradient.tensor([[int(i < n) for i in range(9)] for n in lengths], device=device)
        assert model(ids, attention_mask=mask).tolist() == together.tolist()
        for row, n in enumerate(lengths):
            close(together[row, :n], model(ids[row : row + 1, :n])[0])
        assert model(ids, lengths=[9, 9, 9]).tolist() == model(ids).tolist()


def test_every_token_sees_all_others(model, device):
    ids = gradient.tensor([[5, 6, 7, 8]], device=device)
    other = gradient.tensor([[5, 6, 7, 9]], device=device)
    with gradient.no_grad():
        assert (model(ids)[0, 0] != model(other)[0, 0]).any().item()


def test_token_types_tell_two_texts_apart(device):
    model = build(device=device)
    ids = gradient.tensor([[2, 5, 3, 6, 3]], device=device)
    types = gradient.tensor([[0, 0, 0, 1, 1]], device=device)
    with gradient.no_grad():
        assert model(ids, token_type_ids=0 * types).tolist() == model(ids).tolist()
        assert (model(ids, token_type_ids=types) != model(ids)).any().item()


def test_positions_of_roberta_begin_beyond_the_padding_tokens_id():
    assert build("bert").context_length == 14
    assert build("roberta").context_length == 12
    assert build("roberta", pad_token_id=4).context_length == 9


def test_the_head_is_the_embedding_unless_untied(like_bert):
    model = like_bert
    embedding = model.base_model.embeddings.word_embeddings.weight
    assert model.head.decoder.weight is embedding
    assert model.head.decoder.bias is model.head.bias
    untied = build(model.config.model_type, tie_word_embeddings=False)
    assert untied.head.decoder.weight is not untied.base_model.embeddings.word_embeddings.weight


def test_initial_weights():
    gradient.manual_seed(1)
    model = build(hidden_size=64, intermediate_size=128, initializer_range=0.02)
    for name, value in model.state_dict().items():
        if "LayerNorm.weight" in name:
            assert value.min().item() == value.max().item() == 1, name
        elif name.endswith("bias"):
            assert value.abs().max().item() == 0, name
        elif value.numel() > 2000:
            assert value.std().item() == pytest.approx(0.02, rel=0.1), name
    assert model.bert.embeddings.word_embeddings.weight[0].abs().max().item() == 0


def test_dropout_is_for_training_only(model, device):
    ids = gradient.tensor([[5, 6, 7, 8]], device=device)
    with gradient.no_grad():
        assert (model(ids) == model(ids)).all().item()
        model.train()
        assert (model(ids) != model(ids)).any().item()


def test_num_parameters_of_the_published_size():
    with gradient.nn.init.skip_init():
        model = BertForMaskedLM(BertConfig())
    model.bert.pooler = None
    assert model.num_parameters() == 109_514_298
    model.cls = None
    assert model.num_parameters() == 108_891_648


def test_input_that_is_no_batch_in_the_context(model, device):
    ids = gradient.zeros(2, 3, dtype=gradient.int64, device=device)
    with pytest.raises(ArgumentError, match=r"do not fit the model's context of \d+"):
        model(gradient.zeros(1, 15, dtype=gradient.int64, device=device))
    with pytest.raises(ArgumentError, match=r"expected the shape of input_ids, \(2, 3\), got \(2,"):
        model(ids, attention_mask=ids[:, :2])
    with pytest.raises(ArgumentError, match="give it or lengths, not both"):
        model(ids, attention_mask=ids, lengths=[1, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 3}, "num_attention_heads = 3 must divide hidden_size = 16"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be at least 1, got 0"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob must be a probability below 1"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps must be positive, got 0.0"),
        ({"hidden_act": "glu"}, "hidden_act must be one of gelu, .*, got 'glu'"),
        ({"is_decoder": True}, "is_decoder must be false: only encoders are supported"),
        ({"position_embedding_type": "relative_key"}, "must be 'absolute', got 'relative_key'"),
        ({"pad_token_id": 99}, "pad_token_id must be a token below 19, got 99"),
    ],
)
def test_a_config_that_describes_no_model(changes, message):
    with pytest.raises(FileFormatError, match=message):
        build(**changes)


def test_a_roberta_without_a_single_position():
    with pytest.raises(FileFormatError, match="max_position_embeddings must be more than 2"):
        build("roberta", max_position_embeddings=2)


# ---- checkpoints --------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(model, tmp_path, device):
    save_model(model, tmp_path)
    again = load_model(tmp_path, device=device)
    assert again.state_dict().keys() == model.state_dict().keys()
    ids = gradient.randint(0, 19, (2, 7), device=device)
    with gradient.no_grad():
        hidden = model(ids)
        assert again(ids).tolist() == hidden.tolist()
        assert again.compute_logits(hidden).tolist() == model.compute_logits(hidden).tolist()
        if model.config.model_type != "distilbert":
            assert again.pool(hidden).tolist() == model.pool(hidden).tolist()


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("pooled", [True, False])
def test_an_encoder_alone_with_and_without_prefix_and_pooler(prefixed, pooled, tmp_path):
    model = build()
    save_model(model, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = {
        name if prefixed else name.removeprefix("bert."): value.clone()
        for name, value in load_file(path).items()
        if not name.startswith("cls.") and (pooled or "pooler" not in name)
    }
    save_file(tensors, path)
    again = load_model(tmp_path)
    assert (again.head, again.architecture) == (None, "BertModel")
    assert (again.bert.pooler is not None) == pooled
    ids = gradient.tensor([[2, 5, 6, 3]])
    with gradient.no_grad():
        hidden = again(ids)
        assert hidden.tolist() == model(ids).tolist()
    with pytest.raises(ArgumentError, match="has no masked-language-model head: its checkpoint"):
        again.compute_logits(hidden)
    if not pooled:
        with pytest.raises(ArgumentError, match="has no pooler: its checkpoint has no weights"):
            again.pool(hidden)
    save_model(again, tmp_path / "again")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    assert len(load_file(tmp_path / "again" / "model.safetensors")) == len(tensors)


def test_heads_of_other_tasks_and_old_names_are_no_obstacle(tmp_path):
    model = build()
    save_model(model, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value.clone()
        for name, value in load_file(path).items()
    }
    tensors["cls.seq_relationship.weight"] = gradient.zeros(2, 16)
    tensors["classifier.bias"] = gradient.zeros(3)
    tensors["bert.embeddings.position_ids"] = gradient.arange(14).unsqueeze(0)
    save_file(tensors, path)
    assert load_model(tmp_path).state_dict().keys() == model.state_dict().keys()
    save_file(tensors | {"bert.surplus": gradient.zeros(3)}, path)
    with pytest.raises(StateDictError, match="bert.surplus"):
        load_model(tmp_path)
    del tensors["bert.encoder.layer.1.attention.self.key.bias"]
    save_file(tensors, path)
    with pytest.raises(StateDictError, match="layer.1.attention.self.key.bias"):
        load_model(tmp_path)


def test_a_distilbert_with_and_without_its_head(tmp_path):
    model = build("distilbert")
    assert model.vocab_projector.weight is model.distilbert.embeddings.word_embeddings.weight
    assert (model.architecture, model.hidden_size) == ("DistilBertForMaskedLM", 16)
    save_model(model, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    save_file({k: v for k, v in tensors.items() if not k.startswith("vocab_")}, path)
    again = load_model(tmp_path)
    assert again.architecture == "DistilBertModel"
    ids = gradient.tensor([[2, 5, 6, 3]])
    with gradient.no_grad():
        hidden = again(ids)
        assert hidden.tolist() == model(ids).tolist()
        assert model.compute_logits(hidden).shape == (1, 4, 19)
    with pytest.raises(ArgumentError, match="has no masked-language-model head"):
        again.compute_logits(hidden)
    with pytest.raises(ArgumentError, match="has no pooler"):
        model.pool(hidden)
    with pytest.raises(ArgumentError, match="DistilBERT has no token types"):
        model(ids, token_type_ids=ids)
    with pytest.raises(FileFormatError, match="n_heads = 5 must divide dim = 16"):
        build("distilbert", num_attention_heads=5)


# ---- pooling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_pooling_is_its_definition(mode, device):
    hidden = gradient.randn(3, 5, 4, device=device)
    lengths = [5, 1, 3]
    y = Pooling((mode,))(hidden, lengths)
    for vector, states, n in zip(y, hidden, lengths, strict=True):
        real = states[:n].cpu().numpy()
        expected = {
            "pooling_mode_cls_token": real[0],
            "pooling_mode_max_tokens": real.max(0),
            "pooling_mode_mean_tokens": real.mean(0),
            "pooling_mode_mean_sqrt_len_tokens": real.sum(0) / math.sqrt(n),
            "pooling_mode_lasttoken": real[-1],
        }[mode]
        close(vector, expected)


def test_several_modes_stand_behind_one_another(device):
    hidden = gradient.randn(2, 3, 4, device=device)
    y = Pooling((MODES[0], MODES[2]))(hidden, [3, 2])
    assert y.shape == (2, 8)
    assert y[:, :4].tolist() == hidden[:, 0].tolist()


def test_means_of_16_bit_states_are_taken_in_float32(device):
    hidden = gradient.ones(1, 3000, 1, device=device).bfloat16()
    y = Pooling()(hidden, [3000])
    assert (y.dtype, y.item()) == (gradient.float32, 1.0)


# ---- embeddings ---------------------------------------------------------------------------------

TEXTS = ["the cat sat on the mat .", "a", "the dogs , running", "a b c a b c", "", "The DOG"]


def test_embeddings_do_not_depend_on_the_batch(encoder):
    told: list[int] = []
    alone = gradient.stack([encoder.embed(text, progress=told.append) for text in TEXTS])
    assert alone.shape == (6, 16) and told == [1] * 6
    for size in (1, 2, 5, 32):
        done: list[int] = []
        close(encoder.embed(TEXTS, batch_size=size, progress=done.append), alone)
        assert sum(done) == 6 and max(done) == min(size, 6)
    close((alone * alone).sum(1), np.ones(6))
    assert not alone.requires_grad


def test_an_embedding_is_the_normalised_mean_of_the_hidden_states(encoder):
    ids = encoder.tokenizer.encode(TEXTS[0])
    assert " ".join(WORDS[i] for i in ids) == "[CLS] the cat sat on the mat . [SEP]"
    with gradient.no_grad():
        mean = encoder.model(gradient.tensor([ids], device=encoder.model.device))[0].mean(0)
    close(encoder.embed(TEXTS[0], normalize=False), mean)
    close(encoder.embed(TEXTS[0]), mean / mean.norm())


def test_texts_that_are_too_long_lose_their_end_but_not_the_last_special_token(encoder):
    long = "a b c " * 30
    assert encoder.max_length == 14
    (row,) = encoder.tokenize([long])
    assert " ".join(WORDS[i] for i in row) == "[CLS] a b c a b c a b c a b c [SEP]"
    encoder.pooling = Pooling(max_length=5)
    assert " ".join(WORDS[i] for i in encoder.tokenize([long])[0]) == "[CLS] a b c [SEP]"
    close(encoder.embed(long), encoder.embed("a b c"))
    encoder.pooling = Pooling(max_length=1)
    with pytest.raises(ArgumentError, match="max_length: 1 tokens leave no room"):
        encoder.tokenize([long])


def test_the_model_is_left_in_training_mode_if_it_was_and_does_not_drop(encoder):
    before = encoder.embed(TEXTS)
    encoder.model.train()
    assert encoder.embed(TEXTS).tolist() == before.tolist()
    assert encoder.model.training


def test_vectors_can_be_trained(encoder):
    rows = encoder.tokenize(TEXTS[:3])
    optimizer = gradient.optim.AdamW(encoder.model.parameters(), lr=3e-3)
    target = gradient.tensor([[1.0, 1, -1], [1, 1, -1], [-1, -1, 1]], device=encoder.model.device)
    losses = []
    for _ in range(30):
        vectors = encoder.vectors(rows)
        loss = ((vectors @ vectors.mT - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_no_texts_and_texts_that_are_none(encoder):
    assert encoder.embed([]).shape == (0, 16)
    with pytest.raises(TypeMismatch, match=r"texts\[1\]: expected a str, got int"):
        encoder.embed(["a", 1])
    with pytest.raises(ArgumentError, match="batch_size: expected at least 1, got 0"):
        encoder.embed(["a"], batch_size=0)


# ---- files --------------------------------------------------------------------------------------


def write(folder: Path, **files) -> None:
    for name, content in files.items():
        path = folder / {"modules": "modules.json", "pooling": "1_Pooling/config.json",
                         "settings": "sentence_bert_config.json"}[name]  # fmt: skip
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def steps(*kinds: str) -> list[dict]:
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    return [
        {"idx": i, "name": str(i), "path": paths.get(kind, kind), "type": f"a.b.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]


def test_sentence_transformers_files_say_what_is_done(encoder, tmp_path):
    encoder.save(tmp_path)
    assert hub.load_text_encoder(tmp_path).pooling == encoder.pooling == Pooling()
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    write(
        tmp_path,
        modules=steps("Transformer", "Pooling"),
        pooling=pooling,
        settings={"max_seq_length": 6, "do_lower_case": True},
    )
    loaded = hub.load_text_encoder(tmp_path, device=encoder.model.device)
    assert isinstance(loaded, TextEncoder)
    assert loaded.pooling == Pooling(("pooling_mode_cls_token",), False, 6, True)
    assert loaded.max_length == 6
    with gradient.no_grad():
        ids = gradient.tensor([[2, 5, 6, 3]], device=encoder.model.device)
        close(loaded.embed("the cat"), encoder.model(ids)[0, 0])


def test_a_plain_folder_gives_normalised_means(encoder, tmp_path):
    save_model(encoder.model, tmp_path)
    encoder.tokenizer.save(tmp_path)
    loaded = hub.load_text_encoder(tmp_path, device=encoder.model.device)
    assert loaded.embed(TEXTS).tolist() == encoder.embed(TEXTS).tolist()
    assert repr(loaded).startswith("TextEncoder(") and "0.0 M parameters, float32" in repr(loaded)


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"modules": "[1"}, FileFormatError, "not a valid JSON file"),
        ({"modules": {}}, FileFormatError, "expected a JSON array"),
        ({"modules": []}, FileFormatError, "names no pooling step"),
        ({"modules": [3]}, UnsupportedModel, "step 0"),
        ({"modules": steps("Transformer", "Pooling", "Dense")}, UnsupportedModel, "2, 'Dense'"),
        ({"modules": steps("WordEmbeddings")}, UnsupportedModel, "0, 'WordEmbeddings'"),
        ({"pooling": {"pooling_mode_weightedmean_tokens": True}}, UnsupportedModel, "weightedmean"),
        ({"pooling": {}}, UnsupportedModel, "got none"),
        ({"settings": {"max_seq_length": "9"}}, FileFormatError, "a positive int or null"),
        ({"settings": {"do_lower_case": 1}}, FileFormatError, "true or false, got None and 1"),
    ],
)
def test_steps_that_are_not_known_are_refused(files, error, message, tmp_path):
    write(
        tmp_path,
        **{
            "modules": steps("Transformer", "Pooling", "Normalize"),
            "pooling": {"pooling_mode_mean_tokens": True},
            **files,
        },
    )
    with pytest.raises(error, match=message):
        Pooling.from_folder(tmp_path)


def test_an_encoder_does_not_pass_for_a_language_model(encoder, tmp_path):
    encoder.save(tmp_path)
    with pytest.raises(UnsupportedModel, match="is an encoder: it makes vectors of texts"):
        hub.load(tmp_path)
    assert isinstance(hub.load_text_encoder(tmp_path), TextEncoder)
    with pytest.raises(UnsupportedModel, match="'tinyworld' is a language model: it writes text"):
        hub.load_text_encoder("tinyworld")


def test_a_quantised_encoder_gives_nearly_the_same_vectors(tokenizer, tmp_path, device):
    gradient.manual_seed(4)
    whole = TextEncoder(build(hidden_size=32, intermediate_size=64), tokenizer)
    whole.save(tmp_path)
    packed = hub.load_text_encoder(tmp_path, quantize="q8_0", device=device)
    assert packed.model.bert.encoder.layer[0].output.dense.weight.dtype.is_packed
    cosines = (packed.embed(TEXTS).cpu() * whole.embed(TEXTS)).sum(1)
    assert cosines.min().item() > 0.999
