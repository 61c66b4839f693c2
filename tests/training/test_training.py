"""Training: its pieces, and whole runs on a small text that are stopped, resumed and broken."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import gradient
from gradient.errors import ArgumentError, CheckpointError, FileFormatError
from gradient.io.checkpoint import load_checkpoint
from gradient.training import Reporter, TrainConfig, interrupt, train
from gradient.training.batches import TokenBatches
from gradient.training.corpus import prepare
from gradient.training.documents import find_files, read_all, split
from gradient.training.interrupt import StopRequest
from gradient.training.metrics import MetricsFile, TensorBoardEvents, read_metrics
from gradient.training.reporters import step_line
from gradient.training.schedule import learning_rate, progress
from gradient.training.trainer import Stopwatch, Trainer

NANO = {
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 32,
    "block_size": 32,
    "batch_size": 4,
    "vocab_size": 300,
    "steps": 20,
    "learning_rate": 1e-2,
    "warmup_steps": 5,
    "eval_every": 10,
    "eval_batches": 2,
    "log_every": 5,
    "sample_tokens": 8,
    "tensorboard": False,
}

TEXT = "".join(f"def add_{n}(number):\n    return number + {n}\n\n\n" for n in range(400))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.py"
    path.write_text(TEXT)
    return path


def nano(text: Path, out: Path, **options: object) -> TrainConfig:
    return TrainConfig(**(NANO | {"paths": (str(text),), "out": str(out)} | options))


class Recorder(Reporter):
    """Keeps what it is told; `stop_at` sends a Ctrl-C at a step."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.steps: list[dict] = []
        self.evaluations: list[dict] = []
        self.samples: list[str] = []
        self.notes: list[str] = []

    def step(self, record):
        self.steps.append(dict(record))
        if record["step"] == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    def evaluation(self, record):
        self.evaluations.append(dict(record))

    def sample(self, step, prompt, text):
        self.samples.append(text)

    def note(self, message):
        self.notes.append(message)


# Pieces ------------------------------------------------------------------------------------------


def test_config_lists_all_that_is_wrong():
    with pytest.raises(ArgumentError) as caught:
        TrainConfig(steps=0, n_embd=100, n_head=3, export_dtype="int8")
    assert str(caught.value) == (
        "training: steps must be an integer of at least 1, got 0; "
        "export_dtype must be one of float32, bfloat16, float16, f32, bf16, f16, got 'int8'; "
        "n_embd must be a multiple of n_head = 3 (of twice that for architecture llama), got 100"
    )


def test_config_survives_its_file(tmp_path):
    config = TrainConfig.preset("tiny", paths=("a", "b"), max_minutes=2.5)
    config.save(tmp_path / "config.json")
    assert TrainConfig.load(tmp_path / "config.json") == config


def test_config_as_a_command():
    config = TrainConfig(paths=("my text",), steps=7, sample_prompts=("a b",), tensorboard=False)
    assert config.command() == (
        "gradient train 'my text' --out gradient-run --steps 7 --sample 'a b' --no-tensorboard"
    )


def test_config_file_with_an_unknown_setting(tmp_path):
    (tmp_path / "config.json").write_text('{"stepz": 3}')
    with pytest.raises(ArgumentError, match="'stepz' is not a setting; did you mean 'steps'"):
        TrainConfig.load(tmp_path / "config.json")


def test_resumed_config_keeps_what_the_run_stands_on():
    config = TrainConfig()
    assert config.resumed_with({"steps": 5000}).steps == 5000
    with pytest.raises(ArgumentError, match=r"n_embd: 192 in the checkpoint, 384 now; seed: 1337"):
        config.resumed_with({"n_embd": 384, "seed": 1, "steps": 3})


def test_schedule():
    config = TrainConfig(steps=100, warmup_steps=10, learning_rate=1.0, final_lr_fraction=0.1)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.55)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0.1 < rates[-1] < 0.102


