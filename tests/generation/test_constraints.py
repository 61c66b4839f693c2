"""Constraints: whatever a model would say, what comes out is what the grammar allows."""

from __future__ import annotations

import json
import re
import sys

import pytest

import gradient
from gradient.errors import ArgumentError, GenerationError, MissingDependency
from gradient.generation import Prefixes, generate, stream
from gradient.generation.logits.constraints import Constraint, regex_grammar
from gradient.models import GPT2Config, GPT2LMHeadModel
from gradient.text import byte_tokenizer

pytest.importorskip("llguidance")

EOS = 256
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "mood": {"enum": ["glücklich", "悲しい", 7, None]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        "home": {
            "type": "object",
            "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
            "required": ["zip"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "mood", "tags", "home"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def tiny_model(device="cpu", seed=3, vocab_size=257):
    gradient.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocab_size, n_positions=1024, n_embd=32, n_layer=2, n_head=4,
        bos_token_id=EOS, eos_token_id=EOS, initializer_range=0.3,
    )  # fmt: skip
    return GPT2LMHeadModel(config).to(device).eval()


def is_person(text):
    value = json.loads(text)
    assert list(value) == ["name", "age", "mood", "tags", "home"]
    assert isinstance(value["name"], str)
    assert len(value["name"]) <= 6
    assert value["age"] in range(121)
    assert value["mood"] in ["glücklich", "悲しい", 7, None]
    assert 1 <= len(value["tags"]) <= 3
    assert all(isinstance(tag, bool) for tag in value["tags"])
    assert re.fullmatch("[0-9]{5}", value["home"].pop("zip"))
    return value["home"] == {}


@pytest.mark.parametrize("seed", range(4))
def test_json_fits_its_schema_whoever_writes_it(seed, tokenizer, device):
    model = tiny_model(device, seed)
    options = {"json_schema": PERSON, "max_new_tokens": 900}
    greedy = generate(model, "Who? ", tokenizer=tokenizer, **options)
    sampled = generate(
        model, ["Who? ", "", "{" * 30], tokenizer=tokenizer, temperature=1.5, seed=seed, **options
    )
    for result in [greedy, *sampled]:
        assert result.finish_reason == "stop"
        assert is_person(result.text)


def test_a_larger_vocabulary_and_a_model_that_was_trained(device):
    lm = gradient.hub.load("tinyworld", device=device)
    results = lm.generate(
        ["x = ", "def f():"], json_schema=json.dumps(PERSON), max_new_tokens=300, temperature=1.0,
        seed=1,
    )  # fmt: skip
    assert all(is_person(result.text) for result in results)


@pytest.mark.parametrize("file", ["stories260K.gguf", "stories260K.bin"])
def test_sentencepiece_vocabularies(real_data, file):
    """Pieces with blanks as ▁ and bytes as <0x0A>, from a GGUF file and from a .model."""
    lm = gradient.hub.load(real_data("stories260k") / file)
    schema = {
        "type": "object",
        "properties": {
            "who": {"enum": ["Zoë", "猫"]},
            "years": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "required": ["who", "years"],
        "additionalProperties": False,
    }
    for options in ({}, {"temperature": 1.0, "seed": 3}, {"draft": "prompt_lookup"}):
        text = lm.generate("Once upon a time", json_schema=schema, **options).text
        assert json.loads(text)["who"] in ("Zoë", "猫")
        text = lm.generate(
            "There was", regex=r" a (big|small) dog\. It was [0-9]{2}\.", **options
        ).text
        assert re.fullmatch(r" a (big|small) dog\. It was [0-9]{2}\.", text)


@pytest.mark.parametrize(
    "pattern",
    [r"[0-9]{3}-[0-9]{2}", r"(ab|cd)*x", r"[äöü€🙂]{4}", r"[a-z_]{1,8}\.(py|txt)", r"a?b?c"],
)
def test_a_regex_matches_the_whole_text(pattern, tokenizer, device):
    for seed in range(4):
        result = generate(
            tiny_model(device, seed), "go", tokenizer=tokenizer, regex=pattern, temperature=1.0,
            seed=seed, max_new_tokens=200,
        )  # fmt: skip
        if result.finish_reason == "stop":
            assert re.fullmatch(pattern, result.text)
        else:
            assert (result.finish_reason, len(result.token_ids)) == ("length", 200)
    assert result.finish_reason == "stop" or "*" in pattern


def test_one_of_some_choices(tokenizer, device):
    choices = ["yes", "no", 'a "quoted" \\ one\n', "日本", "yes, but", "no/"]
    seen = set()
    for seed in range(12):
        result = generate(
            tiny_model(device, seed), "?", tokenizer=tokenizer, choices=choices, temperature=2.0,
            seed=seed,
        )  # fmt: skip
        assert result.text in choices
        assert result.finish_reason == "stop"
        seen.add(result.text)
    assert len(seen) > 2


def test_a_grammar_in_larks_notation(tokenizer, device):
    grammar = 'start: "(" start ")" | DIGIT\nDIGIT: /[0-9]/'
    for seed in range(4):
        text = generate(
            tiny_model(device, seed), "?", tokenizer=tokenizer, grammar=grammar, temperature=1.0,
            seed=seed, max_new_tokens=400,
        ).text  # fmt: skip
        assert re.fullmatch(r"(\(*)[0-9](\)*)", text)
        assert text.count("(") == text.count(")")


def test_each_row_of_a_batch_is_as_it_would_be_alone(tokenizer, device):
    model = tiny_model(device)
    prompts = ["a", "a longer one", "x" * 20]
    options = {"regex": r"[a-z]{2,9}[0-9]", "tokenizer": tokenizer, "max_new_tokens": 40}
    together = generate(model, prompts, temperature=1.0, seed=5, **options)
    for number, prompt in enumerate(prompts):
        alone = generate(model, prompt, temperature=1.0, seed=5 + number, **options)
        assert alone.token_ids == together[number].token_ids


def test_the_limit_of_tokens_cuts_and_says_so(tokenizer):
    result = generate(tiny_model(), "a", tokenizer=tokenizer, json_schema=PERSON, max_new_tokens=5)
    assert (len(result.token_ids), result.finish_reason) == (5, "length")
    # What completes the text with the last token allowed has not been cut.
    result = generate(tiny_model(), "a", tokenizer=tokenizer, regex="[0-9]{5}", max_new_tokens=5)
    assert (len(result.token_ids), result.finish_reason) == (5, "stop")


def test_where_a_text_could_go_on_the_model_decides(tokenizer):
    """After one digit the end of text is allowed, and nothing that is no digit."""
    constraint = Constraint("regex", regex_grammar("[0-9]+"), tokenizer, 257, frozenset({EOS}))
    logits = gradient.zeros(3, 257)
    prefixes = Prefixes([[1], [1, *b"12"], [*b"7"]], [1, 1, 0])
    allowed = [
        {token for token, logit in enumerate(row) if logit == 0}
        for row in constraint(logits, prefixes).tolist()
    ]
    assert allowed == [{*b"0123456789"}, {*b"0123456789", EOS}, {*b"0123456789", EOS}]


def test_prefixes_may_come_in_any_order(tokenizer):
    """As speculation and beams ask: forward, back, and along texts that are not allowed."""
    grammar = regex_grammar("(ab|ba)c")
    texts = [b"a", b"ab", b"b", b"", b"abc", b"ax", b"axy", b"ba", b"bac"]

    def allowed(constraint, ids):
        row = constraint(gradient.zeros(1, 257), Prefixes([ids], [0])).tolist()[0]
        return [token for token, logit in enumerate(row) if logit == 0]

    used = Constraint("regex", grammar, tokenizer, 257, frozenset({EOS}))
    for text in texts + texts[::-1]:
        new = Constraint("regex", grammar, tokenizer, 257, frozenset({EOS}))
        assert allowed(used, list(text)) == allowed(new, list(text))
        assert used.complete(0, list(text)) == (text in (b"abc", b"bac"))


def test_a_token_that_is_allowed_and_then_refused_is_an_error(tokenizer):
    """Rather that than a text that is not constrained: which would be llguidance's fault."""
    constraint = Constraint("regex", regex_grammar("abc"), tokenizer, 257, frozenset({EOS}))
    assert not constraint.ends(0, list(b"ab"))
    assert constraint.ends(0, list(b"abc"))
    with pytest.raises(GenerationError, match="allowed the token 120 and then refused it"):
        constraint.ends(0, list(b"abx"))


def test_a_vocabulary_that_is_padded(tokenizer, device):
    model = tiny_model(device, vocab_size=300)
    result = generate(model, "a", tokenizer=tokenizer, regex="[A-Z]{9}", temperature=1.0, seed=1)
    assert re.fullmatch("[A-Z]{9}", result.text)


def test_a_stream_is_constrained_as_well(tokenizer):
    model, options = tiny_model(), {"choices": ["grün", "rot"], "temperature": 1.0, "seed": 3}
    pieces = list(stream(model, "a", tokenizer=tokenizer, **options))
    assert "".join(pieces) == generate(model, "a", tokenizer=tokenizer, **options).text
    assert len(pieces) > 1


def test_beams_are_constrained_as_well(tokenizer, device):
    model = tiny_model(device)
    choices = ["red", "reddish", "green", "blue"]
    found = generate(
        model, ["a", "bc"], tokenizer=tokenizer, choices=choices, num_beams=4,
        num_return_sequences=3, early_stopping="never",
    )  # fmt: skip
    for some in (found[:3], found[3:]):
        assert len({row.text for row in some}) == 3
        assert {row.text for row in some} < set(choices)
        assert all(row.finish_reason == "stop" for row in some)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regex": "[a-"}, "(?s)regex: .*unclosed character class"),
        ({"regex": ""}, "regex must be a non-empty string"),
        ({"regex": "a(?=b)"}, "(?s)regex: .*look-around"),
        ({"json_schema": "{"}, "json_schema: is not JSON"),
        ({"json_schema": [1]}, "json_schema must be a JSON schema"),
        ({"json_schema": "[1]"}, "json_schema: expected a JSON schema"),
        ({"json_schema": {"type": "strange"}}, "json_schema: .*strange"),
        ({"choices": []}, "choices must be a list of non-empty strings, at least one"),
        ({"choices": "yes"}, "choices must be a list"),
        ({"choices": ["a", 3]}, "choices must be a list"),
        ({"grammar": "start: x"}, "grammar: .*x"),
        ({"regex": "a", "choices": ["a"]}, "regex and choices are given: one of them at a time"),
        ({"regex": "a", "ignore_eos": True}, "regex ends the text: ignore_eos cannot be set"),
        ({"regex": "a", "tokenizer": None}, "regex: a constraint on text needs a tokenizer"),
    ],
    ids=str,
)
def test_constraints_that_make_no_sense(options, message, tokenizer):
    with pytest.raises(ArgumentError, match=message):
        generate(tiny_model(), [1], **({"tokenizer": tokenizer} | options))


def test_a_model_without_an_end_of_text(tokenizer):
    from gradient.text import Tokenizer

    model, bare = tiny_model(), Tokenizer(tokenizer.backend)
    model.config.eos_token_id = None
    with pytest.raises(ArgumentError, match="regex: needs a model with an end-of-text token"):
        generate(model, [1], tokenizer=bare, regex="a")


def test_without_the_package_the_error_names_the_command(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingDependency, match=r'pip install "gradient-dl\[constraints\]"'):
        generate(tiny_model(), [1], tokenizer=tokenizer, regex="a")


def test_a_schema_may_be_a_pydantic_model(tokenizer):
    class Model:
        @staticmethod
        def model_json_schema():
            return {"type": "array", "items": {"const": 1}, "maxItems": 2}

    result = generate(tiny_model(), [1], tokenizer=tokenizer, json_schema=Model)
    assert json.loads(result.text) in ([], [1], [1, 1])
