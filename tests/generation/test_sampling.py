"""Choosing the next token: processors one by one, their order, and the draw."""

from __future__ import annotations

import dataclasses
import math
import typing

import numpy as np
import pytest

import gradient
from gradient.errors import ArgumentError, TypeMismatch
from gradient.generation import (
    GenerationOptions,
    LanguageModel,
    Options,
    Prefixes,
    Sampler,
    bad_words,
    epsilon_cutoff,
    eta_cutoff,
    frequency_penalty,
    generate,
    logit_bias,
    min_new_tokens,
    min_p,
    no_repeat_ngram,
    presence_penalty,
    processors,
    repetition_penalty,
    temperature,
    top_k,
    top_n_sigma,
    top_p,
    typical_p,
    xtc,
)
from gradient.generation.declared import declared
from gradient.generation.logits import truncation
from gradient.generation.sampling import UniformNumbers, sample
from gradient.models import GPT2Config, GPT2LMHeadModel

INF = math.inf

# ---- logits processors --------------------------------------------------------------------------

LOGITS = [[2.0, 1.0, 0.0, -1.0]]  # probabilities 0.644, 0.237, 0.087, 0.032


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (temperature(2.0), [1.0, 0.5, 0.0, -0.5]),
        (temperature(1e-300), [2e6, 1e6, 0.0, -1e6]),
        (top_k(1), [2.0, -INF, -INF, -INF]),
        (top_k(3), [2.0, 1.0, 0.0, -INF]),
        (top_k(9), [2.0, 1.0, 0.0, -1.0]),
        # Their mean is 0.5, their standard deviation 1.118.
        (top_n_sigma(1.0), [2.0, 1.0, -INF, -INF]),
        (top_n_sigma(2.0), [2.0, 1.0, 0.0, -INF]),
        (top_n_sigma(1e-6), [2.0, -INF, -INF, -INF]),
        (top_p(0.1), [2.0, -INF, -INF, -INF]),
        (top_p(0.65), [2.0, 1.0, -INF, -INF]),
        (top_p(0.88), [2.0, 1.0, -INF, -INF]),
        (top_p(0.9), [2.0, 1.0, 0.0, -INF]),
        (min_p(0.0), [2.0, 1.0, 0.0, -1.0]),
        (min_p(0.3), [2.0, 1.0, -INF, -INF]),
        (min_p(0.1), [2.0, 1.0, 0.0, -INF]),
        (min_p(1.0), [2.0, -INF, -INF, -INF]),
        # Information 0.44, 1.44, 2.44, 3.44; their mean 0.947: the second is closest to it.
        (typical_p(0.2), [-INF, 1.0, -INF, -INF]),
        (typical_p(0.3), [2.0, 1.0, -INF, -INF]),
        (typical_p(0.9), [2.0, 1.0, 0.0, -INF]),
        (epsilon_cutoff(0.1), [2.0, 1.0, -INF, -INF]),
        (epsilon_cutoff(0.03), [2.0, 1.0, 0.0, -1.0]),
        (epsilon_cutoff(0.9), [2.0, -INF, -INF, -INF]),
        # Their entropy is 0.947: the bound is the less of eta and 0.388 sqrt(eta).
        (eta_cutoff(0.1), [2.0, 1.0, -INF, -INF]),
        (eta_cutoff(0.5), [2.0, -INF, -INF, -INF]),
        (eta_cutoff(0.36), [2.0, 1.0, -INF, -INF]),
        (repetition_penalty(2.0), [1.0, 0.5, 0.0, -2.0]),  # the prompt counts
        # Generated are 0 and 3 (twice); 1 stands in the prompt alone.
        (presence_penalty(0.5), [1.5, 1.0, 0.0, -1.5]),
        (frequency_penalty(0.5), [1.5, 1.0, 0.0, -2.0]),
        (frequency_penalty(-0.5), [2.5, 1.0, 0.0, 0.0]),
        (logit_bias({0: -INF, 2: 1.5}), [-INF, 1.0, 1.5, -1.0]),
        (no_repeat_ngram(1), [-INF, -INF, 0.0, -INF]),
        (no_repeat_ngram(2), [-INF, 1.0, 0.0, -1.0]),  # after 3 came 0
        (no_repeat_ngram(3), [2.0, 1.0, 0.0, -1.0]),
        (no_repeat_ngram(9), [2.0, 1.0, 0.0, -1.0]),
        (bad_words([[2]]), [2.0, 1.0, -INF, -1.0]),
        (bad_words([[0, 3, 1], [2, 3, 0], [1, 0]]), [2.0, -INF, 0.0, -1.0]),
        (min_new_tokens(4, [2]), [2.0, 1.0, -INF, -1.0]),
        (min_new_tokens(3, [2]), [2.0, 1.0, 0.0, -1.0]),
    ],
    ids=lambda value: value.__qualname__.partition(".")[0] if callable(value) else None,
)
def test_processors(processor, expected, device):
    prefixes = Prefixes([[1, 3, 0, 3]], [1], device=device)
    logits = gradient.tensor(LOGITS, device=device)
    np.testing.assert_allclose(processor(logits, prefixes).cpu().numpy(), [expected], rtol=1e-6)
    assert logits.tolist() == LOGITS  # left as they were