def test_a_short_run_warms_up_and_comes_down():
    config = TrainConfig(steps=60, warmup_steps=100, learning_rate=1.0, final_lr_fraction=0.1)
    rates = [learning_rate(config, step) for step in range(61)]
    assert max(rates) == rates[29] == 1.0
    assert rates[60] == pytest.approx(0.1)


def test_schedule_follows_the_clock_when_steps_are_slow():
    config = TrainConfig(steps=1000, warmup_steps=10, max_minutes=1.0)
    assert progress(config, 10, elapsed=30.0) == 0.5
    assert progress(config, 600, elapsed=30.0) == 0.6
    assert progress(config, 10, elapsed=61.0) == 1.0
    floor = config.learning_rate * config.final_lr_fraction
    assert learning_rate(config, 20, elapsed=60.0) == pytest.approx(floor)


def test_batches_see_each_token_once_an_epoch():
    tokens = np.arange(1000, dtype=np.uint16)
    batches = TokenBatches(tokens, block_size=10, batch_size=7, seed=3)
    epoch = batches.rows_per_epoch
    assert epoch == 98
    seen = np.concatenate([batches[i][0].ravel() for i in range(epoch // 7)])
    assert len(set(seen.tolist())) == len(seen) == 980
    inputs, targets, _ = batches[20]
    assert inputs.shape == targets.shape == (7, 10)
    assert (targets == inputs + 1).all()


def test_batches_are_a_function_of_their_index():
    tokens = np.arange(500, dtype=np.uint16)
    one, other = (TokenBatches(tokens, 16, 4, seed=5) for _ in range(2))
    forwards = [one[i][0] for i in range(40)]
    backwards = [other[i][0] for i in reversed(range(40))]
    assert all((a == b).all() for a, b in zip(forwards, reversed(backwards), strict=True))
    assert not (TokenBatches(tokens, 16, 4, seed=6)[0][0] == forwards[0]).all()
    large, next_one, negative = (
        TokenBatches(tokens, 16, 4, seed=seed)[0][0] for seed in (2**63, 2**63 + 1, -(2**63))
    )
    assert not (large == next_one).all() and (large == negative).all()  # of the same 64 bits


@pytest.mark.parametrize("length", [11, 12, 20, 21, 22, 31])
def test_batches_of_little_text(length):
    batches = TokenBatches(np.arange(length), block_size=10, batch_size=3, seed=0)
    for i in range(10):
        inputs, targets, _ = batches[i]
        assert inputs.min() >= 0 and targets.max() < length
    assert sum(len(batch.inputs) for batch in batches.spread(4)) == (length - 1) // 10


def test_files_in_the_order_of_their_names(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/y.md", ".hidden", "__pycache__/c.txt", "c.bin", "d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes({"c.bin": b"\xff\xfe\0", "d.txt": b""}.get(name, b"text\r\n"))
    found = find_files([tmp_path])
    assert [file.name for file in found] == ["a/y.md", "a/z.txt", "b.txt", "c.bin", "d.txt"]
    documents, _ = read_all(found)
    assert [d.file.name for d in documents] == ["a/y.md", "a/z.txt", "b.txt"]
    assert [document.read() for document in documents] == ["text\n"] * 3
    assert [file.name for file in find_files([tmp_path], "*.md")] == ["a/y.md"]
    assert len(find_files([tmp_path, tmp_path / "b.txt"])) == 5
    assert len(find_files([tmp_path], without=tmp_path / "a")) == 3


def test_the_standard_library_is_the_default():
    names = [file.name for file in find_files([])]
    assert "json/decoder.py" in names and "argparse.py" in names
    assert not [name for name in names if "test" in name.split("/") or "site-packages" in name]


def test_missing_text(tmp_path):
    with pytest.raises(ArgumentError, match=r"paths: '.*nowhere' does not exist"):
        find_files([tmp_path / "nowhere"])
    with pytest.raises(ArgumentError, match=r"paths: no file matches '\*' in "):
        find_files([tmp_path])
    (tmp_path / "data.bin").write_bytes(b"\0\1")
    with pytest.raises(ArgumentError, match="no text found: .* is empty or not UTF-8"):
        read_all(find_files([tmp_path]))


def test_files_that_are_left_out_are_named(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text(TEXT)
    config = nano(texts, tmp_path / "run", tokenizer="bytes")
    seen = Recorder()
    prepare(config, tmp_path / "data", seen.note)
    assert not [note for note in seen.notes if "left out" in note]
    for n in range(4):
        (texts / f"{n}.bin").write_bytes(b"\xff\0")
    seen = Recorder()
    prepare(config, tmp_path / "again", seen.note)
    three = ", ".join(str(texts / f"{n}.bin") for n in range(3))
    assert f"left out, as empty or not UTF-8 text: {three} and 1 more" in seen.notes


def test_a_run_that_saved_nothing_cannot_be_resumed(text, tmp_path):
    config = nano(text, tmp_path / "run")
    (tmp_path / "run").mkdir()
    config.save(tmp_path / "run" / "train.json")
    with pytest.raises(CheckpointError, match="saved no checkpoint.*start it again without"):
        train(config, resume=True)


def test_split_holds_out_documents(tmp_path):
    for n in range(400):
        (tmp_path / f"{n}.txt").write_text(f"text {n}")
    documents, _ = read_all(find_files([tmp_path]))
    kept, held_out = split(documents, 0.1)
    assert 20 < len(held_out) < 60 and len(kept) + len(held_out) == 400
    assert set(split(documents[:200], 0.1)[1]) <= set(held_out)
    assert split(documents, 0.0) == (documents, [])


@pytest.mark.parametrize("lines", [[100], [30, 30, 40], [95, 5]])
def test_split_holds_out_the_end_of_few_documents(tmp_path, lines):
    for n, count in enumerate(lines):
        (tmp_path / f"{n}").write_text("line\n" * count)
    kept, held_out = split(read_all(find_files([tmp_path]))[0], 0.1)
    assert "".join(d.read() for d in kept) == "line\n" * 90
    assert "".join(d.read() for d in held_out) == "line\n" * 10


def test_prepared_text_is_used_again_until_something_changes(text, tmp_path):
    def notes(**changes: object) -> list[str]:
        said: list[str] = []
        prepare(nano(text, tmp_path / "run", **changes), tmp_path / "data", said.append)
        return said

    assert len(notes()) == 3 and notes() == []
    assert len(notes(vocab_size=320)) == 3 and len(notes(tokenizer="bytes")) == 2
    record = tmp_path / "data" / "corpus.json"
    for damaged in ("", "[]", "{}", '{"fingerprint": 1}'):
        record.write_text(damaged)
        assert len(notes(tokenizer="bytes")) == 2 and notes(tokenizer="bytes") == []
    text.write_text(TEXT + "x = 1\n")
    assert len(notes(tokenizer="bytes")) == 2
    corpus = prepare(nano(text, tmp_path / "run", tokenizer="bytes"), tmp_path / "data")
    whole = bytes(token for token in [*corpus.train.ids, *corpus.val.ids] if token < 256).decode()
    assert whole == TEXT + "x = 1\n" and corpus.characters == len(whole)
    assert 0.9 < corpus.val_bytes_per_token < 1


def test_metrics_file_forgets_what_a_resumed_run_repeats(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste\xff')
    metrics = MetricsFile(path, step=2)
    metrics.step({"step": 3, "loss": 1.5})
    metrics.close()
    assert read_metrics(path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 1.5}]


# Runs --------------------------------------------------------------------------------------------


def weights(folder: Path) -> dict[str, np.ndarray]:
    from gradient.io.safetensors import load_file

    return {name: value.numpy().copy() for name, value in load_file(folder).items()}


def test_a_run_learns_and_leaves_its_files(text, tmp_path):
    seen = Recorder()
    result = train(nano(text, tmp_path / "run", steps=60), reporter=seen)
    assert result.finished and result.step == 60 and result.tokens == 60 * 4 * 32
    assert seen.steps[0]["loss"] > 4.5 and result.val_loss < 3.6
    assert [record["step"] for record in seen.evaluations] == [10, 20, 30, 40, 50, 60]
    assert len(seen.samples) == 6 and seen.steps[-1]["eta"] == 0
    assert seen.steps[-1]["tokens_per_second"] > 0
    out = tmp_path / "run"
    assert [r["step"] for r in read_metrics(out / "metrics.jsonl") if "loss" in r] == list(
        range(5, 65, 5)
    )
    kept = sorted(path.name for path in (out / "checkpoints").glob("step-*"))
    assert "step-00000060" in kept and len(kept) <= 3
    record = json.loads((out / "model" / "training.json").read_text())
    assert record["tokens_seen"] == result.tokens and record["val_loss"] == result.val_loss
    assert math.isclose(record["minutes"], result.elapsed / 60, abs_tol=0.01)


def test_the_loss_curve(text, tmp_path):
    pytest.importorskip("matplotlib")
    train(nano(text, tmp_path / "run"))
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_matplotlib_is_a_note(text, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    seen = Recorder()
    train(nano(text, tmp_path / "run"), reporter=seen)
    assert "no loss curve: the loss curve needs matplotlib: pip install matplotlib" in seen.notes


def test_tensorboard_events(text, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(nano(text, tmp_path / "run", tensorboard=True))
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("val/loss")] == [10, 20]


def test_tensorboard_forgets_what_a_resumed_run_repeats(text, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for step, losses in ((0, {1: 5.0, 2: 4.0, 3: 9.0}), (2, {3: 3.0})):
        events = TensorBoardEvents(tmp_path, step)
        for at, loss in losses.items():
            record = {"step": at, "loss": loss, "lr": 0, "grad_norm": 0, "tokens_per_second": 0}
            events.step(record)
        events.close()
        time.sleep(1.1)  # event files are named, and read, by the second
    shown = accumulator.EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in shown] == [(1, 5.0), (2, 4.0), (3, 3.0)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"dropout": 0.1, "accumulate": 2}, {"dtype": "bfloat16"}, {"dtype": "float16"}],
    ids=str,
)
def test_resume_is_bit_exact(text, tmp_path, options):
    whole = train(nano(text, tmp_path / "whole", **options))
    halves = nano(text, tmp_path / "halves", **options)
    first = train(halves, reporter=Recorder(stop_at=10))
    assert not first.finished and first.step == 10
    second = train(halves, resume=True)
    assert second.finished and second.val_loss == whole.val_loss
    a = weights(tmp_path / "whole" / "checkpoints" / "step-00000020" / "model.safetensors")
    b = weights(tmp_path / "halves" / "checkpoints" / "step-00000020" / "model.safetensors")
    assert a.keys() == b.keys()
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)
    losses = [
        [(r["step"], r.get("loss"), r.get("val_loss")) for r in read_metrics(out / "metrics.jsonl")]
        for out in (tmp_path / "whole", tmp_path / "halves")
    ]
    assert losses[0] == losses[1]


def test_accumulation_is_a_larger_batch(text, tmp_path):
    one = train(nano(text, tmp_path / "one", batch_size=8, accumulate=1, steps=5))
    other = train(nano(text, tmp_path / "other", batch_size=4, accumulate=2, steps=5))
    assert other.train_loss == pytest.approx(one.train_loss, rel=1e-5)


def test_a_longer_run_goes_on_from_a_finished_one(text, tmp_path):
    config = nano(text, tmp_path / "run")
    train(config)
    longer = train(dataclasses.replace(config, steps=30), resume=True)
    assert longer.finished and longer.step == 30


def test_a_run_is_not_overwritten(text, tmp_path):
    config = nano(text, tmp_path / "run")
    train(config)
    with pytest.raises(ArgumentError, match="already holds a run; resume it"):
        train(config)


def test_tokens_that_were_altered_are_not_trained_on(text, tmp_path):
    config = nano(text, tmp_path / "run", steps=4, eval_every=2)
    train(config)
    tokens = tmp_path / "run" / "data" / "train.bin"
    good = tokens.read_bytes()
    tokens.write_bytes(good[:-2] + bytes([good[-2] ^ 1, good[-1]]))
    longer = dataclasses.replace(config, steps=6)
    with pytest.raises(FileFormatError, match=r"train.bin was altered .*; remove .*corpus.json"):
        train(longer, resume=True)
    (tokens.parent / "corpus.json").unlink()
    assert train(longer, resume=True).finished
    assert tokens.read_bytes() == good


def test_nothing_to_resume(text, tmp_path):
    with pytest.raises(CheckpointError, match="no run to resume in '.*': train.json is missing"):
        train(nano(text, tmp_path / "run"), resume=True)


def test_too_little_text(tmp_path):
    (tmp_path / "short.txt").write_text("too short\n")
    with pytest.raises(ArgumentError, match="too few for one sequence of block_size=32"):
        train(nano(tmp_path / "short.txt", tmp_path / "run", tokenizer="bytes"))


def test_a_text_of_which_less_than_a_sequence_is_held_out(tmp_path):
    (tmp_path / "short.txt").write_text("a line of text\n" * 20)
    config = nano(tmp_path / "short.txt", tmp_path / "run", tokenizer="bytes", batch_size=2)
    assert train(config).val_loss > 0


def test_nothing_held_out(text, tmp_path):
    result = train(nano(text, tmp_path / "run", val_fraction=0.0))
    assert result.finished and result.val_loss is None
    assert json.loads((result.model / "training.json").read_text())["best_step"] == 20


def test_time_limit_ends_with_the_rate_brought_down(text, tmp_path, monkeypatch):
    ticks = itertools.count(1)
    monkeypatch.setattr(Stopwatch, "total", lambda self: 0.1 * next(ticks))  # 0.1 s a step
    seen = Recorder()
    config = nano(text, tmp_path / "run", steps=10**6, max_minutes=2 / 60, eval_every=10**6)
    result = train(config, reporter=seen)
    assert result.finished and result.step == 20
    assert seen.steps[-1]["lr"] < 0.3 * config.learning_rate


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "bf16"])
def test_the_exported_model_generates(text, tmp_path, dtype):
    result = train(nano(text, tmp_path / "run", export_dtype=dtype))
    language_model = gradient.hub.load(result.model)
    assert language_model.model.dtype.name == {"bf16": "bfloat16"}.get(dtype, dtype)
    assert str(language_model.generate("def add", max_new_tokens=5, temperature=0.0))


def test_training_in_bfloat16_follows_float32(text, tmp_path):
    """Its masters take the steps that bfloat16 weights are too coarse for."""
    curves = {}
    for dtype in ("float32", "bf16"):
        seen = Recorder()
        train(
            nano(text, tmp_path / dtype, dtype=dtype, steps=60, learning_rate=3e-3), reporter=seen
        )
        curves[dtype] = [record["loss"] for record in seen.steps]
    assert curves["bf16"] == pytest.approx(curves["float32"], rel=0.02)
    assert curves["bf16"] != curves["float32"]
    assert curves["bf16"][-1] < 0.8 * curves["bf16"][0]


def test_training_in_float16_follows_float32(text, tmp_path):
    """Weights stay float32; steps whose gradients overflow are left out until the scale fits."""
    curves = {}
    for dtype in ("float32", "f16"):
        seen = Recorder()
        config = nano(text, tmp_path / dtype, dtype=dtype, steps=60, learning_rate=3e-3)
        result = train(config, reporter=seen)
        curves[dtype] = [record["loss"] for record in seen.steps]
    assert curves["f16"] == pytest.approx(curves["float32"], rel=0.02)
    assert curves["f16"] != curves["float32"]
    kept = weights(tmp_path / "f16" / "checkpoints" / "step-00000060" / "model.safetensors")
    assert {x.dtype for x in kept.values()} == {np.dtype(np.float32)}
    exported = gradient.hub.load(result.model).model.state_dict()
    assert {x.dtype for x in exported.values()} == {gradient.float32}


def test_a_step_that_overflows_is_left_out(text, tmp_path):
    config = nano(text, tmp_path / "run", dtype="float16")
    corpus = prepare(config, tmp_path / "data")
    trainer = Trainer(config, corpus, Recorder())
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.scaler.scale(gradient.ones(()))
    trainer.scaler._scale.fill_(1e38)
    loss, norm = trainer.train_step()
    assert np.isfinite(loss.item()) and not np.isfinite(norm.item())
    assert trainer.scaler.get_scale() == pytest.approx(0.5e38)
    assert all((p == before[name]).all() for name, p in trainer.model.named_parameters())
    trainer.train_loss = loss.item()
    record = trainer._record(norm.item(), 1.0)
    assert record["grad_norm"] is None and "norm inf" in step_line(record)
    saved = trainer.state_dict()
    again = Trainer(config, corpus, Recorder(), saved)
    assert again.scaler.get_scale() == trainer.scaler.get_scale()


def test_masters_are_exported_where_float32_is_asked_for(text, tmp_path):
    result = train(nano(text, tmp_path / "run", dtype="bf16"))
    best = load_checkpoint(tmp_path / "run" / "checkpoints", "best")
    rounded = {name: gradient.tensor(x).float() for name, x in best["model"].items()}
    exported = gradient.hub.load(result.model).model.state_dict()
    assert all(x.dtype == gradient.float32 for x in exported.values())
    assert all((x.bfloat16().float() == rounded[name]).all() for name, x in exported.items())
    assert any((x != rounded[name]).any() for name, x in exported.items())
    halves = train(nano(text, tmp_path / "halves", dtype="bf16", export_dtype="bf16"))
    for name, x in gradient.hub.load(halves.model).model.state_dict().items():
        assert (x.float() == rounded[name]).all()


@pytest.mark.parity
def test_transformers_reads_the_exported_model(text, tmp_path):
    import torch
    from transformers import AutoTokenizer, GPT2LMHeadModel

    result = train(nano(text, tmp_path / "run"))
    theirs = GPT2LMHeadModel.from_pretrained(result.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(result.model)
    ours = gradient.hub.load(result.model)
    ids = ours.tokenizer.encode("def add_1(number):\n")
    assert tokenizer("def add_1(number):\n")["input_ids"] == list(ids)
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits.numpy()
    with gradient.no_grad():
        got = ours.model(gradient.tensor([ids])).numpy()
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


# Accidents ---------------------------------------------------------------------------------------

CHILD = """
import json, sys
from gradient.training import TrainConfig, train
from gradient.training.reporters import PlainReporter
values, resume = json.loads(sys.argv[1]), sys.argv[2] == "resume"
result = train(TrainConfig.from_json(values), resume=resume, reporter=PlainReporter())
"""


def start(config: TrainConfig, mode: str = "start", **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, json.dumps(config.to_json()), mode]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def wait_for(process: subprocess.Popen[str], words: str) -> str:
    lines = ""
    for line in process.stdout:
        lines += line
        if words in line:
            return lines
    raise AssertionError(f"{words!r} did not come; the output was:\n{lines}")


def test_sigint_saves_and_says_how_to_resume(text, tmp_path):
    config = nano(text, tmp_path / "run", steps=10**6, eval_every=10**6, log_every=1)
    process = start(config)
    wait_for(process, "step     10")
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopping: this step is finished and saved first" in rest
    assert f"resume with: gradient train --resume --out {tmp_path / 'run'}" in rest
    [checkpoint] = (tmp_path / "run" / "checkpoints").glob("step-*")
    saved = int(checkpoint.name.removeprefix("step-"))
    result = train(dataclasses.replace(config, steps=saved + 2), resume=True)
    assert result.step == saved + 2


def test_a_killed_run_resumes_from_its_last_whole_checkpoint(text, tmp_path):
    config = nano(text, tmp_path / "run", steps=60, eval_every=2, sample_tokens=0)
    for _ in range(3):
        resumable = (tmp_path / "run" / "checkpoints").exists()
        process = start(config, "resume" if resumable else "start")
        wait_for(process, "saved")
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    whole = train(nano(text, tmp_path / "whole", steps=60, eval_every=2, sample_tokens=0))
    resumed = train(config, resume=True)
    assert resumed.finished and resumed.val_loss == whole.val_loss


def metrics(out: Path) -> list[dict]:
    """The records of a run without what the clock decides."""
    timed = ("elapsed", "eta", "tokens_per_second")
    return [
        {key: value for key, value in record.items() if key not in timed}
        for record in read_metrics(out / "metrics.jsonl")
    ]


@pytest.mark.parametrize("leaves_at", [5, 10])
def test_a_run_whose_reader_leaves_is_saved(text, tmp_path, leaves_at):
    """As at the other end of a pipe: `gradient train | head`."""

    class Leaver(Reporter):
        def step(self, record):
            if record["step"] == leaves_at:
                raise BrokenPipeError

    train(nano(text, tmp_path / "whole"))
    halves = nano(text, tmp_path / "halves")
    with pytest.raises(BrokenPipeError):
        train(halves, reporter=Leaver())
    assert load_checkpoint(tmp_path / "halves" / "checkpoints")["step"] == leaves_at
    assert (tmp_path / "halves" / "model" / "model.safetensors").exists()
    assert train(halves, resume=True).finished
    assert metrics(tmp_path / "halves") == metrics(tmp_path / "whole")


@pytest.mark.parametrize("stop_at", [3, 10, 14])
def test_the_log_of_a_stopped_run_is_that_of_one_that_was_not(text, tmp_path, stop_at):
    class StopAfter(Trainer):
        def train_step(self):
            done = super().train_step()
            if self.step == stop_at:
                os.kill(os.getpid(), signal.SIGINT)
            return done

    train(nano(text, tmp_path / "whole"))
    halves = nano(text, tmp_path / "halves")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradient.training.run.Trainer", StopAfter)
        assert train(halves).step == stop_at
    assert train(halves, resume=True).finished
    assert metrics(tmp_path / "halves") == metrics(tmp_path / "whole")


def test_the_log_of_a_killed_run_is_that_of_one_that_was_not(text, tmp_path):
    config = nano(text, tmp_path / "run", log_every=1, eval_every=7)
    process = start(config)
    wait_for(process, "step     12")  # the line of step 11 is in the log by now
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert max(record["step"] for record in metrics(tmp_path / "run")) >= 11
    train(config, resume=True)
    train(dataclasses.replace(config, out=str(tmp_path / "whole")))
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


def test_a_damaged_checkpoint_is_passed_over_and_said(text, tmp_path):
    config = nano(text, tmp_path / "run")
    whole = train(config)
    newest = tmp_path / "run" / "checkpoints" / "step-00000020"
    file = newest / "optimizer.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    log = metrics(tmp_path / "run")
    seen = Recorder()
    again = train(config, resume=True, reporter=seen)
    assert [note for note in seen.notes if "checkpoint" in note] == [
        f"warning: {newest} is damaged: optimizer.safetensors has another checksum than was noted; "
        "it is set aside as damaged-1-step-00000020",
        "going on from the older checkpoint of step 10",
    ]
    assert again.step == 20 and again.val_loss == whole.val_loss
    assert metrics(tmp_path / "run") == log


def test_a_damaged_best_checkpoint_does_not_cost_the_run_its_model(text, tmp_path):
    class Damage(Recorder):
        def checkpoint(self, step, path, is_best):
            if step == 20:
                file = Path(path) / "model.safetensors"
                file.write_bytes(file.read_bytes()[:-1] + b"!")

    seen = Damage()
    result = train(nano(text, tmp_path / "run"), reporter=seen)
    assert any(note.endswith("the last weights are exported instead") for note in seen.notes)
    assert (result.model / "model.safetensors").is_file()


def test_two_runs_do_not_share_a_folder(text, tmp_path):
    config = nano(text, tmp_path / "run", steps=10**6, eval_every=5, log_every=1)
    process = start(config)
    wait_for(process, "saved")
    for resume in (False, True):
        with pytest.raises(CheckpointError) as caught:
            train(config, resume=resume)
        assert f"{tmp_path / 'run'} is in use: process {process.pid} on " in str(caught.value)
    process.send_signal(signal.SIGKILL)  # which leaves nothing locked
    process.communicate()
    reached = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["step"]
    assert train(dataclasses.replace(config, steps=reached + 1), resume=True).finished


def test_a_full_disk_is_told_and_loses_nothing(text, tmp_path):
    config = nano(text, tmp_path / "run", steps=30)
    stopped = train(config, reporter=Recorder(stop_at=10))
    assert stopped.step == 10

    def small_files() -> None:
        # Files above 20 kB cannot be written: the system's answer to write() is an error.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    # No bytecode: Python itself would leave truncated .pyc files, which later fail to import.
    quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    process = start(config, "resume", preexec_fn=small_files, env=quiet)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "warning: step 20 is not saved: could not write" in output
    assert "training goes on" in output
    assert "CheckpointError: step 30 is not saved: could not write" in output
    assert "Last whole checkpoint: step 10" in output
    assert train(config, resume=True).step == 30


def test_a_log_that_cannot_be_written_does_not_end_the_run(text, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MetricsFile, "step", fail)
    seen = Recorder()
    assert train(nano(text, tmp_path / "run"), reporter=seen).finished
    told = "warning: MetricsFile writes no more: [Errno 28] No space left on device"
    assert seen.notes.count(told) == 1


def test_no_checkpoint_for_a_loss_that_is_not_finite(text, tmp_path):
    config = nano(text, tmp_path / "run", learning_rate=1e30, grad_clip=0.0, warmup_steps=0)
    with pytest.raises(gradient.errors.GradientError, match="lower --learning-rate"):
        train(config)


def test_checkpoint_of_other_text(text, tmp_path):
    config = nano(text, tmp_path / "run")
    train(config, reporter=Recorder(stop_at=10))
    text.write_text(TEXT + "x = 1\n")
    assert train(config, resume=True).step == 20  # the prepared tokens are still there
    for path in (tmp_path / "run" / "data").iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match="not the one that this run began with"):
        train(dataclasses.replace(config, steps=30), resume=True)


def test_a_stop_is_told_though_the_signal_came_in_the_middle_of_a_write():
    """Python refuses to enter a stream's write twice in one thread."""
    told, heard = [], threading.Event()

    def tell() -> None:
        told.append(threading.get_ident())
        if len(told) == 1:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")
        heard.set()

    with StopRequest(tell) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested and heard.wait(timeout=120)
    assert len(set(told)) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("earlier", [signal.default_int_handler, signal.SIG_IGN])
def test_a_signal_while_the_handlers_are_installed_interrupts(monkeypatch, number, earlier):
    """The very next moment after one took its place."""
    ends = signal.default_int_handler  # SIG_DFL would end pytest
    monkeypatch.setitem(interrupt._BREAKING_OFF, signal.SIGTERM, ends)
    install, before = signal.signal, {}

    def install_and_raise(which, handler):
        replaced = install(which, handler)
        if which == number and handler == stop._handle:
            signal.raise_signal(number)
        return replaced

    for each in (signal.SIGINT, signal.SIGTERM):
        before[each] = install(each, earlier)
    stop = StopRequest(at_once=lambda: True)
    monkeypatch.setattr(signal, "signal", install_and_raise)
    try:
        with pytest.raises(KeyboardInterrupt), stop:
            pytest.fail("the signal was lost")
        assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == earlier
    finally:
        for each, handler in before.items():
            install(each, handler)
