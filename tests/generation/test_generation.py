"""Generation: processors, sampling, stopping, and the loop, on a model that says what it must."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

import gradient
from gradient.errors import ArgumentError, GenerationError, ShapeError, TypeMismatch
from gradient.generation import (
    LanguageModel,
    PromptCache,
    StopStrings,
    cache_config,
    decoder,
    generate,
    stream,
)
from gradient.models import CausalLM, GPT2Config, GPT2LMHeadModel
from gradient.models.llama import LlamaConfig, LlamaForCausalLM
from gradient.text import Tokenizer, byte_tokenizer

INF = math.inf
EOS = 256  # of the byte-level tokenizer


class Scripted(CausalLM):
    """Puts all weight on the bytes of a script: the token after n tokens of text is script[n]."""

    def __init__(self, script: str | bytes, context: int | None = None) -> None:
        super().__init__(GPT2Config(vocab_size=257, bos_token_id=EOS, eos_token_id=EOS))
        script = script.encode() if isinstance(script, str) else script
        self.script = [*script, EOS]
        self.context = context
        self.calls: list[tuple[int, ...]] = []

    context_length = trained_length = property(lambda self: self.context)
    kv_shapes = property(lambda self: [])
    dtype = gradient.float32
    device = "cpu"

    def forward(self, input_ids, cache=None, *, lengths=None, last_only=False):
        B, T = input_ids.shape
        self.calls.append((B, T))
        cache.begin(T, lengths).commit()
        logits = np.zeros((B, 1, 257), dtype=np.float32)
        for row, held in enumerate(cache.counts):
            logits[row, 0, self.script[min(held, len(self.script) - 1)]] = 10.0
        return gradient.tensor(logits)


class Recorder(Scripted):
    """Remembers what it read, and has a beginning-of-text token of its own."""

    def __init__(self, script: str) -> None:
        super().__init__(script)
        self.config = GPT2Config(vocab_size=258, bos_token_id=257, eos_token_id=EOS)
        self.read: list[int] = []

    def forward(self, input_ids, cache=None, *, lengths=None, last_only=False):
        self.read += input_ids[0].tolist()
        return super().forward(input_ids, cache, lengths=lengths, last_only=last_only)


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def tiny_model(device="cpu", **changes) -> GPT2LMHeadModel:
    config = {"vocab_size": 257, "n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 4}
    gradient.manual_seed(3)
    model = GPT2LMHeadModel(
        GPT2Config(
            **(
                config
                | {"bos_token_id": EOS, "eos_token_id": EOS, "initializer_range": 0.2}
                | changes
            )
        )
    )
    return model.to(device).eval()


# ---- seeds ------------------------------------------------------------------------------------


def test_a_seed_repeats_and_rows_do_not_depend_on_each_other():
    model = tiny_model()
    options = {"temperature": 1.0, "max_new_tokens": 12, "ignore_eos": True}
    prompts = [[1, 2, 3], [4], [5, 6]]
    batch = [row.token_ids for row in generate(model, prompts, seed=7, **options)]
    assert batch == [row.token_ids for row in generate(model, prompts, seed=[7, 8, 9], **options)]
    for row, prompt in enumerate(prompts):
        assert generate(model, prompt, seed=7 + row, **options).token_ids == batch[row]
    assert batch != [row.token_ids for row in generate(model, prompts, seed=8, **options)]
    same_prompt = generate(model, [[1, 2], [1, 2]], seed=7, **options)
    assert same_prompt[0].token_ids != same_prompt[1].token_ids


def test_without_a_seed_manual_seed_decides():
    model = tiny_model()

    def run() -> list[int]:
        return generate(model, [1, 2], temperature=1.0, max_new_tokens=10).token_ids

    gradient.manual_seed(5)
    first, second = run(), run()
    gradient.manual_seed(5)
    assert run() == first
    assert first != second


def test_a_text_says_which_seed_it_was_drawn_with():
    model, prompts = tiny_model(), [[1, 2], [3]]
    options = {"temperature": 1.0, "max_new_tokens": 10}
    for row, prompt in zip(generate(model, prompts, **options), prompts, strict=True):
        again = generate(model, prompt, seed=row.seed, **options)
        assert again.token_ids == row.token_ids and again.seed == row.seed
    given = generate(model, prompts, seed=[5, 3], **options)
    assert [row.seed for row in given] == [5, 3]
    before = gradient.get_rng_state()
    assert generate(model, [1, 2], max_new_tokens=2).seed is None
    assert gradient.equal(gradient.get_rng_state(), before)  # the likeliest tokens need no numbers


# ---- stop strings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stops", "text", "expected"),
    [
        (["END"], "one END two", "one "),
        (["END"], "one EN", "one EN"),
        (["END"], "one EEND", "one E"),
        (["aab"], "aaab", "a"),
        (["abc", "b"], "abc", "a"),  # the first to be complete
        (["bc", "abc"], "abc", ""),  # of two complete at once, the longer
        (["\n\n", "\n"], "x\n\ny", "x"),
        (["é"], "caféine", "caf"),
        ([], "anything", "anything"),
    ],
)
def test_stop_strings_however_the_text_is_cut(stops, text, expected):
    draw = random.Random(1)
    for _ in range(30):
        cuts = sorted(draw.randrange(len(text) + 1) for _ in range(draw.randrange(6)))
        pieces = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        stop = StopStrings(stops)
        emitted = "".join([*(stop.push(piece) for piece in pieces), stop.flush()])
        assert emitted == expected
        assert (stop.found is not None) == (text != expected)


def test_text_is_held_back_no_longer_than_needed():
    stop = StopStrings("STOP")
    assert [stop.push(piece) for piece in ["a", "S", "T", "x", "ST", "OP", "b"]] == [
        "a", "", "", "STx", "", "", "",
    ]  # fmt: skip


@pytest.mark.parametrize("strings", [[""], ["a", ""], [3]])
def test_stop_strings_must_be_strings(strings):
    with pytest.raises(ArgumentError, match="stop: expected non-empty strings"):
        StopStrings(strings)


# ---- the loop -----------------------------------------------------------------------------------


def test_the_text_ends_at_the_end_of_text_token(tokenizer):
    model = Scripted("Hello, world")
    result = generate(model, "Hel", tokenizer=tokenizer)
    assert str(result) == result.text == "lo, world"
    assert result.finish_reason == "stop"
    assert result.token_ids == list(b"lo, world")
    assert result.timings.prompt_tokens == 3
    untimed = dataclasses.replace(result, timings=type(result.timings)())
    assert result == untimed
    assert result.timings.generated_tokens == 10  # the end-of-text token, too
    assert result.timings.tokens_per_second > 0


def test_ignore_eos_goes_on(tokenizer):
    result = generate(Scripted("ab"), "a", tokenizer=tokenizer, ignore_eos=True, max_new_tokens=4)
    assert result.text == "b"
    assert result.token_ids == [ord("b"), EOS, EOS, EOS]
    assert result.finish_reason == "length"


@pytest.mark.parametrize("stop", ["o, w", [", ", "never"], "l"])
def test_nothing_of_a_stop_string_is_emitted(tokenizer, stop):
    strings = [stop] if isinstance(stop, str) else stop
    result = generate(Scripted("Hello, world"), "Hel", tokenizer=tokenizer, stop=stop)
    assert result.text == min(("lo, world".split(string)[0] for string in strings), key=len)
    assert result.finish_reason == "stop"
    assert result.stop_string in strings


def test_what_might_have_become_a_stop_string_is_text_at_the_end(tokenizer):
    result = generate(Scripted("abcEN"), "ab", tokenizer=tokenizer, stop="END")
    assert result.text == "cEN"
    result = generate(Scripted("abcENx"), "ab", tokenizer=tokenizer, stop="END", max_new_tokens=3)
    assert (result.text, result.finish_reason) == ("cEN", "length")


def test_stream_gives_whole_characters_and_the_same_text(tokenizer):
    script = "naïve 日本語 🙂 text, STOP here"
    pieces = list(stream(Scripted(script), "na", tokenizer=tokenizer, stop="STOP"))
    assert "".join(pieces) == "ïve 日本語 🙂 text, "
    assert "日" in pieces
    assert "🙂" in pieces
    assert all("\ufffd" not in piece for piece in pieces)


def test_broken_utf8_at_the_end_is_replaced(tokenizer):
    result = generate(Scripted("a🙂".encode()[:3]), "a", tokenizer=tokenizer)
    assert result.text == "\ufffd"


def test_an_empty_prompt_begins_with_the_beginning_of_text(tokenizer):
    model = Scripted("xyz")
    assert generate(model, "", tokenizer=tokenizer).text == "yz"  # one token was there: BOS
    assert generate(model, [[]])[0].token_ids == list(b"yz")
    assert generate(model, gradient.tensor([], dtype=gradient.int64)).token_ids == list(b"yz")
    model.config.bos_token_id = None
    with pytest.raises(ArgumentError, match="empty, and the model has no beginning-of-text token"):
        generate(model, [[]])


@pytest.mark.parametrize("none", [[], (), gradient.zeros(0, 3, dtype=gradient.int64)], ids=str)
def test_no_prompts_give_no_texts(none):
    assert generate(Scripted("xyz"), none) == []
    assert generate(Scripted("xyz"), none, num_return_sequences=2, temperature=1.0) == []


@pytest.mark.parametrize("add_bos", [False, True])
def test_a_prompt_is_not_ended_where_the_tokenizer_ends_texts(add_bos):
    backend = byte_tokenizer().backend
    backend.add_special_tokens(["<s>"])
    ending = Tokenizer(
        backend, bos_token="<s>", eos_token="<|endoftext|>", add_bos=add_bos, add_eos=True
    )
    first = [257] if add_bos else []
    assert ending.encode("ab") == [*first, 97, 98, EOS]
    for text, expected in {
        "ab": [*first, 97, 98],
        "ab<|endoftext|>": [*first, 97, 98, EOS],  # the caller's own
        "": [257],
    }.items():
        model = Recorder("abc")
        generate(model, text, tokenizer=ending, max_new_tokens=1)
        assert model.read == expected
    model = Recorder("abc")
    generate(model, ["a", "ab"], tokenizer=ending, max_new_tokens=1)
    assert model.calls == [(2, len(first) + 2)]


def test_prompts_of_many_kinds(tokenizer):
    model = Scripted("abcdef")
    expected = list(b"def")
    assert generate(model, [97, 98, 99]).token_ids == expected
    assert [r.token_ids for r in generate(model, [[97, 98, 99], [97]])] == [
        expected,
        list(b"bcdef"),
    ]
    assert [r.text for r in generate(model, ["abc", [97]], tokenizer=tokenizer)] == ["def", "bcdef"]
    assert generate(model, gradient.tensor([97, 98, 99])).token_ids == expected
    assert [r.token_ids for r in generate(model, gradient.tensor([[97, 98, 99]]))] == [expected]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_prompts(side, device):
    model = tiny_model(device)
    prompts = [[5, 6, 7, 8], [9, 10], [11]]
    pads = [[0] * (4 - len(prompt)) for prompt in prompts]
    zipped = list(zip(prompts, pads, strict=True))
    ids = [pad + p if side == "left" else p + pad for p, pad in zipped]
    ones = [[1] * len(prompt) for prompt in prompts]
    masks = list(zip(ones, pads, strict=True))
    mask = [pad + one if side == "left" else one + pad for one, pad in masks]
    padded = generate(
        model,
        gradient.tensor(ids, device=device),
        attention_mask=gradient.tensor(mask, device=device),
        max_new_tokens=8,
        ignore_eos=True,
    )
    lists = generate(model, prompts, max_new_tokens=8, ignore_eos=True)
    assert [row.token_ids for row in padded] == [row.token_ids for row in lists]


def test_a_decoding_step_computes_one_token_for_each_running_row():
    model = Scripted("abcdefgh")
    generate(model, [[1] * 6, [1] * 2, [1] * 4])  # 2, 6 and 4 tokens, then the end of text
    assert model.calls == [(3, 6), (3, 1), (3, 1), (2, 1), (2, 1), (1, 1), (1, 1)]


def test_a_far_limit_costs_nothing():
    """The model's context has no end: so buffers must grow with the text, not with the limit."""
    assert generate(Scripted("abcdef"), [1], max_new_tokens=10**15).token_ids == list(b"bcdef")