def test_processors_on_a_text_shorter_than_what_they_look_for(device):
    logits = gradient.tensor(LOGITS, device=device)
    prefixes = Prefixes([[3]], device=device)
    for processor in (
        no_repeat_ngram(2),
        no_repeat_ngram(3),
        bad_words([[1, 3, 2]]),
        presence_penalty(1.0),
        frequency_penalty(1.0),
    ):
        assert processor(logits, prefixes).tolist() == LOGITS


def test_processors_treat_every_row_for_itself(device):
    logits = gradient.tensor([[0.0, 3.0, 1.0], [5.0, 0.0, 4.0]], device=device)
    ragged = Prefixes([[1], [0, 2]], [1, 0], device=device)
    assert ragged.tokens.tolist() == [[1, -1], [0, 2]]
    penalised = repetition_penalty(2.0)(logits, ragged).tolist()
    assert penalised == [[0.0, 1.5, 1.0], [2.5, 0.0, 2.0]]
    lowered = presence_penalty(1.5)(frequency_penalty(0.5)(logits, ragged), ragged).tolist()
    assert lowered == [[0.0, 3.0, 1.0], [3.0, 0.0, 2.0]]
    assert top_k(1)(logits, ragged).tolist() == [[-INF, 3.0, -INF], [5.0, -INF, -INF]]
    assert top_p(0.5)(logits, ragged).tolist() == [[-INF, 3.0, -INF], [5.0, -INF, -INF]]
    assert min_new_tokens(1, [1])(logits, ragged)[:, 1].tolist() == [-INF, 0.0]
    assert no_repeat_ngram(1)(logits, ragged).tolist() == [[0.0, -INF, 1.0], [-INF, 0.0, -INF]]


def test_top_n_sigma_is_blind_to_temperature_and_to_forbidden_tokens(device):
    logits = gradient.randn(5, 300, generator=gradient.Generator().manual_seed(1)).to(device)
    kept = top_n_sigma(1.5)(logits, Prefixes([[]] * 5)) > -INF
    assert 5 < kept.sum().item() < 500
    hot = top_n_sigma(1.5)(logits / 30, Prefixes([[]] * 5)) > -INF
    assert bool((hot == kept).all())
    wider = gradient.cat([logits, gradient.full((5, 20), -INF, device=device)], dim=1)
    assert bool(((top_n_sigma(1.5)(wider, Prefixes([[]] * 5)) > -INF)[:, :300] == kept).all())


