"""Speculative decoding: the same text as without, whatever was guessed, in fewer passes."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

import gradient
from gradient.errors import ArgumentError
from gradient.generation import (
    DraftModel,
    GenerationOptions,
    LanguageModel,
    Prefixes,
    PromptCache,
    PromptLookup,
    Sampler,
    generate,
    stream,
)
from gradient.generation.generate import start
from gradient.models import CausalLM, GPT2Config, GPT2LMHeadModel
from gradient.models.registry import config_class, model_class
from gradient.text import Tokenizer, byte_tokenizer

EOS = 256


def tiny_model(device="cpu", seed=3, vocab_size=257, n_layer=2, n_positions=120):
    gradient.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocab_size, n_positions=n_positions, n_embd=32, n_layer=n_layer, n_head=4,
        bos_token_id=EOS, eos_token_id=EOS, initializer_range=0.2,
    )  # fmt: skip
    return GPT2LMHeadModel(config).to(device).eval()


class Noisy(CausalLM):
    """A draft model that is right now and then: another model's logits, disturbed."""

    def __init__(self, model, noise, context=None):
        super().__init__(model.config)
        self.inner = model
        self.noise = noise
        self.limit = context
        self.calls = 0

    context_length = property(lambda self: self.limit or self.inner.context_length)
    trained_length = context_length
    kv_shapes = property(lambda self: self.inner.kv_shapes)

    def forward(self, input_ids, cache=None, **options):
        self.calls += 1
        logits = self.inner(input_ids, cache, **options)
        return logits + self.noise * gradient.randn(*logits.shape, device=logits.device)


class Counting(CausalLM):
    """A model that notes the shape of each pass."""

    def __init__(self, model):
        super().__init__(model.config)
        self.inner = model
        self.calls = []

    context_length = property(lambda self: self.inner.context_length)
    trained_length = context_length
    kv_shapes = property(lambda self: self.inner.kv_shapes)
    dtype = property(lambda self: self.inner.dtype)
    device = property(lambda self: self.inner.device)

    def forward(self, input_ids, cache=None, **options):
        self.calls.append(tuple(input_ids.shape))
        return self.inner(input_ids, cache, **options)


class Table(CausalLM):
    """The next token's logits are a row of a table, chosen by the last token."""

    def __init__(self, logits):
        super().__init__(GPT2Config(vocab_size=len(logits), bos_token_id=0, eos_token_id=None))
        self.table = gradient.tensor(logits)
        self.passes = 0

    context_length = property(lambda self: None)
    trained_length = context_length
    kv_shapes = property(lambda self: [])
    dtype = gradient.float32
    device = "cpu"

    def forward(self, input_ids, cache=None, *, lengths=None, last_only=False):
        self.passes += 1
        if cache is not None:
            cache.begin(input_ids.shape[1], lengths).commit()
        logits = self.table[input_ids]
        if not last_only:
            return logits
        last = [
            (n or input_ids.shape[1]) - 1 for n in lengths or [input_ids.shape[1]] * len(logits)
        ]
        return logits[list(range(len(last))), last].unsqueeze(1)


def drafts(model):
    """Drafters of all sorts: none is right always, some hardly ever."""
    return {
        "prompt_lookup": "prompt_lookup",
        "the model itself": model,
        "now and then": Noisy(model, 0.5),
        "hardly ever": tiny_model(model.device, seed=11, n_layer=1),
        "a short context": Noisy(model, 0.2, context=30),
    }


