"""Prompts in chunks, prefixes that are not computed twice, and caches in files."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gradient
from gradient.errors import (
    ArgumentError,
    FileFormatError,
    GenerationError,
    GradientError,
    ModelNotFound,
)
from gradient.generation import KVCache, LanguageModel, PromptCache, generate, prefill, stream
from gradient.generation.prefill import CHUNK
from gradient.io import safetensors
from gradient.models import GPT2Config, GPT2LMHeadModel
from gradient.quantization import quantize_
from gradient.text import byte_tokenizer
from support.cache_model import VOCAB, close, fed, feed, make_model, texts, whole

KINDS = {
    "static": {},
    "sliding": {"max_rewind": 40},
    "paged": {"page_size": 4},
}


class Counted:
    """Counts the tokens that a model computes, padding included."""

    def __init__(self, model, monkeypatch) -> None:
        self.passes: list[tuple[int, int]] = []
        forward = model.forward

        def counted(input_ids, *args, **kwargs):
            self.passes.append(tuple(input_ids.shape))
            return forward(input_ids, *args, **kwargs)

        monkeypatch.setattr(model, "forward", counted)

    def take(self) -> list[tuple[int, int]]:
        passes, self.passes = self.passes, []
        return passes


# ---- chunks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [None, "int8"])
@pytest.mark.parametrize("chunk", [1, 4, 7, 16, 30, None])
@pytest.mark.parametrize("lengths", [[40], [12, 12], [31, 1, 17, 16]], ids=str)
def test_a_prompt_in_chunks_is_a_prompt(lengths, chunk, dtype, kind, device):
    model, text = make_model(device), texts(len(lengths))
    prompts = [text[row, :length].tolist() for row, length in enumerate(lengths)]
    logits = []
    for each in (chunk, None):
        cache = KVCache.for_model(model, len(lengths), kind=kind, dtype=dtype)
        last = prefill(model, cache, prompts, each)
        assert cache.counts == lengths
        following = feed(model, cache, text, [2] * len(lengths), lengths)
        logits.append([last.cpu().numpy(), *following])
    for in_chunks, at_once in zip(*logits, strict=True):
        # What is attended to is what was stored, in any number of passes: so this holds in 8 bits.
        close(in_chunks, at_once, 1e-6 if dtype is None else 1e-4)
    if dtype is None:
        expected = whole(model, text)
        for row, length in enumerate(lengths):
            close(logits[0][0][row], expected[row, length - 1], 1e-6)


def test_a_pass_is_no_longer_than_a_chunk(monkeypatch):
    model, text = make_model(), texts(2)
    passes = Counted(model, monkeypatch)
    prompts = [text[0, :50].tolist(), text[1, :9].tolist()]
    tokens = [r.token_ids for r in generate(model, prompts, prefill_chunk=16, max_new_tokens=4)]
    assert passes.take() == [(2, 16), (2, 16), (2, 16), (2, 2), (2, 1), (2, 1), (2, 1)]
    assert tokens == [r.token_ids for r in generate(model, prompts, max_new_tokens=4)]
    assert passes.take()[0] == (2, 50)
    assert CHUNK > 50


def test_a_prompt_goes_on_where_the_cache_ends(monkeypatch):
    model, text = make_model(), texts(2)
    cache = fed(model, KVCache.for_model(model, 2), text, [10, 3])
    passes = Counted(model, monkeypatch)
    last = prefill(model, cache, [text[0, :12].tolist(), text[1, :20].tolist()], chunk=8)
    assert passes.take() == [(2, 8), (2, 8), (2, 1)]
    close(last.numpy(), [whole(model, text)[row, n - 1] for row, n in ((0, 12), (1, 20))], 1e-6)
    with pytest.raises(ArgumentError, match=r"prompts longer than what the rows hold, \[12, 20\]"):
        prefill(model, cache, [text[0, :12].tolist(), text[1, :21].tolist()])


def test_a_model_whose_positions_depend_on_the_length_reads_a_prompt_at_once(monkeypatch):
    model, text = make_model(), texts(1)
    monkeypatch.setattr(model, "supports_chunked_prefill", lambda tokens: tokens <= 20)
    passes = Counted(model, monkeypatch)
    for length, expected in [(20, [(1, 8), (1, 8), (1, 4)]), (21, [(1, 21)])]:
        prefill(model, KVCache.for_model(model, 1), [text[0, :length].tolist()], chunk=8)
        assert passes.take() == expected


# ---- every kind of cache writes the same text ---------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_cache_writes_what_none_does(kind, device):
    model, text = make_model(device), texts(3)
    prompts = [text[0, :30].tolist(), text[1, :2].tolist(), text[2, :13].tolist()]
    options = {"max_new_tokens": 24, "ignore_eos": True}
    expected = [r.token_ids for r in generate(model, prompts, use_cache=False, **options)]
    for chunk in (5, None):
        found = generate(model, prompts, cache=kind, prefill_chunk=chunk, **options)
        assert [r.token_ids for r in found] == expected
    alone = [generate(model, prompt, cache=kind, **options).token_ids for prompt in prompts]
    assert alone == expected
    ended = [expected[0][2], expected[1][9]]  # rows that end midway leave the others alone
    model.config.eos_token_id = ended
    found = generate(model, prompts, cache=kind, max_new_tokens=24)
    for result, tokens in zip(found, expected, strict=True):
        cut = min((tokens.index(end) for end in ended if end in tokens), default=24)
        assert result.token_ids == tokens[:cut]


@pytest.mark.parametrize("kind", KINDS)
def test_beams_in_every_kind_of_cache(kind):
    model, text = make_model(), texts(2)
    prompts = [text[0, :20].tolist(), text[1, :5].tolist()]
    options = {"num_beams": 4, "max_new_tokens": 16}
    expected = generate(model, prompts, use_cache=False, **options)
    found = generate(model, prompts, cache=kind, **options)
    assert [r.token_ids for r in found] == [r.token_ids for r in expected]


@pytest.mark.parametrize("kind", KINDS)
def test_eight_bits_write_the_same_text_here(kind):
    model, text = make_model(), texts(1)
    options = {"max_new_tokens": 8, "ignore_eos": True}
    expected = generate(model, text[0, :20].tolist(), **options).token_ids
    found = generate(model, text[0, :20].tolist(), cache=kind, cache_dtype="int8", **options)
    assert found.token_ids == expected


# ---- prefixes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_that_goes_on_computes_what_is_new(kind, monkeypatch):
    model, text = make_model(), texts(1)[0].tolist()
    cache = PromptCache(model, kind=kind, **KINDS[kind])
    passes = Counted(model, monkeypatch)
    options = {"max_new_tokens": 5, "ignore_eos": True}

    first = generate(model, text[:20], prompt_cache=cache, **options)
    assert passes.take() == [(1, 20)] + [(1, 1)] * 4
    assert cache.tokens == text[:20] + first.token_ids[:4]  # the last was never fed
    assert first.timings.cached_tokens == 0

    longer = text[:20] + first.token_ids + text[40:46]
    second = generate(model, longer, prompt_cache=cache, **options)
    assert passes.take() == [(1, 7)] + [(1, 1)] * 4
    assert second.timings.cached_tokens == 24
    assert second.token_ids == generate(model, longer, **options).token_ids
    passes.take()

    other = [*longer[:15], (longer[15] + 1) % VOCAB, *longer[16:25]]  # differs in its token 15
    third = generate(model, other, prompt_cache=cache, **options)
    assert passes.take()[0] == (1, 10)
    assert third.token_ids == generate(model, other, **options).token_ids
    passes.take()

    again = generate(model, other, prompt_cache=cache, **options)  # all of it is known, but one
    assert passes.take()[0] == (1, 1)
    assert again.token_ids == third.token_ids


@pytest.mark.parametrize("kind", KINDS)
def test_drafts_leave_a_prompt_cache_with_what_was_said(kind, monkeypatch):
    model, text = make_model(), texts(1)[0].tolist()
    draft = make_model()  # which is nearly the same
    with gradient.no_grad():
        draft.lm_head.weight += 0.05 * gradient.randn(*draft.lm_head.weight.shape)
    cache = PromptCache(model, kind=kind, **KINDS[kind])
    options = {"max_new_tokens": 12, "ignore_eos": True}
    expected = generate(model, text[:40], **options).token_ids
    drafted = generate(model, text[:40], draft=draft, prompt_cache=cache, **options)
    assert drafted.token_ids == expected
    assert drafted.timings.drafted_tokens > drafted.timings.accepted_tokens > 0
    assert cache.tokens == (text[:40] + expected)[: len(cache.tokens)]
    passes = Counted(model, monkeypatch)
    longer = text[:40] + expected + [1, 2]
    found = generate(model, longer, prompt_cache=cache, **options).token_ids
    assert passes.take()[0][1] <= 4
    assert found == generate(model, longer, **options).token_ids


def test_a_sliding_cache_that_cannot_go_back_begins_anew(monkeypatch):
    model, text = make_model(), texts(1)[0].tolist()
    cache = PromptCache(model, kind="sliding", max_rewind=2)
    options = {"max_new_tokens": 3, "ignore_eos": True}
    generate(model, text[:40], prompt_cache=cache, **options)
    passes = Counted(model, monkeypatch)
    found = generate(model, text[:10] + text[50:55], prompt_cache=cache, **options)
    assert passes.take()[0] == (1, 15)
    assert found.token_ids == generate(model, text[:10] + text[50:55], **options).token_ids
    assert cache.tokens[:15] == text[:10] + text[50:55]


@pytest.mark.parametrize("kind", KINDS)
def test_what_several_prompts_have_in_common_is_computed_once(kind, monkeypatch):
    model, text = make_model(), texts(1)[0].tolist()
    options = {"max_new_tokens": 4, "ignore_eos": True}
    prompts = [[*text[:40], *end] for end in ([1, 2], [3], [4, 5, 6])]
    expected = [r.token_ids for r in generate(model, prompts, **options)]
    cache = PromptCache(model, kind=kind, **KINDS[kind])
    passes = Counted(model, monkeypatch)
    found = generate(model, prompts, prompt_cache=cache, **options)
    assert passes.take() == [(1, 40), (3, 3), (3, 1), (3, 1), (3, 1)]
    assert [r.token_ids for r in found] == expected
    assert cache.tokens == text[:40]
    found = generate(model, prompts, prompt_cache=cache, **options)
    assert passes.take() == [(3, 3), (3, 1), (3, 1), (3, 1)]
    assert [r.token_ids for r in found] == expected
    short = [[*text[:40], 7], text[:3]]  # too little in common for a pass of its own
    generate(model, short, prompt_cache=cache, **options)
    assert passes.take()[0] == (2, 41 - 2)


def test_a_model_in_training_reads_what_prompts_share_without_dropout():
    config = {"vocab_size": VOCAB, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**config, resid_pdrop=0.5, bos_token_id=0))
    text = texts(1)[0].tolist()
    prompts = [[*text[:40], 1], [*text[:40], 2]]
    expected = [r.token_ids for r in generate(model.eval(), prompts, max_new_tokens=6)]
    found = generate(model.train(), prompts, max_new_tokens=6, prompt_cache=PromptCache(model))
    assert [r.token_ids for r in found] == expected
    assert model.training


def test_an_interrupted_text_can_be_taken_up_again(monkeypatch):
    tokenizer, text = byte_tokenizer(), "ab" * 10
    model = make_model()
    model.model.tokens = gradient.nn.Embedding(257, 32)
    model.lm_head = gradient.nn.Linear(32, 257)
    model.config.vocab_size = 257
    lm = LanguageModel(model, tokenizer)
    cache = PromptCache(model)
    pieces = lm.stream(text, prompt_cache=cache, max_new_tokens=20, ignore_eos=True)
    next(pieces)
    pieces.close()
    assert cache.tokens[:20] == list(text.encode())
    passes = Counted(model, monkeypatch)
    result = lm.generate(text, prompt_cache=cache, max_new_tokens=3, ignore_eos=True)
    assert passes.take()[0] == (1, 1)
    assert result.token_ids == lm.generate(text, max_new_tokens=3, ignore_eos=True).token_ids


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_that_fails_leaves_a_prompt_cache_usable(kind, monkeypatch):
    model, text = make_model(), texts(1)[0].tolist()
    cache = PromptCache(model, kind=kind)
    options = {"max_new_tokens": 3, "ignore_eos": True}
    generate(model, text[:30], prompt_cache=cache, **options)
    expected = generate(model, text[:60], **options).token_ids
    with monkeypatch.context() as patch:
        calls, second = [], model.model.layers[1].qkv

        def interrupted(x):
            calls.append(x)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return gradient.nn.Linear.forward(second, x)

        patch.setattr(second, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):  # in the second chunk, after the first layer
            generate(model, text[:60], prompt_cache=cache, prefill_chunk=15, **options)
    found = generate(model, text[:60], prompt_cache=cache, **options)
    assert found.token_ids == expected


def test_a_prompt_cache_is_for_its_model_and_brings_its_kind():
    model, other = make_model(), make_model(windows=(None,))
    with pytest.raises(ArgumentError, match="prompt_cache: was made for another model"):
        generate(other, [1, 2], prompt_cache=PromptCache(model))
    with pytest.raises(ArgumentError, match="leave out cache, cache_dtype and use_cache"):
        generate(model, [1, 2], prompt_cache=PromptCache(model), cache="paged")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": "ring"}, "cache must be one of static, sliding, paged, got 'ring'"),
        ({"cache_dtype": "int2"}, "cache_dtype must be one of float32, .*, got 'int2'"),
        ({"cache_dtype": "int8/"}, "or two of them, for keys/values, or None, got 'int8/'"),
        ({"prefill_chunk": 0}, "prefill_chunk must be an integer of at least 1, or None, got 0"),
        ({"prompt_cache": "file"}, "prompt_cache must be a PromptCache, or None, got 'file'"),
    ],
    ids=str,
)
def test_options_out_of_range(options, message):
    with pytest.raises(ArgumentError, match=message):
        generate(make_model(), [1, 2], **options)


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [None, "bfloat16", "int8", "int8/int4"])
@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_cache_goes_on_as_the_one_it_was(kind, to, dtype, tmp_path, device):
    model, text = make_model(device), texts(2)
    cache = fed(model, KVCache.for_model(model, 2, kind=kind, dtype=dtype), text, [50, 9])
    cache.save(tmp_path / "cache", model, [text[0, :50].tolist(), text[1, :9].tolist()])
    again, tokens = KVCache.load(tmp_path / "cache", model, kind=to)
    assert tokens == [text[0, :50].tolist(), text[1, :9].tolist()]
    assert (again.counts, again.kind, again.codecs.name) == ([50, 9], to, cache.codecs.name)
    for new in ([1, 1], [3, 2], [1, 1]):
        starts = list(cache.counts)
        expected = feed(model, cache, text, new, starts)
        for left, right in zip(feed(model, again, text, new, starts), expected, strict=True):
            close(left, right, 1e-6 if dtype != "bfloat16" else 1e-5)


def test_a_cache_may_be_loaded_into_fewer_bits(tmp_path):
    model, text = make_model(), texts(1)
    cache = fed(model, KVCache.for_model(model, 1), text, [30])
    cache.save(tmp_path / "cache", model, [text[0, :30].tolist()])
    again, _ = KVCache.load(tmp_path / "cache", model, dtype="int8")
    assert again.codecs.name == "int8"
    close(feed(model, again, text, [1], [30])[0], whole(model, text)[0, 30:31], 1e-2)


def test_a_prompt_cache_in_a_file(tmp_path, monkeypatch):
    model, text = make_model(), texts(1)[0].tolist()
    cache = PromptCache(model, dtype="int8")
    options = {"max_new_tokens": 3, "ignore_eos": True}
    generate(model, text[:30], prompt_cache=cache, **options)
    cache.save(tmp_path / "document.cache")
    again = PromptCache.load(tmp_path / "document.cache", model)
    assert again.tokens == cache.tokens
    assert repr(again).startswith("PromptCache(32 tokens, static, ")
    passes = Counted(model, monkeypatch)
    found = generate(model, text[:40], prompt_cache=again, **options)
    assert passes.take()[0] == (1, 10)
    assert found.token_ids == generate(model, text[:40], prompt_cache=cache, **options).token_ids
    PromptCache(model).save(tmp_path / "empty.cache")
    assert PromptCache.load(tmp_path / "empty.cache", model).tokens == []


def test_a_model_with_packed_weights_knows_its_file(tmp_path):
    config = {"vocab_size": VOCAB, "n_positions": 64, "n_embd": 64, "n_layer": 1, "n_head": 2}
    models = []
    for seed in (0, 0, 1):
        gradient.manual_seed(seed)
        models.append(GPT2LMHeadModel(GPT2Config(**config, bos_token_id=0)).eval())
        quantize_(models[-1], "q8_0")
    first, same, other = models
    cache = PromptCache(first)
    generate(first, [1, 2, 3], prompt_cache=cache, max_new_tokens=4)
    cache.save(tmp_path / "cache")
    assert PromptCache.load(tmp_path / "cache", same).tokens == cache.tokens
    with pytest.raises(ArgumentError, match="was saved from another model"):
        PromptCache.load(tmp_path / "cache", other)


def test_another_models_file_is_refused(tmp_path):
    model, text = make_model(), texts(1)
    cache = fed(model, KVCache.for_model(model, 1), text, [5])
    cache.save(tmp_path / "cache", model, [text[0, :5].tolist()])
    trained, wider = make_model(), make_model(head_size=16)
    with gradient.no_grad():
        trained.model.layers[1].qkv.weight *= 1 + 1e-6
    for other in (trained, wider, make_model().to(gradient.bfloat16)):
        with pytest.raises(ArgumentError, match="was saved from another model, or from this one"):
            KVCache.load(tmp_path / "cache", other)


def test_what_is_saved_must_be_what_is_held(tmp_path):
    model, text = make_model(), texts(1)
    cache = fed(model, KVCache.for_model(model, 1), text, [5])
    with pytest.raises(
        ArgumentError, match=r"expected the tokens that the rows hold, \[5\] .* \[6"
    ):
        cache.save(tmp_path / "cache", model, [text[0, :6].tolist()])
    assert not list(tmp_path.iterdir())


def saved(tmp_path, kind="static"):
    model, text = make_model(), texts(1)
    cache = fed(model, KVCache.for_model(model, 1, kind=kind), text, [20])
    cache.save(tmp_path / "cache", model, [text[0, :20].tolist()])
    return model, tmp_path / "cache"


@pytest.mark.parametrize("draft", [None, "prompt_lookup"])
def test_a_generation_that_lost_its_cache_says_so(draft):
    gradient.manual_seed(0)
    config = {"vocab_size": 257, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2}
    tokenizer, model = byte_tokenizer(), GPT2LMHeadModel(GPT2Config(**config)).eval()
    cache = PromptCache(model)
    options = {"prompt_cache": cache, "max_new_tokens": 20, "ignore_eos": True}
    pieces = stream(model, "abababab", tokenizer=tokenizer, draft=draft, **options)
    next(pieces)
    text = generate(model, "cd", tokenizer=tokenizer, **options).text
    with pytest.raises(GenerationError, match="another generation has used it since"):
        list(pieces)
    assert generate(model, "cd", tokenizer=tokenizer, **options).text == text


def test_a_truncated_file_is_refused(tmp_path):
    model, path = saved(tmp_path)
    data = path.read_bytes()
    for size in (0, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(FileFormatError):
            KVCache.load(path, model)
    with pytest.raises(ModelNotFound):
        KVCache.load(tmp_path / "none", model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, header: header.update(format="pt"), "its format is 'pt', expected"),
        (lambda tensors, header: header.update(rows="2"), "the tokens of row 1 are missing"),
        (lambda tensors, header: header.update(rows="-1"), "it claims '-1' rows"),
        (lambda tensors, header: header.update(rows="9" * 30), "it claims '9+' rows"),
        (lambda tensors, header: header.update(rows="1" * 5000), "it claims '1+ rows"),
        (lambda tensors, header: header.update(storage="int8"), "it lacks 0.0.keys.1"),
        (lambda tensors, header: header.update(storage="q8"), "stored as one of float32"),
        (lambda tensors, header: tensors.pop("0.1.values.0"), "it lacks 0.1.values.0"),
        (lambda tensors, header: tensors["0.tokens"].fill(VOCAB), "beyond the vocabulary of 50"),
        (lambda t, h: t.update({"0.tokens": t["0.tokens"][:9]}), r"expected \(2, 9 to 9, 8\)"),
        (lambda t, h: t.update({"0.2.keys.0": t["0.2.keys.0"][:, :4]}), r"expected \(2, 10 to 20"),
        (
            lambda t, h: t.update({"0.0.keys.0": t["0.0.keys.0"].astype("f2")}),
            "0.0.keys.0 is F16, expected float32",
        ),
    ],
    ids=range(12),
)
def test_damaged_files_are_refused(change, message, tmp_path):
    model, path = saved(tmp_path)
    file = safetensors.SafetensorsFile(path)
    tensors, header = {name: file.array(name).copy() for name in file}, dict(file.metadata)
    change(tensors, header)
    safetensors.save_file(tensors, path, header)
    with pytest.raises(FileFormatError, match=message):
        KVCache.load(path, model)


def test_mutated_files_are_loaded_or_refused(tmp_path):
    model, path = saved(tmp_path, "sliding")
    data, draw = path.read_bytes(), np.random.default_rng(0)
    header_end = 8 + int.from_bytes(data[:8], "little")
    for _ in range(300):
        mutated = bytearray(data)
        for _ in range(draw.integers(1, 4)):
            mutated[draw.integers(0, header_end + 50)] = draw.integers(0, 256)
        path.write_bytes(mutated)
        try:
            cache, tokens = KVCache.load(path, model)
        except GradientError as error:
            assert json.dumps(str(error))
        else:
            assert cache.counts == [len(tokens[0])] == [20]