@pytest.mark.parametrize(
    ("threshold", "kept"),
    [(0.9, 4), (0.7, 4), (0.5, 4), (0.2, 3), (0.05, 2), (0.0, 1)],
)
def test_xtc_leaves_the_least_of_the_top_choices(threshold, kept, device):
    def uniform(prefixes, device):
        return gradient.tensor([0.0, 0.3, 0.6], device=device)

    logits = gradient.tensor(LOGITS * 3, device=device)  # probabilities 0.644, 0.237, 0.087, 0.032
    found = xtc(0.5, threshold, uniform)(logits, Prefixes([[]] * 3)).tolist()
    assert found[:2] == [[-INF] * (4 - kept) + LOGITS[0][4 - kept :]] * 2
    assert found[2] == LOGITS[0]  # it was not this one's turn


def test_xtc_draws_what_a_seed_says():
    model, options = tiny_model(), {"temperature": 1.0, "xtc_probability": 0.5, "ignore_eos": True}

    def text(**changes):
        return generate(model, [1, 2], max_new_tokens=20, **{**options, "seed": 3, **changes})

    assert text().token_ids == text().token_ids == text(draft="prompt_lookup").token_ids
    assert text().token_ids != text(xtc_probability=1.0).token_ids
    unexcluded = text(xtc_probability=0.0).token_ids
    assert text(xtc_threshold=0.6).token_ids == unexcluded != text().token_ids


@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0])
@pytest.mark.parametrize("process", [top_p(0.9), typical_p(0.9)], ids=["top_p", "typical_p"])
def test_of_a_large_vocabulary_the_same_tokens_are_kept(process, spread, device, monkeypatch):
    """Where a few tokens reach p, sorting those is enough; where they do not, all are sorted."""
    gradient.manual_seed(1)
    logits = spread * gradient.randn(3, 5000, device=device)
    kept = process(logits, Prefixes([[]] * 3)).cpu().numpy() > -INF
    monkeypatch.setattr(truncation, "HEAD", 5000)
    assert (kept == (process(logits, Prefixes([[]] * 3)).cpu().numpy() > -INF)).all()
    assert (kept.sum(axis=1) > 1024).all() == (spread < 8)


def test_greedy_needs_no_processors_but_those_that_look_at_the_text():
    params = GenerationOptions(top_k=5, top_p=0.5, min_p=0.1, repetition_penalty=1.1)
    assert len(processors(params)) == 1
    assert len(processors(GenerationOptions(temperature=0.7, top_k=5, top_p=0.5, min_p=0.1))) == 4
    assert processors(GenerationOptions(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)) == []


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"temperature": -1}, "temperature must be a finite number of at least 0, got -1"),
        ({"temperature": INF}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_k": -1}, "top_k must be an integer of at least 0, or None, got -1"),
        ({"top_k": 5.0}, "top_k must be an integer of at least 0, or None, got 5.0"),
        ({"top_p": 0}, "top_p must be a number above 0 and at most 1, or None, got 0"),
        ({"min_p": 2}, "min_p must be a number from 0 to 1, or None, got 2"),
        ({"repetition_penalty": 0}, "repetition_penalty must be a positive number, got 0"),
        ({"top_p": 3, "min_p": -1}, "top_p must be .*; min_p must be "),
        ({"temperature": None}, "temperature must be a finite number of at least 0, got None"),
        ({"top_p": "most"}, "top_p must be a number above 0 and at most 1, or None, got 'most'"),
        ({"typical_p": 1.5}, "typical_p must be a number above 0 and at most 1, or None, got 1.5"),
        ({"presence_penalty": INF}, "presence_penalty must be a finite number, got inf"),
        ({"frequency_penalty": "1"}, "frequency_penalty must be a finite number, got '1'"),
        ({"logit_bias": {5: INF}}, "logit_bias must be {token id: number below inf}"),
        ({"logit_bias": {"a": 1}}, "logit_bias must be"),
        ({"logit_bias": [5]}, "logit_bias must be"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must be an integer of at least 0"),
        ({"bad_words_ids": [[]]}, "bad_words_ids must be lists of token ids, none of them empty"),
        ({"bad_words_ids": ["word"]}, "bad_words_ids must be lists of token ids"),
        ({"logits_processors": print}, "logits_processors must be a list of functions"),
        ({"logits_processors": [3]}, "logits_processors must be a list of functions"),
        (
            {"seed": "x"},
            "seed must be an integer, or a list of them, one per row, or None, got 'x'",
        ),
        ({"seed": True}, "seed must be an integer"),
        ({"seed": ""}, "seed must be an integer"),
        ({"seed": [1, 2.0]}, "seed must be an integer"),
        ({"ignore_eos": "no"}, "ignore_eos must be a bool, got 'no'"),
        ({"beyond_context": 1}, "beyond_context must be a bool, got 1"),
        ({"use_cache": None}, "use_cache must be a bool, got None"),
        ({"json_schema": 3}, "json_schema must be a JSON schema: .*, or None, got 3"),
        ({"json_schema": int}, "json_schema must be a JSON schema"),
        ({"min_new_tokens": None}, "min_new_tokens must be an integer of at least 0, got None"),
    ],
    ids=str,
)
def test_parameters_out_of_range(params, message):
    with pytest.raises(ArgumentError, match=message):
        GenerationOptions(**params)


