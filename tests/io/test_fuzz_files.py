"""Damaged model files: each of four thousand loads and runs, or is refused in our words."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from support.paths import CHECKOUT

pytestmark = [pytest.mark.slow, pytest.mark.cpu_only]

PROGRAM = CHECKOUT / "tests" / "support" / "fuzz_files.py"


@pytest.mark.parametrize(
    "kind",
    [
        *("safetensors", "gguf", "split", "config", "torch", "llama2c"),
        *("tokenizer", "sentencepiece", "merges", "wordpiece"),
    ],
)
def test_four_hundred_damaged_files(kind, tmp_path):
    command = [sys.executable, str(PROGRAM), kind, "400", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROGRAM.parent), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, env=environment)
    # A crash (a signal) shows as a negative return code.
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert not outcomes["wrong"], "\n".join(outcomes["wrong"][:20])
    assert outcomes["loaded"] + outcomes["refused"] == 400
    assert outcomes["loaded"] and outcomes["refused"] > 40
