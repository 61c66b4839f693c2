"""Greedy generation with the key-value cache, one row: against transformers on the same weights.

Decoding one row reads every weight once a token and does two operations with it, so the floor is
the bytes of the weights over the machine's read bandwidth.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import random_gpt2
from bench.cases import Options
from bench.measure import interleave
from bench.result import Result
from gradient.checkpoints import load_model
from gradient.generation import generate

PROMPT = list(range(100, 116))
NEW_TOKENS = 64


def by_gradient(folder: Path) -> Callable[[], list[int]]:
    model = load_model(folder)
    return lambda: generate(model, PROMPT, max_new_tokens=NEW_TOKENS, ignore_eos=True).token_ids


def by_transformers(folder: Path, threads: int) -> Callable[[], list[int]]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompt = torch.tensor([PROMPT])
    limits = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False}

    def run() -> list[int]:
        with torch.inference_mode():
            ids = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), pad_token_id=0, **limits
            )
        return ids[0, len(PROMPT) :].tolist()

    return run


def run(options: Options) -> Iterator[Result]:
    roofline = options.roofline()
    configs = [random_gpt2.SMALL, *([random_gpt2.GPT2_124M] if options.large else [])]
    for config in configs:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            file_bytes = random_gpt2.write(config, folder)
            runs = {"gradient": by_gradient(folder)}
            if options.peer("torch") and options.peer("transformers"):
                runs["transformers"] = by_transformers(folder, options.threads)
            tokens = {contender: decode() for contender, decode in runs.items()}
            if tokens.get("transformers", tokens["gradient"]) != tokens["gradient"]:
                raise RuntimeError(f"the contenders generate different tokens: {tokens}")
            samples = interleave(runs, rounds=options.rounds(10), settle=0.05)
        floor = file_bytes / roofline.read_bandwidth
        for contender, sample in samples.items():
            peer = "transformers" if len(samples) > 1 and contender == "gradient" else None
            yield Result(
                case="decode",
                what=random_gpt2.describe(config, file_bytes),
                contender=contender,
                value=1e3 * sample.median / NEW_TOKENS,
                unit="ms/token",
                best=1e3 * sample.best / NEW_TOKENS,
                samples=len(sample.seconds),
                peer=peer,
                ratio=sample.ratio(samples[peer]) if peer else None,
                roofline=floor * NEW_TOKENS / sample.median,
                bound=f"{roofline.read_bandwidth / 1e9:.1f} GB/s read",
                note=f"{NEW_TOKENS / sample.median:,.1f} tokens/s, "
                f"{NEW_TOKENS} after a prompt of {len(PROMPT)}, its time included",
            )