def test_options_are_declared_once():
    """The keyword arguments that type checkers see are the fields that are checked."""
    fields = {field.name: field.type for field in dataclasses.fields(GenerationOptions)}
    assert fields == typing.get_type_hints(Options)
    assert [name for name in fields if f"\n    {name}: " not in GenerationOptions.__doc__] == []
    hints = typing.get_type_hints(LanguageModel.generate)["options"]
    assert typing.get_args(hints) == (Options,)


def test_every_option_has_a_limit():
    assert [name for name, option in declared(Options).items() if option.limit is None] == []


def test_options_of_any_name_are_refused_with_the_nearest():
    with pytest.raises(TypeMismatch, match="no option 'topk'; did you mean 'top_k'"):
        GenerationOptions.of({"topk": 3})
    assert GenerationOptions.of({"top_k": 3}).top_k == 3


def test_the_processors_stand_in_the_order_of_transformers():
    options = GenerationOptions(
        temperature=0.5, top_k=2, top_p=0.9, min_p=0.1, typical_p=0.9, repetition_penalty=1.1,
        presence_penalty=1.0, frequency_penalty=1.0, logit_bias={1: 1.0}, no_repeat_ngram_size=2,
        bad_words_ids=[[1]], min_new_tokens=3,
    )  # fmt: skip

    def own(logits, prefixes):
        return logits

    names = [p.__qualname__.split(".")[0] for p in processors(options, extra=[own])]
    assert names == [
        "logit_bias", "repetition_penalty", "frequency_penalty", "presence_penalty",
        "no_repeat_ngram", "bad_words", "min_new_tokens",
        "test_the_processors_stand_in_the_order_of_transformers",
        "temperature", "top_k", "top_p", "min_p", "typical_p",
    ]  # fmt: skip


# ---- drawing ------------------------------------------------------------------------------------


def test_samples_have_the_softmax_distribution(device):
    probabilities = np.array([0.5, 0.0, 0.3, 0.15, 0.05])
    draws = 20_000
    with np.errstate(divide="ignore"):
        logits = gradient.tensor(np.tile(np.log(probabilities), (draws, 1)), device=device)
    chosen = sample(logits.float(), gradient.rand(draws, device=device)).cpu().numpy()
    counts = np.bincount(chosen, minlength=5)
    assert counts[1] == 0
    kept = probabilities > 0
    expected = draws * probabilities[kept]
    chi_squared = ((counts[kept] - expected) ** 2 / expected).sum()
    assert chi_squared < 16.3  # 3 degrees of freedom: exceeded once in 1000


@pytest.mark.parametrize("uniform", [0.0, 1e-12, 0.5, 1 - 2**-24])
def test_a_forbidden_token_is_never_drawn(uniform):
    logits = gradient.tensor([[-INF, 0.0, -INF, 1.0, -INF]])
    assert sample(logits, gradient.tensor([uniform])).item() in (1, 3)