PROMPTS = [[*b"one two one two one"], [7], [*b"abcabcabcabcab"], [*b"what is there to say?"]]
OPTIONS = {
    "plain": {},
    "penalties": {"repetition_penalty": 1.2, "frequency_penalty": 0.3, "presence_penalty": 0.2},
    "no pairs twice": {"no_repeat_ngram_size": 2, "min_new_tokens": 20},
    "log-probabilities": {"logprobs": 2},
    "of bounded length": {"max_new_tokens": 5},
    "one token": {"max_new_tokens": 1},
    "to the context's end": {"max_new_tokens": None},
    "no cache": {"use_cache": False, "max_new_tokens": 12},
    "one guess at a time": {"max_draft_tokens": 1},
    "paged": {"cache": "paged"},
    "sliding": {"cache": "sliding"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_greedy_text_is_the_same(name, device):
    model = tiny_model(device)
    options = {"max_new_tokens": 40, "ignore_eos": True} | OPTIONS[name]
    expected = generate(model, PROMPTS, **{**options, "max_draft_tokens": 16})
    for kind, draft in drafts(model).items():
        for prompts in (PROMPTS, PROMPTS[:1]):
            found = generate(model, prompts, draft=draft, **options)
            for row, plain in zip(found, expected, strict=False):
                assert row.token_ids == plain.token_ids, kind
                assert row.finish_reason == plain.finish_reason
                assert row.timings.accepted_tokens <= row.timings.drafted_tokens
                if "logprobs" in options:
                    for entry, other in zip(row.logprobs, plain.logprobs, strict=True):
                        assert entry.token_id == other.token_id
                        assert entry.logprob == pytest.approx(other.logprob, abs=1e-4)
                        assert set(entry.top) == set(other.top)


def test_many_models_and_prompts(device):
    draw = random.Random(0)
    for seed in range(6):
        model = tiny_model(device, seed=seed)
        motif = [draw.randrange(256) for _ in range(5)]
        prompts = [motif * 4, [draw.randrange(256) for _ in range(9)], motif * 2 + [3]]
        plain = generate(model, prompts, max_new_tokens=60)
        for draft in ("prompt_lookup", Noisy(model, 0.3)):
            found = generate(model, prompts, max_new_tokens=60, draft=draft)
            assert [row.token_ids for row in found] == [row.token_ids for row in plain]


@pytest.mark.parametrize("cache", ["static", "sliding", "paged"])
def test_greedy_text_is_the_same_where_layers_have_windows(cache, device):
    """A ring of a few tokens must hold what a refused draft would have pushed out."""
    gradient.manual_seed(1)
    config = config_class("mistral").from_hf(
        {
            "model_type": "mistral", "vocab_size": 257, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "sliding_window": 9, "max_position_embeddings": 256, "initializer_range": 0.3,
        }
    )  # fmt: skip
    model = model_class("mistral")(config).to(device).eval()
    options = {"max_new_tokens": 60, "ignore_eos": True, "cache": cache}
    plain = generate(model, PROMPTS, **options)
    for draft in ("prompt_lookup", Noisy(model, 0.3)):
        found = generate(model, PROMPTS, draft=draft, **options)
        assert [row.token_ids for row in found] == [row.token_ids for row in plain]
    assert sum(row.timings.accepted_tokens for row in found) > 20
    if cache == "sliding":  # drafts are no longer than what the ring can be rewound by
        for max_rewind in (0, 2):
            kept = PromptCache(model, kind="sliding", max_rewind=max_rewind)
            options = {"max_new_tokens": 60, "ignore_eos": True, "prompt_cache": kept}
            found = generate(model, PROMPTS[0], draft=Noisy(model, 0.3), **options)
            assert found.token_ids == plain[0].token_ids
            assert (found.timings.accepted_tokens > 0) == (max_rewind > 0)


@pytest.mark.parametrize("draft", ["prompt_lookup", "model"])
def test_text_stop_strings_and_streams_are_the_same(draft, device):
    tokenizer = byte_tokenizer()
    model = tiny_model(device)
    chosen = Noisy(model, 0.3) if draft == "model" else draft
    text = generate(model, "la la la", tokenizer=tokenizer, max_new_tokens=60).text
    for stop in (text[10:12], text[20:23], [text[30:31], "never"]):
        options = {"tokenizer": tokenizer, "max_new_tokens": 60, "stop": stop}
        plain = generate(model, "la la la", **options)
        found = generate(model, "la la la", draft=chosen, **options)
        assert (found.text, found.token_ids) == (plain.text, plain.token_ids)
        assert (found.finish_reason, found.stop_string) == ("stop", plain.stop_string)
        assert found.timings.generated_tokens == plain.timings.generated_tokens
        assert "".join(stream(model, "la la la", draft=chosen, **options)) == plain.text


@pytest.mark.parametrize("draft", ["prompt_lookup", "model"])
def test_the_end_of_text_ends_a_row_within_a_draft(draft, device):
    model = tiny_model(device)
    chosen = model if draft == "model" else draft
    plain = generate(model, PROMPTS, max_new_tokens=40, logit_bias={EOS: 4.0})
    found = generate(model, PROMPTS, max_new_tokens=40, logit_bias={EOS: 4.0}, draft=chosen)
    assert [row.token_ids for row in found] == [row.token_ids for row in plain]
    reasons = [row.finish_reason for row in found]
    assert reasons == [row.finish_reason for row in plain]
    assert "stop" in reasons


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_constraints_hold_for_every_token_of_a_draft(temperature, device):
    pytest.importorskip("llguidance")
    tokenizer, model = byte_tokenizer(), tiny_model(device)
    schema = {"type": "array", "items": {"enum": ["ab", "abab"]}, "minItems": 6, "maxItems": 8}
    options = {
        "tokenizer": tokenizer, "json_schema": schema, "max_new_tokens": 150, "seed": 2,
        "temperature": temperature,
    }  # fmt: skip
    prompts = ["ababab", '["ab", "ab", "ab"']
    plain = generate(model, prompts, **options)
    found = generate(model, prompts, draft="prompt_lookup", **options)
    assert [row.text for row in found] == [row.text for row in plain]
    assert sum(row.timings.accepted_tokens for row in found) > 10
    if temperature == 0:
        found = generate(model, prompts, draft=Noisy(model, 0.3), **options)
        assert [row.text for row in found] == [row.text for row in plain]


def test_sampled_text_is_the_same_where_guesses_are_not_drawn(device):
    model = tiny_model(device)
    options = {"temperature": 0.4, "top_p": 0.9, "seed": 8, "max_new_tokens": 60}
    plain = generate(model, PROMPTS, **options)
    found = generate(model, PROMPTS, draft="prompt_lookup", **options)
    assert [row.token_ids for row in found] == [row.token_ids for row in plain]
    assert sum(row.timings.accepted_tokens for row in found) > 0


# ---- how the work shrinks -----------------------------------------------------------------------


def test_a_repeating_text_takes_few_passes():
    """A model that counts from 0 to 9 for ever: guessed rightly once it has begun anew."""
    model = Counting(Table(np.roll(9 * np.eye(10, dtype=np.float32), 1, axis=1)))
    found = generate(model, [3], max_new_tokens=100, draft="prompt_lookup")
    assert found.token_ids == [(4 + n) % 10 for n in range(100)]
    assert found.timings.accepted_tokens == found.timings.drafted_tokens > 80
    # 11 tokens until two in a row have come again; then drafts of 4, 8 and 16 at a time.
    assert [T for _, T in model.calls] == [1] * 11 + [5, 9, 17, 17, 17, 17, 7]


def test_drafts_that_always_hold_double_and_others_shrink(device):
    model = Counting(tiny_model(device))
    generate(model, [5, 6], max_new_tokens=80, ignore_eos=True, draft=model.inner)
    assert [T for _, T in model.calls][:5] == [2, 5, 9, 17, 17]
    model.calls.clear()
    wrong = {"draft": tiny_model(device, seed=11, n_layer=1), "ignore_eos": True}
    found = generate(model, [5, 6], max_new_tokens=30, **wrong)
    assert found.timings.accepted_tokens < 10
    assert max(T for _, T in model.calls[3:]) <= 4


def test_where_nothing_repeats_a_step_is_a_plain_one(device):
    model = Counting(tiny_model(device))
    generate(model, [1, 2], max_new_tokens=20, draft="prompt_lookup", no_repeat_ngram_size=1)
    assert all(call == (1, 1) for call in model.calls[1:])


def test_rows_that_end_are_dropped_from_drafts_too(device):
    model = tiny_model(device)
    counting = Counting(model)
    options = {"max_new_tokens": 50, "logit_bias": {EOS: 4.0}}
    plain = generate(model, PROMPTS, **options)
    assert len({len(row.token_ids) for row in plain}) > 1
    found = generate(counting, PROMPTS, draft=Noisy(model, 0.1), **options)
    assert [row.token_ids for row in found] == [row.token_ids for row in plain]
    assert counting.calls[-1][0] < len(PROMPTS)


# ---- prompt lookup ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "count", "expected"),
    [
        ([1, 2, 3, 9, 1, 2], 3, [3, 9, 1]),
        ([1, 2, 3, 9, 1, 2, 4, 1, 2], 2, [4, 1]),  # the most recent match
        ([7, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2], 1, [3]),  # the longer match
        ([5, 5, 5], 4, [5, 5, 5, 5]),  # goes on with what it guesses itself
        ([1, 2, 1, 2], 5, [1, 2, 1, 2, 1]),
        ([1, 2, 3], 4, []),
        ([1], 4, []),
        ([1, 2, 1, 2], 0, []),
    ],
)
def test_what_followed_before_is_guessed_again(ids, count, expected):
    lookup = PromptLookup()
    assert lookup.propose(Prefixes([ids]), [count])[0].token_ids == expected
    grown = PromptLookup()
    for length in range(1, len(ids) + 1):  # read bit by bit, it is the same
        (draft,) = grown.propose(Prefixes([ids[:length]]), [count])
    assert draft.token_ids == expected


# ---- drawing at random --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "options"),
    [(0.0, {}), (0.7, {}), (3.0, {}), (0.7, {"top_k": 2, "temperature": 0.7})],
    ids=str,
)
def test_the_distribution_is_that_of_plain_sampling(noise, options):
    """All texts of 4 tokens from a vocabulary of 3: how often each comes, by a chi-squared test."""
    V, length, rows = 3, 4, 3000
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(V, V)).astype(np.float32)
    draft = (logits + noise * rng.normal(size=(V, V))).astype(np.float32)
    options = {"temperature": 1.0} | options
    sampler = Sampler(GenerationOptions(**options), 1)
    p = gradient.nn.functional.softmax(
        sampler.scores(gradient.tensor(logits), Prefixes([[0]] * V)), dim=-1
    ).numpy()
    model, small = Table(logits), Table(draft)
    found = generate(
        model, [[0]] * rows, max_new_tokens=length, seed=3, draft=small, max_draft_tokens=3,
        **options,
    )  # fmt: skip
    counts, expected = np.zeros([V] * length), np.ones([V] * length)
    for row in found:
        counts[tuple(row.token_ids)] += 1
    for text in np.ndindex(*expected.shape):
        for before, token in zip((0, *text), text, strict=False):
            expected[text] *= p[before, token]
    expected *= rows
    assert counts[expected == 0].sum() == 0
    kept = expected > 5
    chi_squared = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    freedom = kept.sum() - 1
    assert chi_squared < freedom + 3.7 * math.sqrt(2 * freedom)  # about once in 10,000
    accepted = sum(row.timings.accepted_tokens for row in found)
    drafted = sum(row.timings.drafted_tokens for row in found)
    share = accepted / drafted
    # The expected share is 1 - the total variation distance, where a draft is the first.
    assert share == 1 if noise == 0 else 0.2 < share < 0.95