@pytest.mark.parametrize("draft", [None, "prompt_lookup"])
def test_buffers_grow_with_the_text(draft, device, monkeypatch):
    model = tiny_model(device)
    prompts, options = [[1, 2, 3], [4]], {"max_new_tokens": 40, "ignore_eos": True}
    options |= {"draft": draft, "repetition_penalty": 1.1}
    expected = [row.token_ids for row in generate(model, prompts, **options)]
    for module in (cache_config, decoder):
        monkeypatch.setattr(module, "RESERVED", 1)
    assert [row.token_ids for row in generate(model, prompts, **options)] == expected


def test_rows_that_end_early_leave_the_others_unchanged(device):
    model = tiny_model(device)
    prompts = [[1, 2, 3], [4], [5, 6]]
    alone = [generate(model, p, max_new_tokens=20, ignore_eos=True).token_ids for p in prompts]
    chosen = alone[0][2]
    stop_there = generate(model, prompts, max_new_tokens=20, logits_processors=[ending_at(chosen)])
    for result, expected in zip(stop_there, alone, strict=True):
        cut = expected.index(chosen) if chosen in expected else len(expected)
        assert result.token_ids == expected[:cut]


def ending_at(token):
    """A processor that makes the model end the text where it would say `token`."""

    def process(logits, prefixes):
        best = logits.argmax(dim=-1, keepdim=True) == token
        only_eos = gradient.full_like(logits, -INF)
        only_eos[:, EOS] = 0.0
        never_eos = logits.clone()
        never_eos[:, EOS] = -INF
        return gradient.where(best, only_eos, never_eos)

    return process


