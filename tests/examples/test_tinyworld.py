"""The tiny world of examples/tinyworld: its grammar reads what it tells, its judge asks new things.

`test_tinyworld_model.py` asks the model that was trained on it.
"""

from __future__ import annotations

import json
import random
import sys

import pytest

from support.paths import EXAMPLES

FOLDER = EXAMPLES / "tinyworld"
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))

import chats  # noqa: E402
import judge  # noqa: E402
import make  # noqa: E402
import questions  # noqa: E402
import stories  # noqa: E402
import world  # noqa: E402

from gradient.text import Tokenizer  # noqa: E402


@pytest.mark.parametrize("arc", stories.ARCS)
def test_grammar_reads_what_it_tells(arc):
    rng = random.Random(0)
    for _ in range(100):
        slots = stories.cast(rng)
        found = stories.read(stories.tell(rng, arc, slots))
        assert found is not None and found[0] == arc
        assert found[1].items() <= slots.items()


STORY = (
    "Once upon a time there was a kind boy named Ben. Ben wanted to learn to swim. "
    "One day he tried it at the lake, but it did not work. "
    '"It is too hard for me," said Ben. "Do not give up," said his friend Mia. '
    "So Ben tried again and again. In the end he could swim very well. Ben was very proud. "
    "They laughed and played until the sun went down."
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a kind boy", "a kind girl"),  # she would be his
        ("said his friend", "said her friend"),
        ("In the end he", "In the end she"),
        ("So Ben tried", "So Tim tried"),
        ("he could swim", "he could dance"),
        ("friend Mia", "friend Ben"),
        ("Ben was very proud. ", ""),
        (" They laughed and played until the sun went down.", ""),
        ("kind", "green"),
        ("it did not work", "it not did work"),
        ("a time", "a  time"),
    ],
)
def test_grammar_refuses(old, new):
    assert stories.read(STORY) is not None
    assert old in STORY
    assert stories.read(STORY.replace(old, new)) is None


def test_one_content_in_ten_is_held_out_whatever_its_case():
    kept = [n for n in range(2000) if world.held_out("sum", n)]
    assert 150 < len(kept) < 250
    assert world.held_out("name", "Ada") == world.held_out("name", "ada")


def test_judge_asks_100_different_things_that_training_never_says():
    cases = list(judge.cases())
    assert len(cases) == 100
    assert len({str(case.said[0]).lower() for case in cases}) == 100
    rng = random.Random(5)
    said = set()
    for _ in range(3000):
        for said_or_answered in (chats.conversation(rng), chats.drill(rng)):
            said |= {m["content"].lower().rstrip(".?! ") for m in said_or_answered}
    asked = {str(case.said[-1]).lower().rstrip(".?! ") for case in cases if len(case.said) == 1}
    assert not asked & said


@pytest.mark.parametrize("kind", ["fact", "itself"])
def test_questions_are_held_out(kind):
    rng = random.Random(0)
    ask = getattr(questions, kind)
    asked = {ask(rng)[0] for _ in range(500)} - set(questions.COMMON)
    assert not any(world.held_out(kind, each) for each in asked)
    assert all(world.held_out(kind, ask(rng, kept=True)[0]) for _ in range(50))


def test_sums_are_right_and_held_out():
    rng = random.Random(0)
    for kept in (False, True):
        for _ in range(300):
            a, sign, b, result = questions.small_sum(rng, kept)
            assert result == (a + b if sign == "+" else a - b) and 0 <= result <= 40
            assert world.held_out("sum", f"{max(a, b)}{sign}{min(a, b)}") == kept


def test_make_writes_texts_chats_and_a_tokenizer(tmp_path, monkeypatch):
    arguments = ["make.py", str(tmp_path), "--texts", "60", "--chats", "60", "--drills", "32"]
    arguments += ["--vocab-size", "400"]
    monkeypatch.setattr(sys, "argv", arguments)
    make.main()
    texts = [json.loads(line) for line in (tmp_path / "text.jsonl").read_text().splitlines()]
    lines = [json.loads(line) for line in (tmp_path / "chats.jsonl").read_text().splitlines()]
    assert len(texts) == 60 and len(lines) == 60
    assert sum("messages" in line for line in lines) == 53
    drills = [json.loads(line) for line in (tmp_path / "drills.jsonl").read_text().splitlines()]
    assert len(drills) == 32 and sum("text" in line for line in drills) == 5
    tokenizer = Tokenizer.from_folder(tmp_path / "tokenizer")
    assert [tokenizer.decode([i]) for i in tokenizer.encode("12+7")[-4:]] == ["1", "2", "+", "7"]
    shown = tokenizer.apply_chat_template(lines[0]["messages"][:1], tokenize=False)
    asked = lines[0]["messages"][0]["content"]
    assert shown == f"<|endoftext|><|user|>{asked}<|end|><|assistant|>"
