"""What generation on a GPU costs in waits and uploads, counted on a stand-in (`support.fake_cupy`).

A token is waited for once at most, for its number has to be known here. Weights go up when they are
loaded, and never again.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gradient
from gradient.checkpoints.loading import save_model
from gradient.generation import replay
from gradient.models.llama import LlamaConfig, LlamaForCausalLM
from support import cuda_emulation, fake_cupy, fake_device

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

WIDTH, TOKENS = 64, 40
STORED = {"float32": {}, "bfloat16": {"dtype": "bf16"}, "q8_0": {"quantize": "q8_0"}}
LARGEST_UPLOAD = 600
"""Bytes that go up beside weights: numbers of tokens, positions, random numbers. A row of the
smallest matrix has as many in q8_0."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = LlamaConfig(
        vocab_size=96, hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("model")
    save_model(LlamaForCausalLM(config), path)
    return path


@pytest.fixture(autouse=True)
def _gpu() -> Iterator[None]:
    with fake_device.as_cuda():
        clear()
        yield
        clear()


def clear() -> None:
    fake_cupy.waits.clear()
    fake_cupy.uploads.clear()


def uploaded() -> list[int]:
    return [size for size, _ in fake_cupy.uploads]


@pytest.mark.parametrize("stored", STORED)
def test_weights_go_up_once(folder: Path, stored: str) -> None:
    lm = gradient.hub.load(str(folder), device="cuda", **STORED[stored])
    assert fake_cupy.waits == []
    tensors = [*lm.model.parameters(), *lm.model.buffers()]
    sizes = sorted(t.nbytes for t in tensors)
    assert sorted(uploaded()) == sizes
    assert min(t.nbytes for t in tensors if t.ndim == 2) > LARGEST_UPLOAD
    clear()
    lm.model.to("cuda").to("cuda:0", non_blocking=True).cuda().eval()
    assert uploaded() == []
    for compiled in (False, None, True):
        lm.generate([1, 2, 3], max_new_tokens=TOKENS, ignore_eos=True, compile=compiled)
    assert max(uploaded()) <= LARGEST_UPLOAD  # not even when steps are recorded and captured


@pytest.mark.parametrize("compiled", [False, None, True])
@pytest.mark.parametrize("temperature", [0, 0.8])
@pytest.mark.parametrize("stored", STORED)
def test_a_token_is_waited_for_at_most_once(
    folder: Path, stored: str, temperature: float, compiled: bool | None
) -> None:
    lm = gradient.hub.load(str(folder), device="cuda", **STORED[stored])
    options: Any = {"temperature": temperature, "seed": 3, "compile": compiled}
    options |= {"max_new_tokens": TOKENS, "ignore_eos": True}
    found = []
    for _ in range(3):  # one records the step, and holds what it gives to the modules' results
        clear()
        found.append(lm.generate([1, 2, 3], **options).token_ids)
    assert len(found[-1]) == TOKENS
    if compiled is False:
        assert len(fake_cupy.waits) == TOKENS
    else:  # steps that follow each other are waited for together
        assert len(fake_cupy.waits) <= TOKENS
    assert found[0] == found[1] == found[2]
    clear()
    lm.model(gradient.tensor([[1]], device="cuda"))
    assert fake_cupy.waits == []  # a pass by itself waits for nothing


def test_what_a_kernel_met_is_told_by_the_same_wait() -> None:
    be: Any = gradient.backends.get("cuda")
    fault = be.index_fault()
    values = gradient.ones(3, device="cuda")
    clear()
    assert values.tolist() == [1, 1, 1]
    assert fake_cupy.waits == ["asnumpy"]
    be.index_fault()
    fault[...] = 1
    with pytest.raises(IndexError, match="an op got earlier was out of range"):
        values.tolist()
    assert fake_cupy.waits == ["asnumpy"] * 2
    be.index_fault()
    assert values.tolist() == [1, 1, 1]
    be.index_fault()[...] = 1
    with pytest.raises(IndexError):
        gradient.cuda.synchronize()
    assert fake_cupy.waits == ["asnumpy"] * 3 + ["synchronize"]


