"""Every logits processor beside transformers' own, and a sampled text's distribution as a whole."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
from gradient.generation import (
    GenerationOptions,
    Prefixes,
    bad_words,
    compose,
    epsilon_cutoff,
    eta_cutoff,
    logit_bias,
    min_new_tokens,
    min_p,
    no_repeat_ngram,
    processors,
    repetition_penalty,
    temperature,
    top_k,
    top_p,
    typical_p,
)

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

V, PROMPT, LENGTH = 50, 7, 12
THEIRS = {
    "temperature": (temperature(0.7), lambda t: t.TemperatureLogitsWarper(0.7)),
    "top_k": (top_k(7), lambda t: t.TopKLogitsWarper(7)),
    "top_k, all": (top_k(V + 5), lambda t: t.TopKLogitsWarper(V + 5)),
    "top_p": (top_p(0.8), lambda t: t.TopPLogitsWarper(0.8)),
    "top_p, one": (top_p(0.01), lambda t: t.TopPLogitsWarper(0.01)),
    "min_p": (min_p(0.1), lambda t: t.MinPLogitsWarper(0.1)),
    "typical_p": (typical_p(0.6), lambda t: t.TypicalLogitsWarper(0.6)),
    "typical_p, one": (typical_p(0.01), lambda t: t.TypicalLogitsWarper(0.01)),
    "epsilon_cutoff": (epsilon_cutoff(0.05), lambda t: t.EpsilonLogitsWarper(0.05)),
    "epsilon_cutoff, one": (epsilon_cutoff(0.99), lambda t: t.EpsilonLogitsWarper(0.99)),
    "eta_cutoff": (eta_cutoff(0.05), lambda t: t.EtaLogitsWarper(0.05)),
    "eta_cutoff, flat": (eta_cutoff(0.9), lambda t: t.EtaLogitsWarper(0.9)),
    "repetition_penalty": (
        repetition_penalty(1.3),
        lambda t: t.RepetitionPenaltyLogitsProcessor(1.3),
    ),
    "repetition_penalty, reward": (
        repetition_penalty(0.8),
        lambda t: t.RepetitionPenaltyLogitsProcessor(0.8),
    ),
    "logit_bias": (
        logit_bias({3: 2.5, 9: -4.0, 11: -float("inf")}),
        lambda t: t.SequenceBiasLogitsProcessor({(3,): 2.5, (9,): -4.0, (11,): -float("inf")}),
    ),
    "no_repeat_ngram 1": (no_repeat_ngram(1), lambda t: t.NoRepeatNGramLogitsProcessor(1)),
    "no_repeat_ngram 2": (no_repeat_ngram(2), lambda t: t.NoRepeatNGramLogitsProcessor(2)),
    "no_repeat_ngram 3": (no_repeat_ngram(3), lambda t: t.NoRepeatNGramLogitsProcessor(3)),
    "no_repeat_ngram, too long": (
        no_repeat_ngram(LENGTH + 1),
        lambda t: t.NoRepeatNGramLogitsProcessor(LENGTH + 1),
    ),
    "bad_words": (
        bad_words([[4], [1, 2], [2, 1, 3], [1, 1]]),
        lambda t: t.NoBadWordsLogitsProcessor([[4], [1, 2], [2, 1, 3], [1, 1]], eos_token_id=0),
    ),
    "min_new_tokens": (
        min_new_tokens(LENGTH - PROMPT + 1, [0, 5]),
        lambda t: t.MinNewTokensLengthLogitsProcessor(PROMPT, LENGTH - PROMPT + 1, [0, 5]),
    ),
    "min_new_tokens, reached": (
        min_new_tokens(LENGTH - PROMPT, [0, 5]),
        lambda t: t.MinNewTokensLengthLogitsProcessor(PROMPT, LENGTH - PROMPT, [0, 5]),
    ),
}


def texts_and_logits(seed, scale=3.0):
    """Texts of few different tokens, so that runs of them repeat, and logits of 20 rows."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 4, size=(20, LENGTH))
    return ids, (scale * rng.normal(size=(20, V))).astype(np.float32)


@pytest.mark.parametrize("name", THEIRS)
def test_a_processor_gives_the_logits_of_transformers(name):
    ours, make = THEIRS[name]
    theirs = make(transformers.generation.logits_process)
    for seed, scale in ((0, 3.0), (1, 0.5), (2, 20.0)):
        ids, logits = texts_and_logits(seed, scale)
        expected = theirs(torch.tensor(ids), torch.tensor(logits)).numpy()
        prefixes = Prefixes(ids.tolist(), [PROMPT] * len(ids))
        actual = ours(gradient.tensor(logits), prefixes).numpy()
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


OPTIONS = [
    {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.02},
    {"temperature": 1.3, "typical_p": 0.8, "repetition_penalty": 1.2},
    {"temperature": 1.0, "top_p": 0.7, "no_repeat_ngram_size": 2, "bad_words_ids": [[1, 2], [7]]},
    {"temperature": 1.2, "typical_p": 0.9, "epsilon_cutoff": 0.02, "eta_cutoff": 0.03},
    {"temperature": 0.9, "top_k": 9, "typical_p": 0.5, "min_new_tokens": 20},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_chain_of_processors_is_that_of_generate(options):
    """transformers builds its own list from a configuration: same rules, same order."""
    ids, logits = texts_and_logits(3)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=V, n_embd=8, n_layer=1, n_head=1, eos_token_id=0)
    )
    config = transformers.GenerationConfig(do_sample=True, top_k=0, eos_token_id=0)
    config.update(**options)
    model._prepare_special_tokens(config, device="cpu")
    theirs = model._get_logits_processor(config, input_ids_seq_length=PROMPT, device="cpu")
    expected = theirs(torch.tensor(ids), torch.tensor(logits)).numpy()
    chain = compose(processors(GenerationOptions(**options), eos_ids=[0]))
    actual = chain(gradient.tensor(logits), Prefixes(ids.tolist(), [PROMPT] * len(ids))).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_presence_and_frequency_penalties_are_openais():
    """As OpenAI writes them: mu[j] - c[j] * frequency - (c[j] > 0) * presence."""
    ids, logits = texts_and_logits(4)
    options = GenerationOptions(temperature=1.0, presence_penalty=0.6, frequency_penalty=-0.3)
    chain = compose(processors(options))
    actual = chain(gradient.tensor(logits), Prefixes(ids.tolist(), [PROMPT] * len(ids))).numpy()
    for row in range(len(ids)):
        for token in range(V):
            count = list(ids[row, PROMPT:]).count(token)
            expected = logits[row, token] - count * -0.3 - float(count > 0) * 0.6
            assert actual[row, token] == pytest.approx(expected, abs=1e-5)
