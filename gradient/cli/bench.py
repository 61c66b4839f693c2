"""`gradient bench`: a minute's measurement of this machine, beside its hardware's limits."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from gradient.cli import options as opt
from gradient.cli.output import print_json, print_table

#: One step of training and one token of generation are timed on this model (GPT-2's architecture).
_SHAPE: dict[str, Any] = {
    "n_layer": 4,
    "n_head": 6,
    "n_embd": 192,
    "n_positions": 256,
    "vocab_size": 2048,
}


def bench(device: opt.Device = "cpu", as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Measure op overhead, matrix multiplication, a training step and generation here.

    Each figure is the best of several runs. The comparisons with other frameworks are in the
    repository's bench/ folder.
    """
    results = measure(device)
    if as_json:
        print_json({"device": device, "results": results})
        return
    rows = [(r["name"], f"{r['value']:,.4g} {r['unit']}", r["detail"]) for r in results]
    print_table(("measurement", "value", ""), rows)


def measure(device: str) -> list[dict[str, Any]]:
    """The figures, each with its name, value, unit and a description."""
    return [
        *_op_overhead(device),
        *_matmul(device),
        *_bandwidth(device),
        *_training(device),
        *_decoding(device),
    ]


def best_time(
    work: Callable[[], Any], finish: Callable[[], None], *, budget: float = 1.0, runs: int = 5
) -> float:
    """Seconds that `work` takes: the best of `runs` batches that fill about `budget` seconds.

    Args:
        finish: waits for the device; called once a batch.
    """

    def batch(times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            work()
        finish()
        return (time.perf_counter() - began) / times

    batch(1)  # compilation and first touches
    times = max(1, int(budget / runs / max(batch(1), 1e-9)))
    return min(batch(times) for _ in range(runs))


def _finish(device: str) -> Callable[[], None]:
    """A function that waits until the device has finished all work."""
    import gradient

    marker = gradient.ones(1, device=device)

    def finish() -> None:
        marker.sum().item()

    return finish


def _result(name: str, value: float, unit: str, detail: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "detail": detail}


def _op_overhead(device: str) -> list[dict[str, Any]]:
    import gradient

    finish = _finish(device)
    a = gradient.ones(4, device=device)
    w = gradient.ones(4, device=device, requires_grad=True)

    def forward_and_backward() -> None:
        ((a * w + w) * a).sum().backward()

    with gradient.no_grad():
        unrecorded = best_time(lambda: a * w, finish, budget=0.3)
    recorded = best_time(lambda: a * w, finish, budget=0.3)
    both = best_time(forward_and_backward, finish, budget=0.3)
    return [
        _result("small op", unrecorded * 1e6, "us", "a * w of 4 elements, no gradient"),
        _result("small op, recorded", recorded * 1e6, "us", "the same, with gradient"),
        _result("small backward", both * 1e6, "us", "((a * w + w) * a).sum().backward()"),
    ]


def _matmul(device: str) -> list[dict[str, Any]]:
    import gradient

    n = 1024 if device == "cpu" else 4096
    a = gradient.randn(n, n, device=device)
    b = gradient.randn(n, n, device=device)
    with gradient.no_grad():
        seconds = best_time(lambda: a @ b, _finish(device))
    rate = 2 * n**3 / seconds / 1e9
    return [_result("matmul", rate, "GFLOP/s", f"float32, {n} x {n}")]


def _bandwidth(device: str) -> list[dict[str, Any]]:
    import gradient

    x = gradient.ones(32 * 1024 * 1024 // 4, device=device)
    with gradient.no_grad():
        seconds = best_time(lambda: x.sum(), _finish(device))
    return [_result("read bandwidth", 32 * 2**20 / seconds / 1e9, "GB/s", "sum of 32 MiB")]


def _training(device: str) -> list[dict[str, Any]]:
    import gradient
    import gradient.functional as F
    from gradient import optim
    from gradient.models.gpt2 import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(**_SHAPE, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    model = GPT2LMHeadModel(config).to(device)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    length, vocab = config.n_positions, config.vocab_size
    tokens = gradient.randint(0, vocab, (8, length + 1), device=device)

    def step() -> None:
        logits = model(tokens[:, :-1])
        F.cross_entropy(logits.reshape(-1, vocab), tokens[:, 1:].reshape(-1)).backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = best_time(step, _finish(device), budget=5.0, runs=3)
    count = model.num_parameters()
    # 6 operations per weight and token, and the attention scores (Kaplan et al. 2020, table 1).
    operations = 6 * count + 12 * config.n_layer * config.n_embd * length
    rate = 8 * length / seconds
    detail = f"{count / 1e6:.1f} M parameters, 8 x {length} tokens"
    return [
        _result("training", rate, "tokens/s", detail),
        _result("training, arithmetic", rate * operations / 1e9, "GFLOP/s", "compare with matmul"),
    ]


def _decoding(device: str) -> list[dict[str, Any]]:
    import gradient
    from gradient.generation import generate
    from gradient.models.gpt2 import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(**_SHAPE)).to(device).eval()
    prompt = gradient.tensor([[1, 2, 3, 4]], device=device)
    tokens = 64
    times = []
    for _ in range(4):
        began = time.perf_counter()
        generate(model, prompt, max_new_tokens=tokens, ignore_eos=True)
        times.append(time.perf_counter() - began)
    detail = f"{tokens} tokens greedily after 4, median {tokens / statistics.median(times):.0f}"
    return [_result("generation", tokens / min(times), "tokens/s", detail)]
