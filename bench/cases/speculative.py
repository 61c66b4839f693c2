"""Speculative decoding by prompt lookup: against plain decoding of the same tokens, one row.

The texts: two that repeat themselves, one by the bundled model and one by a random model in a
loop; one that repeats itself in places; and a random one, which hardly does, to
show the cost of wrong drafts. In float32, where both contenders must give the same tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gradient
from bench import random_gpt2
from bench.cases import Options
from bench.measure import interleave
from bench.result import Result
from gradient.generation import generate
from gradient.models import CausalLM, GPT2LMHeadModel

NEW_TOKENS, FEW = 128, 8
COUNTING = "Count to 10. 1, 2, 3, 4, 5, 6, 7, 8, 9, 10.\n" * 2
STORY = "Once upon a time there was a kind girl named Ada. She had a red kite."
#: "1.5 times faster on text that repeats", as a share of plain decoding's time.
TARGET = 1 / 1.5


@dataclass(frozen=True)
class Text:
    """A text to be continued."""

    what: str
    model: CausalLM
    prompt: list[int]
    repeats: bool = True
    options: dict[str, Any] = field(default_factory=dict)


def texts() -> Iterator[Text]:
    lm = gradient.hub.load("tinyworld", dtype=gradient.float32)
    counting, story = (lm.tokenizer.encode(text) for text in (COUNTING, STORY))
    yield Text("tinyworld, counting", lm.model, counting)
    yield Text("tinyworld, a story", lm.model, story, repeats=False)
    gradient.manual_seed(0)
    model = GPT2LMHeadModel(random_gpt2.SMALL).eval()
    with gradient.no_grad():
        model.transformer.wpe.weight.zero_()  # without positions it repeats one token for ever
    millions = model.num_parameters() / 1e6
    yield Text(f"GPT-2 of {millions:.0f} M, a loop", model, list(range(100, 116)))
    drawn = {"temperature": 1.0, "seed": 0}
    yield Text("tinyworld, drawn at random", lm.model, story, repeats=False, options=drawn)


def run(options: Options) -> Iterator[Result]:
    new_tokens = FEW if options.tiny else NEW_TOKENS
    for text in texts():
        decode = functools.partial(
            generate,
            text.model,
            text.prompt,
            max_new_tokens=new_tokens,
            ignore_eos=True,
            **text.options,
        )
        runs = {
            "gradient": functools.partial(decode, draft="prompt_lookup"),
            "without drafts": decode,
        }
        found = {contender: decode() for contender, decode in runs.items()}
        if found["without drafts"].token_ids != found["gradient"].token_ids:
            raise RuntimeError(f"{text.what}: the contenders generate different tokens")
        samples = interleave(runs, rounds=options.rounds(10), settle=0.05)
        guessed = found["gradient"].timings
        share = guessed.accepted_tokens / max(1, guessed.drafted_tokens)
        for contender, sample in samples.items():
            speculative = contender == "gradient"
            ratio = sample.ratio(samples["without drafts"]) if speculative else None
            promised = speculative and text.repeats
            yield Result(
                case="speculative",
                what=text.what,
                contender=contender,
                value=1e3 * sample.median / new_tokens,
                unit="ms/token",
                best=1e3 * sample.best / new_tokens,
                samples=len(sample.seconds),
                peer="without drafts" if speculative else None,
                ratio=ratio,
                target=f"<= {TARGET:.2f} x" if promised else None,
                met=ratio <= TARGET if promised and ratio is not None else None,
                note=f"{guessed.accepted_tokens} of {guessed.drafted_tokens} guesses right "
                f"({share:.0%}), {new_tokens} tokens"
                if speculative
                else None,
            )
