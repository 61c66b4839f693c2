"""Recorded decoding steps on the device under test: a GPU's graphs begin kernels early."""

from __future__ import annotations

import gradient
from gradient.generation import generate
from gradient.models import LlamaConfig, LlamaForCausalLM
from gradient.tensor.creation import backend_of


def test_a_packed_model_of_16_bits_replays_its_steps(device: str) -> None:
    gradient.manual_seed(0)
    sizes = {"vocab_size": 256, "hidden_size": 256, "intermediate_size": 512}
    with gradient.device(device):
        model = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, num_attention_heads=4))
        model = model.to(gradient.bfloat16).eval()
    gradient.quantization.quantize_(model, "q4_0")
    given = {"max_new_tokens": 32, "ignore_eos": True, "beyond_context": True}
    replayed = generate(model, list(range(9)), compile=True, **given)
    assert replayed.token_ids == generate(model, list(range(9)), compile=False, **given).token_ids
    if device.startswith("cuda"):
        assert replayed.timings.replayed_steps > 12, replayed.timings.not_replayed
        runtime = backend_of(device).runtime
        whether_supported = type(runtime).launches_early.func(runtime)
        assert runtime.launches_early == whether_supported  # none was refused, wherever it came
