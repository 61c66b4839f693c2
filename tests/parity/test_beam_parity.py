"""Beam search beside transformers': the same tokens and scores, for every option."""

from __future__ import annotations

import pytest

from gradient.checkpoints import load_model
from gradient.generation import generate

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

EOS = 0
PROMPTS = [[5, 6, 7, 8, 9], [11, 12], [3]]
CASES = {
    "two": {"num_beams": 2},
    "four": {"num_beams": 4, "num_return_sequences": 4},
    "long": {"num_beams": 3, "length_penalty": 2.0, "num_return_sequences": 2},
    "short": {"num_beams": 3, "length_penalty": -1.0},
    "sum": {"num_beams": 3, "length_penalty": 0.0, "early_stopping": "never"},
    "first to end": {"num_beams": 3, "early_stopping": True, "num_return_sequences": 3},
    "never": {"num_beams": 3, "early_stopping": "never", "length_penalty": 0.7},
    "penalty": {"num_beams": 3, "repetition_penalty": 1.3, "num_return_sequences": 2},
    "no pairs twice": {"num_beams": 2, "no_repeat_ngram_size": 2},
    "not too short": {"num_beams": 3, "min_new_tokens": 6, "num_return_sequences": 3},
    "one token": {"num_beams": 3, "max_new_tokens": 1, "num_return_sequences": 3},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny models in which the end of text is likely enough to come, sooner or later."""
    folders = []
    for seed in range(3):
        torch.manual_seed(seed)
        config = transformers.GPT2Config(
            vocab_size=41, n_positions=64, n_embd=32, n_layer=2, n_head=4,
            bos_token_id=EOS, eos_token_id=EOS, initializer_range=0.3,
        )  # fmt: skip
        model = transformers.GPT2LMHeadModel(config).eval()
        folders.append(tmp_path_factory.mktemp(f"beams{seed}"))
        model.save_pretrained(folders[-1])
    return folders


def by_transformers(model, prompts, options):
    T = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[EOS] * (T - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (T - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.no_grad():
        found = model.generate(
            ids, attention_mask=mask, do_sample=False, pad_token_id=EOS, output_scores=True,
            return_dict_in_generate=True, **options,
        )  # fmt: skip
    rows = found.sequences[:, T:].tolist()
    texts = [row[: row.index(EOS)] if EOS in row else row for row in rows]
    return texts, found.sequences_scores.tolist()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no cache"])
def test_beams_are_those_of_transformers(folders, name, use_cache):
    options = {"max_new_tokens": 14} | CASES[name]
    ended = 0
    for folder in folders:
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        ours = load_model(folder)
        texts, scores = by_transformers(theirs, PROMPTS, options)
        found = generate(ours, PROMPTS, use_cache=use_cache, **options)
        assert [row.token_ids for row in found] == texts
        assert [row.score for row in found] == pytest.approx(scores, rel=1e-5, abs=1e-5)
        ended += sum(row.finish_reason == "stop" for row in found)
        each = options.get("num_return_sequences", 1)
        for number, prompt in enumerate(PROMPTS):  # each as it would be alone
            alone = generate(ours, [prompt], use_cache=use_cache, **options)
            together = found[number * each : (number + 1) * each]
            assert [row.token_ids for row in alone] == [row.token_ids for row in together]
    assert ended or name not in ("four", "sum", "first to end")  # else nothing was tried