def test_a_model_in_training_writes_without_dropout_and_goes_on_training(device):
    model = tiny_model(device, resid_pdrop=0.5, attn_pdrop=0.5)
    expected = generate(model, [1, 2, 3], max_new_tokens=8).token_ids
    model.train()
    model.transformer.h[0].eval()  # frozen on purpose, say
    assert generate(model, [1, 2, 3], max_new_tokens=8).token_ids == expected
    assert model.transformer.h[1].mlp.training
    assert not model.transformer.h[0].mlp.training


def test_a_processor_sees_the_text_so_far():
    seen = []

    def watch(logits, prefixes):
        seen.append(prefixes.tokens.tolist())
        assert [list(prefixes.generated(row)) for row in range(2)] == [
            ids[len(prompt) :] for ids, prompt in zip(prefixes.ids, [[97, 98], [97]], strict=True)
        ]
        return logits

    generate(Scripted("abcd"), [[97, 98], [97]], max_new_tokens=2, logits_processors=[watch])
    assert seen == [[[97, 98], [97, -1]], [[97, 98, 99], [97, 98, -1]]]


def test_log_probabilities_are_the_models(device):
    model = tiny_model(device)
    result = generate(model, [1, 2, 3], max_new_tokens=5, logprobs=3, ignore_eos=True)
    text = [1, 2, 3, *result.token_ids]
    with gradient.no_grad():
        logits = model(gradient.tensor([text[:-1]], device=device))[0, 2:]
        expected = gradient.nn.functional.log_softmax(logits, dim=-1).cpu().numpy()
    assert [entry.token_id for entry in result.logprobs] == result.token_ids
    for row, entry in enumerate(result.logprobs):
        assert entry.logprob == pytest.approx(expected[row, entry.token_id], abs=1e-5)
        assert list(entry.top) == list(np.argsort(-expected[row])[:3])
        assert entry.top[entry.token_id] == entry.logprob  # greedy: the likeliest
    assert generate(model, [1], max_new_tokens=1, logprobs=True).logprobs[0].top == {}
    assert generate(model, [1], max_new_tokens=1).logprobs is None


