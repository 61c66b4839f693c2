"""Beam search: against trying everything, with stop strings, log-probabilities and Ctrl-C."""

from __future__ import annotations

import itertools
import math

import pytest

import gradient
from gradient.errors import ArgumentError, GenerationError
from gradient.generation import generate, stream
from gradient.generation.generate import start
from gradient.generation.options import GenerationOptions
from gradient.models import GPT2Config, GPT2LMHeadModel
from gradient.text import byte_tokenizer

EOS = 0


def tiny_model(device="cpu", vocab_size=5, seed=3, **changes):
    gradient.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocab_size, n_positions=64, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=EOS, eos_token_id=EOS, initializer_range=0.5, **changes,
    )  # fmt: skip
    return GPT2LMHeadModel(config).to(device).eval()


def log_probability(model, prompt, continuation, device):
    """Return the sum of the tokens' log-probabilities, in one pass without a cache."""
    text = gradient.tensor([[*prompt, *continuation]], device=device)
    with gradient.no_grad():
        logprobs = gradient.nn.functional.log_softmax(model(text)[0, len(prompt) - 1 : -1], dim=-1)
    return sum(logprobs[at, token].item() for at, token in enumerate(continuation))


@pytest.mark.parametrize("seed", range(3))
def test_enough_beams_find_the_likeliest_text_of_all(seed, device):
    model, prompt = tiny_model(device, seed=seed), [1, 2]
    every = {
        text: log_probability(model, prompt, text, device)
        for text in itertools.product(range(5), repeat=3)
    }
    best = sorted(every, key=lambda text: -every[text])[:4]
    found = generate(
        model, prompt, num_beams=25, num_return_sequences=4, max_new_tokens=3, length_penalty=0.0,
        ignore_eos=True, early_stopping="never",
    )  # fmt: skip
    assert [tuple(row.token_ids) for row in found] == best
    assert [row.score for row in found] == pytest.approx([every[text] for text in best], abs=1e-4)
    assert all(row.finish_reason == "length" for row in found)


def test_texts_that_end_compete_with_those_that_go_on(device):
    model, prompt = tiny_model(device), [1]
    # All texts of at most 3 tokens: those that end, by token 0, and those cut off.
    every = {}
    for length in (1, 2, 3):
        for text in itertools.product(range(1, 5), repeat=length - 1):
            every[(*text, EOS)] = log_probability(model, prompt, (*text, EOS), device) / length
    for text in itertools.product(range(1, 5), repeat=3):
        every[text] = log_probability(model, prompt, text, device) / 3
    best = sorted(every, key=lambda text: -every[text])[:6]
    found = generate(
        model, prompt, num_beams=64, num_return_sequences=6, max_new_tokens=3,
        early_stopping="never",
    )  # fmt: skip
    assert [tuple(row.token_ids) for row in found] == [
        text[:-1] if text[-1] == EOS else text for text in best
    ]
    assert [row.score for row in found] == pytest.approx([every[text] for text in best], abs=1e-4)


def test_beams_never_score_below_greedy(device):
    model = tiny_model(device, vocab_size=31)
    for prompt in ([1], [2, 3, 4], [5, 6]):
        greedy = generate(model, prompt, max_new_tokens=10, ignore_eos=True).token_ids
        (found,) = generate(
            model, [prompt], num_beams=8, max_new_tokens=10, ignore_eos=True, length_penalty=0.0
        )
        assert found.score >= log_probability(model, prompt, greedy, device) - 1e-4


def test_log_probabilities_add_up_to_the_score(device):
    model = tiny_model(device, vocab_size=31)
    found = generate(
        model, [[4, 5], [6]], num_beams=3, num_return_sequences=2, max_new_tokens=6, logprobs=2,
        length_penalty=0.0, ignore_eos=True,
    )  # fmt: skip
    for row in found:
        assert [entry.token_id for entry in row.logprobs] == row.token_ids
        assert sum(entry.logprob for entry in row.logprobs) == pytest.approx(row.score, abs=1e-4)
        assert all(max(entry.top.values()) >= entry.logprob - 1e-6 for entry in row.logprobs)


