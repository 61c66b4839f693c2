"""Named pipes, sockets and devices in place of files: refused by name, and never waited for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

READERS = {
    "gradient.load": "gradient.load({path!r})",
    "SafetensorsFile": "gradient.io.SafetensorsFile({path!r})",
    "TorchFile": "gradient.io.TorchFile({path!r})",
    "GGUFFile": "gradient.io.GGUFFile({path!r})",
    "read_json": "from gradient.io.json_file import read_json; read_json({path!r})",
    "load_model": "gradient.checkpoints.load_model({path!r})",
    "hub.load": "gradient.hub.load({path!r})",
    "config.json of a folder": "gradient.hub.load({models!r})",
    "train.json of a run": "gradient.training.TrainConfig.load(pathlib.Path({path!r}))",
    "weights of a folder": "gradient.io.open_sharded({folder!r})",
    "Llama2cFile": "from gradient.checkpoints.llama2c import Llama2cFile; Llama2cFile({path!r})",
    "Tokenizer.from_file": "gradient.text.Tokenizer.from_file({path!r})",
    "sentencepiece": "gradient.text.Tokenizer.from_file({model!r})",
    "TokenFile": "gradient.data.TokenFile({path!r}, 'uint16')",
    "text to train on": "gradient.training.train("
    "gradient.training.TrainConfig(paths=({path!r},), out={out!r}))",
    "chat template": "gradient.training.train(gradient.training.TrainConfig("
    "paths=({text!r},), chat_template={path!r}, out={out!r}))",
}

PROGRAM = textwrap.dedent(
    """
    import gradient, gradient.training, gradient.io, gradient.hub, gradient.models, gradient.text
    import pathlib, gradient.data
    from gradient.errors import GradientError
    for call in {calls!r}:
        try:
            exec(call)
        except GradientError as error:
            print(error)
        else:
            print("accepted")
    """
)


def special(kind: str, path: Path) -> Path:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize(
    "kind, words",
    [("fifo", "a named pipe (FIFO)"), ("socket", "a socket"), ("device", "a character device")],
)
def test_what_is_no_file_is_refused_by_every_reader(kind, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    path = str(special(kind, Path("model.safetensors")))
    model = str(special(kind, Path("tokenizer.model")))
    Path("text.txt").write_text("some text\n" * 200)
    Path("models").mkdir()
    special(kind, Path("models/config.json"))
    named = {
        "path": path,
        "models": "models",
        "model": model,
        "folder": ".",
        "out": "run",
        "text": "text.txt",
    }
    calls = [call.format(**named) for call in READERS.values()]
    # In a process of its own, which can be ended if it waits after all.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(calls=calls)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for reader, said in zip(READERS, done.stdout.splitlines(), strict=True):
        assert f"is {words}; expected a file" in said, (reader, said)
