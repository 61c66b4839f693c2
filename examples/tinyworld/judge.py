"""Evaluate a model of the tiny world with 100 prompts that were not in its training data.

    python examples/tinyworld/judge.py                     # the model that comes with gradient
    python examples/tinyworld/judge.py runs/mine --show    # another one, with its mistakes

The content of the prompts was held out by a hash: these sums, pairs of a hero and a toy, names, and
ways to ask. A story is right if the grammar can parse all of it, and it is about what was asked
for. An answer is right if it is the expected one, word for word.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import chats
import questions
import stories
import world

import gradient

Said = str | Callable[[str], str]


class Case(NamedTuple):
    """One prompt, of one or several turns, and the function that judges the answers.

    `said` has the user's messages; one may be a function of the last answer. `right` takes all
    answers. A prompt that is not a chat is the beginning of a text; its answer is the whole text.
    """

    kind: str
    said: Sequence[Said]
    right: Callable[[list[str]], bool]
    is_chat: bool = True


def cases(seed: int = 0) -> Iterator[Case]:
    """The 100 prompts."""
    rng, seen = random.Random(seed), set[str]()
    makers = [
        (10, _go_on), (10, _wished_story), (15, _story_question), (12, _sum), (3, _tale_of_numbers),
        (10, _fact), (10, _name), (5, _favourite), (12, _outside), (3, _hard_sum), (5, _itself),
        (5, _manners),
    ]  # fmt: skip
    for count, make in makers:
        while count:
            case = make(chats.Talk(rng, kept=True, style=rng.choice(chats.STYLES)))
            prompt = str(case.said[0]).lower().rstrip(".?! ")
            if prompt not in seen:
                seen.add(prompt)
                count -= 1
                yield case


def _go_on(talk: chats.Talk) -> Case:
    """The beginning of a story, which the model continues."""
    while True:
        arc, slots = talk.rng.choice(list(stories.ARCS)), stories.cast(talk.rng)
        if world.held_out("story", stories.key(arc, slots)):
            break
    steps = stories.ARCS[arc].steps[:4]
    begun = " ".join(filter(None, (talk.rng.choice(way).format_map(slots) for way in steps)))

    def right(answers: list[str]) -> bool:
        found = stories.read(answers[-1])
        return found is not None and found[1]["hero"] == slots["hero"]

    return Case("a story gone on with", [begun], right, is_chat=False)


def _wished_story(talk: chats.Talk) -> Case:
    asked, told = chats.ask_story(talk)
    _, wanted = stories.read(told) or ("", {})

    def right(answers: list[str]) -> bool:
        found = stories.read(answers[-1])
        return found is not None and all(
            found[1].get(slot) == wanted[slot] for slot in ("hero", "toy")
        )

    return Case("a story about somebody and something", [talk.written(asked)], right)


def _story_question(talk: chats.Talk) -> Case:
    """A question about the story that the model has told; it depends on the story."""
    number = talk.rng.randrange(1000)
    asked = talk.written(chats.ask_story(talk)[0])

    def question(told: str) -> tuple[str, list[str]]:
        arc, slots = stories.read(told) or ("lost", {})
        every = stories.ARCS[arc].questions
        ways, answers = every[number % len(every)]
        if not slots:
            return "Who is the story about?", []
        slots = stories.cast(random.Random(0)) | slots
        return ways[number % len(ways)].format_map(slots), [a.format_map(slots) for a in answers]

    def right(answers: list[str]) -> bool:
        return answers[-1] in question(answers[0])[1]

    return Case("a question about its story", [asked, lambda told: question(told)[0]], right)


def _answered(kind: str, talk: chats.Talk, turn: chats.Turn) -> Case:
    return Case(kind, [talk.written(turn[0])], lambda answers: answers[-1] == turn[1])


def _sum(talk: chats.Talk) -> Case:
    return _answered("a sum", talk, questions.add(talk.rng, kept=True))


def _tale_of_numbers(talk: chats.Talk) -> Case:
    return _answered("a sum in a sentence", talk, questions.tale_of_numbers(talk.rng, kept=True))


def _fact(talk: chats.Talk) -> Case:
    return _answered("a fact of its world", talk, questions.fact(talk.rng, kept=True))


def _hard_sum(talk: chats.Talk) -> Case:
    turn = questions.hard_sum(talk.rng)
    while not re.search(r"\d{4}", turn[0]):  # four digits are so rare that no hash is needed
        turn = questions.hard_sum(talk.rng)
    return _answered("a sum that is too hard", talk, turn)


def _itself(talk: chats.Talk) -> Case:
    return _answered("what it is", talk, questions.itself(talk.rng, kept=True))


def _outside(talk: chats.Talk) -> Case:
    asked, _ = questions.outside(talk.rng, kept=True)
    unknown = (questions.UNKNOWN, questions.NOT_MINE)
    return Case("outside its world", [talk.written(asked)], lambda answers: answers[-1] in unknown)


def _name(talk: chats.Talk) -> Case:
    """The user's name, after a turn about something else."""
    told, _ = chats.tell_name(talk)
    between = talk.written(questions.fact(talk.rng)[0])
    asked = talk.written(chats.ask_name(talk)[0])
    name = talk.name
    return Case(
        "the user's name", [told, between, asked], lambda answers: f" {name}." in answers[-1]
    )


