"""A real trained LLaMA in three containers: the same logits, the published text, more training."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import gradient
import gradient.functional as F
from gradient import hub

pytestmark = pytest.mark.cpu_only

FILES = ("stories260K.bin", "stories260K_v1.bin", "stories260K.gguf")


@pytest.fixture(scope="module", params=FILES)
def lm(request, real_data):
    return hub.load(real_data("stories260k") / request.param)


@pytest.fixture(scope="module")
def stories(real_data) -> list[str]:
    path = real_data("tinystories_sample") / "tinystories_1000.json"
    return json.loads(path.read_text(encoding="utf-8"))


def logits_of(lm, ids: list[int]) -> np.ndarray:
    with gradient.no_grad():
        return lm.model(gradient.tensor([ids])).numpy()


def test_all_containers_give_identical_logits(lm, real_data, stories):
    reference = hub.load(real_data("stories260k") / FILES[0])
    ids = reference.tokenizer.encode(stories[0])
    assert lm.tokenizer.encode(stories[0]) == ids and ids[0] == 1
    np.testing.assert_array_equal(logits_of(lm, ids), logits_of(reference, ids))


def test_greedy_text_is_the_published_one(lm, real_data):
    card = (real_data("stories260k") / "stories260K.md").read_text(encoding="utf-8")
    published = re.search(r"-t 0\.0\n(.*?)\n```", card, re.S)[1]
    written = lm.generate("", max_new_tokens=256)
    assert written.text.startswith(published)
    assert len(published) > 500


def test_tokens_of_all_containers(lm, real_data, stories):
    # No runs of spaces: the .model file asks for them to be made one, the GGUF file does not.
    sentences = [*stories[:50], "naïve café 🙂", "<s> </s>"]
    reference = hub.load(real_data("stories260k") / FILES[0]).tokenizer
    for sentence in sentences:
        ids = lm.tokenizer.encode(sentence, parse_special=False)
        assert ids == reference.encode(sentence, parse_special=False)
        assert lm.tokenizer.decode(ids) == sentence


@pytest.mark.slow
def test_training_goes_on_from_it(lm, stories):
    """Fifty steps on stories that it may not have seen lower the loss on others."""
    gradient.manual_seed(0)
    ids = [token for text in stories[100:400] for token in lm.tokenizer.encode(text)]
    held_out = [lm.tokenizer.encode(text)[:200] for text in stories[900:930]]
    model = lm.model.train()

    def loss_on(batch: gradient.Tensor) -> gradient.Tensor:
        logits = model(batch[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    def validation() -> float:
        with gradient.no_grad():
            return sum(loss_on(gradient.tensor([text])).item() for text in held_out) / len(held_out)

    before = validation()
    optimizer = gradient.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.0)
    rows = gradient.tensor(ids[: len(ids) // 129 * 129]).view(-1, 129)
    order = gradient.randperm(len(rows))
    for step in range(50):
        optimizer.zero_grad()
        loss_on(rows[order[step * 8 % len(rows) :][:8]]).backward()
        optimizer.step()
    after = validation()
    assert after < before - 0.01, (before, after)
