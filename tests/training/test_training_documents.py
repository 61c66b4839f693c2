"""Training on documents and chats, from the start and from another model's weights."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

import gradient
from gradient.checkpoints import save_gguf
from gradient.errors import ArgumentError
from gradient.models.llama import LlamaForCausalLM
from gradient.models.llama_config import LlamaConfig
from gradient.text import Tokenizer
from gradient.training import Reporter, TrainConfig, train
from gradient.training.batches import IGNORED, DocumentBatches
from gradient.training.corpus import prepare
from gradient.training.documents import Chat, find_files, read_all, read_in_turn, split
from gradient.training.metrics import read_metrics
from gradient.training.packed_rows import PackedRows
from gradient.training.tokenizers import existing_tokenizer

NANO = {
    "architecture": "llama",
    "n_layer": 1,
    "n_head": 4,
    "n_kv_head": 2,
    "n_embd": 32,
    "block_size": 48,
    "batch_size": 4,
    "vocab_size": 300,
    "steps": 12,
    "learning_rate": 1e-2,
    "warmup_steps": 5,
    "eval_every": 6,
    "eval_batches": 2,
    "log_every": 3,
    "sample_tokens": 8,
    "tensorboard": False,
}


def chat(number: int) -> dict:
    return {
        "messages": [
            {"role": "user", "content": f"What follows {number}?"},
            {"role": "assistant", "content": f"It is {number + 1}."},
        ]
    }


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    path = tmp_path / "stories.jsonl"
    lines = (json.dumps({"text": f"Tom had {n} balls. Ann had {n + 1}."}) for n in range(200))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(chat(n)) + "\n" for n in range(200)))
    return path


def weights(folder: Path) -> dict[str, np.ndarray]:
    from gradient.io.safetensors import load_file

    path = folder / "model.safetensors"
    return {name: value.numpy().copy() for name, value in load_file(path).items()}


# Documents ---------------------------------------------------------------------------------------


def documents_of(path: Path, content: str) -> list:
    path.write_text(content)
    return list(read_in_turn(read_all(find_files([path]))[0]))


@pytest.mark.parametrize(
    "content, texts",
    [
        ("one\n", ["one\n"]),
        ("one<|endoftext|>two", ["one", "two"]),
        ("one\n<|endoftext|>\ntwo\n\nthree\n<|endoftext|>\n", ["one", "two\n\nthree"]),
        ("<|endoftext|>one<|endoftext|>\n<|endoftext|>  <|endoftext|>two\n", ["one", "two\n"]),
    ],
)
def test_a_text_file_may_hold_several_documents(tmp_path, content, texts):
    assert documents_of(tmp_path / "text.txt", content) == texts


def test_a_file_s_name_may_be_of_another_encoding(tmp_path):
    name = os.fsdecode(b"caf\xe9.txt")  # Latin-1, as archives of old leave them
    assert documents_of(tmp_path / name, "one\n") == ["one\n"]


def test_a_line_of_jsonl_is_a_text_or_a_chat(tmp_path):
    lines = [{"text": "a\nb"}, chat(1) | {"tools": [{"name": "f"}]}, {"text": "é", "source": "x"}]
    content = "\n\n".join(json.dumps(line) for line in lines)
    assert documents_of(tmp_path / "data.jsonl", content) == [
        "a\nb",
        Chat(chat(1)["messages"], [{"name": "f"}]),
        "é",
    ]


@pytest.mark.parametrize(
    "line, words",
    [
        ("{", "not a JSON object"),
        ("3", 'expected {"text": "..."} or {"messages"'),
        ('{"text": 3}', 'expected {"text": "..."} or {"messages"'),
        ('{"messages": []}', 'expected {"text": "..."} or {"messages"'),
        ('{"messages": [{"content": "x"}]}', 'messages[0]: expected a dict with "role"'),
        ('{"messages": [{"role": "user"}]}', "as the content of role user"),
    ],
)
def test_a_line_that_is_neither_is_named(tmp_path, line, words):
    with pytest.raises(ArgumentError) as caught:
        documents_of(tmp_path / "data.jsonl", '{"text": "a"}\n' + line + "\n")
    assert "data.jsonl, line 2: " in str(caught.value) and words in str(caught.value)


def test_lines_are_held_out_by_what_they_say(stories, tmp_path):
    documents, _ = read_all(find_files([stories]))
    held_out = {document.read() for document in split(documents, 0.1)[1]}
    assert 5 < len(held_out) < 40
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(reversed(stories.read_text().splitlines())))
    documents, _ = read_all(find_files([other]))
    assert {document.read() for document in split(documents, 0.1)[1]} == held_out


def test_few_chats_are_held_out_whole(tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_text("".join(json.dumps(chat(n)) + "\n" for n in range(3)))
    documents, _ = read_all(find_files([path]))
    kept, held_out = split(documents, 0.01)
    assert (kept, held_out) == (documents[:2], documents[2:])
    assert split(documents[:1], 0.4) == (documents[:1], [])


# Rows of whole documents ------------------------------------------------------------------------


def packed(lengths: list[int], block_size: int = 10, batch_size: int = 2) -> DocumentBatches:
    total = sum(lengths)
    return DocumentBatches(
        np.arange(total, dtype=np.uint16),
        np.asarray(lengths),
        np.ones(total, np.uint16),
        block_size,
        batch_size,
        seed=3,
    )


def test_every_token_but_the_first_of_a_document_is_a_target_once_an_epoch():
    lengths = [5, 11, 1, 25, 3, 2, 8, 9, 4]
    batches = packed(lengths)
    starts = set(np.cumsum([0, *lengths[:-1]]).tolist())
    seen = [
        token
        for i in range(len(batches.rows))
        for token in packed(lengths, batch_size=1)[i].targets.ravel().tolist()
        if token != IGNORED
    ]
    assert sorted(seen) == sorted(set(range(sum(lengths))) - starts)
    rest = sum(length - 1 for length in lengths) % 10
    assert len(batches.rows) == sum(length - 1 for length in lengths) // 10 + (rest > 0)


def test_a_batch_of_documents():
    batch = packed([4, 6, 3])[0]
    rows = [row.tolist() for row in batch.inputs]
    assert [4, 5, 6, 7, 8, 0, 1, 2, 10, 11] in rows or [4, 5, 6, 7, 8, 0, 1, 2, 0, 0] in rows
    assert batch.positions is not None
    for inputs, targets, positions in zip(*batch, strict=True):
        learned = targets != IGNORED
        assert (targets[learned] == inputs[learned] + 1).all()
        assert (positions[~learned] == 0).all()
    assert batch.learned == 2 * (3 + 5 + 2)


def test_batches_of_documents_are_a_function_of_their_index():
    lengths = np.random.default_rng(0).integers(1, 30, 50).tolist()
    one, other = packed(lengths), packed(lengths)
    forwards = [one[i].inputs for i in range(30)]
    backwards = [other[i].inputs for i in reversed(range(30))]
    assert all((a == b).all() for a, b in zip(forwards, reversed(backwards), strict=True))
    spread = packed(lengths).spread(3)
    assert len(spread) == 3 and all(batch.inputs.shape == (2, 10) for batch in spread)


@pytest.mark.parametrize("window", [None, 3])
def test_packed_documents_do_not_see_one_another(window):
    from gradient.models.gpt2 import GPT2Config, GPT2LMHeadModel
    from gradient.models.llama import LlamaForCausalLM, MistralConfig

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50}
    model = (
        GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=32, n_positions=16, vocab_size=50))
        if window is None
        else LlamaForCausalLM(MistralConfig(**sizes, sliding_window=window))
    ).eval()
    texts = [[1, 2, 3, 4, 5, 6], [7, 8], [9, 10, 11]]
    inputs = np.array([sum(texts, [])])
    positions = np.concatenate([np.arange(len(text)) for text in texts])[None]
    with gradient.no_grad():
        together = model(gradient.from_numpy(inputs), PackedRows(positions))[0]
        apart = [model(gradient.tensor([text]))[0] for text in texts]
    np.testing.assert_allclose(together.numpy(), gradient.cat(apart).numpy(), atol=1e-6)


# Runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["windows", "documents"])
def test_a_llama_learns_text(stories, tmp_path, packing):
    config = TrainConfig(**NANO, paths=(str(stories),), out=str(tmp_path / "run"), packing=packing)
    result = train(config)
    assert result.finished and result.val_loss < 5
    lm = gradient.hub.load(result.out)
    assert isinstance(lm.model, LlamaForCausalLM)
    shape = lm.config
    assert (shape.num_key_value_heads, shape.intermediate_size, shape.hidden_size) == (2, 96, 32)
    assert shape.tie_word_embeddings and shape.max_position_embeddings == 48
    assert lm.model.generation_config["eos_token_id"] == lm.tokenizer.eos_id == 0
    assert str(lm.generate("Tom", max_new_tokens=3))


def test_only_what_the_assistant_says_is_learned(chats, stories, tmp_path):
    paths = (str(chats), str(stories))
    config = TrainConfig(**NANO, paths=paths, out=str(tmp_path / "run"), val_fraction=0.0)
    corpus = prepare(config, tmp_path / "data")
    tokenizer, side = corpus.tokenizer, corpus.train
    assert corpus.chats == 200 and corpus.packing == "documents"
    assert tokenizer.vocab_size == 300
    assert corpus.end_of_turn == [tokenizer.token_to_id("<|im_end|>")]
    at = 0
    for number, length in enumerate(side.lengths.tolist()):
        ids, learned = side.ids[at : at + length], side.learned[at : at + length].astype(bool)
        said = tokenizer.decode(ids[learned].tolist(), skip_special_tokens=False)
        n = number % 200
        story = f"Tom had {n} balls. Ann had {n + 1}.<|endoftext|>"
        assert said in (f"It is {n + 1}.<|im_end|>", story), said
        at += length
    assert at == len(side.ids) and number == 399


def test_a_chat_that_is_too_long_loses_its_end(tmp_path):
    path = tmp_path / "long.jsonl"
    long = chat(0)
    long["messages"][1]["content"] = " ".join(map(str, range(100, 150)))
    silent = {"messages": [{"role": "user", "content": "Hello?"}]}
    path.write_text("".join(json.dumps(line) + "\n" for line in (long, silent, chat(1))))
    said: list[str] = []
    config = TrainConfig(**NANO, paths=(str(path),), out=str(tmp_path / "run"), val_fraction=0.0)
    corpus = prepare(config, tmp_path / "data", said.append)
    assert corpus.train.lengths.max() == 49 and len(corpus.train.lengths) == 2
    assert "1 conversations are longer than 48 tokens: their ends are cut" in said
    assert "left out: 1 conversations in which the assistant says nothing" in said


def test_chats_are_not_cut_into_windows(chats, tmp_path):
    config = TrainConfig(**NANO, paths=(str(chats),), out=str(tmp_path / "r"), packing="windows")
    with pytest.raises(ArgumentError, match="packing: 200 of the documents are conversations"):
        prepare(config, tmp_path / "data")


@pytest.fixture
def base(stories, tmp_path) -> Path:
    config = TrainConfig(**NANO, paths=(str(stories),), out=str(tmp_path / "base"))
    return train(config).model


def test_a_tokenizer_that_is_not_the_base_model_s_is_said_to_be_none(base, stories, tmp_path):
    for tokenizer, wrong in ((str(base), False), ("bytes", True)):
        said: list[str] = []
        config = TrainConfig.from_base(
            base, paths=(str(stories),), out=str(tmp_path / "run"), tokenizer=tokenizer
        )
        prepare(config, tmp_path / tokenizer.strip("/").replace("/", "-"), said.append)
        warning = r"warning: --tokenizer gives \d+ of the model's 300 tokens another id or none"
        assert bool(re.search(warning, "\n".join(said))) == wrong


def test_a_base_model_learns_to_chat(base, chats, tmp_path):
    options = {name: NANO[name] for name in ("batch_size", "tensorboard", "eval_every")}
    config = TrainConfig.from_base(
        base, paths=(str(chats),), out=str(tmp_path / "chat"), steps=300, learning_rate=1e-2,
        warmup_steps=20, **options | {"eval_every": 100}, export_dtype="bfloat16",
        sample_prompts=("What follows 3?",),
    )  # fmt: skip
    assert (config.block_size, config.n_embd, config.architecture) == (48, 32, "llama")
    assert TrainConfig.from_base(base, block_size=16).block_size == 16
    same = TrainConfig.from_base(base, block_size=256 // 8, learning_rate=1e-3, n_layer=1)
    assert same.command() == (
        f"gradient train --out gradient-run --from {base} --block-size 32 --learning-rate 0.001"
    )
    result = train(config)
    before, after = weights(base), weights(result.model)
    assert after["model.embed_tokens.weight"].shape[0] == 302
    assert before["model.embed_tokens.weight"].shape[0] == 300
    lm = gradient.hub.load(result.out)
    assert lm.model.dtype == gradient.bfloat16
    tokenizer = lm.tokenizer
    end = tokenizer.token_to_id("<|im_end|>")
    assert lm.model.generation_config["eos_token_id"] == [tokenizer.eos_id, end]
    answer = lm.chat([{"role": "user", "content": "What follows 3?"}], max_new_tokens=40)
    assert answer.finish_reason == "stop" and answer.text.startswith("It is ")


def test_new_rows_are_the_mean_of_the_old():
    from gradient.training.base_model import with_vocabulary

    config = LlamaConfig(
        vocab_size=10, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    larger = with_vocabulary(model, 12)
    assert larger.config.vocab_size == 12 and with_vocabulary(model, 9) is model
    for name, old in model.state_dict().items():
        new = larger.state_dict()[name].numpy()
        np.testing.assert_array_equal(new[: len(old)], old.numpy())
        if len(new) > len(old):
            np.testing.assert_allclose(new[len(old) :], np.tile(old.numpy().mean(0), (2, 1)), 1e-5)
            assert name in ("model.embed_tokens.weight", "lm_head.weight")


def test_the_base_decides_the_shape(base):
    with pytest.raises(ArgumentError) as caught:
        TrainConfig.from_base(base, n_embd=64, n_layer=1, block_size=100)
    assert str(caught.value).endswith(
        "decides this: n_embd: 32 in the model, 64 given; block_size: at most 48 in the model, "
        "100 given"
    )


def test_the_tokenizer_of_a_gguf_takes_no_neighbours_generation_config(tmp_path):
    lm = gradient.hub.load("tinyworld")
    save_gguf(lm.model, tmp_path / "base.gguf", tokenizer=lm.tokenizer)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 5}')
    config = TrainConfig(paths=("-",), tokenizer=str(tmp_path / "base.gguf"))
    tokenizer, generation_config = existing_tokenizer(config, with_chats=False)
    assert tokenizer.vocab_size == lm.tokenizer.vocab_size
    assert generation_config == {}


def test_the_given_tokenizer_comes_with_all_it_has(chats, tmp_path):
    folder = tmp_path / "tokenizer"
    tokenizer = gradient.text.train_bpe(
        ["What follows?"], 270, special_tokens=["<|endoftext|>", "<|user|>", "<|bot|>", "<|end|>"]
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% else %}<|bot|>"
        "{% generation %}{{ m.content }}<|end|>{% endgeneration %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|bot|>{% endif %}"
    )
    tokenizer.save(folder)
    (folder / "generation_config.json").write_text('{"temperature": 0.5, "eos_token_id": 0}')
    config = TrainConfig(
        **NANO | {"steps": 2}, paths=(str(chats),), out=str(tmp_path / "r"), tokenizer=str(folder)
    )
    model = train(config).model
    assert Tokenizer.from_folder(model).chat_template == tokenizer.chat_template
    assert json.loads((model / "generation_config.json").read_text()) == {
        "bos_token_id": 0,
        "temperature": 0.5,
        "eos_token_id": [0, tokenizer.token_to_id("<|end|>")],
    }


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_of_chats_is_bit_exact(base, chats, stories, tmp_path, accumulate):
    def config(out: str, steps: int) -> TrainConfig:
        options = {name: NANO[name] for name in ("batch_size", "tensorboard", "warmup_steps")}
        return TrainConfig.from_base(
            base, paths=(str(chats), str(stories)), out=str(tmp_path / out), steps=steps,
            accumulate=accumulate, eval_every=3, log_every=1, **options,
        )  # fmt: skip

    whole = train(config("whole", 6))

    class Stop(Reporter):
        def step(self, record):
            if record["step"] == 3:
                os.kill(os.getpid(), signal.SIGINT)

    assert not train(config("halves", 6), reporter=Stop()).finished
    for path in base.iterdir():  # a run in progress needs its base no more
        path.unlink()
    resumed = train(TrainConfig.load(tmp_path / "halves" / "train.json"), resume=True)
    assert resumed.finished and resumed.val_loss == whole.val_loss
    a, b = (
        weights(tmp_path / out / "checkpoints" / "step-00000006") for out in ("whole", "halves")
    )
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)
    losses = [
        [(r["step"], r.get("loss"), r.get("val_loss")) for r in read_metrics(out / "metrics.jsonl")]
        for out in (tmp_path / "whole", tmp_path / "halves")
    ]
    assert losses[0] == losses[1]


@pytest.mark.parity
def test_transformers_reads_a_trained_llama(base, chats, tmp_path):
    import torch
    from transformers import AutoTokenizer
    from transformers import LlamaForCausalLM as Theirs

    options = {name: NANO[name] for name in ("batch_size", "tensorboard", "steps")}
    config = TrainConfig.from_base(base, paths=(str(chats),), out=str(tmp_path / "c"), **options)
    folder = train(config).model
    ours = gradient.hub.load(folder)
    theirs = Theirs.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = chat(5)["messages"]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == ours.tokenizer.apply_chat_template(messages, add_generation_prompt=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids == ours.tokenizer.encode(text, add_special_tokens=False)
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits.numpy()
    with gradient.no_grad():
        got = ours.model(gradient.tensor([ids])).numpy()
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)
    ends = ours.model.generation_config["eos_token_id"]
    assert theirs.generation_config.eos_token_id == ends