def test_a_seed_repeats_and_rows_do_not_depend_on_each_other(device):
    model = tiny_model(device)
    small = tiny_model(device, seed=4, n_layer=1)
    options = {"temperature": 0.8, "max_new_tokens": 30, "draft": small, "ignore_eos": True}
    batch = [row.token_ids for row in generate(model, PROMPTS, seed=7, **options)]
    assert batch == [row.token_ids for row in generate(model, PROMPTS, seed=7, **options)]
    assert batch != [row.token_ids for row in generate(model, PROMPTS, seed=8, **options)]
    for number, prompt in enumerate(PROMPTS):
        assert generate(model, prompt, seed=7 + number, **options).token_ids == batch[number]


# ---- what fits together -------------------------------------------------------------------------


def test_the_vocabularies_must_be_the_same():
    tokenizer, model = byte_tokenizer(), tiny_model()
    padded = tiny_model(seed=4, vocab_size=300)
    with pytest.raises(ArgumentError, match="draft: expected .* same vocabulary, 257 tokens, got"):
        generate(model, [1], draft=padded)
    lm, small = LanguageModel(model, tokenizer), LanguageModel(padded, byte_tokenizer())
    expected = lm.generate("abab", max_new_tokens=20)
    assert lm.generate("abab", max_new_tokens=20, draft=small).token_ids == expected.token_ids
    # The other way round the draft knows fewer tokens than the model has.
    expected = small.generate("abab", max_new_tokens=20)
    assert small.generate("abab", max_new_tokens=20, draft=lm).token_ids == expected.token_ids
    other = byte_tokenizer()
    other.backend.add_tokens(["<new>"])
    with pytest.raises(ArgumentError, match="'<new>' has the id None in this model's tokenizer"):
        lm.generate("abab", draft=LanguageModel(padded, Tokenizer(other.backend)))