def test_a_stop_string_ends_a_beam(device):
    tokenizer = byte_tokenizer()
    model = tiny_model(device, vocab_size=257)
    options = {"num_beams": 3, "max_new_tokens": 12, "ignore_eos": True}
    whole = generate(model, "ab", tokenizer=tokenizer, **options)
    stop = tokenizer.decode(whole.token_ids[3:5])
    cut = generate(model, "ab", tokenizer=tokenizer, stop=stop, num_return_sequences=3, **options)
    stopped = [row for row in cut if row.finish_reason == "stop"]
    assert stopped
    assert all(stop not in row.text and row.stop_string == stop for row in stopped)


def test_a_stream_of_beams_comes_at_the_end():
    model, tokenizer = tiny_model(vocab_size=257), byte_tokenizer()
    options = {"num_beams": 3, "max_new_tokens": 8, "ignore_eos": True}
    whole = generate(model, "ab", tokenizer=tokenizer, **options)
    assert list(stream(model, "ab", tokenizer=tokenizer, **options)) == [whole.text]


def test_ctrl_c_leaves_the_best_so_far():
    model = tiny_model(vocab_size=31)

    def interrupt(logits, prefixes):
        if prefixes.generated_counts[0] == 5:
            raise KeyboardInterrupt
        return logits

    options = GenerationOptions(
        num_beams=3, num_return_sequences=2, max_new_tokens=20, ignore_eos=True,
        logits_processors=[interrupt],
    )  # fmt: skip
    rows, pieces = start(model, [[1, 2], [3]], None, options)
    with pytest.raises(KeyboardInterrupt):
        list(pieces)
    short = generate(
        model, [[1, 2], [3]], num_beams=3, num_return_sequences=2, max_new_tokens=5, ignore_eos=True
    )
    assert [row.result.token_ids for row in rows] == [row.token_ids for row in short]
    assert all(row.result.finish_reason == "" for row in rows)


def test_prompts_that_are_done_cost_nothing_more(device):
    seen = []

    def end_the_first(scores, prefixes):
        seen.append(prefixes.rows)
        ends = gradient.full_like(scores, -50.0)
        ends[:, EOS] = 0.0
        first = gradient.tensor([[row == 0] for row in prefixes.rows], device=scores.device)
        return gradient.where(first, ends, scores)

    found = generate(
        tiny_model(device, vocab_size=31), [[1], [2]], num_beams=2, max_new_tokens=6,
        logits_processors=[end_the_first], early_stopping=True,
    )  # fmt: skip
    assert found[0].token_ids == []
    assert found[0].finish_reason == "stop"
    assert seen[:2] == [[0, 0, 1, 1]] * 2
    assert seen[2:] == [[1, 1]] * len(seen[2:]) != []


def test_too_few_possible_texts_are_an_error(device):
    model = tiny_model(device)
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 1}
    bias = {token: -math.inf for token in (0, 1, 2)}
    with pytest.raises(GenerationError, match="prompt 0 has fewer than num_return_sequences=3"):
        generate(model, [1], logit_bias=bias, **options)
    bias = {token: -math.inf for token in range(5)}
    with pytest.raises(GenerationError, match="logits processors have forbidden all"):
        generate(model, [1], logit_bias=bias, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "num_beams must be an integer of at least 1, got 0"),
        ({"num_beams": 2, "temperature": 0.7}, "num_beams=2 .* temperature must be 0, got 0.7"),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3 needs as many beams"),
        ({"early_stopping": "soon"}, 'early_stopping must be True, False or "never"'),
        ({"length_penalty": math.nan}, "length_penalty must be a finite number"),
    ],
    ids=str,
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ArgumentError, match=message):
        generate(tiny_model(), [1], **options)


def test_no_tokens_asked_for():
    result = generate(tiny_model(), [1], num_beams=2, max_new_tokens=0)
    assert (result.token_ids, result.finish_reason) == ([], "length")