def _favourite(talk: chats.Talk) -> Case:
    told, _ = chats.tell_favourite(talk)
    ((what, value),) = talk.favourites.items()
    between = talk.written(questions.add(talk.rng)[0])
    asked = talk.written(f"What is my favourite {what}?")
    expected = f"Your favourite {what} is {value}."
    return Case(
        "the user's favourite", [talk.written(told), between, asked],
        lambda answers: answers[-1] == expected,
    )  # fmt: skip


#: Polite phrases, and how the answer must begin.
_POLITE = {
    chats.greet: (chats.GREETINGS, "Hello"),
    chats.well: (chats.WELL, "I am fine"),
    chats.thank: (chats.THANKS, "You are welcome"),
    chats.praise: (chats.PRAISE, "I am glad"),
    chats.bye: (chats.BYES, "Goodbye"),
}


def _manners(talk: chats.Talk) -> Case:
    move = talk.rng.choice(
        [m for m, (ways, _) in _POLITE.items() if any(map(chats.held_out, world.listed(ways)))]
    )
    asked, begins = talk.written(move(talk)[0]), _POLITE[move][1]
    return Case("manners", [asked], lambda answers: answers[-1].startswith(begins))


def ask(lm: Any, case: Case, **options: Any) -> list[str]:
    """The model's answers to the messages of a case."""
    if not case.is_chat:
        done = lm.generate(case.said[0], max_new_tokens=200, **options)
        return [case.said[0] + done.text if done.finish_reason == "stop" else done.text]
    messages: list[chats.Message] = []
    answers: list[str] = []
    for said in case.said:
        text = said if isinstance(said, str) else said(answers[-1])
        messages.append({"role": "user", "content": text})
        answers.append(lm.chat(messages, max_new_tokens=200, **options).text)
        messages.append({"role": "assistant", "content": answers[-1]})
    return answers


def judge(lm: Any, show: bool = False, **options: Any) -> dict[str, tuple[int, int]]:
    """By kind of prompt: the number of right answers, and the number of prompts."""
    score: dict[str, tuple[int, int]] = {}
    for case in cases():
        answers = ask(lm, case, **options)
        good = case.right(answers)
        right, of = score.get(case.kind, (0, 0))
        score[case.kind] = right + good, of + 1
        if show and not good:
            print(f"[{case.kind}]")
            for said, answer in zip(case.said, answers, strict=True):
                print(f"  > {said if isinstance(said, str) else '...'}\n    {answer}")
    return score


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("model", nargs="?", default="tinyworld", help="a name, folder or file")
    parser.add_argument("--show", action="store_true", help="print what was wrong")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn texts")
    options = parser.parse_args()
    lm = gradient.hub.load(options.model)
    drawn = judge(lm, options.show, seed=options.seed, **lm.recommended)
    greedy = judge(lm, options.show, temperature=0)
    print(f"{'':38}greedy   drawn")
    for kind, (right, of) in greedy.items():
        print(f"{kind:38}{right:3}/{of:<3}  {drawn[kind][0]:3}/{of:<3}")
    totals = [sum(right for right, _ in score.values()) for score in (greedy, drawn)]
    print(f"{'all':38}{totals[0]:3}/100  {totals[1]:3}/100")


if __name__ == "__main__":
    main()
