"""The grammar of stories: it generates stories, and parses those of a model to judge them.

A story follows an arc. An arc is a list of steps, a step is a list of alternative sentences with
slots in braces. `tell` fills the slots. `read` finds their contents in a text: a text is a story of
this world exactly if it follows an arc from beginning to end, with the same hero, pronouns and
things throughout.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

import world

Slots = dict[str, str]

INTRO = [
    "Once upon a time there was a {trait} {kind} named {hero}.",
    "Once upon a time there was a {trait} {kind} called {hero}.",
    "Once upon a time, there was a {kind} named {hero} who lived {home}.",
    "Once upon a time a {trait} {kind} named {hero} lived {home}.",
]
LIKES = ["{He} liked to {hobby}.", "{hero} liked to {hobby} every day.", ""]
ENDING = [
    "From that day on {hero} and {friend} were best friends.",
    "They laughed and played until the sun went down.",
    "Then they went home together, and both were happy.",
    "That evening {hero} told {his} mother all about it.",
]
ENDING_ALONE = [
    "{hero} smiled all the way home.",
    "That evening {hero} told {his} mother all about it.",
    "{hero} never forgot that day.",
]


class Arc(NamedTuple):
    """A kind of story: its steps, and the questions about it with their answers."""

    steps: list[list[str]]
    questions: list[tuple[list[str], list[str]]]


_WHO = (
    ["Who is the story about?", "Who was the story about?", "What was the name of the {kind}?"],
    ["The story is about {hero}, a {kind}."],
)

LOST = Arc(
    [
        INTRO,
        [
            "{He} had a {colour} {toy}.",
            "{He} had a {colour} {toy} that {he} loved.",
            "{His} favourite thing was a {colour} {toy}.",
        ],
        [
            "One day {hero} took the {toy} to the {place}.",
            "One {weather} day {he} went to the {place} with the {toy}.",
        ],
        [
            "But soon the {toy} was gone!",
            "Suddenly {he} could not find the {toy}.",
            "When {he} looked around, the {toy} was gone.",
        ],
        ["{hero} was very sad.", "{hero} sat down and cried.", "{He} felt sad."],
        [
            '{His} friend {friend} came and asked, "What is wrong?"',
            'Then {friend} saw {him} and asked, "Why are you sad?"',
        ],
        ['"I lost my {toy}," said {hero}.', '"My {toy} is gone," said {hero}.'],
        ['"I will help you," said {friend}.', '"Let us look together," said {friend}.'],
        [
            "They looked everywhere, and {friend} found the {toy} {hidden}.",
            "At last {friend} looked {hidden}, and there was the {toy}!",
        ],
        ["{hero} was very happy.", '"Thank you, {friend}!" said {hero}.'],
        ENDING,
    ],
    [
        _WHO,
        (["What did {hero} lose?", "What was lost?"], ["{hero} lost a {colour} {toy}."]),
        (
            ["What colour was the {toy}?", "What color was the {toy}?"],
            ["The {toy} was {colour}."],
        ),
        (["Where was the {toy}?", "Where did they find the {toy}?"], ["The {toy} was {hidden}."]),
        (["Who found the {toy}?", "Who helped {hero}?"], ["{friend} helped {hero}."]),
        (["Where did {hero} go?"], ["{hero} went to the {place}."]),
        (["Why was {hero} sad?"], ["{hero} was sad because the {toy} was gone."]),
    ],
)

SHARED = Arc(
    [
        INTRO,
        LIKES,
        [
            "One day {his} mother gave {him} a big {food}.",
            "One {weather} day {he} got a big {food} from {his} mother.",
        ],
        [
            "{hero} went to the {place} to eat it.",
            "{He} took the {food} to the {place}.",
        ],
        [
            "There {he} met {friend}, who looked sad.",
            "At the {place} {friend} sat all alone.",
        ],
        ['"I am so hungry," said {friend}.', '"I have nothing to eat," said {friend}.'],
        [
            "{hero} thought about it. Then {he} gave {friend} half of the {food}.",
            '"We can share," said {hero}, and gave {friend} half of the {food}.',
        ],
        [
            "{friend} was very happy. The {food} tasted better together.",
            '"You are so kind," said {friend}. They ate the {food} together.',
        ],
        ENDING,
    ],
    [
        _WHO,
        (["What did {hero} share?", "What did they eat?"], ["They shared the {food}."]),
        (["Who was hungry?"], ["{friend} was hungry."]),
        (["Who got half of the {food}?"], ["{friend} got half of the {food}."]),
        (["Where did {hero} go?"], ["{hero} went to the {place}."]),
        (
            ["What did {hero} get from {his} mother?", "What did the mother give {him}?"],
            ["{hero} got a big {food}."],
        ),
    ],
)

BRAVE = Arc(
    [
        INTRO,
        LIKES,
        ["But {hero} was afraid of {fear}.", "But there was one thing: {he} was afraid of {fear}."],
        [
            "One day {he} was at the {place} with {his} friend {friend}.",
            "One {weather} day {hero} and {his} friend {friend} went to the {place}.",
        ],
        ['"I cannot do it," said {hero}.', '"I am afraid of {fear}," said {hero}.'],
        [
            '"Take my hand," said {friend}.',
            '"I was afraid of {fear} too," said {friend}. "Take my hand."',
        ],
        [
            "{hero} took a deep breath and held the hand of {friend}.",
            "So {hero} took the hand of {friend} and closed {his} eyes.",
        ],
        [
            "Soon {he} was not afraid any more.",
            "And then {fear} did not seem so bad.",
        ],
        ['"I did it!" said {hero}.', '"You are so brave!" said {friend}.'],
        ENDING,
    ],
    [
        _WHO,
        (
            ["What was {hero} afraid of?", "What did {hero} fear?"],
            ["{hero} was afraid of {fear}."],
        ),
        (["Who helped {hero}?", "Who held the hand of {hero}?"], ["{friend} helped {hero}."]),
        (["Where did they go?", "Where were they?"], ["They were at the {place}."]),
    ],
)

RESCUE = Arc(
    [
        INTRO,
        LIKES,
        [
            "One {weather} day {he} walked to the {place}.",
            "One day {hero} went to the {place}.",
        ],
        [
            "There {he} heard a small voice. It was a {fur} {small} {hidden}.",
            "There {he} saw a {fur} {small} {hidden}.",
        ],
        ["The {small} was cold and alone.", "The {small} was lost and could not find its mother."],
        [
            '"Do not be afraid," said {hero}. "I will help you."',
            '"You poor thing," said {hero}.',
        ],
        [
            "{He} put the {small} in {his} hat and kept it warm.",
            "{He} gave the {small} some water and kept it warm.",
        ],
        [
            "Soon the mother of the {small} came and was very happy.",
            "After a while the mother of the {small} came to take it home.",
        ],
        ENDING_ALONE,
    ],
    [
        _WHO,
        (["What did {hero} find?", "What did {hero} see?"], ["{hero} found a {fur} {small}."]),
        (
            ["What colour was the {small}?", "What color was the {small}?"],
            ["The {small} was {fur}."],
        ),
        (["Where was the {small}?"], ["The {small} was {hidden}."]),
        (["Where did {hero} go?"], ["{hero} went to the {place}."]),
        (["Who helped the {small}?"], ["{hero} helped the {small}."]),
    ],
)

LEARN = Arc(
    [
        INTRO,
        [
            "More than anything {he} wanted to {skill}.",
            "{hero} wanted to learn to {skill}.",
        ],
        [
            "One day {he} tried it at the {place}, but it did not work.",
            "One {weather} day {he} went to the {place} and tried, but it was too hard.",
        ],
        ['"I will never learn it," said {hero}.', '"It is too hard for me," said {hero}.'],
        [
            '{His} friend {friend} said, "Try again, and I will show you how."',
            '"Do not give up," said {his} friend {friend}.',
        ],
        [
            "So {hero} tried again and again.",
            "{hero} tried again the next day, and the day after that.",
        ],
        [
            "In the end {he} could {skill} very well.",
            "And one morning {he} could {skill}!",
        ],
        ['"Look at me!" said {hero}.', "{hero} was very proud."],
        ENDING,
    ],
    [
        _WHO,
        (
            ["What did {hero} want to learn?", "What did {hero} learn?"],
            ["{hero} learned to {skill}."],
        ),
        (["Who helped {hero}?", "Who told {hero} to try again?"], ["{friend} helped {hero}."]),
        (["Where did {hero} try it?", "Where did {hero} go?"], ["{hero} went to the {place}."]),
    ],
)

ARCS = {"lost": LOST, "shared": SHARED, "brave": BRAVE, "rescue": RESCUE, "learn": LEARN}

#: The possible contents of each slot, as a list to draw from and as a regular expression.
CHOICES: dict[str, Sequence[str]] = {
    "kind": ["girl", "boy", *world.HEROES],
    "trait": world.TRAITS,
    "home": world.HOMES,
    "hobby": world.HOBBIES,
    "colour": world.COLOURS,
    "fur": world.FURS,
    "toy": world.TOYS,
    "food": world.FOODS,
    "place": world.PLACES,
    "hidden": world.HIDDEN,
    "weather": ["sunny", "rainy", "windy", "cold", "warm"],
    "fear": world.FEARS,
    "skill": world.SKILLS,
    "small": world.SMALL,
}
_PRONOUNS = {"he": ("him", "his"), "she": ("her", "her")}
_NAME = r"[A-Z][a-z]+"
_PATTERNS = {slot: "|".join(map(re.escape, values)) for slot, values in CHOICES.items()} | {
    "hero": _NAME, "friend": _NAME, "he": "he|she", "He": "He|She", "him": "him|her",
    "his": "his|her", "His": "His|Her",
}  # fmt: skip


def pronouns(he: str) -> Slots:
    """All forms of "he" or "she", by slot."""
    him, his = _PRONOUNS[he]
    return {"he": he, "He": he.capitalize(), "him": him, "his": his, "His": his.capitalize()}


def cast(rng: random.Random, strange: float = 0.25, **given: str) -> Slots:
    """Random contents for all slots of all arcs, except the given ones.

    A share `strange` of the heroes has a name that is not common in this world.
    """
    slots = {slot: rng.choice(values) for slot, values in CHOICES.items()}
    slots["kind"] = rng.choice(["girl", "girl", "boy", "boy", rng.choice(world.HEROES)])
    slots |= given
    he = {"girl": "she", "boy": "he"}.get(slots["kind"]) or rng.choice(["he", "she"])
    slots |= pronouns(he)
    if "hero" not in slots:
        names = world.GIRLS if he == "she" else world.BOYS
        slots["hero"] = world.any_name(rng) if rng.random() < strange else rng.choice(names)
    others = [name for name in world.GIRLS + world.BOYS if name != slots["hero"]]
    slots.setdefault("friend", rng.choice(others))
    return slots


def tell(rng: random.Random, arc: str, slots: Slots) -> str:
    """A story that follows an arc."""
    said = (rng.choice(ways).format_map(slots) for ways in ARCS[arc].steps)
    return " ".join(sentence for sentence in said if sentence)


def key(arc: str, slots: Slots) -> str:
    """The key of a story's content, whose hash decides whether it is held out."""
    about = {"lost": "toy", "shared": "food", "brave": "fear", "rescue": "small", "learn": "skill"}
    return f"{arc} {slots['hero']} {slots[about[arc]]} {slots['place']}"