def test_to_json_is_json():
    result = generate(tiny_model(), [1, 2], max_new_tokens=2, logprobs=1, ignore_eos=True)
    values = json.loads(json.dumps(result.to_json()))
    assert values["token_ids"] == result.token_ids
    assert values["finish_reason"] == "length"
    assert values["logprobs"][0]["token_id"] == result.token_ids[0]
    assert values["timings"]["generated_tokens"] == 2


# ---- the context --------------------------------------------------------------------------------


def test_generation_ends_when_the_context_is_full():
    model = tiny_model()
    result = generate(model, [1] * 40, max_new_tokens=100, ignore_eos=True)
    assert len(result.token_ids) == 9  # 40 + 8 fill 48 positions, and the last needs none
    assert result.finish_reason == "context"
    assert len(generate(model, [1] * 48, max_new_tokens=None, ignore_eos=True).token_ids) == 1
    ragged = generate(model, [[1] * 40, [1] * 3], max_new_tokens=12, ignore_eos=True)
    assert [(len(r.token_ids), r.finish_reason) for r in ragged] == [(9, "context"), (12, "length")]


def test_a_prompt_longer_than_the_context():
    with pytest.raises(
        ArgumentError, match="prompt: 49 tokens do not fit the model's context of 48"
    ):
        generate(tiny_model(), [1] * 49)


