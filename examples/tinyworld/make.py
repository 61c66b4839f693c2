"""Write the training data of tinyworld (texts and chats), and its tokenizer.

    python examples/tinyworld/make.py data/           # text.jsonl, chats.jsonl and tokenizer/

The same seed gives the same files. README.md beside this file has the commands that follow.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chats
import questions
import stories

from gradient.text import Tokenizer, train_bpe
from gradient.text.build import add_bos_eos

END_OF_TEXT, USER, ASSISTANT, END = "<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"

#: How to sample from the model; stored beside the tokenizer, from where `gradient train` copies it.
SAMPLING = {"do_sample": True, "temperature": 0.3, "top_p": 0.9}

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}<|end|>"
    "{% elif message['role'] == 'assistant' %}<|assistant|>"
    "{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}{{ raise_exception('tinyworld knows the roles user and assistant only') }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def document(rng: random.Random) -> str:
    """A text of this world: mostly a story, sometimes questions and answers, facts or sums."""
    kind = rng.random()
    if kind < 0.55:
        return stories.random_story(rng)[2]
    if kind < 0.75:
        arc, slots, text = stories.random_story(rng)
        asked = [stories.question(rng, arc, slots) for _ in range(rng.randint(2, 4))]
        lines = ["Read the story and answer.", text, *(f"{ask} {answer}" for ask, answer in asked)]
        return "\n".join(lines)
    ask = rng.choice([questions.fact, questions.add, questions.add, questions.tale_of_numbers])
    return "\n".join(" ".join(ask(rng)) for _ in range(rng.randint(4, 8)))


def documents(rng: random.Random, count: int) -> Iterator[dict[str, Any]]:
    """`count` different texts."""
    seen = set[str]()
    while len(seen) < count:
        text = document(rng)
        if text not in seen:
            seen.add(text)
            yield {"text": text}


def conversations(rng: random.Random, count: int) -> Iterator[dict[str, Any]]:
    """`count` lines: conversations, and every eighth a story, so that stories are not forgotten."""
    for number in range(count):
        if number % 8 == 7:
            yield {"text": stories.random_story(rng, strange=0.05)[2]}
        else:
            yield {"messages": chats.conversation(rng)}


def drills(rng: random.Random, count: int) -> Iterator[dict[str, Any]]:
    """`count` lines: short drills; every third is an ordinary conversation, every sixth a story."""
    for number in range(count):
        if number % 6 == 5:
            yield {"text": stories.random_story(rng, strange=0.05)[2]}
        else:
            talk = chats.conversation if number % 3 == 1 else chats.drill
            yield {"messages": talk(rng)}


def write_lines(path: Path, lines: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = list(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    return kept


def text_of(line: dict[str, Any]) -> str:
    """The text of a line, for learning the vocabulary."""
    if "text" in line:
        return str(line["text"])
    return "\n".join(message["content"] for message in line["messages"])


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path, help="receives the files")
    parser.add_argument("--texts", type=int, default=70_000)
    parser.add_argument("--chats", type=int, default=60_000)
    parser.add_argument("--drills", type=int, default=90_000)
    parser.add_argument("--vocab-size", type=int, default=1280)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(options.seed)
    lines = write_lines(options.folder / "text.jsonl", documents(rng, options.texts))
    lines += write_lines(options.folder / "chats.jsonl", conversations(rng, options.chats))
    write_lines(options.folder / "drills.jsonl", drills(rng, options.drills))
    tokenizer = train_bpe(
        map(text_of, rng.sample(lines, min(len(lines), 20_000))),
        options.vocab_size,
        special_tokens=(END_OF_TEXT, USER, ASSISTANT, END),
        split_digits=True,
    )
    # As in LLaMA, every text begins with BOS; here the same token also ends a text.
    add_bos_eos(tokenizer.backend, END_OF_TEXT, None)
    tokenizer = Tokenizer(tokenizer.backend, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save(options.folder / "tokenizer")
    sampling = options.folder / "tokenizer" / "generation_config.json"
    sampling.write_text(json.dumps(SAMPLING, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
