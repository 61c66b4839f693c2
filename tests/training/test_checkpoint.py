"""Checkpoints: whole after a crash or a full disk, and enough to go on bit for bit."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import gradient
from gradient import nn, optim
from gradient.data import DataLoader, TensorDataset
from gradient.errors import ArgumentError, CheckpointError, TypeMismatch
from gradient.io import checkpoint as checkpoint_module
from gradient.io import (
    find_checkpoint,
    json_file,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from gradient.io.checkpoint import load_latest, rename_damaged
from gradient.io.regular_file import open_regular
from gradient.io.safetensors import load_file


def state_of(step):
    return {
        "model": {"w": gradient.full((4,), float(step)), "b": gradient.zeros(2)},
        "optimizer": {"state": {0: {"step": step, "m": gradient.ones(3)}}, "lr": 0.1},
        "generator": gradient.random.default_generator.get_state(),
        "step": step,
    }


def steps(folder):
    return [checkpoint.step for checkpoint in list_checkpoints(folder)]


# Saving, keeping, finding ---------------------------------------------------------------------


def test_state_comes_back(tmp_path):
    path = save_checkpoint(tmp_path, 7, state_of(7), metrics={"loss": 0.5})
    assert path == tmp_path / "step-00000007"
    loaded = load_checkpoint(tmp_path)
    assert list(loaded) == ["model", "optimizer", "generator", "step"]
    assert loaded["model"]["w"].tolist() == [7.0] * 4
    assert loaded["optimizer"]["state"][0]["step"] == 7
    assert loaded["optimizer"]["state"][0]["m"].tolist() == [1.0] * 3
    assert loaded["generator"].dtype is gradient.uint8
    assert loaded["step"] == 7
    assert find_checkpoint(tmp_path).metrics == {"loss": 0.5}
    # Other programs read the weights as they are named.
    assert load_file(path / "model.safetensors").keys() == {"w", "b"}
    assert sorted(os.listdir(path)) == [
        "checkpoint.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.safetensors",
    ]
    assert load_checkpoint(path)["step"] == 7, "a single checkpoint's folder will do"


def test_metrics_may_be_tensors_of_one_element_and_no_larger(tmp_path):
    metrics = {"loss": gradient.tensor(0.5), "steps": gradient.tensor([3])}
    save_checkpoint(tmp_path, 1, state_of(1), metrics=metrics)
    assert find_checkpoint(tmp_path).metrics == {"loss": 0.5, "steps": 3}
    with pytest.raises(TypeMismatch, match="metrics.all: metrics are numbers and texts"):
        save_checkpoint(tmp_path, 2, state_of(2), metrics={"all": gradient.ones(3)})
    assert steps(tmp_path) == [1]


def test_damaged_metrics_hide_no_other_checkpoint(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, state_of(step))
    manifest = tmp_path / "step-00000002" / "checkpoint.json"
    damaged = json.loads(manifest.read_text()) | {"metrics": {"loss": {"$tensor": "gone"}}}
    manifest.write_text(json.dumps(damaged))
    assert steps(tmp_path) == [1]
    assert load_checkpoint(tmp_path)["step"] == 1


def test_the_last_few_and_the_best_are_kept(tmp_path):
    for step in range(1, 8):
        save_checkpoint(tmp_path, step, state_of(step), keep_last=2, is_best=step in (2, 3))
    assert steps(tmp_path) == [3, 6, 7]
    assert load_checkpoint(tmp_path)["step"] == 7
    assert load_checkpoint(tmp_path, "latest")["step"] == 7
    assert load_checkpoint(tmp_path, "best")["step"] == 3
    assert load_checkpoint(tmp_path, 6)["step"] == 6
    save_checkpoint(tmp_path, 8, state_of(8), keep_last=1, is_best=True)
    assert steps(tmp_path) == [8]
    save_checkpoint(tmp_path, 9, state_of(9))
    assert steps(tmp_path) == [8, 9], "all are kept unless told otherwise"


def test_a_step_saved_again_replaces_nothing_before_it_is_whole(tmp_path):
    save_checkpoint(tmp_path, 5, state_of(5), is_best=True)
    path = save_checkpoint(tmp_path, 5, state_of(50))
    assert path.name == "step-00000005-2"
    assert load_checkpoint(tmp_path)["step"] == 50
    assert load_checkpoint(tmp_path, "best")["step"] == 5
    save_checkpoint(tmp_path, 5, state_of(500), keep_last=1)
    assert load_checkpoint(tmp_path)["step"] == 500
    assert sorted(os.listdir(tmp_path)) == ["step-00000005", "step-00000005-3"]


def test_loaded_tensors_outlive_their_checkpoint(tmp_path):
    save_checkpoint(tmp_path, 1, state_of(1), keep_last=1)
    loaded = load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, 2, state_of(2), keep_last=1)
    assert steps(tmp_path) == [2]
    assert loaded["model"]["w"].tolist() == [1.0] * 4


def test_extra_files_appear_with_the_rest(tmp_path):
    def write_config(folder):
        (folder / "config.json").write_text("{}")
        (folder / "more").mkdir()

    path = save_checkpoint(tmp_path, 1, state_of(1), extra=write_config)
    assert (path / "config.json").read_text() == "{}"
    assert (path / "more").is_dir()
    assert load_checkpoint(tmp_path)["step"] == 1


def spoil_manifest(path):
    (path / "checkpoint.json").write_text('{"format": "gradient-checkpoint", ')


def spoil_size(path):
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_manifest,
        spoil_size,
        lambda path: (path / "checkpoint.json").unlink(),
        lambda path: (path / "optimizer.safetensors").unlink(),
        lambda path: (path / "checkpoint.json").write_text("[]"),
        lambda path: [entry.unlink() for entry in path.iterdir()],
        lambda path: path.rename(path.with_name(".step-00000003.unfinished-1234")),
        lambda path: path.rename(path.with_name("step-3 (copy)")),
    ],
)
def test_latest_passes_over_what_is_not_whole(tmp_path, spoil):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, state_of(step))
    spoil(tmp_path / "step-00000003")
    assert load_checkpoint(tmp_path)["step"] == 2
    save_checkpoint(tmp_path, 4, state_of(4), keep_last=2)
    assert steps(tmp_path) == [2, 4], "the damaged one does not count as one of the last"


def flip(file, at, bit=1):
    data = bytearray(file.read_bytes())
    data[at] ^= bit
    file.write_bytes(data)


@pytest.mark.parametrize("at", [0, 3, 9, -1, -20])
@pytest.mark.parametrize("name", ["model", "optimizer", "state"])
def test_a_flipped_bit_in_a_file_is_named(tmp_path, name, at):
    path = save_checkpoint(tmp_path, 1, state_of(1))
    flip(path / f"{name}.safetensors", at)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path)
    assert str(caught.value) == (
        f"{path} is damaged: {name}.safetensors has another checksum than was noted"
    )


def test_every_flipped_bit_of_a_manifest_is_found(tmp_path):
    path = save_checkpoint(tmp_path, 1, {"lr": 0.1, "w": gradient.ones(2)}, metrics={"loss": 0.5})
    manifest = path / "checkpoint.json"
    for at, byte in enumerate(manifest.read_bytes()):
        if chr(byte).isspace():  # one white space may become another
            continue
        flip(manifest, at, 1 << at % 7)
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
        flip(manifest, at, 1 << at % 7)
    assert load_checkpoint(path)["lr"] == 0.1


def test_checkpoints_without_checksums_are_read(tmp_path):
    path = save_checkpoint(tmp_path, 1, state_of(1))
    manifest = json.loads((path / "checkpoint.json").read_text()) | {"version": 1}
    del manifest["sha256"]
    (path / "checkpoint.json").write_text(json.dumps(manifest))
    assert load_checkpoint(tmp_path)["step"] == 1


def test_the_latest_that_is_not_damaged(tmp_path):
    paths = [save_checkpoint(tmp_path, step, state_of(step)) for step in (1, 2, 3, 4)]
    flip(paths[3] / "model.safetensors", -1)
    spoil_size(paths[2])
    checkpoint, state, damaged = load_latest(tmp_path)
    assert (checkpoint.step, state["step"]) == (2, 2)
    assert [path for path, _ in damaged] == [paths[2], paths[3]]
    assert rename_damaged(paths[3]).name == "damaged-1-step-00000004"
    assert steps(tmp_path) == [1, 2]
    for path in paths[:2]:
        flip(path / "state.safetensors", -1)
    with pytest.raises(CheckpointError) as caught:
        load_latest(tmp_path)
    for path in paths[:3]:
        assert f"{path} is damaged" in str(caught.value)
    with pytest.raises(CheckpointError, match="no checkpoint can be loaded: there is none"):
        load_latest(tmp_path / "absent")


@pytest.mark.parametrize("file", ["model.safetensors", "checkpoint.json"])
def test_a_disk_that_cannot_be_read_costs_one_checkpoint(tmp_path, monkeypatch, file):
    paths = [save_checkpoint(tmp_path, step, state_of(step)) for step in (1, 2)]

    def failing(path):
        if Path(path) == paths[1] / file:
            raise OSError(errno.EIO, "Input/output error")
        return open_regular(path)

    for module in (checkpoint_module, json_file):
        monkeypatch.setattr(module, "open_regular", failing)
    checkpoint, _, damaged = load_latest(tmp_path)
    assert checkpoint.step == 1
    ((path, error),) = damaged
    assert path == paths[1] and "Input/output error" in str(error)


def test_a_checkpoint_of_a_later_gradient_is_not_passed_over(tmp_path):
    save_checkpoint(tmp_path, 1, state_of(1))
    path = save_checkpoint(tmp_path, 2, state_of(2))
    manifest = json.loads((path / "checkpoint.json").read_text()) | {"version": 99}
    (path / "checkpoint.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="has checkpoint version 99"):
        load_latest(tmp_path)


def test_going_back_deletes_nothing_that_was_just_saved(tmp_path):
    save_checkpoint(tmp_path, 9, state_of(9))
    path = save_checkpoint(tmp_path, 5, state_of(5), keep_last=1)
    assert path.is_dir()


def test_absent_checkpoints_are_explained(tmp_path):
    def message(*arguments):
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(*arguments)
        return str(caught.value)

    absent = tmp_path / "absent"
    assert message(absent) == (
        f"{absent}: a latest checkpoint was asked for; no whole checkpoint is there"
    )
    save_checkpoint(tmp_path, 3, state_of(3))
    save_checkpoint(tmp_path, 8, state_of(8))
    assert message(tmp_path, 5) == (
        f"{tmp_path}: a checkpoint of step 5 was asked for; the whole ones are of steps 3, 8"
    )
    assert "a best checkpoint was asked for" in message(tmp_path, "best")
    manifest = json.loads((tmp_path / "step-00000008" / "checkpoint.json").read_text())
    text = json.dumps(manifest | {"version": 99})
    (tmp_path / "step-00000008" / "checkpoint.json").write_text(text)
    assert "has checkpoint version 99; this gradient reads 1 to 2: update" in message(
        tmp_path / "step-00000008"
    )


def test_wrong_arguments_are_explained(tmp_path):
    with pytest.raises(ArgumentError, match="step must be an integer >= 0, got -1"):
        save_checkpoint(tmp_path, -1, {})
    with pytest.raises(ArgumentError, match="keep_last must be at least 1, got 0"):
        save_checkpoint(tmp_path, 1, {}, keep_last=0)
    with pytest.raises(ArgumentError, match="expected 'latest', 'best' or a step, got 'first'"):
        load_checkpoint(tmp_path, "first")
    with pytest.raises(TypeError, match="cannot save hook: a builtins.function|cannot save hook"):
        save_checkpoint(tmp_path, 1, {"hook": lambda: None})
    assert os.listdir(tmp_path) == []


# Crashes and full disks -----------------------------------------------------------------------


@pytest.mark.parametrize("which", range(12))
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, which):
    """The n-th fsync fails, for every n of a save: whatever is being written, nothing is lost."""
    save_checkpoint(tmp_path, 1, state_of(1), is_best=True)
    save_checkpoint(tmp_path, 2, state_of(2))
    before = sorted(os.listdir(tmp_path))
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == which + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    try:
        save_checkpoint(tmp_path, 3, state_of(3), keep_last=1)
    except CheckpointError as error:
        assert error.errno == errno.ENOSPC
        assert "No space left on device. What was there before is unchanged" in str(error)
        assert sorted(os.listdir(tmp_path)) == before
        assert load_checkpoint(tmp_path)["step"] == 2
    else:
        # Syncing a folder is an extra, not part of the data.
        assert load_checkpoint(tmp_path)["step"] == 3
    monkeypatch.undo()
    save_checkpoint(tmp_path, 4, state_of(4), keep_last=1)
    assert steps(tmp_path) == [1, 4]


def test_a_disk_known_to_be_too_small_is_refused_before_writing(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 1, state_of(1))
    usage = type("Usage", (), {"free": 20})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(CheckpointError, match="bytes are needed and 20 are free; free some space"):
        save_checkpoint(tmp_path, 2, state_of(2))
    assert os.listdir(tmp_path) == ["step-00000001"]


SAVE_FOR_EVER = textwrap.dedent(
    """
    import os
    import sys
    import numpy as np
    from gradient.io import save_checkpoint

    def save_for_ever(folder, step):
        while True:
            step += 1
            weights = {f"w{n}": np.full((40, 100), step, np.float32) for n in range(8)}
            state = {"model": weights, "step": step}
            save_checkpoint(folder, step, state, keep_last=2, is_best=step % 3 == 0)
            print(step, flush=True)

    for first in sys.stdin:
        pid = os.fork()  # quicker than a process that has everything to import
        if pid == 0:
            print("pid", os.getpid(), flush=True)
            save_for_ever(sys.argv[1], int(first))
        os.waitpid(pid, 0)
        print("\\nkilled", flush=True)
    """
)


@pytest.fixture
def saving(tmp_path):
    """A process whose children save checkpoints, each from the step that it is told."""
    command = [sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()


def crash(saving, first, generator):
    """Have a process save checkpoints, and kill it somewhere; returns the last step it reported."""
    saving.stdin.write(f"{first}\n")
    saving.stdin.flush()
    pid = int(saving.stdout.readline().removeprefix("pid "))
    reported = [saving.stdout.readline()]
    time.sleep(generator.random() * 0.05)
    os.kill(pid, signal.SIGKILL)
    while (line := saving.stdout.readline()) != "killed\n":
        assert line, "the process that makes them is gone"
        reported.append(line)
    if reported.pop() != "\n":  # the last was cut, and ended by the newline before "killed"
        assert reported
    return int(reported[-1])


@pytest.mark.parametrize("rounds", [12, pytest.param(150, marks=pytest.mark.slow)])
def test_a_killed_process_leaves_whole_checkpoints(tmp_path, saving, rounds):
    """kill -9 at random times, again and again in one folder."""
    generator = random.Random(0)
    step, unfinished = 0, 0
    for _ in range(rounds):
        reported = crash(saving, step, generator)
        latest = load_checkpoint(tmp_path)
        step = latest["step"]
        # Saved and reported, or saved and killed before the report.
        assert step in (reported, reported + 1)
        assert len(latest["model"]) == 8
        assert all((array == step).all() for array in latest["model"].values())
        if step >= 3:
            best = load_checkpoint(tmp_path, "best")
            assert best["step"] == step // 3 * 3
            assert all((array == best["step"]).all() for array in best["model"].values())
        unfinished += any(name.startswith(".") for name in os.listdir(tmp_path))
    assert unfinished, "no round was killed in the middle of a save: the test would prove nothing"
    save_checkpoint(tmp_path, step + 1, {"step": step + 1}, keep_last=2)
    left = [name for name in os.listdir(tmp_path) if name.startswith(".")]
    assert not left, "what the killed processes left is cleared away"


# Resuming -----------------------------------------------------------------------------------------


class Run:
    """A small training run with everything that has a state."""

    def __init__(self, optimizer, seed=0):
        gradient.manual_seed(1234)
        inputs = gradient.randn(40, 6)
        targets = gradient.randint(0, 3, (40,))
        gradient.manual_seed(seed)
        self.model = nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 3)
        )
        self.optimizer = optimizer(self.model.parameters())
        self.scheduler = optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 30)
        self.generator = gradient.Generator().manual_seed(seed + 1)
        dataset = TensorDataset(inputs, targets)
        self.loader = DataLoader(dataset, 7, shuffle=True, generator=self.generator)
        self.step = 0

    def train(self, until, save_at=None, folder=None):
        losses = []
        while self.step < until:
            for inputs, targets in self.loader:
                noisy = inputs + 0.1 * gradient.randn(*inputs.shape)
                loss = nn.functional.cross_entropy(self.model(noisy), targets)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.scheduler.step()
                losses.append(loss.item())
                self.step += 1
                if self.step == save_at:
                    save_checkpoint(folder, self.step, self.state_dict())
                if self.step == until:
                    break
        return losses

    def state_dict(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "loader": self.loader.state_dict(),
            "generator": gradient.random.default_generator.get_state(),
            "step": self.step,
        }

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.loader.load_state_dict(state["loader"])
        gradient.random.default_generator.set_state(state["generator"])
        self.step = state["step"]


OPTIMIZERS = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: optim.Adam(parameters, lr=0.01),
    "adamw": lambda parameters: optim.AdamW(parameters, lr=0.01),
    "rmsprop": lambda parameters: optim.RMSprop(parameters, lr=0.01),
    "adagrad": lambda parameters: optim.Adagrad(parameters, lr=0.05),
    "lion": lambda parameters: optim.Lion(parameters, lr=0.003),
}


@pytest.mark.parametrize("save_at", [3, 6, 10, 12])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path, name, save_at):
    """Epochs have 6 steps: saved within one, at its end, and in a later one."""
    whole = Run(OPTIMIZERS[name])
    losses = whole.train(20, save_at, tmp_path)

    resumed = Run(OPTIMIZERS[name], seed=99)
    resumed.load_state_dict(load_checkpoint(tmp_path))
    assert resumed.step == save_at
    # Resuming must not write into the checkpoint, whose memory it may share.
    assert resumed.train(20) == losses[save_at:]
    for key, value in whole.model.state_dict().items():
        assert (np.asarray(resumed.model.state_dict()[key]) == np.asarray(value)).all(), key
    again = Run(OPTIMIZERS[name], seed=7)
    again.load_state_dict(load_checkpoint(tmp_path))
    assert again.train(20) == losses[save_at:]