def rotary(**changes) -> LlamaForCausalLM:
    gradient.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=16, **changes,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def test_a_rotary_model_stops_at_its_trained_context():
    model = rotary()
    result = generate(model, [1] * 12, max_new_tokens=100, ignore_eos=True)
    assert (len(result.token_ids), result.finish_reason) == (5, "context")
    with pytest.raises(ArgumentError, match="do not fit .* context of 16: .*beyond_context=True"):
        generate(model, [1] * 17)
    further = generate(model, [1] * 17, max_new_tokens=9, ignore_eos=True, beyond_context=True)
    assert (len(further.token_ids), further.finish_reason) == (9, "length")
    with pytest.raises(ArgumentError, match="max_new_tokens: needed"):
        generate(model, [1], max_new_tokens=None, beyond_context=True)


@pytest.mark.parametrize(
    ("scaling", "length"),
    [
        ({"rope_type": "linear", "factor": 4.0}, 64),
        ({"rope_type": "dynamic", "factor": 2.0}, 32),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}, 64),
        ({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4}, 16),
        (
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8,
            },
            16,
        ),
    ],
)
def test_scaled_positions_reach_further(scaling, length):
    model = rotary(rope_parameters=scaling | {"rope_theta": 10000.0})
    assert model.trained_length == length and model.context_length is None


def test_no_tokens_asked_for():
    model = Scripted("abc")
    result = generate(model, [97], max_new_tokens=0)
    assert (result.token_ids, result.finish_reason, model.calls) == ([], "length", [])


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([97], {"max_new_tokens": -1}, "max_new_tokens must be an integer of at least 0, .* -1"),
        ([97], {"max_new_tokens": None}, "this model's context has no limit"),
        (
            [97],
            {"logprobs": -1},
            "logprobs must be True or an integer of at least 0, or None, got -1",
        ),
        ([97], {"stop": "x"}, "stop strings need a tokenizer"),
        ("text", {}, "text needs a tokenizer"),
        ([97], {"attention_mask": 1}, "only for prompts given as a tensor"),
        ([97, 257, -1], {}, r"prompt 0: expected token ids from 0 to 256, got \[257, -1\]"),
        ([97.5], {}, r"prompt 0: expected token ids from 0 to 256, got \[97.5\]"),
        ([[97], [1.5]], {}, r"prompt 1: expected token ids from 0 to 256, got \[1.5\]"),
        (gradient.tensor([97.0]), {}, "prompt 0: expected token ids"),
        ([97], {"max_new_tokens": 2.5}, "max_new_tokens must be an integer of at least 0, or None"),
        (
            [97],
            {"logprobs": "all"},
            "logprobs must be True or an integer of at least 0, or None, got 'all'",
        ),
        (
            [97],
            {"seed": 1.5},
            "seed must be an integer, or a list of them, one per row, or None, got 1.5",
        ),
    ],
)
def test_options_that_make_no_sense(prompt, options, message):
    with pytest.raises(ArgumentError, match=message):
        generate(Scripted("abc"), prompt, **options)


@pytest.mark.parametrize("prompt", [b"bytes", None, 5, [[97], 5]], ids=repr)
def test_prompts_that_are_no_text(prompt, tokenizer):
    with pytest.raises(TypeMismatch, match="prompt: expected text, token ids or a list of either"):
        generate(Scripted("abc"), prompt, tokenizer=tokenizer)


