"""The memory of generation, measured in a separate process that runs some layers of a model."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradient
from gradient.checkpoints import open_checkpoint
from gradient.errors import ArgumentError, BackendError
from gradient.evaluation.empty_models import (
    empty_weights,
    keep_distinct_layers,
    panel_bytes,
    weight_bytes,
)
from gradient.evaluation.forecast_settings import (
    MemoryForecast,
    Settings,
    cache_of,
    context_of,
    dtypes_of,
    mapped_model,
)
from gradient.generation.prefill import CHUNK, feed
from gradient.kv_cache import KVCache


def measured(settings: Settings) -> MemoryForecast:
    """Run `_measure` in a separate process."""
    # The same modules as here, whatever is in the current folder.
    program = f"import sys; sys.path[:] = {sys.path!r}\n"
    program += "from gradient.evaluation.measured_memory import _main; _main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(settings._asdict()),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise BackendError(f"memory forecast: the measuring process failed: {last[0]}") from None
    if "error" in answer:
        raise ArgumentError(answer["error"])
    return MemoryForecast(**answer)


def _main() -> None:
    """Read settings from standard input; print an estimate, or an error, as JSON."""
    try:
        answer: dict[str, Any] = asdict(_measure(Settings(**json.loads(sys.stdin.read()))))
    except BackendError:
        raise  # an error of the measurement, not of the settings
    except gradient.errors.GradientError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


@gradient.no_grad()
def _measure(settings: Settings) -> MemoryForecast:
    batch = settings.batch
    checkpoint = open_checkpoint(settings.path)
    model = mapped_model(checkpoint)
    with contextlib.suppress(gradient.errors.GradientError):  # it may have no readable tokenizer
        tokenizer = checkpoint.load_tokenizer()
        # The memory for its vocabulary, from the first use on.
        tokenizer.decode(tokenizer.encode("Once upon a time"))
        tokenizer.stream().push(0)
    forget_peak()  # reading a vocabulary takes more for a moment, before the weights are there
    context = context_of(model, settings)
    packed, target = dtypes_of(model, settings)
    weights = weight_bytes(model, packed, target)
    empty_weights(model, packed, target)
    kept = keep_distinct_layers(model)

    def cache(rows: int, tokens: int, layers: int = kept) -> KVCache:
        return cache_of(model, layers, rows, tokens, settings, target)

    few = min(8, context - 1)
    feed(model, cache(1, few), [[0] * few])  # imports and compiles
    feed(model, cache(1, 1), [[0]])
    chunk = min(CHUNK, context - 1)
    feed(model, cache(batch, chunk), [[0] * chunk] * batch)  # the first chunk
    held = cache(batch, context - 1)
    # As if the chunks before had been read; one column is left, as for most of a generation: a
    # part of a buffer is not contiguous, for which there are kernels of their own.
    if context - 2 > chunk:
        held.begin(context - 2 - chunk).commit()
    else:
        chunk = max(context - 2, 1)
    feed(model, held, [[0] * chunk] * batch)
    if context > 2:
        feed(model, held, [[0]] * batch)  # a step
    peak = resident("VmHWM")
    del held
    program = resident("VmRSS")  # only now: there are kernels that a few tokens do not need
    working = max(peak - program, 0)
    program -= panel_bytes(model)  # `weights` has those of all layers

    whole = cache(batch, context - 1, len(model.kv_shapes))
    whole.begin(context - 1).commit()
    return MemoryForecast(context, batch, program, weights, whole.nbytes, working)


def resident(field: str) -> int:
    """Bytes of this process in memory: now ("VmRSS"), or the peak so far ("VmHWM").

    Without /proc, both are the peak.

    Raises:
        BackendError: the system does not report it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:
        raise BackendError(
            "memory forecast: memory can be measured on Linux and macOS, not here"
        ) from None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def forget_peak() -> None:
    """Reset "VmHWM" to the present memory, if the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