def random_story(rng: random.Random, strange: float = 0.25, **given: str) -> tuple[str, Slots, str]:
    """A story that is not held out: its arc, its slots and its text."""
    while True:
        arcs = list(ARCS)
        if "toy" in given:
            arcs = ["lost"]
        elif "small" in given:
            arcs = ["rescue"]
        elif "food" in given:
            arcs = ["shared"]
        arc = rng.choice(arcs)
        slots = cast(rng, strange, **given)
        if given or not world.held_out("story", key(arc, slots)):
            return arc, slots, tell(rng, arc, slots)


def read(text: str) -> tuple[str, Slots] | None:
    """Parse a text: the arc that it follows and its slots; None if it is not a story."""
    for arc, (steps, _) in ARCS.items():
        slots = _match(steps, " " + text, {})
        if slots is not None:
            return arc, slots
    return None


def _match(steps: Sequence[list[str]], text: str, slots: Slots) -> Slots | None:
    """The slots if `text` has one sentence for each step and agrees with the known slots."""
    if not steps:
        return slots if not text else None
    for way in steps[0]:
        found = re.match(_pattern(way, slots), text) if way else re.match("", text)
        if found is None or not _agree(slots | found.groupdict()):
            continue
        rest = _match(steps[1:], text[found.end() :], slots | found.groupdict())
        if rest is not None:
            return rest
    return None


def _pattern(way: str, slots: Slots) -> str:
    pattern, seen = " ", set[str]()
    for fixed, slot in re.findall(r"([^{}]*)(?:\{(\w+)\})?", way):
        pattern += re.escape(fixed)
        if slot in slots:
            pattern += re.escape(slots[slot])
        elif slot in seen:
            pattern += f"(?P={slot})"
        elif slot:
            seen.add(slot)
            pattern += f"(?P<{slot}>{_PATTERNS[slot]})"
    return pattern


def _agree(slots: Slots) -> bool:
    """Whether all pronouns agree with the hero, and the friend is another person."""
    possible = {"girl": ["she"], "boy": ["he"]}.get(slots.get("kind", ""), ["he", "she"])
    return slots.get("hero") != slots.get("friend", "") and any(
        all(slots.get(slot, form) == form for slot, form in pronouns(he).items()) for he in possible
    )


def question(rng: random.Random, arc: str, slots: Slots) -> tuple[str, str]:
    """A question about a story, and its answer."""
    asked, answers = rng.choice(ARCS[arc].questions)
    return rng.choice(asked).format_map(slots), rng.choice(answers).format_map(slots)