@pytest.mark.parametrize("call", [generate, stream])
def test_an_unknown_option_is_refused_with_the_nearest(call, tokenizer):
    with pytest.raises(TypeMismatch, match="no option 'max_tokens'; did you mean 'max_new_tokens'"):
        call(Scripted("abc"), "a", tokenizer=tokenizer, max_tokens=3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("do_sample", "temperature above 0"),
        ("max_length", "use max_new_tokens"),
        ("stream", "use lm.stream"),
    ],
)
def test_options_of_transformers_are_pointed_to_ours(tokenizer, name, words):
    with pytest.raises(TypeMismatch, match=f"no option '{name}'; .*{words}"):
        generate(Scripted("abc"), "a", tokenizer=tokenizer, **{name: 1})


@pytest.mark.parametrize("temperature", [0, 1])
def test_no_possible_token_is_an_error_and_not_token_0(temperature, device):
    model, never = tiny_model(device), lambda logits, prefixes: logits * 0 - INF
    with pytest.raises(GenerationError, match="logits processors have forbidden all"):
        generate(model, [1, 2], logits_processors=[never], temperature=temperature)
    with gradient.no_grad():
        model.transformer.ln_f.weight[0] = math.nan
    with pytest.raises(GenerationError, match=r"logits are NaN \(prompt 0\)"):
        generate(model, [1, 2], temperature=temperature)


def test_a_processor_must_return_logits():
    with pytest.raises(TypeMismatch, match=r"expected logits of shape \(1, 257\) back, got None"):
        generate(tiny_model(), [1], logits_processors=[lambda logits, prefixes: None])


def test_a_prompt_is_no_dict():
    """Its keys were taken for prompts."""
    with pytest.raises(TypeMismatch, match="got a dict of 'input_ids'; give its input_ids"):
        generate(tiny_model(), {"input_ids": [1, 2]})


def test_a_processor_must_keep_the_shape():
    with pytest.raises(ShapeError, match=r"expected logits of shape \(1, 257\) back"):
        generate(tiny_model(), [1], logits_processors=[lambda logits, prefixes: logits[:, :5]])


def test_an_interrupted_generation_can_be_followed_by_another(tokenizer):
    model = tiny_model()
    pieces = stream(model, "ab", tokenizer=tokenizer, max_new_tokens=30, ignore_eos=True)
    next(pieces)
    pieces.close()
    first = generate(model, "ab", tokenizer=tokenizer, max_new_tokens=5).token_ids
    assert generate(model, "ab", tokenizer=tokenizer, max_new_tokens=5).token_ids == first


# ---- LanguageModel ------------------------------------------------------------------------------

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


def test_chat_follows_the_template(tokenizer):
    prompt = "<system>be brief<user>hi<assistant>"
    model = Scripted(prompt + "hello")
    chatty = byte_tokenizer()
    chatty.chat_template = TEMPLATE
    lm = LanguageModel(model, chatty)
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert str(lm.chat(messages)) == "hello"
    assert "".join(lm.chat(messages, stream=True)) == "hello"
    assert model.calls[0] == (1, len(prompt))


def test_a_turn_costs_its_new_tokens_with_a_prompt_cache():
    chatty = byte_tokenizer()
    chatty.chat_template = TEMPLATE
    first = "<user>hi<assistant>"
    second = first + "hello<user>and?<assistant>"
    model = Scripted(second + "yes")
    lm, cache = LanguageModel(model, chatty), PromptCache(model)
    messages = [{"role": "user", "content": "hi"}]
    answer = lm.chat(messages, prompt_cache=cache, stop="<user>")
    assert str(answer) == "hello"
    assert model.calls == [(1, len(first))] + [(1, 1)] * (len("hello<user>") - 1)
    messages += [{"role": "assistant", "content": str(answer)}, {"role": "user", "content": "and?"}]
    model.calls.clear()
    assert "".join(lm.chat(messages, stream=True, prompt_cache=cache)) == "yes"
    known = len(first + "hello<user>") - 1  # all but the token last chosen
    assert model.calls == [(1, len(second) - known)] + [(1, 1)] * 3