def test_ctrl_c_leaves_what_was_generated():
    model = tiny_model()
    plain = generate(model, [[5, 6] * 4, [7]], max_new_tokens=40, ignore_eos=True)

    def interrupt(logits, prefixes):
        if max(prefixes.generated_counts) > 20:
            raise KeyboardInterrupt
        return logits

    options = GenerationOptions(
        max_new_tokens=40, ignore_eos=True, draft="prompt_lookup", logits_processors=[interrupt]
    )
    rows, pieces = start(model, [[5, 6] * 4, [7]], None, options)
    with pytest.raises(KeyboardInterrupt):
        list(pieces)
    for row, whole in zip(rows, plain, strict=True):
        assert len(row.result.token_ids) > 4
        assert row.result.token_ids == whole.token_ids[: len(row.result.token_ids)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draft": "guess"}, "draft must be a model, or \"prompt_lookup\", or None, got 'guess'"),
        ({"draft": 3}, "draft must be a model"),
        ({"draft": "prompt_lookup", "num_beams": 2}, "draft cannot be used with num_beams=2"),
        ({"max_draft_tokens": 0}, "max_draft_tokens must be an integer from 1 to 32, got 0"),
        ({"max_draft_tokens": 33}, "max_draft_tokens must be an integer from 1 to 32, got 33"),
    ],
    ids=str,
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ArgumentError, match=message):
        generate(tiny_model(), [1], **options)


def test_the_cache_of_a_draft_model_reads_each_token_once(device):
    model = tiny_model(device)
    small = Noisy(model, 0.0)
    drafter = DraftModel(small, Sampler(GenerationOptions(), 1), [64], 257)
    (draft,) = drafter.propose(Prefixes([[1, 2, 3]]), [4])
    assert len(draft.token_ids) == 4
    assert drafter.cache.counts == [6]  # all but the last guess
    text = [1, 2, 3, *draft.token_ids[:2], 99]
    drafter.propose(Prefixes([text]), [2])
    assert small.calls == 6
    assert drafter.cache.counts == [7]
    assert drafter.read[0][:6] == text


@pytest.mark.parametrize("draft", [None, "prompt_lookup"])
def test_a_step_does_not_walk_the_model(draft, monkeypatch):
    model, calls = tiny_model(), []
    modules = model.modules
    monkeypatch.setattr(model, "modules", lambda: calls.append(1) or modules())
    counts = []
    for tokens in (5, 5, 40):  # the first time it is looked at, to see later whether it changed
        calls.clear()
        generate(model, PROMPTS, max_new_tokens=tokens, ignore_eos=True, draft=draft)
        counts.append(len(calls))
    assert counts[1] == counts[2]