def llama_of(layers: int, folder: Path, quantize: str | None) -> gradient.hub.LanguageModel:
    """A LLaMA on the GPU, of sizes that all packed formats have."""
    config = LlamaConfig(
        vocab_size=96, hidden_size=256, intermediate_size=512, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    save_model(LlamaForCausalLM(config), folder)
    return gradient.hub.load(str(folder), device="cuda", dtype="bf16", quantize=quantize)


@pytest.mark.parametrize("quantize", [None, "q4_0", "q8_0", "q4_k", "q5_k"])
def test_a_layer_is_five_launches(quantize: str | None, tmp_path: Path) -> None:
    """Of a replayed step: products with their norm, gate or sum, and attention with rotation."""
    layers = 2
    lm = llama_of(layers, tmp_path, quantize)
    launched = gradient.backends.get("cuda").runtime.launched
    counts = []
    for tokens in (4, 4, 4, 8):  # the first two record, and later ones replay what they captured
        launched.clear()
        lm.generate([1, 2, 3], max_new_tokens=tokens, ignore_eos=True, compile=True)
        counts.append(Counter(launched))
    of_token = {name: (n - counts[2][name]) / 4 for name, n in counts[3].items()}
    kind = quantize or "1"
    head = 0 if quantize in ("q4_0", "q4_k", "q5_k") else 1  # else in another format
    normed = "normed_" if quantize else ""
    expected = {"rope_attention_64": layers, f"{normed}gated_product_{kind}": layers}
    products = Counter({f"row_product_{kind}": 2 * layers})
    expected |= products + Counter({f"{normed}row_product_{kind}": layers + head})
    found = {name.removesuffix("_bfloat16"): n for name, n in of_token.items() if n}
    assert {name: found.get(name) for name in expected} == expected


OUTSIDE = ("the embedding's rows", "angles", "head with its norm", "feedback")
GREEDY, SAMPLED = ("choice",), ("quotients by the temperature", "softmax", "choice")
"""What a replayed step does outside of its layers. (Tokens, random numbers and logits are copied
once for all steps that are queued together.)"""


@pytest.mark.parametrize("temperature", [0, 0.8])
@pytest.mark.parametrize("quantize", [None, "q4_0", "q8_0", "q4_k"])
def test_launches_outside_of_the_layers(
    quantize: str | None, temperature: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = 2
    lm = llama_of(layers, tmp_path, quantize)
    recorders: list[cuda_emulation.FakeRecorder] = []

    def graph_recorder(self: Any) -> cuda_emulation.FakeRecorder:
        recorders.append(cuda_emulation.FakeRecorder())
        return recorders[-1]

    monkeypatch.setattr(cuda_emulation.FakeRuntime, "graph_recorder", graph_recorder)
    monkeypatch.setattr(replay, "AHEAD", 3600.0)  # seconds: steps that take little of a group's
    copied: list[int] = []
    copy_bytes = cuda_emulation.FakeRuntime.copy_bytes

    def counted(self: Any, x: Any, out: Any) -> None:
        copied.append(x.nbytes)
        copy_bytes(self, x, out)

    monkeypatch.setattr(cuda_emulation.FakeRuntime, "copy_bytes", counted)
    copies = []
    for tokens in (4, 4, 4, 8):  # the first two record, and later ones replay what they captured
        copied.clear()
        made = lm.generate(
            [1, 2, 3], max_new_tokens=tokens, ignore_eos=True, compile=True, seed=1,
            temperature=temperature,
        )  # fmt: skip
        copies.append(Counter(copied))
    assert made.timings.replayed_steps == 7
    [graph] = recorders[-1].graphs
    assert graph.nodes == 5 * layers + len((*OUTSIDE, *(SAMPLED if temperature else GREEDY)))
    assert copies[2].total() == copies[3].total()  # of 3 and of 7 steps