@pytest.mark.parametrize("name", ["tinyworld", None])
def test_rows_without_tokens_are_refused(name):
    model = gradient.hub.load(name).model if name else tiny_model()
    with pytest.raises(ValueError, match=r"input_ids: expected at least one token .*\(2, 0\)"):
        model(gradient.zeros(2, 0, dtype=gradient.int64))


def test_chat_without_a_template_is_a_transcript(tokenizer):
    lm = LanguageModel(Scripted("User: hi\nAssistant: hello\nUser: and then"), tokenizer)
    assert str(lm.chat([{"role": "user", "content": "hi"}])) == " hello"


def test_several_answers_are_split_from_their_thoughts():
    chatty = byte_tokenizer()
    chatty.chat_template = TEMPLATE
    model = Scripted("<user>hi<assistant><think>hm</think>yes")
    found = LanguageModel(model, chatty).chat(
        [{"role": "user", "content": "hi"}], num_return_sequences=2, temperature=0.1, seed=0
    )
    assert [(each.text, each.thinking) for each in found] == [("yes", "hm")] * 2


PARTS = [{"type": "text", "text": "hi"}, {"type": "text", "text": "you"}]


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_parts_of_text_are_shown_as_text(tokenizer, template):
    """Not in Python's notation."""
    chatty = byte_tokenizer()
    chatty.chat_template = template
    prompt = "<user>hi\nyou<assistant>" if template else "User: hi\nyou\nAssistant:"
    lm = LanguageModel(Scripted(prompt + "yes"), chatty)
    assert str(lm.chat([{"role": "user", "content": PARTS}], max_new_tokens=3)) == "yes"
    text = [{"role": "user", "content": "hi\nyou"}]
    assert lm.trim_messages(text) == text


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": "x.png"}, 5, None, {}])
def test_parts_that_are_no_text_are_refused(tokenizer, part):
    lm = LanguageModel(Scripted("x"), tokenizer)
    with pytest.raises(
        ArgumentError, match=r"messages\[0\]: language models read texts only.*1 of"
    ):
        lm.chat([{"role": "user", "content": [*PARTS[:1], part]}])


@pytest.mark.parametrize(
    ("name", "value"), [("tools", [{"name": "add"}]), ("documents", [{"text": "x"}])]
)
def test_tools_that_the_template_does_not_show_are_told_of(name, value):
    chatty = byte_tokenizer()
    chatty.chat_template = TEMPLATE
    lm = LanguageModel(Scripted("<user>hi<assistant>yes"), chatty)
    hi = [{"role": "user", "content": "hi"}]
    with pytest.warns(UserWarning, match=f"chat template does not show it the {name}"):
        assert str(lm.chat(hi, max_new_tokens=3, **{name: value})) == "yes"
    chatty.chat_template = TEMPLATE + "{% if " + name + " %}+{% endif %}"
    lm = LanguageModel(Scripted("<user>hi<assistant>+yes"), chatty)
    assert str(lm.chat(hi, max_new_tokens=3, **{name: value})) == "yes"


def test_the_content_of_an_answer_is_a_text_or_nothing(tokenizer):
    lm = LanguageModel(Scripted("x"), tokenizer)
    with pytest.raises(
        ArgumentError, match=r"messages\[0\]: expected a text.*role assistant, got 5"
    ):
        lm.chat([{"role": "assistant", "content": 5}, {"role": "user", "content": "hi"}])


@pytest.mark.parametrize(
    "messages", ["hi", {"role": "user"}, [], ["hi"], [{"content": "hi"}], iter([{"role": "user"}])]
)
def test_messages_must_be_messages(tokenizer, messages):
    with pytest.raises(ArgumentError, match="messages"):
        LanguageModel(Scripted("abc"), tokenizer).chat(messages)


def test_save_and_load_again(tokenizer, tmp_path: Path):
    lm = LanguageModel(tiny_model(), tokenizer)
    lm.save(tmp_path)
    again = gradient.hub.load(tmp_path)
    options = {"max_new_tokens": 10, "ignore_eos": True}
    assert again.generate("abc", **options).token_ids == lm.generate("abc", **options).token_ids
    assert "float32 on cpu" in repr(again)