def test_seeds_must_match_the_rows():
    with pytest.raises(
        ArgumentError, match=r"expected an int or 2 of them, one per row, got \[1, 2, 3\]"
    ):
        Sampler(GenerationOptions(), 2, seed=[1, 2, 3])


def test_what_is_drawn_depends_on_the_seed_and_the_place_alone():
    numbers = UniformNumbers(7)
    late = numbers[100]
    again = UniformNumbers(7)
    assert [again[n] for n in range(101)][100] == late
    assert again[3] == numbers[3] != UniformNumbers(8)[3]
    logits = gradient.zeros(3, 50)
    sampler = Sampler(GenerationOptions(temperature=1.0), 2, seed=5)
    prefixes = Prefixes([[1], [1, 2], [1, 2, 3]], [1, 1, 1], rows=[0, 0, 0])
    first = sampler(logits, prefixes).tolist()
    assert first == [
        sampler(logits[:1], Prefixes([ids], [1], rows=[0])).item() for ids in prefixes.ids
    ]
    assert first != sampler(logits, Prefixes(prefixes.ids, [1, 1, 1], rows=[1, 1, 1])).tolist()


# ---- in generation ------------------------------------------------------------------------------


def tiny_model(device="cpu"):
    gradient.manual_seed(3)
    config = GPT2Config(
        vocab_size=61, n_positions=64, n_embd=32, n_layer=2, n_head=4,
        bos_token_id=0, eos_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    return GPT2LMHeadModel(config).to(device).eval()


def test_options_have_their_effect(device):
    model = tiny_model(device)
    prompts = [[5, 6, 7, 8], [9, 10]]

    def run(**options):
        rows = generate(model, prompts, max_new_tokens=24, **options)
        return [row.token_ids for row in rows]

    plain = run(ignore_eos=True)
    favourite = max(plain[0], key=plain[0].count)
    assert plain[0].count(favourite) > 2  # it goes in circles
    assert favourite not in run(logit_bias={favourite: -INF}, ignore_eos=True)[0]
    assert favourite not in run(bad_words_ids=[[favourite]], ignore_eos=True)[0]
    assert all(set(row) == {favourite} for row in run(logit_bias={favourite: 1e4}))
    for prompt, row in zip(prompts, run(no_repeat_ngram_size=2, ignore_eos=True), strict=True):
        text = prompt + row
        pairs = list(zip(text, text[1:], strict=False))
        assert len(set(pairs)) == len(pairs)
    assert all(len(set(row)) == 24 for row in run(presence_penalty=1e4, ignore_eos=True))
    ending = run(logit_bias={0: 1e4}, min_new_tokens=5)
    assert [len(row) for row in ending] == [5, 5]


def test_tokens_outside_the_vocabulary_are_refused():
    with pytest.raises(
        ArgumentError, match=r"logit_bias: expected .* 0 to 60, got \[99\]; bad_words_ids: .*\[61\]"
    ):
        generate(tiny_model(), [1], logit_bias={99: 1.0}, bad_words_ids=[[3, 61]])


def test_several_sequences_of_each_prompt(device):
    model = tiny_model(device)
    options = {"temperature": 1.0, "max_new_tokens": 8, "ignore_eos": True}
    four = generate(model, [[1, 2], [3]], num_return_sequences=2, seed=4, **options)
    alone = [
        generate(model, prompt, seed=4 + row, **options).token_ids
        for row, prompt in enumerate([[1, 2], [1, 2], [3], [3]])
    ]
    assert [row.token_ids for row in four] == alone
    assert len(generate(model, [1], num_return_sequences=3, **options)) == 3
    with pytest.raises(
        ArgumentError, match="num_return_sequences=2 needs num_beams, or a temperature"
    ):
        generate(model, [1], num_return_sequences=2)
    for many in ({"num_beams": 10**12}, {"num_return_sequences": 10**12, "temperature": 1.0}):
        with pytest.raises(MemoryError, match="rows of logits need"):
            generate(model, [1], **many)
