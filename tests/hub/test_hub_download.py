"""Downloading with the real client from a hub of our own, on this machine: fetch, resume, reuse."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradient.checkpoints import load_model, save_model
from gradient.text import byte_tokenizer
from support.paths import GOLDEN

pytestmark = pytest.mark.cpu_only

CHECKPOINT = GOLDEN / "gpt2_tiny"
COMMIT = "89abcdef0123456789abcdef0123456789abcdef"

LOAD = """
import sys, gradient
from gradient.errors import ModelNotFound
try:
    lm = gradient.hub.load("someone/tiny", offline="offline" in sys.argv)
    print("loaded", lm.config.n_layer)
except ModelNotFound as error:
    print("failed", error)
"""


class Hub(http.server.ThreadingHTTPServer):
    """Serves one repository, "someone/tiny", as the hub's API does."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.cut = 100_000  # model.safetensors has 125,000 bytes; nothing else has as many
        self.breaks = 0  # how many connections to break after `cut` bytes of a file
        self.fetched: list[tuple[str, str | None]] = []  # (file, Range header) of each GET
        self.handle_error = lambda *args: None  # connections that we broke ourselves


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        files = self.server.files
        if path in (f"/api/models/someone/tiny/revision/{name}" for name in ("main", COMMIT)):
            siblings = [{"rfilename": name} for name in files]
            self.send({"id": "someone/tiny", "sha": COMMIT, "siblings": siblings})
        elif path == f"/api/models/someone/tiny/tree/{COMMIT}":
            self.send(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": etag(data)}
                    for name, data in files.items()
                ]
            )
        elif path.startswith(f"/someone/tiny/resolve/{COMMIT}/"):
            self.send_file(path.rsplit("/", 1)[1], body)
        else:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def send(self, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def send_file(self, name: str, body: bool) -> None:
        data = self.server.files[name]
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted and body else 0
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{etag(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if not body:
            return
        self.server.fetched.append((name, wanted))
        cut = self.server.cut
        if self.server.breaks and len(data) > cut:
            self.server.breaks -= 1
            self.wfile.write(data[start:cut])
            self.wfile.flush()
            self.close_connection = True
        else:
            self.wfile.write(data[start:])

    def log_message(self, *args: object) -> None:
        """Be silent."""


def etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def served(tmp_path) -> Iterator[Hub]:
    """A running hub with a tiny GPT-2, and files that nobody should fetch."""
    folder = tmp_path / "served"
    shutil.copytree(CHECKPOINT, folder)
    byte_tokenizer().save(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    files["pytorch_model.bin"] = b"not this"
    files["code.py"] = b"raise SystemExit"
    for name in ("consolidated", "adapter_model", "original/model", "onnx/model-00001-of-00001"):
        files[f"{name}.safetensors"] = b"the same once more"
    with Hub(files) as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


def load(hub: Hub, tmp_path: Path, *arguments: str) -> str:
    """Run `hub.load` in a new process against `hub`, with its own cache; return its output."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_model_is_fetched_once(served, tmp_path):
    assert load(served, tmp_path) == "loaded 2"
    fetched = {name for name, _ in served.fetched}
    assert fetched == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    served.fetched.clear()
    served.files = {}  # from now on the hub knows nothing
    assert load(served, tmp_path) == "loaded 2"
    assert load(served, tmp_path, "offline") == "loaded 2"
    assert served.fetched == []


def test_of_a_split_model_the_files_are_fetched_that_its_index_names(served, tmp_path):
    folder = tmp_path / "split"
    save_model(load_model(CHECKPOINT), folder, max_shard_bytes=60_000)
    del served.files["model.safetensors"]
    served.files |= {path.name: path.read_bytes() for path in folder.glob("model*")}
    shards = sorted(path.name for path in folder.glob("model*.safetensors"))
    assert len(shards) > 1
    assert load(served, tmp_path) == "loaded 2"
    fetched = sorted(name for name, _ in served.fetched if "safetensors" in name)
    assert fetched == [*shards, "model.safetensors.index.json"]
    served.files = {}
    assert load(served, tmp_path, "offline") == "loaded 2"


@pytest.mark.slow
def test_a_broken_connection_is_taken_up_where_it_broke(served, tmp_path):
    served.files["vocab.txt"] = bytes(25_000_000)  # the client works in pieces of 10 MB
    served.cut, served.breaks = 15_000_000, 1
    assert load(served, tmp_path) == "loaded 2"
    resumed = [wanted for name, wanted in served.fetched if name == "vocab.txt" and wanted]
    assert len(resumed) == 1
    assert 10_000_000 <= int(resumed[0].removeprefix("bytes=").removesuffix("-")) <= served.cut


@pytest.mark.slow
def test_a_broken_download_is_completed_by_the_next(served, tmp_path):
    served.breaks = 1000
    assert load(served, tmp_path).startswith("failed model 'someone/tiny' not found")
    assert "a download was interrupted" in load(served, tmp_path, "offline")
    served.breaks = 0
    served.fetched.clear()
    assert load(served, tmp_path) == "loaded 2"
    assert [name for name, _ in served.fetched] == ["model.safetensors"]
